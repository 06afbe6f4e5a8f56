/**
 * Downstream Port Containment, extended ID 0x001d (PCIe 6.0 §7.9.14): a port cuts the link after an error.
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** DPC Capability, offset 4. */
export const DPC_CAPABILITIES = {
  name: "DPC Capability",
  offset: 4,
  width: 2,
  fields: {
    interruptMessageNumber: { bits: [4, 0], access: "RO" },
    rootPortExtensions: { bits: 5, access: "RO", label: "RPExt" },
    poisonedTlpEgressBlocking: { bits: 6, access: "RO", label: "PoisonedTLP" },
    softwareTrigger: { bits: 7, access: "RO", label: "SwTrigger" },
    rpPioLogSize: { bits: [11, 8], access: "RO" },
    linkActiveErrCor: { bits: 12, access: "RO", label: "DL_ActiveErr" },
  },
} as const;

/** DPC Control, offset 6. */
export const DPC_CONTROL = {
  name: "DPC Control",
  offset: 6,
  width: 2,
  fields: {
    triggerEnable: { bits: [1, 0], access: "RW" },
    completionControl: { bits: 2, access: "RW", label: "Cmpl" },
    interruptEnable: { bits: 3, access: "RW", label: "INT" },
    errCorEnable: { bits: 4, access: "RW", label: "ErrCor" },
    poisonedTlpEgressBlocking: { bits: 5, access: "RW", label: "PoisonedTLP" },
    softwareTrigger: { bits: 6, access: "RWZ", label: "SwTrigger" },
    linkActiveErrCor: { bits: 7, access: "RW", label: "DL_ActiveErr" },
  },
} as const;

/** DPC Status, offset 8. */
export const DPC_STATUS = {
  name: "DPC Status",
  offset: 8,
  width: 2,
  fields: {
    trigger: { bits: 0, access: "RW1CS", label: "Trigger" },
    triggerReason: { bits: [2, 1], access: "ROS" },
    interrupt: { bits: 3, access: "RW1CS", label: "INT" },
    rootPortBusy: { bits: 4, access: "RO", label: "RPBusy" },
    triggerReasonExtension: { bits: [6, 5], access: "ROS" },
    rpPioFirstErrorPointer: { bits: [12, 8], access: "ROS" },
  },
} as const;

/** Decoded DPC capability. */
export interface DownstreamPortContainmentCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "downstream-port-containment";
  /** Bytes that the structure occupies, as far as it is decoded here. */
  readonly lengthBytes: number;
  /** What the port can do. */
  readonly capabilities: RegisterValue<typeof DPC_CAPABILITIES>;
  /** Control. */
  readonly control: RegisterValue<typeof DPC_CONTROL>;
  /** Status. */
  readonly status: RegisterValue<typeof DPC_STATUS>;
  /** Routing ID of the sender of the message that triggered containment. */
  readonly source: number;
}

/** Decodes a DPC capability. The RP PIO registers of root ports are not decoded. */
export function decodeDownstreamPortContainment(
  window: CapabilityWindow,
): DownstreamPortContainmentCapability {
  window.require(0x0c);
  return {
    ...window.header,
    kind: "downstream-port-containment",
    lengthBytes: 0x0c,
    capabilities: window.register(DPC_CAPABILITIES),
    control: window.register(DPC_CONTROL),
    status: window.register(DPC_STATUS),
    source: window.read16(0x0a),
  };
}
