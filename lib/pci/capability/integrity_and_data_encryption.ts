/**
 * Integrity and Data Encryption, extended ID 0x0030 (PCIe 6.0 §7.9.26): encrypted streams on a link, or between two functions.
 *
 * @module
 */

import type { RegisterTable, RegisterValues } from "../../registers/declaration.ts";
import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** What the control registers of both kinds of stream have in common. */
const STREAM_CONTROL = {
  enable: { bits: 0, access: "RW", label: "En" },
  /** 0 none, else 2^value TLPs share one MAC. */
  aggregationNonPosted: { bits: [3, 2], access: "RW" },
  aggregationPosted: { bits: [5, 4], access: "RW" },
  aggregationCompletion: { bits: [7, 6], access: "RW" },
  pcrcEnable: { bits: 8, access: "RW", label: "PCRC" },
  /** How much of a header is encrypted: 0 nothing, 1 address bits 17:2, then 25:2, 33:2 and 41:2. */
  headerEncryption: { bits: [13, 10], access: "RW" },
  /** 0: AES-GCM, 256-bit keys, 96-bit MAC. */
  algorithm: { bits: [18, 14], access: "RW" },
  trafficClass: { bits: [21, 19], access: "RW" },
  streamId: { bits: [31, 24], access: "RW" },
} as const;
const STREAM_STATUS = {
  /** 0 insecure, 2 secure. */
  state: { bits: [3, 0], access: "RO" },
  integrityCheckFailed: { bits: 31, access: "RW1C", label: "RecvChkFail" },
} as const;

/** Registers of a Link IDE stream, 8 bytes. */
export const LINK_IDE_STREAM = {
  /** Link IDE Stream Control. */
  control: { offset: 0, width: 4, fields: STREAM_CONTROL },
  /** Link IDE Stream Status. */
  status: { offset: 4, width: 4, fields: STREAM_STATUS },
} as const satisfies RegisterTable;

/** Registers of a Selective IDE stream, 20 bytes; its address association registers follow. */
export const SELECTIVE_IDE_STREAM = {
  /** Selective IDE Stream Capability. */
  capabilities: {
    offset: 0,
    width: 4,
    fields: { addressAssociations: { bits: [3, 0], access: "RO" } },
  },
  /** Selective IDE Stream Control. */
  control: {
    offset: 4,
    width: 4,
    fields: {
      ...STREAM_CONTROL,
      configurationRequests: { bits: 9, access: "RW", label: "CFG" },
      isDefault: { bits: 22, access: "RW", label: "Default" },
      teeLimited: { bits: 23, access: "RW", label: "TeeLim" },
    },
  },
  /** Selective IDE Stream Status. */
  status: { offset: 8, width: 4, fields: STREAM_STATUS },
  /** IDE RID Association 1. */
  ridLimit: { offset: 12, width: 4, fields: { limit: { bits: [23, 8], access: "RW" } } },
  /** IDE RID Association 2. */
  ridBase: {
    offset: 16,
    width: 4,
    fields: {
      valid: { bits: 0, access: "RW", label: "Valid" },
      base: { bits: [23, 8], access: "RW" },
      segmentBase: { bits: [31, 24], access: "RW" },
    },
  },
} as const satisfies RegisterTable;

/** Addresses whose TLPs belong to a stream, both ends inclusive. */
export interface IdeAddressRange {
  /** The range counts. */
  readonly valid: boolean;
  /** First address. */
  readonly base: bigint;
  /** Last address. */
  readonly limit: bigint;
}

/** A Selective IDE stream. */
export interface SelectiveIdeStream extends RegisterValues<typeof SELECTIVE_IDE_STREAM> {
  /** Its address association registers. */
  readonly addresses: readonly IdeAddressRange[];
}

/** The streams of a port. */
export interface IdeStreams {
  /** One for each traffic class. */
  readonly linkStreams: readonly RegisterValues<typeof LINK_IDE_STREAM>[];
  /** Those between two functions. */
  readonly selectiveStreams: readonly SelectiveIdeStream[];
}

const STREAMS_OFFSET = 0x0c;
const LINK_STREAM_BYTES = 8;
const SELECTIVE_STREAM_BYTES = 20;
const ADDRESS_BYTES = 12;

/** Integrity and Data Encryption. The length includes the streams. */
export const INTEGRITY_AND_DATA_ENCRYPTION = {
  list: "extended",
  id: 0x0030,
  kind: "integrity-and-data-encryption",
  title: "Integrity & Data Encryption",
  lengthBytes: (window: CapabilityWindow): number => streams(window).endOffset,
  registers: {
    /** IDE Capability. */
    capabilities: {
      offset: 4,
      width: 4,
      fields: {
        linkStreams: { bits: 0, access: "HwInit", label: "Lnk" },
        selectiveStreams: { bits: 1, access: "HwInit", label: "Sel" },
        flowThrough: { bits: 2, access: "HwInit", label: "FlowThru" },
        partialHeaderEncryption: { bits: 3, access: "HwInit", label: "PartHdr" },
        aggregation: { bits: 4, access: "HwInit", label: "Aggr" },
        pcrc: { bits: 5, access: "HwInit", label: "PCRC" },
        keyManagement: { bits: 6, access: "HwInit", label: "IDE_KM" },
        selectiveConfiguration: { bits: 7, access: "HwInit", label: "SelCfg" },
        algorithms: { bits: [12, 8], access: "HwInit" },
        /** One less than the number of traffic classes with a Link IDE stream. */
        linkTrafficClasses: { bits: [15, 13], access: "HwInit" },
        /** One less than their number. */
        selectiveStreamCount: { bits: [23, 16], access: "HwInit" },
        teeLimited: { bits: 24, access: "HwInit", label: "TeeLim" },
      },
    },
    /** IDE Control. */
    control: {
      offset: 8,
      width: 4,
      text: "IDECtl: FTEn±",
      fields: { flowThrough: { bits: 2, access: "RW", label: "FTEn" } },
    },
  },
  derive: (window: CapabilityWindow): IdeStreams => {
    const { linkStreams, selectiveStreams } = streams(window);
    return { linkStreams, selectiveStreams };
  },
} as const satisfies CapabilityDeclaration;

function streams(window: CapabilityWindow): IdeStreams & { readonly endOffset: number } {
  const capabilities = window.register(INTEGRITY_AND_DATA_ENCRYPTION.registers.capabilities);
  let at = STREAMS_OFFSET;
  window.require(at);
  const linkStreams: RegisterValues<typeof LINK_IDE_STREAM>[] = [];
  const linkCount = capabilities.linkStreams ? capabilities.linkTrafficClasses + 1 : 0;
  for (let i = 0; i < linkCount; i++, at += LINK_STREAM_BYTES) {
    linkStreams.push(window.registers(LINK_IDE_STREAM, at));
  }
  const selectiveStreams: SelectiveIdeStream[] = [];
  const selectiveCount = capabilities.selectiveStreams ? capabilities.selectiveStreamCount + 1 : 0;
  for (let i = 0; i < selectiveCount; i++) {
    const registers = window.registers(SELECTIVE_IDE_STREAM, at);
    at += SELECTIVE_STREAM_BYTES;
    const count = registers.capabilities.addressAssociations, addresses: IdeAddressRange[] = [];
    for (let j = 0; j < count; j++, at += ADDRESS_BYTES) addresses.push(addressRange(window, at));
    selectiveStreams.push({ ...registers, addresses });
  }
  return { linkStreams, selectiveStreams, endOffset: at };
}

/** Base and limit count MiB, their upper halves behind them. */
function addressRange(window: CapabilityWindow, at: number): IdeAddressRange {
  const low = window.read(at, 4), limitHigh = window.read(at + 4, 4), baseHigh = window.read(at + 8, 4);
  return {
    valid: (low & 1) === 1,
    base: (BigInt(baseHigh) << 32n) | BigInt((low >>> 8) & 0xfff) << 20n,
    limit: (BigInt(limitHigh) << 32n) | BigInt(low >>> 20) << 20n | 0xfffffn,
  };
}
