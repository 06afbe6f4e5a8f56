/**
 * What a driver may write into the registers of a packed ring.
 *
 * @module
 */
import type { QueueState } from "../../../virtio/spec/queue_state.ts";
import { PACKED_ALIGN, QUEUE_SIZE_MAX } from "../../../virtio/spec/ring.ts";
import type { DeviceQueueSetup } from "./device_queue.ts";
import { misaligned } from "./ring.ts";

/** Descriptors from the used position to the available one: those that the device has. */
export function outstanding(state: QueueState & { layout: "packed" }, size: number): number {
  return state.availableSlot - state.usedSlot + (state.availableWrap === state.usedWrap ? 0 : size);
}

/** What is wrong with a state for a ring of `size` slots; undefined when nothing is. */
export function checkPackedState(state: QueueState, size: number): string | undefined {
  if (state.layout !== "packed") return `the state is one of a ${state.layout} ring`;
  const { availableSlot, availableWrap, usedSlot, usedWrap } = state;
  if (availableSlot >= size || usedSlot >= size) {
    return `the state has slots ${availableSlot} and ${usedSlot}, the queue ${size}`;
  }
  const count = outstanding(state, size);
  if (count >= 0 && count <= size) return undefined;
  return `the used state (slot ${usedSlot}, wrap ${usedWrap}) is not at most a round behind the available one (slot ${availableSlot}, wrap ${availableWrap})`;
}

/**
 * What is wrong with the registers of a packed ring; undefined when nothing is.
 * Whether its areas are mapped is found out at first use, when the device may touch memory.
 */
export function checkPackedSetup(setup: DeviceQueueSetup): string | undefined {
  const { size, state } = setup;
  if (!Number.isInteger(size) || size < 1 || size > QUEUE_SIZE_MAX) {
    return `queue_size ${size} is not from 1 to ${QUEUE_SIZE_MAX}`;
  }
  return (state === undefined ? undefined : checkPackedState(state, size)) ?? misaligned(setup, PACKED_ALIGN);
}
