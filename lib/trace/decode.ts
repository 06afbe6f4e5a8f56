/**
 * Records in words: registers by name and decoded, by the tables that there are for a function.
 *
 * @module
 */
import { MSIX_ENTRY_BYTES } from "../pci/capability/msix.ts";
import { requireType, typedErrors } from "../errors/doors.ts";
import { RingsideError } from "../errors/mod.ts";
import { ConfigSpace, findCapability, walkCapabilities } from "../pci/mod.ts";
import type { RegisterDeclaration, RegisterTable } from "../registers/declaration.ts";
import { describeValue, elementName } from "../registers/dump.ts";
import { REGION } from "../vfio/device.ts";
import { knownRegisters, type RegisterSet } from "../virtio/function_registers.ts";
import { statusNames } from "../virtio/spec/status.ts";
import { findVirtioLayout } from "../virtio/transport/pci_layout.ts";
import { isWord, type NumberedRecord, type OpenRecord } from "./records.ts";

const MSIX_TABLE = {
  address: { offset: 0, width: 8, strideBytes: MSIX_ENTRY_BYTES },
  data: { offset: 8, width: 4, strideBytes: MSIX_ENTRY_BYTES },
  control: {
    offset: 12,
    width: 4,
    strideBytes: MSIX_ENTRY_BYTES,
    fields: { masked: { bits: 0, access: "RW" } },
  },
} as const satisfies RegisterTable;

/** A record for people. */
export interface DecodedRecord {
  /** What it was done to: `common:device_status`, `4:0x3000.16`, `msix 0`, `queue 0 rings`. */
  readonly where: string;
  /** Value, fields, what a number means. */
  readonly what: string;
}

interface Mapping {
  readonly iova: bigint;
  readonly end: bigint;
  readonly label: string;
}

/** Decodes the records of one trace, which it is given in order. */
export class TraceDecoder {
  static {
    typedErrors(this);
  }

  readonly #given: (opened: OpenRecord) => readonly RegisterSet[];
  readonly #sets: (readonly RegisterSet[])[] = [];
  readonly #mappings = new Map<string, Mapping>();

  /** Knows nothing yet. @param given tables of a function for what no other is known for; they come first */
  constructor(given: (opened: OpenRecord) => readonly RegisterSet[] = () => []) {
    requireType(given, "function", "new TraceDecoder: given");
    this.#given = given;
  }

  /** One record, the next. */
  decode(record: NumberedRecord): DecodedRecord {
    switch (record.kind) {
      case "open":
        this.#sets[record.device] = [...this.#given(record), ...setsOf(record)];
        return { where: record.name, what: `by ${record.path}` };
      case "read":
      case "write":
      case "doorbell": {
        const { where, what } = this.#access(record);
        return { where, what: record.error === undefined ? what : `${what} failed: ${record.error}`.trim() };
      }
      case "irqs": {
        const { index, action, start, count, error } = record;
        const which = count === 0 ? "" : count === 1 ? ` ${start}` : ` ${start} to ${start + count - 1}`;
        return {
          where: irqName(index),
          what: `${action}${which}${error === undefined ? "" : ` failed: ${error}`}`,
        };
      }
      case "interrupt":
        return {
          where: `${irqName(record.index)} ${record.vector}`,
          what: record.count === 1 ? "" : `${record.count} times`,
        };
      case "map":
      case "unmap": {
        const { iova, sizeBytes, label, device, space } = record;
        const key = `${device} ${space} ${iova}`, start = BigInt(iova);
        if (record.kind === "unmap") this.#mappings.delete(key);
        else this.#mappings.set(key, { iova: start, end: start + BigInt(sizeBytes), label });
        return { where: label, what: `${iova}, ${sizeBytes} bytes${space === 0 ? "" : `, space ${space}`}` };
      }
      case "mark":
        return { where: "", what: record.text };
      default:
        return { where: "", what: "" };
    }
  }

  #access(record: NumberedRecord & { readonly kind: "read" | "write" | "doorbell" }): DecodedRecord {
    const { device, region, offset, width, value } = record;
    const of = region === REGION.config ? "config" : `${region}`;
    const place = `${of}:0x${offset.toString(16).padStart(2, "0")}`;
    if (!isWord(width)) return { where: place, what: `${width} bytes` };
    const plain = { where: `${place}.${8 * width}`, what: value };
    const found = this.#find(this.#sets[device] ?? [], region, offset);
    if (found === undefined) return plain;
    const { set, name, register, index, within } = found;
    const title = `${set.name}:${elementName(name, register, index)}`;
    if (within !== 0 || width !== register.width) {
      const part = within === 0 && width > register.width ? "" : `+${within}`;
      return {
        where: `${title}${register.width === 8 && within === 0 ? "" : part}`,
        what: this.#pointed(value, register),
      };
    }
    if (value === "") return { where: title, what: "" };
    if (set.name === "common" && name === "device_status") {
      const bits = statusNames(Number(value)).join(" ");
      return { where: title, what: `${value} ${bits || "reset"}` };
    }
    return { where: title, what: this.#pointed(shortened(describeValue(register, BigInt(value))), register) };
  }

  /** With the memory that it points to, of a register for addresses. */
  #pointed(text: string, register: RegisterDeclaration): string {
    const value = /^0x[0-9a-f]+$/.test(text) && register.width === 8 ? BigInt(text) : undefined;
    if (value === undefined) return text;
    const memory = this.#mappings.values().find(({ iova, end }) => value >= iova && value < end);
    if (memory === undefined) return text;
    return `${text} = ${memory.label} + 0x${(value - memory.iova).toString(16)}`;
  }

  #find(sets: readonly RegisterSet[], region: number, at: number) {
    for (const set of sets) {
      const offset = at - set.offset;
      const isHere = (set.region === "config" ? REGION.config : set.region) === region;
      if (!isHere || offset < 0 || offset >= set.lengthBytes) continue;
      for (const [name, register] of Object.entries(set.table)) {
        const { width, strideBytes = 0, count = strideBytes === 0 ? 1 : Infinity } = register;
        const index = strideBytes === 0 ? 0 : Math.floor((offset - register.offset) / strideBytes);
        const within = offset - register.offset - index * strideBytes;
        if (index >= 0 && index < count && within >= 0 && within < width) {
          return { set, name, register, index, within };
        }
      }
    }
    return undefined;
  }
}

/** Without fields that are 0: most of them are. */
function shortened(text: string): string {
  const [value, fields = ""] = text.split(/ (.*)/s);
  const set = fields.split(", ").filter((field) => field !== "" && !field.endsWith(" 0"));
  return [value, set.join(", ")].filter((part) => part !== "").join(" ");
}

const IRQS = ["intx", "msi", "msix", "error", "request"];

function irqName(index: number): string {
  return IRQS[index] ?? `irq ${index}`;
}

/** What is known by the configuration space of a function: its registers, the MSI-X table, doorbells, its virtio configuration. */
function setsOf({ name, config, regions }: OpenRecord): RegisterSet[] {
  const bytes = Uint8Array.from(config.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const sizes = regions.map(({ sizeBytes }) => sizeBytes);
  if (bytes.length < 256) return [];
  const sets = knownRegisters(name, bytes, sizes);
  const msix = findCapability(walkCapabilities(new ConfigSpace(bytes)).capabilities, "msi-x");
  if (msix !== undefined) {
    const { table: { bar, offset }, vectorCount } = msix;
    const lengthBytes = vectorCount * MSIX_ENTRY_BYTES;
    sets.push({ name: "msix-table", region: bar, offset, lengthBytes, table: MSIX_TABLE });
  }
  try {
    const { notify, notifyOffMultiplier } = findVirtioLayout(
      name,
      bytes,
      (bar) => sizes[bar] ?? 0,
    );
    const queue = {
      offset: 0,
      width: 2,
      ...(notifyOffMultiplier > 0 ? { strideBytes: notifyOffMultiplier } : {}),
    } as const;
    const { bar, offset, lengthBytes } = notify;
    sets.push({ name: "notify", region: bar, offset, lengthBytes, table: { queue } });
  } catch (error) {
    if (!(error instanceof RingsideError)) throw error;
  }
  return sets;
}
