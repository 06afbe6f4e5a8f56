/**
 * The slots of a queue whose chains are all slots: their descriptors are known, and mostly a slot's number is its chain's id.
 *
 * With IN_ORDER it cannot be, since ids follow one another there: then each id has a slot, and each slot the id that it had last.
 *
 * @module
 */
import { shown } from "../../errors/shown.ts";
import { DESC_FLAG } from "../spec/ring.ts";
import type { QueueSlots } from "./virtqueue.ts";

/** No queue has so many. */
const NO_RECORD = 0xffff;

/** Of one queue. */
export class BoundSlots {
  /** What they are. */
  readonly are: QueueSlots;
  /** Flags of a slot's descriptor. */
  readonly flags: number;
  /** Ids below this are slots': with IN_ORDER all of the queue's are, else those of their numbers. */
  readonly ids: number;
  readonly #size: number;
  readonly #inOrder: boolean;
  /** By record, as in `ChainBook`. */
  readonly #parts: Uint32Array<ArrayBuffer>;
  readonly #serial: Float64Array<ArrayBuffer>;
  /** By id: its slot. But with IN_ORDER, the same number. */
  readonly of: Uint16Array<ArrayBuffer>;
  /** IN_ORDER: by slot, the id that it had last. */
  readonly #idOf: Uint16Array<ArrayBuffer>;
  /** IN_ORDER: result of `name`. */
  readonly #named: Uint16Array<ArrayBuffer>;

  /** Every slot's part is written down, once. @param of by id, its slot: the same number at first */
  constructor(
    are: QueueSlots,
    book: {
      readonly size: number;
      readonly inOrder: boolean;
      readonly parts: Uint32Array<ArrayBuffer>;
      readonly serial: Float64Array<ArrayBuffer>;
      readonly slotOf: Uint16Array<ArrayBuffer>;
    },
  ) {
    const { iovaLo, iovaHi, lengthBytes, deviceWrites, tables } = are;
    const { size, inOrder, parts } = book;
    // Places of its own: they may change.
    this.are = { ...are, iovaLo: iovaLo.slice(), iovaHi: iovaHi.slice() };
    this.flags = tables !== undefined ? DESC_FLAG.indirect : deviceWrites ? DESC_FLAG.write : 0;
    this.ids = inOrder ? size : iovaLo.length;
    this.#size = size;
    this.#inOrder = inOrder;
    this.#parts = parts;
    this.#serial = book.serial;
    this.of = book.slotOf;
    this.#idOf = new Uint16Array(size);
    this.#named = new Uint16Array(size);
    for (let slot = 0; slot < iovaLo.length; slot++) {
      parts.set([iovaLo[slot]!, iovaHi[slot]!, lengthBytes, this.flags], slot * 4);
    }
  }

  /** Why a slot cannot be offered. */
  problem(slot: number, lengthBytes: number): string {
    const { iovaLo, lengthBytes: most } = this.are;
    if (slot >= iovaLo.length) return `slot ${slot} of ${iovaLo.length}`;
    const id = this.#inOrder ? this.#idOf[slot]! : slot;
    return this.of[id] === slot && this.#serial[id] !== 0
      ? `slot ${slot} is in flight already`
      : `${lengthBytes} bytes of slot ${slot}, which has ${most}`;
  }

  /**
   * As `Virtqueue.placeSlots`. @param table of a split ring, where a slot's descriptor is; null: there is none
   * @returns how many, up to one that cannot be
   */
  place(
    slots: Uint16Array,
    iovaLo: Uint32Array,
    iovaHi: Uint32Array,
    at: Uint16Array,
    count: number,
    table: Uint32Array | null,
  ): number {
    const parts = this.#parts, serial = this.#serial, idOf = this.#idOf, inOrder = this.#inOrder;
    const { iovaLo: placeLo, iovaHi: placeHi } = this.are;
    let done = 0;
    for (; done < count; done++) {
      const slot = slots[done]!;
      const id = inOrder ? idOf[slot]! : slot;
      if (slot >= placeLo.length || serial[id] !== 0 && this.of[id] === slot) break;
      const from = at[done]!;
      const lo = iovaLo[from]!, hi = iovaHi[from]!;
      // With the ids that they get next, `name` writes them down.
      if (placeLo[slot] === lo && placeHi[slot] === hi) continue;
      placeLo[slot] = lo;
      placeHi[slot] = hi;
      if (inOrder) continue;
      const word = slot * 4;
      parts[word] = lo;
      parts[word + 1] = hi;
      if (table === null) continue;
      table[word] = lo;
      table[word + 1] = hi;
    }
    return done;
  }

  /**
   * IN_ORDER: the ids that slots get from the next record on, up to the first that cannot be offered, with what they are written down.
   * @returns ids, in an array that is used again; those past the last good one are of no record
   */
  name(slots: Uint16Array, count: number, nextRecord: number): Uint16Array {
    const { of, flags } = this;
    const { iovaLo, iovaHi } = this.are;
    const parts = this.#parts, serial = this.#serial, size = this.#size;
    const idOf = this.#idOf, named = this.#named;
    const bound = iovaLo.length;
    let id = nextRecord;
    for (let at = 0; at < count; at++) {
      const slot = slots[at]!;
      named[at] = NO_RECORD;
      if (slot >= bound) break;
      const before = idOf[slot]!;
      if (of[before] === slot) {
        const behind = before - nextRecord;
        if (serial[before] !== 0 || (behind < 0 ? behind + size : behind) < at) break;
      }
      named[at] = id;
      of[id] = slot;
      idOf[slot] = id;
      const word = id * 4;
      parts[word] = iovaLo[slot]!;
      parts[word + 1] = iovaHi[slot]!;
      parts[word + 3] = flags;
      if (++id === size) id = 0;
    }
    return named;
  }
}

/** What is wrong with slots that a queue of that size shall have; undefined when nothing is. */
export function slotsProblem(slots: QueueSlots, size: number): string | undefined {
  if (!(slots?.iovaLo instanceof Uint32Array && slots.iovaHi instanceof Uint32Array)) {
    return `${shown(slots)} has no arrays of addresses`;
  }
  const count = slots.iovaLo.length;
  return count === 0 || count > size || slots.iovaHi.length !== count
    ? `${count} slots in a queue of ${size}`
    : undefined;
}
