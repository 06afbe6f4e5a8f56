/**
 * A queue pair that a Worker drives: what its owner hands out, and what the Worker makes of it.
 *
 * @module
 */
import { Parcel, type PassedFd, takeEventFd } from "../../../ffi/mod.ts";
import { isOfType, requireType, typedErrors } from "../../../lib/errors/doors.ts";
import { UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import { borrowQueue } from "../../../lib/virtio/queue/borrow.ts";
import { BufferPool, type LentPool } from "../../../lib/virtio/queue/buffer_pool.ts";
import type { LentQueue } from "../../../lib/virtio/queue/virtqueue.ts";
import type { InterruptVector } from "../../../lib/wait/interrupt_vector.ts";
import { Borrowing, Lease, type LentLease } from "../../../lib/wait/lease.ts";
import { Waiter, type WaiterOptions } from "../../../lib/wait/waiter.ts";
import { byName, counters } from "../../counters.ts";
import type { NetFraming } from "./framing.ts";
import { ReceiveQueue } from "./receive.ts";
import { COUNT, type QueueStatistics } from "../api/statistics.ts";
import { TransmitQueue } from "./transmit.ts";

/** One direction of a pair. */
export interface LentDirection {
  readonly queue: LentQueue;
  readonly pool: LentPool;
  /** Signalled by its interrupt; null without one of its own. */
  readonly vector: PassedFd | null;
  /** Where its counters are, for both sides. */
  readonly counts: SharedArrayBuffer;
}

/** A queue pair on its way to a Worker: plain data with addresses of this process, for `postMessage`, and for `NetPair.open` there. */
export interface LentNetPair {
  /** What it is. */
  readonly kind: "virtio-net pair";
  /** Number of the pair. */
  readonly pair: number;
  /** The function's address. */
  readonly mac: Uint8Array<ArrayBuffer>;
}

/** All of it. */
export interface LentNetPairParts extends LentNetPair {
  /** Who has it. */
  readonly lease: LentLease;
  /** How frames lie in buffers. */
  readonly framing: NetFraming;
  /** Receive buffers that go to the device. */
  readonly receiveSlots: number;
  /** Longest frame to send. */
  readonly maxFrameBytes: number;
  readonly receive: LentDirection;
  readonly transmit: LentDirection;
}

/** What a pair that can be lent is made of. */
export interface LendableParts {
  /** Function, for messages. */
  readonly name: string;
  readonly pair: number;
  readonly framing: NetFraming;
  readonly receiveSlots: number;
  readonly maxFrameBytes: number;
  readonly receive: BufferPool;
  readonly transmit: BufferPool;
  /** Of a queue, where it is that queue's alone. */
  vector(queue: number): InterruptVector | undefined;
}

/** The owner's side of a pair: set up, and used by nobody here. */
export class LendablePair implements Disposable {
  /** What whoever has it received, and sent: `COUNT` places. */
  readonly receiveCounts: Float64Array<SharedArrayBuffer> = sharedCounters();
  readonly transmitCounts: Float64Array<SharedArrayBuffer> = sharedCounters();
  readonly #parts: LendableParts;
  #lease: Lease | null = null;
  #over = false;

  constructor(parts: LendableParts) {
    this.#parts = parts;
  }

  /** Once. @throws UsageError (it was lent before), UnsupportedError, SyscallError */
  lend(mac: Uint8Array<ArrayBuffer>): LentNetPairParts {
    const { name, pair, framing, receiveSlots, maxFrameBytes, receive, transmit } = this.#parts;
    const what = `queue pair ${pair} of ${name}`;
    if (this.#lease !== null || this.#over) {
      throw new UsageError(`${what} was lent before`, { hint: "after reset() it can be lent again" });
    }
    const parcel = new Parcel();
    try {
      const direction = (pool: BufferPool, counts: Float64Array<SharedArrayBuffer>): LentDirection => {
        const vector = this.#parts.vector(pool.queue.index);
        return {
          queue: pool.queue.lend(parcel),
          pool: pool.lend(parcel),
          vector: vector === undefined ? null : parcel.addFd(vector.eventFd.fd),
          counts: counts.buffer,
        };
      };
      const directions = {
        receive: direction(receive, this.receiveCounts),
        transmit: direction(transmit, this.transmitCounts),
      };
      this.#lease = new Lease(what, parcel);
      const { lent: lease } = this.#lease;
      return {
        kind: "virtio-net pair",
        pair,
        mac: mac.slice(),
        lease,
        framing,
        receiveSlots,
        maxFrameBytes,
        ...directions,
      };
    } catch (error) {
      parcel.reclaim();
      throw error;
    }
  }

  /** Takes it back: whoever has it is told. May be called again. */
  [Symbol.dispose](): void {
    this.#over = true;
    this.#lease?.[Symbol.dispose]();
    this.#lease = null;
  }
}

/** How a pair is waited for. */
export interface NetPairOptions extends WaiterOptions {
  /** One that waits for other pairs, too; the caller's. It is lost for all of them when one is taken back. Default: one of its own, `adaptive` or `poll`. */
  readonly waiter?: Waiter;
}

/**
 * A queue pair in the Worker that it was posted to. Its memory is the function's own, mapped here once more: nothing is copied.
 *
 * The device stays its opener's, who looks after it (`VirtioNet.service`), resets it and closes it. From when the opener resets or closes it, waits and
 * notifications here end with `ClosedError`, and so do queues that are found empty again and again; what is mapped here stays so until `close`.
 *
 * ```ts
 * import { FrameBurst, NetPair } from "@ringside/ringside/drivers/virtio-net";
 *
 * self.onmessage = ({ data }) => {
 *   using pair = NetPair.open(data); // of `VirtioNet.lend`
 *   const burst = new FrameBurst(32);
 *   while (pair.waitReceiveBlocking(1000)) {
 *     pair.rx.receiveBurst(burst);
 *     pair.rx.recycle(burst);
 *   }
 * };
 * ```
 */
export class NetPair implements Disposable {
  static {
    typedErrors(this);
  }

  /** Number of the pair. */
  readonly pair: number;
  /** The function's address. */
  readonly mac: Uint8Array<ArrayBuffer>;
  /** The receive queue. Its buffers are the device's from the opening on. */
  readonly rx: ReceiveQueue;
  /** The transmit queue. */
  readonly tx: TransmitQueue;
  readonly #borrowing: Borrowing;
  readonly #waiter: Waiter;
  readonly #owned: DisposableStack;
  readonly #counts: { readonly receive: Float64Array; readonly transmit: Float64Array };

  /**
   * Takes a pair over that a message brought, and gives its receive buffers to the device.
   * @throws UsageError (no such pair, or another Worker has it), ClosedError (its owner took it back), SyscallError
   */
  static open(lent: LentNetPair, options: NetPairOptions = {}): NetPair {
    requireType(options, "object", "NetPair.open: options");
    if (!isOfType(lent, "object", ["lease"]) || lent.kind !== "virtio-net pair") {
      throw new UsageError(`NetPair.open: ${shown(lent)} is no queue pair`, {
        hint: "it takes what VirtioNet.lend gave, as a message brings it",
      });
    }
    return new NetPair(lent as LentNetPairParts, options);
  }

  private constructor(lent: LentNetPairParts, options: NetPairOptions) {
    const { receive, transmit, framing } = lent;
    using owned = new DisposableStack();
    // First: what cannot be taken must not be touched.
    const borrowing = this.#borrowing = new Borrowing(lent.lease);
    try {
      this.#counts = {
        receive: new Float64Array(receive.counts),
        transmit: new Float64Array(transmit.counts),
      };
      const pool = (direction: LentDirection) => {
        const queue = borrowQueue(direction.queue, borrowing, owned);
        return owned.use(BufferPool.borrow(queue, direction.pool));
      };
      const [buffers, frames] = [pool(receive), pool(transmit)];
      this.#waiter = this.#listen([receive.vector, transmit.vector], options, owned);
      this.pair = lent.pair;
      this.mac = lent.mac;
      const { name } = borrowing;
      this.rx = new ReceiveQueue(name, buffers, lent.receiveSlots, framing, this.#counts.receive);
      this.tx = new TransmitQueue(name, frames, lent.maxFrameBytes, framing, this.#counts.transmit);
      this.tx.suppressInterrupts();
      this.rx.suppressInterrupts();
      this.rx.start();
    } catch (error) {
      borrowing[Symbol.dispose]();
      throw error;
    }
    this.#owned = owned.move();
  }

  #listen(passed: readonly (PassedFd | null)[], options: NetPairOptions, owned: DisposableStack): Waiter {
    const { name, end } = this.#borrowing;
    const eventFds = passed.flatMap((one) => one === null ? [] : [owned.use(takeEventFd(one))]);
    const mode = eventFds.length === passed.length ? "adaptive" : "poll";
    const waiter = options.waiter ?? owned.use(new Waiter({ mode, ...options }));
    if (waiter.mode !== "poll" && mode === "poll") {
      throw new UsageError(`${name} has no interrupts of its own`, {
        hint: 'use mode "poll", or a device with a vector for each queue',
      });
    }
    for (const eventFd of eventFds) waiter.watch({ eventFd, acknowledge: () => 3 });
    waiter.watch({ eventFd: end, acknowledge: () => 3 }, () => waiter.lose(this.#borrowing.reason()));
    return waiter;
  }

  /** Longest frame that can be sent, Ethernet header included, checksum at the end not. */
  get maxFrameBytes(): number {
    return this.tx.maxFrameBytes;
  }

  /** True when its owner has taken it back, or this side has closed it. */
  get closed(): boolean {
    return this.#borrowing.closed;
  }

  /** Waits until there are frames. @returns false after `timeoutMs` @throws ClosedError, DeviceError */
  waitReceive(timeoutMs: number): Promise<boolean> {
    return this.#waiter.wait(this.rx, timeoutMs);
  }

  /** As `waitReceive`, blocking this thread. */
  waitReceiveBlocking(timeoutMs: number): boolean {
    return this.#waiter.waitBlocking(this.rx, timeoutMs);
  }

  /** Waits until the device has given a transmit slot back. @returns false after `timeoutMs` @throws ClosedError, DeviceError */
  waitTransmit(timeoutMs: number): Promise<boolean> {
    return this.#waiter.wait(this.tx, timeoutMs);
  }

  /** As `waitTransmit`, blocking this thread. */
  waitTransmitBlocking(timeoutMs: number): boolean {
    return this.#waiter.waitBlocking(this.tx, timeoutMs);
  }

  /** Counters of this pair. The owner's `VirtioNet.statistics` has them, too. */
  statistics(): { readonly received: QueueStatistics; readonly transmitted: QueueStatistics } {
    const { receive, transmit } = this.#counts;
    return { received: byName(COUNT, receive), transmitted: byName(COUNT, transmit) };
  }

  /** Lets go of the pair: its views are detached, its waits end. The device keeps the buffers that it has, until its owner resets it. May be called again. */
  close(): void {
    // What is lent is marked before it is let go of: see `Lease`.
    this.#borrowing[Symbol.dispose]();
    this.#owned.dispose();
  }

  /** Resolves when nothing of a wait that `close` interrupted is left. */
  get settled(): Promise<void> {
    return this.#waiter.settled;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function sharedCounters(): Float64Array<SharedArrayBuffer> {
  const { length } = counters(COUNT);
  return new Float64Array(new SharedArrayBuffer(length * Float64Array.BYTES_PER_ELEMENT));
}
