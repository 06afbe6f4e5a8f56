/**
 * What the differential test drives side by side: a ring of one layout, with the model of its device.
 *
 * @module
 */
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import type { Virtqueue } from "../../../../lib/virtio/queue/virtqueue.ts";
import { ahead, type ModelPackedRing, type Place } from "./model_packed_ring.ts";
import type { ModelRing, Part } from "./model_ring.ts";
import type { ReferenceChain, Wish } from "./ring_reference.ts";

/** How rings are used. */
export interface Variant {
  readonly size: number;
  readonly eventIndex: boolean;
  readonly indirect: boolean;
  readonly inOrder: boolean;
  readonly notificationData: boolean;
  /** Every chain is one of the queue's slots. */
  readonly slots?: boolean;
  /** Where the rings start: index of the split one, slot and wrap counter of the packed one. */
  readonly start?: { readonly index: number; readonly place: Place };
}

/** A ring and the model of its device, doing what it is told. Chains are known by their numbers. */
export abstract class Lane {
  readonly queue: Virtqueue;
  readonly variant: Variant;
  /** Driver's id to chain. */
  readonly chains = new Map<number, ReferenceChain>();
  /** Numbers that the ring has for chains that the device holds. With slots in order they are not the driver's. */
  readonly ringIds = new Map<ReferenceChain, number>();
  readonly into;
  readonly doorbells: number[];

  constructor(queue: Virtqueue, variant: Variant, doorbells: number[]) {
    this.queue = queue;
    this.variant = variant;
    this.into = usedBurst(Math.min(queue.size, 300));
    this.doorbells = doorbells;
  }

  abstract readonly name: string;
  /** Tells the driver when to notify. */
  abstract wish(wish: Wish, published: number): void;
  abstract pop(): { id: number; parts: readonly Part[] } | undefined;
  /** Returns chains of which the last has that length. @returns whether the driver asked to be interrupted */
  abstract giveBack(chains: readonly ReferenceChain[], length: number): boolean;
  /** The 32-bit notification that the standard demands now (1.6). */
  abstract expectedDoorbell(): number;
  /** Called for each commit, in order. */
  abstract committed(chain: ReferenceChain): void;
  /** Called for each chain that the device got, in order. */
  popped(_chain: ReferenceChain, _id: number): void {}

  fail(message: string): never {
    throw new Error(`${this.name} ${JSON.stringify(this.variant)}: ${message}`);
  }

  add(chain: ReferenceChain, single: boolean): void {
    const { queue } = this;
    const { parts } = chain;
    let id: number;
    if (single) {
      const [lo, hi, length, write] = parts[0]!;
      id = queue.addSingle(lo, hi, length, write === 1);
    } else {
      const writable = parts.filter((part) => part[3] === 1).length;
      if (!queue.begin(parts.length - writable, writable)) this.fail(`refuses ${parts.length} parts`);
      for (const [lo, hi, length] of parts) queue.segment(lo, hi, length);
      id = queue.commit();
    }
    this.#added(id, chain);
  }

  #added(id: number, chain: ReferenceChain): void {
    if (!(id >= 0 && id < this.queue.size) || this.chains.has(id)) this.fail(`id ${id}`);
    this.chains.set(id, chain);
    this.committed(chain);
  }

  /** Adds chains of one part, of which `wanted` fit. */
  addBurst({ lo, hi, lengths, writes }: Burst, count: number, chains: readonly ReferenceChain[]): void {
    const ids = new Uint16Array(count);
    const added = this.queue.addSingles(lo, hi, lengths, count, writes, ids);
    if (added !== chains.length) this.fail(`added ${added}, not ${chains.length}`);
    chains.forEach((chain, at) => this.#added(ids[at]!, chain));
  }

  /** Adds `wanted` chains of any parts, of which as many fit as `chains` has. */
  addChains(wanted: readonly ReferenceChain["parts"][], chains: readonly ReferenceChain[]): void {
    const parts = wanted.flat();
    const column = (at: 0 | 1 | 2) => Uint32Array.from(parts, (part) => part[at]);
    const counted = (write: 0 | 1) =>
      Uint16Array.from(wanted, (chain) => chain.filter((part) => part[3] === write).length);
    const ids = new Uint16Array(wanted.length);
    const added = this.queue.addChains(
      { iovaLo: column(0), iovaHi: column(1), lengths: column(2) },
      counted(0),
      counted(1),
      wanted.length,
      ids,
    );
    if (added !== chains.length) this.fail(`added ${added}, not ${chains.length}`);
    chains.forEach((chain, at) => this.#added(ids[at]!, chain));
  }

  addSlots(
    slots: Uint16Array,
    lengths: Uint32Array | null,
    headBytes: number,
    chains: readonly ReferenceChain[],
  ): void {
    const added = this.queue.addSlots(slots, lengths, slots.length, headBytes);
    if (added !== chains.length) this.fail(`added ${added}, not ${chains.length}`);
    chains.forEach((chain, at) => this.#added(slots[at]!, chain));
  }

  idOf(chain: ReferenceChain): number {
    const id = this.ringIds.get(chain);
    if (id === undefined) return this.fail(`chain ${chain.serial} was not popped`);
    this.ringIds.delete(chain);
    return id;
  }

  checkPopped(chain: ReferenceChain | undefined): void {
    const got = this.pop();
    if (got === undefined || chain === undefined) {
      if (got !== undefined || chain !== undefined) this.fail(`popped ${got?.id}, not ${chain?.serial}`);
      return;
    }
    const { slots, inOrder } = this.variant;
    if (!(slots && inOrder) && this.chains.get(got.id) !== chain) {
      this.fail(`popped ${got.id}, not chain ${chain.serial}`);
    }
    this.ringIds.set(chain, got.id);
    this.popped(chain, got.id);
    if (got.parts.length !== chain.parts.length) this.fail(`${got.parts.length} parts`);
    got.parts.forEach(({ iova, length, write }, at) => {
      const [lo, hi, lengthBytes, wanted] = chain.parts[at]!;
      if (
        Number(iova & 0xffff_ffffn) !== lo || Number(iova >> 32n) !== hi || length !== lengthBytes ||
        write !== (wanted === 1)
      ) this.fail(`part ${at} of chain ${chain.serial}`);
    });
  }

  checkTaken(max: number, wanted: readonly { chain: ReferenceChain; length: number }[]): void {
    const n = this.queue.takeUsed(this.into, max);
    if (n !== wanted.length) this.fail(`took ${n}, not ${wanted.length}`);
    for (let at = 0; at < n; at++) {
      const { chain, length } = wanted[at]!;
      const id = this.into.ids[at]!;
      if (this.chains.get(id) !== chain) this.fail(`took ${id} at ${at}, not chain ${chain.serial}`);
      if (this.into.lengths[at] !== length) this.fail(`length ${this.into.lengths[at]}, not ${length}`);
      this.chains.delete(id);
    }
  }

  checkFlush(notify: boolean): void {
    const before = this.doorbells.length;
    if (this.queue.flush() !== notify) this.fail(`flush: not ${notify}`);
    if (this.doorbells.length - before !== (notify ? 1 : 0)) this.fail("doorbell");
    if (!notify) return;
    const expected = this.variant.notificationData ? this.expectedDoorbell() : 0;
    if (this.doorbells.pop() !== expected) this.fail("notification data");
  }
}

export class SplitLane extends Lane {
  readonly name = "split";
  readonly #ring: ModelRing;
  readonly #start: number;
  #committed: number;
  /** IN_ORDER: next entry of the descriptor table. */
  #cursor = 0;

  constructor(queue: Virtqueue, ring: ModelRing, variant: Variant, doorbells: number[]) {
    super(queue, variant, doorbells);
    this.#ring = ring;
    this.#start = variant.start?.index ?? 0;
    this.#committed = this.#start;
  }
  override committed(): void {
    this.#committed++;
  }
  override popped(chain: ReferenceChain, id: number): void {
    if (!this.variant.inOrder) return;
    // SPEC: "driver uses descriptors in ring order: starting from offset 0 in the table, and wrapping around".
    if (id !== this.#cursor) this.fail(`IN_ORDER: chain ${chain.serial} not at ${this.#cursor}`);
    this.#cursor = (this.#cursor + chain.need) % this.queue.size;
  }
  override wish(wish: Wish, published: number): void {
    const at = typeof wish === "number" ? wish : wish === "always" ? published : published - 1;
    this.#ring.availableEvent = (this.#start + at) & 0xffff;
    // Ignored with event index; without, the event is.
    this.#ring.usedFlags = this.variant.eventIndex ? published & 1 : wish === "never" ? 1 : 0;
  }
  override pop() {
    const chain = this.#ring.pop();
    return chain === undefined ? undefined : { id: chain.head, parts: chain.parts };
  }
  override giveBack(chains: readonly ReferenceChain[], length: number): boolean {
    this.#ring.fillBatch(this.idOf(chains.at(-1)!), length, chains.length);
    this.#ring.usedIndex = this.#ring.usedNext;
    return this.#ring.interrupts(chains.length, this.variant.eventIndex);
  }
  override expectedDoorbell(): number {
    return ((this.#committed & 0xffff) << 16) >>> 0;
  }
}

/** Places that are remembered: more than can be between the oldest unpublished chain and the next. */
const PLACES = 65_536;

export class PackedLane extends Lane {
  readonly name = "packed";
  readonly #ring: ModelPackedRing;
  /** Where each recent chain begins, by number. */
  readonly #places: Place[] = [];
  #next: Place;

  constructor(queue: Virtqueue, ring: ModelPackedRing, variant: Variant, doorbells: number[]) {
    super(queue, variant, doorbells);
    this.#ring = ring;
    this.#next = variant.start?.place ?? { slot: 0, wrap: 1 };
  }
  override committed(chain: ReferenceChain): void {
    this.#places[chain.serial % PLACES] = this.#next;
    this.#next = ahead(this.#next, chain.need, this.queue.size);
    this.#places[(chain.serial + 1) % PLACES] = this.#next;
  }
  override wish(wish: Wish, published: number): void {
    if (wish === "never") this.#ring.setDeviceEvent(published & 0xffff, 1);
    else if (wish === "always") this.#ring.setDeviceEvent(published & 0xffff, 0);
    else this.#ring.askAt(this.#places[wish % PLACES] ?? this.#next);
  }
  override pop() {
    return this.#ring.pop();
  }
  override giveBack(chains: readonly ReferenceChain[], length: number): boolean {
    const from = this.#ring.usedNext;
    const count = chains.reduce((sum, chain) => sum + chain.need, 0);
    this.#ring.push(this.idOf(chains.at(-1)!), length, count);
    return this.#ring.interrupts(from, count);
  }
  override expectedDoorbell(): number {
    return ((this.#next.slot << 16) | (this.#next.wrap << 31)) >>> 0;
  }
}

/** Parts of chains of one part each. */
export interface Burst {
  readonly lo: Uint32Array;
  readonly hi: Uint32Array;
  readonly lengths: Uint32Array;
  readonly writes: boolean;
}
