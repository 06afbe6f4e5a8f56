/**
 * The packed virtqueue, driver's side (SPEC packed virtqueues; reference 1.4).
 *
 * Both sides write the descriptor ring. Of what the device wrote, the driver reads the flags, id and length of the one descriptor that is
 * used next, each once; how far to skip after it, and what its id stands for, are the driver's own (see `DriverRing`).
 *
 * A burst is made visible by one store: of all descriptors but the first head the flags are written at once, since a device looks at
 * descriptors in ring order and stops at the first that is not available. The head's flags follow with `Atomics.store` (after
 * everything before them, the standard's barrier), and the device's event suppression is loaded with `Atomics.load` behind it: the two are
 * sequentially consistent, which is the barrier that the standard demands between them.
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";
import { DESC_FLAG, EVENT_SUPPRESS, QUEUE_SIZE_MAX } from "../spec/ring.ts";
import { DriverRing, type DriverRingParts } from "./driver_ring.ts";
import { usedIdWrong, usedLengthWrong, usedWithoutChain } from "./faults.ts";
import { DESCRIPTOR_BYTES } from "./layout.ts";
import type { PackedQueueState, QueueState } from "../spec/queue_state.ts";
import type { QueueSnapshot, UsedBurst } from "./virtqueue.ts";

const { avail: AVAIL, used: USED } = DESC_FLAG;
const BOTH = AVAIL | USED;
// Half-words of a descriptor.
const ID_AT = 6;
const FLAGS_AT = 7;
const HALF_WORDS = 8;
const NO_HEAD = -1;

/** A packed ring with indirect descriptors, event suppression and in-order use. See `Virtqueue` for what its calls do. */
export class PackedQueue extends DriverRing {
  /** Discriminator. */
  readonly layout = "packed";

  // Shared with the device.
  readonly #ring: Uint32Array<ArrayBuffer>;
  readonly #halves: Uint16Array<ArrayBuffer>;
  /** One word each: `pvirtq_event_suppress`, offset and wrap in the low half. */
  readonly #driverEvent: Uint32Array<ArrayBuffer>;
  readonly #deviceEvent: Uint32Array<ArrayBuffer>;

  /** Next slot to fill and the wrap counter that goes with it; the same as of the last `publish`. */
  #next = 0;
  #wrap: 0 | 1 = 1;
  #published = 0;
  #publishedWrap: 0 | 1 = 1;
  /** The first head that is not visible yet, and the flags that it will get. */
  #headSlot = NO_HEAD;
  #headFlags = 0;
  /** Next slot to look for a used descriptor in, and the device's wrap counter there. */
  #nextUsed = 0;
  #usedWrap: 0 | 1 = 1;

  /** Takes over `parts.memory`, which must be zeroed. @throws UsageError for a start with a used part of its own, or of another layout */
  constructor(parts: DriverRingParts) {
    const { layout, memory } = parts;
    super(parts);
    const { buffer } = memory;
    this.#ring = new Uint32Array(buffer, layout.descriptorOffset, layout.size * 4);
    this.#halves = new Uint16Array(buffer, layout.descriptorOffset, layout.size * HALF_WORDS);
    this.#driverEvent = new Uint32Array(buffer, layout.driverOffset, 1);
    this.#deviceEvent = new Uint32Array(buffer, layout.deviceOffset, 1);
    if (parts.start !== undefined) {
      this.checkStart(parts.start);
      this.rewind(parts.start);
    }
  }

  /** As `Virtqueue.position`. */
  get position(): PackedQueueState {
    this.check();
    return {
      layout: "packed",
      availableSlot: this.#nextUsed,
      availableWrap: this.#usedWrap,
      usedSlot: this.#nextUsed,
      usedWrap: this.#usedWrap,
    };
  }

  /** As `DriverRing.offer`. */
  protected override offer(id: number): void {
    const ring = this.#ring;
    const first = this.#next;
    // AVAIL is the wrap counter, USED its inverse.
    let flags = this.#wrap === 1 ? AVAIL : USED;
    const inTable = this.tableCount[id]!;
    if (inTable !== 0) {
      this.#writeTable(id, inTable);
      const word = first * 4;
      ring[word] = this.tableLo(id);
      ring[word + 1] = this.tableHi(id);
      ring[word + 2] = inTable * DESCRIPTOR_BYTES;
      this.#writeHead(first, id, flags | DESC_FLAG.indirect);
      this.#advance(1);
      return;
    }
    const { parts, link } = this;
    const count = this.taken[id]!;
    const headFlags = flags | parts[id * 4 + 3]! | (count > 1 ? DESC_FLAG.next : 0);
    let record = id;
    let slot = first;
    for (let left = count; left > 0; left--) {
      const from = record * 4;
      const word = slot * 4;
      ring[word] = parts[from]!;
      ring[word + 1] = parts[from + 1]!;
      ring[word + 2] = parts[from + 2]!;
      if (left !== count) {
        ring[word + 3] = id | (flags | parts[from + 3]! | (left > 1 ? DESC_FLAG.next : 0)) << 16;
      }
      record = link[record]!;
      if (++slot === this.size) {
        slot = 0;
        flags ^= BOTH;
      }
    }
    this.#writeHead(first, id, headFlags);
    this.#advance(count);
  }

  /** The flags of a burst's first head wait for `publish`: they make all of it visible. */
  #writeHead(slot: number, id: number, flags: number): void {
    const halves = this.#halves;
    halves[slot * HALF_WORDS + ID_AT] = id;
    if (this.#headSlot === NO_HEAD) {
      this.#headSlot = slot;
      this.#headFlags = flags;
    } else {
      halves[slot * HALF_WORDS + FLAGS_AT] = flags;
    }
  }

  #advance(count: number): void {
    const next = this.#next + count;
    if (next >= this.size) {
      this.#next = next - this.size;
      this.#wrap = this.#wrap === 1 ? 0 : 1;
    } else {
      this.#next = next;
    }
  }

  /** Entries follow one another; WRITE is the only flag that means something, id is reserved. */
  #writeTable(id: number, count: number): void {
    const { tables, tableParts } = this;
    let word = id * this.tableSegments * 4;
    for (let part = 0; part < count; part++, word += 4) {
      tables[word] = tableParts[word]!;
      tables[word + 1] = tableParts[word + 1]!;
      tables[word + 2] = tableParts[word + 2]!;
      tables[word + 3] = tableParts[word + 3]! << 16;
    }
  }

  /** As `Virtqueue.publish`. */
  publish(): boolean {
    this.check();
    if (this.markPublished() === 0) return false;
    const { size } = this;
    // A burst fills the ring at most, so equal places mean all of it.
    const filled = this.#next > this.#published
      ? this.#next - this.#published
      : this.#next - this.#published + size;
    this.#published = this.#next;
    this.#publishedWrap = this.#wrap;
    const head = this.#headSlot;
    this.#headSlot = NO_HEAD;
    Atomics.store(this.#halves, head * HALF_WORDS + FLAGS_AT, this.#headFlags);
    const event = Atomics.load(this.#deviceEvent, 0);
    const wish = (event >>> 16) & 3;
    if (wish === EVENT_SUPPRESS.disable) return false;
    // A reserved value, DESC without EVENT_IDX or a place outside the ring say nothing sensible: one notification too many does no harm.
    const slot = event & 0x7fff;
    if (wish !== EVENT_SUPPRESS.descriptor || !this.eventIndex || slot >= size) return true;
    // How far the event lies behind the last slot filled, counted over both laps.
    let behind = this.#next - 1 - slot;
    if ((event >>> 15 & 1) !== this.#wrap) behind += size;
    if (behind < 0) behind += 2 * size;
    return behind < filled;
  }

  /** As `Virtqueue.notify`; the next slot to be made available and its wrap counter go with it (1.6). */
  notify(): void {
    this.ring(this.#published, this.#publishedWrap);
  }

  /** As `Virtqueue.hasUsed`. */
  hasUsed(): boolean {
    this.check();
    return this.inBatch || this.#isUsed(this.#flags()) || this.empty();
  }

  #flags(): number {
    return Atomics.load(this.#halves, this.#nextUsed * HALF_WORDS + FLAGS_AT);
  }

  /** Used: both bits are the device's wrap counter. */
  #isUsed(flags: number): boolean {
    return (flags & BOTH) === (this.#usedWrap === 1 ? BOTH : 0);
  }

  /**
   * As `Virtqueue.takeUsed`. When a returned chain is not what the device may return, those before it are still given out, and the error is
   * thrown by this call when there are none before it, else by the next one.
   *
   * A used descriptor without WRITE has no length, says the standard, and QEMU never sets it: then the length counts where it can be one, and
   * is 0 where it cannot.
   */
  takeUsed(into: UsedBurst, max: number = QUEUE_SIZE_MAX): number {
    this.check();
    const ids = into?.ids;
    const lengths = into?.lengths;
    if (ids === undefined || lengths === undefined) {
      throw new UsageError("takeUsed: no arrays for what is used");
    }
    let count = max;
    if (count > ids.length) count = ids.length;
    if (count > lengths.length) count = lengths.length;
    let done = 0;
    for (; done < count; done++) {
      if (this.inBatch) {
        this.#skip(this.nextOfBatch(into, done));
        continue;
      }
      const flags = this.#flags();
      if (!this.#isUsed(flags)) {
        if (done === 0) this.empty();
        break;
      }
      const slot = this.#nextUsed;
      if (this.held === 0) {
        this.break(usedWithoutChain(this.place, slot, flags));
        break;
      }
      // Each is read once: the device could change it between a check and a second read.
      const id = this.#halves[slot * HALF_WORDS + ID_AT]!;
      let length = this.#ring[slot * 4 + 2]!;
      const holder = this.holder(id);
      if (holder !== 2) {
        this.break(usedIdWrong(this.place, id, this.size, holder === 1, slot));
        break;
      }
      const writable = this.writable[id]!;
      if (length > writable) {
        if ((flags & DESC_FLAG.write) !== 0) {
          this.break(usedLengthWrong(this.place, id, length, writable, slot));
          break;
        }
        length = 0;
      }
      if (this.inOrder) {
        this.startBatch(id, length);
        this.#skip(this.nextOfBatch(into, done));
        continue;
      }
      this.release(id);
      ids[done] = id;
      lengths[done] = length;
      this.#skip(id);
    }
    return this.give(done);
  }

  /** On to where the device writes next: behind all descriptors of the chain. */
  #skip(id: number): void {
    const next = this.#nextUsed + this.taken[id]!;
    if (next >= this.size) {
      this.#nextUsed = next - this.size;
      this.#usedWrap = this.#usedWrap === 1 ? 0 : 1;
    } else {
      this.#nextUsed = next;
    }
  }

  /** As `Virtqueue.suppressInterrupts`. */
  suppressInterrupts(): void {
    this.check();
    Atomics.store(this.#driverEvent, 0, EVENT_SUPPRESS.disable << 16);
  }

  /** As `Virtqueue.enableInterrupts`. */
  enableInterrupts(): boolean {
    this.check();
    // One store of place and flags: the device never sees one without the other.
    const event = this.eventIndex
      ? (EVENT_SUPPRESS.descriptor << 16) | (this.#usedWrap << 15) | this.#nextUsed
      : EVENT_SUPPRESS.enable << 16;
    Atomics.store(this.#driverEvent, 0, event);
    return this.hasUsed();
  }

  /** As `DriverRing.rewind`. */
  protected override rewind(state: QueueState): void {
    if (state.layout !== "packed") return;
    const { availableSlot: slot, availableWrap: wrap } = state;
    this.#next = this.#published = this.#nextUsed = slot;
    this.#wrap = this.#publishedWrap = this.#usedWrap = wrap;
    this.#headSlot = NO_HEAD;
    this.#ring.fill(0);
    // Every slot looks as used in the lap before: neither available nor used when it is reached.
    const before = wrap === 1 ? BOTH : 0;
    for (let at = 0; at < this.size; at++) {
      this.#halves[at * HALF_WORDS + FLAGS_AT] = at < slot ? before : before ^ BOTH;
    }
    this.#driverEvent[0] = 0;
    this.#deviceEvent[0] = 0;
  }

  /** As `DriverRing.checkDevice`. */
  protected override checkDevice(state: QueueState): void {
    if (state.layout !== "packed") {
      throw this.stateError("queue_avail_state", "the state is that of a split queue");
    }
    if (state.usedSlot !== this.#nextUsed || state.usedWrap !== this.#usedWrap) {
      throw this.stateError(
        "queue_used_state",
        `slot ${state.usedSlot}, wrap ${state.usedWrap}; the ring's next used descriptor is slot ${this.#nextUsed}, wrap ${this.#usedWrap}`,
      );
    }
    const ahead = this.#distance(state.availableSlot, state.availableWrap);
    if (ahead <= this.#distance(this.#published, this.#publishedWrap)) return;
    throw this.stateError(
      "queue_avail_state",
      `slot ${state.availableSlot}, wrap ${state.availableWrap} is not among the slots from ${this.#nextUsed} to ${this.#published}, where the device may be (A-6.7)`,
    );
  }

  /** Slots from the next used one to a place, counted over both laps. */
  #distance(slot: number, wrap: 0 | 1): number {
    const laps = 2 * this.size;
    return (slot - this.#nextUsed + (wrap === this.#usedWrap ? 0 : this.size) + laps) % laps;
  }

  /** As `DriverRing.places`. */
  protected override get places(): Pick<QueueSnapshot, "available" | "used"> {
    return {
      available: { index: this.#published, wrap: this.#publishedWrap },
      used: { index: this.#nextUsed, wrap: this.#usedWrap },
    };
  }
}
