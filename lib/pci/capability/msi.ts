/**
 * Message Signalled Interrupts, ID 0x05 (PCIe 6.0 §7.7.1).
 *
 * @module
 */

import type { RegisterTable } from "../../registers/declaration.ts";
import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** What follows Message Control where message addresses have 32 bits. Mask and pending bits are there with per-vector masking only. */
export const MSI_MESSAGE_32 = {
  address: { offset: 4, width: 4 },
  data: { offset: 8, width: 2, access: "RW" },
  mask: { offset: 12, width: 4 },
  pending: { offset: 16, width: 4, access: "R" },
} as const satisfies RegisterTable;

/** The same with addresses of 64 bits. */
export const MSI_MESSAGE_64 = {
  address: { offset: 4, width: 4 },
  upperAddress: { offset: 8, width: 4, access: "RW" },
  data: { offset: 12, width: 2, access: "RW" },
  mask: { offset: 16, width: 4 },
  pending: { offset: 20, width: 4, access: "R" },
} as const satisfies RegisterTable;

/** What MSI holds besides Message Control. */
export interface MsiFacts {
  /** Vectors that the function asks for: a power of two up to 32 (128 for the reserved code 7). */
  readonly vectorsCapable: number;
  /** Vectors that software has granted. */
  readonly vectorsEnabled: number;
  /** Message address. */
  readonly address: bigint;
  /** Message data of vector 0. */
  readonly data: number;
  /** One bit per vector, 1 = masked; only with per-vector masking. */
  readonly mask?: number;
  /** One bit per vector, 1 = pending; only with per-vector masking. */
  readonly pending?: number;
}

/** Message Signalled Interrupts: 10, 14, 20 or 24 bytes. */
export const MSI = {
  list: "standard",
  id: 0x05,
  kind: "msi",
  title: "MSI",
  heading:
    "MSI: Enable{control.enable} Count={vectorsEnabled}/{vectorsCapable} Maskable{control.perVectorMasking} 64bit{control.address64}",
  lengthBytes: (window: CapabilityWindow): number => {
    const { address64, perVectorMasking } = window.register(MSI.registers.control);
    return msiBytes(address64, perVectorMasking);
  },
  /** The register that says which others follow. */
  registers: {
    /** Message Control. */
    control: {
      offset: 2,
      width: 2,
      fields: {
        enable: { bits: 0, access: "RW", label: "Enable" },
        multipleMessageCapable: { bits: [3, 1], access: "RO" },
        multipleMessageEnable: { bits: [6, 4], access: "RW" },
        address64: { bits: 7, access: "RO", label: "64bit" },
        perVectorMasking: { bits: 8, access: "RO", label: "Maskable" },
        extendedMessageDataCapable: { bits: 9, access: "RO", label: "ExtMsgData" },
        extendedMessageDataEnable: { bits: 10, access: "RW", label: "ExtMsgDataEn" },
      },
    },
  },
  derive: (window: CapabilityWindow): MsiFacts => {
    const control = window.register(MSI.registers.control);
    const message = control.address64 ? MSI_MESSAGE_64 : MSI_MESSAGE_32;
    const upper = control.address64 ? window.register(MSI_MESSAGE_64.upperAddress) : 0;
    return {
      vectorsCapable: 1 << control.multipleMessageCapable,
      vectorsEnabled: 1 << control.multipleMessageEnable,
      address: BigInt(window.register(message.address)) | (BigInt(upper) << 32n),
      data: window.register(message.data),
      ...(control.perVectorMasking
        ? { mask: window.register(message.mask), pending: window.register(message.pending) }
        : {}),
    };
  },
} as const satisfies CapabilityDeclaration;

/** Size in bytes of an MSI capability with the given options. */
export function msiBytes(address64: boolean, perVectorMasking: boolean): number {
  return (perVectorMasking ? 20 : 10) + (address64 ? 4 : 0);
}
