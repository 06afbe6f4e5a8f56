/**
 * Virtual Channel, extended IDs 0x0002 and 0x0009 (PCIe 6.0 §7.9.1).
 *
 * @module
 */

import type { RegisterTable, RegisterValues } from "../../registers/declaration.ts";
import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** Ways to choose among channels and among ports. */
const ARBITRATIONS = {
  fixed: { bits: 0, access: "RO", label: "Fixed" },
  wrr32: { bits: 1, access: "RO", label: "WRR32" },
  wrr64: { bits: 2, access: "RO", label: "WRR64" },
  wrr128: { bits: 3, access: "RO", label: "WRR128" },
} as const;

/** The registers of each channel, 12 bytes from one to the next. */
export const VIRTUAL_CHANNEL_RESOURCE = {
  /** VC Resource Capability. */
  capabilities: {
    offset: 0,
    width: 4,
    fields: {
      ...ARBITRATIONS,
      timeBasedWrr128: { bits: 4, access: "RO", label: "TWRR128" },
      wrr256: { bits: 5, access: "RO", label: "WRR256" },
      rejectSnoop: { bits: 15, access: "HwInit", label: "RejSnoopTrans" },
      /** One less than the number of time slots. */
      maxTimeSlots: { bits: [22, 16], access: "HwInit" },
      /** Offset of the port arbitration table in units of 16 bytes; 0 when there is none. */
      arbitrationTableOffset: { bits: [31, 24], access: "RO" },
    },
  },
  /** VC Resource Control. */
  control: {
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
  },
  /** VC Resource Status. */
  status: {
    offset: 10,
    width: 2,
    fields: {
      arbitrationTableStatus: { bits: 0, access: "RO", label: "InProgress" },
      negotiationPending: { bits: 1, access: "RO", label: "NegoPending" },
    },
  },
} as const satisfies RegisterTable;

/** The channels of a port. */
export interface VirtualChannels {
  /** VC 0 first. The arbitration tables are not decoded. */
  readonly channels: readonly RegisterValues<typeof VIRTUAL_CHANNEL_RESOURCE>[];
}

const RESOURCES_OFFSET = 0x10;
const RESOURCE_BYTES = 12;

/** Virtual Channel. The length is that without arbitration tables. */
export const VIRTUAL_CHANNEL = {
  list: "extended",
  id: 0x0002,
  kind: "virtual-channel",
  title: "Virtual Channel",
  lengthBytes: (window: CapabilityWindow): number => RESOURCES_OFFSET + RESOURCE_BYTES * channelCount(window),
  /** Those for the whole port. */
  registers: {
    /** Port VC Capability 1. */
    capabilities1: {
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
    },
    /** Port VC Capability 2. */
    capabilities2: {
      offset: 0x08,
      width: 4,
      fields: {
        ...ARBITRATIONS,
        /** Offset of the VC arbitration table in units of 16 bytes; 0 when there is none. */
        arbitrationTableOffset: { bits: [31, 24], access: "RO" },
      },
    },
    /** Port VC Control. */
    control: {
      offset: 0x0c,
      width: 2,
      fields: {
        loadArbitrationTable: { bits: 0, access: "RWZ" },
        arbitrationSelect: { bits: [3, 1], access: "RW" },
      },
    },
    /** Port VC Status. */
    status: {
      offset: 0x0e,
      width: 2,
      fields: { arbitrationTableStatus: { bits: 0, access: "RO", label: "InProgress" } },
    },
  },
  derive: (window: CapabilityWindow): VirtualChannels => ({
    channels: Array.from(
      { length: channelCount(window) },
      (_, i) => window.registers(VIRTUAL_CHANNEL_RESOURCE, RESOURCES_OFFSET + RESOURCE_BYTES * i),
    ),
  }),
} as const satisfies CapabilityDeclaration;

/** The same under the ID that it has beside a Multi-Function Virtual Channel capability. */
export const VIRTUAL_CHANNEL_WITH_MFVC = {
  ...VIRTUAL_CHANNEL,
  id: 0x0009,
} as const satisfies CapabilityDeclaration;

function channelCount(window: CapabilityWindow): number {
  return window.register(VIRTUAL_CHANNEL.registers.capabilities1).extendedVcCount + 1;
}
