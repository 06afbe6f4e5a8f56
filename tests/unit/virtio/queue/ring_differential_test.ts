import { assert } from "@std/assert";
import { campaign, Random, rounds } from "../../../random.ts";
import { packedFixture, ringFixture } from "./ring_fixture.ts";
import { type Lane, PackedLane, SplitLane, type Variant } from "./ring_lanes.ts";
import { type ReferenceChain, ReferenceQueue, type Wish } from "./ring_reference.ts";

interface Counts {
  operations: number;
  chains: number;
  bursts: number;
  /** Operations that called for a burst: of chains of one part or of more, of slots, or of returns. */
  burstCalls: number;
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
    if ((size & (size - 1)) !== 0) continue;
    const split = fixtures.use(ringFixture({
      ...options,
      acquireEach,
      ...(start === undefined ? {} : { start: { layout: "split", availableIndex: start.index } }),
    }, variant.notificationData));
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

  const needOf = (total: number) => indirect && total > 1 && total <= options.maxSegments ? 1 : total;
  const partsOf = (total: number, readable: number): ReferenceChain["parts"] =>
    Array.from(
      { length: total },
      (_, at) => [random.next(), random.next(), 1 + random.below(65536), at >= readable ? 1 : 0],
    );

  const add = () => {
    const total = 1 + random.below(Math.min(size, random.below(8) === 0 ? 40 : 4));
    const need = needOf(total);
    const readable = random.below(total + 1);
    if (need > reference.free) {
      for (const lane of lanes) if (lane.queue.begin(readable, total - readable)) lane.fail("has room");
      counts.refused++;
      return;
    }
    const chain = reference.add(partsOf(total, readable), need);
    const single = total === 1 && random.below(2) === 0;
    for (const lane of lanes) lane.add(chain, single);
    recent = [...recent.slice(-3), chain];
    counts.chains++;
    if (need < total) counts.tables++;
  };

  const addChains = () => {
    const wanted = Array.from({ length: 1 + random.below(8) }, () => {
      const total = 1 + random.below(Math.min(size, 4));
      return partsOf(total, random.below(total + 1));
    });
    const chains: ReferenceChain[] = [];
    for (const parts of wanted) {
      const need = needOf(parts.length);
      if (need > reference.free) break;
      chains.push(reference.add(parts, need));
      if (need < parts.length) counts.tables++;
    }
    recent = [...recent, ...chains].slice(-4);
    counts.chains += chains.length;
    if (chains.length > 1) counts.bursts++;
    for (const lane of lanes) lane.addChains(wanted, chains);
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
    if (choice < 40 && (slots !== undefined || choice >= 24) || choice >= 87 && choice < 96) {
      counts.burstCalls++;
    }
    if (choice < 40 && slots !== undefined) addSlots();
    else if (choice < 24) add();
    else if (choice < 32) addChains();
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
  burstCalls: 0,
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
    assert(total.burstCalls >= rounds(1_000_000), `${total.burstCalls} calls of bursts`);
    return `differential: ${Object.entries(total).map(([what, count]) => `${what} ${count}`).join(", ")}`;
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
