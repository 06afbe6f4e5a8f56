/**
 * Registers as properties, for a person at a prompt: `common.queue_size`, `igb.CTRL.SPEED = "1000"`.
 *
 * @module
 */
import { isClearedByReading, isReadable, type RegisterTable } from "../../lib/registers/declaration.ts";
import { describeValue, elementName } from "../../lib/registers/dump.ts";
import { formatDump, type Registers } from "../../lib/registers/mod.ts";

/** What Deno prints an object by. */
export const PRINTED: unique symbol = Symbol.for("Deno.customInspect") as never;

type Bound = Registers<RegisterTable>;
type Fields = Readonly<Record<string, number | bigint | boolean | string>>;

/** One register. Its fields are properties, read and written one by one; Tab completes them. */
class NamedRegister {
  readonly #registers: Bound;
  readonly #name: string;
  readonly #index: number;

  constructor(registers: Bound, name: string, index: number) {
    this.#registers = registers;
    this.#name = name;
    this.#index = index;
    for (const field of Object.keys(registers.table[name]!.fields ?? {})) {
      // `fields()` has what is called as a method is.
      if (field in NamedRegister.prototype) continue;
      Object.defineProperty(this, field, {
        get: () => (this.fields() as unknown as Fields)[field],
        set: (value) => this.update({ [field]: value }),
        enumerable: true,
      });
    }
    // A misspelt field shall not become one of its own.
    Object.freeze(this);
  }

  get(): number | bigint {
    return this.#registers.get(this.#name, this.#index);
  }

  set(value: number | bigint | Fields): void {
    this.#registers.set(this.#name, value as never, this.#index);
  }

  update(fields: Fields): void {
    this.#registers.update(this.#name, fields as never, this.#index);
  }

  fields(): ReturnType<Bound["fields"]> {
    return this.#registers.fields(this.#name, this.#index);
  }

  waitFor(wish: number | bigint | Fields, timeoutMs: number): ReturnType<Bound["waitFor"]> {
    return this.#registers.waitFor(this.#name, wish as never, timeoutMs, this.#index);
  }

  [PRINTED](): string {
    const declared = this.#registers.table[this.#name]!;
    const title = elementName(this.#name, declared, this.#index);
    if (!isReadable(declared)) return `${title} (write-only)`;
    if (isClearedByReading(declared)) return `${title} (cleared by reading: .get() reads it)`;
    return `${title} ${describeValue(declared, this.get())}`;
  }
}

/** The registers of a table that are there, each a property of its name; an array of registers is an array. */
export function namedRegisters(registers: Bound): object {
  const named = {};
  for (const [name, { strideBytes, count }] of Object.entries(registers.table)) {
    if (!registers.has(name)) continue;
    const get = () => {
      if (strideBytes === undefined) return new NamedRegister(registers, name, 0);
      const all: NamedRegister[] = [];
      for (let at = 0; at < (count ?? Infinity) && registers.has(name, at); at++) {
        all.push(new NamedRegister(registers, name, at));
      }
      return all;
    };
    Object.defineProperty(named, name, {
      get,
      set: (value) => registers.set(name, value),
      enumerable: true,
    });
  }
  Object.defineProperty(named, PRINTED, { value: () => formatDump(registers.dump()).trimEnd() });
  return Object.freeze(named);
}
