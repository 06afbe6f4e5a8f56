/**
 * Capability IDs and their names (PCI Code and ID Assignment Specification; kernel header `linux/pci_regs.h`).
 *
 * @module
 */

/** IDs of the standard list, which lies in the first 256 bytes. */
export const CAPABILITY_ID = {
  powerManagement: 0x01,
  vitalProductData: 0x03,
  msi: 0x05,
  vendorSpecific: 0x09,
  subsystemId: 0x0d,
  express: 0x10,
  msix: 0x11,
  advancedFeatures: 0x13,
  enhancedAllocation: 0x14,
} as const;

/** IDs of the extended list, which starts at 0x100. */
export const EXTENDED_CAPABILITY_ID = {
  advancedErrorReporting: 0x0001,
  virtualChannel: 0x0002,
  deviceSerialNumber: 0x0003,
  virtualChannelWithMfvc: 0x0009,
  vendorSpecific: 0x000b,
  accessControl: 0x000d,
  alternativeRoutingId: 0x000e,
  addressTranslation: 0x000f,
  sriov: 0x0010,
  pageRequest: 0x0013,
  resizableBar: 0x0015,
  tphRequester: 0x0017,
  latencyTolerance: 0x0018,
  secondaryExpress: 0x0019,
  pasid: 0x001b,
  downstreamPortContainment: 0x001d,
  l1Substates: 0x001e,
  precisionTimeMeasurement: 0x001f,
  designatedVendorSpecific: 0x0023,
  vfResizableBar: 0x0024,
} as const;

const NAMES: Readonly<Record<number, string>> = {
  0x00: "Null",
  0x01: "Power Management",
  0x02: "AGP",
  0x03: "Vital Product Data",
  0x04: "Slot ID",
  0x05: "MSI",
  0x06: "CompactPCI hot-swap",
  0x07: "PCI-X",
  0x08: "HyperTransport",
  0x09: "Vendor Specific Information",
  0x0a: "Debug port",
  0x0b: "CompactPCI central resource control",
  0x0c: "Hot-plug capable",
  0x0d: "Subsystem",
  0x0e: "AGP3",
  0x0f: "Secure device",
  0x10: "Express",
  0x11: "MSI-X",
  0x12: "SATA HBA",
  0x13: "PCI Advanced Features",
  0x14: "Enhanced Allocation (EA)",
  0x15: "Flattening Portal Bridge",
};

const EXTENDED_NAMES: Readonly<Record<number, string>> = {
  0x0000: "Null",
  0x0001: "Advanced Error Reporting",
  0x0002: "Virtual Channel",
  0x0003: "Device Serial Number",
  0x0004: "Power Budgeting",
  0x0005: "Root Complex Link",
  0x0006: "Root Complex Internal Link",
  0x0007: "Root Complex Event Collector Endpoint Association",
  0x0008: "Multi-Function Virtual Channel",
  0x0009: "Virtual Channel",
  0x000a: "Root Bridge Control Block",
  0x000b: "Vendor Specific Information",
  0x000c: "Configuration Access Correlation",
  0x000d: "Access Control Services",
  0x000e: "Alternative Routing-ID Interpretation (ARI)",
  0x000f: "Address Translation Service (ATS)",
  0x0010: "Single Root I/O Virtualization (SR-IOV)",
  0x0011: "Multi-Root I/O Virtualization",
  0x0012: "Multicast",
  0x0013: "Page Request Interface (PRI)",
  0x0014: "Reserved for AMD",
  0x0015: "Physical Resizable BAR",
  0x0016: "Dynamic Power Allocation",
  0x0017: "Transaction Processing Hints",
  0x0018: "Latency Tolerance Reporting",
  0x0019: "Secondary PCI Express",
  0x001a: "Protocol Multiplexing",
  0x001b: "Process Address Space ID (PASID)",
  0x001c: "LN Requester",
  0x001d: "Downstream Port Containment",
  0x001e: "L1 PM Substates",
  0x001f: "Precision Time Measurement",
  0x0020: "PCI Express over M_PHY",
  0x0021: "FRS Queueing",
  0x0022: "Readiness Time Reporting",
  0x0023: "Designated Vendor-Specific",
  0x0024: "VF Resizable BAR",
  0x0025: "Data Link Feature",
  0x0026: "Physical Layer 16.0 GT/s",
  0x0027: "Lane Margining at the Receiver",
  0x0028: "Hierarchy ID",
  0x0029: "Native PCIe Enclosure Management",
  0x002a: "Physical Layer 32.0 GT/s",
  0x002b: "Alternate Protocol",
  0x002c: "System Firmware Intermediary",
  0x002d: "Shadow Functions",
  0x002e: "Data Object Exchange",
  0x002f: "Device 3",
  0x0030: "Integrity & Data Encryption",
  0x0031: "Physical Layer 64.0 GT/s",
  0x0032: "Flit Logging",
  0x0033: "Flit Performance Measurement",
  0x0034: "Flit Error Injection",
};

/** Which of the two lists a capability is on. */
export type CapabilityListName = "standard" | "extended";

/** Name of a capability ID; `undefined` for an ID that this library has no name for. */
export function capabilityName(list: CapabilityListName, id: number): string | undefined {
  return (list === "standard" ? NAMES : EXTENDED_NAMES)[id];
}
