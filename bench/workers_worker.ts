/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/**
 * A Worker of the benchmark of several processors: moves what it is given for a while, at the same time as the others.
 *
 * @module
 */
import { FrameBurst, type LentNetPair, NetPair } from "../drivers/net/virtio_net.ts";
import { FramePair } from "./frame_pair.ts";
import { PLAIN, RingPair } from "./ring_pair.ts";

/** What a Worker is to do. */
export interface WorkersTask {
  readonly number: number;
  readonly workers: number;
  readonly milliseconds: number;
  /** A counter of those that have come so far, for each step. */
  readonly steps: Int32Array;
  /** A queue pair of each of two functions; without them a ring with both its sides here. */
  readonly pairs?: readonly [LentNetPair, LentNetPair];
}

/** What it did. */
export interface WorkersResult {
  readonly count: number;
  readonly milliseconds: number;
}

const BURST = 32;
const FRAME_BYTES = 64;
const CHUNK = 4096;
const TYPE_AT = 13;
const SETTLE_MS = 100;

/** Waits until all Workers have come to a step. */
function meet({ steps, workers }: WorkersTask, step: number): void {
  Atomics.add(steps, step, 1);
  Atomics.notify(steps, step);
  for (let come = Atomics.load(steps, step); come < workers; come = Atomics.load(steps, step)) {
    Atomics.wait(steps, step, come);
  }
}

function timed(task: WorkersTask, warmUp: number, turn: (count: number) => void): WorkersResult {
  for (let done = 0; done < warmUp; done += CHUNK) turn(CHUNK);
  meet(task, 2);
  const start = performance.now();
  let count = 0;
  while (performance.now() - start < task.milliseconds) {
    turn(CHUNK);
    count += CHUNK;
  }
  const milliseconds = performance.now() - start;
  meet(task, 3);
  return { count, milliseconds };
}

function rings(task: WorkersTask): WorkersResult {
  using pair = new RingPair({ ...PLAIN, layout: "packed", eventIndex: true });
  return timed(task, 1 << 18, (count) => pair.turn(count, BURST));
}

function frames(task: WorkersTask, lent: readonly [LentNetPair, LentNetPair]): WorkersResult {
  using from = NetPair.open(lent[0], { mode: "poll" });
  using to = NetPair.open(lent[1], { mode: "poll" });
  const transport = { name: `queue pair ${task.number}` };
  const end = ({ mac, rx, tx }: NetPair) => ({ mac, rx: [rx], tx: [tx], transport });
  const pair = new FramePair(end(from), end(to));
  const template = pair.template(FRAME_BYTES);
  // A flow of its own, which the device gives to the pair that sent it last.
  template[TYPE_AT]! += task.number;
  const back = template.slice();
  back.set(from.mac);
  back.set(to.mac, 6);
  meet(task, 0);
  for (const [{ tx }, frame] of [[from, template], [to, back]] as const) {
    const slot = tx.reserve();
    tx.frame(slot).set(frame);
    tx.send(slot, frame.length);
    tx.flush();
  }
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SETTLE_MS);
  const burst = new FrameBurst(BURST);
  for (const { rx } of [from, to]) while (rx.receiveBurst(burst) > 0) rx.recycle(burst);
  meet(task, 1);
  return timed(task, 1 << 16, (count) => pair.oneWay(template, count));
}

self.onmessage = ({ data }: MessageEvent<WorkersTask>) => {
  self.postMessage(data.pairs === undefined ? rings(data) : frames(data, data.pairs));
  self.close();
};
