/**
 * Single Root I/O Virtualization, extended ID 0x0010 (PCIe 6.0 §9.3.3): how many VFs a PF can have, where they
 * are, and what their BARs look like.
 *
 * @module
 */

import { typedCall } from "../../errors/doors.ts";
import type { PciAddress } from "../address.ts";
import { type BaseAddress, decodeBaseAddresses } from "../base_address.ts";
import { type BarPlace, barPlace } from "./msix.ts";
import type { CapabilityDeclaration, Decoded } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** What the registers of SR-IOV say in other words. */
export interface SriovFacts {
  /** System Page Size in bytes; 0 when the register holds no single bit. */
  readonly systemPageBytes: number;
  /** VF BARs. A VF BAR's address is that of the first VF's region; the others follow it back to back. */
  readonly vfBars: readonly BaseAddress[];
  /** Where the VF Migration State Array is; without meaning unless VF migration is supported. */
  readonly vfMigrationStateArray: BarPlace;
}

/** Single Root I/O Virtualization. */
export const SRIOV = {
  list: "extended",
  id: 0x0010,
  kind: "sr-iov",
  title: "Single Root I/O Virtualization (SR-IOV)",
  lengthBytes: 0x40,
  registers: {
    /** SR-IOV Capabilities. */
    capabilities: {
      offset: 0x04,
      width: 4,
      text: "IOVCap:\tMigration± 10BitTagReq± Interrupt Message Number: {migrationInterruptMessageNumber:3}",
      fields: {
        vfMigration: { bits: 0, access: "RO", label: "Migration" },
        ariCapableHierarchyPreserved: { bits: 1, access: "RO", label: "ARIPreserved" },
        vf10BitTagRequester: { bits: 2, access: "HwInit", label: "10BitTagReq" },
        migrationInterruptMessageNumber: { bits: [31, 21], access: "RO" },
      },
    },
    /** SR-IOV Control. */
    control: {
      offset: 0x08,
      width: 2,
      text: "IOVCtl:\tEnable± Migration± Interrupt± MSE± ARIHierarchy± 10BitTagReq±",
      fields: {
        vfEnable: { bits: 0, access: "RW", label: "Enable" },
        vfMigrationEnable: { bits: 1, access: "RW", label: "Migration" },
        vfMigrationInterruptEnable: { bits: 2, access: "RW", label: "Interrupt" },
        vfMemorySpaceEnable: { bits: 3, access: "RW", label: "MSE" },
        ariCapableHierarchy: { bits: 4, access: "RW", label: "ARIHierarchy" },
        vf10BitTagRequesterEnable: { bits: 5, access: "RW", label: "10BitTagReq" },
      },
    },
    /** SR-IOV Status. */
    status: {
      offset: 0x0a,
      width: 2,
      text: "IOVSta:\tMigration±",
      fields: { vfMigration: { bits: 0, access: "RW1C", label: "Migration" } },
    },
    /** VFs initially associated with the PF. */
    initialVfs: {
      offset: 0x0c,
      width: 2,
      text:
        "Initial VFs: {initialVfs}, Total VFs: {totalVfs}, Number of VFs: {numVfs}, Function Dependency Link: {functionDependencyLink:2}",
    },
    /** Most VFs that the PF could ever have; equals InitialVFs without VF migration. */
    totalVfs: { offset: 0x0e, width: 2 },
    /** VFs that software has asked for. */
    numVfs: { offset: 0x10, width: 2, access: "RW" },
    /** PF that this one depends on, as a function number; its own when there is none. */
    functionDependencyLink: { offset: 0x12, width: 1 },
    /** From the PF's routing ID to that of the first VF. May change with NumVFs and ARI Capable Hierarchy. */
    firstVfOffset: {
      offset: 0x14,
      width: 2,
      text: "VF offset: {firstVfOffset}, stride: {vfStride}, Device ID: {vfDeviceId:4}",
    },
    /** From one VF's routing ID to the next. May change with NumVFs and ARI Capable Hierarchy. */
    vfStride: { offset: 0x16, width: 2 },
    /** Device ID of the VFs; their vendor ID is the PF's. */
    vfDeviceId: { offset: 0x1a, width: 2 },
    /** Bit n: a page of 2^(n+12) bytes is supported. */
    supportedPageSizes: {
      offset: 0x1c,
      width: 4,
      text: "Supported Page Size: {supportedPageSizes:8}, System Page Size: {systemPageSize:8}",
    },
    /** The one bit that software has chosen out of Supported Page Sizes. */
    systemPageSize: { offset: 0x20, width: 4 },
    /** VF BAR 0 to VF BAR 5. */
    vfBars: { offset: 0x24, width: 4, strideBytes: 4 },
    /** VF Migration State Offset in the upper bits, BIR in the lower three. */
    vfMigrationStateArray: { offset: 0x3c, width: 4 },
  },
  derive: (window: CapabilityWindow): SriovFacts => {
    const { systemPageSize, vfBars, vfMigrationStateArray } = SRIOV.registers;
    const pageSize = window.register(systemPageSize);
    return {
      systemPageBytes: isSingleBit(pageSize) ? pageSize * 4096 : 0,
      vfBars: decodeBaseAddresses((offset) => window.read(offset, 4), vfBars.offset, 6),
      vfMigrationStateArray: barPlace(window.register(vfMigrationStateArray)),
    };
  },
} as const satisfies CapabilityDeclaration;

/** Decoded SR-IOV capability. */
export type SriovCapability = Decoded<typeof SRIOV>;

/**
 * Addresses of the VFs that are enabled right now: none while VF Enable is clear.
 *
 * @throws {UsageError} when the device places a VF past the last bus
 */
export function enabledVfAddresses(pf: PciAddress, sriov: SriovCapability): PciAddress[] {
  return typedCall("enabledVfAddresses", [pf, sriov], () => {
    const count = sriov.control.vfEnable ? sriov.numVfs : 0;
    return Array.from({ length: count }, (_, index) => pf.vf(index, sriov));
  });
}

function isSingleBit(value: number): boolean {
  return value !== 0 && (value & (value - 1)) === 0;
}
