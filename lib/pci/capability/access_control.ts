/**
 * Access Control Services, extended ID 0x000d (PCIe 6.0 §7.7.11): whether traffic between functions must pass the
 * IOMMU. IOMMU groups follow from it.
 *
 * @module
 */

import { type CapabilityDeclaration, type Repeated, repeated } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** What a function can do, and what is enabled of it. */
const FLAGS = {
  sourceValidation: { bits: 0, access: "RO", label: "SrcValid" },
  translationBlocking: { bits: 1, access: "RO", label: "TransBlk" },
  requestRedirect: { bits: 2, access: "RO", label: "ReqRedir" },
  completionRedirect: { bits: 3, access: "RO", label: "CmpltRedir" },
  upstreamForwarding: { bits: 4, access: "RO", label: "UpstreamFwd" },
  egressControl: { bits: 5, access: "RO", label: "EgressCtrl" },
  directTranslated: { bits: 6, access: "RO", label: "DirectTrans" },
} as const;
const ENABLED: Repeated<typeof FLAGS, "RW"> = repeated(FLAGS, "RW");
const FLAGS_TEXT = "SrcValid± TransBlk± ReqRedir± CmpltRedir± UpstreamFwd± EgressCtrl± DirectTrans±";

/** Access Control Services. The length includes the egress control vector. */
export const ACCESS_CONTROL = {
  list: "extended",
  id: 0x000d,
  kind: "access-control",
  title: "Access Control Services",
  lengthBytes: (window: CapabilityWindow): number => {
    const { egressControl, egressVectorSize } = window.register(ACCESS_CONTROL.registers.capabilities);
    // The egress control vector has one bit per port or function; the size code 0 stands for 256.
    return 8 + Math.ceil((egressControl ? egressVectorSize || 256 : 0) / 32) * 4;
  },
  /** What the function can do, and what is enabled. */
  registers: {
    /** ACS Capability. */
    capabilities: {
      offset: 4,
      width: 2,
      text: `ACSCap:\t${FLAGS_TEXT}`,
      fields: {
        ...FLAGS,
        enhanced: { bits: 7, access: "RO", label: "Enhanced" },
        egressVectorSize: { bits: [15, 8], access: "HwInit" },
      },
    },
    /** ACS Control. */
    control: {
      offset: 6,
      width: 2,
      text: `ACSCtl:\t${FLAGS_TEXT}`,
      fields: ENABLED,
    },
  },
} as const satisfies CapabilityDeclaration;
