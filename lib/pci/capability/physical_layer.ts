/**
 * Physical Layer 32.0 GT/s, extended ID 0x002a, and 64.0 GT/s, ID 0x0031 (PCIe 6.0 §7.7.6 and §7.7.7): link equalization at these rates.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** How far equalization at a rate came. */
const EQUALIZATION = {
  complete: { bits: 0, access: "ROS", label: "EquComplete" },
  phase1: { bits: 1, access: "ROS", label: "EquPhase1" },
  phase2: { bits: 2, access: "ROS", label: "EquPhase2" },
  phase3: { bits: 3, access: "ROS", label: "EquPhase3" },
  request: { bits: 4, access: "RW1CS", label: "LinkEquRequest" },
} as const;
const EQUALIZATION_TEXT = "EquComplete± EquPhase1± EquPhase2± EquPhase3± LinkEquRequest±";

/** Physical Layer 32.0 GT/s. */
export const PHYSICAL_LAYER_32 = {
  list: "extended",
  id: 0x002a,
  kind: "physical-layer-32",
  title: "Physical Layer 32.0 GT/s",
  lengthBytes: 0x20,
  /** The per-lane equalization controls are not decoded. */
  registers: {
    /** 32.0 GT/s Capabilities. */
    capabilities: {
      offset: 0x04,
      width: 4,
      text: "Phy32Cap: EqualizationBypass± NoEqualizationNeeded±\n\t  ModTsMode0± ModTsMode1± ModTsMode2±",
      fields: {
        equalizationBypass: { bits: 0, access: "HwInit", label: "EqualizationBypass" },
        noEqualizationNeeded: { bits: 1, access: "HwInit", label: "NoEqualizationNeeded" },
        modifiedTsMode0: { bits: 8, access: "RO", label: "ModTsMode0" },
        modifiedTsMode1: { bits: 9, access: "HwInit", label: "ModTsMode1" },
        modifiedTsMode2: { bits: 10, access: "HwInit", label: "ModTsMode2" },
      },
    },
    /** 32.0 GT/s Control. */
    control: {
      offset: 0x08,
      width: 4,
      fields: {
        equalizationBypassDisable: { bits: 0, access: "RWS", label: "EqualizationBypassDis" },
        noEqualizationNeededDisable: { bits: 1, access: "RWS", label: "NoEqualizationNeededDis" },
        /** 0 PCI Express, 1 training set messages, 2 alternate protocols. */
        modifiedTsMode: { bits: [10, 8], access: "RWS" },
      },
    },
    /** 32.0 GT/s Status. */
    status: {
      offset: 0x0c,
      width: 4,
      fields: {
        ...EQUALIZATION,
        modifiedTsReceived: { bits: 5, access: "ROS", label: "ModTsRecv" },
        /** Enhanced Link Behavior that the other side asked for. */
        enhancedLinkBehavior: { bits: [7, 6], access: "ROS" },
        transmitterPrecodingOn: { bits: 8, access: "ROS", label: "TxPrecodeOn" },
        transmitterPrecodingRequest: { bits: 9, access: "ROS", label: "TxPrecodeReq" },
        noEqualizationNeededReceived: { bits: 10, access: "ROS", label: "NoEqualizationNeededRecv" },
      },
    },
    /** First and second half of the Modified TS data that were received. */
    receivedModifiedTs1: { offset: 0x10, width: 4 },
    receivedModifiedTs2: { offset: 0x14, width: 4 },
    /** The same of those that are sent. */
    transmittedModifiedTs1: { offset: 0x18, width: 4 },
    transmittedModifiedTs2: { offset: 0x1c, width: 4 },
  },
} as const satisfies CapabilityDeclaration;

/** Physical Layer 64.0 GT/s. */
export const PHYSICAL_LAYER_64 = {
  list: "extended",
  id: 0x0031,
  kind: "physical-layer-64",
  title: "Physical Layer 64.0 GT/s",
  lengthBytes: 0x10,
  /** The per-lane equalization controls are not decoded, and capabilities and control have no fields yet. */
  registers: {
    /** 64.0 GT/s Capabilities. */
    capabilities: { offset: 0x04, width: 4 },
    /** 64.0 GT/s Control. */
    control: { offset: 0x08, width: 4 },
    /** 64.0 GT/s Status. */
    status: {
      offset: 0x0c,
      width: 4,
      text: `Phy64Sta: ${EQUALIZATION_TEXT}\n\t  TxPrecodeOn± TxPrecodeReq± NoEqualizationNeededRecv±`,
      fields: {
        ...EQUALIZATION,
        transmitterPrecodingOn: { bits: 5, access: "ROS", label: "TxPrecodeOn" },
        transmitterPrecodingRequest: { bits: 6, access: "ROS", label: "TxPrecodeReq" },
        noEqualizationNeededReceived: { bits: 7, access: "ROS", label: "NoEqualizationNeededRecv" },
      },
    },
  },
} as const satisfies CapabilityDeclaration;
