import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { BLK_TYPE, type BlockQueue, RequestBurst, VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { mappingCount, O, openFdCount, OwnedFd, readFile, removeFile, resizeFile } from "../../../ffi/mod.ts";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { campaign, Random, rounds } from "../../random.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const BLK = "0000:03:00.0";
const SECTOR = 512;
const REQUESTS = rounds(6000);
const MIB = 1 << 20;
let made = 0;

async function hash(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Bytes that say where they belong. */
function pattern(sectors: number, seed: number): Uint8Array<ArrayBuffer> {
  return new Random(seed).bytes(sectors * SECTOR);
}

/** A served block device on a new image of `sectors`; afterwards the image, and that nothing was complained of nor leaked. */
async function withBlk(
  sectors: number,
  topology: Record<string, unknown>,
  use: (transport: Parameters<typeof VirtioBlk.open>[0], image: string, host: TopologyHost) => Promise<void>,
  after: (image: Uint8Array<ArrayBuffer>) => Promise<void> | void = () => {},
): Promise<void> {
  const before = [openFdCount(), mappingCount().mappings];
  const image = `/tmp/ringside-blk-${Deno.pid}-${made++}.img`;
  try {
    await using served = await TopologyHost.start([
      { address: BLK, kind: "virtio-blk", file: image, sizeBytes: sectors * SECTOR, ...topology },
    ]);
    {
      using reached = served.reach(BLK);
      await use(reached.transport, image, served);
    }
    assertEquals(await served.stop(), []);
    await after(readFile(image));
  } finally {
    removeFile(image);
  }
  assertEquals([openFdCount(), mappingCount().mappings], before);
}

Deno.test("5.2.5 what the device says of itself", async () => {
  const topology = { queues: 4, blockSize: 4096, segMax: 30, sizeMax: 8192, rangeSectors: 100, ranges: 3 };
  await withBlk(1000, topology, async (transport) => {
    await using blk = await VirtioBlk.open(transport, { queues: 4 });
    assertEquals(blk.config, {
      capacitySectors: 1000,
      sizeMax: 8192,
      segMax: 30,
      blockBytes: 4096,
      geometry: { cylinders: 0, heads: 16, sectors: 63 },
      topology: { physicalBlockBytes: 4096, firstAlignedBytes: 0, minimumBytes: 4096, optimalBytes: 0 },
      queues: 4,
      discard: { sectors: 100, segments: 3, alignment: 8 },
      writeZeroes: { sectors: 100, segments: 3, alignment: 1, mayUnmap: true },
    });
    assertEquals([blk.capacitySectors, blk.readOnly, blk.writeback, blk.queues.length], [
      1000,
      false,
      true,
      4,
    ]);
    assertEquals(await blk.id(), BLK);
    assert(blk.featureNames.includes("VIRTIO_BLK_F_MQ"));
    blk.setWriteback(false);
    assertEquals(blk.writeback, false);
    await blk.write(0, pattern(1, 1));
    await blk.reset();
    assertEquals(blk.writeback, true);
  });
});

Deno.test("5.2.6 every command, and the image outside is what was written", async () => {
  const written = pattern(300, 7);
  await withBlk(2048, { serial: "a serial of 20 chars" }, async (transport) => {
    for (const interrupts of ["msix", "intx", "none"] as const) {
      if (interrupts !== "none" && transport.interruptCount(interrupts) === 0) continue;
      await using blk = await VirtioBlk.open(transport, {
        interrupts,
        wait: interrupts === "none" ? "poll" : "eventfd",
      });
      assertEquals(blk.interruptKind, interrupts);
      assertEquals(await blk.id(), "a serial of 20 chars");
      await blk.write(100, written);
      await blk.flush();
      assertEquals(await blk.read(100, 300), written);
      const into = new Uint8Array(2 * SECTOR);
      assertEquals(await blk.read(101, into), into);
      assertEquals(into, written.slice(SECTOR, 3 * SECTOR));
      await blk.writeZeroes(110, 20);
      await blk.writeZeroes(200, 50, { unmap: true });
      assertEquals(await blk.read(110, 20), new Uint8Array(20 * SECTOR));
      assertEquals(await blk.read(200, 50), new Uint8Array(50 * SECTOR));
      assertEquals(await blk.read(109, 1), written.slice(9 * SECTOR, 10 * SECTOR));
      assertEquals(await blk.read(130, 1), written.slice(30 * SECTOR, 31 * SECTOR));
      await blk.discard(1000, 500);
      assertEquals((await blk.read(2048, 0)).length, 0);
      await blk.write(2048, new Uint8Array(0));
      if (interrupts !== "none") assert(blk.statistics().interrupts > 0);
    }
  }, async (image) => {
    written.fill(0, 10 * SECTOR, 30 * SECTOR);
    written.fill(0, 100 * SECTOR, 150 * SECTOR);
    const expected = new Uint8Array(2048 * SECTOR);
    expected.set(written, 100 * SECTOR);
    assertEquals(await hash(image), await hash(expected));
  });
});

/** Random requests at `depth` by bursts; no two in flight touch the same sectors, so that there is one right answer. */
async function differential(
  blk: VirtioBlk,
  model: Uint8Array<ArrayBuffer>,
  requests: number,
  depth: number,
  seed: number,
): Promise<void> {
  const random = new Random(seed);
  const busy = new Uint8Array(model.length / SECTOR);
  const slots = blk.queues.map((queue) =>
    new Array<{ type: number; sector: number; count: number } | undefined>(queue.slotCount)
  );
  const burst = new RequestBurst(32);
  let begun = 0, done = 0, inFlight = 0;
  const start = (queue: BlockQueue): boolean => {
    const slot = queue.reserve();
    if (slot < 0) return false;
    const kind = random.below(16);
    const count = 1 + random.below(Math.min(queue.requestBytes / SECTOR, 40));
    const sector = random.below(busy.length - count);
    for (let i = 0; i < count; i++) {
      if (busy[sector + i] !== 0) {
        queue.release(slot);
        return false;
      }
    }
    busy.fill(1, sector, sector + count);
    const type = kind < 7
      ? BLK_TYPE.in
      : kind < 13
      ? BLK_TYPE.out
      : kind === 13
      ? BLK_TYPE.writeZeroes
      : kind === 14
      ? BLK_TYPE.discard
      : BLK_TYPE.flush;
    if (type === BLK_TYPE.out) queue.data(slot).set(pattern(count, random.next()));
    if (type === BLK_TYPE.writeZeroes || type === BLK_TYPE.discard) {
      const half = count >> 1;
      queue.writeRange(slot, 0, sector, half);
      queue.writeRange(
        slot,
        1,
        sector + half,
        count - half,
        type === BLK_TYPE.writeZeroes && random.below(2) === 1,
      );
      queue.submit(slot, type, 0, 32);
    } else if (type === BLK_TYPE.flush) queue.submit(slot, type, 0, 0);
    else queue.submit(slot, type, sector, count * SECTOR);
    slots[queue.index]![slot] = { type, sector, count };
    begun++;
    inFlight++;
    return true;
  };
  const finish = (queue: BlockQueue, slot: number, status: number) => {
    assertEquals(status, 0);
    const { type, sector, count } = slots[queue.index]![slot]!;
    slots[queue.index]![slot] = undefined;
    const at = sector * SECTOR, end = at + count * SECTOR;
    const data = queue.data(slot);
    if (type === BLK_TYPE.out) model.set(data.subarray(0, count * SECTOR), at);
    else if (type === BLK_TYPE.writeZeroes || type === BLK_TYPE.discard) model.fill(0, at, end);
    else if (type === BLK_TYPE.in) {
      for (let i = 0; i < count * SECTOR; i++) {
        if (data[i] !== model[at + i]) {
          throw new Error(`sector ${sector}, byte ${i}: ${data[i]} is not ${model[at + i]}`);
        }
      }
    }
    busy.fill(0, sector, sector + count);
    queue.release(slot);
    inFlight--;
    done++;
  };
  while (done < requests) {
    for (const queue of blk.queues) {
      for (let tries = 0; tries < 16 && inFlight < depth && begun < requests; tries++) start(queue);
      queue.notify();
    }
    let any = 0;
    for (const queue of blk.queues) {
      any += queue.complete(burst);
      for (let i = 0; i < burst.count; i++) finish(queue, burst.slots[i]!, burst.statuses[i]!);
    }
    if (any === 0) {
      const waiting = blk.queues.find((queue) => queue.inFlight > 0);
      if (waiting !== undefined) await blk.waitComplete(5, waiting.index);
    }
  }
}

for (
  const [title, topology, options, depth] of [
    ["depth 1, one queue", {}, { queues: 1 }, 1],
    ["depth 64, 4 queues", { queues: 4 }, { queues: 4 }, 64],
    [
      "depth 64, small segments",
      { queues: 2, sizeMax: 1536, segMax: 20 },
      { queues: 2, requestBytes: 20480 },
      64,
    ],
    [
      "depth 24, no indirect tables, no event index, split",
      { queues: 3, queueSize: 64 },
      {
        queues: 3,
        indirect: false,
        eventIndex: false,
        packed: false,
        segmentBytes: 8192,
        requestBytes: 32768,
        depth: 8,
      },
      24,
    ],
  ] as const
) {
  Deno.test(
    campaign(
      `${title}: ${REQUESTS} random requests give what a byte array gives, and the image has the same hash`,
      async () => {
        const sectors = 4096;
        const model = new Uint8Array(sectors * SECTOR);
        await withBlk(sectors, topology, async (transport) => {
          await using blk = await VirtioBlk.open(transport, { interrupts: "none", ...options });
          await differential(blk, model, REQUESTS, depth, 0x51de + depth);
          const { reads, writes, flushes, others, failures } = blk.statistics();
          assertEquals(reads + writes + flushes + others, REQUESTS);
          assert(Math.min(reads, writes) > REQUESTS / 4 && flushes > REQUESTS / 60 && others > REQUESTS / 20);
          assertEquals(failures, 0);
          await blk.flush();
          assertEquals(await hash(await blk.read(0, sectors)), await hash(model));
        }, async (image) => assertEquals(await hash(image), await hash(model)));
      },
    ),
  );
}

/** Writes the whole device by bursts and reads it back by bursts, in another order. @returns what was read */
function throughAndBack(
  blk: VirtioBlk,
  bytes: Uint8Array<ArrayBuffer>,
  depth: number,
  wait: () => void,
): Uint8Array<ArrayBuffer> {
  const [queue] = blk.queues as [BlockQueue];
  const { requestBytes } = queue;
  const back = new Uint8Array(bytes.length);
  const slots = new Uint16Array(depth), types = new Uint8Array(depth);
  const sectors = new Float64Array(depth), lengths = new Uint32Array(depth);
  const answered = new RequestBurst(depth);
  for (const type of [BLK_TYPE.out, BLK_TYPE.in]) {
    const total = bytes.length / requestBytes;
    const place = new Float64Array(queue.slotCount);
    const free = Array.from({ length: depth }, () => queue.reserve());
    let begun = 0, done = 0;
    while (done < total) {
      let count = 0;
      for (; free.length > 0 && begun < total; count++, begun++) {
        const slot = free.pop()!;
        const at = ((begun * 7) % total) * requestBytes;
        slots[count] = slot;
        types[count] = type;
        sectors[count] = at / SECTOR;
        lengths[count] = requestBytes;
        place[slot] = at;
        if (type === BLK_TYPE.out) queue.data(slot).set(bytes.subarray(at, at + requestBytes));
      }
      queue.submitBurst(slots, types, sectors, lengths, count);
      while (queue.complete(answered) === 0) wait();
      for (let i = 0; i < answered.count; i++) {
        const slot = answered.slots[i]!;
        assertEquals([answered.statuses[i], answered.lengths[i]], [0, requestBytes]);
        if (type === BLK_TYPE.in) back.set(queue.data(slot), place[slot]!);
        free.push(slot);
        done++;
      }
    }
    for (const slot of free) queue.release(slot);
  }
  return back;
}

for (
  const [title, options] of [
    ["split", { packed: false }],
    ["packed, in order", { inOrder: true }],
    ["split, descriptors of the ring", { packed: false, indirect: false }],
    ["packed, descriptors of the ring", { indirect: false }],
  ] as const
) {
  Deno.test(`bursts over the caller's arrays, ${title}: depth 1 and 64, polled and by interrupt, have the hash of what was written`, async () => {
    const bytes = pattern(4096, 3);
    await withBlk(4096, { queueSize: 256 }, async (transport, image) => {
      for (const interrupts of ["none", "msix"] as const) {
        for (const depth of [1, 64]) {
          bytes.fill(depth, 0, SECTOR);
          await using blk = await VirtioBlk.open(transport, {
            ...options,
            interrupts,
            wait: interrupts === "none" ? "poll" : "eventfd",
            depth,
            requestBytes: 8 * SECTOR,
          });
          const wait = interrupts === "none" ? () => {} : () => void blk.waitCompleteBlocking(1000);
          assertEquals(await hash(throughAndBack(blk, bytes, depth, wait)), await hash(bytes));
          await blk.flush();
          assertEquals(await hash(readFile(image)), await hash(bytes));
          const { reads, writes, readBytes, failures } = blk.statistics();
          assertEquals([reads, writes, readBytes, failures], [512, 512, bytes.length, 0]);
        }
      }
    });
  });
}

Deno.test("promises: 400 overlapping calls of up to 300 KiB over 4 queues, each split as limits demand", async () => {
  const sectors = 20_000;
  const model = new Uint8Array(sectors * SECTOR);
  await withBlk(
    sectors,
    { queues: 4, sizeMax: 4096, segMax: 9, rangeSectors: 100, ranges: 3 },
    async (transport) => {
      await using blk = await VirtioBlk.open(transport, { queues: 4, depth: 8 });
      assertEquals(blk.queues[0]!.requestBytes, 36864);
      const random = new Random(99);
      for (let round = 0; round < 20; round++) {
        // Twenty places that do not overlap.
        const lane = sectors / 20;
        await Promise.all(Array.from({ length: 20 }, async (_, place) => {
          const count = 1 + random.below(600), sector = place * lane + random.below(lane - count);
          const at = sector * SECTOR, end = at + count * SECTOR;
          const kind = random.below(4), seed = random.next();
          const choice = random.below(2) === 0 ? {} : { queue: random.below(4) };
          if (kind === 0) assertEquals(await blk.read(sector, count, choice), model.slice(at, end));
          else if (kind === 1) {
            await blk.write(sector, pattern(count, seed), choice);
            model.set(pattern(count, seed), at);
          } else if (kind === 2) {
            await blk.writeZeroes(sector, count, { unmap: seed % 2 === 0, ...choice });
            model.fill(0, at, end);
          } else {
            await blk.discard(sector, count, choice);
            model.set(await blk.read(sector, count), at);
          }
        }));
      }
      assertEquals(blk.queues.map((queue) => [queue.freeSlots, queue.inFlight]), [[8, 0], [8, 0], [8, 0], [
        8,
        0,
      ]]);
    },
    async (image) => assertEquals(await hash(image), await hash(model)),
  );
});

Deno.test("a read-only device takes no writes: refused here, and by the device", async () => {
  const image = `/tmp/ringside-blk-${Deno.pid}-ro.img`;
  using file = OwnedFd.open(image, O.RDWR | O.CREAT);
  resizeFile(file, 64 * SECTOR);
  try {
    await using served = await TopologyHost.start([
      { address: BLK, kind: "virtio-blk", file: image, readOnly: true },
    ]);
    using reached = served.reach(BLK);
    await using blk = await VirtioBlk.open(reached.transport);
    assertEquals([blk.readOnly, blk.capacitySectors, blk.config.discard], [true, 64, undefined]);
    assertEquals((await blk.read(0, 64)).length, 64 * SECTOR);
    await assertRejects(() => blk.write(0, pattern(1, 1)), UsageError, "read-only");
    await assertRejects(() => blk.discard(0, 1), UnsupportedError, "VIRTIO_BLK_F_DISCARD");
    assertThrows(
      () => blk.queues[0]!.submit(blk.queues[0]!.reserve(), BLK_TYPE.out, 0, SECTOR),
      UsageError,
      "read-only",
    );
  } finally {
    removeFile(image);
  }
});

Deno.test("5.2.6.2 RO not accepted: the device answers writes with IOERR and writes nothing", async () => {
  const image = `/tmp/ringside-blk-${Deno.pid}-ro2.img`;
  using file = OwnedFd.open(image, O.RDWR | O.CREAT);
  resizeFile(file, 64 * SECTOR);
  try {
    await using served = await TopologyHost.start([
      { address: BLK, kind: "virtio-blk", file: image, readOnly: true },
    ]);
    using reached = served.reach(BLK);
    await using blk = await VirtioBlk.open(reached.transport, { refusedFeatures: 1n << 5n });
    const error = await assertRejects(() => blk.write(9, pattern(1, 1)), DeviceError, "write at sector 9");
    assertEquals(error.location, { function: BLK, queue: 0, field: "status" });
    assertEquals(await blk.read(0, 64), new Uint8Array(64 * SECTOR));
    assertEquals(blk.statistics().failures, 1);
  } finally {
    removeFile(image);
  }
});

Deno.test("what cannot be is a UsageError before the device sees it", async () => {
  await withBlk(100, {}, async (transport) => {
    await assertRejects(() => VirtioBlk.open(transport, { queues: 2 }), UnsupportedError, "1 request queue");
    await assertRejects(() => VirtioBlk.open(transport, { requestBytes: 1000 }), UsageError, "1000 bytes");
    await assertRejects(
      () => VirtioBlk.open(transport, { segmentBytes: 1 << 21 }),
      UsageError,
      "data segments of 2097152",
    );
    await assertRejects(() => VirtioBlk.open(transport, { depth: 1000 }), UsageError, "in flight");
    await using blk = await VirtioBlk.open(transport);
    for (
      const act of [
        () => blk.read(100, 1),
        () => blk.read(-1, 1),
        () => blk.read(0.5, 1),
        () => blk.read(0, 101),
        () => blk.read(0, NaN),
        () => blk.read(0, new Uint8Array(100)),
        () => blk.write(0, new Uint8Array(513)),
        () => blk.write(99, new Uint8Array(1024)),
        () => blk.discard(50, 51),
        () => blk.writeZeroes(2 ** 53, 1),
        () => blk.read(0, 1, { queue: 1 }),
      ]
    ) await assertRejects(act, UsageError);
    const [queue] = blk.queues;
    const slot = queue!.reserve();
    for (
      const [type, sector, length] of [
        [BLK_TYPE.in, 0, 0],
        [BLK_TYPE.in, 0, 100],
        [BLK_TYPE.in, 0, 1 << 20],
        [BLK_TYPE.in, 100, 512],
        [BLK_TYPE.out, 2 ** 60, 512],
        [BLK_TYPE.flush, 1, 0],
        [BLK_TYPE.flush, 0, 512],
        [BLK_TYPE.getId, 0, 21],
        [BLK_TYPE.discard, 0, 15],
        [BLK_TYPE.discard, 0, 16 * 17],
        [BLK_TYPE.writeZeroes, 1, 16],
        [2, 0, 512],
        [NaN, 0, 512],
      ] as const
    ) assertThrows(() => queue!.submit(slot, type, sector, length), UsageError);
    assertThrows(() => queue!.writeRange(slot, 0, 99, 2), UsageError);
    assertThrows(() => queue!.writeRange(slot, 4096, 0, 1), UsageError);
    queue!.release(slot);
    assertThrows(() => queue!.release(slot), UsageError, "not reserved");
    assertThrows(() => queue!.data(slot), UsageError, "not reserved");
    assertThrows(() => queue!.submit(slot, BLK_TYPE.in, 0, 512), UsageError, "not reserved");
    assertThrows(() => queue!.release(10_000), UsageError, "not reserved");
    assertEquals(await blk.read(0, 100), new Uint8Array(100 * SECTOR));
  });
});

Deno.test("an image that becomes too short: IOERR with type, sector and queue; the rest goes on", async () => {
  const image = `/tmp/ringside-blk-${Deno.pid}-short.img`;
  try {
    await using served = await TopologyHost.start([
      { address: BLK, kind: "virtio-blk", file: image, sizeBytes: 64 * SECTOR, queues: 2 },
    ]);
    using reached = served.reach(BLK);
    await using blk = await VirtioBlk.open(reached.transport, { queues: 2 });
    await blk.write(0, pattern(64, 3));
    using file = OwnedFd.open(image, O.RDWR);
    resizeFile(file, 32 * SECTOR);
    const error = await assertRejects(
      () => blk.read(32, 32, { queue: 1 }),
      DeviceError,
      "read at sector 32: the device answered IOERR",
    );
    assertEquals(error.location, { function: BLK, queue: 1, field: "status" });
    assertEquals(await blk.read(0, 32), pattern(64, 3).slice(0, 32 * SECTOR));
  } finally {
    removeFile(image);
  }
});

for (
  const [lie, field, text] of [
    ["blk-status-unknown", "status", "7 is no status"],
    ["blk-status-unwritten", "status", "without a status"],
    ["blk-length-short", "used.len", "OK with 512 bytes written, it must be 513"],
    ["blk-length-zero", "used.len", "OK with 0 bytes"],
    ["used-id-out-of-range", "used.id", ""],
    ["used-length-over", "used.len", ""],
    ["used-not-in-flight", "used.id", ""],
    ["used-twice", undefined, ""],
    ["used-index-jump", "used.idx", ""],
  ] as const
) {
  Deno.test(`lie ${lie}: a DeviceError naming queue and field; requests under way end; reset goes on`, async () => {
    await using served = await TopologyHost.start([
      { address: BLK, kind: "virtio-blk", sizeBytes: MIB, lie: `${lie}:5` },
    ]);
    using reached = served.reach(BLK);
    await using blk = await VirtioBlk.open(reached.transport, {
      timeoutMs: 10_000,
      packed: false,
      inOrder: false,
    });
    const error = await assertRejects(
      async () => {
        for (let i = 0; i < 4; i++) {
          await Promise.all([blk.read(i, 1), blk.read(i + 10, 1), blk.read(i + 20, 1)]);
        }
      },
      DeviceError,
      text,
    );
    assertEquals([error.location.function, error.location.queue], [BLK, 0]);
    if (field !== undefined) {
      assertEquals(error.location.field, field);
    }
    await assertRejects(() => blk.read(0, 1), DeviceError);
    await blk.reset();
    await blk.write(5, pattern(100, 5));
    assertEquals(await blk.read(5, 100), pattern(100, 5));
    assertEquals(blk.statistics().resets, 1);
  });
}

Deno.test("honest failures by the burst calls: the status is in the burst, and the queue goes on", async () => {
  await using served = await TopologyHost.start([
    { address: BLK, kind: "virtio-blk", sizeBytes: MIB, lie: "blk-unsupported:1:2" },
  ]);
  using reached = served.reach(BLK);
  await using blk = await VirtioBlk.open(reached.transport, { interrupts: "none" });
  const queue = blk.queues[0]!;
  const burst = new RequestBurst(8);
  const slots = Uint16Array.from({ length: 4 }, () => queue.reserve());
  queue.submitBurst(slots, new Uint8Array(4), new Float64Array(4), new Uint32Array(4).fill(SECTOR), 4);
  const seen: number[] = [];
  while (seen.length < 4) {
    assert(await blk.waitComplete(10_000));
    queue.complete(burst);
    for (let i = 0; i < burst.count; i++) {
      seen.push(burst.statuses[i]!);
      queue.release(burst.slots[i]!);
    }
  }
  assertEquals(seen, [0, 2, 2, 0]);
  assertEquals(blk.statistics().failures, 2);
});

Deno.test("a device that never answers: TimeoutError, then nothing but reset helps", async () => {
  await using served = await TopologyHost.start([
    { address: BLK, kind: "virtio-blk", sizeBytes: MIB, lie: "blk-silence:1" },
  ]);
  using reached = served.reach(BLK);
  await using blk = await VirtioBlk.open(reached.transport, { timeoutMs: 100 });
  await blk.read(0, 1);
  const error = await assertRejects(() => blk.read(0, 1), TimeoutError);
  assertEquals(await assertRejects(() => blk.flush(), TimeoutError), error);
  await blk.reset();
  assertEquals((await blk.read(0, 1)).length, SECTOR);
});

Deno.test("close and reset under load: ClosedErrors, nothing leaks; the function closed beneath: no crash", async () => {
  await withBlk(8192, { queues: 2 }, async (transport) => {
    const blk = await VirtioBlk.open(transport, { queues: 2, depth: 4 });
    const before = Array.from(
      { length: 20 },
      (_, i) => blk.read(i * 100, 300).then(() => "read", (error) => error),
    );
    const reset = blk.reset();
    const outcomes = await Promise.all(before);
    assert(outcomes.every((one) => one === "read" || one instanceof ClosedError), `${outcomes}`);
    assert(outcomes.some((one) => one instanceof ClosedError));
    await reset;
    assertEquals((await blk.read(0, 8192)).length, 8192 * SECTOR);
    const queue = blk.queues[0]!;
    const view = queue.data(queue.reserve());
    const late = Array.from(
      { length: 20 },
      (_, i) => blk.write(i * 100, pattern(100, i)).then(() => "written", (error) => error),
    );
    blk.close();
    assert((await Promise.all(late)).every((one) => one === "written" || one instanceof ClosedError));
    await blk.settled;
    assertEquals(view.length, 0);
    assertThrows(() => queue.reserve(), ClosedError);
    await assertRejects(() => blk.read(0, 1), ClosedError);
    await assertRejects(() => blk.reset(), ClosedError);
    blk.close();
  });
  await using served = await TopologyHost.start([{ address: BLK, kind: "virtio-blk", sizeBytes: MIB }]);
  using reached = served.reach(BLK);
  const blk = await VirtioBlk.open(reached.transport);
  reached.device.close();
  await assertRejects(() => blk.read(0, 1), ClosedError);
  blk.close();
  await blk.settled;
});
