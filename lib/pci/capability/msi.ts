/**
 * Message Signalled Interrupts, ID 0x05 (PCIe 6.0 §7.7.1).
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Message Control, offset 2. */
export const MSI_CONTROL = {
  name: "Message Control",
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
} as const;

/** Decoded MSI capability. */
export interface MsiCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "msi";
  /** Bytes that the structure occupies: 10, 14, 20 or 24. */
  readonly lengthBytes: number;
  /** Message Control. */
  readonly control: RegisterValue<typeof MSI_CONTROL>;
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

/** Size in bytes of an MSI capability with the given options. */
export function msiBytes(address64: boolean, perVectorMasking: boolean): number {
  if (perVectorMasking) return address64 ? 24 : 20;
  return address64 ? 14 : 10;
}

/** Decodes an MSI capability. */
export function decodeMsi(window: CapabilityWindow): MsiCapability {
  const control = window.register(MSI_CONTROL);
  const lengthBytes = msiBytes(control.address64, control.perVectorMasking);
  window.require(lengthBytes);
  const data = control.address64 ? 12 : 8;
  return {
    ...window.header,
    kind: "msi",
    lengthBytes,
    control,
    vectorsCapable: 1 << control.multipleMessageCapable,
    vectorsEnabled: 1 << control.multipleMessageEnable,
    address: control.address64 ? window.read64(4) : BigInt(window.read32(4)),
    data: window.read16(data),
    ...(control.perVectorMasking ? { mask: window.read32(data + 4), pending: window.read32(data + 8) } : {}),
  };
}
