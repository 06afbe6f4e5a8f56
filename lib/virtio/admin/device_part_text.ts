/**
 * Device parts for people and for files: what each says, as plain data, and a form that survives JSON.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import { integer, isList, object } from "../../errors/records.ts";
import { DEV_PART, DEV_PART_OPTIONAL, devPartName } from "../spec/admin.ts";
import { deviceTypeName } from "../spec/device_types.ts";
import { checkPart, type DevicePart, partOrderProblem, partProblem } from "../spec/device_parts.ts";
import {
  readCommonCfgPart,
  readFeaturesPart,
  readNetCvqCfgPart,
  readStatusPart,
  readVqCfgPart,
  readVqNotifyCfgPart,
} from "../spec/device_part_values.ts";
import { featureNames } from "../spec/features.ts";
import {
  formatMac,
  MAC_BYTES,
  NET_CTRL_ANNOUNCE,
  NET_CTRL_CLASS,
  NET_CTRL_MAC,
  NET_CTRL_MQ,
  NET_CTRL_RX,
  NET_CTRL_VLAN,
} from "../spec/net.ts";
import { describeStatus } from "../spec/status.ts";

/** One part in words. */
export interface DevicePartView {
  /** `VQ_CFG`; `part 0x0999` for an unknown one. */
  readonly name: string;
  /** It need not be written when the device is restored. */
  readonly optional: boolean;
  /** What the selector says: `queue 3`, `config_msix_vector`, `MAC.ADDR_SET`; empty when there is nothing to select. */
  readonly selector: string;
  /** What the value says, by name. Numbers of 64 bits are text, `0x…`. */
  readonly value: Readonly<Record<string, string | number | boolean | null | readonly string[]>>;
}

/**
 * Parts in words. What does not follow the standard is shown as bytes rather than refused.
 * @param deviceId virtio device id, for names of features and of parts of the device type
 */
export function describeParts(parts: readonly DevicePart[], deviceId: number): DevicePartView[] {
  requireType(parts, "array", "describeParts: parts");
  parts.forEach(checkPart);
  return parts.map((part) => {
    const known = partProblem(part, deviceId) === undefined ? describe(part, deviceId) : undefined;
    return {
      name: devPartName(part.type),
      optional: (part.flags & DEV_PART_OPTIONAL) !== 0,
      ...known ?? {
        selector: part.selector === 0n ? "" : hex(part.selector),
        value: { bytes: part.value.toHex() },
      },
    };
  });
}

function describe(
  part: DevicePart,
  deviceId: number,
): Pick<DevicePartView, "selector" | "value"> | undefined {
  switch (part.type) {
    case DEV_PART.DEV_FEATURES:
    case DEV_PART.DRV_FEATURES: {
      const features = readFeaturesPart(part);
      const value = { features: hex(features), names: featureNames(features, deviceId) };
      return { selector: "", value };
    }
    case DEV_PART.PCI_COMMON_CFG: {
      const { register, value } = readCommonCfgPart(part);
      return { selector: register, value: { [register]: value < 1n << 32n ? Number(value) : hex(value) } };
    }
    case DEV_PART.DEVICE_STATUS: {
      const status = readStatusPart(part);
      return { selector: "", value: { status, meaning: describeStatus(status) } };
    }
    case DEV_PART.VQ_CFG: {
      // The one field that a length does not settle.
      if (part.value[4]! > 1 || part.value[5] !== 0 || part.selector > 0xffffn) return undefined;
      const { queue, descriptorArea, driverArea, deviceArea, ...rest } = readVqCfgPart(part);
      const areas = {
        descriptorArea: hex(descriptorArea),
        driverArea: hex(driverArea),
        deviceArea: hex(deviceArea),
      };
      return { selector: `queue ${queue}`, value: { ...rest, ...areas } };
    }
    case DEV_PART.VQ_NOTIFY_CFG: {
      if (part.selector > 0xffffn) return undefined;
      const { queue, ...value } = readVqNotifyCfgPart(part);
      return { selector: `queue ${queue}`, value };
    }
    case DEV_PART.NET_CVQ_CFG:
      return describeNet(part);
    default:
      return undefined;
  }
}

const COMMANDS: ReadonlyMap<number, readonly [string, Readonly<Record<string, number>>]> = new Map([
  [NET_CTRL_CLASS.rx, ["RX", NET_CTRL_RX]],
  [NET_CTRL_CLASS.mac, ["MAC", NET_CTRL_MAC]],
  [NET_CTRL_CLASS.vlan, ["VLAN", NET_CTRL_VLAN]],
  [NET_CTRL_CLASS.announce, ["ANNOUNCE", NET_CTRL_ANNOUNCE]],
  [NET_CTRL_CLASS.mq, ["MQ", NET_CTRL_MQ]],
]);

function describeNet(part: DevicePart): Pick<DevicePartView, "selector" | "value"> {
  const { class: kind, command, data } = readNetCvqCfgPart(part);
  const [name, commands] = COMMANDS.get(kind) ?? [`class ${kind}`, {}];
  const found = Object.keys(commands).find((one) => commands[one] === command);
  // As the standard spells it: TABLE_SET.
  const spelled = found?.replace(/[A-Z]/g, "_$&").toUpperCase();
  return { selector: `${name}.${spelled ?? `command ${command}`}`, value: netValue(kind, command, data) };
}

function netValue(kind: number, command: number, data: Uint8Array): DevicePartView["value"] {
  if (kind === NET_CTRL_CLASS.rx && data.length === 1 && data[0]! <= 1) return { on: data[0] === 1 };
  if (kind === NET_CTRL_CLASS.mac) {
    if (command === NET_CTRL_MAC.addrSet && data.length === MAC_BYTES) return { mac: formatMac(data) };
    const tables = command === NET_CTRL_MAC.tableSet ? macTables(data) : undefined;
    if (tables !== undefined) return tables;
  }
  if (kind === NET_CTRL_CLASS.mq && command === NET_CTRL_MQ.vqPairsSet && data.length === 2) {
    return { pairs: data[0]! | data[1]! << 8 };
  }
  return { bytes: data.toHex() };
}

/** `struct virtio_net_ctrl_mac`, twice; undefined when the counts do not fill the data. */
function macTables(data: Uint8Array): { unicast: string[]; multicast: string[] } | undefined {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const tables: string[][] = [];
  let at = 0;
  for (let i = 0; i < 2; i++) {
    if (at + 4 > data.length) return undefined;
    const count = view.getUint32(at, true);
    at += 4;
    if (at + MAC_BYTES * count > data.length) return undefined;
    const table: string[] = [];
    for (const end = at + MAC_BYTES * count; at < end; at += MAC_BYTES) {
      table.push(formatMac(data.subarray(at, at + MAC_BYTES)));
    }
    tables.push(table);
  }
  return at === data.length ? { unicast: tables[0]!, multicast: tables[1]! } : undefined;
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

/** Version that `saveParts` writes and `loadParts` takes. */
export const SAVED_PARTS_VERSION = 1;

/** Parts of one device as plain data. */
export interface SavedParts {
  /** Of this format. */
  readonly version: 1;
  /** Kind of file. */
  readonly kind: "device-parts";
  /** Virtio device id: the parts are for a device of this type. */
  readonly deviceId: number;
  /** In the order in which they are exchanged. */
  readonly parts: readonly {
    /** `DEV_PART` number. */
    readonly type: number;
    /** Its name, for people. */
    readonly name: string;
    /** It need not be written when the device is restored. */
    readonly optional: boolean;
    /** `0x…`, 8 bytes. */
    readonly selector: string;
    /** Hexadecimal. */
    readonly value: string;
  }[];
}

/** Parts as plain data: it survives JSON. */
export function saveParts(parts: readonly DevicePart[], deviceId: number): SavedParts {
  requireType(parts, "array", "saveParts: parts");
  parts.forEach(checkPart);
  return {
    version: SAVED_PARTS_VERSION,
    kind: "device-parts",
    deviceId,
    parts: parts.map(({ type, flags, selector, value }) => ({
      type,
      name: devPartName(type),
      optional: (flags & DEV_PART_OPTIONAL) !== 0,
      selector: hex(selector),
      value: value.toHex(),
    })),
  };
}

/**
 * Checks what came from a file or another process.
 * @param deviceId virtio device id of the device that shall take them; default: any
 * @throws UsageError naming the field
 */
export function loadParts(saved: unknown, deviceId?: number): { deviceId: number; parts: DevicePart[] } {
  const from = object(saved, "device parts");
  if (from.version !== SAVED_PARTS_VERSION) {
    throw new UsageError(`device parts: version ${shown(from.version)} is not known`, {
      hint: `this library reads version ${SAVED_PARTS_VERSION}`,
    });
  }
  if (from.kind !== "device-parts") {
    throw new UsageError(`device parts: kind ${shown(from.kind)} is not "device-parts"`);
  }
  const id = integer(from.deviceId, 1, 0xffff, "device parts: deviceId");
  if (deviceId !== undefined && id !== deviceId) {
    throw new UsageError(
      `device parts: they are those of a ${deviceTypeName(id)}, the device is a ${deviceTypeName(deviceId)}`,
    );
  }
  if (!isList(from.parts)) throw new UsageError("device parts: parts is not a list");
  const parts = from.parts.map(loadPart);
  parts.forEach((part, at) => {
    const problem = partProblem(part, id);
    if (problem !== undefined) throw new UsageError(`device parts: parts[${at}]: ${problem}`);
  });
  const problem = partOrderProblem(parts, [DEV_PART.DEV_FEATURES]);
  if (problem !== undefined) throw new UsageError(`device parts: parts: ${problem}`);
  return { deviceId: id, parts };
}

function loadPart(value: unknown, at: number): DevicePart {
  const where = `device parts: parts[${at}]`;
  const from = object(value, where);
  const type = integer(from.type, 0, 0xffff, `${where}.type`);
  if (from.name !== devPartName(type)) {
    throw new UsageError(`${where}.name ${shown(from.name)} is not that of type ${type}`, {
      hint: `it is ${devPartName(type)}`,
    });
  }
  if (typeof from.optional !== "boolean") throw new UsageError(`${where}.optional is neither true nor false`);
  if (typeof from.selector !== "string" || !/^0x[0-9a-f]{1,16}$/.test(from.selector)) {
    throw new UsageError(`${where}.selector cannot be ${shown(from.selector)}`);
  }
  if (typeof from.value !== "string" || !/^([0-9a-f]{2})*$/.test(from.value)) {
    throw new UsageError(`${where}.value is not hexadecimal`);
  }
  return {
    type,
    flags: from.optional ? DEV_PART_OPTIONAL : 0,
    selector: BigInt(from.selector),
    value: Uint8Array.fromHex(from.value),
  };
}
