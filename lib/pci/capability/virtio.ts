/**
 * Vendor-specific capabilities of a virtio function: which structure lies where in which BAR
 * (virtio 1.2 §4.1.4; kernel header `linux/virtio_pci.h`).
 *
 * @module
 */

import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** PCI vendor ID of virtio functions (Red Hat, formerly Qumranet). */
export const VIRTIO_VENDOR_ID = 0x1af4;

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

/** Decoded virtio capability. */
export interface VirtioCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "virtio";
  /** `cap_len` as the capability states it. It may be longer than the structure: a driver accepts that. */
  readonly lengthBytes: number;
  /** Which structure this points to. */
  readonly structure: VirtioStructure;
  /** `cfg_type` as read. */
  readonly cfgType: number;
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

const STRUCTURES: ReadonlyMap<number, VirtioStructure> = new Map(
  Object.entries(VIRTIO_CFG_TYPE).map(([name, type]) => [type, name as VirtioStructure]),
);

/**
 * Decodes a virtio capability; `undefined` when it is shorter than `struct virtio_pci_cap`.
 *
 * `virtio_pci_vndr_data` (type 9) is the one structure that is shorter: it points nowhere.
 */
export function decodeVirtio(window: CapabilityWindow, lengthBytes: number): VirtioCapability | undefined {
  if (lengthBytes < 4) return undefined;
  const cfgType = window.read8(3);
  const structure = STRUCTURES.get(cfgType) ?? "reserved";
  const common = { ...window.header, kind: "virtio", lengthBytes, structure, cfgType } as const;
  if (structure === "vendor") {
    if (lengthBytes < 6) return undefined;
    const dataVendorId = window.read16(4);
    return {
      ...common,
      bar: 0,
      structureId: 0,
      regionOffset: 0,
      regionLength: 0,
      dataVendorId,
      usable: true,
      problems: [],
    };
  }
  if (lengthBytes < 16) return undefined;

  const bar = window.read8(4), structureId = window.read8(5);
  let regionOffset = window.read32(8), regionLength = window.read32(12);
  const problems: string[] = [];
  const extra: { notifyOffMultiplier?: number; pciCfgData?: Uint8Array } = {};
  if (structure === "sharedMemory") {
    if (lengthBytes >= 24) {
      regionOffset += window.read32(16) * 2 ** 32;
      regionLength += window.read32(20) * 2 ** 32;
    } else problems.push(`cap_len ${lengthBytes} has no room for the upper halves of offset and length`);
  } else if (structure === "notify") {
    if (lengthBytes >= 20) extra.notifyOffMultiplier = window.read32(16);
    else problems.push(`cap_len ${lengthBytes} has no room for notify_off_multiplier`);
  } else if (structure === "pciCfg") {
    if (lengthBytes >= 20) extra.pciCfgData = window.copy(16, 4);
    else problems.push(`cap_len ${lengthBytes} has no room for pci_cfg_data`);
  } else if (structure === "reserved") {
    problems.push(`cfg_type ${cfgType} is reserved`);
  }
  // The access window's BAR field is for the driver to write, so whatever it holds is not a fault.
  if (bar > 5 && structure !== "pciCfg") problems.push(`bar ${bar} is reserved`);
  // No BAR reaches 2^53 bytes, and above that the numbers here would no longer be exact.
  if (!Number.isSafeInteger(regionOffset + regionLength)) problems.push("offset + length is beyond 2^53");
  return {
    ...common,
    bar,
    structureId,
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
  for (const capability of capabilities) {
    if (!isVirtio(capability)) continue;
    if (capability.structure === structure && capability.usable) return capability;
  }
  return undefined;
}

/** Usable shared memory regions by region id; of two with the same id, the first. */
export function findSharedMemory(
  capabilities: Iterable<{ readonly kind: string }>,
): Map<number, VirtioCapability> {
  const regions = new Map<number, VirtioCapability>();
  for (const capability of capabilities) {
    if (!isVirtio(capability) || capability.structure !== "sharedMemory" || !capability.usable) continue;
    if (!regions.has(capability.structureId)) regions.set(capability.structureId, capability);
  }
  return regions;
}

function isVirtio(capability: { readonly kind: string }): capability is VirtioCapability {
  return capability.kind === "virtio";
}
