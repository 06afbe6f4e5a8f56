/**
 * From what a driver wrote about a queue to the ring that it describes.
 *
 * @module
 */
import { FEATURE } from "../../../virtio/spec/features.ts";
import {
  type QueueState,
  queueStateFromWords,
  type QueueStateWords,
} from "../../../virtio/spec/queue_state.ts";
import type { DeviceQueue, DeviceQueueSetup, QueueDevice } from "./device_queue.ts";
import { PackedDeviceQueue } from "./packed.ts";
import { checkPackedSetup, checkPackedState } from "./packed_setup.ts";
import { SplitDeviceQueue } from "./split.ts";
import { checkSplitSetup } from "./split_setup.ts";

/** Size and place of a ring. */
export type RingPlace = Pick<DeviceQueueSetup, "size" | "descriptorArea" | "driverArea" | "deviceArea">;

/** Registers that describe no ring. */
export interface QueueSetupProblem {
  /** Rule that is broken. */
  readonly rule: string;
  /** What is wrong. */
  readonly problem: string;
}

/**
 * What a device makes a queue of, or why it cannot.
 * @param features in force @param state what the driver wrote of the queue's state (QUEUE_STATE), if it did
 */
export function queueSetup(
  index: number,
  { size, descriptorArea, driverArea, deviceArea }: RingPlace,
  features: bigint,
  state: QueueStateWords | undefined,
  { usedBatches, anyHead }: Pick<DeviceQueueSetup, "usedBatches" | "anyHead">,
): DeviceQueueSetup | QueueSetupProblem {
  const layout = (features & FEATURE.RING_PACKED) === 0n ? "split" : "packed";
  let known: QueueState | undefined;
  try {
    if (state !== undefined) known = queueStateFromWords(layout, size, state);
  } catch (error) {
    // The size was made smaller after the state had been written.
    return { rule: "A-6.6", problem: error instanceof Error ? error.message : String(error) };
  }
  const wrongState = known === undefined || layout === "split" ? undefined : checkPackedState(known, size);
  if (wrongState !== undefined) return { rule: "A-6.6", problem: wrongState };
  const setup: DeviceQueueSetup = {
    index,
    layout,
    size,
    descriptorArea,
    driverArea,
    deviceArea,
    indirect: (features & FEATURE.INDIRECT_DESC) !== 0n,
    eventIndex: (features & FEATURE.EVENT_IDX) !== 0n,
    inOrder: (features & FEATURE.IN_ORDER) !== 0n,
    usedBatches: usedBatches ?? false,
    anyHead,
    state: known,
  };
  const problem = layout === "split" ? checkSplitSetup(setup) : checkPackedSetup(setup);
  return problem === undefined ? setup : { rule: layout === "split" ? "1.3" : "1.4", problem };
}

/** A queue that keeps to the standard. */
export function honestQueue(setup: DeviceQueueSetup, device: QueueDevice): DeviceQueue {
  return setup.layout === "packed"
    ? new PackedDeviceQueue(setup, device)
    : new SplitDeviceQueue(setup, device);
}
