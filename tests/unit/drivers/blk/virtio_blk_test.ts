import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioBlk, type VirtioBlkOptions } from "../../../../drivers/blk/virtio_blk.ts";
import { mappingCount, openFdCount } from "../../../../ffi/mod.ts";
import { DeviceError, ExhaustedError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { BlockQueue } from "../../../../drivers/blk/queue.ts";
import { ringFixture } from "../../virtio/queue/ring_fixture.ts";
import { FakeTransport } from "../../virtio/transport/fake_transport.ts";

const bit = (n: number) => 1n << BigInt(n);
const VERSION_1 = bit(32), INDIRECT = bit(28);

/** A block device that answers everything with OK, and notes each request's type, sector and the lengths of its data segments. */
function block(features: bigint, set: (view: DataView) => void = () => {}, configBytes = 60) {
  const config = new Uint8Array(60);
  const view = new DataView(config.buffer);
  view.setBigUint64(0, 1000n, true);
  view.setUint32(20, 512, true);
  view.setUint16(34, 2, true);
  set(view);
  const transport = new FakeTransport({
    deviceId: 2,
    features: VERSION_1 | features,
    config: config.subarray(0, configBytes),
    queueSizes: [64, 64],
    vectors: 3,
  });
  const seen: {
    queue: number;
    type: number;
    sector: bigint;
    data: number[];
    bytes: number[];
    parts: number;
  }[] = [];
  transport.onNotify = (queue) => {
    const ring = transport.ring(queue);
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
      const { parts } = chain;
      const header = transport.iommu.at(parts[0]!.iova, 16, false);
      assertEquals([parts[0]!.length, parts.at(-1)!.length, parts.at(-1)!.write], [16, 1, true]);
      assertEquals(header.getUint32(4, true), 0, "reserved");
      const data = parts.slice(1, -1);
      const readable = data.filter((part) => !part.write).flatMap(({ iova, length }) => {
        const from = transport.iommu.at(iova, length, false);
        return Array.from({ length }, (_, i) => from.getUint8(i));
      });
      seen.push({
        queue,
        type: header.getUint32(0, true),
        sector: header.getBigUint64(8, true),
        data: data.map((part) => part.length),
        bytes: readable,
        parts: parts.length,
      });
      transport.iommu.at(parts.at(-1)!.iova, 1, true).setUint8(0, 0);
      ring.push(chain.head, data.reduce((sum, part) => sum + (part.write ? part.length : 0), 1));
    }
    ring.availableEvent = ring.next;
    transport.interrupt(queue);
  };
  return { transport, seen };
}

Deno.test("5.2.6 on the wire: headers, segments of SIZE_MAX, requests of SEG_MAX, ranges with their limits and alignment", async () => {
  const features = bit(1) | bit(2) | bit(9) | bit(13) | bit(14) | INDIRECT;
  const { transport, seen } = block(features, (view) => {
    view.setBigUint64(0, 2n ** 33n, true);
    view.setUint32(8, 1000, true);
    view.setUint32(12, 3, true);
    view.setUint32(36, 100, true);
    view.setUint32(40, 2, true);
    view.setUint32(44, 8, true);
    view.setUint32(48, 50, true);
    view.setUint32(52, 1, true);
  });
  await using blk = await VirtioBlk.open(transport, { depth: 1 });
  assertEquals(blk.queues[0]!.requestBytes, 2560);
  const sector = 2 ** 32 + 7;
  await blk.write(sector, Uint8Array.from({ length: 7 * 512 }, (_, i) => i % 251));
  assertEquals(seen.map(({ type, sector, data }) => [type, sector, data]), [
    [1, 2n ** 32n + 7n, [1000, 1000, 560]],
    [1, 2n ** 32n + 12n, [1000, 24]],
  ]);
  assertEquals(seen.flatMap(({ bytes }) => bytes), Array.from({ length: 7 * 512 }, (_, i) => i % 251));
  seen.length = 0;
  await blk.flush();
  assertEquals(seen.splice(0).map(({ type, sector, parts }) => [type, sector, parts]), [[4, 0n, 2]]);
  await blk.discard(2 ** 32 + 5, 230);
  const ranges = seen.splice(0).map(({ type, sector, bytes }) => {
    const view = new DataView(Uint8Array.from(bytes).buffer);
    return [
      type,
      sector,
      ...Array.from({ length: bytes.length / 16 }, (_, i) => [
        Number(view.getBigUint64(16 * i, true)) - 2 ** 32,
        view.getUint32(16 * i + 8, true),
        view.getUint32(16 * i + 12, true),
      ]),
    ];
  });
  assertEquals(ranges, [[11, 0n, [5, 99, 0], [104, 96, 0]], [11, 0n, [200, 35, 0]]]);
  await blk.writeZeroes(10, 60, { unmap: true });
  assertEquals(seen.map(({ type, bytes }) => [type, bytes[0], bytes[8], bytes[12]]), [[13, 10, 50, 1], [
    13,
    60,
    10,
    1,
  ]]);
  transport.close();
});

Deno.test("without FLUSH there is nothing to flush; without DISCARD, WRITE_ZEROES, CONFIG_WCE nothing to ask for", async () => {
  const { transport, seen } = block(INDIRECT);
  await using blk = await VirtioBlk.open(transport);
  assertEquals(blk.writeback, false);
  await blk.flush();
  assertEquals(seen, []);
  await assertRejects(() => blk.discard(0, 1), UnsupportedError, "VIRTIO_BLK_F_DISCARD");
  await assertRejects(() => blk.writeZeroes(0, 1), UnsupportedError, "VIRTIO_BLK_F_WRITE_ZEROES");
  await assertRejects(
    () => Promise.try(() => blk.setWriteback(true)),
    UnsupportedError,
    "VIRTIO_BLK_F_CONFIG_WCE",
  );
  transport.close();
});

Deno.test("the capacity changes: listeners hear of it, and what may be read follows", async () => {
  const { transport } = block(INDIRECT);
  await using blk = await VirtioBlk.open(transport);
  const heard: number[] = [];
  const off = blk.onCapacityChange((sectors) => heard.push(sectors));
  await assertRejects(() => blk.read(1000, 1), UsageError, "there are 1000");
  transport.config.set([0xd0, 7]);
  transport.generation++;
  transport.interrupt(null);
  blk.service();
  assertEquals([blk.capacitySectors, heard], [2000, [2000]]);
  await blk.read(1999, 1);
  transport.config.set([10, 0]);
  off();
  blk.service();
  assertEquals([blk.capacitySectors, heard], [10, [2000]]);
  await assertRejects(() => blk.read(10, 1), UsageError, "there are 10");
  transport.close();
});

for (
  const [what, features, set, field] of [
    ["blk_size 0", bit(6), (view: DataView) => view.setUint32(20, 0, true), "blk_size"],
    ["blk_size 768", bit(6), (view: DataView) => view.setUint32(20, 768, true), "blk_size"],
    ["num_queues 0", bit(12), (view: DataView) => view.setUint16(34, 0, true), "num_queues"],
    ["capacity of 2^63 sectors", 0n, (view: DataView) => view.setBigUint64(0, 2n ** 63n, true), "capacity"],
  ] as const
) {
  Deno.test(`lie: ${what}: a DeviceError naming the field, and nothing leaks`, async () => {
    const before = [openFdCount(), mappingCount().mappings];
    const { transport } = block(features, set);
    const error = await assertRejects(() => VirtioBlk.open(transport), DeviceError);
    assertEquals(error.location, { function: "fake 0", field });
    transport.close();
    assertEquals([openFdCount(), mappingCount().mappings], before);
  });
}

Deno.test("a config space that ends before a field whose feature is offered", async () => {
  const { transport } = block(bit(14), () => {}, 48);
  const error = await assertRejects(() => VirtioBlk.open(transport), DeviceError, "48 bytes");
  assertEquals(error.location.field, "max_write_zeroes_sectors");
  transport.close();
});

Deno.test("maxima of 0 are taken for one segment of any size, as devices that say so mean it", async () => {
  const { transport } = block(bit(1) | bit(2) | bit(13) | bit(14) | INDIRECT);
  await using blk = await VirtioBlk.open(transport);
  assertEquals([blk.config.sizeMax, blk.config.segMax, blk.config.discard, blk.config.writeZeroes], [
    Infinity,
    1,
    { sectors: 0xffff_ffff, segments: 1, alignment: 1 },
    { sectors: 0xffff_ffff, segments: 1, alignment: 1, mayUnmap: false },
  ]);
  transport.close();
});

Deno.test("as many slots as descriptors allow: one a request with indirect tables, one a part without", async () => {
  const open = async (features: bigint, options: VirtioBlkOptions) => {
    const { transport } = block(features);
    try {
      await using blk = await VirtioBlk.open(transport, options);
      return blk.queues[0]!.slotCount;
    } finally {
      transport.close();
    }
  };
  assertEquals(await open(INDIRECT, {}), 64);
  assertEquals(await open(0n, {}), 21);
  assertEquals(await open(0n, { segmentBytes: 4096, requestBytes: 65536 }), 3);
  assertEquals(await open(INDIRECT, { segmentBytes: 4096, requestBytes: 65536 }), 64);
  assertEquals(await open(INDIRECT, { indirect: false }), 21);
  await assertRejects(
    () => open(0n, { segmentBytes: 512, requestBytes: 65536 }),
    UsageError,
    "130 descriptors",
  );
  await assertRejects(() => open(0n, { depth: 22 }), UsageError, "22 requests in flight");
  await assertRejects(() => open(0n, { queues: 2 }), UnsupportedError, "1 request queue");
  assertEquals(await open(bit(12), { queues: 2, depth: 5 }), 5);
});

Deno.test("an alignment above the most sectors of a range: cut where that comes nearer to it, and never into nothing", async () => {
  const { transport, seen } = block(bit(13) | INDIRECT, (view) => {
    view.setUint32(36, 10, true);
    view.setUint32(40, 16, true);
    view.setUint32(44, 64, true);
  });
  await using blk = await VirtioBlk.open(transport);
  await blk.discard(100, 40);
  const { bytes } = seen[0]!;
  const ranges = Array.from({ length: bytes.length / 16 }, (_, i) => [bytes[16 * i], bytes[16 * i + 8]]);
  assertEquals(ranges, [[100, 10], [110, 10], [120, 8], [128, 10], [138, 2]]);
  transport.close();
});

Deno.test("a queue whose memory cannot all be had, or that is closed, leaves none of it behind", () => {
  using fixture = ringFixture({ size: 16 });
  const { dma } = fixture.transport;
  const limits = {
    capacitySectors: 100,
    readOnly: false,
    flush: false,
    discardSegments: 0,
    writeZeroesSegments: 0,
    segmentBytes: 512,
  };
  const before = dma.usage.labels;
  for (let most = 0; most <= 3; most++) {
    let made = 0;
    // Everything of the space, but for the allocation that fails.
    const short = new Proxy(dma, {
      get: (space, name) => {
        if (name !== "allocate") return Reflect.get(space, name, space);
        return (...args: Parameters<typeof space.allocate>) => {
          if (made++ === most) throw new ExhaustedError("no more");
          return space.allocate(...args);
        };
      },
    });
    const make = () =>
      new BlockQueue({
        name: "one",
        queue: fixture.queue,
        dma: short,
        slots: 4,
        requestBytes: 512,
        limits,
        counts: new Float64Array(16),
      });
    if (most < 3) assertThrows(make, ExhaustedError, "no more");
    else {
      const queue = make();
      assertEquals(dma.usage.allocations, before.length + 3);
      queue.close();
    }
    assertEquals(dma.usage.labels, before);
  }
});
