/**
 * Vendor-specific capabilities of a virtio function: which structure lies where in which BAR
 * (virtio 1.2 §4.1.4; kernel header `linux/virtio_pci.h`).
 *
 * @module
 */

import type { RegisterTable } from "../../registers/declaration.ts";
import type { CapabilityDeclaration, Decoded } from "./declaration.ts";
import { VIRTIO_VENDOR_ID } from "../virtio_ids.ts";
import { statedLength } from "./vendor_specific.ts";
import { type CapabilityWindow, WindowOverrun } from "./window.ts";

/** `cfg_type` values of `struct virtio_pci_cap`. */
export const VIRTIO_CFG_TYPE = {
  common: 1,
  notify: 2,
  isr: 3,
  device: 4,
  pciCfg: 5,
  sharedMemory: 8,
  vendor: 9,
} as const;

/** Name of a virtio structure; `"reserved"` for a `cfg_type` that the standard does not define. */
export type VirtioStructure = keyof typeof VIRTIO_CFG_TYPE | "reserved";

/** `struct virtio_pci_cap` after its type, and what longer structures add. `virtio_pci_vndr_data` has none of it. */
export const VIRTIO_STRUCTURE_REGISTERS = {
  /** BAR that holds the structure. */
  bar: { offset: 4, width: 1 },
  /** Tells structures of one type apart. */
  structureId: { offset: 5, width: 1 },
  /** Bytes from the start of the BAR. */
  regionOffset: { offset: 8, width: 4 },
  /** Bytes that the structure occupies. */
  regionLength: { offset: 12, width: 4 },
  /** Notify only. */
  notifyOffMultiplier: { offset: 16, width: 4 },
  /** PCI configuration access only: four bytes. */
  pciCfgData: { offset: 16, width: 4 },
  /** Shared memory only. */
  regionOffsetHigh: { offset: 16, width: 4 },
  /** Shared memory only. */
  regionLengthHigh: { offset: 20, width: 4 },
} as const satisfies RegisterTable;

/** Where a virtio structure is. */
export interface VirtioPlace {
  /** Which structure this points to. */
  readonly structure: VirtioStructure;
  /** BAR that holds the structure. */
  readonly bar: number;
  /** Tells several structures of one type apart; the region id of shared memory. */
  readonly structureId: number;
  /** Bytes from the start of the BAR. 64 bits wide for shared memory. */
  readonly regionOffset: number;
  /** Bytes that the structure occupies in the BAR. 64 bits wide for shared memory. */
  readonly regionLength: number;
  /** Notify only: bytes per unit of `queue_notify_off`. */
  readonly notifyOffMultiplier?: number;
  /** PCI configuration access only: the window's data register, as four raw bytes. */
  readonly pciCfgData?: Uint8Array;
  /** Vendor data only: the PCI vendor ID that defines its meaning. */
  readonly dataVendorId?: number;
  /** Whether a driver may use it. The standard has drivers ignore reserved types and reserved BARs. */
  readonly usable: boolean;
  /** Why it is not usable; empty when it is. */
  readonly problems: readonly string[];
}

/** Virtio. The length is `cap_len` as the capability states it. It may be longer than the structure: a driver accepts that. */
export const VIRTIO = {
  list: "standard",
  id: 0x09,
  vendorId: VIRTIO_VENDOR_ID,
  kind: "virtio",
  title: "Vendor Specific Information",
  lengthBytes: (window: CapabilityWindow): number => {
    const lengthBytes = statedLength(window);
    // `virtio_pci_vndr_data` is the one structure that is shorter: it points nowhere.
    const isVendor = lengthBytes >= 4 && window.register(VIRTIO.registers.cfgType) === VIRTIO_CFG_TYPE.vendor;
    if (lengthBytes < (isVendor ? 6 : 16)) throw new WindowOverrun(16, lengthBytes);
    return lengthBytes;
  },
  /** The byte that says which structure follows. */
  registers: {
    /** `cfg_type`. */
    cfgType: { offset: 3, width: 1 },
  },
  derive: (window: CapabilityWindow): VirtioPlace => {
    const cfgType = window.register(VIRTIO.registers.cfgType);
    const structure = STRUCTURES.get(cfgType) ?? "reserved";
    return structure === "vendor" ? vendorData(window) : place(structure, cfgType, window);
  },
} as const satisfies CapabilityDeclaration;

/** Decoded virtio capability. */
export type VirtioCapability = Decoded<typeof VIRTIO>;

const STRUCTURES: ReadonlyMap<number, VirtioStructure> = new Map(
  Object.entries(VIRTIO_CFG_TYPE).map(([name, type]) => [type, name as VirtioStructure]),
);

function vendorData(window: CapabilityWindow): VirtioPlace {
  return {
    structure: "vendor",
    bar: 0,
    structureId: 0,
    regionOffset: 0,
    regionLength: 0,
    dataVendorId: window.read(4, 2),
    usable: true,
    problems: [],
  };
}

function place(structure: VirtioStructure, cfgType: number, window: CapabilityWindow): VirtioPlace {
  const lengthBytes = statedLength(window), at = VIRTIO_STRUCTURE_REGISTERS;
  const bar = window.register(at.bar);
  let regionOffset = window.register(at.regionOffset), regionLength = window.register(at.regionLength);
  const problems: string[] = [];
  const hasRoom = (bytes: number, what: string): boolean => {
    if (lengthBytes < bytes) problems.push(`cap_len ${lengthBytes} has no room for ${what}`);
    return lengthBytes >= bytes;
  };
  const extra: { notifyOffMultiplier?: number; pciCfgData?: Uint8Array } = {};
  if (structure === "sharedMemory") {
    if (hasRoom(24, "the upper halves of offset and length")) {
      regionOffset += window.register(at.regionOffsetHigh) * 2 ** 32;
      regionLength += window.register(at.regionLengthHigh) * 2 ** 32;
    }
  } else if (structure === "notify") {
    if (hasRoom(20, "notify_off_multiplier")) {
      extra.notifyOffMultiplier = window.register(at.notifyOffMultiplier);
    }
  } else if (structure === "pciCfg") {
    if (hasRoom(20, "pci_cfg_data")) extra.pciCfgData = window.copy(at.pciCfgData.offset, 4);
  } else if (structure === "reserved") {
    problems.push(`cfg_type ${cfgType} is reserved`);
  }
  // The access window's BAR field is for the driver to write, so whatever it holds is not a fault.
  if (bar > 5 && structure !== "pciCfg") problems.push(`bar ${bar} is reserved`);
  // No BAR reaches 2^53 bytes, and above that the numbers here would no longer be exact.
  if (!Number.isSafeInteger(regionOffset + regionLength)) problems.push("offset + length is beyond 2^53");
  return {
    structure,
    bar,
    structureId: window.register(at.structureId),
    regionOffset,
    regionLength,
    ...extra,
    usable: problems.length === 0,
    problems,
  };
}

/** The first usable capability of a structure: the one that a driver should take when there are several. */
export function findVirtioStructure(
  capabilities: Iterable<{ readonly kind: string }>,
  structure: VirtioStructure,
): VirtioCapability | undefined {
  return [...capabilities].filter(isVirtio).find((one) => one.usable && one.structure === structure);
}

/** Usable shared memory regions by region id; of two with the same id, the first. */
export function findSharedMemory(
  capabilities: Iterable<{ readonly kind: string }>,
): Map<number, VirtioCapability> {
  const regions = new Map<number, VirtioCapability>();
  for (const one of [...capabilities].filter(isVirtio)) {
    if (one.usable && one.structure === "sharedMemory" && !regions.has(one.structureId)) {
      regions.set(one.structureId, one);
    }
  }
  return regions;
}

function isVirtio(capability: { readonly kind: string }): capability is VirtioCapability {
  return capability.kind === "virtio";
}
