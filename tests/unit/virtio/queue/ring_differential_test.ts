import { assert } from "@std/assert";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import type { Virtqueue } from "../../../../lib/virtio/queue/virtqueue.ts";
import { ahead, type ModelPackedRing, type Place } from "./model_packed_ring.ts";
import type { ModelRing, Part } from "./model_ring.ts";
import { campaign, Random, rounds } from "../../../random.ts";
import { packedFixture, ringFixture } from "./ring_fixture.ts";
import { type ReferenceChain, ReferenceQueue, type Wish } from "./ring_reference.ts";

interface Variant {
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
abstract class Lane {
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

class SplitLane extends Lane {
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

class PackedLane extends Lane {
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
interface Burst {
  readonly lo: Uint32Array;
  readonly hi: Uint32Array;
  readonly lengths: Uint32Array;
  readonly writes: boolean;
}

interface Counts {
  operations: number;
  chains: number;
  bursts: number;
  refused: number;
  tables: number;
  taken: number;
  batches: number;
  notified: number;
  quiet: number;
  interrupted: number;
}

const MAX_SEGMENTS = 3;

/** Drives all three side by side by chance. */
function run(seed: number, operations: number, variant: Variant, counts: Counts): void {
  const { size, eventIndex, indirect, inOrder } = variant;
  const start = variant.start;
  const options = { size, eventIndex, indirect, inOrder, maxSegments: Math.min(size, MAX_SEGMENTS) };
  const lanes: Lane[] = [];
  using fixtures = new DisposableStack();
  for (const acquireEach of [false, true]) {
    const packed = fixtures.use(packedFixture({
      ...options,
      acquireEach,
      ...(start === undefined ? {} : {
        start: {
          layout: "packed",
          availableSlot: start.place.slot,
          availableWrap: start.place.wrap,
          usedSlot: start.place.slot,
          usedWrap: start.place.wrap,
        },
      }),
    }, variant.notificationData));
    lanes.push(new PackedLane(packed.queue, packed.ring, variant, packed.transport.doorbellWrites));
  }
  using split = (size & (size - 1)) !== 0 ? undefined : ringFixture({
    ...options,
    ...(start === undefined ? {} : { start: { layout: "split", availableIndex: start.index } }),
  }, variant.notificationData);
  if (split !== undefined) {
    lanes.push(new SplitLane(split.queue, split.ring, variant, split.transport.doorbellWrites));
  }

  const random = new Random(seed);
  const words = () => Uint32Array.from({ length: size }, () => random.next());
  const slots = variant.slots
    ? {
      lo: words(),
      hi: words(),
      lengths: Uint32Array.of(5 + random.below(9000)),
      writes: random.below(2) === 0,
    }
    : undefined;
  /** Slots that are not in flight. */
  const idle = Array.from({ length: slots === undefined ? 0 : size }, (_, slot) => slot);
  const slotOf = new Map<ReferenceChain, number>();
  for (const { queue } of lanes) {
    if (slots === undefined) continue;
    const { lo, hi, lengths, writes } = slots;
    queue.bindSlots({ iovaLo: lo, iovaHi: hi, lengthBytes: lengths[0]!, deviceWrites: writes });
  }
  const reference = new ReferenceQueue(size, inOrder);
  let recent: ReferenceChain[] = [];
  // A zeroed ring asks for interrupts: at any return, or at the first.
  reference.armed = 0;
  for (const lane of lanes) if (lane.queue.enableInterrupts()) lane.fail("something is used at the start");

  const add = () => {
    const total = 1 + random.below(Math.min(size, random.below(8) === 0 ? 40 : 4));
    const need = indirect && total > 1 && total <= options.maxSegments ? 1 : total;
    const readable = random.below(total + 1);
    if (need > reference.free) {
      for (const lane of lanes) if (lane.queue.begin(readable, total - readable)) lane.fail("has room");
      counts.refused++;
      return;
    }
    const parts: ReferenceChain["parts"][number][] = [];
    for (let at = 0; at < total; at++) {
      parts.push([random.next(), random.next(), 1 + random.below(65536), at >= readable ? 1 : 0]);
    }
    const chain = reference.add(parts, need);
    const single = total === 1 && random.below(2) === 0;
    for (const lane of lanes) lane.add(chain, single);
    recent = [...recent.slice(-3), chain];
    counts.chains++;
    if (need < total) counts.tables++;
  };

  const addBurst = () => {
    const count = 1 + random.below(Math.min(size, 40));
    const words = () => Uint32Array.from({ length: count }, () => random.next());
    const lengths = words().map((word) => 1 + word % 65536);
    const burst = { lo: words(), hi: words(), lengths, writes: random.below(2) === 0 };
    const chains = offered(count, (at) => [burst.lo[at]!, burst.hi[at]!, lengths[at]!, burst.writes ? 1 : 0]);
    for (const lane of lanes) lane.addBurst(burst, count, chains);
  };

  /** Of slots that are not in flight, in any order. */
  const addSlots = () => {
    const count = Math.min(idle.length, 1 + random.below(40));
    const { lo, hi, lengths: [most], writes } = slots!;
    const chosen = Uint16Array.from({ length: count }, () => idle.splice(random.below(idle.length), 1)[0]!);
    const lengths = random.below(2) === 0
      ? null
      : Uint32Array.from({ length: count }, () => 1 + random.below(most! - 4));
    const headBytes = random.below(5);
    const chains = offered(
      count,
      (
        at,
      ) => [
        lo[chosen[at]!]!,
        hi[chosen[at]!]!,
        lengths === null ? most! : headBytes + lengths[at]!,
        writes ? 1 : 0,
      ],
    );
    chains.forEach((chain, at) => slotOf.set(chain, chosen[at]!));
    for (const lane of lanes) lane.addSlots(chosen, lengths, headBytes, chains);
  };

  const offered = (count: number, part: (at: number) => ReferenceChain["parts"][number]) => {
    const chains: ReferenceChain[] = [];
    const room = Math.min(count, reference.free);
    for (let at = 0; at < room; at++) chains.push(reference.add([part(at)], 1));
    recent = [...recent, ...chains].slice(-4);
    counts.chains += room;
    if (room > 1) counts.bursts++;
    return chains;
  };

  const flush = () => {
    let wish: Wish = random.below(2) === 0 ? "always" : "never";
    if (eventIndex && random.below(4) > 0) {
      // One of the chains in question, one of those before, or the one that is next: no further than a lap from here.
      wish = reference.committed;
      if (recent.length > 0 && random.below(4) > 0) wish = recent[random.below(recent.length)]!.serial;
      const behind = recent.filter(({ serial }) => serial >= (wish as number))
        .reduce((sum, { need }) => sum + need, 0);
      if (behind > size) wish = reference.committed;
    } else if (eventIndex && wish === "always") {
      wish = reference.published;
    }
    for (const lane of lanes) lane.wish(wish, reference.published);
    const fresh = reference.committed > reference.published;
    const notify = reference.publish(wish);
    for (const lane of lanes) lane.checkFlush(notify);
    if (fresh) counts[notify ? "notified" : "quiet"]++;
  };

  const giveBack = () => {
    if (reference.held.length === 0) return;
    const at = inOrder ? 0 : random.below(reference.held.length);
    const count = inOrder ? 1 + random.below(Math.min(reference.held.length, 6)) : 1;
    const chains = reference.held.slice(at, at + count);
    const { room } = chains.at(-1)!;
    const length = random.below(3) === 0 ? room : random.below(room + 1);
    const interrupt = reference.giveBack(chains, length, eventIndex);
    for (const lane of lanes) {
      if (lane.giveBack(chains, length) !== interrupt) lane.fail(`interrupt: not ${interrupt}`);
    }
    if (count > 1) counts.batches++;
    if (!interrupt) return;
    counts.interrupted++;
    if (random.below(2) === 0) suppress();
    else enable();
  };

  const suppress = () => {
    reference.armed = null;
    for (const lane of lanes) lane.queue.suppressInterrupts();
  };

  const enable = () => {
    const more = reference.returned.length > 0;
    reference.armed = reference.takenCount;
    for (const lane of lanes) {
      if (lane.queue.enableInterrupts() !== more) lane.fail("enableInterrupts");
    }
    // Whoever is told that there is something takes it, and asks again later.
    if (more) suppress();
  };

  for (let step = 0; step < operations; step++) {
    const choice = random.below(100);
    if (choice < 40 && slots !== undefined) addSlots();
    else if (choice < 32) add();
    else if (choice < 40) addBurst();
    else if (choice < 55) flush();
    else if (choice < 72) {
      for (let n = 1 + random.below(4); n > 0; n--) {
        const chain = reference.pop();
        for (const lane of lanes) lane.checkPopped(chain);
      }
    } else if (choice < 87) {
      for (let n = 1 + random.below(3); n > 0; n--) giveBack();
    } else if (choice < 96) {
      const max = Math.min(lanes[0]!.into.ids.length, random.below(3) === 0 ? 1 + random.below(3) : size);
      for (const lane of lanes) {
        if (lane.queue.hasUsed() !== reference.returned.length > 0) lane.fail("hasUsed");
      }
      const wanted = reference.take(max);
      for (const lane of lanes) lane.checkTaken(max, wanted);
      for (const { chain } of wanted) {
        if (slots !== undefined) idle.push(slotOf.get(chain)!);
        slotOf.delete(chain);
      }
      counts.taken += wanted.length;
    } else if (choice < 98) enable();
    else suppress();
    for (const { queue, fail } of lanes) {
      if (queue.freeDescriptors !== reference.free) fail(`free: ${queue.freeDescriptors}`);
      if (queue.inFlight !== reference.inFlight) fail(`in flight: ${queue.inFlight}`);
    }
  }
  counts.operations += operations;
}

const EMPTY: Counts = {
  operations: 0,
  chains: 0,
  bursts: 0,
  refused: 0,
  tables: 0,
  taken: 0,
  batches: 0,
  notified: 0,
  quiet: 0,
  interrupted: 0,
};

const SIZES = [1, 2, 3, 5, 256, 32768];

Deno.test(campaign(
  "1.3 1.4 1.6 differential: split, packed (both forms of it) and plain lists agree in 7,200,000 random operations, chains and bursts and slots, with every feature combination",
  () => {
    const total = { ...EMPTY };
    let seed = 20250301;
    for (const size of SIZES) {
      for (let features = 0; features < 16; features++) {
        const variant = {
          size,
          eventIndex: (features & 1) !== 0,
          indirect: (features & 2) !== 0,
          inOrder: (features & 4) !== 0,
          notificationData: (features & 8) !== 0,
        };
        // From the beginning, and so that the 16-bit index and both wrap counters turn over early, from either counter.
        run(seed++, rounds(25_000), variant, total);
        const wrap = (features & 1) as 0 | 1;
        const slot = Math.max(0, size - 1 - (features % 3));
        const start = { index: 0xffe0 + features, place: { slot, wrap } };
        run(seed++, rounds(25_000), { ...variant, start }, total);
        run(seed++, rounds(25_000), { ...variant, start, slots: true }, total);
      }
    }
    // The run is worth something only when it went everywhere.
    assert(total.operations >= rounds(7_200_000));
    for (const [what, count] of Object.entries(total)) assert(count > rounds(10_000), `${what}: ${count}`);
  },
));

Deno.test(campaign(
  "1.3 1.4 differential: 2^16 and the wrap counters are passed several times from the beginning",
  () => {
    for (
      const [size, inOrder, operations] of [[2, false, 1_400_000], [64, true, 500_000], [
        256,
        false,
        500_000,
      ]] as const
    ) {
      const counts = { ...EMPTY };
      run(
        7 * size,
        rounds(operations),
        { size, eventIndex: true, indirect: true, inOrder, notificationData: true },
        counts,
      );
      assert(counts.taken > rounds(70_000), `${size}: only ${counts.taken} in one life of the ring`);
    }
  },
));
