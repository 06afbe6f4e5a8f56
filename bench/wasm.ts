/**
 * The loops of a queue of slots, driver's side alone: TypeScript's, and the same in WebAssembly.
 *
 * @module
 */
import { createMemfd, MappedMemory, pageSizeBytes } from "../ffi/mod.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { type DmaMapper, DmaSpace } from "../lib/memory/mod.ts";
import { packedLayout, splitLayout } from "../lib/virtio/queue/layout.ts";
import { PackedQueue } from "../lib/virtio/queue/packed.ts";
import { SplitQueue } from "../lib/virtio/queue/split.ts";
import { usedBurst } from "../lib/virtio/queue/used_burst.ts";
import type { BenchRun } from "./bench_run.ts";
import { beside, withNanoseconds } from "./in_turn.ts";
import { PlainRingDevice } from "./plain_ring_device.ts";
import type { Figure, Section } from "./report.ts";
import { assembleKernel, WasmQueue } from "./wasm_queue.ts";

const SIZE = 256;
const SLOT_BYTES = 2048;
const FRAME_BYTES = 64;
const HEAD_BYTES = 12;
const BURSTS = [1, 4, 32];
const IOVA_LO = Uint32Array.from({ length: SIZE }, (_, slot) => 0x10000 + slot * SLOT_BYTES);

/** A queue that is filled and emptied by bursts; the device's part is not timed. */
interface Sides {
  fill(burst: number): void;
  serve(): number;
  empty(burst: number): void;
}

/** Measures both in turn, split and packed, what the device reads and what it writes. */
export async function benchWasm(run: BenchRun): Promise<Section[]> {
  const module = await assembleKernel();
  const figures: Figure[] = [];
  for (const packed of [false, true]) {
    for (const deviceWrites of [false, true]) {
      using stack = new DisposableStack();
      const ours = inTypeScript(stack, packed, deviceWrites),
        wasm = inWasm(stack, module, packed, deviceWrites);
      for (const burst of BURSTS) {
        const laps = run.pick(4000, 1000);
        const works = {
          TypeScript: () => slotsPerSecond(ours, burst, laps),
          WebAssembly: () => slotsPerSecond(wasm, burst, laps),
        };
        const name = `${packed ? "packed" : "split"}, ${
          deviceWrites ? "receive" : "transmit"
        }, burst ${burst}`;
        figures.push(
          withNanoseconds(await beside(run, name, "per second", works, { count: run.pick(9, 5) })),
        );
      }
    }
  }
  return [{
    title: "Slots per second, driver's side of a ring alone: added, published, taken back",
    figures,
    notes: [
      `${SIZE} descriptors, event index; the ring's pages are mapped into the WebAssembly.Memory, and the arrays of slots and lengths are in it`,
      "one call into WebAssembly each to add, to publish and to take; the same checks",
    ],
  }];
}

function slotsPerSecond(sides: Sides, burst: number, laps: number): number {
  let milliseconds = 0;
  for (let lap = 0; lap < laps; lap++) {
    let start = performance.now();
    sides.fill(burst);
    milliseconds += performance.now() - start;
    if (sides.serve() !== SIZE) throw new DeviceError("the device saw fewer slots than there are");
    start = performance.now();
    sides.empty(burst);
    milliseconds += performance.now() - start;
  }
  return laps * SIZE / milliseconds * 1000;
}

function inTypeScript(stack: DisposableStack, packed: boolean, deviceWrites: boolean): Sides {
  const mapper: DmaMapper = {
    name: "bench",
    iovaRanges: [{ start: 0n, last: 0xffff_ffffn }],
    pageSizes: 0x1000n,
    needsFile: false,
    mapDma: () => {},
    unmapDma: () => {},
  };
  const space = new DmaSpace(mapper);
  stack.defer(() => space.close());
  const layout = packed ? packedLayout(SIZE) : splitLayout(SIZE);
  const memory = space.allocate(layout.totalBytes, { label: "ring", huge: "never" });
  const parts = {
    function: "bench",
    index: 0,
    memory,
    layout,
    doorbell: { ring: () => {} },
    eventIndex: true,
  };
  const queue = packed ? new PackedQueue(parts) : new SplitQueue(parts);
  queue.bindSlots({ iovaLo: IOVA_LO, iovaHi: new Uint32Array(SIZE), lengthBytes: SLOT_BYTES, deviceWrites });
  const device = new PlainRingDevice(packed, true, layout, memory.buffer);
  const used = usedBurst(SIZE), { ids } = used;
  const lengths = deviceWrites ? null : new Uint32Array(SIZE).fill(FRAME_BYTES);
  return {
    fill(burst) {
      for (let slot = 0; slot < SIZE;) {
        for (let at = 0; at < burst; at++) ids[at] = slot++;
        queue.addSlots(ids, lengths, burst, HEAD_BYTES);
        queue.publish();
      }
    },
    serve: () => device.serve(deviceWrites ? HEAD_BYTES + FRAME_BYTES : 0),
    empty(burst) {
      for (let left = SIZE; left > 0; left -= burst) check(queue.takeUsed(used, burst), burst);
    },
  };
}

function inWasm(
  stack: DisposableStack,
  module: WebAssembly.Module,
  packed: boolean,
  deviceWrites: boolean,
): Sides {
  const layout = packed ? packedLayout(SIZE) : splitLayout(SIZE);
  const fileBytes = Math.ceil(layout.totalBytes / pageSizeBytes) * pageSizeBytes;
  const file = stack.use(createMemfd("ring", fileBytes));
  const memory = stack.use(MappedMemory.map(file, fileBytes));
  const parts = { packed, layout, file, fileBytes, eventIndex: true, deviceWrites };
  const queue = stack.use(new WasmQueue(module, { ...parts, iovaLo: IOVA_LO, lengthBytes: SLOT_BYTES }));
  const device = new PlainRingDevice(packed, true, layout, memory.buffer);
  const { ids, lengths } = queue;
  return {
    fill(burst) {
      for (let slot = 0; slot < SIZE;) {
        for (let at = 0; at < burst; at++) {
          ids[at] = slot++;
          lengths[at] = FRAME_BYTES;
        }
        check(queue.addSlots(burst, !deviceWrites, HEAD_BYTES), burst);
        queue.publish();
      }
    },
    serve: () => device.serve(deviceWrites ? HEAD_BYTES + FRAME_BYTES : 0),
    empty(burst) {
      for (let left = SIZE; left > 0; left -= burst) check(queue.takeUsed(burst), burst);
    },
  };
}

function check(count: number, burst: number): void {
  if (count !== burst) throw new DeviceError(`${count} of ${burst} slots`);
}
