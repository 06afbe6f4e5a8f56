/**
 * Sends numbered frames from one network function to another and checks every byte that arrives.
 *
 * @module
 */
import { FrameBurst, type VirtioNet } from "../virtio_net.ts";
import { DeviceError, TimeoutError } from "../../../lib/errors/mod.ts";
import { EventLoopTurns } from "../../../lib/wait/event_loop_turns.ts";
import type { FrameStream } from "./test_frames.ts";

const BURST = 32;
/** Frames on their way at once, below what any receive queue holds: no device has a reason to drop one. */
const WINDOW = 96;
const PATIENCE_MS = 15_000;

/** What an exchange found. */
export interface ExchangeResult {
  readonly frames: number;
  readonly bytes: number;
  readonly milliseconds: number;
  /** Frames of others that arrived on the receiving function. */
  readonly foreign: number;
}

/** How to exchange. */
export interface ExchangeOptions {
  /** Told how many frames have arrived. */
  readonly onProgress?: (done: number) => void;
  /** Ends it, with its reason as the error. */
  readonly signal?: AbortSignal;
}

/** By polling: this thread sends, receives and checks in turn. @throws DeviceError for a wrong byte or order, TimeoutError */
export async function exchangePolled(
  from: VirtioNet,
  to: VirtioNet,
  frames: FrameStream,
  count: number,
  options: ExchangeOptions = {},
): Promise<ExchangeResult> {
  const tx = from.tx[0]!;
  const rx = to.rx[0]!;
  const burst = new FrameBurst(BURST);
  const check = new Checker(to, frames);
  const turns = new EventLoopTurns();
  const window = Math.min(WINDOW, to.rx[0]!.views.length >> 1 || 1);
  const start = performance.now();
  let sent = 0;
  let quietSince = start;
  rx.suppressInterrupts();
  tx.suppressInterrupts();
  while (check.frames < count) {
    let queued = 0;
    while (queued < BURST && sent < count && sent - check.frames < window) {
      const slot = tx.reserve();
      if (slot < 0) break;
      tx.send(slot, frames.fill(sent, tx.frame(slot)));
      sent++;
      queued++;
    }
    if (queued > 0) tx.flush();
    if (rx.receiveBurst(burst) > 0) {
      check.burst(burst);
      rx.recycle(burst);
      quietSince = performance.now();
      options.onProgress?.(check.frames);
    } else if (performance.now() - quietSince > PATIENCE_MS) {
      throw stalled(from, to, sent, check.frames, count);
    }
    if (turns.due()) await turns.take(options.signal);
  }
  return check.result(start);
}

/**
 * By interrupt: each frame is sent when the one before has arrived, and the receiver sleeps before it is sent, so that each takes an
 * interrupt to arrive. @throws DeviceError, TimeoutError
 */
export async function exchangeByInterrupt(
  from: VirtioNet,
  to: VirtioNet,
  frames: FrameStream,
  count: number,
  options: ExchangeOptions = {},
): Promise<ExchangeResult> {
  const tx = from.tx[0]!;
  const rx = to.rx[0]!;
  const burst = new FrameBurst(BURST);
  const check = new Checker(to, frames);
  const turns = new EventLoopTurns();
  const start = performance.now();
  for (let number = 0; number < count; number++) {
    let slot = tx.reserve();
    while (slot < 0) {
      if (!(await from.waitTransmit(PATIENCE_MS))) throw stalled(from, to, number, check.frames, count);
      slot = tx.reserve();
    }
    tx.send(slot, frames.fill(number, tx.frame(slot)));
    let arrival = to.waitReceive(PATIENCE_MS);
    tx.flush();
    for (;;) {
      if (!(await arrival)) throw stalled(from, to, number + 1, check.frames, count);
      if (rx.receiveBurst(burst) > 0) {
        check.burst(burst);
        rx.recycle(burst);
      }
      if (check.frames > number) break;
      arrival = to.waitReceive(PATIENCE_MS);
    }
    options.onProgress?.(check.frames);
    if (turns.due()) await turns.take(options.signal);
  }
  return check.result(start);
}

/** Compares what arrives, in order, with what was sent. */
class Checker {
  frames = 0;
  bytes = 0;
  foreign = 0;
  readonly #to: VirtioNet;
  readonly #expected: FrameStream;
  readonly #scratch = new Uint8Array(65536);

  constructor(to: VirtioNet, expected: FrameStream) {
    this.#to = to;
    this.#expected = expected;
  }

  burst(burst: FrameBurst): void {
    const rx = this.#to.rx[0]!;
    for (let frame = 0; frame < burst.frames; frame++) {
      const first = burst.first[frame]!;
      if (burst.first[frame + 1]! - first === 1) {
        this.#one(rx.views[burst.slots[first]!]!, burst.offsets[first]!, burst.lengths[first]!);
      } else {
        this.#one(this.#scratch, 0, rx.copyFrame(burst, frame, this.#scratch));
      }
    }
  }

  #one(bytes: Uint8Array, offset: number, length: number): void {
    if (!this.#expected.isOurs(bytes, offset, length)) {
      this.foreign++;
      return;
    }
    const wrong = this.#expected.mismatch(this.frames, bytes, offset, length);
    if (wrong >= 0) {
      throw new DeviceError(
        `frame ${this.frames} is wrong from byte ${wrong} on (${length} bytes arrived, ${
          this.#expected.lengthOf(this.frames)
        } were sent)`,
        { function: this.#to.transport.name, queue: this.#to.rx[0]!.index },
      );
    }
    this.frames++;
    this.bytes += length;
  }

  result(start: number): ExchangeResult {
    const { frames, bytes, foreign } = this;
    return { frames, bytes, foreign, milliseconds: performance.now() - start };
  }
}

function stalled(
  from: VirtioNet,
  to: VirtioNet,
  sent: number,
  received: number,
  count: number,
): TimeoutError {
  return new TimeoutError(
    `${from.transport.name} to ${to.transport.name}: nothing arrived for ${
      PATIENCE_MS / 1000
    } s, with ${sent} of ${count} frames sent and ${received} received`,
    { hint: "is there a path between the two (same switch, link up, MAC filters)?" },
  );
}
