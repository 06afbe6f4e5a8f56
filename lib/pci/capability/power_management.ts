/**
 * Power Management capability, ID 0x01 (PCIe 6.0 §7.5.2; PCI Power Management 1.2 §3.2).
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

const AUXILIARY_CURRENTS = [0, 55, 100, 160, 220, 270, 320, 375];

/** What the registers of Power Management say in other words. */
export interface PowerFacts {
  /** Current power state: 0 for D0 … 3 for D3hot. */
  readonly powerState: number;
  /** Current drawn from auxiliary power while PME from D3cold is enabled, in milliamperes. */
  readonly auxiliaryCurrentMilliamperes: number;
}

/** Power Management. */
export const POWER_MANAGEMENT = {
  list: "standard",
  id: 0x01,
  kind: "power-management",
  title: "Power Management",
  heading: "Power Management version {capabilities.version}",
  lengthBytes: 8,
  /** What the function can do; control and status; what a bridge does to its bus. */
  registers: {
    /** Power Management Capabilities. */
    capabilities: {
      offset: 2,
      width: 2,
      text:
        "Flags: PMEClk± DSI± D1± D2± AuxCurrent={auxiliaryCurrentMilliamperes}mA PME(D0±,D1{pmeFromD1},D2{pmeFromD2},D3hot±,D3cold±)",
      fields: {
        version: { bits: [2, 0], access: "RO" },
        pmeClock: { bits: 3, access: "RO", label: "PMEClk" },
        immediateReadinessOnReturnToD0: { bits: 4, access: "RO", label: "ImmReady" },
        deviceSpecificInitialization: { bits: 5, access: "RO", label: "DSI" },
        auxiliaryCurrent: { bits: [8, 6], access: "RO" },
        d1Support: { bits: 9, access: "RO", label: "D1" },
        d2Support: { bits: 10, access: "RO", label: "D2" },
        pmeFromD0: { bits: 11, access: "RO", label: "D0" },
        pmeFromD1: { bits: 12, access: "RO", label: "D1" },
        pmeFromD2: { bits: 13, access: "RO", label: "D2" },
        pmeFromD3Hot: { bits: 14, access: "RO", label: "D3hot" },
        pmeFromD3Cold: { bits: 15, access: "RO", label: "D3cold" },
      },
    },
    /** Power Management Control/Status. */
    control: {
      offset: 4,
      width: 2,
      text: "Status: D{powerState} NoSoftRst± PME-Enable± DSel={dataSelect} DScale={dataScale} PME±",
      fields: {
        powerState: { bits: [1, 0], access: "RW" },
        noSoftReset: { bits: 3, access: "RO", label: "NoSoftRst" },
        pmeEnable: { bits: 8, access: "RWS", label: "PME-Enable" },
        dataSelect: { bits: [12, 9], access: "RW", label: "DSel" },
        dataScale: { bits: [14, 13], access: "RO", label: "DScale" },
        pmeStatus: { bits: 15, access: "RW1CS", label: "PME" },
      },
    },
    /** Bridge Support Extensions, which PCI-to-PCI bridges have. */
    bridge: {
      offset: 6,
      width: 1,
      fields: {
        /** In D3hot the secondary bus goes to B2; else to B3. */
        b2: { bits: 6, access: "RO" },
        /** The bridge controls power and clock of its secondary bus. */
        busPowerControl: { bits: 7, access: "RO", label: "PM" },
      },
    },
  },
  derive: (window: CapabilityWindow): PowerFacts => {
    const { capabilities, control } = window.registers(POWER_MANAGEMENT.registers);
    return {
      powerState: control.powerState,
      auxiliaryCurrentMilliamperes: AUXILIARY_CURRENTS[capabilities.auxiliaryCurrent] ?? 0,
    };
  },
} as const satisfies CapabilityDeclaration;
