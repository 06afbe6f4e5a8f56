/**
 * A driver process of its own, with the garbage collector as everybody has it: frames at a fixed rate from one function to another, polled, in turn by this
 * library's driver and by a loop in C on other functions of the same host.
 *
 * Its argument is a `LatencyTask` as JSON; it prints a `LatencyReport` on a line of its own.
 *
 * @module
 */
import type { VirtioNet } from "../drivers/net/virtio_net.ts";
import type { LentDirection, LentNetPairParts } from "../drivers/net/virtio/lent_pair.ts";
import { FrameBurst } from "../drivers/net/api/frame_burst.ts";
import { Latencies } from "../drivers/latencies.ts";
import { openNumberLibrary } from "../ffi/number_library.ts";
import { DeviceError, TimeoutError } from "../lib/errors/mod.ts";
import { templateFrame } from "./frame_pair.ts";
import { useVfs } from "./opened_functions.ts";

/** What to do. */
export interface LatencyTask {
  /** Of the emulated host. */
  readonly directory: string;
  /** The compiled loop; undefined: without it. */
  readonly library?: string;
  readonly framesPerSecond: number;
  /** Turns of each, and how long each takes. */
  readonly turns: number;
  readonly seconds: number;
}

/** In microseconds. */
export interface LatencyTimes {
  readonly samples: number;
  readonly p50: number;
  readonly p99: number;
  readonly p9999: number;
  readonly max: number;
}

/** What was found. */
export interface LatencyReport {
  readonly ours: LatencyTimes;
  readonly c?: LatencyTimes;
  /** When this library's driver had its turns: milliseconds since the process began, as V8 counts. */
  readonly ourTurns: readonly (readonly [from: number, to: number])[];
}

const FRAME_BYTES = 64;
const NUMBER_AT = 14;
const PATIENCE_MS = 5000;
const WARM_UP_S = 2;
// What both drive: rings of the simplest kind, which the loop in C knows.
const RINGS = {
  packed: false,
  inOrder: false,
  eventIndex: false,
  mergeable: false,
  interrupts: "none",
  wait: "poll",
} as const;

/** Frames of this library's driver. */
class OurLoop {
  readonly latencies = new Latencies();
  readonly #from: VirtioNet;
  readonly #to: VirtioNet;
  readonly #frame: Uint8Array;
  readonly #burst = new FrameBurst(32);

  constructor(from: VirtioNet, to: VirtioNet) {
    this.#from = from;
    this.#to = to;
    this.#frame = templateFrame(to.mac, from.mac, FRAME_BYTES);
    from.tx[0]!.suppressInterrupts();
    to.rx[0]!.suppressInterrupts();
  }

  run(frames: number, intervalMs: number): void {
    const tx = this.#from.tx[0]!, rx = this.#to.rx[0]!;
    const burst = this.#burst, frame = this.#frame, latencies = this.latencies;
    const window = rx.views.length >> 1;
    const start = performance.now();
    let quietSince = start, sent = 0, came = 0;
    while (came < frames) {
      const at = performance.now();
      if (sent < frames && at >= start + sent * intervalMs && sent - came < window) {
        const slot = tx.reserve();
        if (slot >= 0) {
          const buffer = tx.frame(slot);
          buffer.set(frame);
          for (let byte = 0; byte < 4; byte++) buffer[NUMBER_AT + byte] = sent >>> 8 * byte;
          tx.send(slot, FRAME_BYTES);
          tx.flush();
          sent++;
        }
      }
      const got = rx.receiveBurst(burst);
      if (got === 0) {
        if (at - quietSince > PATIENCE_MS) throw new TimeoutError(`${came} of ${sent} frames came`);
        continue;
      }
      const seen = quietSince = performance.now();
      for (let i = 0; i < got; i++) {
        const bytes = rx.views[burst.slots[i]!]!, number = burst.offsets[i]! + NUMBER_AT;
        const serial = bytes[number]! | bytes[number + 1]! << 8 | bytes[number + 2]! << 16 |
          bytes[number + 3]! << 24;
        if (serial !== came) throw new DeviceError(`frame ${serial} came instead of frame ${came}`);
        latencies.add(seen - (start + came * intervalMs));
        came++;
      }
      rx.recycle(burst);
    }
  }

  get times(): LatencyTimes {
    const { latencies } = this;
    const at = (part: number) => latencies.percentile(part);
    return {
      samples: latencies.count,
      p50: at(0.5),
      p99: at(0.99),
      p9999: at(0.9999),
      max: latencies.maxMicroseconds,
    };
  }
}

/** The same in C, on rings that are set up here and used there. */
class CLoop implements Disposable {
  readonly #library;
  #frames = 0;

  constructor(path: string, from: VirtioNet, to: VirtioNet) {
    this.#library = openNumberLibrary(path, {
      latency_ring: 7,
      latency_buffers: 7,
      latency_frame: 3,
      latency_begin: 0,
      latency_clear: 0,
      latency_run: 2,
      latency_quantile: 1,
    });
    this.#give(0, (from.lend(0) as LentNetPairParts).transmit);
    this.#give(1, (to.lend(0) as LentNetPairParts).receive);
    templateFrame(to.mac, from.mac, FRAME_BYTES).forEach((byte, at) =>
      this.#library.functions.latency_frame(at, byte, FRAME_BYTES)
    );
    this.#call("latency_begin");
  }

  #give(which: number, { queue, pool }: LentDirection): void {
    const halves = (value: bigint) => [Number(value & 0xffff_ffffn), Number(value >> 32n)] as const;
    const { places, doorbell: { register } } = queue;
    if (register.kind !== "eventfd") throw new DeviceError("a doorbell that is no eventfd");
    const { size, driverOffset, deviceOffset } = places;
    const ring = [...halves(queue.memory.area.address), size, driverOffset, deviceOffset, register.fd.fd];
    this.#call("latency_ring", which, ...ring);
    const { slotBytes, alignBytes } = pool.slots;
    const stride = Math.ceil(slotBytes / alignBytes!) * alignBytes!;
    const { area, iova } = pool.memory;
    this.#call("latency_buffers", which, ...halves(area.address), ...halves(iova), stride, slotBytes);
  }

  #call(
    name: "latency_ring" | "latency_buffers" | "latency_begin" | "latency_clear",
    ...numbers: number[]
  ): void {
    if (this.#library.functions[name](...numbers) !== 0) throw new DeviceError(`${name} failed`);
  }

  clear(): void {
    this.#call("latency_clear");
    this.#frames = 0;
  }

  run(frames: number, intervalMs: number): void {
    const came = this.#library.functions.latency_run(frames, Math.round(intervalMs * 1e6));
    if (came !== frames) throw new DeviceError(`the loop in C stopped with ${came}`);
    this.#frames += frames;
  }

  get times(): LatencyTimes {
    const at = (part: number) => this.#library.functions.latency_quantile(Math.round(part * 1e6)) / 10;
    return { samples: this.#frames, p50: at(0.5), p99: at(0.99), p9999: at(0.9999), max: at(1.000001) };
  }

  [Symbol.dispose](): void {
    this.#library[Symbol.dispose]();
  }
}

async function measure(
  { directory, library, framesPerSecond, turns, seconds }: LatencyTask,
): Promise<LatencyReport> {
  await using stack = new AsyncDisposableStack();
  const lent = { ...RINGS, lentPairs: 1 };
  const [from, to, cFrom, cTo] = await useVfs(stack, directory, [RINGS, RINGS, lent, lent]);
  const ours = new OurLoop(from!, to!);
  const c = library === undefined ? undefined : stack.use(new CLoop(library, cFrom!, cTo!));
  const intervalMs = 1000 / framesPerSecond;
  const run = (loop: OurLoop | CLoop, seconds: number) =>
    loop.run(Math.round(framesPerSecond * seconds), intervalMs);
  for (const loop of [ours, c]) if (loop !== undefined) run(loop, Math.min(WARM_UP_S, seconds));
  ours.latencies.clear();
  c?.clear();
  const ourTurns: [number, number][] = [];
  for (let turn = 0; turn < turns; turn++) {
    const begun = performance.now();
    run(ours, seconds);
    ourTurns.push([begun, performance.now()]);
    if (c !== undefined) run(c, seconds);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  return { ours: ours.times, ...(c === undefined ? {} : { c: c.times }), ourTurns };
}

if (import.meta.main) {
  console.log(`\n${JSON.stringify(await measure(JSON.parse(Deno.args[0]!) as LatencyTask))}`);
}
