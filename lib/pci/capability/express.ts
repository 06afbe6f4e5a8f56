/**
 * PCI Express capability, ID 0x10 (PCIe 6.0 §7.5.3): what kind of function or port this is, its link, and
 * function level reset.
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import {
  DEVICE_CAPABILITIES,
  DEVICE_CAPABILITIES_2,
  DEVICE_CONTROL,
  DEVICE_CONTROL_2,
  DEVICE_STATUS,
  EXPRESS_CAPABILITIES,
  LINK_CAPABILITIES,
  LINK_CAPABILITIES_2,
  LINK_CONTROL,
  LINK_CONTROL_2,
  LINK_STATUS,
  LINK_STATUS_2,
  ROOT_CAPABILITIES,
  ROOT_CONTROL,
  ROOT_STATUS,
  SLOT_CAPABILITIES,
  SLOT_CONTROL,
  SLOT_STATUS,
} from "./express_registers.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of a version 2 structure in bytes. */
export const EXPRESS_V2_BYTES = 0x3c;

/** Device/Port Type codes. */
export const EXPRESS_TYPE = {
  endpoint: 0x0,
  legacyEndpoint: 0x1,
  rootPort: 0x4,
  upstreamPort: 0x5,
  downstreamPort: 0x6,
  expressToPciBridge: 0x7,
  pciToExpressBridge: 0x8,
  rootComplexEndpoint: 0x9,
  rootComplexEventCollector: 0xa,
} as const;

/** Device/Port Type by name; `"reserved"` for a code that the standard does not define. */
export type ExpressType = keyof typeof EXPRESS_TYPE | "reserved";

/** Link speeds in GT/s by code; code 7 is reserved. */
const SPEEDS: readonly (number | undefined)[] = [undefined, 2.5, 5, 8, 16, 32, 64, undefined, 128];

/** Raw rate of a link speed code in GT/s; `undefined` for a reserved code. */
export function linkSpeedGigatransfers(code: number): number | undefined {
  return SPEEDS[code];
}

/** Speed and width of a link. */
export interface Link {
  /** Raw rate in GT/s; `undefined` when the code is reserved. */
  readonly gigatransfers: number | undefined;
  /** Number of lanes; 0 when the link is down. */
  readonly width: number;
}

/** Link registers, which root complex integrated functions lack. */
export interface ExpressLink {
  /** Best speed and width that the port can do. */
  readonly maximum: Link;
  /** What was negotiated. */
  readonly current: Link;
  /** Link Capabilities. */
  readonly capabilities: RegisterValue<typeof LINK_CAPABILITIES>;
  /** Link Control. */
  readonly control: RegisterValue<typeof LINK_CONTROL>;
  /** Link Status. */
  readonly status: RegisterValue<typeof LINK_STATUS>;
}

/** Slot registers of a port with a slot behind it. */
export interface ExpressSlot {
  /** Slot Capabilities. */
  readonly capabilities: RegisterValue<typeof SLOT_CAPABILITIES>;
  /** Slot Control. */
  readonly control: RegisterValue<typeof SLOT_CONTROL>;
  /** Slot Status. */
  readonly status: RegisterValue<typeof SLOT_STATUS>;
}

/** Root registers of a root port or event collector. */
export interface ExpressRoot {
  /** Root Control. */
  readonly control: RegisterValue<typeof ROOT_CONTROL>;
  /** Root Capabilities. */
  readonly capabilities: RegisterValue<typeof ROOT_CAPABILITIES>;
  /** Root Status. */
  readonly status: RegisterValue<typeof ROOT_STATUS>;
}

/** The second set of device registers, from version 2 on. */
export interface ExpressDevice2 {
  /** Device Capabilities 2. */
  readonly capabilities: RegisterValue<typeof DEVICE_CAPABILITIES_2>;
  /** Device Control 2. */
  readonly control: RegisterValue<typeof DEVICE_CONTROL_2>;
}

/** The second set of link registers, from version 2 on. */
export interface ExpressLink2 {
  /** Link Capabilities 2; reserved, and so 0, before PCIe 3.0. */
  readonly capabilities: RegisterValue<typeof LINK_CAPABILITIES_2>;
  /** Link Control 2. */
  readonly control: RegisterValue<typeof LINK_CONTROL_2>;
  /** Link Status 2. */
  readonly status: RegisterValue<typeof LINK_STATUS_2>;
}

/** Decoded PCI Express capability. */
export interface ExpressCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "express";
  /** Bytes that the structure occupies, as far as the version and type require it. */
  readonly lengthBytes: number;
  /** Device/Port Type. */
  readonly deviceType: ExpressType;
  /** Version of this structure: 1 or 2. (`version` is that of extended capabilities and is 0 here.) */
  readonly structureVersion: number;
  /** The function can reset itself without disturbing the rest of the device. */
  readonly functionLevelReset: boolean;
  /** Largest payload that the function can take, in bytes. */
  readonly maxPayloadSupportedBytes: number;
  /** Largest payload that the function may send, in bytes. */
  readonly maxPayloadBytes: number;
  /** Largest read that the function may ask for, in bytes. */
  readonly maxReadRequestBytes: number;
  /** PCI Express Capabilities register. */
  readonly capabilities: RegisterValue<typeof EXPRESS_CAPABILITIES>;
  /** Device Capabilities. */
  readonly deviceCapabilities: RegisterValue<typeof DEVICE_CAPABILITIES>;
  /** Device Control. */
  readonly deviceControl: RegisterValue<typeof DEVICE_CONTROL>;
  /** Device Status. */
  readonly deviceStatus: RegisterValue<typeof DEVICE_STATUS>;
  /** Link registers, unless the function is integrated into the root complex. */
  readonly link?: ExpressLink;
  /** Slot registers, when the port says that it has a slot. */
  readonly slot?: ExpressSlot;
  /** Root registers of root ports and event collectors. */
  readonly root?: ExpressRoot;
  /** Second set of device registers, from version 2 on. */
  readonly device2?: ExpressDevice2;
  /** Second set of link registers, from version 2 on. */
  readonly link2?: ExpressLink2;
}

const TYPES: ReadonlyMap<number, ExpressType> = new Map(
  Object.entries(EXPRESS_TYPE).map(([name, code]) => [code, name as ExpressType]),
);

/** Decodes a PCI Express capability. */
export function decodeExpress(window: CapabilityWindow): ExpressCapability {
  const capabilities = window.register(EXPRESS_CAPABILITIES);
  const deviceType = TYPES.get(capabilities.deviceType) ?? "reserved";
  const hasLink = deviceType !== "rootComplexEndpoint" && deviceType !== "rootComplexEventCollector";
  const hasRoot = deviceType === "rootPort" || deviceType === "rootComplexEventCollector";
  const hasSlot = capabilities.slotImplemented &&
    (deviceType === "rootPort" || deviceType === "downstreamPort" || deviceType === "pciToExpressBridge");
  const isV2 = capabilities.version >= 2;
  const required = isV2 ? (hasLink ? 0x34 : 0x2c) : hasRoot ? 0x24 : hasSlot ? 0x1c : hasLink ? 0x14 : 0x0c;
  window.require(required);
  const deviceCapabilities = window.register(DEVICE_CAPABILITIES);
  const deviceControl = window.register(DEVICE_CONTROL);
  return {
    ...window.header,
    kind: "express",
    // A version 2 structure is 0x3c bytes by the standard, but integrated functions are known to cut its end off.
    lengthBytes: isV2 && window.availableBytes >= EXPRESS_V2_BYTES ? EXPRESS_V2_BYTES : required,
    deviceType,
    structureVersion: capabilities.version,
    functionLevelReset: deviceCapabilities.functionLevelReset,
    maxPayloadSupportedBytes: 128 << deviceCapabilities.maxPayloadSupported,
    maxPayloadBytes: 128 << deviceControl.maxPayload,
    maxReadRequestBytes: 128 << deviceControl.maxReadRequest,
    capabilities,
    deviceCapabilities,
    deviceControl,
    deviceStatus: window.register(DEVICE_STATUS),
    ...(hasLink ? { link: decodeLink(window) } : {}),
    ...(hasSlot
      ? {
        slot: {
          capabilities: window.register(SLOT_CAPABILITIES),
          control: window.register(SLOT_CONTROL),
          status: window.register(SLOT_STATUS),
        },
      }
      : {}),
    ...(hasRoot
      ? {
        root: {
          control: window.register(ROOT_CONTROL),
          capabilities: window.register(ROOT_CAPABILITIES),
          status: window.register(ROOT_STATUS),
        },
      }
      : {}),
    ...(isV2
      ? {
        device2: {
          capabilities: window.register(DEVICE_CAPABILITIES_2),
          control: window.register(DEVICE_CONTROL_2),
        },
      }
      : {}),
    ...(isV2 && hasLink
      ? {
        link2: {
          capabilities: window.register(LINK_CAPABILITIES_2),
          control: window.register(LINK_CONTROL_2),
          status: window.register(LINK_STATUS_2),
        },
      }
      : {}),
  };
}

function decodeLink(window: CapabilityWindow): ExpressLink {
  const capabilities = window.register(LINK_CAPABILITIES), status = window.register(LINK_STATUS);
  return {
    maximum: { gigatransfers: linkSpeedGigatransfers(capabilities.maxSpeed), width: capabilities.maxWidth },
    current: { gigatransfers: linkSpeedGigatransfers(status.speed), width: status.width },
    capabilities,
    control: window.register(LINK_CONTROL),
    status,
  };
}
