/**
 * `ringside admin PF legacy …`: a VF's legacy registers.
 *
 * @module
 */
import { UsageError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import {
  describeStatus,
  deviceTypeName,
  featureNames,
  LEGACY_CFG,
  LEGACY_CFG_BYTES,
  type LegacyRegisterAccess,
  type LegacyWidth,
} from "../../lib/virtio/mod.ts";
import { LEGACY_RING_ALIGN, type LegacyRegisterName } from "../../lib/virtio/spec/legacy.ts";
import { legacyConfigBytes, legacyConfigField } from "../../lib/virtio/transport/legacy_config.ts";
import { NO_VECTOR } from "../../lib/virtio/spec/pci.ts";
import { AdminCommandError } from "../../drivers/admin/virtio_admin.ts";
import { hex, print, printJson, printTable, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { openMember } from "./owner.ts";

interface Row {
  readonly part: "common" | "device";
  readonly offset: number;
  readonly width: number;
  readonly name: string;
  /** Null: the device refuses the access now. */
  readonly value: bigint | null;
  readonly meaning: string;
}

/** Reads and decodes everything. */
export async function adminLegacyDump(host: Host, options: Of<"admin legacy dump">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { member: { legacy }, address, deviceId, pf, about } = await openMember(host, options, stack);
  const rows = [...commonRows(legacy, deviceId), ...deviceRows(legacy, deviceId)];
  if (options.json) {
    return printJson({ ...about, deviceId, registers: rows });
  }
  print(`${address}: ${deviceTypeName(deviceId)}, legacy registers by way of ${pf}`);
  printTable(
    ["PART", "OFFSET", "WIDTH", "REGISTER", "VALUE", "MEANING"],
    rows.map(({ part, offset, width, name, value, meaning }) => [
      part,
      `${offset}`,
      `${width}`,
      name,
      value === null ? "-" : `0x${value.toString(16).padStart(2 * width, "0")}`,
      meaning,
    ]),
    { drop: [2], shrink: [5] },
  );
}

/** Reads one register. */
export async function adminLegacyRead(host: Host, options: Of<"admin legacy read">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { member: { legacy }, about } = await openMember(host, options, stack);
  const width = Number(options.width) as LegacyWidth;
  const { offset, part } = options;
  const value = part === "common" ? legacy.readCommon(offset, width) : legacy.readDevice(offset, width);
  if (options.json) printJson({ ...about, part, offset, width, value });
  else print(`0x${hex(value, 2 * width)}`);
}

/** Writes one register. */
export async function adminLegacyWrite(host: Host, options: Of<"admin legacy write">): Promise<void> {
  const width = Number(options.width) as LegacyWidth;
  const value = numberOf(options.value, width);
  await using stack = new AsyncDisposableStack();
  const { member: { legacy }, address, about } = await openMember(host, options, stack);
  const { offset, part } = options;
  if (!options.dryRun) {
    if (part === "common") legacy.writeCommon(offset, width, value);
    else legacy.writeDevice(offset, width, value);
  }
  if (options.json) printJson({ ...about, part, offset, width, value });
  else remark(`wrote 0x${hex(value, 2 * width)} to offset ${offset} of the ${part} part of ${address}`);
}

function numberOf(text: string, width: LegacyWidth): number {
  const value = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : NaN;
  if (value < 2 ** (8 * width)) return value;
  throw new UsageError(`${JSON.stringify(text)} is no value of ${width} bytes`, {
    hint: "decimal, or hexadecimal as 0x12",
  });
}

function commonRows(legacy: LegacyRegisterAccess, deviceId: number): Row[] {
  return (Object.keys(LEGACY_CFG) as LegacyRegisterName[]).map((name) => {
    const { offset, width } = LEGACY_CFG[name];
    const place = { part: "common", offset, width, name } as const;
    const value = readUnlessAbsent(() => legacy.readCommon(offset, width), offset >= LEGACY_CFG_BYTES.plain);
    return value === null
      ? { ...place, value, meaning: "there only while MSI-X is enabled" }
      : { ...place, value: BigInt(value), meaning: meaningOf(name, value, deviceId) };
  });
}

/** The vector registers are no fields while MSI-X is off, and are then refused as no fields are. */
function readUnlessAbsent(read: () => number, mayBeAbsent: boolean): number | null {
  try {
    return read();
  } catch (error) {
    if (mayBeAbsent && error instanceof AdminCommandError && error.statusName === "EINVAL") return null;
    throw error;
  }
}

function meaningOf(name: LegacyRegisterName, value: number, deviceId: number): string {
  switch (name) {
    case "device_features":
    case "driver_features":
      return featureNames(BigInt(value), deviceId).join(" ");
    case "queue_pfn":
      return value === 0
        ? "not set up"
        : `ring at 0x${(BigInt(value) * BigInt(LEGACY_RING_ALIGN)).toString(16)}`;
    case "queue_size":
      return value === 0 ? "no such queue" : `${value} descriptors`;
    case "queue_select":
    case "queue_notify":
      return `queue ${value}`;
    case "device_status":
      return describeStatus(value);
    case "isr_status":
      return [(value & 1) !== 0 ? "queue" : "", (value & 2) !== 0 ? "config" : ""].filter(Boolean).join(" ");
    case "config_msix_vector":
    case "queue_msix_vector":
      return value === NO_VECTOR ? "none" : `vector ${value}`;
  }
}

/** Field by field, as far as the device has them. */
function deviceRows(legacy: LegacyRegisterAccess, deviceId: number): Row[] {
  const rows: Row[] = [];
  const end = legacyConfigBytes(deviceId);
  for (let offset = 0; offset < end;) {
    const field = legacyConfigField(deviceId, offset);
    if (field === undefined || field.offset !== offset) {
      offset++;
      continue;
    }
    const { sizeBytes } = field;
    const value = readField(legacy, offset, sizeBytes);
    // Fields end where the device's configuration does, which depends on its features.
    if (value === null) break;
    rows.push({ part: "device", offset, width: sizeBytes, name: field.name, value, meaning: "" });
    offset += sizeBytes;
  }
  return rows;
}

function readField(legacy: LegacyRegisterAccess, offset: number, sizeBytes: number): bigint | null {
  const width = (sizeBytes > 4 ? 4 : sizeBytes) as LegacyWidth;
  let value = 0n;
  for (let at = 0; at < sizeBytes; at += width) {
    const read = readUnlessAbsent(() => legacy.readDevice(offset + at, width), true);
    if (read === null) return null;
    value |= BigInt(read) << BigInt(8 * at);
  }
  return value;
}
