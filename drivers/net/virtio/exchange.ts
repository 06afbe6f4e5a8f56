/**
 * Sends numbered frames from one network function to another and checks every byte that arrives.
 *
 * ```ts
 * import { exchangePolled, TestFrames } from "@ringside/ringside/drivers/virtio-net-exchange";
 *
 * const frames = new TestFrames(receiver.mac, sender.mac, 64, 1514); // two opened `VirtioNet`
 * const { milliseconds } = await exchangePolled(sender, receiver, frames, 100_000);
 * ```
 *
 * @module
 */
import { FrameBurst, type VirtioNet } from "../virtio_net.ts";
import { requireType, typedErrors } from "../../../lib/errors/doors.ts";
import { DeviceError, TimeoutError } from "../../../lib/errors/mod.ts";
import { EventLoopTurns } from "../../../lib/wait/event_loop_turns.ts";
import type { FrameStream } from "./test_frames.ts";

export { type FrameStream, TestFrames } from "./test_frames.ts";

const BURST = 32;
/** Frames on their way at once, below what any receive queue holds: no device has a reason to drop one. */
const WINDOW = 96;
const PATIENCE_MS = 15_000;

/** What an exchange found. */
export interface ExchangeResult {
  /** Frames that arrived. */
  readonly frames: number;
  /** Their bytes, Ethernet headers included. */
  readonly bytes: number;
  /** From the first frame's sending on. */
  readonly milliseconds: number;
  /** Over that time, rounded. */
  readonly framesPerSecond: number;
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
  const check = new FrameCheck(frames);
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
      queueFrame(tx, slot, frames, sent);
      sent++;
      queued++;
    }
    if (queued > 0) tx.flush();
    if (check.take(to) > 0) {
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
  const check = new FrameCheck(frames);
  const turns = new EventLoopTurns();
  const start = performance.now();
  for (let number = 0; number < count; number++) {
    let slot = tx.reserve();
    while (slot < 0) {
      if (!(await from.waitTransmit(PATIENCE_MS))) throw stalled(from, to, number, check.frames, count);
      slot = tx.reserve();
    }
    queueFrame(tx, slot, frames, number);
    let arrival = to.waitReceive(PATIENCE_MS);
    // Where sending fails nobody waits for it any more.
    arrival.catch(() => {});
    tx.flush();
    for (;;) {
      if (!(await arrival)) throw stalled(from, to, number + 1, check.frames, count);
      check.take(to);
      if (check.frames > number) break;
      arrival = to.waitReceive(PATIENCE_MS);
    }
    options.onProgress?.(check.frames);
    if (turns.due()) await turns.take(options.signal);
  }
  return check.result(start);
}

/** A frame that cannot be made or sent leaves its slot free. */
function queueFrame(tx: VirtioNet["tx"][number], slot: number, frames: FrameStream, number: number): void {
  try {
    tx.send(slot, frames.fill(number, tx.frame(slot)));
  } catch (error) {
    tx.cancel(slot);
    throw error;
  }
}

/** The receiving end: every frame once, in order, byte for byte. */
export class FrameCheck {
  static {
    typedErrors(this);
  }

  /** Frames that were right. */
  frames = 0;
  /** Their bytes. */
  bytes = 0;
  /** Frames of others. */
  foreign = 0;
  readonly #expected: FrameStream;
  readonly #burst: FrameBurst = new FrameBurst(BURST);
  readonly #scratch = new Uint8Array(65536);

  /** Of a stream from its first frame on. */
  constructor(expected: FrameStream) {
    requireType(expected, "object", "FrameCheck: expected", "isOurs", "mismatch");
    this.#expected = expected;
  }

  /**
   * Takes a burst from the first receive queue, looks at all of it, and gives its buffers back.
   * @returns how many frames there were @throws DeviceError for a frame that is lost, doubled, changed or out of order
   */
  take(net: VirtioNet): number {
    const rx = net.rx[0]!, burst = this.#burst;
    const got = rx.receiveBurst(burst);
    if (got === 0) return 0;
    for (let frame = 0; frame < got; frame++) {
      const first = burst.first[frame]!;
      if (burst.first[frame + 1]! - first === 1) {
        this.#one(net, rx.views[burst.slots[first]!]!, burst.offsets[first]!, burst.lengths[first]!);
      } else {
        this.#one(net, this.#scratch, 0, rx.copyFrame(burst, frame, this.#scratch));
      }
    }
    rx.recycle(burst);
    return got;
  }

  #one(net: VirtioNet, bytes: Uint8Array, offset: number, length: number): void {
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
        { function: net.transport.name, queue: net.rx[0]!.index },
      );
    }
    this.frames++;
    this.bytes += length;
  }

  /** What came of it since `start`, by `performance.now()`. */
  result(start: number): ExchangeResult {
    const { frames, bytes, foreign } = this;
    const milliseconds = performance.now() - start;
    return {
      frames,
      bytes,
      foreign,
      milliseconds,
      framesPerSecond: Math.round(1000 * frames / milliseconds),
    };
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
