/**
 * In which order this processor carries out loads of memory that somebody else writes.
 *
 * @module
 */

/**
 * No load overtakes another, nor a locked exchange before it: the acquire of one flag is that of all behind it, too. The engine keeps the order in which loads,
 * stores and calls were written.
 */
export const LOADS_IN_ORDER: boolean = Deno.build.arch === "x86_64";

/** What somebody else wrote, read behind an `Atomics.store`, which is a full fence only where it is a locked exchange. @param acquires loads are not in order here */
export function loadBehindStore(of: Uint16Array | Uint32Array, at: number, acquires: boolean): number {
  return acquires ? Atomics.load(of, at) : of[at]!;
}
