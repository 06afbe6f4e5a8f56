/**
 * How long many things took, in constant memory: counts by time, a 64th apart.
 *
 * @module
 */

/** Times up to this many nanoseconds are counted by the nanosecond. */
const EXACT = 128;
const EXACT_BITS = 7;
/** Places for each doubling from there on. */
const STEPS = 64;
/** Beyond four seconds all times are one. */
const LONGEST_NS = 2 ** 32 - 1;
const PLACES = EXACT + (32 - EXACT_BITS) * STEPS;

/** Takes times and gives their percentiles, each less than 1.6 % too high. Calls allocate nothing. */
export class Latencies {
  readonly #counts = new Float64Array(PLACES);
  /** How many there are, and the longest in nanoseconds: in an array, since a field of a number may be allocated anew at each store. */
  readonly #totals = new Float64Array(2);

  /** Times that were added. */
  get count(): number {
    return this.#totals[0]!;
  }

  /** The longest, in microseconds; NaN when there is none. */
  get maxMicroseconds(): number {
    return this.count === 0 ? NaN : this.#totals[1]! / 1000;
  }

  /** Adds a time. @param milliseconds a difference of two `performance.now()` @param times how often */
  add(milliseconds: number, times = 1): void {
    const exact = Math.round(milliseconds * 1e6);
    const ns = exact < LONGEST_NS ? exact : LONGEST_NS;
    this.#counts[placeOf(ns)]! += times;
    this.#totals[0]! += times;
    if (exact > this.#totals[1]!) this.#totals[1] = exact;
  }

  /** The time that a part of all did not exceed, in microseconds; NaN when there is none. @param part 0.5 for the median, 0.99 and so on */
  percentile(part: number): number {
    let left = Math.ceil(this.count * part);
    if (left === 0) return this.count === 0 ? NaN : this.percentile(Number.MIN_VALUE);
    for (let place = 0; place < PLACES; place++) {
      left -= this.#counts[place]!;
      if (left <= 0) return Math.min(endOf(place) / 1000, this.maxMicroseconds);
    }
    return this.maxMicroseconds;
  }

  /** Forgets all. */
  clear(): void {
    this.#counts.fill(0);
    this.#totals.fill(0);
  }
}

function placeOf(ns: number): number {
  if (ns < EXACT) return ns;
  const shift = 31 - Math.clz32(ns) - (EXACT_BITS - 1);
  return EXACT + (shift - 1) * STEPS + (ns >>> shift) - STEPS;
}

/** The longest time, in nanoseconds, that is counted in a place. */
function endOf(place: number): number {
  if (place < EXACT) return place;
  const shift = 1 + Math.floor((place - EXACT) / STEPS);
  return (STEPS + (place - EXACT) % STEPS + 1) * 2 ** shift - 1;
}
