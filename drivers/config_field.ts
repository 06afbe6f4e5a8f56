/**
 * Fields of a device's config space, which may be shorter than its features promise.
 *
 * @module
 */
import { DeviceError } from "../lib/errors/mod.ts";
import type { VirtioDevice } from "../lib/virtio/device.ts";
import { FIELD_BYTES, type Fields } from "../lib/wire/mod.ts";

/** One field of up to 32 bits. @throws DeviceError when the config space ends before its end */
export function readField<F extends Fields>(device: VirtioDevice, fields: F, name: keyof F & string): number {
  const { offset, type } = fields[name]!;
  const width = FIELD_BYTES[type] as 1 | 2 | 4;
  checkField(device, name, offset + width);
  return device.readConfig(offset, width);
}

/** That the config space has a field. @param end in bytes from its start @throws DeviceError */
export function checkField(device: VirtioDevice, field: string, end: number): void {
  const { name, configSizeBytes } = device.transport;
  if (configSizeBytes >= end) return;
  throw new DeviceError(
    `the config space has ${configSizeBytes} bytes and ends before it, but its feature was offered`,
    { function: name, field },
  );
}
