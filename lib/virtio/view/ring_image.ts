/**
 * A ring as its memory shows it, for people who look at it: used by drivers, and by the emulated device on the other side.
 *
 * Memory shows what was made available and not read yet, when somebody says where the reader stands; what a device has read and not
 * returned is not in it.
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";
import type { QueueState } from "../spec/queue_state.ts";
import {
  AVAIL_OFFSET,
  DESC_FLAG,
  EVENT_SUPPRESS,
  packedRingBytes,
  splitRingBytes,
  USED_OFFSET,
} from "../spec/ring.ts";

/** A ring's three areas, as bytes; a copy, or memory that the other side changes meanwhile. */
export interface RingAreas {
  /** Descriptor table, or packed descriptor ring. */
  readonly descriptorArea: Uint8Array;
  /** Available ring, or the driver's event suppression. */
  readonly driverArea: Uint8Array;
  /** Used ring, or the device's event suppression. */
  readonly deviceArea: Uint8Array;
}

/** A place in a ring: a free-running index (split), or a slot and its wrap counter (packed). */
export interface RingPlace {
  /** Index, or slot. */
  readonly index: number;
  /** Ring wrap counter; packed only. */
  readonly wrap?: 0 | 1;
}

/** One side's wish to be told: always, never, or at a place in the ring. */
export type RingEvent = "always" | "never" | RingPlace;

/** One part of a chain. */
export interface ImagePart {
  /** Hexadecimal: `0x1f000`. */
  readonly iova: string;
  /** Bytes. */
  readonly lengthBytes: number;
  /** WRITE is set. */
  readonly deviceWrites: boolean;
}

/** A chain as its descriptors show it. */
export interface ImageChain {
  /** Buffer id: the head descriptor (split), or the id of its last descriptor (packed). */
  readonly id: number;
  /** Slot of the available ring (split), or of its first descriptor (packed). */
  readonly slot: number;
  /** Parts; of a chain in an indirect table the table itself. */
  readonly parts: readonly ImagePart[];
  /** The part is an indirect table. */
  readonly indirect: boolean;
  /** What is wrong with it; the parts end before. */
  readonly problem?: string;
}

/** See the module's text. */
export interface RingImage {
  /** Where the driver makes the next chain available. */
  readonly available: RingPlace;
  /** Where the device returns the next chain: `used.idx` (split), or as it was said (packed). */
  readonly used: RingPlace;
  /** When the driver asks to be interrupted. */
  readonly driverEvent: RingEvent;
  /** When the device asks to be notified. */
  readonly deviceEvent: RingEvent;
  /** Chains that are available from the place that was said. */
  readonly waiting: number;
  /** The first of them. */
  readonly chains: readonly ImageChain[];
  /** What cannot be; the rest is then as far as it went. */
  readonly problem?: string;
}

/** Which ring it is. */
export interface RingShape {
  /** Ring layout. */
  readonly layout: "split" | "packed";
  /** Number of descriptors. */
  readonly size: number;
  /** EVENT_IDX is in force. */
  readonly eventIndex: boolean;
}

/** Bytes of the areas of a ring; those of the event index are there with it only. */
export function ringBytes({ layout, size, eventIndex }: RingShape): Record<keyof RingAreas, number> {
  if (layout === "packed") return packedRingBytes(size);
  const { descriptorArea, driverArea, deviceArea } = splitRingBytes(size);
  const event = eventIndex ? 0 : 2;
  return { descriptorArea, driverArea: driverArea - event, deviceArea: deviceArea - event };
}

/** The areas of a ring that lies in one memory, at byte offsets. */
export function ringAreas(
  shape: RingShape,
  memory: ArrayBuffer,
  at: { readonly descriptorOffset: number; readonly driverOffset: number; readonly deviceOffset: number },
): RingAreas {
  const bytes = ringBytes(shape);
  return {
    descriptorArea: new Uint8Array(memory, at.descriptorOffset, bytes.descriptorArea),
    driverArea: new Uint8Array(memory, at.driverOffset, bytes.driverArea),
    deviceArea: new Uint8Array(memory, at.deviceOffset, bytes.deviceArea),
  };
}

/**
 * Decodes a ring. Nothing in it is believed: every index is checked, and no loop is longer than the ring.
 * @param from where the reader of available chains stands, and for a packed ring where it writes
 * @param atMost chains to list
 * @throws UsageError for areas that are too short, or a `from` of the other layout
 */
export function decodeRing(shape: RingShape, areas: RingAreas, from: QueueState, atMost = 32): RingImage {
  const bytes = ringBytes(shape);
  for (const area of ["descriptorArea", "driverArea", "deviceArea"] as const) {
    if (areas[area].length >= bytes[area]) continue;
    throw new UsageError(`${area}: ${areas[area].length} bytes of ${bytes[area]}`);
  }
  const views: Views = {
    descriptors: viewOf(areas.descriptorArea),
    driver: viewOf(areas.driverArea),
    device: viewOf(areas.deviceArea),
  };
  if (shape.layout !== from.layout) {
    throw new UsageError(`the place of a ${from.layout} ring in a ${shape.layout} one`);
  }
  const { available, used, ...found } = from.layout === "split"
    ? decodeSplit(shape.size, views, from.availableIndex, atMost)
    : decodePacked(shape.size, views.descriptors, from, atMost);
  return { available, used, ...ringEvents(shape, areas), ...found };
}

type DecodedRing = Omit<RingImage, "driverEvent" | "deviceEvent">;

interface Views {
  readonly descriptors: DataView;
  readonly driver: DataView;
  readonly device: DataView;
}

function viewOf(area: Uint8Array): DataView {
  return new DataView(area.buffer, area.byteOffset, area.byteLength);
}

/** When each side of a ring asks to be told, as its memory says. */
export function ringEvents(
  { layout, size, eventIndex }: RingShape,
  { driverArea, deviceArea }: Pick<RingAreas, "driverArea" | "deviceArea">,
): Pick<RingImage, "driverEvent" | "deviceEvent"> {
  const event = (area: Uint8Array, flagsAt: number, eventAt: number): RingEvent => {
    const view = viewOf(area);
    if (layout === "packed") return suppression(view.getUint32(0, true));
    if (eventIndex) return { index: view.getUint16(eventAt, true) };
    return (view.getUint16(flagsAt, true) & 1) === 1 ? "never" : "always";
  };
  return {
    driverEvent: event(driverArea, AVAIL_OFFSET.flags, AVAIL_OFFSET.ring + 2 * size),
    deviceEvent: event(deviceArea, USED_OFFSET.flags, USED_OFFSET.ring + USED_OFFSET.elementBytes * size),
  };
}

function decodeSplit(size: number, views: Views, from: number, atMost: number): DecodedRing {
  const { driver, device } = views;
  const available = driver.getUint16(AVAIL_OFFSET.idx, true);
  const count = (available - from) & 0xffff;
  const chains: ImageChain[] = [];
  for (let n = 0; n < Math.min(count, size, atMost); n++) {
    const slot = (from + n) % size;
    const head = driver.getUint16(AVAIL_OFFSET.ring + 2 * slot, true);
    chains.push(splitChain(views.descriptors, size, slot, head));
  }
  return {
    available: { index: available },
    used: { index: device.getUint16(USED_OFFSET.idx, true) },
    waiting: count,
    chains,
    ...(count > size
      ? { problem: `avail.idx ${available} is ${count} ahead of ${from} in a ring of ${size}` }
      : {}),
  };
}

function splitChain(descriptors: DataView, size: number, slot: number, head: number): ImageChain {
  const parts: ImagePart[] = [];
  let indirect = false;
  let at = head;
  for (;;) {
    if (at >= size) return { id: head, slot, parts, indirect, problem: `descriptor ${at} of ${size}` };
    if (parts.length === size) return { id: head, slot, parts, indirect, problem: "a loop" };
    const flags = descriptors.getUint16(16 * at + 12, true);
    parts.push(part(descriptors, at, flags));
    indirect ||= (flags & DESC_FLAG.indirect) !== 0;
    if ((flags & DESC_FLAG.next) === 0) return { id: head, slot, parts, indirect };
    at = descriptors.getUint16(16 * at + 14, true);
  }
}

function decodePacked(
  size: number,
  descriptors: DataView,
  from: Extract<QueueState, { layout: "packed" }>,
  atMost: number,
): DecodedRing {
  let slot = from.availableSlot;
  let wrap = from.availableWrap;
  let waiting = 0;
  const chains: ImageChain[] = [];
  for (let seen = 0; seen < size;) {
    const first = slot;
    const parts: ImagePart[] = [];
    let flags = descriptors.getUint16(16 * slot + 14, true);
    if (!isAvailable(flags, wrap)) break;
    let id = 0;
    let indirect = false;
    let problem: string | undefined;
    for (;;) {
      parts.push(part(descriptors, slot, flags));
      indirect ||= (flags & DESC_FLAG.indirect) !== 0;
      id = descriptors.getUint16(16 * slot + 12, true);
      seen++;
      if (++slot === size) {
        slot = 0;
        wrap = wrap === 1 ? 0 : 1;
      }
      if ((flags & DESC_FLAG.next) === 0) break;
      flags = descriptors.getUint16(16 * slot + 14, true);
      if (seen < size && isAvailable(flags, wrap)) continue;
      problem = `slot ${slot} in its middle is not available`;
      break;
    }
    waiting++;
    if (chains.length < atMost) {
      chains.push({ id, slot: first, parts, indirect, ...(problem === undefined ? {} : { problem }) });
    }
    if (problem !== undefined) break;
  }
  return {
    available: { index: slot, wrap },
    used: { index: from.usedSlot, wrap: from.usedWrap },
    waiting,
    chains,
  };
}

/** AVAIL is the driver's wrap counter, USED its inverse. */
function isAvailable(flags: number, wrap: 0 | 1): boolean {
  return (flags & (DESC_FLAG.avail | DESC_FLAG.used)) === (wrap === 1 ? DESC_FLAG.avail : DESC_FLAG.used);
}

function suppression(word: number): RingEvent {
  const wish = (word >>> 16) & 3;
  if (wish === EVENT_SUPPRESS.disable) return "never";
  if (wish !== EVENT_SUPPRESS.descriptor) return "always";
  return { index: word & 0x7fff, wrap: (word >>> 15 & 1) as 0 | 1 };
}

function part(descriptors: DataView, at: number, flags: number): ImagePart {
  return {
    iova: `0x${descriptors.getBigUint64(16 * at, true).toString(16)}`,
    lengthBytes: descriptors.getUint32(16 * at + 8, true),
    deviceWrites: (flags & DESC_FLAG.write) !== 0,
  };
}
