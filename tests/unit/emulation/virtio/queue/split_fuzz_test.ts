import { assert, assertEquals } from "@std/assert";
import { Chain } from "../../../../../lib/emulation/virtio/queue/chain.ts";
import { SplitDeviceQueue } from "../../../../../lib/emulation/virtio/queue/split.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { netKind } from "../../../../../lib/emulation/virtio/net/kind.ts";
import { RNG_KIND } from "../../../../../lib/emulation/virtio/rng/kind.ts";
import { FEATURE, NET_FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { mapOneWay, READ_ONLY, splitNoise } from "./ring_noise.ts";
import { FakeClient, FakeOwner, FakeRing } from "../fake_client.ts";
import { campaign, Random, rounds } from "../../../../random.ts";
import { FakeFunction } from "../fake_machine.ts";
import { mac } from "../fake_nic.ts";

const SIZE = 8;
const CASES = rounds(200_000);

type Segment = [iova: bigint, length: number, write: boolean];
/** What a driver offered, as the standard reads it: chains, then undefined when it broke a rule. */
type Reading = { head: number; segments: Segment[] } | undefined;

/** A second reading of §2.7, from the bytes, sharing nothing with the device's but the mappings. */
class Reader {
  readonly client: FakeClient;
  readonly ring: FakeRing;
  readonly indirect: boolean;
  readonly held = new Set<number>();
  next = 0;

  constructor(client: FakeClient, ring: FakeRing, indirect: boolean) {
    this.client = client;
    this.ring = ring;
    this.indirect = indirect;
  }

  /** @returns null when nothing is available */
  read(): Reading | null {
    const { view } = this.client;
    const count = (view.getUint16(this.ring.avail + 2, true) - this.next) & 0xffff;
    if (count > SIZE) return undefined;
    if (count === 0) return null;
    const head = view.getUint16(this.ring.avail + 4 + 2 * (this.next % SIZE), true);
    if (head >= SIZE || this.held.has(head)) return undefined;
    const segments: Segment[] = [];
    const ok = this.#list(this.ring.desc, SIZE, head, segments, 0, false);
    if (!ok) return undefined;
    this.held.add(head);
    this.next = (this.next + 1) & 0xffff;
    return { head, segments };
  }

  #list(
    table: number,
    entries: number,
    index: number,
    out: Segment[],
    steps: number,
    nested: boolean,
  ): boolean {
    const { view } = this.client;
    for (;;) {
      if (index >= entries || ++steps > SIZE) return false;
      const at = table + 16 * index;
      const iova = view.getBigUint64(at, true), length = view.getUint32(at + 8, true);
      const flags = view.getUint16(at + 12, true), next = view.getUint16(at + 14, true);
      if (flags & 4) {
        if (nested || !this.indirect || flags & 1 || length === 0 || length % 16 !== 0) return false;
        // Tables of these tests lie in the client's main memory or nowhere.
        const offset = Number(iova - this.client.iova);
        if (offset < 0 || offset + 16 > this.client.bytes.length) return false;
        return this.#list(offset, length / 16, 0, out, steps - 1, true);
      }
      const write = (flags & 2) !== 0;
      if (length === 0 || (!write && out.some((one) => one[2])) || !this.#mapped(iova, length, write)) {
        return false;
      }
      out.push([iova, length, write]);
      if (!(flags & 1)) return true;
      index = next;
    }
  }

  #mapped(iova: bigint, length: number, write: boolean): boolean {
    return this.client.dma.regions.some((one) =>
      iova >= one.iova && iova + BigInt(length) <= one.iova + BigInt(one.sizeBytes) &&
      (write ? one.deviceWrites : one.deviceReads)
    );
  }
}

Deno.test(campaign(`fuzz: ${CASES} random rings are read as a second, independent reader reads them`, () => {
  using client = new FakeClient(65536);
  mapOneWay(client);
  const ring = new FakeRing(client, SIZE);
  const tables = client.allocate(32 * 16 + 16);
  const owner = new FakeOwner(client.dma);
  const chain = new Chain(SIZE);
  const random = new Random(0x5eed);
  let legal = 0, refused = 0, indirect = 0;
  for (let n = 0; n < CASES; n++) {
    splitNoise(random, client, ring, tables);
    const useIndirect = random.below(8) !== 0;
    const queue = new SplitDeviceQueue(ring.setup(0, { indirect: useIndirect }), owner);
    const reader = new Reader(client, ring, useIndirect);
    for (;;) {
      const expected = reader.read();
      const before = owner.violations.length;
      const head = queue.pop(chain);
      if (expected === null) {
        assertEquals([head, owner.violations.length], [-1, before], `case ${n}`);
        break;
      }
      if (expected === undefined) {
        if (head !== -1 || owner.violations.length !== before + 1 || !queue.broken) {
          throw new Error(`case ${n}: chain ${head} was taken, and must not be`);
        }
        refused++;
        break;
      }
      if (head !== expected.head) {
        throw new Error(
          `case ${n}: ${head} instead of ${expected.head}: ${owner.violations[before]?.message}`,
        );
      }
      // Compared part by part; a buffer in one mapping is one segment.
      if (chain.count !== expected.segments.length) throw new Error(`case ${n}: ${chain.count} segments`);
      expected.segments.forEach(([iova, length, write], i) => {
        const place = chain.regions[i]!.iova + BigInt(chain.offsets[i]!);
        if (place !== iova || chain.lengths[i] !== length || (i >= chain.readableCount) !== write) {
          throw new Error(`case ${n}: segment ${i}`);
        }
      });
      legal++;
      if (expected.segments.length > 1) indirect++;
    }
    owner.violations.length = 0;
  }
  // The generator must reach both outcomes often, else the comparison says little.
  assert(
    legal > CASES / 10 && refused > CASES / 10 && indirect > CASES / 50,
    `${legal} ${refused} ${indirect}`,
  );
}));

Deno.test(campaign(
  "fuzz: whole functions survive random registers, rings and mappings, and write only where they may",
  () => {
    const random = new Random(0xf00d);
    const models = createVirtioModels([netKind({ holdMs: 0 }), RNG_KIND]);
    const functions = [1, 2].map((n) =>
      new FakeFunction(
        models.createBehaviour("virtio-net", {
          address: `0000:01:00.${n}`,
          mac: mac(n),
          queuePairs: 2,
          queueSize: SIZE,
        }),
        `0000:01:00.${n}`,
        65536,
      )
    );
    functions.push(
      new FakeFunction(
        models.createBehaviour("virtio-rng", { address: "0000:02:00.0", queueSize: SIZE }),
        "0000:02:00.0",
        65536,
      ),
    );
    const features = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | FEATURE.INDIRECT_DESC | FEATURE.EVENT_IDX |
      FEATURE.RING_RESET | NET_FEATURE.MRG_RXBUF | NET_FEATURE.CTRL_VQ | NET_FEATURE.MQ | NET_FEATURE.CTRL_RX;
    const guards = functions.map((fn) => {
      const region = fn.client.map(READ_ONLY, 4096, { deviceReads: true, deviceWrites: false });
      for (let i = 0; i < 4096; i++) region.bytes[i] = i * 31;
      return region;
    });
    const tables = functions.map((fn) => fn.client.allocate(32 * 16 + 16));
    const start = (fn: FakeFunction) => {
      const queues = fn.read(18, 2);
      if (
        !fn.negotiate(
          features & fn.offered & BigInt.asUintN(64, random.below(4) === 0 ? ~FEATURE.EVENT_IDX : -1n),
        )
      ) return;
      for (let i = 0; i < queues; i++) {
        const old = fn.rings.get(i);
        if (old === undefined) fn.enable(i, SIZE);
        else {
          fn.client.bytes.fill(0, old.desc, old.used + 6 + 8 * SIZE);
          fn.program(i, old);
          fn.write(28, 2, 1);
        }
      }
      fn.status = 15;
    };
    let moved = 0, stopped = 0;
    for (let n = 0; n < rounds(60_000); n++) {
      const which = random.below(functions.length);
      const fn = functions[which]!;
      switch (random.below(16)) {
        case 0: {
          const widths = [1, 2, 4, 8];
          fn.write(
            random.below(72),
            widths[random.below(4)]!,
            random.below(3) === 0 ? random.next() : random.below(20),
          );
          break;
        }
        case 1:
          fn.write(0x3000 + random.below(24), 2, random.below(6));
          break;
        case 2:
          fn.read(random.below(0x3100), 1 + random.below(8));
          break;
        case 3: {
          // A mapping comes and goes.
          const region = fn.client.map(0x1_0000n, 4096);
          fn.behaviour.poll(4);
          fn.behaviour.dmaWillUnmap(region.iova, 4096);
          fn.client.dma.remove(region.iova, 4096n);
          break;
        }
        case 4:
          fn.behaviour.rang(4, 0x3000 + 4 * (random.below(8)));
          break;
        default: {
          if ((fn.status & 4) === 0 || (fn.status & 0xc0) !== 0) {
            if ((fn.status & 64) !== 0) stopped++;
            start(fn);
            if (which === 2 || random.below(2) === 0) continue;
          }
          const rings = [...fn.rings.values()];
          const ring = rings[random.below(rings.length)]!;
          splitNoise(random, fn.client, ring, tables[which]!);
        }
      }
      moved += fn.behaviour.poll(16);
      fn.behaviour.arm();
    }
    assert(moved > rounds(1000) && stopped > rounds(1000), `${moved} moved, ${stopped} stopped`);
    for (const region of guards) {
      for (let i = 0; i < 4096; i++) {
        assert(region.bytes[i] === (i * 31 & 0xff), `read-only memory changed at ${i}`);
      }
    }
    functions.forEach((fn) => fn[Symbol.dispose]());
  },
));
