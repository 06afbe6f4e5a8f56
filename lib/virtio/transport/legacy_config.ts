/**
 * The device-specific configuration of the legacy interface: how long it is, and where its fields are (virtio 1.4 §4.1.4.10).
 *
 * No register says how long it is: a driver knows it by the device type. Fields of features that the legacy interface cannot have are not there.
 *
 * @module
 */
import type { LegacyWidth } from "../admin/legacy_access.ts";
import { deviceType } from "../spec/device_types.ts";
import { FIELD_BYTES } from "../../wire/mod.ts";

/** A run of bytes that is accessed as one field, or in parts of it. */
export interface LegacyField {
  /** As the standard names it; empty for a device type that this library does not know. */
  readonly name: string;
  /** Bytes from the start of the device-specific part. */
  readonly offset: number;
  /** Bytes. */
  readonly sizeBytes: number;
}

/** The legacy register commands reach no further: their offset is one byte. */
const REACH_BYTES = 256;

/**
 * Bytes of a device type's legacy configuration with every field that it can have; how much of it a device has follows from its features. 256,
 * which is what the commands reach, for a type that this library does not know.
 */
export function legacyConfigBytes(deviceId: number): number {
  return deviceType(deviceId)?.legacyConfigBytes ?? REACH_BYTES;
}

/** The field that a byte belongs to: undefined for padding. Of a type that is not known, every aligned 32 bits count as one. */
export function legacyConfigField(deviceId: number, at: number): LegacyField | undefined {
  const { config, legacyConfigBytes } = deviceType(deviceId) ?? {};
  if (config === undefined || legacyConfigBytes === undefined) {
    return { name: "", offset: at - at % 4, sizeBytes: 4 };
  }
  for (const [name, { offset, type }] of Object.entries(config)) {
    const sizeBytes = FIELD_BYTES[type];
    const end = offset + sizeBytes;
    if (at >= offset && at < end && end <= legacyConfigBytes) return { name, offset, sizeBytes };
  }
  return undefined;
}

/** The widest aligned access from `offset` on that needs no more than `atMost` bytes, of which there is one at least. */
export function alignedWidth(offset: number, atMost: number): LegacyWidth {
  if (atMost >= 4 && offset % 4 === 0) return 4;
  return atMost >= 2 && offset % 2 === 0 ? 2 : 1;
}
