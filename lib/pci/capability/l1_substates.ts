/**
 * L1 PM Substates, extended ID 0x001e (PCIe 6.0 §7.8.3).
 *
 * @module
 */

import { type CapabilityDeclaration, type Repeated, repeated } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** Times that the registers of L1 PM Substates hold as value and scale. */
export interface L1SubstatesTimes {
  /** Time that the port needs to power on, in microseconds; `undefined` for the reserved scale. */
  readonly portPowerOnUs: number | undefined;
  /** Power-on time that is in effect, in microseconds; `undefined` for the reserved scale. */
  readonly powerOnUs: number | undefined;
  /** Latency tolerance below which L1.2 is not entered, in nanoseconds; `undefined` for a reserved scale. */
  readonly ltrThresholdNs: number | undefined;
}

/** What the port can do, and what is enabled of it. */
const FLAGS = {
  pciPmL12: { bits: 0, access: "HwInit", label: "PCI-PM_L1.2" },
  pciPmL11: { bits: 1, access: "HwInit", label: "PCI-PM_L1.1" },
  aspmL12: { bits: 2, access: "HwInit", label: "ASPM_L1.2" },
  aspmL11: { bits: 3, access: "HwInit", label: "ASPM_L1.1" },
} as const;
const ENABLED: Repeated<typeof FLAGS, "RW"> = repeated(FLAGS, "RW");

const MOST_LTR_SCALE = 5;

/** L1 PM Substates. */
export const L1_SUBSTATES = {
  list: "extended",
  id: 0x001e,
  kind: "l1-substates",
  title: "L1 PM Substates",
  lengthBytes: 0x10,
  /** What the port can do, and two of control. */
  registers: {
    /** L1 PM Substates Capabilities. */
    capabilities: {
      offset: 4,
      width: 4,
      fields: {
        ...FLAGS,
        l1Substates: { bits: 4, access: "HwInit", label: "L1_PM_Substates" },
        commonModeRestoreTimeUs: { bits: [15, 8], access: "HwInit" },
        powerOnScale: { bits: [17, 16], access: "HwInit" },
        powerOnValue: { bits: [23, 19], access: "HwInit" },
      },
    },
    /** L1 PM Substates Control 1. */
    control1: {
      offset: 8,
      width: 4,
      fields: {
        ...ENABLED,
        commonModeRestoreTimeUs: { bits: [15, 8], access: "RW" },
        ltrThresholdValue: { bits: [25, 16], access: "RW" },
        ltrThresholdScale: { bits: [31, 29], access: "RW" },
      },
    },
    /** L1 PM Substates Control 2. */
    control2: {
      offset: 12,
      width: 4,
      fields: {
        powerOnScale: { bits: [1, 0], access: "RW" },
        powerOnValue: { bits: [7, 3], access: "RW" },
      },
    },
  },
  derive: (window: CapabilityWindow): L1SubstatesTimes => {
    const { capabilities, control1, control2 } = window.registers(L1_SUBSTATES.registers);
    return {
      portPowerOnUs: powerOnUs(capabilities),
      powerOnUs: powerOnUs(control2),
      ltrThresholdNs: control1.ltrThresholdScale > MOST_LTR_SCALE
        ? undefined
        : control1.ltrThresholdValue * 32 ** control1.ltrThresholdScale,
    };
  },
} as const satisfies CapabilityDeclaration;

function powerOnUs(
  { powerOnValue, powerOnScale }: { powerOnValue: number; powerOnScale: number },
): number | undefined {
  const factor = [2, 10, 100][powerOnScale];
  return factor === undefined ? undefined : powerOnValue * factor;
}
