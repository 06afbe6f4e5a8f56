/**
 * How a channel lies in its region: a header, two rings' positions, two rings' bytes.
 *
 * The side that creates it writes ring 0 and reads ring 1; the side that connects does the opposite. Every word has one writer, except the two
 * that say that somebody sleeps, and the state. Head and tail, which change with every message, and the words of each side that hardly ever change, lie
 * on cache lines of their own, two apart, since processors fetch pairs.
 *
 * @module
 */
import { ProtocolError } from "../../../lib/errors/mod.ts";
import { Struct, u32, u64 } from "../../../lib/wire/mod.ts";
import type { IsmRegion } from "../region.ts";

/** First word of every channel. */
export const CHANNEL_MAGIC = 0x4e435352;
/** Of this layout. */
export const CHANNEL_VERSION = 1;

/** The first 64 bytes. */
export const CHANNEL_HEADER = new Struct("channel_header", 64, {
  magic: u32(0),
  version: u32(4),
  /** Bytes of each ring: a power of two. */
  capacity: u32(8),
  /** One of `CHANNEL_STATE`. */
  state: u32(12),
  /** devid of the side that created it. */
  creator: u64(16),
  /** devid of the side that connected; written before `state` says so. */
  connector: u64(24),
});

/** Values of `state`: each is reached from the one before, and the second by one side only. */
export const CHANNEL_STATE = { open: 1, connecting: 2, connected: 3 } as const;

/** Positions of one ring, 512 bytes. They count bytes and wrap at 2^32. */
export const RING_CONTROL = new Struct("ring_control", 512, {
  /** Bytes that the producer has written. */
  head: u32(0),
  /** Bytes that the consumer has read. */
  tail: u32(128),
  /** `SIDE` bits of the producer. */
  producer: u32(256),
  /** 1: the producer wants a notification when there is room. */
  producerSleeps: u32(260),
  /** `SIDE` bits of the consumer. */
  consumer: u32(384),
  /** 1: the consumer wants a notification when there is something. */
  consumerSleeps: u32(388),
});

/** What a side says of itself. */
export const SIDE = {
  /** Nothing more comes (producer), nothing more is read (consumer). */
  closed: 1,
  /** The channel was given up: what was written is not all that was meant to be. */
  aborted: 2,
} as const;

/** Offset of a ring's positions. */
export const RING_CONTROL_AT: readonly [number, number] = [512, 1024];
/** Where the bytes of ring 0 begin; those of ring 1 follow. What is before must lie in one piece. */
export const RINGS_AT = 2048;

/** Smallest and largest ring. */
export const CAPACITY_LIMITS = { least: 64, most: 2 ** 30 } as const;

/** Bytes of a region for a channel with rings of `capacity` bytes. */
export function channelBytes(capacity: number): number {
  return RINGS_AT + 2 * capacity;
}

/** True for a size that a ring may have. */
export function isCapacity(capacity: number): boolean {
  return Number.isInteger(capacity) && capacity >= CAPACITY_LIMITS.least &&
    capacity <= CAPACITY_LIMITS.most &&
    (capacity & (capacity - 1)) === 0;
}

/** @returns bytes of each ring @throws ProtocolError when there is no channel, or one that does not fit */
export function readHeader(region: IsmRegion): number {
  const what = `region 0x${region.token.toString(16)}`;
  if (region.sizeBytes < RINGS_AT) {
    throw new ProtocolError(`${what} is no channel: it has ${region.sizeBytes} bytes`);
  }
  const { magic, version, capacity } = CHANNEL_HEADER.decode(region.bytes(0, CHANNEL_HEADER.sizeBytes));
  if (magic !== CHANNEL_MAGIC) {
    throw new ProtocolError(`${what} is no channel: it begins with 0x${magic.toString(16)}`);
  }
  if (version !== CHANNEL_VERSION) {
    throw new ProtocolError(`${what} is a channel of version ${version}; this is version ${CHANNEL_VERSION}`);
  }
  if (!isCapacity(capacity) || channelBytes(capacity) > region.sizeBytes) {
    throw new ProtocolError(`${what}: rings of ${capacity} bytes in a region of ${region.sizeBytes}`);
  }
  return capacity;
}
