/**
 * The registers that every configuration space begins with (PCIe 6.0 §7.5.1; kernel header `linux/pci_regs.h`).
 *
 * Access is that of a PCI Express function: bits that only conventional PCI used are declared `RO` because a PCIe
 * function hardwires them to 0.
 *
 * @module
 */

import type { RegisterTable } from "../registers/declaration.ts";

/** Size of the part of configuration space that all functions have, in bytes. */
export const HEADER_BYTES = 0x40;
/** Size of conventional configuration space, in bytes. */
export const CONVENTIONAL_BYTES = 0x100;
/** Size of PCI Express configuration space, in bytes. Extended capabilities start at 0x100. */
export const EXTENDED_BYTES = 0x1000;

/** Registers of all header types up to `bist`, and of type 0 after it. */
export const HEADER = {
  vendorId: { offset: 0x00, width: 2 },
  deviceId: { offset: 0x02, width: 2 },
  command: {
    offset: 0x04,
    width: 2,
    fields: {
      ioSpace: { bits: 0, access: "RW", label: "I/O" },
      memorySpace: { bits: 1, access: "RW", label: "Mem" },
      busMaster: { bits: 2, access: "RW", label: "BusMaster" },
      specialCycles: { bits: 3, access: "RO", label: "SpecCycle" },
      memoryWriteInvalidate: { bits: 4, access: "RO", label: "MemWINV" },
      vgaPaletteSnoop: { bits: 5, access: "RO", label: "VGASnoop" },
      parityErrorResponse: { bits: 6, access: "RW", label: "ParErr" },
      stepping: { bits: 7, access: "RO", label: "Stepping" },
      serrEnable: { bits: 8, access: "RW", label: "SERR" },
      fastBackToBack: { bits: 9, access: "RO", label: "FastB2B" },
      interruptDisable: { bits: 10, access: "RW", label: "DisINTx" },
    },
  },
  status: {
    offset: 0x06,
    width: 2,
    fields: {
      immediateReadiness: { bits: 0, access: "RO", label: "ImmReady" },
      interrupt: { bits: 3, access: "RO", label: "INTx" },
      capabilitiesList: { bits: 4, access: "RO", label: "Cap" },
      capable66MHz: { bits: 5, access: "RO", label: "66MHz" },
      userDefinableFeatures: { bits: 6, access: "RO", label: "UDF" },
      fastBackToBack: { bits: 7, access: "RO", label: "FastB2B" },
      masterDataParityError: { bits: 8, access: "RW1C", label: "ParErr" },
      deviceSelectTiming: { bits: [10, 9], access: "RO", label: "DEVSEL" },
      signaledTargetAbort: { bits: 11, access: "RW1C", label: ">TAbort" },
      receivedTargetAbort: { bits: 12, access: "RW1C", label: "<TAbort" },
      receivedMasterAbort: { bits: 13, access: "RW1C", label: "<MAbort" },
      signaledSystemError: { bits: 14, access: "RW1C", label: ">SERR" },
      detectedParityError: { bits: 15, access: "RW1C", label: "<PERR" },
    },
  },
  /** Revision ID, and Class Code after it. */
  revisionId: {
    offset: 0x08,
    width: 4,
    fields: { revisionId: { bits: [7, 0], access: "RO" }, classCode: { bits: [31, 8], access: "RO" } },
  },
  /** Counts dwords. Without effect on PCIe. */
  cacheLineSize: { offset: 0x0c, width: 1 },
  /** 0 on PCIe. */
  latencyTimer: { offset: 0x0d, width: 1 },
  headerType: {
    offset: 0x0e,
    width: 1,
    fields: { layout: { bits: [6, 0], access: "RO" }, multiFunction: { bits: 7, access: "RO" } },
  },
  bist: { offset: 0x0f, width: 1 },
  /** BAR 0 to BAR 5; type 1 has two of them, type 2 one. */
  bars: { offset: 0x10, width: 4, strideBytes: 4 },
  cardbusCis: { offset: 0x28, width: 4 },
  subsystemVendorId: { offset: 0x2c, width: 2 },
  subsystemId: { offset: 0x2e, width: 2 },
  expansionRom: { offset: 0x30, width: 4 },
  /** Of types 0 and 1. */
  capabilitiesPointer: { offset: 0x34, width: 1 },
  /** Expansion ROM of type 1. */
  bridgeExpansionRom: { offset: 0x38, width: 4 },
  /** Of all types, as Interrupt Pin. */
  interruptLine: { offset: 0x3c, width: 1 },
  interruptPin: { offset: 0x3d, width: 1 },
  /** In quarters of a microsecond, as Max_Lat; 0 on PCIe. */
  minGrant: { offset: 0x3e, width: 1 },
  maxLatency: { offset: 0x3f, width: 1 },
} as const satisfies RegisterTable;

/** The bits of a bridge's secondary status. */
const SECONDARY_STATUS = {
  capable66MHz: { bits: 5, access: "RO", label: "66MHz" },
  fastBackToBack: { bits: 7, access: "RO", label: "FastB2B" },
  masterDataParityError: { bits: 8, access: "RW1C", label: "ParErr" },
  deviceSelectTiming: { bits: [10, 9], access: "RO", label: "DEVSEL" },
  signaledTargetAbort: { bits: 11, access: "RW1C", label: ">TAbort" },
  receivedTargetAbort: { bits: 12, access: "RW1C", label: "<TAbort" },
  receivedMasterAbort: { bits: 13, access: "RW1C", label: "<MAbort" },
  receivedSystemError: { bits: 14, access: "RW1C", label: "<SERR" },
  detectedParityError: { bits: 15, access: "RW1C", label: "<PERR" },
} as const;

/** Registers of header type 2, a CardBus bridge, but for its windows (PC Card Standard 8.0, vol. 2; kernel header `linux/pci_regs.h`). */
export const CARD_BUS = {
  /** Secondary Status. */
  secondaryStatus: { offset: 0x16, width: 2, fields: SECONDARY_STATUS },
  /** Bus number of the bridge's upstream side. */
  primaryBus: { offset: 0x18, width: 1 },
  /** Bus number of the CardBus. */
  cardBus: { offset: 0x19, width: 1 },
  /** Highest bus number behind the bridge. */
  subordinateBus: { offset: 0x1a, width: 1 },
  /** CardBus latency timer. */
  latencyTimer: { offset: 0x1b, width: 1 },
  /** Bridge Control. */
  control: {
    offset: 0x3e,
    width: 2,
    fields: {
      parityErrorResponse: { bits: 0, access: "RW", label: "Parity" },
      serrEnable: { bits: 1, access: "RW", label: "SERR" },
      isaEnable: { bits: 2, access: "RW", label: "ISA" },
      vgaEnable: { bits: 3, access: "RW", label: "VGA" },
      masterAbortMode: { bits: 5, access: "RW", label: "MAbort" },
      cardBusReset: { bits: 6, access: "RW", label: ">Reset" },
      interrupts16Bit: { bits: 7, access: "RW", label: "16bInt" },
      prefetchMemory0: { bits: 8, access: "RW" },
      prefetchMemory1: { bits: 9, access: "RW" },
      postedWrites: { bits: 10, access: "RW", label: "PostWrite" },
    },
  },
} as const satisfies RegisterTable;

/** Registers of header type 1, a PCI-to-PCI bridge or PCIe port, after its BARs (PCIe 6.0 §7.5.1.3). */
export const BRIDGE = {
  /** Bus number of the bridge's upstream side. */
  primaryBus: { offset: 0x18, width: 1 },
  /** Bus number directly behind the bridge. */
  secondaryBus: { offset: 0x19, width: 1 },
  /** Highest bus number behind the bridge. */
  subordinateBus: { offset: 0x1a, width: 1 },
  /** Secondary latency timer; 0 on PCIe. */
  secondaryLatencyTimer: { offset: 0x1b, width: 1 },
  /** Secondary Status. */
  secondaryStatus: {
    offset: 0x1e,
    width: 2,
    fields: SECONDARY_STATUS,
  },
  /** Bridge Control. */
  control: {
    offset: 0x3e,
    width: 2,
    fields: {
      parityErrorResponse: { bits: 0, access: "RW", label: "Parity" },
      serrEnable: { bits: 1, access: "RW", label: "SERR" },
      isaEnable: { bits: 2, access: "RW", label: "NoISA" },
      vgaEnable: { bits: 3, access: "RW", label: "VGA" },
      vga16BitDecode: { bits: 4, access: "RW", label: "VGA16" },
      masterAbortMode: { bits: 5, access: "RO", label: "MAbort" },
      secondaryBusReset: { bits: 6, access: "RW", label: ">Reset" },
      fastBackToBack: { bits: 7, access: "RO", label: "FastB2B" },
      primaryDiscardTimer: { bits: 8, access: "RO", label: "PriDiscTmr" },
      secondaryDiscardTimer: { bits: 9, access: "RO", label: "SecDiscTmr" },
      discardTimerStatus: { bits: 10, access: "RO", label: "DiscTmrStat" },
      discardTimerSerrEnable: { bits: 11, access: "RO", label: "DiscTmrSERREn" },
    },
  },
} as const satisfies RegisterTable;

/** DEVSEL timing codes of the status registers, by value; PCIe functions always report 0. */
export const DEVICE_SELECT_TIMINGS: readonly string[] = ["fast", "medium", "slow", "??"];
