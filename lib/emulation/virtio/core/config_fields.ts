/**
 * Fields of the device-specific configuration, for accesses that may touch one field only.
 *
 * @module
 */
import { FIELD_BYTES } from "../../../wire/mod.ts";
import type { DeviceType } from "../../../virtio/spec/device_type.ts";

/**
 * True when [at, +length) is one field of the configuration of that device type, or lies inside one: accesses of any width are allowed by the
 * legacy interface (N-3.14; virtio 1.4 §4.1.4.10), and legacy drivers of Linux read their fields byte by byte.
 * @param configSizeBytes as much of the structure as the device has
 */
export function insideConfigField(
  { config, arrays = [] }: DeviceType,
  configSizeBytes: number,
  at: number,
  length: number,
): boolean {
  if (length < 1 || at + length > configSizeBytes) return false;
  const holds = (offset: number, sizeBytes: number) => at >= offset && at + length <= offset + sizeBytes;
  return arrays.some(([offset, sizeBytes]) => holds(offset, sizeBytes)) ||
    Object.values(config).some(({ offset, type }) => holds(offset, FIELD_BYTES[type]));
}

/** Width of an access by the field that begins at `at`, or the half of one of 64 bits: 1, 2 or 4; undefined where no field begins (virtio 1.2 §4.2.2.2). */
export function configAccessBytes({ config }: DeviceType, at: number): number | undefined {
  for (const { offset, type } of Object.values(config)) {
    const bytes = FIELD_BYTES[type];
    if (at === offset || (bytes === 8 && at === offset + 4)) return Math.min(bytes, 4);
  }
  return undefined;
}
