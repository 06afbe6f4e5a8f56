/**
 * A queue as plain data: where it stands, and what is in flight. It survives JSON, a reset, and a move to another device (reference 6, A-6.7).
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import { array, integer, object } from "../../errors/records.ts";
import { QUEUE_SIZE_MAX } from "../spec/ring.ts";
import { checkQueueState, type QueueState } from "../spec/queue_state.ts";

/** One part of a chain. */
export interface SavedPart {
  /** Address for the device, hexadecimal: `0x1f000`. */
  readonly iova: string;
  /** Bytes, 1 to 2^32 − 1. */
  readonly lengthBytes: number;
}

/** A chain that was committed and has not come back. */
export interface SavedChain {
  /** Its id in the queue that it was saved from. */
  readonly id: number;
  /** Device-readable parts, in order. */
  readonly readable: readonly SavedPart[];
  /** Device-writable parts, in order; they follow the readable ones. */
  readonly writable: readonly SavedPart[];
}

/** A queue, saved. */
export interface SavedQueue {
  /** Of this format. */
  readonly version: 1;
  /** Number of the virtqueue. */
  readonly queue: number;
  /** Number of descriptors. */
  readonly size: number;
  /** Where the ring goes on when everything in flight is offered again: nothing before this place is outstanding. */
  readonly state: QueueState;
  /** In the order in which they were committed. */
  readonly inFlight: readonly SavedChain[];
}

/** Version that `Virtqueue.save` writes and `checkSavedQueue` takes. */
export const SAVED_QUEUE_VERSION = 1;

const IOVA_PATTERN = /^0x[0-9a-f]{1,16}$/;
const MAX_CHAIN_BYTES = 2 ** 32;

/**
 * Checks what came from a file or another process.
 * @returns fresh plain objects with nothing else in them
 * @throws UsageError naming the field
 */
export function checkSavedQueue(value: unknown): SavedQueue {
  const saved = object(value, "saved queue");
  if (saved.version !== SAVED_QUEUE_VERSION) {
    throw new UsageError(`saved queue: version ${shown(saved.version)} is not known`, {
      hint: `this library reads version ${SAVED_QUEUE_VERSION}`,
    });
  }
  const queue = integer(saved.queue, 0, 0xffff, "saved queue: queue");
  const size = integer(saved.size, 1, QUEUE_SIZE_MAX, "saved queue: size");
  const state = checkQueueState(saved.state, size);
  if (state.layout === "split" && (size & (size - 1)) !== 0) {
    throw new UsageError(`saved queue: size ${size} is no power of two, which a split queue's is`);
  }
  if (
    state.layout === "packed" &&
    (state.usedSlot !== state.availableSlot || state.usedWrap !== state.availableWrap)
  ) {
    throw new UsageError(
      "saved queue: state: usedSlot and usedWrap differ from availableSlot and availableWrap",
      {
        hint: "what is in flight is offered again from the place where the used ring stands (A-6.7)",
      },
    );
  }
  const inFlight = checkSavedChains(saved.inFlight, size, "saved queue: inFlight");
  const seen = new Set<number>();
  inFlight.forEach(({ id }, at) => {
    if (seen.has(id)) throw new UsageError(`saved queue: inFlight[${at}].id ${id} is there twice`);
    seen.add(id);
  });
  return { version: SAVED_QUEUE_VERSION, queue, size, state, inFlight };
}

/** Checks a list of chains for a queue of `size` descriptors. @param where for messages @throws UsageError naming the field */
export function checkSavedChains(value: unknown, size: number, where = "chains"): SavedChain[] {
  const list = array(value, where);
  if (list.length > size) throw new UsageError(`${where}: ${list.length} chains in a queue of ${size}`);
  return list.map((one, at) => checkChain(one, size, `${where}[${at}]`));
}

function checkChain(value: unknown, size: number, where: string): SavedChain {
  const chain = object(value, where);
  const id = integer(chain.id, 0, QUEUE_SIZE_MAX - 1, `${where}.id`);
  const readable = checkParts(chain.readable, `${where}.readable`);
  const writable = checkParts(chain.writable, `${where}.writable`);
  const parts = readable.length + writable.length;
  if (parts === 0 || parts > size) {
    throw new UsageError(`${where}: a chain of ${parts} parts in a queue of ${size}`);
  }
  const bytes = [...readable, ...writable].reduce((sum, part) => sum + part.lengthBytes, 0);
  if (bytes > MAX_CHAIN_BYTES) {
    throw new UsageError(`${where}: a chain of ${bytes} bytes; the standard allows 2^32`);
  }
  return { id, readable, writable };
}

function checkParts(value: unknown, where: string): SavedPart[] {
  return array(value, where).map((one, at) => {
    const part = object(one, `${where}[${at}]`);
    const { iova } = part;
    if (typeof iova !== "string" || !IOVA_PATTERN.test(iova)) {
      throw new UsageError(`${where}[${at}].iova ${shown(iova)} is not like "0x1f000"`);
    }
    return { iova, lengthBytes: integer(part.lengthBytes, 1, 0xffff_ffff, `${where}[${at}].lengthBytes`) };
  });
}

/** A part with its address as rings take it. */
export type PlacedPart = readonly [iovaLo: number, iovaHi: number, lengthBytes: number];

/** Checks chains, and gives their parts at the addresses that `translate` says. @throws UsageError naming the field */
export function placeChains(
  chains: unknown,
  size: number,
  translate: (iova: bigint, lengthBytes: number) => bigint,
): { readable: PlacedPart[]; writable: PlacedPart[] }[] {
  const place = ({ iova, lengthBytes }: SavedPart): PlacedPart => {
    const address = translate(BigInt(iova), lengthBytes);
    if (address < 0n || address >= 1n << 64n) throw new UsageError(`IOVA ${address} is not of 64 bits`);
    return [Number(address & 0xffff_ffffn), Number(address >> 32n), lengthBytes];
  };
  return checkSavedChains(chains, size).map(({ readable, writable }) => ({
    readable: readable.map(place),
    writable: writable.map(place),
  }));
}
