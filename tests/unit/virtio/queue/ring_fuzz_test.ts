import { assert } from "@std/assert";
import { DeviceError } from "../../../../lib/errors/mod.ts";
import type { DmaMemory } from "../../../../lib/memory/mod.ts";
import type { DriverRingParts } from "../../../../lib/virtio/queue/driver_ring.ts";
import { PackedQueue } from "../../../../lib/virtio/queue/packed.ts";
import { packedLayout, type RingLayout, splitLayout } from "../../../../lib/virtio/queue/layout.ts";
import { SplitQueue } from "../../../../lib/virtio/queue/split.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import type { Virtqueue } from "../../../../lib/virtio/queue/virtqueue.ts";
import { FakeIommu } from "../fake_iommu.ts";
import { campaign, Random, rounds } from "../../../random.ts";

interface Target {
  readonly layout: "split" | "packed";
  readonly size: number;
  readonly inOrder: boolean;
  readonly eventIndex: boolean;
  /** Every chain is one of the queue's slots, added by the burst; else chains of all kinds are added one by one and by the burst. */
  readonly slots: boolean;
  /** Of a packed ring: the form for processors that reorder loads. */
  readonly acquireEach: boolean;
}

interface Chain {
  readonly room: number;
  readonly need: number;
  readonly serial: number;
  /** Its number in the ring. */
  readonly ringId: number;
}

const FIELDS = ["used.idx", "used.id", "used.len", "used.flags"];
const SEGMENTS = 2;
/** Bytes of a slot. */
const SLOT_BYTES = 3;
/** Chains that are added or returned at once, at most. */
const BURST = 5;

/** The driver, a device that writes anything anywhere, and the list of what is in flight that judges the driver. */
class Fuzz {
  readonly target: Target;
  readonly seed: number;
  readonly random: Random;
  readonly memory: DmaMemory;
  readonly view: DataView;
  readonly map: RingLayout;
  readonly into = usedBurst(16);
  readonly faults = new Map<string, number>();
  queue!: Virtqueue;
  chains = new Map<number, Chain>();
  unpublished: number[] = [];
  serial = 0;
  /** With slots in order, next number in the ring. */
  cursor = 0;
  taken = 0;
  /** Cases whose call was one for bursts, and those of them that moved more than one chain or ended the queue. */
  burstCalls = 0;
  bursts = 0;
  /** Chains that the call of this case moved by a burst; −1: it was another call. */
  moved = -1;
  notifications = 0;
  lives = 0;

  constructor(target: Target, seed: number, memory: DmaMemory) {
    this.target = target;
    this.seed = seed;
    this.random = new Random(seed);
    this.memory = memory;
    this.view = new DataView(memory.buffer);
    const segments = Math.min(SEGMENTS, target.size);
    this.map = target.layout === "split"
      ? splitLayout(target.size, segments)
      : packedLayout(target.size, segments);
    this.restart();
  }

  fail(message: string): never {
    throw new Error(`seed ${this.seed}, ${JSON.stringify(this.target)}: ${message}`);
  }

  /** A new queue in the same memory; the one before is let go of without closing it. */
  restart(): void {
    const { layout, size, inOrder, eventIndex, slots, acquireEach } = this.target;
    new Uint8Array(this.memory.buffer, 0, this.map.totalBytes).fill(0);
    const parts: DriverRingParts = {
      function: "fuzzed",
      index: 5,
      memory: this.memory,
      doorbell: { ring: () => void this.notifications++ },
      eventIndex,
      inOrder,
      layout: this.map,
      acquireEach,
    };
    this.queue = layout === "split" ? new SplitQueue(parts) : new PackedQueue(parts);
    if (slots) {
      const words = () => Uint32Array.from({ length: size }, () => this.random.next());
      this.queue.bindSlots({
        iovaLo: words(),
        iovaHi: words(),
        lengthBytes: SLOT_BYTES,
        deviceWrites: this.random.below(2) === 0,
      });
    }
    this.chains = new Map();
    this.unpublished = [];
    this.cursor = 0;
    this.lives++;
  }

  /** One write of the device: any value or a likely one, at a field of its own, or anywhere. */
  lie(): void {
    const { random, view, map } = this;
    const { size } = this.target;
    const value = () => {
      const kind = random.below(6);
      return kind < 3
        ? random.below(size + 2)
        : kind === 3
        ? random.next() & 0xffff
        : kind === 4
        ? random.next()
        : this.serial + random.below(3);
    };
    if (random.below(16) === 0) {
      view.setUint8(random.below(map.totalBytes), random.next());
      return;
    }
    if (this.target.layout === "split") {
      const used = map.deviceOffset;
      switch (random.below(5)) {
        case 0:
        case 1:
          return view.setUint16(
            used + 2,
            (this.queue.snapshot().used.index + random.below(3)) & 0xffff,
            true,
          );
        case 2:
          return view.setUint32(used + 4 + 8 * random.below(size), value(), true);
        case 3:
          return view.setUint32(used + 8 + 8 * random.below(size), value(), true);
        default:
          return view.setUint16(used + [0, 2, 4 + 8 * size][random.below(3)]!, value(), true);
      }
    }
    const slot = map.descriptorOffset + 16 * random.below(size);
    switch (random.below(5)) {
      case 0:
      case 1:
        return view.setUint16(
          slot + 14,
          random.below(2) === 0 ? 0x8080 : random.below(4) * 0x40 & 0x8082,
          true,
        );
      case 2:
        return view.setUint16(slot + 12, value(), true);
      case 3:
        return view.setUint32(slot + 8, value(), true);
      default:
        return view.setUint32(map.deviceOffset, random.next(), true);
    }
  }

  /** Returns as they should be, of chains that are published: else the fuzzer would hardly ever get past the first check. */
  honest(): void {
    const { random, view, map } = this;
    const { layout, size, inOrder } = this.target;
    const published = [...this.chains].filter(([id]) => !this.unpublished.includes(id))
      .sort(([, a], [, b]) => a.serial - b.serial).map(([, chain]) => chain);
    let { index, wrap } = this.queue.snapshot().used;
    for (let count = 1 + random.below(BURST); count > 0 && published.length > 0; count--) {
      const at = inOrder ? 0 : random.below(published.length);
      const [{ ringId, room, need }] = published.splice(at, 1) as [Chain];
      const length = room === 0 ? 0 : random.below(room + 1);
      if (layout === "split") {
        const element = map.deviceOffset + 4 + 8 * (index % size);
        view.setUint32(element, ringId, true);
        view.setUint32(element + 4, length, true);
        index = (index + 1) & 0xffff;
        view.setUint16(map.deviceOffset + 2, index, true);
        continue;
      }
      const slot = map.descriptorOffset + 16 * index;
      view.setUint32(slot + 8, length, true);
      view.setUint16(slot + 12, ringId, true);
      view.setUint16(slot + 14, wrap === 1 ? 0x8082 : 0x0002, true);
      index += need;
      if (index < size) continue;
      index -= size;
      wrap = wrap === 1 ? 0 : 1;
    }
  }

  /** One call of the driver, checked. */
  call(): void {
    const { queue, random } = this;
    switch (random.below(8)) {
      case 0:
      case 1:
      case 2:
        return this.take();
      case 3:
      case 4:
      case 5:
        return this.add();
      case 6:
        queue.flush();
        this.unpublished = [];
        return;
      default:
        this.event();
    }
  }

  event(): void {
    const { queue, random } = this;
    const kind = random.below(4);
    if (kind < 2) {
      if (typeof queue.enableInterrupts() !== "boolean") this.fail("enableInterrupts");
    } else if (kind === 2) queue.suppressInterrupts();
    else if (typeof queue.hasUsed() !== "boolean") this.fail("hasUsed");
  }

  add(): void {
    const { queue, random } = this;
    if (this.target.slots) return this.addSlots();
    const how = random.below(4);
    if (how === 0) return this.addSingles();
    if (how === 1) return this.addChains();
    const total = 1 + random.below(Math.min(3, this.target.size));
    const readable = random.below(total + 1);
    const need = total > 1 && total <= SEGMENTS ? 1 : total;
    const free = this.free();
    if (queue.begin(readable, total - readable) !== need <= free) this.fail(`begin with ${free} free`);
    if (need > free) return;
    for (let part = 0; part < total; part++) queue.segment(random.next(), random.next(), 1 + part);
    let room = 0;
    for (let part = readable; part < total; part++) room += 1 + part;
    this.added(queue.commit(), room, need);
  }

  free(): number {
    return this.target.size - [...this.chains.values()].reduce((sum, chain) => sum + chain.need, 0);
  }

  added(id: number, room: number, need: number, ringId = id): void {
    if (!(id >= 0 && id < this.target.size) || this.chains.has(id)) this.fail(`id ${id} given out`);
    this.chains.set(id, { room, need, serial: this.serial++, ringId });
    this.unpublished.push(id);
  }

  addSingles(): void {
    const { queue, random } = this;
    const count = 1 + random.below(BURST);
    const words = () => Uint32Array.from({ length: count }, () => random.next());
    const lengths = Uint32Array.from({ length: count }, () => 1 + random.below(9));
    const writes = random.below(2) === 0;
    const ids = new Uint16Array(count);
    const room = this.moved = Math.min(count, this.free());
    if (queue.addSingles(words(), words(), lengths, count, writes, ids) !== room) this.fail("addSingles");
    for (let at = 0; at < room; at++) this.added(ids[at]!, writes ? lengths[at]! : 0, 1);
  }

  addChains(): void {
    const { queue, random } = this;
    const count = 1 + random.below(BURST);
    const readable = new Uint16Array(count), writable = new Uint16Array(count);
    let parts = 0;
    for (let at = 0; at < count; at++) {
      const total = 1 + random.below(Math.min(3, this.target.size));
      readable[at] = random.below(total + 1);
      writable[at] = total - readable[at]!;
      parts += total;
    }
    const words = () => Uint32Array.from({ length: parts }, () => random.next());
    const lengths = Uint32Array.from({ length: parts }, () => 1 + random.below(9));
    const ids = new Uint16Array(count);
    const free = this.free();
    this.moved = 0;
    const done = this.moved = queue.addChains(
      { iovaLo: words(), iovaHi: words(), lengths },
      readable,
      writable,
      count,
      ids,
    );
    let need = 0;
    for (let at = 0, from = 0; at < count; at++) {
      const total = readable[at]! + writable[at]!;
      const takes = total > 1 && total <= SEGMENTS ? 1 : total;
      if (at === done) {
        if (need + takes <= free) this.fail(`addChains stopped with ${free - need} free`);
        return;
      }
      const room = lengths.subarray(from + readable[at]!, from += total).reduce((sum, one) => sum + one, 0);
      this.added(ids[at]!, room, takes);
      need += takes;
    }
  }

  addSlots(): void {
    const { queue, random } = this;
    const { size, inOrder } = this.target;
    const from = random.below(size);
    const idle = Array.from({ length: size }, (_, at) => (from + at) % size)
      .filter((slot) => !this.chains.has(slot)).slice(0, 1 + random.below(BURST));
    const lengths = Uint32Array.from(idle, () => 1 + random.below(SLOT_BYTES));
    const slots = Uint16Array.from(idle);
    this.moved = idle.length;
    if (queue.addSlots(slots, lengths, idle.length) !== idle.length) this.fail("addSlots");
    const saved = this.queue.saveInFlight();
    idle.forEach((slot, at) => {
      const { writable } = saved.find(({ id }) => id === slot)!;
      this.added(slot, writable.length > 0 ? lengths[at]! : 0, 1, inOrder ? this.cursor : slot);
      this.cursor = (this.cursor + 1) % size;
    });
  }

  take(): void {
    const { ids, lengths } = this.into;
    const max = 1 + this.random.below(16);
    this.moved = 0;
    const n = this.moved = this.queue.takeUsed(this.into, max);
    if (!(n >= 0 && n <= max && n <= this.chains.size)) this.fail(`took ${n}`);
    for (let at = 0; at < n; at++) {
      const chain = this.chains.get(ids[at]!);
      if (chain === undefined) return this.fail(`${ids[at]} was not in flight`);
      if (this.unpublished.includes(ids[at]!)) this.fail(`${ids[at]} was not published`);
      if (lengths[at]! > chain.room) this.fail(`${lengths[at]} bytes in a room of ${chain.room}`);
      if (this.target.inOrder && [...this.chains.values()].some(({ serial }) => serial < chain.serial)) {
        this.fail(`${ids[at]} came back before an older one`);
      }
      this.chains.delete(ids[at]!);
      this.taken++;
    }
  }

  /** A case: a lie or an honest return, then a call, which works or ends the queue with an error that says where. */
  step(): void {
    if (this.random.below(5) < 2) this.lie();
    else this.honest();
    this.moved = -1;
    try {
      this.call();
      if (this.moved > 1) this.bursts++;
      if (this.queue.inFlight !== this.chains.size) this.fail(`in flight: ${this.queue.inFlight}`);
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      const { function: name, queue, field } = error.location;
      if (name !== "fuzzed" || queue !== 5 || !FIELDS.includes(field!)) this.fail(`says ${error.message}`);
      this.faults.set(field!, (this.faults.get(field!) ?? 0) + 1);
      if (this.moved >= 0) this.bursts++;
      this.buried(error);
      this.restart();
    }
    if (this.moved >= 0) this.burstCalls++;
  }

  /** A broken queue stays broken, and still knows what it had. */
  buried(error: DeviceError): void {
    for (const call of [() => this.queue.publish(), () => this.queue.takeUsed(this.into)]) {
      try {
        call();
        this.fail("a broken queue works");
      } catch (again) {
        if (again !== error) throw again;
      }
    }
    const ids = this.queue.inFlightIds();
    if (ids.length !== this.chains.size || !ids.every((id) => this.chains.has(id))) {
      this.fail("what is in flight");
    }
    if (this.random.below(16) !== 0) return;
    const saved = this.queue.saveInFlight();
    const serials = saved.map(({ id }) => this.chains.get(id)!.serial);
    if (serials.some((serial, at) => at > 0 && serial <= serials[at - 1]!)) {
      this.fail("order of what is in flight");
    }
  }
}

for (const layout of ["split", "packed"] as const) {
  Deno.test(campaign(
    `hostile device, ${layout}: 4,000,000 cases of lies into rings and events, a million and more on the bursts of chains and of slots each, end in typed errors or nothing`,
    () => {
      const iommu = new FakeIommu();
      const memory = iommu.space.allocate(8192);
      const faults = new Map<string, number>();
      let taken = 0;
      let lives = 0;
      const reached = { chains: { calls: 0, bursts: 0 }, slots: { calls: 0, bursts: 0 } };
      let seed = 77;
      const sizes = layout === "split" ? [1, 2, 8, 16] : [1, 3, 7, 16];
      for (const size of sizes) {
        for (let features = 0; features < 16; features++) {
          const [inOrder, eventIndex, slots, acquireEach] = [1, 2, 4, 8].map((bit) => (features & bit) !== 0);
          const target = { layout, size, inOrder, eventIndex, slots, acquireEach } as Target;
          const fuzz = new Fuzz(target, seed++, memory);
          for (let n = 0; n < rounds(4_000_000) / 64; n++) fuzz.step();
          for (const [field, count] of fuzz.faults) faults.set(field, (faults.get(field) ?? 0) + count);
          const kind = slots ? reached.slots : reached.chains;
          kind.calls += fuzz.burstCalls;
          kind.bursts += fuzz.bursts;
          taken += fuzz.taken;
          lives += fuzz.lives;
        }
      }
      // It is worth something only when it got everywhere, and mostly past the first check.
      const wanted = layout === "split"
        ? ["used.idx", "used.id", "used.len"]
        : ["used.flags", "used.id", "used.len"];
      for (const field of wanted) {
        assert((faults.get(field) ?? 0) > rounds(2_000), `${field}: ${faults.get(field)} of ${[...faults]}`);
      }
      assert(taken > rounds(100_000), `taken ${taken}`);
      assert(lives > rounds(20_000), `lives ${lives}`);
      iommu.space.close();
      const said = Object.entries(reached).map(([kind, { calls, bursts }]) => {
        assert(
          calls >= rounds(1_000_000) && bursts > calls / 10,
          `${kind}: ${calls} calls, ${bursts} bursts`,
        );
        return `${calls} cases of ${kind} by bursts, ${bursts} of them of more than one or ended by a lie`;
      });
      return `hostile device, ${layout}: ${said.join("; ")}`;
    },
  ));
}
