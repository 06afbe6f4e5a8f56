/**
 * What a driver may write into the registers of a split ring.
 *
 * @module
 */
import { QUEUE_SIZE_MAX, SPLIT_ALIGN } from "../../../virtio/spec/ring.ts";
import type { DeviceQueueSetup } from "./device_queue.ts";
import { misaligned } from "./ring.ts";

/**
 * What is wrong with the registers of a split ring; undefined when nothing is.
 * Whether its areas are mapped is found out at first use, when the device may touch memory.
 */
export function checkSplitSetup(setup: DeviceQueueSetup): string | undefined {
  const { size, state } = setup;
  if (size < 1 || size > QUEUE_SIZE_MAX || (size & (size - 1)) !== 0) {
    return `queue_size ${size} is not a power of two from 1 to ${QUEUE_SIZE_MAX}`;
  }
  if (state !== undefined && state.layout !== "split") return `the state is one of a ${state.layout} ring`;
  return misaligned(setup, SPLIT_ALIGN);
}
