/**
 * Fields of the device-specific configuration, for accesses that may touch one field only (N-3.14).
 *
 * @module
 */
import { FIELD_BYTES, type Fields } from "../../../wire/mod.ts";
import { BLK_CONFIG } from "../../../virtio/spec/blk.ts";
import { CONSOLE_CONFIG } from "../../../virtio/spec/console.ts";
import { DEVICE_ID } from "../../../virtio/spec/device_id.ts";
import { MAC_BYTES, NET_CONFIG } from "../../../virtio/spec/net.ts";

/** Offset and bytes of each field, in order. */
type Bounds = readonly (readonly [offset: number, sizeBytes: number])[];

const FIELDS: ReadonlyMap<number, Bounds> = new Map([
  // `mac` is one field of the structure: an array of six bytes.
  [DEVICE_ID.net, [[0, MAC_BYTES], ...bounds(NET_CONFIG.fields).filter(([offset]) => offset >= MAC_BYTES)]],
  [DEVICE_ID.block, bounds(BLK_CONFIG.fields)],
  [DEVICE_ID.console, bounds(CONSOLE_CONFIG.fields)],
  [DEVICE_ID.entropy, []],
]);

function bounds(fields: Fields): Bounds {
  return Object.values(fields).map(({ offset, type }) => [offset, FIELD_BYTES[type]] as const);
}

/** Whether devices of this type were ever driven through the legacy interface, as far as this library knows their configuration. */
export function hasLegacyInterface(deviceId: number): boolean {
  return FIELDS.has(deviceId);
}

/**
 * True when [offset, +length) is one field of the configuration of that device type, or lies inside one: accesses of any width are allowed
 * (virtio 1.4 §4.1.4.10), and legacy drivers of Linux read their fields byte by byte.
 * @param configSizeBytes as much of the structure as the device has
 */
export function insideConfigField(
  deviceId: number,
  configSizeBytes: number,
  offset: number,
  length: number,
): boolean {
  if (length < 1 || offset + length > configSizeBytes) return false;
  for (const [start, sizeBytes] of FIELDS.get(deviceId) ?? []) {
    if (offset >= start && offset + length <= start + sizeBytes) return true;
  }
  return false;
}
