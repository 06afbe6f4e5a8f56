/**
 * What an emulated host consists of, as data: read from JSON, checked field by field.
 *
 * @module
 */
import { isOfType, requireType } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import { isList } from "../errors/records.ts";
import { PciAddress } from "../pci/address.ts";
import { ADMIN_FIELDS, type AdminTopology, readAdmin } from "./topology_admin.ts";
import {
  BLOCK_FIELDS,
  type BlockTopology,
  CONSOLE_FIELDS,
  type ConsoleTopology,
  readBlock,
  readConsole,
} from "./topology_devices.ts";
import { checkIsmDomains, ISM_FIELDS, type IsmTopology, readIsm } from "./topology_ism.ts";
import { known, optional, show, TopologyError } from "./topology_fields.ts";

export { TopologyError } from "./topology_fields.ts";
export { type AdminTopology, LEGACY_NOTIFY_PLACES, type LegacyNotifyPlace } from "./topology_admin.ts";
export type { BlockTopology, ConsoleTopology } from "./topology_devices.ts";
export type { IsmTopology } from "./topology_ism.ts";

/** Drivers of the emulated host's kernel. */
export const KERNEL_DRIVERS = ["virtio-pci", "vfio-pci", "pci-stub"] as const;

/** Name of a driver of the emulated host's kernel. */
export type KernelDriverName = typeof KERNEL_DRIVERS[number];

/** Profiles that a function can have (reference R-0). */
export const TOPOLOGY_PROFILES = ["spec", "queue-state"] as const;

/** Name of a profile that a function can have. */
export type TopologyProfile = typeof TOPOLOGY_PROFILES[number];

/** One function of a topology, with every default filled in. */
export interface FunctionTopology {
  /** PCI address in its long form. */
  readonly address: string;
  /** Kind of device, as the models name it: `virtio-net`, `virtio-rng`, `virtio-blk`, `virtio-console`, `virtio-ism`. */
  readonly kind: string;
  /** Most VFs that it can have; 0: no SR-IOV capability. */
  readonly totalVfs: number;
  /** From the PF's routing ID to that of VF 0. */
  readonly firstVfOffset: number;
  /** From one VF's routing ID to the next. */
  readonly vfStride: number;
  /** Driver that it is bound to at the start; null: none. */
  readonly driver: KernelDriverName | null;
  /** NUMA node; −1: not said. */
  readonly numaNode: number;
  /** IOMMU group; undefined: one of its own. */
  readonly iommuGroup?: number;
  /** MAC address (virtio-net). VF n has it plus n + 1 in the low 24 bits. */
  readonly mac?: string;
  /** MTU in bytes (virtio-net). */
  readonly mtu?: number;
  /** Largest number of queue pairs (virtio-net). */
  readonly queuePairs?: number;
  /** Entries of each queue, 1 to 32768. Where it is no power of two, a split ring has the next smaller one. */
  readonly queueSize?: number;
  /** What bit 40 and the registers past the standard's mean; default `spec`. */
  readonly profile?: TopologyProfile;
  /** With IN_ORDER, what is returned in one burst goes into as few used elements as the standard lets it; default false. */
  readonly usedBatches?: boolean;
  /** Embedded switch that it and its VFs are ports of (virtio-net). */
  readonly switch?: string;
  /** Features that it must not offer, by the standard's names. */
  readonly featuresOff: readonly string[];
  /** Features that it offers only on demand. */
  readonly featuresOn: readonly string[];
  /** Way in which it breaks the standard, for tests of drivers. */
  readonly lie?: string;
  /** What the host uses its network interface for, as guards would find it (virtio-net): `carries the default route`. */
  readonly hostUse: readonly string[];
  /** Administration queues, and the legacy interface of its VFs; undefined: it has none. */
  readonly admin?: AdminTopology;
  /** Fields of a virtio-blk function. */
  readonly block?: BlockTopology;
  /** Fields of a virtio-console function. */
  readonly console?: ConsoleTopology;
  /** Fields of a virtio-ism function. */
  readonly ism?: IsmTopology;
}

/** An emulated host's functions, in order of their addresses. */
export interface Topology {
  /** The PFs and plain functions; VFs come out of their PFs. */
  readonly functions: readonly FunctionTopology[];
}

const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;
const FEATURE = /^[A-Z][A-Z0-9_]*$/;
const PHRASE = /^[^\n]+$/;
const SWITCH = /^[A-Za-z0-9_.-]{1,32}$/;
const FIELDS = [
  "address",
  "kind",
  "totalVfs",
  "firstVfOffset",
  "vfStride",
  "driver",
  "numaNode",
  "iommuGroup",
  "mac",
  "mtu",
  "queuePairs",
  "queueSize",
  "profile",
  "usedBatches",
  "switch",
  "featuresOff",
  "featuresOn",
  "lie",
  "hostUse",
] as const;
const NET_FIELDS = ["mac", "mtu", "queuePairs", "switch", "hostUse"] as const;

/**
 * The host that is served when nothing else is asked for: a virtio-net PF on switch `s0`, and a virtio-rng function on the first bus that
 * none of the PF's VFs can be on: 02, with up to 254 VFs.
 * @throws TopologyError for more VFs than the domain has buses for
 */
export function defaultTopology(totalVfs = 4): Topology {
  requireType(totalVfs, "number", "defaultTopology: totalVfs");
  const pf = new PciAddress({ bus: 1, device: 0, function: 0 });
  const rngBus = ((pf.routingId + totalVfs) >>> 8) + 1;
  if (rngBus > 0xff) {
    throw new TopologyError("functions[0].totalVfs", `${totalVfs} VFs leave no bus for another function`);
  }
  return readTopology({
    functions: [
      { address: pf.toString(), kind: "virtio-net", totalVfs, switch: "s0" },
      { address: new PciAddress({ bus: rngBus, device: 0, function: 0 }).toString(), kind: "virtio-rng" },
    ],
  });
}

/**
 * Reads a topology from JSON text.
 * @param kinds kinds of device that the models know; default: not checked here
 * @throws TopologyError
 */
export function parseTopology(text: string, kinds?: readonly string[]): Topology {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new TopologyError("text", `is not JSON: ${error instanceof Error ? error.message : error}`);
  }
  return readTopology(value, kinds);
}

/** As `parseTopology`, from plain data. @throws TopologyError */
export function readTopology(value: unknown, kinds?: readonly string[]): Topology {
  const top = asRecord(value, "top level");
  for (const key of Object.keys(top)) {
    if (key !== "functions") {
      throw new TopologyError(key, "is not a field of a topology", 'there is only "functions"');
    }
  }
  const list = top.functions;
  if (!isList(list)) throw new TopologyError("functions", "must be a list of functions");
  if (list.length === 0) {
    throw new TopologyError("functions", "is empty: a host without functions serves nothing");
  }
  const functions = list.map((one, i) => readFunction(one, `functions[${i}]`, kinds));
  checkAddresses(functions);
  checkIsmDomains(functions);
  const order = (a: FunctionTopology, b: FunctionTopology) =>
    PciAddress.compare(PciAddress.parse(a.address), PciAddress.parse(b.address));
  return { functions: functions.sort(order) };
}

/** Address of VF `index` (0 for the first) of a PF. @throws UsageError when it would lie past the last bus */
export function vfAddress(pf: FunctionTopology, index: number): string {
  requireType(pf, "object", "vfAddress: pf", "address", "firstVfOffset", "vfStride");
  return PciAddress.parse(pf.address).vf(index, pf).toString();
}

/** MAC address of VF `index` of a PF: the PF's plus `index` + 1 in its low 24 bits. */
export function vfMac(pfMac: string, index: number): string {
  requireType(index, "number", "vfMac: index");
  requireType(pfMac, "string", "vfMac: pfMac");
  if (!/^([\da-f]{2}:){5}[\da-f]{2}$/i.test(pfMac)) {
    throw new UsageError(`${shown(pfMac)} is not a MAC address`);
  }
  const bytes = pfMac.split(":").map((byte) => parseInt(byte, 16));
  const low = (((bytes[3]! << 16) | (bytes[4]! << 8) | bytes[5]!) + index + 1) & 0xffffff;
  const all = [bytes[0]!, bytes[1]!, bytes[2]!, low >> 16, (low >> 8) & 0xff, low & 0xff];
  return all.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function readFunction(value: unknown, at: string, kinds: readonly string[] | undefined): FunctionTopology {
  const from = asRecord(value, at);
  for (const key of Object.keys(from)) {
    if (![...FIELDS, ...ADMIN_FIELDS, ...BLOCK_FIELDS, ...CONSOLE_FIELDS, ...ISM_FIELDS].includes(key)) {
      throw new TopologyError(
        `${at}.${key}`,
        "is not a field of a function",
        `there are ${[...FIELDS, ...ADMIN_FIELDS].join(", ")}; for virtio-blk ${
          BLOCK_FIELDS.join(", ")
        }; for virtio-console ${CONSOLE_FIELDS.join(", ")}; for virtio-ism ${ISM_FIELDS.join(", ")}`,
      );
    }
  }
  const address = typeof from.address === "string" ? PciAddress.tryParse(from.address) : undefined;
  if (address === undefined) {
    throw new TopologyError(
      `${at}.address`,
      `${show(from.address)} is not a PCI address`,
      'write it as "0000:01:00.0"',
    );
  }
  const kind = from.kind;
  if (typeof kind !== "string" || kind === "" || (kinds !== undefined && !kinds.includes(kind))) {
    throw new TopologyError(`${at}.kind`, `${show(kind)} is not a kind of device`, known(kinds));
  }
  const net = kind === "virtio-net";
  for (const key of NET_FIELDS) {
    if (!net && from[key] !== undefined) {
      throw new TopologyError(`${at}.${key}`, `a ${kind} function has no such field`);
    }
  }
  for (
    const [owner, fields] of [["virtio-blk", BLOCK_FIELDS], ["virtio-console", CONSOLE_FIELDS], [
      "virtio-ism",
      ISM_FIELDS,
    ]] as const
  ) {
    const alien = kind === owner ? undefined : fields.find((key) => from[key] !== undefined);
    if (alien !== undefined) {
      throw new TopologyError(`${at}.${alien}`, `a ${kind} function has no such field`);
    }
  }
  const iommuGroup = optional(from.iommuGroup, `${at}.iommuGroup`, 0, 65535);
  const mtu = optional(from.mtu, `${at}.mtu`, 68, 65535);
  const queuePairs = optional(from.queuePairs, `${at}.queuePairs`, 1, 64);
  const queueSize = optional(from.queueSize, `${at}.queueSize`, 1, 32768);
  const profile = readProfile(from.profile, `${at}.profile`);
  const { usedBatches } = from;
  if (usedBatches !== undefined && typeof usedBatches !== "boolean") {
    throw new TopologyError(`${at}.usedBatches`, `${show(usedBatches)} is neither true nor false`);
  }
  const totalVfs = optional(from.totalVfs, `${at}.totalVfs`, 0, 0xffff) ?? (net ? 4 : 0);
  const admin = readAdmin(from, at, kind, totalVfs);
  return {
    address: address.toString(),
    kind,
    totalVfs,
    firstVfOffset: optional(from.firstVfOffset, `${at}.firstVfOffset`, 1, 65535) ?? 1,
    vfStride: optional(from.vfStride, `${at}.vfStride`, 1, 65535) ?? 1,
    driver: readDriver(from.driver, `${at}.driver`),
    numaNode: optional(from.numaNode, `${at}.numaNode`, -1, 1023) ?? -1,
    ...(iommuGroup === undefined ? {} : { iommuGroup }),
    ...(net
      ? { mac: readMac(from.mac, `${at}.mac`, address), switch: readSwitch(from.switch, `${at}.switch`) }
      : {}),
    ...(mtu === undefined ? {} : { mtu }),
    ...(queuePairs === undefined ? {} : { queuePairs }),
    ...(queueSize === undefined ? {} : { queueSize }),
    ...(profile === undefined ? {} : { profile }),
    ...(usedBatches === undefined ? {} : { usedBatches }),
    featuresOff: readNames(from.featuresOff, `${at}.featuresOff`, FEATURE, "a feature name"),
    featuresOn: readNames(from.featuresOn, `${at}.featuresOn`, FEATURE, "a feature name"),
    ...(admin === undefined ? {} : { admin }),
    ...(kind === "virtio-blk" ? { block: readBlock(from, at) } : {}),
    ...(kind === "virtio-console" ? { console: readConsole(from, at) } : {}),
    ...(kind === "virtio-ism" ? { ism: readIsm(from, at) } : {}),
    hostUse: readNames(from.hostUse, `${at}.hostUse`, PHRASE, "a phrase of one line"),
    ...(from.lie === undefined ? {} : { lie: readLie(from.lie, `${at}.lie`) }),
  };
}

/** Functions and all VFs that could be enabled must have addresses of their own, since VF Enable cannot say no later. */
function checkAddresses(functions: readonly FunctionTopology[]): void {
  const taken = new Map<string, string>();
  functions.forEach((one, i) => {
    const other = taken.get(one.address);
    if (other !== undefined) {
      throw new TopologyError(`functions[${i}].address`, `${one.address} is ${other} already`);
    }
    taken.set(one.address, `functions[${i}]`);
  });
  functions.forEach((pf, i) => {
    for (let index = 0; index < pf.totalVfs; index++) {
      let address: string;
      try {
        address = vfAddress(pf, index);
      } catch (error) {
        throw new TopologyError(
          `functions[${i}].totalVfs`,
          error instanceof Error ? error.message : String(error),
        );
      }
      const other = taken.get(address);
      if (other !== undefined) {
        throw new TopologyError(
          `functions[${i}].totalVfs`,
          `VF ${index} would be ${address}, which is ${other} already`,
          "move one of them, or set firstVfOffset and vfStride",
        );
      }
      taken.set(address, `VF ${index} of functions[${i}]`);
    }
  });
}

function readDriver(value: unknown, field: string): KernelDriverName | null {
  if (value === undefined) return "virtio-pci";
  if (value === null) return null;
  const name = KERNEL_DRIVERS.find((one) => one === value);
  if (name === undefined) {
    throw new TopologyError(
      field,
      `${show(value)} is not a driver of the emulated kernel`,
      known(KERNEL_DRIVERS, "null"),
    );
  }
  return name;
}

function readProfile(value: unknown, field: string): TopologyProfile | undefined {
  if (value === undefined) return undefined;
  const name = TOPOLOGY_PROFILES.find((one) => one === value);
  if (name === undefined) {
    throw new TopologyError(
      field,
      `${show(value)} is not a profile of emulated functions`,
      known(TOPOLOGY_PROFILES),
    );
  }
  return name;
}

function readMac(value: unknown, field: string, address: PciAddress): string {
  if (value === undefined) {
    // Locally administered, and different for every function: bus and devfn, with a byte left for VFs.
    return [0x52, 0x54, address.domain & 0xff, address.bus, address.devfn, 0]
      .map((byte) => byte.toString(16).padStart(2, "0")).join(":");
  }
  if (typeof value !== "string" || !MAC.test(value)) {
    throw new TopologyError(field, `${show(value)} is not a MAC address`, 'write it as "52:54:00:12:34:56"');
  }
  if ((parseInt(value.slice(0, 2), 16) & 1) !== 0) {
    throw new TopologyError(field, `${value} is a multicast address`);
  }
  return value.toLowerCase();
}

function readSwitch(value: unknown, field: string): string {
  if (value === undefined) return "s0";
  if (typeof value !== "string" || !SWITCH.test(value)) {
    throw new TopologyError(
      field,
      `${show(value)} is not a switch name`,
      "1 to 32 letters, digits, _ . or -",
    );
  }
  return value;
}

function readNames(value: unknown, field: string, pattern: RegExp, what: string): readonly string[] {
  if (value === undefined) return [];
  if (!isList(value)) throw new TopologyError(field, "must be a list");
  return value.map((name, i) => {
    if (typeof name !== "string" || !pattern.test(name)) {
      throw new TopologyError(`${field}[${i}]`, `${show(name)} is not ${what}`);
    }
    return name;
  });
}

function readLie(value: unknown, field: string): string {
  if (typeof value !== "string" || value === "") {
    throw new TopologyError(field, `${show(value)} is not the name of a lie`);
  }
  return value;
}

function asRecord(value: unknown, field: string): Record<string, unknown> {
  if (!isOfType(value, "object") || isList(value)) {
    throw new TopologyError(field, `${show(value)} is not an object`);
  }
  return value as Record<string, unknown>;
}
