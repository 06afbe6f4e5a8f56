/**
 * Downstream Port Containment, extended ID 0x001d (PCIe 6.0 §7.9.14): a port cuts the link after an error.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** Downstream Port Containment. */
export const DOWNSTREAM_PORT_CONTAINMENT = {
  list: "extended",
  id: 0x001d,
  kind: "downstream-port-containment",
  title: "Downstream Port Containment",
  lengthBytes: 0x0c,
  /** The RP PIO registers of root ports are not decoded. */
  registers: {
    /** DPC Capability. */
    capabilities: {
      offset: 4,
      width: 2,
      text:
        "DpcCap:\tINT Msg #{interruptMessageNumber}, RPExt± PoisonedTLP± SwTrigger± RP PIO Log {rpPioLogSize}, DL_ActiveErr±",
      fields: {
        interruptMessageNumber: { bits: [4, 0], access: "RO" },
        rootPortExtensions: { bits: 5, access: "RO", label: "RPExt" },
        poisonedTlpEgressBlocking: { bits: 6, access: "RO", label: "PoisonedTLP" },
        softwareTrigger: { bits: 7, access: "RO", label: "SwTrigger" },
        rpPioLogSize: { bits: [11, 8], access: "RO" },
        linkActiveErrCor: { bits: 12, access: "RO", label: "DL_ActiveErr" },
      },
    },
    /** DPC Control. */
    control: {
      offset: 6,
      width: 2,
      text: "DpcCtl:\tTrigger:{triggerEnable} Cmpl± INT± ErrCor± PoisonedTLP± SwTrigger± DL_ActiveErr±",
      fields: {
        triggerEnable: { bits: [1, 0], access: "RW" },
        completionControl: { bits: 2, access: "RW", label: "Cmpl" },
        interruptEnable: { bits: 3, access: "RW", label: "INT" },
        errCorEnable: { bits: 4, access: "RW", label: "ErrCor" },
        poisonedTlpEgressBlocking: { bits: 5, access: "RW", label: "PoisonedTLP" },
        softwareTrigger: { bits: 6, access: "RWZ", label: "SwTrigger" },
        linkActiveErrCor: { bits: 7, access: "RW", label: "DL_ActiveErr" },
      },
    },
    /** DPC Status. */
    status: {
      offset: 8,
      width: 2,
      text:
        "DpcSta:\tTrigger± Reason:{triggerReason:2} INT± RPBusy± TriggerExt:{triggerReasonExtension:2} RP PIO ErrPtr:{rpPioFirstErrorPointer:2}",
      fields: {
        trigger: { bits: 0, access: "RW1CS", label: "Trigger" },
        triggerReason: { bits: [2, 1], access: "ROS" },
        interrupt: { bits: 3, access: "RW1CS", label: "INT" },
        rootPortBusy: { bits: 4, access: "RO", label: "RPBusy" },
        triggerReasonExtension: { bits: [6, 5], access: "ROS" },
        rpPioFirstErrorPointer: { bits: [12, 8], access: "ROS" },
      },
    },
    /** Routing ID of the sender of the message that triggered containment. */
    source: { offset: 0x0a, width: 2, text: "Source:\t{source:4}" },
  },
} as const satisfies CapabilityDeclaration;
