/**
 * What a device can do wrong to a packed ring, as errors that name queue and field.
 *
 * @module
 */
import { DeviceError } from "../../errors/mod.ts";
import type { QueuePlace } from "./split_faults.ts";

const HINT = "reset the device, then set its queues up again";

/** A descriptor is marked used while the device holds no chain. */
export function usedWithoutChain(place: QueuePlace, slot: number, flags: number): DeviceError {
  return new DeviceError(
    `slot ${slot} is marked used (flags 0x${
      flags.toString(16).padStart(4, "0")
    }), but the device holds no chain`,
    { ...place, field: "used.flags" },
    { hint: HINT },
  );
}

/** The buffer id of a used descriptor is no chain that the device holds. */
export function bufferIdWrong(
  place: QueuePlace,
  slot: number,
  id: number,
  size: number,
  committed: boolean,
): DeviceError {
  const why = id >= size
    ? `the queue has ${size} descriptors`
    : committed
    ? "that chain was not made available yet"
    : "no chain in flight has that id";
  return new DeviceError(`the device returned buffer id ${id} in slot ${slot}, but ${why}`, {
    ...place,
    field: "used.id",
  }, { hint: HINT });
}

/** The length of a used descriptor is more than the device could have written. */
export function bufferLengthWrong(
  place: QueuePlace,
  slot: number,
  id: number,
  length: number,
  writable: number,
): DeviceError {
  return new DeviceError(
    `the device claims in slot ${slot} to have written ${length} bytes into chain ${id}, which has ${writable} for it`,
    { ...place, field: "used.len" },
    { hint: HINT },
  );
}
