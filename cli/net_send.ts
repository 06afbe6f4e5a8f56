/**
 * `ringside net send`
 *
 * @module
 */
import type { NetDevice } from "../drivers/net/api/net_device.ts";
import { type CapturedFrame, CaptureReader } from "../lib/capture/mod.ts";
import { EventLoopTurns } from "../lib/wait/event_loop_turns.ts";
import { TimeoutError, UsageError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { openNet } from "./driving.ts";
import { exitStatus, failureJson, failureText } from "./failure.ts";
import { interruption } from "./interruption.ts";
import { countText, print, printJson, rateText, remark } from "./output.ts";
import type { Of } from "./parser.ts";
import { progress } from "./progress.ts";

const PATIENCE_MS = 5000;
const BURST = 32;
/** How long a pause may last before Ctrl-C is looked at. */
const SLICE_MS = 100;

/** Sends the frames of a capture file. @returns the exit status: that of the signal which ended it early, if one did */
export async function netSend(host: Host, options: Of<"net send">): Promise<number> {
  const piped = options.capture === "-";
  if (piped && options.repeat > 1) {
    throw new UsageError("--repeat needs a file: standard input can be read once");
  }
  // Opened before the function is touched, so that a file that is no capture changes nothing.
  using first = CaptureReader.open(options.capture, options);
  // Reading a pipe blocks this thread, and a signal could not be told: it ends the process instead.
  using stop = piped ? undefined : interruption();
  await using stack = new AsyncDisposableStack();
  const net = await openNet(host, options, stack);
  const sender = new Sender(net, options.rate, piped);
  const total = options.count;
  const start = performance.now();
  let otherLinkTypes = 0;
  let broken: unknown;
  {
    using bar = await progress("sending", total, "frames", options.json);
    const turns = new EventLoopTurns();
    const done = () => stop?.signal.aborted || (total !== undefined && sender.sent >= total);
    for (let round = 0; round < options.repeat && !done(); round++) {
      using again = round === 0 ? undefined : CaptureReader.open(options.capture, options);
      const capture = again ?? first;
      for (;;) {
        let frame: CapturedFrame | undefined;
        try {
          frame = capture.next();
        } catch (error) {
          // What came before is sent, and told of, first.
          broken = error;
        }
        if (frame === undefined) break;
        await sender.send(frame, stop?.signal);
        if (done()) break;
        if (!turns.due()) continue;
        bar.update(sender.sent);
        await turns.take();
      }
      otherLinkTypes += capture.otherLinkTypes;
      if (broken !== undefined) break;
    }
    await sender.drain();
  }
  const seconds = (performance.now() - start) / 1000;
  const { sent, bytes, skipped } = sender;
  const name = net.name;
  const status = stop?.exitStatus ?? 0;
  if (options.json) {
    const statistics = net.statistics();
    const interrupted = status !== 0;
    const failure = broken === undefined ? {} : failureJson(broken, host.name);
    printJson({
      function: name,
      sent,
      bytes,
      skipped,
      otherLinkTypes,
      seconds,
      framesPerSecond: Math.round(sent / seconds),
      interrupted,
      statistics,
      ...failure,
    });
    if (broken === undefined) return status;
    remark(failureText(broken, host.name));
    return exitStatus(broken);
  }
  if (skipped > 0) {
    const left = countText(skipped, "frame");
    remark(`${left} left out: cut in the capture, or not of 14 to ${net.maxFrameBytes} bytes`);
  }
  if (otherLinkTypes > 0) {
    remark(`${countText(otherLinkTypes, "packet")} left out: not of link type Ethernet`);
  }
  const what = `${countText(sent, "frame")}, ${countText(bytes, "byte")}`;
  const end = broken !== undefined
    ? ", then the capture broke off"
    : status === 0
    ? ""
    : ", then interrupted";
  print(`${name}: ${what} sent in ${seconds.toFixed(2)} s${rateText(sent, seconds)}${end}`);
  if (broken !== undefined) throw broken;
  return status;
}

class Sender {
  sent = 0;
  bytes = 0;
  skipped = 0;
  readonly #net: NetDevice;
  readonly #interval: number;
  readonly #atOnce: boolean;
  #next = performance.now();

  /** @param rate frames a second at most @param atOnce a frame does not wait for others: nobody knows when the next one comes */
  constructor(net: NetDevice, rate: number | undefined, atOnce: boolean) {
    this.#net = net;
    this.#interval = rate === undefined ? 0 : 1000 / rate;
    this.#atOnce = atOnce || rate !== undefined;
  }

  /** Queues a frame, when its time has come. */
  async send(frame: CapturedFrame, signal: AbortSignal | undefined): Promise<void> {
    const tx = this.#net.tx[0]!;
    const { bytes } = frame;
    if (bytes.length < frame.originalLength || bytes.length > this.#net.maxFrameBytes || bytes.length < 14) {
      this.skipped++;
      return;
    }
    if (this.#interval > 0) await this.#pace(signal);
    if (signal?.aborted) return;
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
    if (this.#atOnce || this.sent % BURST === 0) tx.flush();
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

  async #pace(signal: AbortSignal | undefined): Promise<void> {
    while (!signal?.aborted) {
      const wait = this.#next - performance.now();
      if (wait < 1) break;
      await new Promise((resolve) => setTimeout(resolve, Math.min(wait, SLICE_MS)));
    }
    this.#next = Math.max(this.#next + this.#interval, performance.now() - 100);
  }

  #stuck(): TimeoutError {
    const { name } = this.#net;
    return new TimeoutError(
      `${name}: the device took no frame for ${PATIENCE_MS / 1000} s (${this.sent} queued)`,
      { hint: "is its link up, and does somebody receive?" },
    );
  }
}
