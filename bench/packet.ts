/**
 * Where the nanoseconds of a frame go: V8's own profiler says where the thread was while frames went from a driver through the device to another
 * driver, all in this thread.
 *
 * @module
 */
import { Session } from "node:inspector";
import { DeviceError } from "../lib/errors/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import { pairInProcess } from "./pair_in_process.ts";
import { compare, type Figure, type Section, single } from "./report.ts";

const SAMPLE_US = 200;
const SIZES = [64, 1514];
const ROOT = new URL("../", import.meta.url).href;
/** Functions that are named one by one. */
const MOST_NAMED = 12;

/** What the code of a place does; the first that fits. */
const STAGES: readonly (readonly [stage: string, place: RegExp])[] = [
  ["the program: writes each frame, checks length and number", /^bench\//],
  ["transmitting driver: slots, headers, counters", /^drivers\/net\/virtio\/transmit/],
  ["receiving driver: slots, headers, checks, counters", /^drivers\/(?:net\/|driver)/],
  ["drivers' rings, transmit and receive", /^lib\/virtio\//],
  ["device's rings, transmit and receive", /^lib\/emulation\/virtio\/queue\//],
  ["device: switch, filters, headers, bytes copied", /^lib\/emulation\/virtio\/net\//],
  ["device: memory looked up by IOVA", /^lib\/sockets\/|^lib\/memory\//],
  ["device: core and functions", /^lib\/emulation\//],
  ["the engine: collector, compiler, what has no place", /(?:)/],
];

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string };
  readonly hitCount?: number;
  readonly children?: readonly number[];
}

/** How often the thread was found in a function of the project; what the engine brings along counts for who called it. */
interface Place {
  readonly file: string;
  readonly name: string;
  readonly hits: number;
}

/** Shares of a frame's time, by what is done, for a short and a long frame. */
export async function benchPacket(run: BenchRun): Promise<Section[]> {
  await using stack = new AsyncDisposableStack();
  const pair = await pairInProcess(stack);
  const count = run.pick(200_000, 50_000);
  const rounds = run.pick(20, 8);
  const sections: Section[] = [];
  for (const size of SIZES) {
    const template = pair.template(size);
    pair.oneWay(template, run.pick(1_000_000, 200_000));
    let milliseconds = 0;
    const places = await profiled(async () => {
      for (let round = 0; round < rounds; round++) {
        const start = performance.now();
        pair.oneWay(template, count);
        milliseconds += performance.now() - start;
        await run.turn();
      }
    });
    sections.push(sectionOf(size, places, 1e6 * milliseconds / (count * rounds)));
  }
  return sections;
}

function sectionOf(size: number, places: readonly Place[], nanoseconds: number): Section {
  const all = places.reduce((sum, { hits }) => sum + hits, 0);
  if (all === 0) throw new DeviceError("the profiler saw nothing");
  const whole = single("nanoseconds", nanoseconds);
  const figures = STAGES.flatMap(([name], stage): Figure[] => {
    const hits = places.filter(({ file }) => stageOf(file) === stage).reduce((sum, one) => sum + one.hits, 0);
    if (hits === 0) return [];
    const value = single("nanoseconds", nanoseconds * hits / all);
    return [{ name, value, beside: [compare(value, "the whole way", whole)] }];
  });
  const named = [...places].sort((a, b) => b.hits - a.hits).slice(0, MOST_NAMED).map(({ file, name, hits }) =>
    `${name || "(a function)"} of ${file || "the engine"} ${(nanoseconds * hits / all).toFixed(1)}`
  );
  return {
    title: `Where the nanoseconds of a frame of ${size} bytes go`,
    figures,
    chart: "shares",
    notes: [
      `${
        nanoseconds.toFixed(0)
      } ns a frame: driver, device and driver in one thread, bursts of 32; ${all} samples of V8's profiler, one each ${SAMPLE_US} µs`,
      `functions with most, nanoseconds: ${named.join(", ")}`,
    ],
  };
}

function stageOf(file: string): number {
  return STAGES.findIndex(([, place]) => place.test(file));
}

/** Where the thread was while `work` ran. */
async function profiled(work: () => Promise<void>): Promise<Place[]> {
  const session = new Session();
  session.connect();
  const post = (method: string, parameters: object = {}) =>
    new Promise<{ profile?: { nodes: readonly ProfileNode[] } }>((resolve, reject) =>
      session.post(
        method,
        parameters,
        (error: Error | null, result: object = {}) => error ? reject(error) : resolve(result),
      )
    );
  try {
    await post("Profiler.enable");
    await post("Profiler.setSamplingInterval", { interval: SAMPLE_US });
    await post("Profiler.start");
    await work();
    return placesOf((await post("Profiler.stop")).profile?.nodes ?? []);
  } finally {
    session.disconnect();
  }
}

function placesOf(nodes: readonly ProfileNode[]): Place[] {
  const parents = new Map(
    nodes.flatMap(({ id, children }) => (children ?? []).map((child) => [child, id] as const)),
  );
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const hits = new Map<string, Place>();
  for (const node of nodes) {
    if (!node.hitCount || node.callFrame.functionName === "(idle)") continue;
    let at: ProfileNode | undefined = node;
    // What the engine brings along (`set` of a typed array, `Atomics.store`) has no file.
    while (at !== undefined && !at.callFrame.url.startsWith(ROOT)) at = byId.get(parents.get(at.id) ?? NaN);
    const { functionName, url } = (at ?? node).callFrame;
    const [file, name] = [url.startsWith(ROOT) ? url.slice(ROOT.length) : "", functionName];
    const known = hits.get(`${file} ${name}`);
    hits.set(`${file} ${name}`, { file, name, hits: (known?.hits ?? 0) + node.hitCount });
  }
  return [...hits.values()];
}
