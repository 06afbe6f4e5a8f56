/**
 * Names of the capabilities that this library knows by name only (PCI Code and ID Assignment Specification; kernel header `linux/pci_regs.h`).
 *
 * @module
 */

const NAMES: Readonly<Record<number, string>> = {
  0x00: "Null",
  0x02: "AGP",
  0x04: "Slot ID",
  0x06: "CompactPCI hot-swap",
  0x07: "PCI-X",
  0x08: "HyperTransport",
  0x0b: "CompactPCI central resource control",
  0x0c: "Hot-plug capable",
  0x0e: "AGP3",
  0x0f: "Secure device",
  0x15: "Flattening Portal Bridge",
};

const EXTENDED_NAMES: Readonly<Record<number, string>> = {
  0x0000: "Null",
  0x0004: "Power Budgeting",
  0x0006: "Root Complex Internal Link",
  0x0008: "Multi-Function Virtual Channel",
  0x000a: "Root Complex Register Block",
  0x000c: "Configuration Access Correlation",
  0x0011: "Multi-Root I/O Virtualization",
  0x0014: "Reserved for AMD",
  0x0016: "Dynamic Power Allocation",
  0x001a: "Protocol Multiplexing",
  0x001c: "LN Requester",
  0x0020: "PCI Express over M_PHY",
  0x0021: "FRS Queueing",
  0x0022: "Readiness Time Reporting",
  0x0025: "Data Link Feature",
  0x0026: "Physical Layer 16.0 GT/s",
  0x0027: "Lane Margining at the Receiver",
  0x0028: "Hierarchy ID",
  0x0029: "Native PCIe Enclosure Management",
  0x002b: "Alternate Protocol",
  0x002c: "System Firmware Intermediary",
  0x002d: "Shadow Functions",
  0x002e: "Data Object Exchange",
  0x0032: "Flit Logging",
  0x0033: "Flit Performance Measurement",
  0x0034: "Flit Error Injection",
};

/** Which of the two lists a capability is on. */
export type CapabilityListName = "standard" | "extended";

/** Name of a capability ID that has no declaration; `undefined` for an ID that this library has no name for. */
export function capabilityName(list: CapabilityListName, id: number): string | undefined {
  return (list === "standard" ? NAMES : EXTENDED_NAMES)[id];
}
