import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { BLK_TYPE, RequestBurst, VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { O, OwnedFd, removeFile, resizeFile } from "../../../ffi/mod.ts";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { BLK, MIB, pattern, SECTOR, withBlk } from "./served_disk.ts";

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
