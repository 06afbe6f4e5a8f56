/**
 * Standard capabilities, other than PCI Express, as `lspci -vv` prints them.
 *
 * @module
 */

import {
  type AdvancedFeaturesCapability,
  AF_CAPABILITIES,
  AF_CONTROL,
  AF_STATUS,
} from "../capability/advanced_features.ts";
import type {
  EnhancedAllocationCapability,
  EnhancedAllocationEntry,
} from "../capability/enhanced_allocation.ts";
import { MSI_CONTROL, type MsiCapability } from "../capability/msi.ts";
import { MSIX_CONTROL, type MsixCapability } from "../capability/msix.ts";
import {
  POWER_MANAGEMENT_CAPABILITIES,
  POWER_MANAGEMENT_CONTROL,
  type PowerManagementCapability,
} from "../capability/power_management.ts";
import type { VirtioCapability, VirtioStructure } from "../capability/virtio.ts";
import { formatFlags } from "../../registers/declaration.ts";
import { flag, hex } from "./text.ts";

/** Lines of a Power Management capability. */
export function formatPowerManagement(cap: PowerManagementCapability): string[] {
  const c = cap.capabilities, s = cap.control;
  const states = ["pmeFromD0", "pmeFromD1", "pmeFromD2", "pmeFromD3Hot", "pmeFromD3Cold"] as const;
  const pme = states.map((state) => formatFlags(POWER_MANAGEMENT_CAPABILITIES, c, [state])).join(",");
  return [
    `Power Management version ${c.version}`,
    `\t\tFlags: ${
      formatFlags(POWER_MANAGEMENT_CAPABILITIES, c, [
        "pmeClock",
        "deviceSpecificInitialization",
        "d1Support",
        "d2Support",
      ])
    } AuxCurrent=${cap.auxiliaryCurrentMilliamperes}mA PME(${pme})`,
    `\t\tStatus: D${cap.powerState} ${
      formatFlags(POWER_MANAGEMENT_CONTROL, s, ["noSoftReset", "pmeEnable"])
    } DSel=${s.dataSelect} DScale=${s.dataScale} PME${flag(s.pmeStatus)}`,
  ];
}

/** Lines of an MSI capability. */
export function formatMsi(cap: MsiCapability): string[] {
  const lines = [
    `MSI: ${
      formatFlags(MSI_CONTROL, cap.control, ["enable"])
    } Count=${cap.vectorsEnabled}/${cap.vectorsCapable} ${
      formatFlags(MSI_CONTROL, cap.control, ["perVectorMasking", "address64"])
    }`,
    `\t\tAddress: ${hex(cap.address, cap.control.address64 ? 16 : 8)}  Data: ${hex(cap.data, 4)}`,
  ];
  if (cap.mask !== undefined && cap.pending !== undefined) {
    lines.push(`\t\tMasking: ${hex(cap.mask, 8)}  Pending: ${hex(cap.pending, 8)}`);
  }
  return lines;
}

/** Lines of an MSI-X capability. */
export function formatMsix(cap: MsixCapability): string[] {
  return [
    `MSI-X: ${formatFlags(MSIX_CONTROL, cap.control, ["enable"])} Count=${cap.vectorCount} ${
      formatFlags(MSIX_CONTROL, cap.control, ["functionMask"])
    }`,
    `\t\tVector table: BAR=${cap.table.bar} offset=${hex(cap.table.offset, 8)}`,
    `\t\tPBA: BAR=${cap.pendingBits.bar} offset=${hex(cap.pendingBits.offset, 8)}`,
  ];
}

const VIRTIO_NAMES: Readonly<Record<VirtioStructure, string>> = {
  common: "CommonCfg",
  notify: "Notify",
  isr: "ISR",
  device: "DeviceCfg",
  pciCfg: "PciCfg",
  sharedMemory: "SharedMemory",
  vendor: "VendorData",
  reserved: "<unknown>",
};

/** Lines of a virtio capability. `lspci` knows the first four structures; the others follow its pattern. */
export function formatVirtio(cap: VirtioCapability): string[] {
  const title = `Vendor Specific Information: VirtIO: ${VIRTIO_NAMES[cap.structure]}`;
  if (cap.dataVendorId !== undefined) {
    return [title, `\t\tVendor=${hex(cap.dataVendorId, 4)} Len=${cap.lengthBytes}`];
  }
  let place = `\t\tBAR=${cap.bar} offset=${hex(cap.regionOffset, 8)} size=${hex(cap.regionLength, 8)}`;
  if (cap.notifyOffMultiplier !== undefined) place += ` multiplier=${hex(cap.notifyOffMultiplier, 8)}`;
  if (cap.structure === "sharedMemory") place += ` id=${cap.structureId}`;
  return [title, place, ...cap.problems.map((problem) => `\t\t<ignored: ${problem}>`)];
}

/** Lines of an Advanced Features capability. */
export function formatAdvancedFeatures(cap: AdvancedFeaturesCapability): string[] {
  return [
    "PCI Advanced Features",
    `\t\tAFCap: ${formatFlags(AF_CAPABILITIES, cap.capabilities)}`,
    `\t\tAFCtrl: ${formatFlags(AF_CONTROL, cap.control)}`,
    `\t\tAFStatus: ${formatFlags(AF_STATUS, cap.status)}`,
  ];
}

const EA_PROPERTIES: Readonly<Record<number, string>> = {
  0x00: "memory space, non-prefetchable",
  0x01: "memory space, prefetchable",
  0x02: "I/O space",
  0x03: "VF memory space, prefetchable",
  0x04: "VF memory space, non-prefetchable",
  0x05: "allocation behind bridge, non-prefetchable memory",
  0x06: "allocation behind bridge, prefetchable memory",
  0x07: "allocation behind bridge, I/O space",
  0xfd: "memory space resource unavailable for use",
  0xfe: "I/O space resource unavailable for use",
  0xff: "entry unavailable for use, PrimaryProperties should be used",
};

/** Lines of an Enhanced Allocation capability. */
export function formatEnhancedAllocation(cap: EnhancedAllocationCapability): string[] {
  const buses = cap.fixedBuses === undefined
    ? ""
    : `, secondary=${cap.fixedBuses.secondary}, subordinate=${cap.fixedBuses.subordinate}`;
  return [
    `Enhanced Allocation (EA): NumEntries=${cap.entries.length}${buses}`,
    ...cap.entries.flatMap(allocationLines),
  ];
}

function allocationLines(entry: EnhancedAllocationEntry, index: number): string[] {
  return [
    `\t\tEntry ${index}: Enable${flag(entry.enabled)} Writable${flag(entry.writable)} ` +
    `EntrySize=${entry.lengthBytes / 4 - 1}`,
    `\t\t\t BAR Equivalent Indicator: ${barEquivalentText(entry.barEquivalent)}`,
    `\t\t\t PrimaryProperties: ${EA_PROPERTIES[entry.primaryProperties] ?? "[reserved]"}`,
    `\t\t\t SecondaryProperties: ${EA_PROPERTIES[entry.secondaryProperties] ?? "[reserved]"}`,
    `\t\t\t Base: ${hex(entry.base, 8)}`,
    `\t\t\t MaxOffset: ${hex(entry.maxOffset, 9)}`,
  ];
}

function barEquivalentText(code: number): string {
  if (code <= 5) return `BAR ${code}`;
  if (code === 6) return "resource behind function";
  if (code === 7) return "not indicated";
  if (code === 8) return "expansion ROM";
  return code <= 14 ? `VF-BAR ${code - 9}` : "reserved";
}
