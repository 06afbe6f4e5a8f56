/**
 * A queue of this process for people who look at it.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import type { RingImage } from "../view/ring_image.ts";
import type { SavedChain } from "./saved_queue.ts";
import type { QueueSnapshot, Virtqueue } from "./virtqueue.ts";

/** All that is known of a queue. Plain data. */
export interface QueueInspection extends QueueSnapshot {
  /** Areas, hexadecimal IOVAs. */
  readonly descriptorArea: string;
  /** IOVA of the driver area. */
  readonly driverArea: string;
  /** IOVA of the device area. */
  readonly deviceArea: string;
  /** What the driver gave and did not get back, in the order of commits, from its own book. */
  readonly chains: readonly SavedChain[];
  /** The ring's memory, decoded; null for a queue that the device broke. */
  readonly memory: RingImage | null;
}

/** Looks at a queue; nothing changes by it. @param atMost chains to decode from memory @throws ClosedError */
export function inspectQueue(queue: Virtqueue, atMost = 32): QueueInspection {
  requireType(queue, "object", "inspectQueue: queue", "snapshot");
  const snapshot = queue.snapshot();
  const { descriptorArea, driverArea, deviceArea } = queue.addresses;
  return {
    ...snapshot,
    descriptorArea: `0x${descriptorArea.toString(16)}`,
    driverArea: `0x${driverArea.toString(16)}`,
    deviceArea: `0x${deviceArea.toString(16)}`,
    chains: queue.saveInFlight(),
    memory: snapshot.fault === undefined ? queue.image(atMost) : null,
  };
}
