/**
 * DEVICE_FEATURE and the migration data, as a client sends them.
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";
import { deviceFeature, FEATURE_FLAG } from "../../../vfio/kernel/abi.ts";
import type { ClientChannel } from "./channel.ts";
import { COMMAND, LIMIT, migrationData } from "../protocol.ts";

/** What DEVICE_FEATURE does: look whether it could, read, or write. */
export type FeatureAction = "probe" | "probe-get" | "probe-set" | "get" | "set";

const FLAGS: Readonly<Record<FeatureAction, number>> = {
  "probe": FEATURE_FLAG.probe,
  "probe-get": FEATURE_FLAG.probe | FEATURE_FLAG.get,
  "probe-set": FEATURE_FLAG.probe | FEATURE_FLAG.set,
  "get": FEATURE_FLAG.get,
  "set": FEATURE_FLAG.set,
};

/**
 * One DEVICE_FEATURE message.
 * @param data for `set`, and for a `get` with arguments @param answerBytes room for the answer's data
 * @returns the answer's data, a copy @throws UsageError, ProtocolError, and what `ClientChannel.request` throws
 */
export function requestFeature(
  channel: ClientChannel,
  feature: number,
  action: FeatureAction,
  data: Uint8Array<ArrayBuffer>,
  answerBytes: number,
): Uint8Array<ArrayBuffer> {
  if (!Number.isInteger(feature) || feature < 0 || feature > 0xffff) {
    throw new UsageError(`${channel.name}: device feature ${feature}`);
  }
  const header = deviceFeature.sizeBytes;
  const most = LIMIT.infoBytes - header;
  for (const [what, bytes] of [["data", data.byteLength], ["an answer", answerBytes]] as const) {
    if (!Number.isInteger(bytes) || bytes < 0 || bytes > most) {
      throw new UsageError(`${channel.name}: ${what} of ${bytes} bytes for device feature ${feature}`, {
        hint: `${most} bytes are the most`,
      });
    }
  }
  const argsz = header + Math.max(data.byteLength, answerBytes);
  channel.ask(COMMAND.deviceFeature, deviceFeature, { argsz, flags: feature | FLAGS[action] }, { data });
  if (action !== "get") return new Uint8Array();
  const reply = channel.replied(deviceFeature);
  const { payload } = channel.in;
  if ((reply.flags & 0xffff) !== feature) {
    throw channel.malformed(`reply to DEVICE_FEATURE: it is about feature ${reply.flags & 0xffff}`);
  }
  if (payload.byteLength > argsz) {
    throw channel.malformed(`reply to DEVICE_FEATURE: ${payload.byteLength} bytes for an argsz of ${argsz}`);
  }
  return payload.slice(header);
}

/**
 * MIG_DATA_READ: the next bytes of the device's state, at most `maxBytes`; none at its end.
 * @throws UsageError, ProtocolError, and what `ClientChannel.request` throws
 */
export function readMigrationData(channel: ClientChannel, maxBytes: number): Uint8Array<ArrayBuffer> {
  if (!Number.isInteger(maxBytes) || maxBytes < 1) {
    throw new UsageError(`${channel.name}: ${maxBytes} bytes of migration data`);
  }
  const header = migrationData.sizeBytes;
  channel.ask(COMMAND.migDataRead, migrationData, { argsz: header + maxBytes, size: maxBytes });
  const { size } = channel.replied(migrationData);
  const { payload } = channel.in;
  // libvfio-user's answer is as long as what was asked for, whatever it holds.
  if (size > maxBytes || header + size > payload.byteLength) {
    throw channel.malformed(`reply to MIG_DATA_READ: size is ${size} in ${payload.byteLength} bytes`);
  }
  return payload.slice(header, header + size);
}

/** MIG_DATA_WRITE. @throws what `ClientChannel.request` throws */
export function writeMigrationData(channel: ClientChannel, data: Uint8Array<ArrayBuffer>): void {
  channel.ask(COMMAND.migDataWrite, migrationData, { size: data.byteLength }, { data });
}
