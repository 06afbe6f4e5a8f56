/**
 * Counters of a device, in an array so that counting allocates nothing. A double counts exactly up to 2^53.
 *
 * @module
 */

/** Where each counter is in the array, by name. */
export type CounterPlaces = Readonly<Record<string, number>>;

/** Counters that are all 0. */
export function counters(places: CounterPlaces): Float64Array<ArrayBuffer> {
  return new Float64Array(Object.keys(places).length);
}

/** The counters by name. */
export function byName<P extends CounterPlaces>(places: P, counts: Float64Array): Record<keyof P, number> {
  const named = {} as Record<keyof P, number>;
  for (const name in places) named[name] = counts[places[name]!]!;
  return named;
}
