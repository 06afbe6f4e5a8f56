/** What tests by chance are made of: one seeded generator, and campaigns that run in part in the ordinary tests. */

const args = new Map(Deno.args.map((arg, at) => [arg, Deno.args[at + 1]]));
const full = args.has("--full");
const runSeed = Number(args.get("--seed") ?? 0);

/**
 * Mulberry32: the same numbers for the same seed, in every run, unless the run is given a seed of its own:
 * `deno test … -- --seed 7`.
 */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed + Math.imul(runSeed, 0x9e3779b1) >>> 0;
  }

  /** 0 … 2^32 − 1. */
  next(): number {
    this.#state = this.#state + 0x6d2b79f5 >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ mixed >>> 15, mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return (mixed ^ mixed >>> 14) >>> 0;
  }

  /** 0 … bound − 1. */
  below(bound: number): number {
    return this.next() % bound;
  }

  /** 0 ≤ x < 1. */
  fraction(): number {
    return this.next() / 2 ** 32;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  bytes(count: number): Uint8Array<ArrayBuffer> {
    const words = new Uint32Array(Math.ceil(count / 4));
    for (let at = 0; at < words.length; at++) words[at] = this.next();
    return new Uint8Array(words.buffer, 0, count);
  }
}

/**
 * How many of a campaign's rounds this run makes: a twentieth, or all of them with `-- --full`, as `test:fuzz` says.
 *
 * @param least where a twentieth says nothing yet
 */
export function rounds(all: number, least = 1): number {
  return full ? all : Math.max(least, Math.ceil(all / 20));
}

/** What a campaign does; it may say how far it got, which is printed when it ran in full. */
type Campaign = () => string | void | Promise<string | void>;

/** A test of many rounds, for `Deno.test`; `test:fuzz` finds it by its name. A failure says how to run it again. */
export function campaign(name: string, test: Campaign): Deno.TestDefinition {
  return {
    name: `campaign: ${name}`,
    fn: async () => {
      try {
        const reached = await test();
        if (full && reached !== undefined) console.log(reached);
      } catch (error) {
        const again = `again: -- ${full ? "--full " : ""}--seed ${runSeed}`;
        throw new Error(`${error instanceof Error ? error.message : error} (${again})`, { cause: error });
      }
    },
  };
}

/** A campaign that is long and has no smaller size: `test:fuzz` runs it, ordinary tests say that they left it out. */
export function onlyInFull(name: string, test: Campaign): Deno.TestDefinition {
  const whole = campaign(name, test);
  return full ? whole : { ...whole, name: `${whole.name} (skipped: test:fuzz runs it)`, ignore: true };
}
