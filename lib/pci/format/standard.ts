/**
 * Standard capabilities as `lspci -vv` prints them.
 *
 * @module
 */

import type { EnhancedAllocationEntry } from "../capability/enhanced_allocation.ts";
import type { VirtioCapability, VirtioStructure } from "../capability/virtio.ts";
import { declaredLines } from "./declared.ts";
import { formatExpress } from "./express.ts";
import { subsystemText } from "./header.ts";
import type { CapabilityFormats } from "./options.ts";
import { hex } from "../hex.ts";
import { flag } from "./text.ts";

/** What the declarations of the standard list do not say. */
export const STANDARD_FORMATS: CapabilityFormats = {
  msi: (cap) => [
    ...declaredLines(cap),
    `\t\tAddress: ${hex(cap.address, cap.control.address64 ? 16 : 8)}  Data: ${hex(cap.data, 4)}`,
    ...(cap.mask === undefined || cap.pending === undefined
      ? []
      : [`\t\tMasking: ${hex(cap.mask, 8)}  Pending: ${hex(cap.pending, 8)}`]),
  ],
  "power-management": (cap) => [
    ...declaredLines(cap),
    ...(cap.bridge.raw === 0
      ? []
      : [`\t\tBridge: PM${flag(cap.bridge.busPowerControl)} B3${flag(!cap.bridge.b2)}`]),
  ],
  sata: ({ name, revision, place, location }) => {
    const where = location === undefined
      ? `BAR??${place.bar}`
      : location === "configuration"
      ? "InCfgSpace"
      : `BAR${location} Offset=${hex(place.offset, 8)}`;
    return [`${name} v${revision.major}.${revision.minor} ${where}`];
  },
  virtio: virtioLines,
  "subsystem-id": ({ subsystem }, { config, names }) => [
    `Subsystem: ${subsystemText(config, names, subsystem.vendorId, subsystem.deviceId)}`,
  ],
  express: formatExpress,
  "enhanced-allocation": ({ name, fixedBuses, entries }) => {
    const buses = fixedBuses === undefined
      ? ""
      : `, secondary=${fixedBuses.secondary}, subordinate=${fixedBuses.subordinate}`;
    return [`${name}: NumEntries=${entries.length}${buses}`, ...entries.flatMap(allocationLines)];
  },
};

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

/** `lspci` knows the first four structures; the others follow its pattern. */
function virtioLines(cap: VirtioCapability): string[] {
  const title = `Vendor Specific Information: VirtIO: ${VIRTIO_NAMES[cap.structure]}`;
  if (cap.dataVendorId !== undefined) {
    return [title, `\t\tVendor=${hex(cap.dataVendorId, 4)} Len=${cap.lengthBytes}`];
  }
  let place = `\t\tBAR=${cap.bar} offset=${hex(cap.regionOffset, 8)} size=${hex(cap.regionLength, 8)}`;
  if (cap.notifyOffMultiplier !== undefined) place += ` multiplier=${hex(cap.notifyOffMultiplier, 8)}`;
  if (cap.structure === "sharedMemory") place += ` id=${cap.structureId}`;
  return [title, place, ...cap.problems.map((problem) => `\t\t<ignored: ${problem}>`)];
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

function allocationLines(entry: EnhancedAllocationEntry, index: number): string[] {
  return [
    `\t\tEntry ${index}: Enable${flag(entry.enabled)} Writable${flag(entry.writable)} ` +
    `EntrySize=${entry.lengthBytes / 4 - 1}`,
    `\t\t\t BAR Equivalent Indicator: ${barEquivalentText(entry.barEquivalent)}`,
    `\t\t\t PrimaryProperties: ${
      entry.primaryProperties === 0xff ? "entry unavailable for use" : propertyText(entry.primaryProperties)
    }`,
    `\t\t\t SecondaryProperties: ${propertyText(entry.secondaryProperties)}`,
    // An upper half is printed where there is one, be it 0.
    `\t\t\t Base: ${hex(entry.base, entry.baseBits === 64 ? 9 : 8)}`,
    `\t\t\t MaxOffset: ${hex(entry.maxOffset, entry.maxOffsetBits === 64 ? 9 : 8)}`,
  ];
}

function propertyText(code: number): string {
  return EA_PROPERTIES[code] ?? `[${hex(code, 2)}]`;
}

function barEquivalentText(code: number): string {
  if (code <= 5) return `BAR ${code}`;
  if (code === 6) return "resource behind function";
  if (code === 7) return "not indicated";
  if (code === 8) return "expansion ROM";
  return code <= 14 ? `VF-BAR ${code - 9}` : "reserved";
}
