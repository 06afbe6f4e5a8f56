/**
 * Frames per second from VF to VF by polling, over two processes: this one drives both VFs, the other one is the device.
 *
 * @module
 */
import { type BenchRun, rate } from "./bench_run.ts";
import { FramePair, numberOf, putNumber } from "./frame_pair.ts";
import { useVfs } from "./opened_functions.ts";
import { useEmulatedHost, usePeer } from "./processes.ts";
import { beside } from "./in_turn.ts";
import type { Figure, Section } from "./report.ts";
import { SocketPair } from "./socket_pair.ts";
import { DeviceError } from "../lib/errors/mod.ts";

const SIZES = [64, 1514];
const SLOTS = 256;
/** Rounds that are not counted: both processes compile the loops. */
const WARM_UPS = 3;

/** Measures both sizes, one way and out and back. */
export async function benchFrames(run: BenchRun): Promise<Section[]> {
  await using stack = new AsyncDisposableStack();
  const emulated = await useEmulatedHost(stack, run, 2);
  const [first, second] = await useVfs(stack, emulated.directory, [POLLING, POLLING]);
  const vfs = new FramePair(first!, second!);
  const [there, back] = await usePeer(stack, "echo", 2);
  const sockets = new SocketPair(there!, back!, Math.max(...SIZES));
  const copies = new Copies(Math.max(...SIZES));
  const figures: Figure[] = [];
  const frames = run.pick(50_000, 5000);
  const how = { count: run.pick(9, 3), warmUps: WARM_UPS };
  for (const size of SIZES) {
    const template = vfs.template(size);
    const [oneWay, outAndBack] = [`${size} bytes, one way`, `${size} bytes, out and back`];
    const moved = (count: number, move: (count: number) => void) => () => rate(count, () => move(count));
    figures.push(
      await beside(run, oneWay, "per second", {
        "VF to VF": moved(frames, (count) => vfs.oneWay(template, count)),
        "socket, 32 frames a write": moved(frames, (count) => sockets.oneWay(template, count)),
        "socket, 1 frame a write": moved(frames, (count) => sockets.oneWay(template, count, 1)),
        "2 copies here": moved(8 * frames, (count) => copies.move(template, count, 1)),
      }, how),
      await beside(run, outAndBack, "per second", {
        "VF to VF": moved(frames, (count) => vfs.outAndBack(template, count)),
        "socket, 32 frames a write": moved(frames, (count) => sockets.outAndBack(template, count)),
        "4 copies here": moved(8 * frames, (count) => copies.move(template, count, 3)),
      }, how),
    );
  }
  const violations = emulated.violations();
  if (violations.length > 0) throw new DeviceError(`the devices report: ${violations.join("; ")}`);
  return [{
    title: "Frames per second, VF to VF by polling, over two processes (driver | emulated host)",
    figures,
    notes: [
      "socket: the same frames written to another process, echoed by it and read here: UNIX stream, same process layout",
      "copies here: what the bytes cost in one process; a bound, not an alternative",
      "length and number of each frame are checked; every frame is written whole",
    ],
  }];
}

const POLLING = { interrupts: "none", wait: "poll" } as const;

/** Frames written into one buffer and copied from buffer to buffer. */
class Copies {
  readonly #slots: Uint8Array<ArrayBuffer>[];

  constructor(maxFrameBytes: number) {
    const memory = new Uint8Array(SLOTS * maxFrameBytes);
    this.#slots = Array.from(
      { length: SLOTS },
      (_, i) => memory.subarray(i * maxFrameBytes, (i + 1) * maxFrameBytes),
    );
  }

  move(template: Uint8Array, count: number, copies: number): void {
    const slots = this.#slots;
    const lengthBytes = template.length;
    for (let number = 0; number < count; number++) {
      let at = (number * 4) & (SLOTS - 1);
      slots[at]!.set(template);
      putNumber(slots[at]!, 0, number);
      for (let i = 0; i < copies; i++) {
        slots[at + 1]!.set(slots[at]!.subarray(0, lengthBytes));
        at++;
      }
      if (numberOf(slots[at]!, 0) !== number) throw new DeviceError("a copy went wrong");
    }
  }
}
