import { assert, assertEquals } from "@std/assert";
import { Chain } from "../../../../../lib/emulation/virtio/queue/chain.ts";
import { PackedDeviceQueue } from "../../../../../lib/emulation/virtio/queue/packed.ts";
import { mapOneWay, packedNoise } from "./ring_noise.ts";
import { FakeClient, FakeOwner } from "../fake_client.ts";
import { campaign, Random, rounds } from "../../../../random.ts";
import { FakePackedRing } from "../fake_packed_ring.ts";

const CASES = rounds(320_000);
const SIZES = [1, 2, 3, 5, 8];

type Segment = [iova: bigint, length: number, write: boolean];

/** A second reading of §2.8 from the bytes, by absolute positions; it shares nothing with the device's but the mappings. */
class Reader {
  readonly client: FakeClient;
  readonly ring: FakePackedRing;
  readonly indirect: boolean;
  readonly held = new Map<number, number>();
  /** Absolute positions: slot = position mod size, wrap counter = 1 in even rounds. */
  next: number;
  used: number;
  /** Descriptors pushed but not published. */
  pending = 0;

  constructor(client: FakeClient, ring: FakePackedRing, indirect: boolean, next: number, used: number) {
    this.client = client;
    this.ring = ring;
    this.indirect = indirect;
    this.next = next;
    this.used = used;
  }

  #available(position: number): boolean {
    const { size } = this.ring;
    const flags = this.ring.flags(position % size);
    const wrap = Math.floor(position / size) % 2 === 0;
    return ((flags & 0x80) !== 0) === wrap && ((flags & 0x8000) !== 0) !== wrap;
  }

  /** @returns null when nothing is available, undefined when a rule is broken */
  read(): { id: number; segments: Segment[] } | undefined | null {
    const { size } = this.ring;
    const { view } = this.client;
    if (!this.#available(this.next)) return null;
    const segments: Segment[] = [];
    for (let n = 0;; n++) {
      const position = this.next + n;
      if (position >= this.used + size || !this.#available(position)) return undefined;
      const at = this.ring.desc + 16 * (position % size);
      const iova = view.getBigUint64(at, true), length = view.getUint32(at + 8, true);
      const id = view.getUint16(at + 12, true), flags = view.getUint16(at + 14, true);
      if (flags & 4) {
        if (!this.indirect || flags & 1 || n > 0 || !this.#table(iova, length, segments)) return undefined;
      } else if (!this.#add(iova, length, flags, segments)) return undefined;
      if (flags & 1) continue;
      if (this.held.has(id)) return undefined;
      this.held.set(id, n + 1);
      this.next += n + 1;
      return { id, segments };
    }
  }

  #table(iova: bigint, length: number, out: Segment[]): boolean {
    if (length === 0 || length % 16 !== 0 || length / 16 > this.ring.size) return false;
    for (let i = 0; i < length / 16; i++) {
      const offset = Number(iova + BigInt(16 * i) - this.client.iova);
      if (offset < 0 || offset + 16 > this.client.bytes.length) return false;
      const { view } = this.client;
      const ok = this.#add(
        view.getBigUint64(offset, true),
        view.getUint32(offset + 8, true),
        view.getUint16(offset + 14, true),
        out,
      );
      if (!ok) return false;
    }
    return true;
  }

  #add(iova: bigint, length: number, flags: number, out: Segment[]): boolean {
    const write = (flags & 2) !== 0;
    if (length === 0 || (!write && out.some((one) => one[2]))) return false;
    const mapped = this.client.dma.regions.some((one) =>
      iova >= one.iova && iova + BigInt(length) <= one.iova + BigInt(one.sizeBytes) &&
      (write ? one.deviceWrites : one.deviceReads)
    );
    if (mapped) out.push([iova, length, write]);
    return mapped;
  }
}

Deno.test(
  campaign(
    `1.4 fuzz: ${CASES} random packed rings are read as a second, independent reader reads them`,
    () => {
      using client = new FakeClient(65536);
      mapOneWay(client);
      const rings = SIZES.map((size) => new FakePackedRing(client, size));
      const tables = client.allocate(32 * 16 + 16);
      const owner = new FakeOwner(client.dma);
      const random = new Random(0x9ac6ed);
      const chain = new Chain(8);
      let legal = 0, refused = 0, longer = 0, returned = 0, wrapped = 0;
      for (let n = 0; n < CASES;) {
        const ring = rings[random.below(rings.length)]!;
        const { size } = ring;
        const indirect = random.below(8) !== 0;
        // A life begins anywhere in the ring, in either round, with up to a ring of descriptors not returned.
        const used = random.below(2 * size);
        const next = used + (random.below(3) === 0 ? random.below(size + 1) : 0);
        const queue = new PackedDeviceQueue(
          ring.setup(0, {
            indirect,
            eventIndex: random.below(2) === 0,
            state: {
              layout: "packed",
              availableSlot: next % size,
              availableWrap: Math.floor(next / size) % 2 === 0 ? 1 : 0,
              usedSlot: used % size,
              usedWrap: Math.floor(used / size) % 2 === 0 ? 1 : 0,
            },
          }),
          owner,
        );
        const reader = new Reader(client, ring, indirect, next, used);
        // Event suppression that never is a violation here: that has tests of its own.
        ring.setEvent(random.below(2));
        for (let life = 0; life < 6 && !queue.broken; life++, n++) {
          packedNoise(random, client, ring, tables, reader.next);
          const popped: number[] = [];
          for (;;) {
            const before = owner.violations.length;
            const expected = reader.read();
            const count = queue.available();
            const id = queue.pop(chain);
            if (expected === null) {
              assertEquals([id, owner.violations.length, count], [-1, before, 0], `case ${n}`);
              break;
            }
            if (expected === undefined) {
              if (id !== -1 || owner.violations.length !== before + 1 || !queue.broken) {
                throw new Error(`case ${n}: chain ${id} was taken, and must not be`);
              }
              refused++;
              break;
            }
            if (id !== expected.id || count < 1) {
              throw new Error(
                `case ${n}: ${id} instead of ${expected.id}: ${owner.violations[before]?.message}`,
              );
            }
            if (chain.count !== expected.segments.length) {
              throw new Error(
                `case ${n}: ${chain.count} segments`,
              );
            }
            expected.segments.forEach(([iova, length, write], i) => {
              const place = chain.regions[i]!.iova + BigInt(chain.offsets[i]!);
              if (place !== iova || chain.lengths[i] !== length || (i >= chain.readableCount) !== write) {
                throw new Error(`case ${n}: segment ${i}`);
              }
            });
            popped.push(id);
            legal++;
            if (expected.segments.length > 1) longer++;
            // Now and then one is given back and taken again.
            if (random.below(8) === 0) {
              queue.unpop();
              if (queue.pop(chain) !== id) throw new Error(`case ${n}: not the same after unpop`);
            }
          }
          if (queue.broken) break;
          // Some are returned, in any order; each must be found where the standard says.
          let position = reader.used;
          const out: [number, number, number][] = [];
          while (popped.length > 0 && random.below(4) !== 0) {
            const [id] = popped.splice(random.below(popped.length), 1) as [number];
            const length = random.below(3);
            queue.pushUsed(id, length);
            out.push([position, id, length]);
            position += reader.held.get(id)!;
            reader.held.delete(id);
          }
          const interrupts = owner.interrupts;
          const told = queue.publish();
          assertEquals(owner.interrupts - interrupts, told ? 1 : 0);
          for (const [place, id, length] of out) {
            const at = ring.desc + 16 * (place % size);
            const wrap = Math.floor(place / size) % 2 === 0;
            const flags = (wrap ? 0x8080 : 0) | (length > 0 ? 2 : 0);
            if (
              client.view.getUint16(at + 12, true) !== id || client.view.getUint32(at + 8, true) !== length ||
              client.view.getUint16(at + 14, true) !== flags
            ) throw new Error(`case ${n}: used descriptor of ${id} at ${place}`);
            returned++;
          }
          if (Math.floor(reader.used / size) !== Math.floor(position / size)) wrapped++;
          reader.used = position;
          queue.arm(random.below(3));
          queue.suppress();
          assertEquals([...reader.held.keys()].length, queue.inFlight, `case ${n}`);
        }
        owner.violations.length = 0;
      }
      // The generator must reach every outcome often, else the comparison says little.
      const seen = [legal, refused, longer, returned, wrapped];
      assert(seen.every((one) => one > CASES / 20), seen.join(" "));
    },
  ),
);
