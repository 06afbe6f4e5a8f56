/**
 * What an emulated host consists of, as data: read from JSON, checked field by field.
 *
 * @module
 */
import * as v from "valibot";
import { requireType } from "../errors/doors.ts";
import { PciAddress } from "../pci/address.ts";
import type { TopologyKind } from "./topology_kind.ts";
import {
  type FunctionTopology,
  KERNEL_DRIVERS,
  QUIRKS,
  type Topology,
  TOPOLOGY_PROFILES,
} from "./function_topology.ts";
import { ADMIN_FIELDS, type AdminFields, adminOf } from "./topology_admin.ts";
import { addVhostUser } from "./topology_vhost_user.ts";
import { checkMmio, isPlatformName, MMIO_FIELDS } from "./topology_mmio.ts";
import {
  anyRecord,
  type FieldSchema,
  type FieldSchemas,
  fits,
  flag,
  listOf,
  not,
  oneOf,
  read,
  record,
  show,
  text,
  TopologyError,
  whole,
} from "./topology_fields.ts";
import { VIRTIO_KINDS } from "./virtio/kinds.ts";

const FEATURES = v.optional(listOf(text(/^[A-Z][A-Z0-9_]*$/, "a feature name")), []);

/** Fields of a function of any kind, on any bus. */
const COMMON: FieldSchemas = {
  kind: v.string(),
  numaNode: v.optional(whole(-1, 1023), -1),
  iommuGroup: v.optional(whole(0, 0xffff)),
  usedBatches: v.optional(flag),
  quirks: v.optional(listOf(oneOf(QUIRKS, "a quirk"))),
  featuresOff: FEATURES,
  featuresOn: FEATURES,
  lie: v.optional(text(/./, "the name of a lie")),
};

/** Fields of a PCI function. */
const PCI_FIELDS: FieldSchemas = {
  address: v.pipe(
    fits<string>(
      (value) => typeof value === "string" && PciAddress.tryParse(value) !== undefined,
      not("an address", 'write it as "0000:01:00.0", or a platform device as "a003e00.virtio_mmio"'),
    ),
    v.transform((address) => PciAddress.parse(address).toString()),
  ),
  totalVfs: v.optional(whole(0, 0xffff)),
  firstVfOffset: v.optional(whole(1, 0xffff), 1),
  vfStride: v.optional(whole(1, 0xffff), 1),
  driver: v.optional(
    v.nullable(oneOf(KERNEL_DRIVERS, "a driver of the emulated kernel", "null")),
    "virtio-pci",
  ),
  profile: v.optional(oneOf(TOPOLOGY_PROFILES, "a profile of emulated functions")),
  ...ADMIN_FIELDS,
};

const TOPOLOGY = record(
  {
    functions: v.optional(listOf(v.unknown(), "must be a list of functions"), []),
    vhostUser: v.optional(listOf(v.unknown(), "must be a list of devices"), []),
  },
  "is not a field of a topology\nthere are functions, vhostUser",
);

/**
 * Reads a topology from JSON text.
 * @param kinds kinds of device that the models know; default: those of this library, and others without fields of their own
 * @throws TopologyError
 */
export function parseTopology(text: string, kinds?: readonly TopologyKind[]): Topology {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new TopologyError("text", `is not JSON: ${error instanceof Error ? error.message : error}`);
  }
  return readTopology(value, kinds);
}

/** As `parseTopology`, from plain data. @throws TopologyError */
export function readTopology(value: unknown, kinds?: readonly TopologyKind[]): Topology {
  const { functions: list, vhostUser } = read(TOPOLOGY, value, "") as Record<string, unknown[]>;
  if (list!.length === 0 && vhostUser!.length === 0) {
    throw new TopologyError("functions", "is empty: a host without functions serves nothing");
  }
  const reader = new FunctionReader(kinds);
  const functions = list!.map((one, i) => reader.read(one, `functions[${i}]`));
  checkTogether(functions, (i) => `functions[${i}]`, kinds);
  const topology: Topology = { functions: functions.sort(inOrder) };
  return vhostUser!.length === 0 ? topology : addVhostUser(topology, vhostUser!, kinds ?? VIRTIO_KINDS);
}

/** One function, for a host that has these others already. @throws TopologyError */
export function readFunction(
  value: unknown,
  others: readonly FunctionTopology[],
  kinds?: readonly TopologyKind[],
): FunctionTopology {
  const added = new FunctionReader(kinds).read(value, "function");
  const at = (i: number) => i < others.length ? `the function ${others[i]!.address}` : "function";
  checkTogether([...others, added], at, kinds);
  return added;
}

function checkTogether(
  functions: readonly FunctionTopology[],
  at: (index: number) => string,
  kinds: readonly TopologyKind[] = VIRTIO_KINDS,
): void {
  checkAddresses(functions, at);
  for (const kind of kinds) {
    kind.together?.(
      functions.map((own, i) => ({ own, at: at(i) })).filter(({ own }) => own.kind === kind.name),
    );
  }
}

/** PCI functions by their addresses, then platform devices by their names. */
function inOrder({ address: a }: FunctionTopology, { address: b }: FunctionTopology): number {
  const [first, second] = [PciAddress.tryParse(a), PciAddress.tryParse(b)];
  if (first !== undefined && second !== undefined) return PciAddress.compare(first, second);
  if (first !== undefined || second !== undefined) return first === undefined ? 1 : -1;
  return a < b ? -1 : 1;
}

/** Address of VF `index` (0 for the first) of a PF. @throws UsageError when it would lie past the last bus */
export function vfAddress(pf: FunctionTopology, index: number): string {
  requireType(pf, "object", "vfAddress: pf", "address", "firstVfOffset", "vfStride");
  return PciAddress.parse(pf.address).vf(index, pf).toString();
}

/** Reads functions; a schema for each kind is made once. */
class FunctionReader {
  readonly #kinds: readonly TopologyKind[];
  readonly #onlyThese: boolean;
  readonly #schemas = new Map<string, FieldSchema<Record<string, unknown>>>();

  constructor(kinds: readonly TopologyKind[] | undefined) {
    this.#kinds = kinds ?? VIRTIO_KINDS;
    this.#onlyThese = kinds !== undefined;
  }

  read(value: unknown, at: string): FunctionTopology {
    const { kind: name, address: given, mmio } = read(anyRecord, value, at);
    const kind = this.#kinds.find((one) => one.name === name);
    if (typeof name !== "string" || name === "" || (this.#onlyThese && kind === undefined)) {
      const known = `one of ${this.#kinds.map((one) => one.name).join(", ")}`;
      throw new TopologyError(`${at}.kind`, `${show(name)} is not a kind of device`, known);
    }
    if (isPlatformName(given)) return this.#platform(value, at, name, kind);
    if (mmio !== undefined && PciAddress.tryParse(given as string) !== undefined) {
      throw new TopologyError(
        `${at}.mmio`,
        `${given} is a PCI function: a virtio-mmio device is a platform device`,
        'name it as "a003e00.virtio_mmio"',
      );
    }
    const { adminQueues, legacyVfs, legacyNotify, ...fields } = read(
      this.#schema(name, kind, "function"),
      value,
      at,
    );
    const { address, totalVfs = kind?.totalVfs ?? 0 } = fields as Partial<FunctionTopology>;
    const place = { at, address: address!, totalVfs };
    const admin = adminOf({ adminQueues, legacyVfs, legacyNotify } as AdminFields, name, this.#kinds, place);
    kind?.check?.(fields, place);
    const filled = kind?.fill?.(fields, place) ?? fields;
    return { ...filled, totalVfs, ...(admin && { admin }) } as FunctionTopology;
  }

  #platform(value: unknown, at: string, name: string, kind: TopologyKind | undefined): FunctionTopology {
    if (kind?.pciOnly !== undefined) {
      throw new TopologyError(`${at}.address`, `a ${name} cannot be a platform device: ${kind.pciOnly}`);
    }
    const fields = read(this.#schema(name, kind, "platform device"), value, at);
    const { address, mmio } = fields as unknown as FunctionTopology;
    const place = { at, address, totalVfs: 0 };
    checkMmio(mmio!, place);
    kind?.check?.(fields, place);
    const filled = kind?.fill?.(fields, place) ?? fields;
    return { ...filled, totalVfs: 0, firstVfOffset: 1, vfStride: 1 } as unknown as FunctionTopology;
  }

  #schema(
    name: string,
    kind: TopologyKind | undefined,
    what: "function" | "platform device",
  ): FieldSchema<Record<string, unknown>> {
    const key = `${name} ${what}`;
    let schema = this.#schemas.get(key);
    if (schema === undefined) {
      const fields = {
        ...what === "function" ? PCI_FIELDS : MMIO_FIELDS,
        ...COMMON,
        ...modelFields(kind),
      };
      const there = `there are ${Object.keys(fields).join(", ")}`;
      schema = record(fields, `a ${name} ${what} has no such field\n${there}`);
      this.#schemas.set(key, schema);
    }
    return schema;
  }
}

/** Schemas of the fields that go to the model of a function of that kind. */
export function modelFields(kind: TopologyKind | undefined): FieldSchemas {
  const queueSize = kind?.queueSize as FieldSchema<number> | undefined;
  return { queueSize: v.optional(queueSize ?? whole(1, 32768)), ...kind?.fields };
}

/** Functions and all VFs that could be enabled must have addresses of their own, since VF Enable cannot say no later. */
function checkAddresses(functions: readonly FunctionTopology[], at: (index: number) => string): void {
  const taken = new Map<string, string>();
  functions.forEach((one, i) => {
    const other = taken.get(one.address);
    if (other !== undefined) {
      throw new TopologyError(`${at(i)}.address`, `${one.address} is ${other} already`);
    }
    taken.set(one.address, at(i));
  });
  functions.forEach((pf, i) => {
    for (let index = 0; index < pf.totalVfs; index++) {
      let address: string;
      try {
        address = vfAddress(pf, index);
      } catch (error) {
        throw new TopologyError(
          `${at(i)}.totalVfs`,
          error instanceof Error ? error.message : String(error),
        );
      }
      const other = taken.get(address);
      if (other !== undefined) {
        throw new TopologyError(
          `${at(i)}.totalVfs`,
          `VF ${index} would be ${address}, which is ${other} already`,
          "move one of them, or set firstVfOffset and vfStride",
        );
      }
      taken.set(address, `VF ${index} of ${at(i)}`);
    }
  });
}
