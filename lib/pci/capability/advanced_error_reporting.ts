/**
 * Advanced Error Reporting, extended ID 0x0001 (PCIe 6.0 §7.8.4).
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size in bytes of the structure with its TLP prefix log, as an endpoint of version 2 has it. */
export const ADVANCED_ERROR_REPORTING_BYTES = 0x48;

/** Uncorrectable Error Status, offset 0x04. Mask (0x08) and Severity (0x0c) have the same bits. */
export const UNCORRECTABLE_STATUS = {
  name: "Uncorrectable Error Status",
  offset: 0x04,
  width: 4,
  fields: {
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
  },
} as const;

/** Uncorrectable Error Mask, offset 0x08. */
export const UNCORRECTABLE_MASK: SameBits<typeof UNCORRECTABLE_STATUS.fields> = withAccess(
  UNCORRECTABLE_STATUS,
  "Uncorrectable Error Mask",
  0x08,
);
/** Uncorrectable Error Severity, offset 0x0c: 1 = fatal. */
export const UNCORRECTABLE_SEVERITY: SameBits<typeof UNCORRECTABLE_STATUS.fields> = withAccess(
  UNCORRECTABLE_STATUS,
  "Uncorrectable Error Severity",
  0x0c,
);

/** Correctable Error Status, offset 0x10. Mask (0x14) has the same bits. */
export const CORRECTABLE_STATUS = {
  name: "Correctable Error Status",
  offset: 0x10,
  width: 4,
  fields: {
    receiverError: { bits: 0, access: "RW1CS", label: "RxErr" },
    badTlp: { bits: 6, access: "RW1CS", label: "BadTLP" },
    badDllp: { bits: 7, access: "RW1CS", label: "BadDLLP" },
    replayNumberRollover: { bits: 8, access: "RW1CS", label: "Rollover" },
    replayTimerTimeout: { bits: 12, access: "RW1CS", label: "Timeout" },
    advisoryNonFatal: { bits: 13, access: "RW1CS", label: "AdvNonFatalErr" },
    correctedInternal: { bits: 14, access: "RW1CS", label: "CorrIntErr" },
    headerLogOverflow: { bits: 15, access: "RW1CS", label: "HeaderOF" },
  },
} as const;

/** Correctable Error Mask, offset 0x14. */
export const CORRECTABLE_MASK: SameBits<typeof CORRECTABLE_STATUS.fields> = withAccess(
  CORRECTABLE_STATUS,
  "Correctable Error Mask",
  0x14,
);

/** Advanced Error Capabilities and Control, offset 0x18. */
export const AER_CONTROL = {
  name: "Advanced Error Capabilities and Control",
  offset: 0x18,
  width: 4,
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
} as const;

/** Root Error Command, offset 0x2c (root ports and event collectors). */
export const ROOT_ERROR_COMMAND = {
  name: "Root Error Command",
  offset: 0x2c,
  width: 4,
  fields: {
    correctable: { bits: 0, access: "RW", label: "CERptEn" },
    nonFatal: { bits: 1, access: "RW", label: "NFERptEn" },
    fatal: { bits: 2, access: "RW", label: "FERptEn" },
  },
} as const;

/** Root Error Status, offset 0x30 (root ports and event collectors). */
export const ROOT_ERROR_STATUS = {
  name: "Root Error Status",
  offset: 0x30,
  width: 4,
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
} as const;

/** Registers that only root ports and event collectors have. */
export interface RootErrors {
  /** Root Error Command. */
  readonly command: RegisterValue<typeof ROOT_ERROR_COMMAND>;
  /** Root Error Status. */
  readonly status: RegisterValue<typeof ROOT_ERROR_STATUS>;
  /** Routing ID of the sender of the first correctable error. */
  readonly correctableSource: number;
  /** Routing ID of the sender of the first uncorrectable error. */
  readonly uncorrectableSource: number;
}

/** Decoded Advanced Error Reporting capability. */
export interface AdvancedErrorReportingCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "advanced-error-reporting";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** Errors seen. */
  readonly uncorrectableStatus: RegisterValue<typeof UNCORRECTABLE_STATUS>;
  /** Errors not reported. */
  readonly uncorrectableMask: RegisterValue<typeof UNCORRECTABLE_STATUS>;
  /** Errors that count as fatal. */
  readonly uncorrectableSeverity: RegisterValue<typeof UNCORRECTABLE_STATUS>;
  /** Correctable errors seen. */
  readonly correctableStatus: RegisterValue<typeof CORRECTABLE_STATUS>;
  /** Correctable errors not reported. */
  readonly correctableMask: RegisterValue<typeof CORRECTABLE_STATUS>;
  /** Capabilities and control. */
  readonly control: RegisterValue<typeof AER_CONTROL>;
  /** The four dwords of the TLP header that the first error pointer is about. */
  readonly headerLog: readonly number[];
  /** Root registers; only when the structure has room for them, and meaningful on root ports only. */
  readonly root?: RootErrors;
}

/** Decodes an Advanced Error Reporting capability. */
export function decodeAdvancedErrorReporting(window: CapabilityWindow): AdvancedErrorReportingCapability {
  window.require(0x2c);
  const lengthBytes = Math.min(
    window.header.version >= 2 ? ADVANCED_ERROR_REPORTING_BYTES : 0x38,
    window.availableBytes,
  );
  return {
    ...window.header,
    kind: "advanced-error-reporting",
    lengthBytes,
    uncorrectableStatus: window.register(UNCORRECTABLE_STATUS),
    uncorrectableMask: window.register(UNCORRECTABLE_MASK),
    uncorrectableSeverity: window.register(UNCORRECTABLE_SEVERITY),
    correctableStatus: window.register(CORRECTABLE_STATUS),
    correctableMask: window.register(CORRECTABLE_MASK),
    control: window.register(AER_CONTROL),
    headerLog: [0x1c, 0x20, 0x24, 0x28].map((offset) => window.read32(offset)),
    ...(lengthBytes >= 0x38
      ? {
        root: {
          command: window.register(ROOT_ERROR_COMMAND),
          status: window.register(ROOT_ERROR_STATUS),
          correctableSource: window.read16(0x34),
          uncorrectableSource: window.read16(0x36),
        },
      }
      : {}),
  };
}

/** The mask and severity registers repeat the status bits, but as plain sticky read-write ones. */
function withAccess<F extends Readonly<Record<string, { readonly bits: number; readonly label: string }>>>(
  status: { readonly fields: F },
  name: string,
  offset: number,
): SameBits<F> {
  const fields = Object.fromEntries(
    Object.entries(status.fields).map(([field, { bits, label }]) => [field, { bits, label, access: "RWS" }]),
  );
  return { name, offset, width: 4, fields: fields as SameBits<F>["fields"] };
}

/** A register with the fields `F`, all of them sticky read-write single bits. */
export interface SameBits<F> {
  /** The standard's name for the register. */
  readonly name: string;
  /** Bytes from the start of the capability. */
  readonly offset: number;
  /** Width in bytes. */
  readonly width: 4;
  /** The fields. */
  readonly fields: {
    readonly [K in keyof F]: { readonly bits: number; readonly label: string; readonly access: "RWS" };
  };
}
