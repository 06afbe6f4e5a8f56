/**
 * Work that keeps a device busy, to be measured.
 *
 * @module
 */
import type { Latencies } from "./latencies.ts";

/** Work without end: `begin`, then `turn` again and again, with a `wait` where one came to nothing, then `end` until nothing is left. */
export interface Load {
  /** What each piece of work took, from when it was given to the device until it was seen to be done. */
  readonly latencies: Latencies;
  /** Gives the device the first work. */
  begin(): void;
  /** Takes what is done, and gives as much anew. Allocates nothing. @returns pieces that were done @throws DeviceError */
  turn(): number;
  /** Blocks this thread until an interrupt says that there is something to take, or the time is over. */
  wait(timeoutMs: number): void;
  /** As `turn`, and gives nothing anew. @returns pieces that are not done yet */
  end(): number;
}
