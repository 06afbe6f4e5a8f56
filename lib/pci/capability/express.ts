/**
 * PCI Express capability, ID 0x10 (PCIe 6.0 §7.5.3): what kind of function or port this is, its link, and
 * function level reset.
 *
 * @module
 */

import type { RegisterValues } from "../../registers/declaration.ts";
import type { CapabilityDeclaration, Decoded } from "./declaration.ts";
import {
  EXPRESS_DEVICE_2,
  EXPRESS_LINK,
  EXPRESS_LINK_2,
  EXPRESS_REGISTERS,
  EXPRESS_ROOT,
  EXPRESS_SLOT,
} from "./express_registers.ts";
import type { CapabilityWindow } from "./window.ts";

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

/** Link registers, and what they say in other words. */
export interface ExpressLink extends RegisterValues<typeof EXPRESS_LINK> {
  /** Best speed and width that the port can do. */
  readonly maximum: Link;
  /** What was negotiated. */
  readonly current: Link;
}

/** What the registers say in other words, and the registers that not every function has. */
export interface ExpressFacts {
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
  /** Link registers, unless the function is integrated into the root complex. */
  readonly link?: ExpressLink;
  /** Slot registers, when the port says that it has a slot. */
  readonly slot?: RegisterValues<typeof EXPRESS_SLOT>;
  /** Root registers of root ports and event collectors. */
  readonly root?: RegisterValues<typeof EXPRESS_ROOT>;
  /** Second set of device registers, from version 2 on. */
  readonly device2?: RegisterValues<typeof EXPRESS_DEVICE_2>;
  /** Second set of link registers, from version 2 on. */
  readonly link2?: RegisterValues<typeof EXPRESS_LINK_2>;
}

/** Size of a structure of version 2 in bytes. */
export const EXPRESS_V2_BYTES = 0x3c;

/** PCI Express. The length is what version and type require. */
export const EXPRESS = {
  list: "standard",
  id: 0x10,
  kind: "express",
  title: "Express",
  lengthBytes: (window: CapabilityWindow): number => {
    const { isV2, hasLink, hasSlot, hasRoot } = partsOf(window);
    const required = isV2 ? (hasLink ? 0x34 : 0x2c) : hasRoot ? 0x24 : hasSlot ? 0x1c : hasLink ? 0x14 : 0x0c;
    window.require(required);
    // A version 2 structure is 0x3c bytes by the standard, but integrated functions are known to cut its end off.
    return isV2 && window.availableBytes >= EXPRESS_V2_BYTES ? EXPRESS_V2_BYTES : required;
  },
  registers: EXPRESS_REGISTERS,
  derive: (window: CapabilityWindow): ExpressFacts => {
    const { capabilities, deviceCapabilities, deviceControl } = window.registers(EXPRESS_REGISTERS);
    const { deviceType, isV2, hasLink, hasSlot, hasRoot } = partsOf(window);
    return {
      deviceType,
      structureVersion: capabilities.version,
      functionLevelReset: deviceCapabilities.functionLevelReset,
      maxPayloadSupportedBytes: 128 << deviceCapabilities.maxPayloadSupported,
      maxPayloadBytes: 128 << deviceControl.maxPayload,
      maxReadRequestBytes: 128 << deviceControl.maxReadRequest,
      ...(hasLink ? { link: linkOf(window) } : {}),
      ...(hasSlot ? { slot: window.registers(EXPRESS_SLOT) } : {}),
      ...(hasRoot ? { root: window.registers(EXPRESS_ROOT) } : {}),
      ...(isV2 ? { device2: window.registers(EXPRESS_DEVICE_2) } : {}),
      ...(isV2 && hasLink ? { link2: window.registers(EXPRESS_LINK_2) } : {}),
    };
  },
} as const satisfies CapabilityDeclaration;

/** Decoded PCI Express capability. */
export type ExpressCapability = Decoded<typeof EXPRESS>;

const TYPES: ReadonlyMap<number, ExpressType> = new Map(
  Object.entries(EXPRESS_TYPE).map(([name, code]) => [code, name as ExpressType]),
);

/** Which registers a function of its version and type has. */
function partsOf(window: CapabilityWindow) {
  const capabilities = window.register(EXPRESS_REGISTERS.capabilities);
  const deviceType = TYPES.get(capabilities.deviceType) ?? "reserved";
  return {
    deviceType,
    isV2: capabilities.version >= 2,
    hasLink: deviceType !== "rootComplexEndpoint" && deviceType !== "rootComplexEventCollector",
    hasRoot: deviceType === "rootPort" || deviceType === "rootComplexEventCollector",
    hasSlot: capabilities.slotImplemented &&
      (deviceType === "rootPort" || deviceType === "downstreamPort" || deviceType === "pciToExpressBridge"),
  };
}

function linkOf(window: CapabilityWindow): ExpressLink {
  const link = window.registers(EXPRESS_LINK), { capabilities, status } = link;
  return {
    maximum: { gigatransfers: linkSpeedGigatransfers(capabilities.maxSpeed), width: capabilities.maxWidth },
    current: { gigatransfers: linkSpeedGigatransfers(status.speed), width: status.width },
    ...link,
  };
}
