/**
 * DEVICE_FEATURE as a server carries it out: the VF token, and what is about migration.
 *
 * @module
 */
import { DEVICE_FEATURE } from "../../../vfio/device.ts";
import { deviceFeature, FEATURE_FLAG } from "../../../vfio/kernel/abi.ts";
import type { ServerMigration } from "./migration.ts";
import { decodeRequest, invalid } from "./refusal.ts";
import type { ServedDevice } from "./served_device.ts";

const TOKEN_BYTES = 16;

/** One DEVICE_FEATURE message. @returns the reply's payload @throws RequestRefused */
export function serveFeature(
  device: ServedDevice,
  migration: ServerMigration,
  payload: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const { argsz, flags } = decodeRequest(deviceFeature, payload, "DEVICE_FEATURE");
  const tokens = device.vfTokens;
  if ((flags & 0xffff) !== DEVICE_FEATURE.pciVfToken || !tokens?.settable) return migration.feature(payload);
  // vfio_check_feature of Linux: it can be set, and not be read.
  if ((flags & FEATURE_FLAG.get) !== 0) throw invalid("DEVICE_FEATURE", "a VF token cannot be read");
  if ((flags & FEATURE_FLAG.probe) === 0) {
    if ((flags & FEATURE_FLAG.set) === 0) {
      throw invalid("DEVICE_FEATURE", `flags 0x${flags.toString(16)}`);
    }
    const end = deviceFeature.sizeBytes + TOKEN_BYTES;
    if (argsz < end || payload.byteLength < end) {
      throw invalid("DEVICE_FEATURE", `${Math.min(argsz, payload.byteLength)} of ${end} bytes`);
    }
    tokens.set(payload.slice(deviceFeature.sizeBytes, end));
  }
  return deviceFeature.encode({ argsz: deviceFeature.sizeBytes, flags });
}
