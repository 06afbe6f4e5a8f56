/**
 * The device's side of a packed ring (virtio 1.2 §2.8; reference 1.4).
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";
import type { QueueState } from "../../../virtio/spec/queue_state.ts";
import { DESC_FLAG, EVENT_SUPPRESS, PACKED_ALIGN, QUEUE_SIZE_MAX } from "../../../virtio/spec/ring.ts";
import type { Burst } from "./burst.ts";
import type { Chain } from "./chain.ts";
import type { DeviceQueueSetup, QueueDevice } from "./device_queue.ts";
import { DeviceRing, misaligned } from "./ring.ts";

const NONE16 = new Uint16Array(0);
const NONE32 = new Uint32Array(0);
const NONE64 = new Float64Array(0);
/** Buffer ids are any 16 bits that the driver likes. */
const IDS = 65536;
const AVAIL_USED = DESC_FLAG.avail | DESC_FLAG.used;
/** Flags that say what a chain is made of. */
const SHAPE = DESC_FLAG.next | DESC_FLAG.indirect | DESC_FLAG.write;
/** Loads are ordered on this processor: the acquire of a descriptor's flags is one of those behind it that were seen available, too. */
const LOADS_IN_ORDER = Deno.build.arch === "x86_64";
const DRIVER_RULE = "1.4";
const DESCRIPTOR_AREA = "descriptor area";
const DRIVER_AREA = "driver area";
const DEVICE_AREA = "device area";
// Places in `#life`.
const TAKEN = 0;
const NOTIFIED = 1;

/** Descriptors from the used position to the available one: those that the device has. */
function outstanding(state: QueueState & { layout: "packed" }, size: number): number {
  return state.availableSlot - state.usedSlot + (state.availableWrap === state.usedWrap ? 0 : size);
}

/** What is wrong with a state for a ring of `size` slots; undefined when nothing is. */
export function checkPackedState(state: QueueState, size: number): string | undefined {
  if (state.layout !== "packed") return `the state is one of a ${state.layout} ring`;
  const { availableSlot, availableWrap, usedSlot, usedWrap } = state;
  if (availableSlot >= size || usedSlot >= size) {
    return `the state has slots ${availableSlot} and ${usedSlot}, the queue ${size}`;
  }
  const count = outstanding(state, size);
  if (count >= 0 && count <= size) return undefined;
  return `the used state (slot ${usedSlot}, wrap ${usedWrap}) is not at most a round behind the available one (slot ${availableSlot}, wrap ${availableWrap})`;
}

/**
 * What is wrong with the registers of a packed ring; undefined when nothing is.
 * Whether its areas are mapped is found out at first use, when the device may touch memory.
 */
export function checkPackedSetup(setup: DeviceQueueSetup): string | undefined {
  const { size, state } = setup;
  if (!Number.isInteger(size) || size < 1 || size > QUEUE_SIZE_MAX) {
    return `queue_size ${size} is not from 1 to ${QUEUE_SIZE_MAX}`;
  }
  return (state === undefined ? undefined : checkPackedState(state, size)) ?? misaligned(setup, PACKED_ALIGN);
}

/** A packed ring, read as strictly as the standard lets a device be. */
export class PackedDeviceQueue extends DeviceRing {
  /** Ring layout. */
  readonly layout = "packed";

  /** Descriptors of each chain that the device holds, by id; 0: it does not hold that. As long as ids need, which is mostly `size`. */
  #slots: Uint16Array;
  /** Ids in the order in which they were popped, round and round. */
  readonly #order: Uint16Array;
  /** Device-writable bytes of the same; only where batches are made. */
  readonly #writable: Float64Array;
  /** Place in `#order` of the next chain to be popped, and with IN_ORDER of the next to be returned. */
  #orderNext = 0;
  #returnNext = 0;

  // Views of the three areas; made again whenever the client's mappings change.
  #desc32: Uint32Array = NONE32;
  #desc16: Uint16Array = NONE16;
  #driverEvent: Uint32Array = NONE32;
  #deviceEvent: Uint32Array = NONE32;

  /** Slot of the next descriptor to read, and the driver's wrap counter there. */
  #next = 0;
  #wrap = 1;
  /** Slot of the next used descriptor, and the device's wrap counter there. */
  #usedNext = 0;
  #usedWrap = 1;
  /** The same as far as the driver has been told. */
  #usedPublished = 0;
  #usedPublishedWrap = 1;
  /** The used descriptor that hides what was pushed until its flags are written; −1: nothing is hidden. */
  #firstSlot = -1;
  #firstFlags = 0;
  /** Descriptors that were pushed since the last `publish`. */
  #pushed = 0;
  /** Descriptors between the published used position and `#next`: the driver must not touch them. */
  #outstanding = 0;

  /**
   * For notifications that carry a position: descriptors taken in this life, and the last position. In an array, since numbers that outgrow
   * a small integer would be made anew at each store.
   */
  readonly #life = new Float64Array(2);
  #startSlot: number;
  #startWrap: number;
  /** The position must be taken from the device area, where `leave` left it. */
  #left = false;
  #reservedFlagsSeen = false;
  readonly #acquiresEach: boolean;

  /** A queue that was just enabled. @throws UsageError for a setup that `checkPackedSetup` finds fault with */
  constructor(setup: DeviceQueueSetup, device: QueueDevice) {
    super(setup, device, DRIVER_RULE, checkPackedSetup(setup));
    this.#slots = new Uint16Array(setup.size);
    this.#order = new Uint16Array(setup.size);
    this.#writable = this.batches ? new Float64Array(setup.size) : NONE64;
    if (setup.state?.layout === "packed") {
      const { state } = setup;
      this.#next = state.availableSlot;
      this.#wrap = state.availableWrap;
      this.#usedNext = this.#usedPublished = state.usedSlot;
      this.#usedWrap = this.#usedPublishedWrap = state.usedWrap;
      this.#outstanding = outstanding(state, setup.size);
    }
    this.#startSlot = this.#next;
    this.#startWrap = this.#wrap;
    this.#left = setup.left ?? false;
    this.#acquiresEach = setup.acquiresEach ?? !LOADS_IN_ORDER;
  }

  /** Where the device stands. */
  state(): QueueState {
    return {
      layout: "packed",
      availableSlot: this.#next,
      availableWrap: this.#wrap as 0 | 1,
      usedSlot: this.#usedPublished,
      usedWrap: this.#usedPublishedWrap as 0 | 1,
    };
  }

  /**
   * Judges the position of a notification. Notifications may come late, so one is wrong only when its position is ahead of the ring however
   * many rounds old it is: positions repeat every two rounds, and those of one queue come in order to within less than one round.
   */
  checkNotification(nextOffset: number, nextWrap: number): string | undefined {
    const { size } = this;
    if (!this.ready() || !this.#loadRing()) return undefined;
    if (nextOffset >= size) return `the notification's next_off ${nextOffset} is not a slot of ${size}`;
    const period = 2 * size;
    let position = nextOffset - this.#startSlot + (nextWrap === this.#startWrap ? 0 : size);
    if (position < 0) position += period;
    const least = this.#life[NOTIFIED]! - size + 1;
    if (position < least) position += period * Math.ceil((least - position) / period);
    const taken = this.#life[TAKEN]!;
    const end = taken + this.#availableSlots(position - taken);
    if (position > end) {
      return `the notification says that the next descriptor is slot ${nextOffset}, wrap ${nextWrap}: ${
        position - end
      } of those before it are not available`;
    }
    if (position > this.#life[NOTIFIED]!) this.#life[NOTIFIED] = position;
    return undefined;
  }

  /** Descriptors from the next one on that are available, up to `most`. */
  #availableSlots(most: number): number {
    let slot = this.#next, flags = availFlags(this.#wrap);
    const room = this.size - this.#outstanding;
    let count = 0;
    while (count < most && count < room) {
      if ((Atomics.load(this.#desc16, 8 * slot + 7) & AVAIL_USED) !== flags) break;
      count++;
      if (++slot === this.size) {
        slot = 0;
        flags ^= AVAIL_USED;
      }
    }
    return count;
  }

  /** Chains that can be popped. A chain that breaks a rule is counted, and the last. */
  available(atMost: number = this.size): number {
    return !this.dma.rests() && this.ready() && this.#loadRing() ? this.#scan(atMost) : 0;
  }

  /** Loads a ring that is a copy. What was returned is in the client's memory already, but for the flags of the first that hides it. */
  #loadRing(): boolean {
    return !this.far || this.load(DESCRIPTOR_AREA);
  }

  /** Counts chains from the next one on, up to `chains`; `#scanSlot` and `#scanWrap` are then behind the last of them. */
  #scan(chains: number): number {
    const { size } = this;
    const desc16 = this.#desc16;
    let slot = this.#next, wrap = this.#wrap, room = size - this.#outstanding;
    let count = 0;
    while (count < chains && room > 0) {
      const expected = availFlags(wrap);
      let flags = Atomics.load(desc16, 8 * slot + 7);
      if ((flags & AVAIL_USED) !== expected) break;
      count++;
      for (;;) {
        room--;
        if (++slot === size) {
          slot = 0;
          wrap ^= 1;
        }
        if ((flags & DESC_FLAG.next) === 0 || room === 0) break;
        flags = desc16[8 * slot + 7]!;
        if ((flags & AVAIL_USED) !== availFlags(wrap)) {
          room = 0;
          break;
        }
      }
    }
    this.#scanSlot = slot;
    this.#scanWrap = wrap;
    return count;
  }
  #scanSlot = 0;
  #scanWrap = 1;

  /** Takes the next chain. @returns its id, or −1 */
  pop(into: Chain): number {
    if (this.dma.rests() || !this.ready() || !this.#loadRing()) return -1;
    const head = this.#next;
    // Sequentially consistent, and so the acquire of all else that the driver wrote before this word.
    const flags = Atomics.load(this.#desc16, 8 * head + 7);
    if ((flags & AVAIL_USED) !== availFlags(this.#wrap)) return -1;
    // What the head makes visible may have been copied before it.
    if (!this.#loadRing()) return -1;
    into.begin(-1);
    const slots = this.#walk(head, flags, into);
    if (slots < 0) return -1;
    let last = head + slots - 1;
    if (last >= this.size) last -= this.size;
    const id = this.#desc16[8 * last + 6]!;
    if (id >= this.#slots.length) {
      const all = new Uint16Array(IDS);
      all.set(this.#slots);
      this.#slots = all;
    }
    if (this.#slots[id] !== 0) {
      return this.fail("1.4", `${this.nameOf(head)}: id ${id} was made available while the device has it`);
    }
    into.id = id;
    if (into.far) this.lend(into);
    this.#slots[id] = slots;
    this.heldCount++;
    this.#order[this.#orderNext] = id;
    if (this.batches) this.#writable[this.#orderNext] = into.writableBytes;
    if (++this.#orderNext === this.size) this.#orderNext = 0;
    this.#outstanding += slots;
    this.#life[TAKEN]! += slots;
    const next = head + slots;
    if (next < this.size) this.#next = next;
    else {
      this.#next = next - this.size;
      this.#wrap ^= 1;
    }
    return id;
  }

  /** @returns the descriptors that the chain takes in the ring, or −1 when the queue broke over it */
  #walk(head: number, headFlags: number, into: Chain): number {
    const { size } = this;
    const desc32 = this.#desc32, desc16 = this.#desc16;
    const room = size - this.#outstanding;
    let slot = head, flags = headFlags;
    let expected = availFlags(this.#wrap);
    for (let slots = 1;; slots++) {
      if (slots > size) return this.tooLong(head) ? slots : -1;
      if (slots > room) {
        this.bad(head, `slot ${slot} was made available before the device had returned it`);
        return -1;
      }
      if (slots > 1) {
        flags = desc16[8 * slot + 7]!;
        if ((flags & AVAIL_USED) !== expected) {
          this.bad(head, `slot ${slot} in its middle is not available`);
          return -1;
        }
      }
      const lo = desc32[4 * slot]!, hi = desc32[4 * slot + 1]!, length = desc32[4 * slot + 2]!;
      if ((flags & DESC_FLAG.indirect) !== 0) {
        if (!this.indirect) {
          this.bad(head, `slot ${slot} is indirect, INDIRECT_DESC was not negotiated`);
          return -1;
        }
        if ((flags & DESC_FLAG.next) !== 0 || slots > 1) {
          this.bad(head, `slot ${slot} is both INDIRECT and part of a list`);
          return -1;
        }
        return this.#walkTable(head, lo, hi, length, into) ? 1 : -1;
      }
      if (!this.take(head, slot, flags, lo, hi, length, into)) return -1;
      if ((flags & DESC_FLAG.next) === 0) return slots;
      if (++slot === size) {
        slot = 0;
        expected ^= AVAIL_USED;
      }
    }
  }

  /** Takes all entries of an indirect table: WRITE is the only flag that means something there, the device ignores the others (§2.8.7). */
  #walkTable(head: number, lo: number, hi: number, length: number, into: Chain): boolean {
    if (!this.checkTable(head, length)) return false;
    const entries = length / 16;
    if (entries > this.size) return this.tooLong(head);
    for (let index = 0; index < entries; index++) {
      if (!this.readEntry(head, lo, hi, index)) return false;
      const flags = this.entryFlags;
      if ((flags & ~DESC_FLAG.write) !== 0 && !this.#reservedFlagsSeen) {
        this.#reservedFlagsSeen = true;
        this.report(
          head,
          `entry ${index} of the indirect table has flags 0x${flags.toString(16)}: only WRITE may be set`,
        );
      }
      if (!this.take(head, index, flags, this.entryLo, this.entryHi, this.entryLength, into)) return false;
    }
    return true;
  }

  /** Takes the next chains while they are of one buffer. @returns how many */
  popBurst(into: Burst, most: number, deviceWrites: boolean): number {
    if (this.dma.rests() || !this.ready() || this.far) return 0;
    const desc32 = this.#desc32, desc16 = this.#desc16;
    let slot = this.#next, available = availFlags(this.#wrap);
    if ((Atomics.load(desc16, 8 * slot + 7) & AVAIL_USED) !== available) return 0;
    const { size } = this;
    const room = size - this.#outstanding;
    if (most > into.capacity) most = into.capacity;
    if (most > room) most = room;

    const acquiresEach = this.#acquiresEach, batches = this.batches;
    const slots = this.#slots, order = this.#order;
    const { ids, regions, offsets, lengths } = into;
    const shape = deviceWrites ? DESC_FLAG.write : 0;
    let { kept } = this;
    if (kept !== null && !(deviceWrites ? kept.deviceWrites : kept.deviceReads)) kept = null;
    let startLo = 0, startHi = 0, end = -1;
    if (kept !== null) ({ startLo, startHi, sizeBytes: end } = kept);
    let at = this.#orderNext;
    let taken = 0;
    for (; taken < most; taken++) {
      const word = slot << 2;
      const last = desc32[word + 3]!;
      const flags = acquiresEach ? Atomics.load(desc16, 2 * word + 7) : last >>> 16;
      if ((flags & AVAIL_USED) !== available || (flags & SHAPE) !== shape) break;
      const lo = desc32[word]!, hi = desc32[word + 1]!, length = desc32[word + 2]!;
      const id = acquiresEach ? desc16[2 * word + 6]! : last & 0xffff;
      if (length === 0 || id >= slots.length || slots[id] !== 0) break;
      let offset = (hi - startHi) * 4294967296 + (lo - startLo);
      if (offset < 0 || offset + length > end) {
        if (!this.dma.findMapped(lo, hi, length, deviceWrites)) break;
        kept = this.dma.region!;
        offset = this.dma.offset;
        ({ startLo, startHi, sizeBytes: end } = kept);
      }
      slots[id] = 1;
      order[at] = id;
      if (batches) this.#writable[at] = deviceWrites ? length : 0;
      if (++at === size) at = 0;
      ids[taken] = id;
      if (regions[taken] !== kept) regions[taken] = kept!;
      offsets[taken] = offset;
      lengths[taken] = length;
      if (++slot === size) {
        slot = 0;
        available ^= AVAIL_USED;
      }
    }
    if (taken === 0) return 0;
    this.kept = kept;
    this.heldCount += taken;
    this.#orderNext = at;
    this.#outstanding += taken;
    this.#life[TAKEN]! += taken;
    if (slot <= this.#next) this.#wrap ^= 1;
    this.#next = slot;
    return taken;
  }

  /** Gives the chain that was popped last back. @throws UsageError when the device holds none */
  unpop(): void {
    const at = this.#orderNext === 0 ? this.size - 1 : this.#orderNext - 1;
    const id = this.#order[at]!;
    const slots = this.#slots[id]!;
    if (this.heldCount === 0 || slots === 0) {
      throw new UsageError(`queue ${this.index}: no chain to give back`);
    }
    this.#slots[id] = 0;
    this.heldCount--;
    this.takeBack(id);
    this.#orderNext = at;
    this.#outstanding -= slots;
    this.#life[TAKEN]! -= slots;
    this.#next -= slots;
    if (this.#next < 0) {
      this.#next += this.size;
      this.#wrap ^= 1;
    }
  }

  /** Returns a chain, invisible until `publish`. @throws UsageError when the device does not hold it, or an older one */
  pushUsed(id: number, lengthBytes: number): void {
    if (!this.ready()) return;
    const slots = this.#slots[id];
    if (slots === undefined || slots === 0) this.notHeld(id);
    const at = this.#returnNext;
    if (this.inOrder) this.#isNext(id);
    this.#slots[id] = 0;
    this.heldCount--;
    this.#pushed += slots;
    this.returnChain(id, lengthBytes, slots, this.batches ? this.#writable[at]! : 0);
  }

  /** Returns the first chains of a burst, invisible until `publish`. @throws UsageError as `pushUsed` */
  pushBurst(from: Burst, count: number): void {
    const { ids, written } = from;
    if (this.singly || !this.ready()) {
      for (let i = 0; i < count; i++) this.pushUsed(ids[i]!, written[i]!);
      return;
    }
    const { inOrder } = this;
    const desc32 = this.#desc32, slots = this.#slots, size = this.size;
    let slot = this.#usedNext, used = this.#usedWrap === 0 ? 0 : AVAIL_USED;
    for (let i = 0; i < count; i++) {
      const id = ids[i]!, lengthBytes = written[i]!;
      const took = slots[id];
      if (took === undefined || took === 0) this.notHeld(id);
      if (inOrder) this.#isNext(id);
      slots[id] = 0;
      const word = slot << 2;
      desc32[word + 2] = lengthBytes;
      const flags = lengthBytes > 0 ? used | DESC_FLAG.write : used;
      if (this.#firstSlot < 0) {
        this.#firstSlot = slot;
        this.#firstFlags = flags;
        this.#desc16[2 * word + 6] = id;
      } else desc32[word + 3] = (id | flags << 16) >>> 0;
      this.heldCount--;
      this.#pushed += took;
      slot += took;
      if (slot >= size) {
        slot -= size;
        used ^= AVAIL_USED;
        this.#usedWrap ^= 1;
      }
      this.#usedNext = slot;
    }
  }

  /** Goes on to the chain to be returned after this one. @throws UsageError when it is not this one's turn */
  #isNext(id: number): void {
    const at = this.#returnNext, oldest = this.#order[at]!;
    if (oldest !== id) throw this.outOfOrder(id, oldest);
    this.#returnNext = at + 1 === this.size ? 0 : at + 1;
  }

  /**
   * Writes one used descriptor, unchecked: devices that lie call it too. The first since `publish` keeps its old flags, and the driver, which
   * looks at that one alone, sees none of those behind it.
   * @param flip bits of the flags to write wrong: only devices that lie have any
   */
  protected override writeUsed(id: number, lengthBytes: number, slots: number, flip = 0): void {
    const slot = this.#usedNext;
    this.#desc32[4 * slot + 2] = lengthBytes;
    this.#desc16[8 * slot + 6] = id;
    const flags = ((this.#usedWrap === 0 ? 0 : AVAIL_USED) | (lengthBytes > 0 ? DESC_FLAG.write : 0)) ^ flip;
    const first = this.#firstSlot < 0;
    if (first) {
      this.#firstSlot = slot;
      this.#firstFlags = flags;
    } else this.#desc16[8 * slot + 7] = flags;
    if (this.far) this.store(DESCRIPTOR_AREA, 16 * slot + 8, first ? 6 : 8);
    this.skipUsed(slots);
  }

  /** Moves the used position on without writing: beside `writeUsed` only devices that lie call it. Up to a round, forward or back. */
  protected skipUsed(slots: number): void {
    let next = this.#usedNext + slots;
    if (next >= this.size) {
      next -= this.size;
      this.#usedWrap ^= 1;
    } else if (next < 0) {
      next += this.size;
      this.#usedWrap ^= 1;
    }
    this.#usedNext = next;
  }

  /** Makes the returned chains visible. @returns whether the driver was notified */
  publish(): boolean {
    if (this.#pushed === 0 || !this.ready()) return false;
    this.closeBatch();
    const first = this.#firstSlot;
    this.#firstSlot = -1;
    // Sequentially consistent: the release of the descriptors, and the fence before the driver's wish is read.
    if (first >= 0) Atomics.store(this.#desc16, 8 * first + 7, this.#firstFlags);
    if (first >= 0 && this.far && !this.store(DESCRIPTOR_AREA, 16 * first + 8, 8)) return false;
    const pushed = this.#pushed;
    this.#pushed = 0;
    this.#outstanding -= pushed;
    this.#usedPublished = this.#usedNext;
    this.#usedPublishedWrap = this.#usedWrap;
    if (!this.#wanted(pushed)) return false;
    this.interrupt();
    return true;
  }

  /** Whether the driver wants to hear of `pushed` descriptors up to the used position. One load gets the whole structure. */
  #wanted(pushed: number): boolean {
    if (this.far && !this.load(DRIVER_AREA)) return false;
    const event = Atomics.load(this.#driverEvent, 0);
    const flags = event >>> 16;
    if (flags === EVENT_SUPPRESS.enable) return true;
    if (flags === EVENT_SUPPRESS.disable) return false;
    if (flags !== EVENT_SUPPRESS.descriptor || !this.eventIndex) {
      const why = flags > EVENT_SUPPRESS.descriptor ? "reserved" : "for EVENT_IDX, which was not negotiated";
      this.fail("1.4", `the driver's event suppression has flags 0x${flags.toString(16)}, which are ${why}`);
      return false;
    }
    const offset = event & 0x7fff, wrap = event >>> 15 & 1;
    if (offset >= this.size) {
      this.fail("1.4", `the driver's event suppression has offset ${offset}, the queue ${this.size} slots`);
      return false;
    }
    // A wrap counter that differs from the device's means the round before.
    const passed = this.#usedNext - offset - 1 + (wrap === this.#usedWrap ? 0 : this.size);
    return passed >= 0 && passed < pushed;
  }

  /**
   * Publishes everything, asks for notifications, and leaves the position where an event index would be, whether one was negotiated or not. It is the only
   * memory of a packed ring that is the device's, and without an event index, or with other flags, a driver does not read it (§2.8.14).
   */
  leave(): void {
    this.publish();
    if (!this.ready()) return;
    this.armed = true;
    const flags = this.eventIndex ? EVENT_SUPPRESS.descriptor : EVENT_SUPPRESS.enable;
    this.#setDeviceEvent(this.#usedPublished | this.#usedPublishedWrap << 15 | flags << 16);
  }

  /**
   * Goes on at the position that `leave` left. It is not believed: a ring has no available descriptor that another device did not leave available.
   * @returns false when the queue broke over it
   */
  #goOn(): boolean {
    const place = Atomics.load(this.#deviceEvent, 0) & 0xffff;
    const slot = place & 0x7fff, wrap = place >>> 15;
    const { size } = this;
    const where = `the device's event suppression says that it is at slot ${slot}, wrap ${wrap}`;
    if (slot >= size) {
      this.fail("3.6", `${where}, the queue has ${size} slots`);
      return false;
    }
    this.#next =
      this.#usedNext =
      this.#usedPublished =
      this.#startSlot =
        slot;
    this.#wrap =
      this.#usedWrap =
      this.#usedPublishedWrap =
      this.#startWrap =
        wrap;
    // What lies behind the driver made available in that round: it does not look as it did before. The driver may be writing the next round there.
    const before = slot === 0 ? size - 1 : slot - 1;
    const untouched = (slot === 0 ? wrap : wrap ^ 1) === 1 ? AVAIL_USED : 0;
    if ((Atomics.load(this.#desc16, 8 * before + 7) & AVAIL_USED) === untouched) {
      this.fail("3.6", `${where}, slot ${before} before it has not been made available`);
      return false;
    }
    // What lies ahead is available, up to where the driver has not been in this round.
    const ahead = this.#availableSlots(size);
    if (ahead === size) return true;
    const end = slot + ahead, at = end < size ? end : end - size;
    const used = (end < size ? wrap : wrap ^ 1) === 1 ? AVAIL_USED : 0;
    if ((Atomics.load(this.#desc16, 8 * at + 7) & AVAIL_USED) === used) {
      this.fail("3.6", `${where}, slot ${at} has been used already`);
      return false;
    }
    return true;
  }

  /** Asks the driver not to notify. */
  suppress(): void {
    if (!this.armed || !this.ready()) return;
    this.armed = false;
    this.#deviceEvent[0] = EVENT_SUPPRESS.disable << 16;
    if (this.far) this.store(DEVICE_AREA, 0, 4);
  }

  /**
   * Asks for notifications. @returns true when work is there already
   * With an event index and fewer than `beyond` chains there, where the last of them will end is not known: the next chain notifies.
   */
  arm(beyond = 0): boolean {
    if (!this.ready()) return false;
    this.armed = true;
    // Full fences: the driver sees the wish, or this sees its chains.
    if (this.eventIndex) {
      if (!this.#loadRing()) return false;
      this.#scan(beyond);
      const place = this.#scanSlot | this.#scanWrap << 15;
      this.#setDeviceEvent(place | EVENT_SUPPRESS.descriptor << 16);
    } else this.#setDeviceEvent(EVENT_SUPPRESS.enable << 16);
    return this.#loadRing() && this.#scan(beyond + 1) > beyond;
  }

  /** A full fence behind the store. */
  #setDeviceEvent(event: number): void {
    Atomics.store(this.#deviceEvent, 0, event);
    if (this.far) this.store(DEVICE_AREA, 0, 4);
  }

  /** A chain by its first slot: its id is at its other end. */
  protected override nameOf(chain: number): string {
    return `the chain at slot ${chain}`;
  }

  /** Takes views of the three areas. */
  protected override map(): boolean {
    const { descriptorArea, driverArea, deviceArea } = this.setup;
    const { size } = this;
    const desc = this.area(DESCRIPTOR_AREA, descriptorArea, 16 * size, 16, "read and write");
    if (desc === undefined) return false;
    this.#desc32 = new Uint32Array(desc.buffer, desc.offset, 4 * size);
    this.#desc16 = new Uint16Array(desc.buffer, desc.offset, 8 * size);
    const driver = this.area(DRIVER_AREA, driverArea, 4, 4, "read");
    if (driver === undefined) return false;
    this.#driverEvent = new Uint32Array(driver.buffer, driver.offset, 1);
    const device = this.area(DEVICE_AREA, deviceArea, 4, 4, this.#left ? "read and write" : "write");
    if (device === undefined) return false;
    this.#deviceEvent = new Uint32Array(device.buffer, device.offset, 1);
    if (!this.#left) return true;
    this.#left = false;
    return this.#goOn();
  }
}

/** AVAIL and USED of a descriptor that is available while the driver's wrap counter is `wrap`. */
function availFlags(wrap: number): number {
  return wrap === 1 ? DESC_FLAG.avail : DESC_FLAG.used;
}
