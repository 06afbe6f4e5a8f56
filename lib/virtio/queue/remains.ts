/**
 * What is left of a queue that the device does not use any more.
 *
 * @module
 */
import { DeviceError } from "../../errors/mod.ts";
import type { SavedChain } from "./saved_queue.ts";
import { usedBurst } from "./used_burst.ts";
import type { Virtqueue } from "./virtqueue.ts";

/** A chain that the device returned before it was stopped. */
export interface CompletedChain {
  /** As `commit` and `addSingle` gave it. */
  readonly id: number;
  /** Bytes that the device wrote. */
  readonly lengthBytes: number;
}

/** Everything of a queue, each chain once: returned or not. */
export interface QueueRemains {
  /** Returned and not taken, in the order of return. */
  readonly completed: readonly CompletedChain[];
  /** Not returned, in the order in which they were committed. */
  readonly inFlight: readonly SavedChain[];
  /** What the device did wrong, when it broke the ring: `completed` ends before it. */
  readonly fault?: DeviceError;
}

const BURST = 64;

/** Takes everything that the device returned, and lists the rest. The queue must be out of its device's reach. @throws ClosedError */
export function queueRemains(queue: Virtqueue): QueueRemains {
  const completed: CompletedChain[] = [];
  const into = usedBurst(BURST);
  let fault: DeviceError | undefined;
  try {
    for (let count = queue.takeUsed(into); count > 0; count = queue.takeUsed(into)) {
      for (let at = 0; at < count; at++) {
        completed.push({ id: into.ids[at]!, lengthBytes: into.lengths[at]! });
      }
    }
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    fault = error;
  }
  return { completed, inFlight: queue.saveInFlight(), ...(fault === undefined ? {} : { fault }) };
}
