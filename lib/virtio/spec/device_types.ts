/**
 * The registry of device types: those of this library, and what was added to them.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import { VIRTIO_TYPE_NAMES } from "../../pci/virtio_ids.ts";
import { FIELD_BYTES } from "../../wire/mod.ts";
import { BLK_DEVICE } from "./blk.ts";
import { CONSOLE_DEVICE } from "./console.ts";
import type { DeviceType } from "./device_type.ts";
import { ENTROPY_DEVICE } from "./entropy.ts";
import { ISM_DEVICE } from "./ism.ts";
import { NET_DEVICE } from "./net.ts";
import { MANAGEMENT_DEVICE } from "./transport_vq.ts";

const TYPES = new Map<number, DeviceType>();
for (const type of [NET_DEVICE, BLK_DEVICE, CONSOLE_DEVICE, ENTROPY_DEVICE, ISM_DEVICE, MANAGEMENT_DEVICE]) {
  registerDeviceType(type);
}

/** Makes a device type known by name, in this process. @throws UsageError when another one has its id */
export function registerDeviceType(type: DeviceType): void {
  requireType(type, "object", "registerDeviceType: type", "id", "prefix", "featureBits", "config");
  if ((TYPES.get(type.id) ?? type) !== type) {
    throw new UsageError(`${deviceTypeName(type.id)} has device id ${type.id}`);
  }
  TYPES.set(type.id, type);
}

/** All device types that are known. */
export function deviceTypes(): DeviceType[] {
  return [...TYPES.values()];
}

/** The device type of an id; undefined for one that this library does not know. */
export function deviceType(deviceId: number): DeviceType | undefined {
  return TYPES.get(deviceId);
}

/** Bytes of a device type's configuration with every field that it can have; undefined for a type that this library does not know. */
export function deviceConfigBytes(deviceId: number): number | undefined {
  const fields = TYPES.get(deviceId)?.config;
  if (fields === undefined) return undefined;
  return Object.values(fields).reduce(
    (end, { offset, type }) => Math.max(end, offset + FIELD_BYTES[type]),
    0,
  );
}

/** Why a device that offers these features has no field at this place of its configuration, in words; undefined when it has one. */
export function configFieldLack(deviceId: number, offered: bigint, at: number): string | undefined {
  const { prefix = "", featureBits = {}, optionalConfig = [] } = TYPES.get(deviceId) ?? {};
  const features = optionalConfig.filter(([, from, end]) => at >= from && at < end).map(([name]) => name);
  const there = features.some((name) => (offered >> BigInt(featureBits[name]!) & 1n) === 1n);
  if (features.length === 0 || there) return undefined;
  return `${features.map((name) => prefix + name).join(" or ")} is not offered`;
}

/** A device type in words, or `device type 99`. */
export function deviceTypeName(deviceId: number): string {
  requireType(deviceId, "number", "deviceTypeName: deviceId");
  return TYPES.get(deviceId)?.name ?? VIRTIO_TYPE_NAMES.get(deviceId) ?? `device type ${deviceId}`;
}

/** The name of a feature bit of the type's own. */
export function deviceFeatureName(bit: number, deviceId: number): string | undefined {
  const { prefix, featureBits } = TYPES.get(deviceId) ?? { prefix: "", featureBits: {} };
  const found = Object.entries(featureBits).find(([, one]) => one === bit);
  return found && prefix + found[0];
}
