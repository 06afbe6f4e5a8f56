/**
 * L1 PM Substates, extended ID 0x001e (PCIe 6.0 §7.8.3).
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const L1_SUBSTATES_BYTES = 0x10;

/** L1 PM Substates Capabilities, offset 4. */
export const L1_CAPABILITIES = {
  name: "L1 PM Substates Capabilities",
  offset: 4,
  width: 4,
  fields: {
    pciPmL12: { bits: 0, access: "HwInit", label: "PCI-PM_L1.2" },
    pciPmL11: { bits: 1, access: "HwInit", label: "PCI-PM_L1.1" },
    aspmL12: { bits: 2, access: "HwInit", label: "ASPM_L1.2" },
    aspmL11: { bits: 3, access: "HwInit", label: "ASPM_L1.1" },
    l1Substates: { bits: 4, access: "HwInit", label: "L1_PM_Substates" },
    commonModeRestoreTimeUs: { bits: [15, 8], access: "HwInit" },
    powerOnScale: { bits: [17, 16], access: "HwInit" },
    powerOnValue: { bits: [23, 19], access: "HwInit" },
  },
} as const;

/** L1 PM Substates Control 1, offset 8. */
export const L1_CONTROL_1 = {
  name: "L1 PM Substates Control 1",
  offset: 8,
  width: 4,
  fields: {
    pciPmL12: { bits: 0, access: "RW", label: "PCI-PM_L1.2" },
    pciPmL11: { bits: 1, access: "RW", label: "PCI-PM_L1.1" },
    aspmL12: { bits: 2, access: "RW", label: "ASPM_L1.2" },
    aspmL11: { bits: 3, access: "RW", label: "ASPM_L1.1" },
    commonModeRestoreTimeUs: { bits: [15, 8], access: "RW" },
    ltrThresholdValue: { bits: [25, 16], access: "RW" },
    ltrThresholdScale: { bits: [31, 29], access: "RW" },
  },
} as const;

/** L1 PM Substates Control 2, offset 12. */
export const L1_CONTROL_2 = {
  name: "L1 PM Substates Control 2",
  offset: 12,
  width: 4,
  fields: {
    powerOnScale: { bits: [1, 0], access: "RW" },
    powerOnValue: { bits: [7, 3], access: "RW" },
  },
} as const;

/** Decoded L1 PM Substates capability. */
export interface L1SubstatesCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "l1-substates";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** What the port can do. */
  readonly capabilities: RegisterValue<typeof L1_CAPABILITIES>;
  /** Control 1. */
  readonly control1: RegisterValue<typeof L1_CONTROL_1>;
  /** Control 2. */
  readonly control2: RegisterValue<typeof L1_CONTROL_2>;
  /** Time that the port needs to power on, in microseconds; `undefined` for the reserved scale. */
  readonly portPowerOnUs: number | undefined;
  /** Power-on time that is in effect, in microseconds; `undefined` for the reserved scale. */
  readonly powerOnUs: number | undefined;
  /** Latency tolerance below which L1.2 is not entered, in nanoseconds. */
  readonly ltrThresholdNs: number;
}

/** Decodes an L1 PM Substates capability. */
export function decodeL1Substates(window: CapabilityWindow): L1SubstatesCapability {
  window.require(L1_SUBSTATES_BYTES);
  const capabilities = window.register(L1_CAPABILITIES);
  const control1 = window.register(L1_CONTROL_1), control2 = window.register(L1_CONTROL_2);
  return {
    ...window.header,
    kind: "l1-substates",
    lengthBytes: L1_SUBSTATES_BYTES,
    capabilities,
    control1,
    control2,
    portPowerOnUs: powerOnUs(capabilities.powerOnValue, capabilities.powerOnScale),
    powerOnUs: powerOnUs(control2.powerOnValue, control2.powerOnScale),
    ltrThresholdNs: control1.ltrThresholdValue * 32 ** control1.ltrThresholdScale,
  };
}

function powerOnUs(value: number, scale: number): number | undefined {
  const factor = [2, 10, 100][scale];
  return factor === undefined ? undefined : value * factor;
}
