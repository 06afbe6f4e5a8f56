/** Two devices look at the same memory: one takes and returns chains one by one, the other by bursts. Nobody may see a difference. */
import { assert, assertEquals } from "@std/assert";
import { Burst } from "../../../../../lib/emulation/virtio/queue/burst.ts";
import { Chain } from "../../../../../lib/emulation/virtio/queue/chain.ts";
import type {
  DeviceQueue,
  DeviceQueueSetup,
  QueueDevice,
} from "../../../../../lib/emulation/virtio/queue/device_queue.ts";
import { PackedDeviceQueue } from "../../../../../lib/emulation/virtio/queue/packed.ts";
import { SplitDeviceQueue } from "../../../../../lib/emulation/virtio/queue/split.ts";
import { FakeClient, FakeOwner, FakeRing } from "../fake_client.ts";
import { FakePackedRing } from "../fake_packed_ring.ts";
import { campaign, Random, rounds } from "../../../../random.ts";
import { mapOneWay, packedBuffers, packedNoise, splitBuffers, splitNoise } from "./ring_noise.ts";

const CASES = rounds(1_000_000);
const MEMORY_BYTES = 65536;
/** Rings and tables lie below. */
const RINGS_END = 4096;
const TABLE_BYTES = 32 * 16 + 16;

/** A chain that was taken, as both must have it. */
interface Taken {
  readonly id: number;
  readonly parts: readonly (readonly [iova: bigint, length: number, write: boolean])[];
}

/** One device with a client of its own. */
abstract class Side implements Disposable {
  readonly client = new FakeClient(MEMORY_BYTES);
  readonly owner: FakeOwner;
  queue!: DeviceQueue;
  readonly #chain = new Chain(16);

  constructor() {
    mapOneWay(this.client);
    this.owner = new FakeOwner(this.client.dma);
  }

  /** Takes up to `most` chains. */
  abstract take(most: number, random: Random): Taken[];
  abstract giveBack(used: readonly { id: number; length: number }[]): void;

  protected pop(): Taken | undefined {
    const chain = this.#chain;
    const id = this.queue.pop(chain);
    if (id < 0) return undefined;
    const parts = Array.from({ length: chain.count }, (_, i) =>
      [
        chain.regions[i]!.iova + BigInt(chain.offsets[i]!),
        chain.lengths[i]!,
        i >= chain.readableCount,
      ] as const);
    return { id, parts };
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
  }
}

class OneByOne extends Side {
  override take(most: number): Taken[] {
    const taken: Taken[] = [];
    for (let one = most > 0 ? this.pop() : undefined; one !== undefined;) {
      taken.push(one);
      one = taken.length < most ? this.pop() : undefined;
    }
    return taken;
  }

  override giveBack(used: readonly { id: number; length: number }[]): void {
    for (const { id, length } of used) this.queue.pushUsed(id, length);
  }
}

class ByBursts extends Side {
  /** Bursts of more than one. */
  bursts = 0;
  /** Chains that the burst had left, and that broke a rule or were of more buffers. */
  left = 0;
  /** Chains that came and went by bursts in this case. */
  moved = 0;
  readonly #burst = new Burst(6);

  override take(most: number, random: Random): Taken[] {
    const burst = this.#burst;
    const taken: Taken[] = [];
    while (taken.length < most) {
      let write = random.below(2) === 0;
      const wanted = Math.min(1 + random.below(9), most - taken.length);
      const violations = this.owner.violations.length;
      let count = this.queue.popBurst(burst, wanted, write);
      if (count === 0) count = this.queue.popBurst(burst, wanted, write = !write);
      // Only what the ring as a whole says may break a burst: a chain is judged by `pop`.
      assert(count === 0 || this.owner.violations.length === violations);
      if (count > 1) this.bursts++;
      this.moved += count;
      for (let i = 0; i < count; i++) {
        const region = burst.regions[i]!;
        taken.push({
          id: burst.ids[i]!,
          parts: [[region.iova + BigInt(burst.offsets[i]!), burst.lengths[i]!, write]],
        });
      }
      if (count > 0) continue;
      const one = this.pop();
      if (one !== undefined || this.queue.broken) this.left++;
      if (one === undefined) break;
      taken.push(one);
    }
    return taken;
  }

  override giveBack(used: readonly { id: number; length: number }[]): void {
    for (let at = 0; at < used.length;) {
      const part = used.slice(at, at + 4);
      part.forEach(({ id, length }, i) => {
        this.#burst.ids[i] = id;
        this.#burst.written[i] = length;
      });
      this.queue.pushBurst(this.#burst, part.length);
      this.moved += part.length;
      at += part.length;
    }
  }
}

/** What differs between the layouts. */
interface Layout {
  /** A ring for a side's client, always at the same place. */
  ring(client: FakeClient, size: number): void;
  setup(options: Partial<DeviceQueueSetup>): DeviceQueueSetup;
  make(setup: DeviceQueueSetup, device: QueueDevice): DeviceQueue;
  /** The driver of the first side does something. */
  drive(random: Random, queue: DeviceQueue, held: ReadonlySet<number>, setup: DeviceQueueSetup): void;
  wish(random: Random, eventIndex: boolean): void;
}

class SplitLayout implements Layout {
  #ring!: FakeRing;
  #tables = 0;
  ring(client: FakeClient, size: number): void {
    const tables = client.allocate(TABLE_BYTES);
    const ring = new FakeRing(client, size);
    this.#ring ??= ring;
    this.#tables = tables;
  }
  setup(options: Partial<DeviceQueueSetup>): DeviceQueueSetup {
    return { ...this.#ring.setup(0), ...options };
  }
  make(setup: DeviceQueueSetup, device: QueueDevice): DeviceQueue {
    return new SplitDeviceQueue(setup, device);
  }
  drive(random: Random, queue: DeviceQueue, held: ReadonlySet<number>, setup: DeviceQueueSetup): void {
    const ring = this.#ring;
    const state = queue.state();
    if (state.layout !== "split") throw new Error("layout");
    if (random.below(6) === 0) splitNoise(random, ring.client, ring, this.#tables);
    else {
      const room = random.below(ring.size - held.size + 1);
      const count = room + queue.available();
      if (count + held.size > ring.size) return;
      splitBuffers(
        random,
        ring.client,
        ring,
        state.availableIndex,
        count,
        held,
        setup.inOrder === true && random.below(50) > 0,
      );
    }
  }
  wish(random: Random, eventIndex: boolean): void {
    if (eventIndex) this.#ring.setUsedEvent(random.below(20));
    else this.#ring.setAvailFlags(random.below(2));
  }
}

class PackedLayout implements Layout {
  #ring!: FakePackedRing;
  #tables = 0;
  ring(client: FakeClient, size: number): void {
    const tables = client.allocate(TABLE_BYTES);
    const ring = new FakePackedRing(client, size);
    this.#ring ??= ring;
    this.#tables = tables;
  }
  setup(options: Partial<DeviceQueueSetup>): DeviceQueueSetup {
    return this.#ring.setup(0, options);
  }
  make(setup: DeviceQueueSetup, device: QueueDevice): DeviceQueue {
    return new PackedDeviceQueue(setup, device);
  }
  drive(random: Random, queue: DeviceQueue, held: ReadonlySet<number>): void {
    const ring = this.#ring;
    const state = queue.state();
    if (state.layout !== "packed") throw new Error("layout");
    const next = state.availableSlot + (state.availableWrap === 1 ? 0 : ring.size);
    if (random.below(6) === 0) packedNoise(random, ring.client, ring, this.#tables, next);
    else packedBuffers(random, ring.client, ring, next, random.below(ring.size - held.size + 1), held);
  }
  wish(random: Random, eventIndex: boolean): void {
    this.#ring.setEvent(random.below(eventIndex ? 3 : 2), random.below(this.#ring.size), random.below(2));
  }
}

function compare(name: string, seed: number, sizes: readonly number[], layout: () => Layout): string {
  const random = new Random(seed);
  const rings = sizes.map((size) => {
    const one = layout();
    const sides = [new OneByOne(), new ByBursts()] as const;
    for (const side of sides) one.ring(side.client, size);
    return { one, sides, size };
  });
  const seen = {
    taken: 0,
    broken: 0,
    returned: 0,
    given: 0,
    batches: 0,
    byBursts: 0,
    bursts: 0,
    acquired: 0,
  };
  let n = 0;
  // Cases count in which the burst calls moved chains, or left the next for `pop`.
  while (seen.byBursts < CASES) {
    const { one, sides, size } = rings[random.below(rings.length)]!;
    const [plain, bursts] = sides;
    plain.client.bytes.fill(0, 0, RINGS_END);
    const inOrder = random.below(3) === 0, acquiresEach = random.below(2) === 0;
    const setup = one.setup({
      acquiresEach,
      indirect: random.below(8) !== 0,
      eventIndex: random.below(2) === 0,
      inOrder,
      usedBatches: inOrder && random.below(2) === 0,
    });
    const copy = () => bursts.client.bytes.set(plain.client.bytes.subarray(0, RINGS_END));
    copy();
    for (const side of sides) {
      side.queue = one.make(setup, side.owner);
      side.owner.violations.length = 0;
      side.owner.interrupts = 0;
    }
    const held: number[] = [];
    for (let life = 0; life < 12 && !plain.queue.broken; life++, n++) {
      const what = () => `seed ${seed}, case ${n}`;
      for (const side of sides) side.queue.available();
      one.drive(random, plain.queue, new Set(held), setup);
      one.wish(random, setup.eventIndex);
      copy();
      const most = random.below(size + 2);
      bursts.moved = bursts.bursts = 0;
      const leftBefore = bursts.left;
      const taken = sides.map((side) => side.take(most, random));
      if (!same(taken[0]!, taken[1]!)) assertEquals(taken[1], taken[0], what());
      // Each order of loads has a way of its own through a burst.
      seen[acquiresEach ? "acquired" : "bursts"] += bursts.bursts;
      held.push(...taken[0]!.map(({ id }) => id));
      seen.taken += taken[0]!.length;
      if (taken[0]!.length > 0 && !plain.queue.broken) {
        // Some are given back, last first.
        for (let back = random.below(4) === 0 ? random.below(taken[0]!.length + 1) : 0; back > 0; back--) {
          for (const side of sides) side.queue.unpop();
          held.pop();
          seen.given++;
        }
      }
      const used: { id: number; length: number }[] = [];
      while (held.length > 0 && random.below(4) > 0) {
        const at = inOrder ? 0 : random.below(held.length);
        used.push({ id: held.splice(at, 1)[0]!, length: random.below(3) * random.below(100) });
      }
      for (const side of sides) side.giveBack(used);
      if (bursts.moved > 0 || bursts.left > leftBefore) seen.byBursts++;
      const told = sides.map((side) => side.queue.publish());
      seen.returned += used.length;
      if (setup.usedBatches) seen.batches += used.length;
      assertEquals(told[0], told[1], what());
      assertEquals(summary(bursts), summary(plain), what());
      const [before, after] = [plain.client.bytes, bursts.client.bytes].map((bytes) =>
        new BigUint64Array(bytes.buffer, 0, RINGS_END / 8)
      );
      for (let i = 0; i < before!.length; i++) {
        if (before![i] !== after![i]) throw new Error(`${what()}: memory at ${8 * i}`);
      }
    }
    if (plain.queue.broken) seen.broken++;
  }
  const left = rings.reduce((sum, { sides }) => sum + sides[1].left, 0);
  for (const { sides } of rings) for (const side of sides) side[Symbol.dispose]();
  // The generator must reach every outcome often, else the comparison says little.
  const counts = Object.entries({ ...seen, left });
  for (const [what, count] of counts) assert(count > CASES / 40, `${what}: ${count} of ${CASES}`);
  return `hostile driver, ${name}: ${n} cases: ${
    counts.map(([what, count]) => `${what} ${count}`).join(", ")
  }`;
}

function same(one: readonly Taken[], other: readonly Taken[]): boolean {
  return one.length === other.length && one.every(({ id, parts }, i) => {
    const { id: otherId, parts: otherParts } = other[i]!;
    return id === otherId && parts.length === otherParts.length &&
      parts.every((part, at) => part.every((value, field) => value === otherParts[at]![field]));
  });
}

function summary({ queue, owner }: Side) {
  return {
    state: queue.state(),
    inFlight: queue.inFlight,
    broken: queue.broken,
    violations: owner.violations,
    interrupts: owner.interrupts,
  };
}

Deno.test(campaign(
  `1.3 differential: ${CASES} rings by bursts and chain by chain: the same chains, violations, places and used rings`,
  () => compare("split", 0xb0057, [2, 8, 16], () => new SplitLayout()),
));

Deno.test(campaign(
  `1.4 differential: ${CASES} packed rings by bursts and chain by chain: the same chains, violations, places and descriptors`,
  () => compare("packed", 0xb0ca7, [1, 3, 8, 16], () => new PackedLayout()),
));
