/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/**
 * What each Worker of `forwarder.ts` does with a queue pair of either function.
 *
 * @module
 */
import { FrameBurst, type LentNetPair, NetPair } from "@ringside/ringside/drivers/virtio-net";
import { anyOf, Waiter } from "@ringside/ringside/wait";

/** What the Worker is started with. */
interface Task {
  readonly stop: Int32Array;
  readonly one: LentNetPair;
  readonly other: LentNetPair;
}

const BURST = 32;
/** How often somebody who sleeps looks whether it is to end. */
const LOOK_MS = 50;
/** How long sent frames may take to leave when it ends. */
const PATIENCE_MS = 2000;

/** From one pair to the other. */
class Direction {
  readonly #from: NetPair;
  readonly #to: NetPair;
  readonly #burst = new FrameBurst(BURST);
  /** Slots to send from, reserved beforehand: no frame is taken that cannot be sent. */
  readonly #slots = new Uint16Array(BURST);
  readonly #lengths = new Uint32Array(BURST);
  #reserved = 0;

  constructor(from: NetPair, to: NetPair) {
    this.#from = from;
    this.#to = to;
  }

  /** What it waits for: frames, or where there is nothing to send them from, slots. */
  get target(): NetPair["rx"] | NetPair["tx"] {
    return this.#ready() ? this.#from.rx : this.#to.tx;
  }

  /** Forwards what is there. @returns frames */
  turn(): number {
    if (!this.#ready()) return 0;
    const { rx } = this.#from, { tx } = this.#to;
    const burst = this.#burst, slots = this.#slots, lengths = this.#lengths;
    const frames = rx.receiveBurst(burst);
    if (frames === 0) return 0;
    for (let i = 0; i < frames; i++) lengths[i] = rx.copyFrame(burst, i, tx.frame(slots[i]!));
    rx.recycle(burst);
    tx.transmitBurst(slots, lengths, frames);
    slots.copyWithin(0, frames, this.#reserved);
    this.#reserved -= frames;
    return frames;
  }

  /** Waits until the device has sent all. @returns false when it does not */
  drain(): boolean {
    const { tx } = this.#to;
    for (let at = 0; at < this.#reserved; at++) tx.cancel(this.#slots[at]!);
    this.#reserved = 0;
    const until = performance.now() + PATIENCE_MS;
    while (tx.reclaim() > 0 || tx.freeSlots < tx.slotCount) {
      if (performance.now() > until || !this.#to.waitTransmitBlocking(LOOK_MS)) return false;
    }
    return true;
  }

  #ready(): boolean {
    const { tx } = this.#to;
    while (this.#reserved < BURST) {
      const slot = tx.reserve();
      if (slot < 0) return false;
      this.#slots[this.#reserved++] = slot;
    }
    return true;
  }
}

function forward({ stop, one: lentOne, other: lentOther }: Task): void {
  using waiter = new Waiter({ mode: "adaptive" });
  using one = NetPair.open(lentOne, { waiter });
  using other = NetPair.open(lentOther, { waiter });
  const [there, back] = [new Direction(one, other), new Direction(other, one)];
  self.postMessage("begun");
  while (Atomics.load(stop, 0) === 0) {
    if (there.turn() + back.turn() > 0) continue;
    waiter.waitBlocking(anyOf([there.target, back.target]), LOOK_MS);
  }
  while (there.turn() + back.turn() > 0);
  there.drain();
  back.drain();
}

self.onmessage = ({ data }: MessageEvent<Task>) => {
  forward(data);
  self.postMessage("ended");
  self.close();
};
