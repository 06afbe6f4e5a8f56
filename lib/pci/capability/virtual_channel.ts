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

/** A channel. */
export interface VirtualChannel extends RegisterValues<typeof VIRTUAL_CHANNEL_RESOURCE> {
  /** Its port arbitration table, where it has one: for each phase the number of the port whose turn it is. */
  readonly portArbitration?: readonly number[];
}

/** The channels of a port. */
export interface VirtualChannels {
  /** VC 0 first. */
  readonly channels: readonly VirtualChannel[];
  /** The VC arbitration table, where there is one: for each phase the number of the channel whose turn it is. */
  readonly vcArbitration?: readonly number[];
}

/** Phases of a table by the arbitration that is selected: none where it is fixed. */
const PHASES: readonly number[] = [0, 32, 64, 128, 128, 256];
/** Bits of a phase of the VC arbitration table; the upper one is reserved. */
const VC_PHASE_BITS = 4;
const TABLE_UNIT_BYTES = 16;

const RESOURCES_OFFSET = 0x10;
const RESOURCE_BYTES = 12;

/** Virtual Channel. The length is that without arbitration tables, which may lie elsewhere. */
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
  derive: (window: CapabilityWindow): VirtualChannels => {
    const { capabilities1, capabilities2, control } = window.registers(VIRTUAL_CHANNEL.registers);
    const vcArbitration = table(window, capabilities2, control, VC_PHASE_BITS);
    return {
      channels: Array.from({ length: channelCount(window) }, (_, i): VirtualChannel => {
        const channel = window.registers(VIRTUAL_CHANNEL_RESOURCE, RESOURCES_OFFSET + RESOURCE_BYTES * i);
        const phaseBits = 1 << capabilities1.arbitrationEntrySize;
        const portArbitration = table(window, channel.capabilities, channel.control, phaseBits);
        return { ...channel, ...(portArbitration === undefined ? {} : { portArbitration }) };
      }),
      ...(vcArbitration === undefined ? {} : { vcArbitration }),
    };
  },
} as const satisfies CapabilityDeclaration;

/** The same under the ID that it has beside a Multi-Function Virtual Channel capability. */
export const VIRTUAL_CHANNEL_WITH_MFVC = {
  ...VIRTUAL_CHANNEL,
  id: 0x0009,
} as const satisfies CapabilityDeclaration;

function channelCount(window: CapabilityWindow): number {
  return window.register(VIRTUAL_CHANNEL.registers.capabilities1).extendedVcCount + 1;
}

/** The phases of an arbitration table; `undefined` where there is none, or not all of it is at hand. */
function table(
  window: CapabilityWindow,
  { arbitrationTableOffset }: { readonly arbitrationTableOffset: number },
  { arbitrationSelect }: { readonly arbitrationSelect: number },
  phaseBits: number,
): number[] | undefined {
  const at = arbitrationTableOffset * TABLE_UNIT_BYTES, phases = PHASES[arbitrationSelect];
  if (at === 0 || phases === undefined || at + phases * phaseBits / 8 > window.availableBytes) {
    return undefined;
  }
  return Array.from({ length: phases }, (_, phase) => {
    const bit = phase * phaseBits;
    return (window.read(at + (bit >>> 3), 1) >>> (bit & 7)) & ((1 << phaseBits) - 1);
  });
}
