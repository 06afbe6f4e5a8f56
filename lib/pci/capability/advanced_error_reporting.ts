/**
 * Advanced Error Reporting, extended ID 0x0001 (PCIe 6.0 §7.8.4).
 *
 * @module
 */

import type { RegisterTable, RegisterValues } from "../../registers/declaration.ts";
import { type CapabilityDeclaration, type Repeated, repeated } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** Uncorrectable errors, as the status register has them. Mask and severity have the same bits. */
const UNCORRECTABLE = {
  dataLinkProtocol: { bits: 4, access: "RW1CS", label: "DLP" },
  surpriseDown: { bits: 5, access: "RW1CS", label: "SDES" },
  poisonedTlp: { bits: 12, access: "RW1CS", label: "TLP" },
  flowControlProtocol: { bits: 13, access: "RW1CS", label: "FCP" },
  completionTimeout: { bits: 14, access: "RW1CS", label: "CmpltTO" },
  completerAbort: { bits: 15, access: "RW1CS", label: "CmpltAbrt" },
  unexpectedCompletion: { bits: 16, access: "RW1CS", label: "UnxCmplt" },
  receiverOverflow: { bits: 17, access: "RW1CS", label: "RxOF" },
  malformedTlp: { bits: 18, access: "RW1CS", label: "MalfTLP" },
  ecrc: { bits: 19, access: "RW1CS", label: "ECRC" },
  unsupportedRequest: { bits: 20, access: "RW1CS", label: "UnsupReq" },
  acsViolation: { bits: 21, access: "RW1CS", label: "ACSViol" },
  uncorrectableInternal: { bits: 22, access: "RW1CS", label: "UncorrIntErr" },
  multicastBlocked: { bits: 23, access: "RW1CS", label: "BlockedTLP" },
  atomicOpBlocked: { bits: 24, access: "RW1CS", label: "AtomicOpBlocked" },
  tlpPrefixBlocked: { bits: 25, access: "RW1CS", label: "TLPBlockedErr" },
  poisonedTlpBlocked: { bits: 26, access: "RW1CS", label: "PoisonTLPBlocked" },
} as const;

/** Correctable errors, as the status register has them. The mask has the same bits. */
const CORRECTABLE = {
  receiverError: { bits: 0, access: "RW1CS", label: "RxErr" },
  badTlp: { bits: 6, access: "RW1CS", label: "BadTLP" },
  badDllp: { bits: 7, access: "RW1CS", label: "BadDLLP" },
  replayNumberRollover: { bits: 8, access: "RW1CS", label: "Rollover" },
  replayTimerTimeout: { bits: 12, access: "RW1CS", label: "Timeout" },
  advisoryNonFatal: { bits: 13, access: "RW1CS", label: "AdvNonFatalErr" },
  correctedInternal: { bits: 14, access: "RW1CS", label: "CorrIntErr" },
  headerLogOverflow: { bits: 15, access: "RW1CS", label: "HeaderOF" },
} as const;

/** Errors that `lspci` names; it leaves later additions out. */
const UNCORRECTABLE_FLAGS =
  "DLP± SDES± TLP± FCP± CmpltTO± CmpltAbrt± UnxCmplt± RxOF± MalfTLP± ECRC± UnsupReq± ACSViol±";
const CORRECTABLE_FLAGS = "RxErr± BadTLP± BadDLLP± Rollover± Timeout± AdvNonFatalErr±";
// In the registers that repeat the bits of a status register they are plain sticky read-write ones.
const UNCORRECTABLE_STICKY: Repeated<typeof UNCORRECTABLE, "RWS"> = repeated(UNCORRECTABLE, "RWS");
const CORRECTABLE_STICKY: Repeated<typeof CORRECTABLE, "RWS"> = repeated(CORRECTABLE, "RWS");

/** Registers that only root ports and event collectors have. */
export const ROOT_ERROR_REGISTERS = {
  /** Root Error Command (root ports and event collectors). */
  command: {
    offset: 0x2c,
    width: 4,
    text: "RootCmd: CERptEn± NFERptEn± FERptEn±",
    fields: {
      correctable: { bits: 0, access: "RW", label: "CERptEn" },
      nonFatal: { bits: 1, access: "RW", label: "NFERptEn" },
      fatal: { bits: 2, access: "RW", label: "FERptEn" },
    },
  },
  /** Root Error Status (root ports and event collectors). */
  status: {
    offset: 0x30,
    width: 4,
    text:
      "RootSta: CERcvd± MultCERcvd± UERcvd± MultUERcvd±\n\t FirstFatal± NonFatalMsg± FatalMsg± IntMsg {interruptMessageNumber}",
    fields: {
      correctableReceived: { bits: 0, access: "RW1CS", label: "CERcvd" },
      multipleCorrectable: { bits: 1, access: "RW1CS", label: "MultCERcvd" },
      uncorrectableReceived: { bits: 2, access: "RW1CS", label: "UERcvd" },
      multipleUncorrectable: { bits: 3, access: "RW1CS", label: "MultUERcvd" },
      firstFatal: { bits: 4, access: "RW1CS", label: "FirstFatal" },
      nonFatalReceived: { bits: 5, access: "RW1CS", label: "NonFatalMsg" },
      fatalReceived: { bits: 6, access: "RW1CS", label: "FatalMsg" },
      interruptMessageNumber: { bits: [31, 27], access: "RO" },
    },
  },
  /** Routing ID of the sender of the first correctable error. */
  correctableSource: {
    offset: 0x34,
    width: 2,
    text: "ErrorSrc: ERR_COR: {correctableSource:4} ERR_FATAL/NONFATAL: {uncorrectableSource:4}",
  },
  /** Routing ID of the sender of the first uncorrectable error. */
  uncorrectableSource: { offset: 0x36, width: 2 },
} as const satisfies RegisterTable;

/** What Advanced Error Reporting holds besides. */
export interface ErrorDetails {
  /** The four dwords of the TLP header that the first error pointer is about. */
  readonly headerLog: readonly number[];
  /** Root registers; only when the structure has room for them, and meaningful on root ports only. */
  readonly root?: RegisterValues<typeof ROOT_ERROR_REGISTERS>;
}

/**
 * Bytes with the root registers, and with the TLP prefix log as well, which version 2 adds to functions that handle End-End TLP prefixes
 * (§7.8.4.12): others place the next capability where it would be.
 */
const BYTES = { withRoot: 0x38, withPrefixLog: 0x48 } as const;

/** Advanced Error Reporting. */
export const ADVANCED_ERROR_REPORTING = {
  list: "extended",
  id: 0x0001,
  kind: "advanced-error-reporting",
  title: "Advanced Error Reporting",
  lengthBytes: (window: CapabilityWindow): number => {
    window.require(0x2c);
    const hasLog = window.header.version >= 2 && window.hasEndToEndTlpPrefixes;
    return Math.min(hasLog ? BYTES.withPrefixLog : BYTES.withRoot, window.availableBytes);
  },
  registers: {
    /** Errors seen. */
    uncorrectableStatus: {
      offset: 0x04,
      width: 4,
      fields: UNCORRECTABLE,
      text: `UESta:\t${UNCORRECTABLE_FLAGS}`,
    },
    /** Errors not reported. */
    uncorrectableMask: {
      offset: 0x08,
      width: 4,
      fields: UNCORRECTABLE_STICKY,
      text: `UEMsk:\t${UNCORRECTABLE_FLAGS}`,
    },
    /** Errors that count as fatal. */
    uncorrectableSeverity: {
      offset: 0x0c,
      width: 4,
      fields: UNCORRECTABLE_STICKY,
      text: `UESvrt:\t${UNCORRECTABLE_FLAGS}`,
    },
    /** Correctable errors seen. */
    correctableStatus: { offset: 0x10, width: 4, fields: CORRECTABLE, text: `CESta:\t${CORRECTABLE_FLAGS}` },
    /** Correctable errors not reported. */
    correctableMask: {
      offset: 0x14,
      width: 4,
      fields: CORRECTABLE_STICKY,
      text: `CEMsk:\t${CORRECTABLE_FLAGS}`,
    },
    /** Advanced Error Capabilities and Control. */
    control: {
      offset: 0x18,
      width: 4,
      text:
        "AERCap:\tFirst Error Pointer: {firstErrorPointer:2}, ECRCGenCap± ECRCGenEn± ECRCChkCap± ECRCChkEn±\n\tMultHdrRecCap± MultHdrRecEn± TLPPfxPres± HdrLogCap±",
      fields: {
        firstErrorPointer: { bits: [4, 0], access: "ROS" },
        ecrcGenerationCapable: { bits: 5, access: "RO", label: "ECRCGenCap" },
        ecrcGenerationEnable: { bits: 6, access: "RWS", label: "ECRCGenEn" },
        ecrcCheckCapable: { bits: 7, access: "RO", label: "ECRCChkCap" },
        ecrcCheckEnable: { bits: 8, access: "RWS", label: "ECRCChkEn" },
        multipleHeaderRecordingCapable: { bits: 9, access: "RO", label: "MultHdrRecCap" },
        multipleHeaderRecordingEnable: { bits: 10, access: "RWS", label: "MultHdrRecEn" },
        tlpPrefixLogPresent: { bits: 11, access: "ROS", label: "TLPPfxPres" },
        completionTimeoutLogCapable: { bits: 12, access: "RO", label: "HdrLogCap" },
      },
    },
    /** The four dwords of the TLP header that the first error pointer is about. */
    headerLog: { offset: 0x1c, width: 4, strideBytes: 4 },
  },
  derive: (window: CapabilityWindow): ErrorDetails => ({
    headerLog: [0x1c, 0x20, 0x24, 0x28].map((offset) => window.read(offset, 4)),
    ...(window.availableBytes >= BYTES.withRoot ? { root: window.registers(ROOT_ERROR_REGISTERS) } : {}),
  }),
} as const satisfies CapabilityDeclaration;
