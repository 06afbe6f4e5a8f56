/**
 * The device's side of a packed ring (virtio 1.2 §2.8; reference 1.4).
 *
 * @module
 */
import { loadBehindStore } from "../../../memory/load_order.ts";
import { UsageError } from "../../../errors/mod.ts";
import type { QueueState } from "../../../virtio/spec/queue_state.ts";
import { DESC_FLAG, EVENT_SUPPRESS } from "../../../virtio/spec/ring.ts";
import type { Burst } from "./burst.ts";
import type { Chain } from "./chain.ts";
import type { DeviceQueueSetup, QueueDevice } from "./device_queue.ts";
import { eventProblem, wantsEvent } from "./packed_events.ts";
import { HeldChains } from "./packed_held.ts";
import { NotifiedPositions } from "./packed_notifications.ts";
import { AVAIL_USED, availFlags, PackedReader } from "./packed_reader.ts";
import { checkPackedSetup, outstanding } from "./packed_setup.ts";
import { UsedDescriptors } from "./packed_used.ts";
import { DeviceRing } from "./ring.ts";

const NONE32 = new Uint32Array(0);
/** Flags that say what a chain is made of. */
const SHAPE = DESC_FLAG.next | DESC_FLAG.indirect | DESC_FLAG.write;
const DRIVER_RULE = "1.4";
const DESCRIPTOR_AREA = "descriptor area";
const DRIVER_AREA = "driver area";
const DEVICE_AREA = "device area";

/** A packed ring, read as strictly as the standard lets a device be. */
export class PackedDeviceQueue extends DeviceRing {
  /** Ring layout. */
  readonly layout = "packed";

  readonly #held: HeldChains;
  readonly #reader = new PackedReader(this);

  // Views of the areas; made again whenever the client's mappings change, as those of the reader.
  #driverEvent: Uint32Array = NONE32;
  #deviceEvent: Uint32Array = NONE32;

  /** Slot of the next descriptor to read, and the driver's wrap counter there. */
  #next = 0;
  #wrap = 1;
  readonly #used: UsedDescriptors;
  /** Descriptors that were pushed since the last `publish`. */
  #pushed = 0;
  /** Descriptors between the published used position and `#next`: the driver must not touch them. */
  #outstanding = 0;

  readonly #notified: NotifiedPositions;
  /** The position must be taken from the device area, where `leave` left it. */
  #left = false;

  /** A queue that was just enabled. @throws UsageError for a setup that `checkPackedSetup` finds fault with */
  constructor(setup: DeviceQueueSetup, device: QueueDevice) {
    super(setup, device, DRIVER_RULE, checkPackedSetup(setup));
    this.#held = new HeldChains(setup.size, this.batches);
    this.#used = new UsedDescriptors(setup.size);
    if (setup.state?.layout === "packed") {
      const { state } = setup;
      this.#next = state.availableSlot;
      this.#wrap = state.availableWrap;
      this.#used.begin(state.usedSlot, state.usedWrap);
      this.#outstanding = outstanding(state, setup.size);
    }
    this.#notified = new NotifiedPositions(setup.size);
    this.#notified.begin(this.#next, this.#wrap);
    this.#left = setup.left ?? false;
  }

  /** Where the device stands. */
  state(): QueueState {
    return {
      layout: "packed",
      availableSlot: this.#next,
      availableWrap: this.#wrap as 0 | 1,
      usedSlot: this.#used.shownSlot,
      usedWrap: this.#used.shownWrap as 0 | 1,
    };
  }

  /** Judges the position of a notification. */
  checkNotification(nextOffset: number, nextWrap: number): string | undefined {
    const { size } = this;
    if (!this.ready() || !this.#loadRing()) return undefined;
    if (nextOffset >= size) return `the notification's next_off ${nextOffset} is not a slot of ${size}`;
    const ahead = this.#notified.ahead(nextOffset, nextWrap);
    const most = Math.min(ahead, size - this.#outstanding);
    const missing = ahead - this.#reader.availableSlots(this.#next, this.#wrap, most);
    if (ahead > 0 && missing > 0) {
      return `the notification says that the next descriptor is slot ${nextOffset}, wrap ${nextWrap}: ${missing} of those before it are not available`;
    }
    this.#notified.accept(ahead);
    return undefined;
  }

  /** Chains that can be popped. A chain that breaks a rule is counted, and the last. */
  available(atMost: number = this.size): number {
    return !this.dma.rests() && this.ready() && this.#loadRing() ? this.#scan(atMost) : 0;
  }

  #scan(chains: number): number {
    return this.#reader.scan(this.#next, this.#wrap, this.size - this.#outstanding, chains);
  }

  /** Loads a ring that is a copy. What was returned is in the client's memory already, but for the flags of the first that hides it. */
  #loadRing(): boolean {
    return !this.far || this.load(DESCRIPTOR_AREA);
  }

  /** Takes the next chain. @returns its id, or −1 */
  pop(into: Chain): number {
    if (this.dma.rests() || !this.ready() || !this.#loadRing()) return -1;
    const head = this.#next;
    // Sequentially consistent, and so the acquire of all else that the driver wrote before this word.
    const flags = Atomics.load(this.#reader.desc16, 8 * head + 7);
    if ((flags & AVAIL_USED) !== availFlags(this.#wrap)) return -1;
    // What the head makes visible may have been copied before it.
    if (!this.#loadRing()) return -1;
    into.begin(-1);
    const slots = this.#reader.walk(head, this.#wrap, flags, this.size - this.#outstanding, into);
    if (slots < 0) return -1;
    let last = head + slots - 1;
    if (last >= this.size) last -= this.size;
    const id = this.#reader.desc16[8 * last + 6]!;
    const held = this.#held;
    if (held.has(id)) {
      return this.fail("1.4", `${this.nameOf(head)}: id ${id} was made available while the device has it`);
    }
    into.id = id;
    if (into.far) this.lend(into);
    held.hold(id, slots, into.writableBytes);
    this.heldCount++;
    this.takenCount[0]!++;
    this.#outstanding += slots;
    this.#notified.took(slots);
    const next = head + slots;
    if (next < this.size) this.#next = next;
    else {
      this.#next = next - this.size;
      this.#wrap ^= 1;
    }
    return id;
  }

  /** Takes the next chains while they are of one buffer. @returns how many */
  popBurst(into: Burst, most: number, deviceWrites: boolean): number {
    if (this.dma.rests() || !this.ready() || this.far) return 0;
    const { desc32, desc16 } = this.#reader;
    let slot = this.#next, available = availFlags(this.#wrap);
    if ((Atomics.load(desc16, 8 * slot + 7) & AVAIL_USED) !== available) return 0;
    const { size } = this;
    const room = size - this.#outstanding;
    if (most > into.capacity) most = into.capacity;
    if (most > room) most = room;

    const { acquiresEach } = this;
    const { slots, order, writable } = this.#held;
    const { ids, regions, offsets, lengths } = into;
    const shape = deviceWrites ? DESC_FLAG.write : 0;
    const window = this.window;
    window.turn(deviceWrites);
    let place = this.#held.next;
    let taken = 0, lo = 0, hi = 0, length = 0;
    // Each turn is for buffers in one window, so that the engine has the loop within it in registers. A driver that changes a descriptor meanwhile gets one more.
    for (let more = true, moved = false; more && taken < most;) {
      const { region, startLo, startHi, end, offset } = window;
      const before = taken;
      more = false;
      for (; taken < most; taken++) {
        const word = slot << 2;
        const last = desc32[word + 3]!;
        const flags = acquiresEach ? Atomics.load(desc16, 2 * word + 7) : last >>> 16;
        if ((flags & AVAIL_USED) !== available || (flags & SHAPE) !== shape) break;
        lo = desc32[word]!;
        hi = desc32[word + 1]!;
        length = desc32[word + 2]!;
        const id = acquiresEach ? desc16[2 * word + 6]! : last & 0xffff;
        if (length === 0 || id >= slots.length || slots[id] !== 0) break;
        const at = lo - startLo;
        if (hi !== startHi || at < 0 || at + length > end) {
          more = true;
          break;
        }
        slots[id] = 1;
        order[place] = id;
        if (writable !== null) writable[place] = deviceWrites ? length : 0;
        if (++place === size) place = 0;
        ids[taken] = id;
        offsets[taken] = offset + at;
        lengths[taken] = length;
        if (++slot === size) {
          slot = 0;
          available ^= AVAIL_USED;
        }
      }
      // Mostly the last burst's. A loop, since `fill` costs as much as two chains do.
      for (let at = before; at < taken; at++) if (regions[at] !== region) regions[at] = region!;
      if (more) more = (taken > before || !moved) && window.move(this.dma, lo, hi, length, deviceWrites);
      moved = true;
    }
    if (taken === 0) return 0;
    this.heldCount += taken;
    this.takenCount[0]! += taken;
    this.#held.next = place;
    this.#outstanding += taken;
    this.#notified.took(taken);
    if (slot <= this.#next) this.#wrap ^= 1;
    this.#next = slot;
    return taken;
  }

  /** Gives the chain that was popped last back. @throws UsageError when the device holds none */
  unpop(): void {
    const id = this.#held.last;
    const slots = this.heldCount === 0 ? 0 : this.#held.drop();
    if (slots === 0) throw new UsageError(`queue ${this.index}: no chain to give back`);
    this.heldCount--;
    this.takenCount[0]!--;
    this.takeBack(id);
    this.#outstanding -= slots;
    this.#notified.took(-slots);
    this.#next -= slots;
    if (this.#next < 0) {
      this.#next += this.size;
      this.#wrap ^= 1;
    }
  }

  /** Returns a chain, invisible until `publish`. @throws UsageError when the device does not hold it, or an older one */
  pushUsed(id: number, lengthBytes: number): void {
    if (!this.ready()) return;
    const held = this.#held;
    const slots = held.slots[id];
    if (slots === undefined || slots === 0) this.notHeld(id);
    const writableBytes = held.oldestWritable;
    if (this.inOrder && !held.passOldest(id)) throw this.outOfOrder(id, held.oldest);
    held.slots[id] = 0;
    this.heldCount--;
    this.#pushed += slots;
    this.returnChain(id, lengthBytes, slots, writableBytes);
  }

  /** Returns the first chains of a burst, invisible until `publish`. @throws UsageError as `pushUsed` */
  pushBurst(from: Burst, count: number): void {
    const { ids, written } = from;
    if (this.singly || !this.ready()) {
      for (let i = 0; i < count; i++) this.pushUsed(ids[i]!, written[i]!);
      return;
    }
    const { inOrder } = this;
    const held = this.#held, slots = held.slots;
    const used = this.#used, { desc32 } = this.#reader, { size } = this;
    let { slot, flags } = used;
    let pushed = 0, done = 0;
    for (; done < count; done++) {
      const id = ids[done]!;
      const took = slots[id];
      if (took === undefined || took === 0 || (inOrder && !held.passOldest(id))) break;
      slots[id] = 0;
      pushed += took;
      const lengthBytes = written[done]!;
      if (used.hiding < 0) used.write(this.#reader, id, lengthBytes);
      else {
        desc32[(slot << 2) + 2] = lengthBytes;
        desc32[(slot << 2) + 3] = id | (lengthBytes > 0 ? flags | DESC_FLAG.write : flags) << 16;
      }
      slot += took;
      if (slot >= size) {
        slot -= size;
        flags ^= AVAIL_USED;
      }
    }
    used.skip(pushed);
    this.#pushed += pushed;
    this.heldCount -= done;
    if (done < count) this.pushUsed(ids[done]!, written[done]!);
  }

  /**
   * Writes one used descriptor, unchecked: devices that lie call it too.
   * @param flip bits of the flags to write wrong: only devices that lie have any
   */
  protected override writeUsed(id: number, lengthBytes: number, slots: number, flip = 0): void {
    const { slot, hiding } = this.#used;
    this.#used.write(this.#reader, id, lengthBytes, flip);
    if (this.far) this.store(DESCRIPTOR_AREA, 16 * slot + 8, hiding < 0 ? 6 : 8);
    this.#used.skip(slots);
  }

  /** Moves the used position on without writing: only devices that lie call it. Up to a round, forward or back. */
  protected skipUsed(slots: number): void {
    this.#used.skip(slots);
  }

  /** Makes the returned chains visible. @returns whether the driver was notified */
  publish(): boolean {
    if (this.#pushed === 0 || !this.ready()) return false;
    this.closeBatch();
    const first = this.#used.show(this.#reader);
    if (first >= 0 && this.far && !this.store(DESCRIPTOR_AREA, 16 * first + 8, 8)) return false;
    const pushed = this.#pushed;
    this.#pushed = 0;
    this.#outstanding -= pushed;
    if (!this.#wanted(pushed)) return false;
    this.interrupt();
    return true;
  }

  /** Whether the driver wants to hear of `pushed` descriptors up to the used position. One load gets the whole structure. */
  #wanted(pushed: number): boolean {
    if (this.far && !this.load(DRIVER_AREA)) return false;
    const event = loadBehindStore(this.#driverEvent, 0, this.acquiresEach);
    const problem = eventProblem(event, this.size, this.eventIndex);
    if (problem !== undefined) {
      this.fail(DRIVER_RULE, `the driver's event suppression has ${problem}`);
      return false;
    }
    return wantsEvent(event, this.size, this.#used.slot, this.#used.wrap, pushed);
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
    this.#setDeviceEvent(this.#used.shownSlot | this.#used.shownWrap << 15 | flags << 16);
  }

  /** Goes on at the position that `leave` left. @returns false when the queue broke over it */
  #goOn(): boolean {
    const place = Atomics.load(this.#deviceEvent, 0) & 0xffff;
    const slot = place & 0x7fff, wrap = place >>> 15;
    const problem = this.#reader.placeProblem(slot, wrap);
    if (problem !== undefined) {
      this.fail(
        "3.6",
        `the device's event suppression says that it is at slot ${slot}, wrap ${wrap}, ${problem}`,
      );
      return false;
    }
    this.#next = slot;
    this.#wrap = wrap;
    this.#used.begin(slot, wrap);
    this.#notified.begin(slot, wrap);
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
      const place = this.#reader.scanSlot | this.#reader.scanWrap << 15;
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
    this.#reader.map(desc);
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
