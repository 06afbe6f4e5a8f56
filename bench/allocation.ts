/**
 * Heap bytes that a million packets cost, in steady state: what is left behind for the garbage collector.
 *
 * The task runs with a new space so large that nothing is collected in between, so growth is allocation.
 *
 * @module
 */
import { type BenchRun, rate } from "./bench_run.ts";
import { BURST } from "./frame_pair.ts";
import { bytesPerMillion, HEAP_ROUNDS, objectBytes } from "./heap.ts";
import { beside } from "./in_turn.ts";
import { compare, type Figure, type Section, single } from "./report.ts";
import { pairInProcess } from "./pair_in_process.ts";
import { PLAIN, RingPair } from "./ring_pair.ts";

const MILLION = 1_000_000;

/** Measures the ring alone, and the whole driver with the emulated device. */
export async function benchAllocation(run: BenchRun): Promise<Section[]> {
  const warmUp = run.pick(MILLION, 500_000);
  const packets = run.pick(MILLION, 200_000);
  const objects = single("bytes", Math.round(await objectBytes(run, packets) * MILLION / packets));
  const name = "a small object a packet";
  const figures: Figure[] = [];
  for (const layout of ["split", "packed"] as const) {
    using pair = new RingPair({ ...PLAIN, layout, eventIndex: true });
    pair.turn(warmUp, BURST);
    const value = await bytesPerMillion(run, packets, () => pair.turn(packets, BURST));
    figures.push({ name: `${layout} ring, burst ${BURST}`, value, beside: [compare(value, name, objects)] });
  }
  const rates: Figure[] = [];
  await using stack = new AsyncDisposableStack();
  const pair = await pairInProcess(stack);
  for (const lengthBytes of [64, 1514]) {
    const template = pair.template(lengthBytes);
    pair.oneWay(template, warmUp);
    const value = await bytesPerMillion(run, packets, () => pair.oneWay(template, packets));
    figures.push({
      name: `VirtioNet to VirtioNet, ${lengthBytes} bytes`,
      value,
      beside: [compare(value, name, objects)],
      note: "transmit, device, switch, receive",
    });
    const target = new Uint8Array(lengthBytes);
    const works = {
      frames: () => rate(packets / 4, () => pair.oneWay(template, packets / 4)),
      "copied twice": () => rate(packets / 4, () => copyTwice(template, target, packets / 4)),
    };
    const how = { count: run.pick(7, 3), warmUps: 0 };
    rates.push(
      await beside(run, `VirtioNet to VirtioNet, ${lengthBytes} bytes`, "per second", works, how),
    );
  }
  return [{
    title: "Heap bytes allocated for a million packets, driver and device in one process",
    figures,
    notes: [
      `measured over ${packets} packets, ${HEAP_ROUNDS} times, after ${warmUp} to warm up; no collection in between`,
    ],
  }, {
    title: "Frames per second, driver and device in one process and one thread",
    figures: rates,
    notes: [
      "copied twice: what the bytes alone cost, once into the transmit buffer and once to the receiver",
    ],
  }];
}

function copyTwice(from: Uint8Array, to: Uint8Array, count: number): void {
  const between = new Uint8Array(from.length);
  for (let i = 0; i < count; i++) {
    between.set(from);
    to.set(between);
  }
}
