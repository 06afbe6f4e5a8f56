/**
 * Devices that break the standard on purpose, one rule at a time: what drivers are tested against. Which lie, and how often.
 *
 * Nothing of it is on the path of an honest device: a lie is another queue, another view or another engine, and a function has one only when
 * its topology asks for it (`lie`).
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";

/** Lies of one kind of liar. */
export interface LieFamily<Name extends string> {
  /** Who tells them: `a block device`. */
  readonly who: string;
  /** What all their names begin with; of the family that any device has nothing. */
  readonly prefix: string;
  /** Their names. */
  readonly names: readonly Name[];
  /** What a name stands with when its text has no numbers. Where nothing else is said: how many occasions pass first, how many are lied about. Default `ONCE`. */
  numbers?(name: Name): readonly [number, number];
  /** What may follow a name, as a hint. Default `:after:times`. */
  readonly then?: string;
  /** Opcodes by name, of lies that may be told about one alone. */
  readonly opcodes?: Readonly<Record<string, number>>;
  /** Lies that are part of what the function is: they cannot be turned off. */
  readonly fixed?: readonly Name[];
}

/** Whether a function tells its lie: it does, until it is told not to. */
export class LieSwitch {
  readonly #again: (() => void)[] = [];
  #on = true;

  /** It tells it. */
  get on(): boolean {
    return this.#on;
  }

  /** Tells it from its first occasion on, or no more. */
  turn(on: boolean): void {
    this.#on = on;
    if (on) { for (const begin of this.#again) begin(); }
  }

  /** Calls `begin` now, and whenever it is turned on. */
  whenOn(begin: () => void): void {
    this.#again.push(begin);
    begin();
  }
}

/** A lie, and its numbers. */
export interface LiePlan<Name extends string> {
  /** Which. */
  readonly lie: Name;
  readonly numbers: readonly [number, number];
  /** Only about commands with this opcode; absent: all. */
  readonly opcode?: number;
  /** Whether it is told; absent: always. */
  readonly told?: LieSwitch;
}

/** Of a lie that is told once, at the first occasion. */
export const ONCE: readonly [number, number] = [0, 1];

/**
 * Reads `name`, `name:number` or `name:number:number`, such as `used-twice:100`, where the family has opcodes optionally followed by `@` and the
 * name of one: `admin-status:12:6@DEV_PARTS_GET`.
 * @param told whether it is told
 * @throws UsageError for an unknown name, opcode or number
 */
export function parseLie<Name extends string>(
  text: string,
  family: LieFamily<Name>,
  told?: LieSwitch,
): LiePlan<Name> {
  const { who, names, then = ":after:times", opcodes = {} } = family;
  const [said, of, ...more] = text.split("@");
  const [name, ...numbers] = said!.split(":");
  const lie = names.find((one) => one === name);
  const opcode = of === undefined ? undefined : Object.entries(opcodes).find(([one]) => one === of)?.[1];
  const known = more.length === 0 && (of === undefined) === (opcode === undefined);
  if (
    lie === undefined || !known || numbers.length > 2 || !numbers.every((one) => /^[0-9]{1,9}$/.test(one))
  ) {
    throw new UsageError(`${JSON.stringify(text)} is not a lie that ${who} can tell`, {
      hint: `one of ${names.join(", ")}; then optionally ${then}`,
    });
  }
  const [first, second] = family.numbers?.(lie) ?? ONCE;
  return {
    lie,
    numbers: [Number(numbers[0] ?? first), Number(numbers[1] ?? second)],
    ...(opcode === undefined ? {} : { opcode }),
    ...(told === undefined ? {} : { told }),
  };
}

/** Counts occasions. One is shared by all queues of a function, and lives through its resets. */
export class Occasions<Name extends string> {
  /** Which lie. */
  readonly lie: Name;
  readonly #told: LieSwitch;
  #before = 0;
  #left = 0;

  /** None has passed. */
  constructor({ lie, numbers, told = new LieSwitch() }: LiePlan<Name>) {
    this.lie = lie;
    this.#told = told;
    told.whenOn(() => [this.#before, this.#left] = numbers);
  }

  /** Counts one occasion for this lie. @returns whether to tell it now */
  take(lie: Name = this.lie): boolean {
    if (lie !== this.lie || !this.#told.on) return false;
    if (this.#before > 0) {
      this.#before--;
      return false;
    }
    if (this.#left <= 0) return false;
    this.#left--;
    return true;
  }
}

/** Numbers of 32 bits for lies that are random: the same for the same seed. */
export function xorshift(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
