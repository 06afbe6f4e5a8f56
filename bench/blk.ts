/**
 * Block requests: what the driver itself takes, what it leaves on the heap, and what comes of it with the emulated device in another process.
 *
 * @module
 */
import { BlockLoad } from "../drivers/blk/load.ts";
import { VirtioBlk } from "../drivers/blk/virtio_blk.ts";
import { Latencies } from "../drivers/latencies.ts";
import { O, OwnedFd, pread, pwrite } from "../ffi/mod.ts";
import { DeviceError, TimeoutError } from "../lib/errors/mod.ts";
import { openHost } from "../lib/host/mod.ts";
import { openTransport } from "../lib/virtio/mod.ts";
import { type BenchRun, PATIENCE_MS, rate } from "./bench_run.ts";
import { bytesPerMillion, HEAP_ROUNDS, objectBytes } from "./heap.ts";
import { beside, withNanoseconds, type Works } from "./in_turn.ts";
import { PlainBlockDevice, type PlainBlockVariant } from "./plain_block_device.ts";
import { PlainRing } from "./plain_ring.ts";
import { useDirectory, useEmulatedHost } from "./processes.ts";
import { compare, type Figure, type Section, single, type Statistic } from "./report.ts";

const MILLION = 1_000_000;
const BURST = 32;
const BLK = "0000:03:00.0";
const REQUEST_BYTES = 4096;
const IMAGE_BYTES = 64 << 20;
const DEPTHS = [1, 64];
const LOOKS = 64;

const VARIANTS: readonly PlainBlockVariant[] = (["split", "packed"] as const).flatMap((layout) =>
  [true, false].map((indirect) => ({ layout, indirect, requestBytes: REQUEST_BYTES, depth: 64 }))
);
const nameOf = ({ layout, indirect }: PlainBlockVariant) =>
  `${layout}${indirect ? ", indirect" : ", 3 descriptors each"}`;

/** Measures all three. */
export async function benchBlk(run: BenchRun): Promise<Section[]> {
  return [await driverAlone(run), await heap(run), ...await overProcesses(run)];
}

async function driverAlone(run: BenchRun): Promise<Section> {
  const figures: Figure[] = [];
  using plain = new PlainRing();
  using stack = new DisposableStack();
  const devices = VARIANTS.map((variant) => stack.use(new PlainBlockDevice(variant)));
  const count = run.pick(1 << 18, 1 << 14);
  // A process that has met one kind of queue alone is faster than it will be.
  for (const device of devices) for (const burst of [BURST, 1]) device.turn(count, burst);
  for (const [at, device] of devices.entries()) {
    for (const burst of [BURST, 1]) {
      const works = {
        driver: () => rate(count, () => device.turn(count, burst)),
        "plain ring": () => rate(count, () => plain.turn(count, burst)),
      };
      const name = `${nameOf(VARIANTS[at]!)}, burst ${burst}`;
      figures.push(withNanoseconds(await beside(run, name, "per second", works, { count: run.pick(9, 3) })));
    }
  }
  return {
    title: "Block requests per second, the driver alone",
    figures,
    notes: [
      "reads of 4096 bytes at random places, submitted and completed by bursts; the device answers in the same thread and moves no data",
      "plain ring: one producer, one consumer, 16 bytes there and 8 back",
    ],
  };
}

async function heap(run: BenchRun): Promise<Section> {
  const requests = run.pick(MILLION, 200_000);
  const objects = single("bytes", Math.round(await objectBytes(run, requests) * MILLION / requests));
  const figures: Figure[] = [];
  for (const variant of VARIANTS) {
    using device = new PlainBlockDevice(variant);
    device.turn(2 * MILLION, BURST);
    const value = await bytesPerMillion(run, requests, () => device.turn(requests, BURST));
    const name = nameOf(variant);
    figures.push({ name, value, beside: [compare(value, "a small object a request", objects)] });
  }
  return {
    title: "Heap bytes allocated for a million block requests",
    figures,
    notes: [
      `the synchronous burst form, burst ${BURST}, ${HEAP_ROUNDS} times; no collection in between`,
      "nothing is allocated for a request: what a round shows is the engine's own, as when it compiles anew",
    ],
  };
}

async function overProcesses(run: BenchRun): Promise<Section[]> {
  await using stack = new AsyncDisposableStack();
  const path = `${useDirectory(stack)}/disk.img`;
  const disk = { address: BLK, kind: "virtio-blk", file: path, sizeBytes: IMAGE_BYTES, driver: "vfio-pci" };
  const emulated = await useEmulatedHost(stack, run, [disk]);
  const host = stack.use(openHost(emulated.directory));
  const transport = stack.use(openTransport(stack.use(host.open(BLK))));
  const blk = stack.use(
    await VirtioBlk.open(transport, {
      depth: Math.max(...DEPTHS),
      requestBytes: REQUEST_BYTES,
      wait: "eventfd",
    }),
  );
  const file = new FileLoad(stack.use(OwnedFd.open(path, O.RDWR)));
  // Every sector is there before one is read.
  file.fill();
  const rates: Figure[] = [], times: Figure[] = [];
  const how = { count: run.pick(9, 3), warmUps: 2 };
  for (const write of [false, true]) {
    for (const depth of DEPTHS) {
      const count = run.pick(depth === 1 ? 2000 : 20_000, depth === 1 ? 200 : 2000);
      const [polled, asleep, direct] = [new Latencies(), new Latencies(), new Latencies()];
      const driven = (latencies: Latencies, sleeps: boolean) => () =>
        drive(new BlockLoad(blk, { depth, sizeBytes: REQUEST_BYTES, write, latencies }), count, sleeps);
      const call = write ? "pwrite" : "pread";
      const works: Works = {
        polled: driven(polled, false),
        "by interrupt": driven(asleep, true),
        [`${call} of the same file`]: () => file.run(count, write, direct),
      };
      const name = `${write ? "write" : "read"}, depth ${depth}`;
      const { polled: _, ...others } = works;
      rates.push(await beside(run, `${name}, polled`, "per second", works, how));
      rates.push(await beside(run, `${name}, by interrupt`, "per second", others, how));
      const ofFile = quantiles(direct);
      for (const [way, latencies] of [["polled", polled], ["by interrupt", asleep]] as const) {
        const value = quantiles(latencies);
        times.push({ name: `${name}, ${way}`, value, beside: [compare(value, call, ofFile)] });
      }
    }
  }
  const violations = emulated.violations();
  if (violations.length > 0) throw new DeviceError(`the device reports: ${violations.join("; ")}`);
  return [{
    title: "Block requests per second of 4096 bytes, over two processes (driver | emulated host)",
    figures: rates,
    notes: [
      "pread, pwrite: this process on the file that the device has, one call after the other; the device makes the same call for each request",
    ],
  }, {
    title: "Latency of block requests of 4096 bytes, over two processes",
    figures: times,
    notes: ["from the submission of a burst until its answer was seen"],
  }];
}

/** At least `count` requests. @returns how many a second */
function drive(load: BlockLoad, count: number, sleeps: boolean): number {
  const start = performance.now();
  load.begin();
  let done = 0, seen = 0, quietSince = start;
  while (done < count) {
    const some = load.turn();
    done += some;
    if (some > 0) continue;
    if (sleeps) load.wait(PATIENCE_MS);
    else for (let look = 0; look < LOOKS; look++) if ((done += load.turn()) >= count) break;
    const now = performance.now();
    if (done > seen) [seen, quietSince] = [done, now];
    else if (now - quietSince > PATIENCE_MS) throw new TimeoutError(`no answer after ${done} requests`);
  }
  const perSecond = 1000 * done / (performance.now() - start);
  while (load.end() > 0);
  return perSecond;
}

function quantiles(latencies: Latencies): Statistic {
  return {
    kind: "samples",
    unit: "microseconds",
    p50: latencies.percentile(0.5),
    p99: latencies.percentile(0.99),
    max: latencies.maxMicroseconds,
    samples: latencies.count,
  };
}

/** The same requests by system calls. */
class FileLoad {
  readonly #fd: OwnedFd;
  readonly #bytes = new Uint8Array(REQUEST_BYTES).fill(1);
  #state = 1;

  constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  fill(): void {
    for (let at = 0; at < IMAGE_BYTES; at += REQUEST_BYTES) pwrite(this.#fd, this.#bytes, BigInt(at));
  }

  /** @returns how many a second */
  run(count: number, write: boolean, latencies: Latencies): number {
    return rate(count, () => {
      for (let i = 0; i < count; i++) {
        this.#state = Math.imul(this.#state, 1664525) + 1013904223 | 0;
        const at = BigInt((this.#state >>> 8) % (IMAGE_BYTES / REQUEST_BYTES) * REQUEST_BYTES);
        const start = performance.now();
        if (write) pwrite(this.#fd, this.#bytes, at);
        else pread(this.#fd, this.#bytes, at);
        latencies.add(performance.now() - start);
      }
    });
  }
}
