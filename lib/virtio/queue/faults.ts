/**
 * What a device can do wrong to a ring, as errors that name queue and field. Apart from the rings, so that the hot functions stay small.
 *
 * @module
 */
import { DeviceError } from "../../errors/mod.ts";

/** Function and queue that the error is about. */
export interface QueuePlace {
  /** PCI address or path of the function. */
  readonly function: string;
  /** Number of the virtqueue. */
  readonly queue: number;
}

function fault(place: QueuePlace, field: string, message: string): DeviceError {
  return new DeviceError(message, { ...place, field }, {
    hint: "reset the device, then set its queues up again",
  });
}

/** Split: `used.idx` says that more was returned than the device was given. */
export function usedIndexJump(place: QueuePlace, from: number, to: number, published: number): DeviceError {
  const chains = `${published} ${published === 1 ? "chain" : "chains"}`;
  return fault(place, "used.idx", `the index went from ${from} to ${to}, but the device holds ${chains}`);
}

/** Packed: a descriptor is marked used while the device holds no chain. */
export function usedWithoutChain(place: QueuePlace, slot: number, flags: number): DeviceError {
  const what = `slot ${slot} is marked used (flags 0x${flags.toString(16).padStart(4, "0")})`;
  return fault(place, "used.flags", `${what}, but the device holds no chain`);
}

/** The returned id is no chain that the device holds. @param slot of a packed ring, whose ids are buffer ids; undefined for a split one */
export function usedIdWrong(
  place: QueuePlace,
  id: number,
  size: number,
  committed: boolean,
  slot?: number,
): DeviceError {
  const what = slot === undefined ? `${id}` : `buffer id ${id} in slot ${slot}`;
  const why = id >= size
    ? `the queue has ${size} descriptors`
    : committed
    ? "that chain was not made available yet"
    : slot === undefined
    ? "no chain in flight begins there"
    : "no chain in flight has that id";
  return fault(place, "used.id", `the device returned ${what}, but ${why}`);
}

/** The returned length is more than the device could have written. @param slot of a packed ring */
export function usedLengthWrong(
  place: QueuePlace,
  id: number,
  length: number,
  writable: number,
  slot?: number,
): DeviceError {
  const where = slot === undefined ? "" : ` in slot ${slot}`;
  const what = `to have written ${length} bytes into chain ${id}, which has ${writable} for it`;
  return fault(place, "used.len", `the device claims${where} ${what}`);
}

/** Split, with IN_ORDER: the batch that `used.ring[].id` ends is longer than `used.idx` moved. */
export function usedBatchWrong(place: QueuePlace, id: number, batch: number, moved: number): DeviceError {
  const what = `${id}, which ends a batch of ${batch}, but used.idx has only ${moved} more`;
  return fault(place, "used.id", `the device returned ${what}`);
}
