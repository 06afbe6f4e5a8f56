/**
 * Virtual Channel, extended IDs 0x0002 and 0x0009 (PCIe 6.0 §7.9.1).
 *
 * @module
 */

import { decodeRegister, type RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Port VC Capability 1, offset 4. */
export const VC_PORT_CAPABILITIES_1 = {
  name: "Port VC Capability 1",
  offset: 0x04,
  width: 4,
  fields: {
    extendedVcCount: { bits: [2, 0], access: "RO" },
    lowPriorityExtendedVcCount: { bits: [6, 4], access: "RO" },
    /** 0 stands for 100 ns; the other codes are reserved. */
    referenceClock: { bits: [9, 8], access: "RO" },
    /** Arbitration table entries are 2^value bits wide. */
    arbitrationEntrySize: { bits: [11, 10], access: "RO" },
  },
} as const;

/** Port VC Capability 2, offset 8. */
export const VC_PORT_CAPABILITIES_2 = {
  name: "Port VC Capability 2",
  offset: 0x08,
  width: 4,
  fields: {
    fixed: { bits: 0, access: "RO", label: "Fixed" },
    wrr32: { bits: 1, access: "RO", label: "WRR32" },
    wrr64: { bits: 2, access: "RO", label: "WRR64" },
    wrr128: { bits: 3, access: "RO", label: "WRR128" },
    /** Offset of the VC arbitration table in units of 16 bytes; 0 when there is none. */
    arbitrationTableOffset: { bits: [31, 24], access: "RO" },
  },
} as const;

/** Port VC Control, offset 0x0c. */
export const VC_PORT_CONTROL = {
  name: "Port VC Control",
  offset: 0x0c,
  width: 2,
  fields: {
    loadArbitrationTable: { bits: 0, access: "RWZ" },
    arbitrationSelect: { bits: [3, 1], access: "RW" },
  },
} as const;

/** Port VC Status, offset 0x0e. */
export const VC_PORT_STATUS = {
  name: "Port VC Status",
  offset: 0x0e,
  width: 2,
  fields: { arbitrationTableStatus: { bits: 0, access: "RO", label: "InProgress" } },
} as const;

/** VC Resource Capability, offset 0x10 for VC 0 and 12 bytes on for each further one. */
export const VC_RESOURCE_CAPABILITIES = {
  name: "VC Resource Capability",
  offset: 0,
  width: 4,
  fields: {
    fixed: { bits: 0, access: "RO", label: "Fixed" },
    wrr32: { bits: 1, access: "RO", label: "WRR32" },
    wrr64: { bits: 2, access: "RO", label: "WRR64" },
    wrr128: { bits: 3, access: "RO", label: "WRR128" },
    timeBasedWrr128: { bits: 4, access: "RO", label: "TWRR128" },
    wrr256: { bits: 5, access: "RO", label: "WRR256" },
    rejectSnoop: { bits: 15, access: "HwInit", label: "RejSnoopTrans" },
    /** One less than the number of time slots. */
    maxTimeSlots: { bits: [22, 16], access: "HwInit" },
    /** Offset of the port arbitration table in units of 16 bytes; 0 when there is none. */
    arbitrationTableOffset: { bits: [31, 24], access: "RO" },
  },
} as const;

/** VC Resource Control, offset 0x14 for VC 0. */
export const VC_RESOURCE_CONTROL = {
  name: "VC Resource Control",
  offset: 4,
  width: 4,
  fields: {
    /** Bit n: traffic class n is mapped to this channel. */
    trafficClassMap: { bits: [7, 0], access: "RW" },
    loadArbitrationTable: { bits: 16, access: "RWZ" },
    arbitrationSelect: { bits: [19, 17], access: "RW" },
    channelId: { bits: [26, 24], access: "RW" },
    enable: { bits: 31, access: "RW", label: "Enable" },
  },
} as const;

/** VC Resource Status, offset 0x1a for VC 0. */
export const VC_RESOURCE_STATUS = {
  name: "VC Resource Status",
  offset: 10,
  width: 2,
  fields: {
    arbitrationTableStatus: { bits: 0, access: "RO", label: "InProgress" },
    negotiationPending: { bits: 1, access: "RO", label: "NegoPending" },
  },
} as const;

/** One virtual channel. */
export interface VirtualChannel {
  /** VC Resource Capability. */
  readonly capabilities: RegisterValue<typeof VC_RESOURCE_CAPABILITIES>;
  /** VC Resource Control. */
  readonly control: RegisterValue<typeof VC_RESOURCE_CONTROL>;
  /** VC Resource Status. */
  readonly status: RegisterValue<typeof VC_RESOURCE_STATUS>;
}

/** Decoded Virtual Channel capability. The arbitration tables are not decoded. */
export interface VirtualChannelCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "virtual-channel";
  /** Bytes that the structure occupies, without arbitration tables. */
  readonly lengthBytes: number;
  /** Port VC Capability 1. */
  readonly capabilities1: RegisterValue<typeof VC_PORT_CAPABILITIES_1>;
  /** Port VC Capability 2. */
  readonly capabilities2: RegisterValue<typeof VC_PORT_CAPABILITIES_2>;
  /** Port VC Control. */
  readonly control: RegisterValue<typeof VC_PORT_CONTROL>;
  /** Port VC Status. */
  readonly status: RegisterValue<typeof VC_PORT_STATUS>;
  /** The channels, VC 0 first. */
  readonly channels: readonly VirtualChannel[];
}

/** Decodes a Virtual Channel capability. */
export function decodeVirtualChannel(window: CapabilityWindow): VirtualChannelCapability {
  const capabilities1 = window.register(VC_PORT_CAPABILITIES_1);
  const count = capabilities1.extendedVcCount + 1;
  const lengthBytes = 0x10 + 0x0c * count;
  window.require(lengthBytes);
  return {
    ...window.header,
    kind: "virtual-channel",
    lengthBytes,
    capabilities1,
    capabilities2: window.register(VC_PORT_CAPABILITIES_2),
    control: window.register(VC_PORT_CONTROL),
    status: window.register(VC_PORT_STATUS),
    channels: Array.from({ length: count }, (_, i) => {
      const at = 0x10 + 0x0c * i;
      return {
        capabilities: decodeRegister(VC_RESOURCE_CAPABILITIES, window.read32(at)),
        control: decodeRegister(VC_RESOURCE_CONTROL, window.read32(at + VC_RESOURCE_CONTROL.offset)),
        status: decodeRegister(VC_RESOURCE_STATUS, window.read16(at + VC_RESOURCE_STATUS.offset)),
      };
    }),
  };
}
