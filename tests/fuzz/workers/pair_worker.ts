/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/** A Worker with one queue pair: sends every frame back where it came from, until it is told to stop, or the pair is taken back. */
import { FrameBurst, type LentNetPair, NetPair } from "../../../drivers/net/virtio_net.ts";

/** What it is sent. */
export interface PairTask {
  readonly lent: LentNetPair;
  readonly mode: "poll" | "eventfd" | "adaptive";
  /** 0: go on; 1: close the pair; 2: stand still with the pair open; 3: throw; 4: touch the pair's memory without a look at anything else. */
  readonly order: Int32Array;
}

/** What it says: that it has begun, and how it ended. */
export interface PairReport {
  readonly began?: true;
  readonly echoed?: number;
  /** Name and message of what ended it. */
  readonly error?: string;
  /** Stores into the pair's memory after `order` became 4. */
  readonly touched?: number;
}

function echo({ lent, mode, order }: PairTask): PairReport {
  using pair = NetPair.open(lent, { mode });
  self.postMessage({ began: true } satisfies PairReport);
  const burst = new FrameBurst(32);
  const { rx, tx } = pair;
  let echoed = 0;
  try {
    for (;;) {
      const now = Atomics.load(order, 0);
      if (now === 1) return { echoed };
      if (now === 2) { for (;;) Atomics.wait(order, 0, 2); }
      if (now === 3) throw new Error("told to die");
      if (now === 4) return { echoed, touched: touch(pair, order) };
      const frames = rx.receiveBurst(burst);
      if (frames === 0) {
        pair.waitReceiveBlocking(20);
        continue;
      }
      for (let i = 0; i < frames; i++) {
        let slot = tx.reserve();
        while (slot < 0) {
          pair.waitTransmitBlocking(20);
          slot = tx.reserve();
        }
        const frame = tx.frame(slot);
        const length = rx.copyFrame(burst, i, frame);
        const from = frame.slice(6, 12);
        frame.copyWithin(6, 0, 6);
        frame.set(from);
        tx.send(slot, length);
        echoed++;
      }
      rx.recycle(burst);
      tx.flush();
    }
  } catch (error) {
    if (Atomics.load(order, 0) === 3) throw error;
    return { echoed, error: `${(error as Error).name}: ${(error as Error).message}` };
  }
}

/** Stores and loads through views of the pair for as long as `order` is 4. */
function touch({ rx, tx }: NetPair, order: Int32Array): number {
  const slot = tx.reserve();
  const frame = tx.frame(slot);
  let touched = 0;
  while (Atomics.load(order, 0) === 4) {
    for (const view of rx.views) view[0] = touched;
    frame.fill(touched);
    if (frame[0] !== (touched & 0xff) || rx.views.some((view) => view[0] !== (touched & 0xff))) {
      throw new Error("what was stored is not there");
    }
    touched++;
    Atomics.store(order, 1, touched);
  }
  return touched;
}

self.onmessage = ({ data }: MessageEvent<PairTask>) => {
  const report = echo(data);
  self.postMessage(report);
};
