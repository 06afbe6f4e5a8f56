/**
 * The device-specific configuration of the legacy interface: how long it is, and where its fields are (virtio 1.4 §4.1.4.10).
 *
 * No register says how long it is: a driver knows it by the device type. Fields of features that the legacy interface cannot have are not there.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import type { LegacyWidth } from "../admin/legacy_access.ts";
import { BLK_CONFIG } from "../spec/blk.ts";
import { CONSOLE_CONFIG } from "../spec/console.ts";
import { DEVICE_ID } from "../spec/device_id.ts";
import { NET_CONFIG } from "../spec/net.ts";
import { FIELD_BYTES, type Fields } from "../../wire/mod.ts";

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

interface LegacyConfig {
  readonly sizeBytes: number;
  readonly fields: readonly LegacyField[];
}

function upTo(sizeBytes: number, fields: Fields): LegacyConfig {
  const inside = Object.entries(fields)
    .map(([name, { offset, type }]) => ({ name, offset, sizeBytes: FIELD_BYTES[type] }))
    .filter((field) => field.offset + field.sizeBytes <= sizeBytes);
  return { sizeBytes, fields: inside };
}

const CONFIGS: ReadonlyMap<number, LegacyConfig> = new Map([
  // SPEED_DUPLEX is bit 63: mtu is the last field that a legacy device can have.
  [DEVICE_ID.net, upTo(12, NET_CONFIG.fields)],
  // Up to the fields of SECURE_ERASE (bit 16). Those of ZONED (17) follow, which legacy devices must not offer (§5.2.5.2).
  [DEVICE_ID.block, upTo(72, BLK_CONFIG.fields)],
  [DEVICE_ID.console, upTo(12, CONSOLE_CONFIG.fields)],
  [DEVICE_ID.entropy, { sizeBytes: 0, fields: [] }],
]);

/**
 * Bytes of a device type's legacy configuration with every field that it can have; how much of it a device has follows from its features. 256,
 * which is what the commands reach, for a type that this library does not know.
 */
export function legacyConfigBytes(deviceId: number): number {
  return CONFIGS.get(deviceId)?.sizeBytes ?? REACH_BYTES;
}

/** The field that a byte belongs to: undefined for padding. Of a type that is not known, every aligned 32 bits count as one. */
export function legacyConfigField(deviceId: number, offset: number): LegacyField | undefined {
  requireType(offset, "number", "legacyConfigField: offset");
  const config = CONFIGS.get(deviceId);
  if (config === undefined) return { name: "", offset: offset - offset % 4, sizeBytes: 4 };
  return config.fields.find((field) => offset >= field.offset && offset < field.offset + field.sizeBytes);
}

/** The widest aligned access from `offset` on that needs no more than `atMost` bytes, of which there is one at least. */
export function alignedWidth(offset: number, atMost: number): LegacyWidth {
  if (atMost >= 4 && offset % 4 === 0) return 4;
  return atMost >= 2 && offset % 2 === 0 ? 2 : 1;
}
