/**
 * Shared libraries whose functions take and give 32-bit numbers alone: what a benchmark compiles for itself. No pointer passes, so nothing of this process is
 * reached by them but what is theirs; no errno either.
 *
 * @module
 */
import { NotFoundError } from "../lib/errors/mod.ts";

/** A library, until it is closed; a function of it must not be called after that. */
export interface NumberLibrary<Name extends string> extends Disposable {
  /** By name. Arguments are unsigned, results are signed. */
  readonly functions: Readonly<Record<Name, (...numbers: number[]) => number>>;
}

/** Opens one. @param counts the functions, with how many numbers each takes @throws NotFoundError when it, or a function of it, is not there */
export function openNumberLibrary<Name extends string>(
  path: string,
  counts: Readonly<Record<Name, number>>,
): NumberLibrary<Name> {
  const declared: Record<string, { parameters: "u32"[]; result: "i32" }> = {};
  for (const [name, count] of Object.entries<number>(counts)) {
    declared[name] = { parameters: Array.from({ length: count }, () => "u32"), result: "i32" };
  }
  let library: Deno.DynamicLibrary<typeof declared>;
  try {
    library = Deno.dlopen(path, declared);
  } catch (error) {
    throw new NotFoundError(`${path} cannot be opened with the functions ${Object.keys(counts).join(", ")}`, {
      cause: error,
    });
  }
  return {
    functions: library.symbols as Readonly<Record<Name, (...numbers: number[]) => number>>,
    [Symbol.dispose]: () => library.close(),
  };
}
