/**
 * What the device's side of a ring does alike in both layouts: views of the client's memory, and the rules for what a chain may hold.
 *
 * @module
 */
import { LOADS_IN_ORDER } from "../../../memory/load_order.ts";
import { UsageError } from "../../../errors/mod.ts";
import type { DmaRegion, DmaTable } from "../../../sockets/dma_table.ts";
import type { QueueState } from "../../../virtio/spec/queue_state.ts";
import { BufferWindow } from "./buffer_window.ts";
import type { Burst } from "./burst.ts";
import type { Chain } from "./chain.ts";
import type { ReadRing } from "./chain_reader.ts";
import type { DeviceQueue, DeviceQueueSetup, QueueDevice } from "./device_queue.ts";

/** An area of a ring in the memory of this process. */
export interface RingArea {
  /** Memory of the whole mapping. */
  readonly buffer: ArrayBuffer;
  /** Byte offset of the area. */
  readonly offset: number;
}

/** Device-writable memory of a chain that is not mapped here. */
interface Lent {
  readonly window: DmaRegion;
  /** Position of its first byte in the device-writable part of the chain. */
  readonly at: number;
}

/** The first area that is not aligned as its layout demands; undefined when all are. */
export function misaligned(
  setup: DeviceQueueSetup,
  alignment: Readonly<Record<"descriptorArea" | "driverArea" | "deviceArea", number>>,
): string | undefined {
  for (const area of ["descriptorArea", "driverArea", "deviceArea"] as const) {
    if (setup[area] % BigInt(alignment[area]) !== 0n) {
      return `${area} 0x${setup[area].toString(16)} is not aligned to ${alignment[area]} bytes`;
    }
  }
  return undefined;
}

/** A ring without its layout. What a layout does for every chain it does by itself: no call here is one that both override and that a burst makes. */
export abstract class DeviceRing implements DeviceQueue, ReadRing {
  readonly index: number;
  abstract readonly layout: "split" | "packed";
  readonly size: number;
  /** What the driver set up. */
  protected readonly setup: DeviceQueueSetup;
  /** The client's memory. */
  readonly dma: DmaTable;
  /** INDIRECT_DESC. */
  readonly indirect: boolean;
  /** EVENT_IDX. */
  protected readonly eventIndex: boolean;
  /** IN_ORDER. */
  readonly inOrder: boolean;
  /** Returns in batches. */
  protected readonly batches: boolean;
  /** See `DeviceQueueSetup`. */
  protected readonly acquiresEach: boolean;
  /** Chains that the device holds. */
  protected heldCount = 0;
  /** Chains that it took, in all: a number that grows beyond 2^31 in place. */
  protected readonly takenCount: Float64Array = new Float64Array(1);
  /** Notifications are asked for: true at first, since a zeroed ring asks for them. */
  protected armed = true;

  // The batch that is open (IN_ORDER): chains in it, the last of them, and whether that was used to its last byte.
  #batchChains = 0;
  #batchSlots = 0;
  #batchId = 0;
  #batchLength = 0;
  #batchComplete = false;

  /** Where the buffer lay that a burst took last: mostly the next one lies there too. */
  protected readonly window: BufferWindow = new BufferWindow();
  /** Some area of the ring is a copy. */
  protected far = false;
  /** Areas of the ring that are copies, by their names; the layout loads and stores them. */
  readonly #windows = new Map<string, DmaRegion>();
  /** What to store when a chain is returned, by its id. */
  readonly #lent = new Map<number, Lent[]>();

  readonly #device: QueueDevice;
  readonly #rule: string;
  #broken = false;
  /** The client's mappings that were looked at last; −1: none yet. */
  #generation = -1;
  /** The client has taken the ring's memory away. */
  #away = false;
  /** That would be no fault now. */
  #mayRest = false;

  /** A ring that was just enabled. @param problem what is wrong with the setup @param rule where the rules of the layout are @throws UsageError when there is a problem */
  constructor(setup: DeviceQueueSetup, device: QueueDevice, rule: string, problem: string | undefined) {
    if (problem !== undefined) throw new UsageError(`queue ${setup.index}: ${problem}`);
    this.setup = setup;
    this.#device = device;
    this.#rule = rule;
    this.dma = device.dma;
    this.index = setup.index;
    this.size = setup.size;
    this.indirect = setup.indirect;
    this.eventIndex = setup.eventIndex;
    this.inOrder = setup.inOrder ?? false;
    this.batches = this.inOrder && (setup.usedBatches ?? false);
    this.acquiresEach = setup.acquiresEach ?? !LOADS_IN_ORDER;
  }

  /** As `DeviceQueue.state`. */
  abstract state(): QueueState;
  /** As `DeviceQueue.checkNotification`. */
  abstract checkNotification(nextOffset: number, nextWrap: number): string | undefined;
  /** As `DeviceQueue.available`. */
  abstract available(atMost?: number): number;
  /** As `DeviceQueue.pop`. */
  abstract pop(into: Chain): number;
  /** As `DeviceQueue.popBurst`. */
  abstract popBurst(into: Burst, most: number, deviceWrites: boolean): number;
  /** As `DeviceQueue.unpop`. */
  abstract unpop(): void;
  /** As `DeviceQueue.pushUsed`. */
  abstract pushUsed(id: number, lengthBytes: number): void;
  /** As `DeviceQueue.pushBurst`. */
  abstract pushBurst(from: Burst, count: number): void;
  /** As `DeviceQueue.publish`. */
  abstract publish(): boolean;
  /** As `DeviceQueue.leave`. */
  abstract leave(): void;
  /** As `DeviceQueue.suppress`. */
  abstract suppress(): void;
  /** As `DeviceQueue.arm`. */
  abstract arm(beyond?: number): boolean;

  /** Takes views of the three areas. @returns false when it failed */
  protected abstract map(): boolean;
  /** A chain in messages, by what the layout knows of it. */
  protected abstract nameOf(chain: number): string;
  /** Puts a used element for `chains` chains, which took `slots` descriptors of the ring, at the next place; unchecked and invisible. */
  protected abstract writeUsed(id: number, lengthBytes: number, slots: number): void;

  /** A violation was found: the queue is empty and takes nothing. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Chains that the device holds. */
  get inFlight(): number {
    return this.heldCount;
  }

  /** Chains that were popped since the queue was enabled. */
  get taken(): number {
    return this.takenCount[0]!;
  }

  /** Sends a used buffer notification. */
  protected interrupt(): void {
    this.#device.interrupt(this.index);
  }

  /**
   * Returns a chain by itself, or as one more of the open batch. Of a batch the driver sees the last chain alone and takes those before it for
   * used completely (§2.7.9, §2.8.9), so a chain that was not used to its last byte ends a batch.
   * @param writableBytes of the chain
   */
  protected returnChain(id: number, lengthBytes: number, slots: number, writableBytes: number): void {
    if (this.#lent.size > 0) this.#store(id, lengthBytes);
    if (!this.batches) {
      this.writeUsed(id, lengthBytes, slots);
      return;
    }
    if (this.#batchChains > 0 && !this.#batchComplete) this.closeBatch();
    this.#batchChains++;
    this.#batchSlots += slots;
    this.#batchId = id;
    this.#batchLength = lengthBytes;
    this.#batchComplete = lengthBytes === writableBytes;
  }

  /** Chains must be returned one by one: some make a batch, or have memory that is to be stored. */
  protected get singly(): boolean {
    return this.batches || this.far || this.#lent.size > 0;
  }

  /** Remembers which memory of a chain that was just popped is to be stored when it is returned. */
  protected lend(chain: Chain): void {
    const lent: Lent[] = [];
    for (let i = chain.readableCount, at = 0; i < chain.count; at += chain.lengths[i++]!) {
      const window = chain.regions[i]!;
      if (window.far !== null) lent.push({ window, at });
    }
    this.#lent.set(chain.id, lent);
  }

  /** The chain was given back as it was. */
  protected takeBack(id: number): void {
    this.#lent.delete(id);
  }

  /** Of what the driver lent it gets the bytes that the used length covers. */
  #store(id: number, lengthBytes: number): void {
    for (const { window, at } of this.#lent.get(id) ?? []) {
      const written = Math.min(lengthBytes - at, window.sizeBytes);
      if (written > 0 && !window.store(0, written)) {
        this.fail(
          "DMA",
          `${this.nameOf(id)}: its buffer at IOVA 0x${window.iova.toString(16)} cannot be written`,
        );
      }
    }
    this.#lent.delete(id);
  }

  /** Loads a part of an area that is a copy; others need no loading. @returns false when the queue broke over it */
  protected load(what: string, offset = 0, length?: number): boolean {
    const window = this.#windows.get(what);
    if (window === undefined || window.load(offset, length)) return true;
    this.fail("DMA", `${what} at IOVA 0x${window.iova.toString(16)} cannot be read any more`);
    return false;
  }

  /** Stores a part of an area that is a copy; others need no storing. @returns false when the queue broke over it */
  protected store(what: string, offset: number, length: number): boolean {
    const window = this.#windows.get(what);
    if (window === undefined || window.store(offset, length)) return true;
    this.fail("DMA", `${what} at IOVA 0x${window.iova.toString(16)} cannot be written any more`);
    return false;
  }

  /** Writes the element of the open batch. */
  protected closeBatch(): void {
    if (this.#batchChains === 0) return;
    const slots = this.#batchSlots;
    this.#batchChains = 0;
    this.#batchSlots = 0;
    this.writeUsed(this.#batchId, this.#batchLength, slots);
  }

  /** The device returns a chain that it does not hold: a mistake of the device. */
  protected notHeld(id: number): never {
    throw new UsageError(`queue ${this.index}: the device does not hold chain ${id}`);
  }

  /** With IN_ORDER the device returns a chain before an older one: a mistake of the device. */
  protected outOfOrder(id: number, oldest: number): UsageError {
    return new UsageError(`queue ${this.index}: chain ${id} is returned before chain ${oldest}`, {
      hint: "with IN_ORDER a device uses buffers in the order in which they were made available",
    });
  }

  /** Breaks the queue. */
  protected fail(rule: string, message: string): -1 {
    this.#broken = true;
    this.#device.violation(rule, message, this.index);
    return -1;
  }

  /** Breaks the queue for what is wrong with a chain. */
  bad(chain: number, message: string, rule: string = this.#rule): false {
    this.fail(rule, `${this.nameOf(chain)}: ${message}`);
    return false;
  }

  /** Notes what does no harm. */
  report(chain: number, message: string): void {
    this.#device.report?.(this.#rule, `${this.nameOf(chain)}: ${message}`, this.index);
  }

  /**
   * True when the queue may be used; takes new views when the client's mappings changed. A ring that has worked and of which the device holds
   * nothing may be unmapped for a while, as QEMU does when its map of memory changes: until it is there again it rests.
   */
  protected ready(): boolean {
    if (this.#broken) return false;
    if (this.#generation === this.dma.generation) return !this.#away;
    this.window.close();
    this.#mayRest = this.#generation >= 0 && this.heldCount === 0;
    this.#away = !this.map();
    this.#generation = this.dma.generation;
    return !this.#away;
  }

  /** Finds one area. @returns undefined when the queue broke over it */
  protected area(
    what: string,
    iova: bigint,
    sizeBytes: number,
    alignment: number,
    access: "read" | "write" | "read and write",
  ): RingArea | undefined {
    const lo = Number(iova & 0xffff_ffffn), hi = Number(iova >> 32n);
    const found = (access === "write" || this.dma.find(lo, hi, sizeBytes, false)) &&
      (access === "read" || this.dma.find(lo, hi, sizeBytes, true));
    if (!found) {
      if (this.#mayRest) return undefined;
      const where = `${what}: ${sizeBytes} bytes at IOVA 0x${iova.toString(16)}`;
      this.fail("DMA", `${where} are not mapped for the device to ${access}`);
      return undefined;
    }
    const offset = this.dma.offset;
    // A mapping at an IOVA that is no multiple of the page size would make an aligned address an unaligned view.
    if (offset % alignment !== 0) {
      this.fail("DMA", `${what} at IOVA 0x${iova.toString(16)} lies in a mapping that is not page-aligned`);
      return undefined;
    }
    const region = this.dma.region!;
    this.#keepWindow(what, region, access !== "write");
    return { buffer: region.memory.buffer, offset };
  }

  /** What an earlier window of the same area held is what the client has, as far as this device wrote it. */
  #keepWindow(what: string, region: DmaRegion, loads: boolean): void {
    const before = this.#windows.get(what);
    if (region.far === null) {
      if (before === undefined) return;
      this.#windows.delete(what);
      this.far = this.#windows.size > 0;
      return;
    }
    this.far = true;
    if (before !== undefined) region.bytes.set(before.bytes);
    this.#windows.set(what, region);
    if (loads) this.load(what);
  }
}
