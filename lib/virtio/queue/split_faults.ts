/**
 * What a device can do wrong to a split ring, as errors that name queue and field. Apart from the ring, so that the
 * hot functions stay small.
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

const HINT = "reset the device, then set its queues up again";

/** `used.idx` says that more was returned than the device was given. */
export function usedIndexJump(place: QueuePlace, from: number, to: number, published: number): DeviceError {
  return new DeviceError(
    `the index went from ${from} to ${to}, but the device holds ${published} ${
      published === 1 ? "chain" : "chains"
    }`,
    { ...place, field: "used.idx" },
    { hint: HINT },
  );
}

/** `used.ring[].id` is no chain that the device holds. */
export function usedIdWrong(place: QueuePlace, id: number, size: number, committed: boolean): DeviceError {
  const why = id >= size
    ? `the queue has ${size} descriptors`
    : committed
    ? "that chain was not made available yet"
    : "no chain in flight begins there";
  return new DeviceError(`the device returned ${id}, but ${why}`, { ...place, field: "used.id" }, {
    hint: HINT,
  });
}

/** `used.ring[].len` is more than the device could have written. */
export function usedLengthWrong(
  place: QueuePlace,
  id: number,
  length: number,
  writable: number,
): DeviceError {
  return new DeviceError(
    `the device claims to have written ${length} bytes into chain ${id}, which has ${writable} for it`,
    { ...place, field: "used.len" },
    { hint: HINT },
  );
}

/** With IN_ORDER: the batch that `used.ring[].id` ends is longer than `used.idx` moved. */
export function usedBatchWrong(place: QueuePlace, id: number, batch: number, moved: number): DeviceError {
  return new DeviceError(
    `the device returned ${id}, which ends a batch of ${batch}, but used.idx has only ${moved} more`,
    { ...place, field: "used.id" },
    { hint: HINT },
  );
}
