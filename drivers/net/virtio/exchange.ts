/**
 * Sends numbered frames from one network function to another and checks every byte that arrives.
 *
 * ```ts
 * import { exchangePolled, TestFrames } from "@ringside/ringside/drivers/virtio-net-exchange";
 *
 * const frames = new TestFrames(receiver.mac, sender.mac, 64, 1514); // two opened devices
 * const { milliseconds } = await exchangePolled(sender, receiver, frames, 100_000);
 * ```
 *
 * @module
 */
import { FrameBurst } from "../api/frame_burst.ts";
import type { NetDevice, NetReceiveQueue, NetTransmitQueue } from "../api/net_device.ts";
import { requireType, typedErrors } from "../../../lib/errors/doors.ts";
import { DeviceError, TimeoutError } from "../../../lib/errors/mod.ts";
import { EventLoopTurns } from "../../../lib/wait/event_loop_turns.ts";
import { NET_HDR_BYTES } from "../../../lib/virtio/spec/net.ts";
import { FrameMemory, type FrameStream } from "./test_frames.ts";

export type { NetDevice, NetReceiveQueue, NetTransmitQueue } from "../api/net_device.ts";
export { FrameMemory, type FrameStream, TestFrames } from "./test_frames.ts";

const BURST = 32;
/** Frames on their way at once, below what any receive queue holds: no device has a reason to drop one. */
const WINDOW = 128;
const PATIENCE_MS = 15_000;
/** Where a frame that is put together begins: behind as many bytes as one with a virtio header does. */
const SCRATCH_AT = NET_HDR_BYTES;

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
  from: NetDevice,
  to: NetDevice,
  frames: FrameStream,
  count: number,
  options: ExchangeOptions = {},
): Promise<ExchangeResult> {
  const tx = from.tx[0]!;
  const rx = to.rx[0]!;
  const sender = new FrameSender(frames, tx);
  const check = new FrameCheck(frames);
  const turns = new EventLoopTurns();
  const window = Math.min(WINDOW, rx.views.length >> 1 || 1);
  const start = performance.now();
  let sent = 0;
  let quietSince = start;
  rx.suppressInterrupts();
  tx.suppressInterrupts();
  while (check.frames < count) {
    // Whole bursts: what a few frames cost at once, most of it is for the burst.
    const room = window - (sent - check.frames), burst = Math.min(BURST, window, count - sent);
    if (burst > 0 && room >= burst) sent += sender.send(sent, burst);
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
  from: NetDevice,
  to: NetDevice,
  frames: FrameStream,
  count: number,
  options: ExchangeOptions = {},
): Promise<ExchangeResult> {
  const sender = new FrameSender(frames, from.tx[0]!);
  const check = new FrameCheck(frames);
  const turns = new EventLoopTurns();
  const start = performance.now();
  for (let number = 0; number < count; number++) {
    while (!sender.ready()) {
      if (!(await from.waitTransmit(PATIENCE_MS))) throw stalled(from, to, number, check.frames, count);
    }
    let arrival = to.waitReceive(PATIENCE_MS);
    // Where sending fails nobody waits for it any more.
    arrival.catch(() => {});
    sender.send(number, 1);
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

/** The sending end: bursts of frames that follow each other. */
class FrameSender {
  readonly #frames: FrameStream;
  readonly #tx: NetTransmitQueue;
  readonly #slots = new Uint16Array(BURST);
  readonly #lengths = new Uint32Array(BURST);
  /** By slot. */
  readonly #memories: FrameMemory[] = [];

  constructor(frames: FrameStream, tx: NetTransmitQueue) {
    this.#frames = frames;
    this.#tx = tx;
  }

  /** Whether there is a slot now. */
  ready(): boolean {
    return this.#tx.freeSlots > 0 || this.#tx.reclaim() > 0;
  }

  /** Sends frames from `first` on, up to `count` and as many as there are slots for. One that cannot be made or sent leaves all slots free. @returns how many */
  send(first: number, count: number): number {
    const frames = this.#frames, tx = this.#tx, slots = this.#slots, lengths = this.#lengths;
    const memories = this.#memories;
    const taken = tx.reserveBurst(slots, count);
    try {
      for (let at = 0; at < taken; at++) {
        const slot = slots[at]!;
        const into = tx.frame(slot);
        const length = frames.fill(first + at, into, memories[slot] ??= new FrameMemory(into));
        tx.checkLength(length);
        lengths[at] = length;
      }
    } catch (error) {
      for (let at = 0; at < taken; at++) tx.cancel(slots[at]!);
      throw error;
    }
    return taken === 0 ? 0 : tx.transmitBurst(slots, lengths, taken);
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
  /** For frames in several buffers. */
  readonly #scratch = new FrameMemory(new Uint8Array(SCRATCH_AT + 65536));
  readonly #scratchFrame: Uint8Array<ArrayBuffer> = this.#scratch.bytes.subarray(SCRATCH_AT);
  /** Of the queue that was looked at last: the memory of all its slots, and where in it each begins. */
  #memory: FrameMemory | null = null;
  #places: readonly number[] = [];
  #memoryOf: NetReceiveQueue | null = null;

  /** Of a stream from its first frame on. */
  constructor(expected: FrameStream) {
    requireType(expected, "object", "FrameCheck: expected", "isOurs", "mismatch");
    this.#expected = expected;
  }

  /**
   * Takes a burst from the first receive queue, looks at all of it, and gives its buffers back.
   * @returns how many frames there were @throws DeviceError for a frame that is lost, doubled, changed or out of order
   */
  take(net: NetDevice): number {
    const rx = net.rx[0]!, burst = this.#burst;
    const got = rx.receiveBurst(burst);
    if (got === 0) return 0;
    const memory = this.#memoryOf === rx ? this.#memory! : this.#look(rx);
    const { first, slots, offsets, lengths } = burst;
    const places = this.#places;
    for (let frame = 0; frame < got; frame++) {
      const part = first[frame]!;
      if (first[frame + 1]! - part === 1) {
        this.#one(net, memory, places[slots[part]!]! + offsets[part]!, lengths[part]!);
      } else {
        const length = rx.copyFrame(burst, frame, this.#scratchFrame);
        this.#one(net, this.#scratch, SCRATCH_AT, length);
      }
    }
    rx.recycle(burst);
    return got;
  }

  #look(rx: NetReceiveQueue): FrameMemory {
    const memory = new FrameMemory(new Uint8Array(rx.views[0]!.buffer));
    this.#places = rx.views.map(({ byteOffset }) => byteOffset);
    this.#memoryOf = rx;
    return this.#memory = memory;
  }

  #one(net: NetDevice, memory: FrameMemory, offset: number, length: number): void {
    const { bytes } = memory;
    if (!this.#expected.isOurs(bytes, offset, length)) {
      this.foreign++;
      return;
    }
    const wrong = this.#expected.mismatch(this.frames, bytes, offset, length, memory);
    if (wrong >= 0) this.#differs(net, wrong, length);
    this.frames++;
    this.bytes += length;
  }

  #differs(net: NetDevice, at: number, length: number): never {
    throw new DeviceError(
      `frame ${this.frames} is wrong from byte ${at} on (${length} bytes arrived, ${
        this.#expected.lengthOf(this.frames)
      } were sent)`,
      { function: net.name, queue: net.rx[0]!.index },
    );
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
  from: NetDevice,
  to: NetDevice,
  sent: number,
  received: number,
  count: number,
): TimeoutError {
  return new TimeoutError(
    `${from.name} to ${to.name}: nothing arrived for ${
      PATIENCE_MS / 1000
    } s, with ${sent} of ${count} frames sent and ${received} received`,
    { hint: "is there a path between the two (same switch, link up, MAC filters)?" },
  );
}
