/**
 * Ring operations: the driver's split queue and the emulated device's side of it in one process, over plain memory.
 *
 * One operation is a descriptor's whole way: added, published, popped by the device, pushed back, taken by the driver. Beside it, in the same run,
 * the least that two sides can do: a single-producer single-consumer ring of one 32-bit word, with an atomic index each way.
 *
 * @module
 */
import { SplitDeviceQueue } from "../lib/emulation/virtio/split_device_queue.ts";
import { Chain } from "../lib/emulation/virtio/chain.ts";
import { type DmaMapper, DmaSpace } from "../lib/memory/mod.ts";
import { DmaRegion, DmaTable } from "../lib/vfio/vfio_user/dma_table.ts";
import { SplitQueue } from "../lib/virtio/queue/split.ts";
import { splitLayout } from "../lib/virtio/queue/split_layout.ts";
import { usedBurst } from "../lib/virtio/queue/used_burst.ts";
import { type Figure, median, perSecond, report } from "./report.ts";

const SIZE = 256;
const BURSTS = [1, 8, 32, 128];

interface Pair extends Disposable {
  readonly queue: SplitQueue;
  readonly device: SplitDeviceQueue;
}

/** Both sides of one ring; the "IOMMU" is a table over the same mapping. */
function pair(eventIndex: boolean): Pair {
  const dma = new DmaTable();
  const mapper: DmaMapper = {
    name: "bench",
    iovaRanges: [{ start: 0n, last: 0xffff_ffffn }],
    pageSizes: 0x1000n,
    needsFile: false,
    mapDma(memory, _file, iova) {
      dma.add(new DmaRegion(iova, memory, { deviceReads: true, deviceWrites: true }));
    },
    unmapDma() {
      dma.clear();
    },
  };
  const space = new DmaSpace(mapper);
  const layout = splitLayout(SIZE);
  const memory = space.allocate(layout.totalBytes + 4096, { label: "ring", huge: "never" });
  const queue = new SplitQueue({
    function: "bench",
    index: 0,
    layout,
    memory,
    doorbell: { ring: () => {} },
    eventIndex,
  });
  const device = new SplitDeviceQueue({
    index: 0,
    size: SIZE,
    descriptorArea: memory.iova + BigInt(layout.descriptorOffset),
    driverArea: memory.iova + BigInt(layout.driverOffset),
    deviceArea: memory.iova + BigInt(layout.deviceOffset),
    indirect: false,
    eventIndex,
  }, { dma, violation: (rule, message) => console.error(rule, message), interrupt: () => {} });
  return { queue, device, [Symbol.dispose]: () => space.close() };
}

/** Moves `count` descriptors around, `burst` at a time. */
function turn({ queue, device }: Pair, count: number, burst: number, chain: Chain): void {
  const used = usedBurst(burst);
  queue.suppressInterrupts();
  device.suppress();
  for (let done = 0; done < count; done += burst) {
    for (let i = 0; i < burst; i++) queue.addSingle(0x1000, 0, 64, false);
    queue.publish();
    for (let i = 0; i < burst; i++) {
      const id = device.pop(chain);
      if (id < 0) throw new Error("the device saw fewer chains than were published");
      device.pushUsed(id, 0);
    }
    device.publish();
    if (queue.takeUsed(used) !== burst) throw new Error("the driver got fewer chains back");
  }
}

/** The least a ring can do. */
function plainRing(count: number, burst: number): void {
  const words = new Uint32Array(SIZE);
  const indices = new Uint32Array(32);
  let head = 0, tail = 0, sum = 0;
  for (let done = 0; done < count; done += burst) {
    for (let i = 0; i < burst; i++) words[(head + i) & (SIZE - 1)] = done + i;
    head += burst;
    Atomics.store(indices, 0, head);
    const end = Atomics.load(indices, 0);
    for (; tail !== end; tail++) sum = (sum + words[tail & (SIZE - 1)]!) >>> 0;
    Atomics.store(indices, 16, tail);
    if (Atomics.load(indices, 16) !== head) throw new Error(`lost ${sum}`);
  }
}

function rate(count: number, work: () => void): number {
  const start = performance.now();
  work();
  return count / ((performance.now() - start) / 1000);
}

/** Runs and prints. */
export function benchRing(short: boolean): void {
  const count = short ? 1 << 19 : 1 << 22;
  const rounds = short ? 3 : 5;
  const chain = new Chain(SIZE);
  const figures: Figure[] = [];
  for (const eventIndex of [false, true]) {
    using both = pair(eventIndex);
    for (const burst of BURSTS) {
      turn(both, count / 4, burst, chain);
      plainRing(count / 4, burst);
      const ring: number[] = [], plain: number[] = [];
      for (let i = 0; i < rounds; i++) {
        ring.push(rate(count, () => turn(both, count, burst, chain)));
        plain.push(rate(count, () => plainRing(count, burst)));
      }
      figures.push({
        name: `burst ${burst}${eventIndex ? ", event index" : ""}`,
        value: perSecond(median(ring)),
        beside: `a plain SPSC ring (${perSecond(median(plain))})`,
        ratio: median(ring) / median(plain),
      });
    }
  }
  report("Ring operations, driver and device in one process (split, 256 descriptors)", figures);
  benchAllocation(count, chain);
}

function benchAllocation(count: number, chain: Chain): void {
  using both = pair(true);
  turn(both, count, 32, chain);
  const bytes = heapGrowth(() => turn(both, 1_000_000, 32, chain));
  const objects = heapGrowth(() => {
    for (let i = 0; i < 1_000_000; i++) sink = { id: i, length: 64 };
  });
  report("Heap bytes allocated per million packets, steady state", [{
    name: "split ring, burst 32",
    value: `${bytes} B`,
    beside: `one small object a packet (${objects} B)`,
    ratio: bytes / objects,
  }]);
}

/** Kept outside, so that the compiler cannot remove what is stored. */
let sink: { id: number; length: number } | undefined;

function heapGrowth(work: () => void): number {
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  const before = Deno.memoryUsage().heapUsed;
  work();
  const after = Deno.memoryUsage().heapUsed;
  if (sink?.length === 1) console.log(sink);
  return Math.max(0, after - before);
}
