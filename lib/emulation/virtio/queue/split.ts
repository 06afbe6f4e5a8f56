/**
 * The device's side of a split ring (virtio 1.2 §2.7; reference 1.3).
 *
 * @module
 */
import { loadBehindStore } from "../../../memory/load_order.ts";
import { UsageError } from "../../../errors/mod.ts";
import type { QueueState } from "../../../virtio/spec/queue_state.ts";
import { AVAIL_NO_INTERRUPT, DESC_FLAG, USED_NO_NOTIFY } from "../../../virtio/spec/ring.ts";
import type { Burst } from "./burst.ts";
import type { Chain } from "./chain.ts";
import type { DeviceQueueSetup, QueueDevice } from "./device_queue.ts";
import { DeviceRing } from "./ring.ts";
import { SplitReader } from "./split_reader.ts";
import { checkSplitSetup } from "./split_setup.ts";

const NONE16 = new Uint16Array(0);
const NONE32 = new Uint32Array(0);
const NONE64 = new Float64Array(0);
/** Flags that say what a chain is made of. */
const SHAPE = DESC_FLAG.next | DESC_FLAG.indirect | DESC_FLAG.write;
const DESCRIPTOR_AREA = "descriptor area";
const DRIVER_AREA = "driver area";
const DEVICE_AREA = "device area";
/** What helps whoever has such a driver, and no other. */
const ANY_HEAD = ' (a topology\'s "quirks": ["any-head"] lets a driver do otherwise)';

/** A split ring, read as strictly as the standard lets a device be. */
export class SplitDeviceQueue extends DeviceRing {
  /** Ring layout. */
  readonly layout = "split";
  readonly #mask: number;

  /** Heads that the device holds. */
  readonly #held: Uint8Array;
  /** Head that was popped at each ring position, for `unpop` and the order of return. */
  readonly #popped: Uint16Array;
  /** Device-writable bytes of what was popped at each ring position; only where batches are made. */
  readonly #writable: Float64Array;

  readonly #reader = new SplitReader(this);

  // Views of the areas; made again whenever the client's mappings change, as those of the reader.
  /** flags, idx, ring, used_event. */
  #avail: Uint16Array = NONE16;
  /** flags, idx, …, avail_event. */
  #used16: Uint16Array = NONE16;
  /** flags and idx, then id and len of each element. */
  #used32: Uint32Array = NONE32;

  /** Free-running position of the next chain to pop, and the driver's `avail.idx` as read last. */
  #next = 0;
  #seen = 0;
  /** Free-running position of the next used element, the published one, and the one at the last decision to notify. */
  #usedNext = 0;
  #usedPublished = 0;
  #usedNotified = 0;
  /** The used positions must be taken from the ring, where the device's former life left them. */
  #usedInRing = false;
  /** All chains had been returned: the available position is the used one. */
  #allInRing = false;

  // With IN_ORDER: position of the next chain to return, and the descriptor that the next chain must start with (−1: any).
  #returnNext = 0;
  #headNext = 0;
  /** What a chain must start with is looked at. */
  readonly #ringOrder: boolean;

  /** A queue that was just enabled. @throws UsageError for a setup that `checkSplitSetup` finds fault with */
  constructor(setup: DeviceQueueSetup, device: QueueDevice) {
    super(setup, device, "1.3", checkSplitSetup(setup));
    this.#mask = setup.size - 1;
    this.#ringOrder = this.inOrder && !setup.anyHead;
    this.#held = new Uint8Array(setup.size);
    this.#popped = new Uint16Array(setup.size);
    this.#writable = this.batches ? new Float64Array(setup.size) : NONE64;
    if (setup.state?.layout === "split") {
      this.#next = this.#seen = this.#returnNext = setup.state.availableIndex;
      this.#usedInRing = true;
      this.#headNext = -1;
    }
    if (setup.left) this.#allInRing = this.#usedInRing = true;
  }

  /** Where the device stands. */
  state(): QueueState {
    return { layout: "split", availableIndex: this.#next };
  }

  /** Judges the position of a notification: one of chains that are not there yet is wrong. */
  checkNotification(nextOffset: number, nextWrap: number): string | undefined {
    if (!this.ready() || !this.#loadIndex()) return undefined;
    const position = nextOffset | nextWrap << 15;
    const idx = Atomics.load(this.#avail, 1);
    const ahead = (position - idx) & 0xffff;
    if (ahead === 0 || ahead > this.size) return undefined;
    return `the notification says that avail.idx is ${position}, it is ${idx}`;
  }

  /** Chains that can be popped. */
  available(atMost: number = this.size): number {
    if (this.dma.rests() || !this.ready()) return 0;
    this.#look();
    if (this.broken) return 0;
    const count = (this.#seen - this.#next) & 0xffff;
    return count < atMost ? count : atMost;
  }

  /** Takes the next chain. @returns its id, or −1 */
  pop(into: Chain): number {
    if (this.dma.rests() || !this.ready()) return -1;
    if (this.#next === this.#seen && !this.#look()) return -1;
    const slot = this.#next & this.#mask;
    const head = this.#avail[2 + slot]!;
    if (head >= this.size) {
      return this.fail("1.3", `avail.ring[${slot}] = ${head} is not a descriptor of ${this.size}`);
    }
    if (this.#held[head] !== 0) {
      return this.fail(
        "1.3",
        `avail.ring[${slot}]: chain ${head} was made available while the device has it`,
      );
    }
    if (this.#ringOrder && this.#headNext >= 0 && head !== this.#headNext) {
      return this.fail(
        "1.3",
        `avail.ring[${slot}] = ${head}: with IN_ORDER descriptors are used in ring order, ${this.#headNext} is next${ANY_HEAD}`,
      );
    }
    into.begin(head);
    const last = this.#reader.walk(head, into);
    if (last < 0) return -1;
    this.#headNext = (last + 1) & this.#mask;
    if (into.far) this.lend(into);
    this.#popped[slot] = head;
    if (this.batches) this.#writable[slot] = into.writableBytes;
    this.#held[head] = 1;
    this.heldCount++;
    this.takenCount[0]!++;
    this.#next = (this.#next + 1) & 0xffff;
    return head;
  }

  /** Takes the next chains while they are of one buffer. @returns how many */
  popBurst(into: Burst, most: number, deviceWrites: boolean): number {
    if (this.dma.rests() || !this.ready() || this.far) return 0;
    if (this.#next === this.#seen && !this.#look()) return 0;
    let count = (this.#seen - this.#next) & 0xffff;
    if (count > most) count = most;
    if (count > into.capacity) count = into.capacity;

    const avail = this.#avail, { desc32 } = this.#reader, held = this.#held, popped = this.#popped;
    const mask = this.#mask, inOrder = this.#ringOrder, batches = this.batches;
    const { ids, regions, offsets, lengths } = into;
    const shape = deviceWrites ? DESC_FLAG.write : 0;
    const window = this.window;
    window.turn(deviceWrites);
    let next = this.#next, expected = inOrder ? this.#headNext : -1;
    let taken = 0, lo = 0, hi = 0, length = 0;
    // Each turn is for buffers in one window, so that the engine has the loop within it in registers. A driver that changes a descriptor meanwhile gets one more.
    for (let more = true, moved = false; more && taken < count;) {
      const { region, startLo, startHi, end, offset } = window;
      const before = taken;
      more = false;
      for (; taken < count; taken++) {
        const slot = next & mask;
        const head = avail[2 + slot]!;
        if (head > mask || held[head] !== 0 || (expected >= 0 && head !== expected)) break;
        const word = head << 2;
        lo = desc32[word]!;
        hi = desc32[word + 1]!;
        length = desc32[word + 2]!;
        if ((desc32[word + 3]! & SHAPE) !== shape || length === 0) break;
        const at = lo - startLo;
        if (hi !== startHi || at < 0 || at + length > end) {
          more = true;
          break;
        }
        held[head] = 1;
        popped[slot] = head;
        if (batches) this.#writable[slot] = deviceWrites ? length : 0;
        if (inOrder) expected = (head + 1) & mask;
        ids[taken] = head;
        offsets[taken] = offset + at;
        lengths[taken] = length;
        next++;
      }
      // Mostly the last burst's. A loop, since `fill` costs as much as two chains do.
      for (let at = before; at < taken; at++) if (regions[at] !== region) regions[at] = region!;
      if (more) more = (taken > before || !moved) && window.move(this.dma, lo, hi, length, deviceWrites);
      moved = true;
    }
    if (taken === 0) return 0;
    this.#headNext = expected;
    this.heldCount += taken;
    this.takenCount[0]! += taken;
    this.#next = next & 0xffff;
    return taken;
  }

  /** Gives the chain that was popped last back. @throws UsageError when the device holds none */
  unpop(): void {
    const before = (this.#next - 1) & 0xffff;
    const head = this.#popped[before & this.#mask]!;
    if (this.heldCount === 0 || this.#held[head] === 0) {
      throw new UsageError(`queue ${this.index}: no chain to give back`);
    }
    this.#held[head] = 0;
    this.heldCount--;
    this.takenCount[0]!--;
    this.takeBack(head);
    this.#next = before;
    this.#headNext = head;
  }

  /** Returns a chain, invisible until `publish`. @throws UsageError when the device does not hold it, or an older one */
  pushUsed(id: number, lengthBytes: number): void {
    if (!this.ready()) return;
    if (this.#held[id] !== 1) this.notHeld(id);
    const slot = this.#returnNext & this.#mask;
    if (this.inOrder) this.#isNext(id);
    this.#held[id] = 0;
    this.heldCount--;
    this.returnChain(id, lengthBytes, 1, this.batches ? this.#writable[slot]! : 0);
  }

  /** Returns the first chains of a burst, invisible until `publish`. @throws UsageError as `pushUsed` */
  pushBurst(from: Burst, count: number): void {
    const { ids, written } = from;
    if (this.singly || !this.ready()) {
      for (let i = 0; i < count; i++) this.pushUsed(ids[i]!, written[i]!);
      return;
    }
    const { inOrder } = this;
    const used32 = this.#used32, held = this.#held, popped = this.#popped, mask = this.#mask;
    let next = this.#usedNext, oldest = this.#returnNext;
    let done = 0;
    for (; done < count; done++) {
      const id = ids[done]!;
      if (held[id] !== 1 || (inOrder && popped[oldest & mask] !== id)) break;
      held[id] = 0;
      oldest++;
      const at = 1 + 2 * (next & mask);
      used32[at] = id;
      used32[at + 1] = written[done]!;
      next++;
    }
    if (inOrder) this.#returnNext = oldest & 0xffff;
    this.#usedNext = next & 0xffff;
    this.heldCount -= done;
    if (done < count) this.pushUsed(ids[done]!, written[done]!);
  }

  /** Goes on to the chain to be returned after this one. @throws UsageError when it is not this one's turn */
  #isNext(id: number): void {
    const oldest = this.#popped[this.#returnNext & this.#mask]!;
    if (oldest !== id) throw this.outOfOrder(id, oldest);
    this.#returnNext = (this.#returnNext + 1) & 0xffff;
  }

  /** Puts an element into the used ring, unchecked: devices that lie call it too. */
  protected override writeUsed(id: number, lengthBytes: number, chains = 1): void {
    const at = 1 + 2 * (this.#usedNext & this.#mask);
    this.#used32[at] = id;
    this.#used32[at + 1] = lengthBytes;
    this.#usedNext = (this.#usedNext + chains) & 0xffff;
  }

  /** Moves the used index on without writing elements: only devices that lie call it. */
  protected skipUsed(count: number): void {
    this.#usedNext = (this.#usedNext + count) & 0xffff;
  }

  /** Makes the returned chains visible. @returns whether the driver was notified */
  publish(): boolean {
    if (this.batches && this.ready()) this.closeBatch();
    const position = this.#usedNext;
    if (position === this.#usedPublished || !this.ready()) return false;
    if (this.far && !this.store(DEVICE_AREA, 4, 8 * this.size)) return false;
    // Sequentially consistent: the release of the elements, and the fence before the driver's wish is read.
    Atomics.store(this.#used16, 1, position);
    if (this.far && !this.#storeIndex()) return false;
    this.#usedPublished = position;
    const before = this.#usedNotified;
    this.#usedNotified = position;
    if (this.far && !this.load(DRIVER_AREA, this.eventIndex ? 4 + 2 * this.size : 0, 2)) return false;
    if (this.eventIndex) {
      const event = loadBehindStore(this.#avail, 2 + this.size, this.acquiresEach);
      if (((position - event - 1) & 0xffff) >= ((position - before) & 0xffff)) return false;
    } else {
      const flags = loadBehindStore(this.#avail, 0, this.acquiresEach);
      if (flags > 1) {
        this.fail("1.3", `avail.flags = 0x${flags.toString(16)}: only 0 and 1 are allowed`);
        return false;
      }
      if ((flags & AVAIL_NO_INTERRUPT) !== 0) return false;
    }
    this.interrupt();
    return true;
  }

  /** Publishes everything: the used index is the place. */
  leave(): void {
    this.publish();
  }

  /** Asks the driver not to notify. */
  suppress(): void {
    if (!this.armed || !this.ready()) return;
    this.armed = false;
    // With an event index the old value of avail_event lies behind, which is suppression enough, and flags must stay 0.
    if (this.eventIndex) return;
    this.#used16[0] = USED_NO_NOTIFY;
    if (this.far) this.#storeIndex();
  }

  /** Asks for notifications. @returns true when work is there already */
  arm(beyond = 0): boolean {
    if (!this.ready()) return false;
    this.armed = true;
    // Both stores are full fences: the driver sees the wish, or this sees its chains.
    if (this.eventIndex) Atomics.store(this.#used16, 2 + 4 * this.size, (this.#next + beyond) & 0xffff);
    else Atomics.store(this.#used16, 0, 0);
    if (this.far) this.eventIndex ? this.store(DEVICE_AREA, 4 + 8 * this.size, 2) : this.#storeIndex();
    this.#look();
    return !this.broken && ((this.#seen - this.#next) & 0xffff) > beyond;
  }

  /** Loads `avail.idx`. @returns true when chains are available */
  #look(): boolean {
    if (this.far && !(this.#loadIndex() && this.#loadRing())) return false;
    const idx = Atomics.load(this.#avail, 1);
    const count = (idx - this.#next) & 0xffff;
    if (count > this.size) {
      this.fail("1.3", `avail.idx jumped from ${this.#seen} to ${idx}, the device is at ${this.#next}`);
      return false;
    }
    if (count < ((this.#seen - this.#next) & 0xffff)) {
      this.fail("1.3", `avail.idx went back from ${this.#seen} to ${idx}`);
      return false;
    }
    this.#seen = idx;
    return count !== 0;
  }

  /**
   * Loads flags and idx of a driver area that is a copy, until it gets the same twice: a copy is made byte by byte, and one that the driver
   * writes meanwhile may be half old and half new.
   */
  #loadIndex(): boolean {
    if (!this.far) return true;
    for (let tries = 0, before = -1; tries < 8; tries++) {
      if (!this.load(DRIVER_AREA, 0, 4)) return false;
      if (this.#avail[1] === before) break;
      before = this.#avail[1]!;
    }
    return true;
  }

  /** After the index all that it makes visible, and the driver's wish. */
  #loadRing(): boolean {
    if (this.#avail[1] === this.#next) return true;
    return this.load(DRIVER_AREA, 4) && this.load(DESCRIPTOR_AREA);
  }

  /** Stores flags and idx, with the first element's id behind them: eight bytes go at once, fewer one by one. */
  #storeIndex(): boolean {
    return this.store(DEVICE_AREA, 0, 8);
  }

  /** A chain by its head. */
  protected override nameOf(chain: number): string {
    return `chain ${chain}`;
  }

  /** Takes views of the three areas. */
  protected override map(): boolean {
    const { descriptorArea, driverArea, deviceArea } = this.setup;
    const { size } = this;
    const event = this.eventIndex ? 2 : 0;
    const desc = this.area(DESCRIPTOR_AREA, descriptorArea, 16 * size, 16, "read");
    if (desc === undefined) return false;
    this.#reader.map(desc);
    const avail = this.area(DRIVER_AREA, driverArea, 4 + 2 * size + event, 2, "read");
    if (avail === undefined) return false;
    this.#avail = new Uint16Array(avail.buffer, avail.offset, 2 + size + event / 2);
    const usedAccess = this.#usedInRing ? "read and write" : "write";
    const used = this.area(DEVICE_AREA, deviceArea, 4 + 8 * size + event, 4, usedAccess);
    if (used === undefined) return false;
    this.#used16 = new Uint16Array(used.buffer, used.offset, 2 + 4 * size + event / 2);
    this.#used32 = new Uint32Array(used.buffer, used.offset, 1 + 2 * size);
    if (this.#usedInRing) {
      this.#usedInRing = false;
      this.#usedNext = this.#usedPublished = this.#usedNotified = Atomics.load(this.#used16, 1);
    }
    if (this.#allInRing) {
      this.#allInRing = false;
      this.#next = this.#seen = this.#returnNext = this.#usedNext;
      this.#headNext = -1;
    }
    return true;
  }
}
