/**
 * The registers that every configuration space begins with (PCIe 6.0 §7.5.1; kernel header `linux/pci_regs.h`).
 *
 * Access is that of a PCI Express function: bits that only conventional PCI used are declared `RO` because a PCIe
 * function hardwires them to 0.
 *
 * @module
 */

/** Size of the part of configuration space that all functions have, in bytes. */
export const HEADER_BYTES = 0x40;
/** Size of conventional configuration space, in bytes. */
export const CONVENTIONAL_BYTES = 0x100;
/** Size of PCI Express configuration space, in bytes. Extended capabilities start at 0x100. */
export const EXTENDED_BYTES = 0x1000;

/** Byte offsets of header fields. Those after `bist` differ by header type. */
export const HEADER_OFFSET = {
  vendorId: 0x00,
  deviceId: 0x02,
  command: 0x04,
  status: 0x06,
  revisionId: 0x08,
  classCode: 0x09,
  cacheLineSize: 0x0c,
  latencyTimer: 0x0d,
  headerType: 0x0e,
  bist: 0x0f,
  bar0: 0x10,
  cardbusCis: 0x28,
  subsystemVendorId: 0x2c,
  subsystemId: 0x2e,
  expansionRom: 0x30,
  capabilitiesPointer: 0x34,
  bridgeExpansionRom: 0x38,
  interruptLine: 0x3c,
  interruptPin: 0x3d,
  minGrant: 0x3e,
  maxLatency: 0x3f,
} as const;

/** Command register, offset 0x04. */
export const COMMAND = {
  name: "Command",
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
} as const;

/** Status register, offset 0x06. */
export const STATUS = {
  name: "Status",
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
} as const;

/** Secondary Status register of a bridge (header types 1 and 2). */
export const SECONDARY_STATUS = {
  name: "Secondary Status",
  offset: 0x1e,
  width: 2,
  fields: {
    capable66MHz: { bits: 5, access: "RO", label: "66MHz" },
    fastBackToBack: { bits: 7, access: "RO", label: "FastB2B" },
    masterDataParityError: { bits: 8, access: "RW1C", label: "ParErr" },
    deviceSelectTiming: { bits: [10, 9], access: "RO", label: "DEVSEL" },
    signaledTargetAbort: { bits: 11, access: "RW1C", label: ">TAbort" },
    receivedTargetAbort: { bits: 12, access: "RW1C", label: "<TAbort" },
    receivedMasterAbort: { bits: 13, access: "RW1C", label: "<MAbort" },
    receivedSystemError: { bits: 14, access: "RW1C", label: "<SERR" },
    detectedParityError: { bits: 15, access: "RW1C", label: "<PERR" },
  },
} as const;

/** Bridge Control register of header type 1, offset 0x3e. */
export const BRIDGE_CONTROL = {
  name: "Bridge Control",
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
} as const;

/** DEVSEL timing codes of the status registers, by value; PCIe functions always report 0. */
export const DEVICE_SELECT_TIMINGS: readonly string[] = ["fast", "medium", "slow", "??"];
