/**
 * Access Control Services, extended ID 0x000d (PCIe 6.0 §7.7.11): whether traffic between functions must pass the
 * IOMMU. IOMMU groups follow from it.
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** ACS Capability, offset 4. */
export const ACS_CAPABILITIES = {
  name: "ACS Capability",
  offset: 4,
  width: 2,
  fields: {
    sourceValidation: { bits: 0, access: "RO", label: "SrcValid" },
    translationBlocking: { bits: 1, access: "RO", label: "TransBlk" },
    requestRedirect: { bits: 2, access: "RO", label: "ReqRedir" },
    completionRedirect: { bits: 3, access: "RO", label: "CmpltRedir" },
    upstreamForwarding: { bits: 4, access: "RO", label: "UpstreamFwd" },
    egressControl: { bits: 5, access: "RO", label: "EgressCtrl" },
    directTranslated: { bits: 6, access: "RO", label: "DirectTrans" },
    enhanced: { bits: 7, access: "RO", label: "Enhanced" },
    egressVectorSize: { bits: [15, 8], access: "HwInit" },
  },
} as const;

/** ACS Control, offset 6. */
export const ACS_CONTROL = {
  name: "ACS Control",
  offset: 6,
  width: 2,
  fields: {
    sourceValidation: { bits: 0, access: "RW", label: "SrcValid" },
    translationBlocking: { bits: 1, access: "RW", label: "TransBlk" },
    requestRedirect: { bits: 2, access: "RW", label: "ReqRedir" },
    completionRedirect: { bits: 3, access: "RW", label: "CmpltRedir" },
    upstreamForwarding: { bits: 4, access: "RW", label: "UpstreamFwd" },
    egressControl: { bits: 5, access: "RW", label: "EgressCtrl" },
    directTranslated: { bits: 6, access: "RW", label: "DirectTrans" },
  },
} as const;

/** Decoded Access Control Services capability. */
export interface AccessControlCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "access-control";
  /** Bytes that the structure occupies, egress control vector included. */
  readonly lengthBytes: number;
  /** What the function can do. */
  readonly capabilities: RegisterValue<typeof ACS_CAPABILITIES>;
  /** What is enabled. */
  readonly control: RegisterValue<typeof ACS_CONTROL>;
}

/** Decodes an Access Control Services capability. */
export function decodeAccessControl(window: CapabilityWindow): AccessControlCapability {
  const capabilities = window.register(ACS_CAPABILITIES);
  // The vector has one bit per port or function; the size code 0 stands for 256.
  const vectorBits = capabilities.egressControl ? capabilities.egressVectorSize || 256 : 0;
  const lengthBytes = 8 + Math.ceil(vectorBits / 32) * 4;
  window.require(lengthBytes);
  return {
    ...window.header,
    kind: "access-control",
    lengthBytes,
    capabilities,
    control: window.register(ACS_CONTROL),
  };
}
