/**
 * `ringside net send`
 *
 * @module
 */
import type { VirtioNet } from "../drivers/virtio_net.ts";
import { type CapturedFrame, CaptureReader } from "../lib/capture/mod.ts";
import { TimeoutError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { interruption, openNet } from "./driving.ts";
import { print, printJson, progress, remark } from "./output.ts";
import type { Of } from "./parser.ts";

const PATIENCE_MS = 5000;
const BURST = 32;

/** Sends the frames of a capture file. */
export async function netSend(host: Host, options: Of<"net send">): Promise<void> {
  // Read before the function is touched, so that a file that is no capture changes nothing.
  CaptureReader.open(options.capture)[Symbol.dispose]();
  await using stack = new AsyncDisposableStack();
  const net = await openNet(host, options.function, options, stack);
  using stop = interruption();
  using bar = progress("sending", options.count ?? 0, "frames", options.json || options.count === undefined);
  const sender = new Sender(net, options.rate, () => stop.raised, (sent) => bar.update(sent));
  const start = performance.now();
  for (let round = 0; round < options.repeat && !sender.done(options.count); round++) {
    using reader = CaptureReader.open(options.capture);
    for (const frame of reader) {
      await sender.send(frame);
      if (sender.done(options.count)) break;
    }
  }
  await sender.drain();
  const seconds = (performance.now() - start) / 1000;
  const { sent, bytes, skipped } = sender;
  if (options.json) {
    printJson({ function: net.transport.name, sent, bytes, skipped, seconds, statistics: net.statistics() });
    return;
  }
  if (skipped > 0) {
    remark(
      `${skipped} frames left out: cut in the capture, or longer than the ${net.maxFrameBytes} bytes that fit`,
    );
  }
  print(`${net.transport.name}: ${sent} frames, ${bytes} bytes sent in ${seconds.toFixed(2)} s`);
}

class Sender {
  sent = 0;
  bytes = 0;
  skipped = 0;
  readonly #net: VirtioNet;
  readonly #interval: number;
  readonly #stopped: () => boolean;
  readonly #onProgress: (sent: number) => void;
  #next = performance.now();

  constructor(
    net: VirtioNet,
    rate: number | undefined,
    stopped: () => boolean,
    onProgress: (n: number) => void,
  ) {
    this.#net = net;
    this.#interval = rate === undefined ? 0 : 1000 / rate;
    this.#stopped = stopped;
    this.#onProgress = onProgress;
  }

  done(count: number | undefined): boolean {
    return this.#stopped() || (count !== undefined && this.sent >= count);
  }

  async send(frame: CapturedFrame): Promise<void> {
    const tx = this.#net.tx[0]!;
    const { bytes } = frame;
    if (bytes.length < frame.originalLength || bytes.length > this.#net.maxFrameBytes || bytes.length < 14) {
      this.skipped++;
      return;
    }
    if (this.#interval > 0) await this.#pace();
    let slot = tx.reserve();
    while (slot < 0) {
      tx.flush();
      if (!(await this.#net.waitTransmit(PATIENCE_MS))) throw this.#stuck();
      slot = tx.reserve();
    }
    tx.frame(slot).set(bytes);
    tx.send(slot, bytes.length);
    this.sent++;
    this.bytes += bytes.length;
    if (this.#interval > 0 || this.sent % BURST === 0) {
      tx.flush();
      this.#onProgress(this.sent);
      // Signals are told by the event loop.
      if (this.sent % 1024 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }

  /** Waits until the device has taken everything: closing would drop the rest. */
  async drain(): Promise<void> {
    const tx = this.#net.tx[0]!;
    tx.flush();
    tx.reclaim();
    while (tx.freeSlots < tx.slotCount) {
      if (!(await this.#net.waitTransmit(PATIENCE_MS))) throw this.#stuck();
      tx.reclaim();
    }
  }

  async #pace(): Promise<void> {
    const wait = this.#next - performance.now();
    if (wait >= 1) await new Promise((resolve) => setTimeout(resolve, wait));
    this.#next = Math.max(this.#next + this.#interval, performance.now() - 100);
  }

  #stuck(): TimeoutError {
    return new TimeoutError(
      `${this.#net.transport.name}: the device took no frame for ${
        PATIENCE_MS / 1000
      } s (${this.sent} queued)`,
      { hint: "is its link up, and does somebody receive?" },
    );
  }
}
