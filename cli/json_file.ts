/**
 * Files that commands are given, and those of JSON that they save and load.
 *
 * @module
 */
import { readText, replaceFile } from "../ffi/mod.ts";
import { InputError, UsageError } from "../lib/errors/mod.ts";

/** Reads a file's content: what is wrong with that is said with the file's name. @throws what `read` throws, which is a UsageError for what is no JSON */
export function ofFile<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof SyntaxError) throw new UsageError(`${path} is not JSON: ${error.message}`);
    if (!(error instanceof InputError) && !(error instanceof UsageError)) throw error;
    const Kind = error instanceof InputError ? InputError : UsageError;
    throw new Kind(`${path}: ${error.message}`, { hint: error.hint, cause: error });
  }
}

/** What a file holds. @param check of what is wrong with it @throws UsageError (no JSON), SyscallError, as `check` */
export function readJsonFile<T>(path: string, check: (value: unknown) => T): T {
  return ofFile(path, () => check(JSON.parse(readText(path))));
}

/** For this user alone; whole or not at all. @throws SyscallError */
export function writeJsonFile(path: string, value: unknown): void {
  replaceFile(path, new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`), 0o600);
}
