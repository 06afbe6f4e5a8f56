/** QEMU's block device behind kernel VFIO: every mix of ring features, queue depths, several queues, and a queue reset alone. */
import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import {
  BLK_STATUS,
  BLK_TYPE,
  RequestBurst,
  VirtioBlk,
  type VirtioBlkOptions,
} from "../../drivers/blk/virtio_blk.ts";
import { BLK_WISHES } from "../../drivers/blk/features.ts";
import { BlockQueue } from "../../drivers/blk/queue.ts";
import { COUNT } from "../../drivers/blk/statistics.ts";
import { counters } from "../../drivers/counters.ts";
import type { LinuxHost } from "../../lib/host/linux_host.ts";
import { BLK_FEATURE, FEATURE, refusedRingFeatures, VirtioDevice } from "../../lib/virtio/mod.ts";
import { PciModernTransport } from "../../lib/virtio/transport/pci_modern.ts";
import { type DiskQueue, queueOf, readPart, writeAll } from "./disk_driving.ts";
import { applyWrites, fillWrite, overlappingWrites, separateWrites } from "./disk_writes.ts";
import { functions, groupTest, ID, type KernelPath, pathTest, withAllRings } from "./guest_host.ts";
import { assertMix, RING_MIXES } from "./ring_mixes.ts";

const ALL = RING_MIXES.at(-1)!;
const SECTOR_BYTES = 512;
/** 1 MiB. */
const PART = { first: 64, sectors: 2048 } as const;
/** Of it, what is read at depth 1. */
const START = { first: 64, sectors: 64 } as const;
/** Four data segments a request at most, so that a chain has up to six parts. */
const SIZES = { requestBytes: 16384, segmentBytes: 4096 } as const;
const DEEP = 64;
/** Few descriptors, so that rings go round; with indirect tables they are enough for `DEEP` requests. */
const WAIT: VirtioBlkOptions = { wait: "eventfd", queueSize: 80, ...SIZES };

function open(
  host: LinuxHost,
  path: KernelPath,
  address: string,
  stack: AsyncDisposableStack,
): PciModernTransport {
  host.bind(address);
  return stack.use(PciModernTransport.open(stack.use(host.open(address, { path }))));
}

const withRings = (): string => withAllRings("blk")[0]!;

/** A disk whose contents the test knows, from what the device read before. */
class KnownDisk {
  #bytes: Uint8Array<ArrayBuffer>;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
  }

  /** Writes at depth 1, each over what the one before wrote, then 64 at a time; flushes; reads all of it back by `reader`. */
  async check(blk: VirtioBlk, seed: number, writer = 0, reader = writer): Promise<void> {
    const [to, from] = [queueOf(blk, writer), queueOf(blk, reader)];
    const depth = to.queue.slotCount;
    const one = overlappingWrites(seed, PART, 16);
    const many = separateWrites(seed + 1000, PART, DEEP);
    assertEquals(await writeAll(to, one, 1), 1);
    assertEquals(await writeAll(to, many, depth), depth);
    await blk.flush({ queue: writer });
    this.apply([...one, ...many]);
    this.compare(await readPart(from, PART, depth));
    const start = this.#bytes.subarray(0, START.sectors * SECTOR_BYTES);
    assertEquals(await readPart(from, START, 1), start);
  }

  compare(bytes: Uint8Array): void {
    assertEquals(bytes, this.#bytes);
  }

  apply(writes: Parameters<typeof applyWrites>[1]): void {
    applyWrites(this.#bytes, writes.map((write) => ({ ...write, sector: write.sector - PART.first })));
  }

  static async read(blk: VirtioBlk): Promise<KnownDisk> {
    return new KnownDisk(await readPart(queueOf(blk, 0), PART, 16));
  }
}

pathTest(
  "virtio-blk, packed with everything: written at depth 1 and 64, flushed, read, reset",
  async (host, path) => {
    await using stack = new AsyncDisposableStack();
    const transport = open(host, path, withRings(), stack);
    const blk = stack.use(await VirtioBlk.open(transport, WAIT));
    assertMix(blk.features, ALL);
    assertEquals([await blk.id(), blk.readOnly], ["ringside-rings", false]);
    assert((blk.features & BLK_FEATURE.FLUSH) !== 0n);
    assertEquals(blk.queues[0]!.slotCount, DEEP);
    const disk = await KnownDisk.read(blk);
    await disk.check(blk, 1);
    await blk.reset();
    await disk.check(blk, 2);
    await blk.writeZeroes(PART.first, 48, { unmap: true });
    assertEquals(await blk.read(PART.first, 48), new Uint8Array(48 * SECTOR_BYTES));
    // Who sleeps before the request is sent is woken by an interrupt for each.
    const before = blk.statistics().interrupts;
    const [queue] = blk.queues;
    const burst = new RequestBurst(1);
    for (let number = 0; number < 20; number++) {
      const slot = queue!.reserve();
      queue!.submit(slot, BLK_TYPE.in, PART.first, SECTOR_BYTES);
      const answer = blk.waitComplete(10_000);
      queue!.notify();
      assert(await answer, `request ${number} was not answered`);
      assertEquals([queue!.complete(burst), burst.slots[0], burst.statuses[0]], [1, slot, BLK_STATUS.ok]);
      queue!.release(slot);
    }
    const { failures, interrupts, flushes } = blk.statistics();
    assertEquals([failures, flushes], [0, 2]);
    assertGreaterOrEqual(interrupts - before, 20);
  },
);

groupTest(
  "virtio-blk: all sixteen mixes of packed, in order, event index and indirect",
  async (host, path) => {
    await using stack = new AsyncDisposableStack();
    const transport = open(host, path, withRings(), stack);
    let disk: KnownDisk | undefined;
    for (const [number, mix] of RING_MIXES.entries()) {
      const queueSize = mix.options.indirect ? 80 : 256;
      await using blk = await VirtioBlk.open(transport, { ...WAIT, ...mix.options, queueSize });
      assertMix(blk.features, mix);
      // 256 descriptors are 42 chains of six.
      assertEquals(blk.queues[0]!.slotCount, mix.options.indirect ? DEEP : 42, mix.name);
      disk ??= await KnownDisk.read(blk);
      try {
        await disk.check(blk, 10 * number);
      } catch (error) {
        throw new Error(`with ${mix.name}`, { cause: error });
      }
    }
  },
);

groupTest("virtio-blk without packed and in-order rings", async (host, path) => {
  await using stack = new AsyncDisposableStack();
  const transport = open(host, path, functions(ID.blk)[0]!, stack);
  assertEquals(transport.readDeviceFeatures() & (FEATURE.RING_PACKED | FEATURE.IN_ORDER), 0n);
  const blk = stack.use(await VirtioBlk.open(transport, WAIT));
  await (await KnownDisk.read(blk)).check(blk, 3);
});

for (const packed of [true, false]) {
  const test = packed ? pathTest : groupTest;
  const layout = packed ? "packed" : "split";
  test(`virtio-blk: four ${layout} queues at once, each read by another`, async (host, path) => {
    await using stack = new AsyncDisposableStack();
    const transport = open(host, path, withRings(), stack);
    const blk = stack.use(await VirtioBlk.open(transport, { ...WAIT, packed, queues: 4 }));
    assert((blk.features & BLK_FEATURE.MQ) !== 0n);
    assertEquals([blk.config.queues, blk.queues.length], [4, 4]);
    const disk = await KnownDisk.read(blk);
    const share = PART.sectors / 4;
    const writes = [0, 1, 2, 3].map((queue) =>
      separateWrites(40 + queue, { first: PART.first + queue * share, sectors: share }, 16)
    );
    assertEquals(await Promise.all(writes.map((mine, queue) => writeAll(queueOf(blk, queue), mine, 8))), [
      8,
      8,
      8,
      8,
    ]);
    disk.apply(writes.flat());
    for (const queue of [0, 1, 2, 3]) await disk.check(blk, 50 + queue, queue, 3 - queue);
  });
}

for (const packed of [true, false]) {
  const test = packed ? pathTest : groupTest;
  const sizes = packed ? [48, 100, 256] : [64, 128, 256];
  const layout = packed ? "packed" : "split";
  test(`RING_RESET of a ${layout} request queue, and the other queue goes on`, async (host, path) => {
    await using stack = new AsyncDisposableStack();
    const transport = open(host, path, withRings(), stack);
    const device = stack.use(new VirtioDevice(transport));
    const refused = refusedRingFeatures({ packed }, transport.profile);
    device.negotiate({ ...BLK_WISHES, refused, required: FEATURE.RING_RESET });
    assertEquals(device.has(FEATURE.RING_PACKED), packed);
    const request = (index: number, size: number): DiskQueue & Disposable => {
      const ring = device.createQueue(index, { size, maxSegments: 6 });
      assertEquals(ring.size, size);
      const queue = new BlockQueue({
        name: transport.name,
        queue: ring,
        dma: transport.dma,
        slots: 32,
        requestBytes: SIZES.requestBytes,
        limits: {
          capacitySectors: PART.first + PART.sectors,
          readOnly: false,
          flush: true,
          discardSegments: 0,
          writeZeroesSegments: 0,
          segmentBytes: SIZES.segmentBytes,
        },
        counts: counters(COUNT),
      });
      return { queue, wait: (timeoutMs) => polled(queue, timeoutMs), [Symbol.dispose]: () => queue.close() };
    };
    let reset = request(0, sizes.at(-1)!);
    using other = request(1, 64);
    device.driverOk();
    const disk = new KnownDisk(await readPart(reset, PART, 32));
    for (const [round, size] of sizes.entries()) {
      const half = PART.sectors / 2;
      const mine = separateWrites(70 + round, { first: PART.first, sectors: half }, 32);
      const others = separateWrites(80 + round, { first: PART.first + half, sectors: half }, 16);
      await writeAll(reset, mine, 32);
      // What the other queue has is taken from it after the reset.
      for (const write of others) {
        const slot = other.queue.reserve();
        fillWrite(write, other.queue.data(slot));
        other.queue.submit(slot, BLK_TYPE.out, write.sector, write.sectors * SECTOR_BYTES);
      }
      other.queue.notify();
      assertEquals(device.resetQueue(0), { completed: [], inFlight: [] });
      reset.queue.close();
      reset = request(0, size);
      const burst = new RequestBurst(16);
      for (let left = others.length; left > 0; left -= burst.count) {
        assert(await other.wait(10_000), `${left} requests are not answered`);
        other.queue.complete(burst);
        for (let i = 0; i < burst.count; i++) {
          assertEquals(burst.statuses[i], BLK_STATUS.ok);
          other.queue.release(burst.slots[i]!);
        }
      }
      disk.apply([...mine, ...others]);
      disk.compare(await readPart(reset, PART, 32));
    }
    reset.queue.close();
  });
}

/** Looks until the queue has answers. */
function polled(queue: BlockQueue, timeoutMs: number): Promise<boolean> {
  const until = performance.now() + timeoutMs;
  while (!queue.hasUsed()) if (performance.now() > until) return Promise.resolve(false);
  return Promise.resolve(true);
}
