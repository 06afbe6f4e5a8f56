/**
 * The registers of a PCI function that are known by name: its header, its capabilities, and the structures of a virtio function in its BARs.
 *
 * @module
 */
import { RingsideError } from "../errors/mod.ts";
import { CAPABILITIES } from "../pci/capability/all.ts";
import { BRIDGE, CARD_BUS, ConfigSpace, HEADER, walkCapabilities } from "../pci/mod.ts";
import type { RegisterTable } from "../registers/declaration.ts";
import { FIELD_BYTES } from "../wire/mod.ts";
import { deviceType } from "./spec/device_types.ts";
import { MMIO_CONFIG_OFFSET, MMIO_TABLES, type MmioForm } from "./spec/mmio.ts";
import { COMMON_CFG, ISR_CFG } from "./spec/pci.ts";
import { findVirtioLayout, type StructurePlace } from "./transport/pci_layout.ts";

/** Registers that lie together. */
export interface RegisterSet {
  /** `config`, the kind of a capability (`sr-iov`; the second of a kind `virtio-2`), `common`, `isr`, `device`; `mmio`. */
  readonly name: string;
  /** What they lie in: configuration space, or a BAR by its number. */
  readonly region: "config" | number;
  /** Bytes from its start. */
  readonly offset: number;
  /** Bytes that are there. */
  readonly lengthBytes: number;
  /** The declarations. */
  readonly table: RegisterTable;
}

const { bridgeExpansionRom, ...ENDPOINT } = HEADER;
const { cardbusCis: _cis, subsystemVendorId: _vendor, subsystemId: _id, expansionRom: _rom, ...ALL } =
  ENDPOINT;
const { minGrant: _grant, maxLatency: _latency, ...BOTH } = ALL;
const { capabilitiesPointer: _pointer, ...CARD } = BOTH;

/** By header type: each has BARs of its own number. */
const HEADERS: Readonly<Record<number, RegisterTable>> = {
  0: { ...ENDPOINT, bars: { ...HEADER.bars, count: 6 } },
  1: { ...BOTH, bars: { ...HEADER.bars, count: 2 }, bridgeExpansionRom, ...BRIDGE },
  2: { ...CARD, bars: { ...HEADER.bars, count: 1 }, ...CARD_BUS },
};
const HEADER_LENGTH = 0x40;

/**
 * What is known of a function by its configuration space. A capability that is not as it should be, and a virtio interface that could not be driven, are
 * left out.
 * @param barBytes sizes of its BARs, 0 where there is none
 */
export function knownRegisters(
  name: string,
  config: Uint8Array,
  barBytes: readonly number[],
): RegisterSet[] {
  const space = new ConfigSpace(config);
  if (!space.isPresent) return [];
  const sets: RegisterSet[] = [{
    name: "config",
    region: "config",
    offset: 0,
    lengthBytes: Math.min(HEADER_LENGTH, config.length),
    table: HEADERS[space.headerType] ?? BOTH,
  }];
  const seen = new Map<string, number>();
  for (const capability of walkCapabilities(space).capabilities) {
    const declared = CAPABILITIES.find((one) => one.kind === capability.kind);
    if (declared === undefined || !("lengthBytes" in capability)) continue;
    const number = (seen.get(capability.kind) ?? 0) + 1;
    seen.set(capability.kind, number);
    const { offset, lengthBytes } = capability;
    const title = number === 1 ? capability.kind : `${capability.kind}-${number}`;
    sets.push({ name: title, region: "config", offset, lengthBytes, table: declared.registers });
  }
  return [...sets, ...virtioSets(name, config, barBytes)];
}

/** The window of a virtio-mmio device. */
export function mmioRegisters(form: MmioForm): RegisterSet {
  return { name: "mmio", region: 0, offset: 0, lengthBytes: MMIO_CONFIG_OFFSET, table: MMIO_TABLES[form] };
}

function virtioSets(name: string, config: Uint8Array, barBytes: readonly number[]): RegisterSet[] {
  const set = (
    title: string,
    { bar, offset, lengthBytes }: StructurePlace,
    table: RegisterTable,
  ): RegisterSet => ({
    name: title,
    region: bar,
    offset,
    lengthBytes,
    table,
  });
  try {
    const { common, isr, deviceId, device } = findVirtioLayout(name, config, (bar) => barBytes[bar] ?? 0);
    const known = [set("common", common, COMMON_CFG), set("isr", isr, ISR_CFG)];
    return device === undefined ? known : [...known, set("device", device, configTable(deviceId))];
  } catch (error) {
    if (error instanceof RingsideError) return [];
    throw error;
  }
}

/** A device's own configuration. */
function configTable(deviceId: number): RegisterTable {
  const fields = Object.entries(deviceType(deviceId)?.config ?? {});
  return Object.fromEntries(
    fields.map(([name, { offset, type }]) => [name, { offset, width: FIELD_BYTES[type] as 1 | 2 | 4 | 8 }]),
  );
}

/** Names as they are completed, of registers that most functions have. */
export function commonNames(): string[] {
  const sets: readonly (readonly [string, RegisterTable])[] = [
    ["config", HEADERS[0]!],
    ["common", COMMON_CFG],
    ["isr", ISR_CFG],
  ];
  return sets.flatMap(([set, table]) => Object.keys(table).map((name) => `${set}:${name}`));
}
