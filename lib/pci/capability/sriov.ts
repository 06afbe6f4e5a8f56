/**
 * Single Root I/O Virtualization, extended ID 0x0010 (PCIe 6.0 §9.3.3): how many VFs a PF can have, where they
 * are, and what their BARs look like.
 *
 * @module
 */

import type { PciAddress } from "../address.ts";
import { type BaseAddress, decodeBaseAddresses } from "../base_address.ts";
import type { RegisterValue } from "../../registers/declaration.ts";
import type { BarPlace } from "./msix.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const SRIOV_BYTES = 0x40;

/** Byte offsets inside the structure, for those who write to a live PF. */
export const SRIOV_OFFSET = {
  capabilities: 0x04,
  control: 0x08,
  status: 0x0a,
  initialVfs: 0x0c,
  totalVfs: 0x0e,
  numVfs: 0x10,
  functionDependencyLink: 0x12,
  firstVfOffset: 0x14,
  vfStride: 0x16,
  vfDeviceId: 0x1a,
  supportedPageSizes: 0x1c,
  systemPageSize: 0x20,
  vfBar0: 0x24,
  vfMigrationStateArray: 0x3c,
} as const;

/** SR-IOV Capabilities, offset 0x04. */
export const SRIOV_CAPABILITIES = {
  name: "SR-IOV Capabilities",
  offset: 0x04,
  width: 4,
  fields: {
    vfMigration: { bits: 0, access: "RO", label: "Migration" },
    ariCapableHierarchyPreserved: { bits: 1, access: "RO", label: "ARIPreserved" },
    vf10BitTagRequester: { bits: 2, access: "HwInit", label: "10BitTagReq" },
    migrationInterruptMessageNumber: { bits: [31, 21], access: "RO" },
  },
} as const;

/** SR-IOV Control, offset 0x08. */
export const SRIOV_CONTROL = {
  name: "SR-IOV Control",
  offset: 0x08,
  width: 2,
  fields: {
    vfEnable: { bits: 0, access: "RW", label: "Enable" },
    vfMigrationEnable: { bits: 1, access: "RW", label: "Migration" },
    vfMigrationInterruptEnable: { bits: 2, access: "RW", label: "Interrupt" },
    vfMemorySpaceEnable: { bits: 3, access: "RW", label: "MSE" },
    ariCapableHierarchy: { bits: 4, access: "RW", label: "ARIHierarchy" },
    vf10BitTagRequesterEnable: { bits: 5, access: "RW", label: "10BitTagReq" },
  },
} as const;

/** SR-IOV Status, offset 0x0a. */
export const SRIOV_STATUS = {
  name: "SR-IOV Status",
  offset: 0x0a,
  width: 2,
  fields: { vfMigration: { bits: 0, access: "RW1C", label: "Migration" } },
} as const;

/** Decoded SR-IOV capability. */
export interface SriovCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "sr-iov";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** What the PF can do. */
  readonly capabilities: RegisterValue<typeof SRIOV_CAPABILITIES>;
  /** Control, VF Enable among it. */
  readonly control: RegisterValue<typeof SRIOV_CONTROL>;
  /** Status. */
  readonly status: RegisterValue<typeof SRIOV_STATUS>;
  /** VFs initially associated with the PF. */
  readonly initialVfs: number;
  /** Most VFs that the PF could ever have; equals `initialVfs` without VF migration. */
  readonly totalVfs: number;
  /** VFs that software has asked for. */
  readonly numVfs: number;
  /** PF that this one depends on, as a function number; its own when there is none. */
  readonly functionDependencyLink: number;
  /** From the PF's routing ID to that of the first VF. May change with NumVFs and ARI Capable Hierarchy. */
  readonly firstVfOffset: number;
  /** From one VF's routing ID to the next. May change with NumVFs and ARI Capable Hierarchy. */
  readonly vfStride: number;
  /** Device ID of the VFs; their vendor ID is the PF's. */
  readonly vfDeviceId: number;
  /** Bit n: a page of 2^(n+12) bytes is supported. */
  readonly supportedPageSizes: number;
  /** The one bit that software has chosen out of `supportedPageSizes`. */
  readonly systemPageSize: number;
  /** `systemPageSize` in bytes; 0 when the register holds no single bit. */
  readonly systemPageBytes: number;
  /** VF BARs. A VF BAR's address is that of the first VF's region; the others follow it back to back. */
  readonly vfBars: readonly BaseAddress[];
  /** Where the VF Migration State Array is; without meaning unless VF migration is supported. */
  readonly vfMigrationStateArray: BarPlace;
}

/** Decodes an SR-IOV capability. */
export function decodeSriov(window: CapabilityWindow): SriovCapability {
  window.require(SRIOV_BYTES);
  const systemPageSize = window.read32(SRIOV_OFFSET.systemPageSize);
  const migration = window.read32(SRIOV_OFFSET.vfMigrationStateArray);
  return {
    ...window.header,
    kind: "sr-iov",
    lengthBytes: SRIOV_BYTES,
    capabilities: window.register(SRIOV_CAPABILITIES),
    control: window.register(SRIOV_CONTROL),
    status: window.register(SRIOV_STATUS),
    initialVfs: window.read16(SRIOV_OFFSET.initialVfs),
    totalVfs: window.read16(SRIOV_OFFSET.totalVfs),
    numVfs: window.read16(SRIOV_OFFSET.numVfs),
    functionDependencyLink: window.read8(SRIOV_OFFSET.functionDependencyLink),
    firstVfOffset: window.read16(SRIOV_OFFSET.firstVfOffset),
    vfStride: window.read16(SRIOV_OFFSET.vfStride),
    vfDeviceId: window.read16(SRIOV_OFFSET.vfDeviceId),
    supportedPageSizes: window.read32(SRIOV_OFFSET.supportedPageSizes),
    systemPageSize,
    systemPageBytes: isSingleBit(systemPageSize) ? systemPageSize * 4096 : 0,
    vfBars: decodeBaseAddresses((offset) => window.read32(offset), SRIOV_OFFSET.vfBar0, 6),
    vfMigrationStateArray: { bar: migration & 7, offset: (migration & ~7) >>> 0 },
  };
}

/**
 * Addresses of the VFs that are enabled right now: none while VF Enable is clear.
 *
 * @throws {UsageError} when the device places a VF past the last bus
 */
export function enabledVfAddresses(pf: PciAddress, sriov: SriovCapability): PciAddress[] {
  if (!sriov.control.vfEnable) return [];
  return Array.from({ length: sriov.numVfs }, (_, index) => pf.vf(index, sriov));
}

function isSingleBit(value: number): boolean {
  return value !== 0 && (value & (value - 1)) === 0;
}
