/**
 * Requests as promises, on top of one `BlockQueue`.
 *
 * @module
 */
import { ClosedError, DeviceError, TimeoutError } from "../../lib/errors/mod.ts";
import type { CommandSite } from "../../lib/virtio/control/engine.ts";
import { BLK_STATUS, blkTypeName } from "../../lib/virtio/spec/blk.ts";
import type { BlockQueue } from "./queue.ts";

/** One request. */
export interface Request {
  /** One of `BLK_TYPE`. */
  readonly type: number;
  /** First sector; 0 where it has no meaning. */
  readonly sector: number;
  /** Bytes of data. */
  readonly lengthBytes: number;
  /** What the request is about, for messages, where that is not `sector`. */
  readonly about?: number;
  /** Fills the slot's data before it is submitted. */
  readonly prepare?: (slot: number, data: Uint8Array<ArrayBuffer>) => void;
  /** Takes the slot's data when the device has answered OK. What it throws ends this request. */
  readonly finish?: (data: Uint8Array<ArrayBuffer>) => void;
}

interface Pending {
  readonly request: Request;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Runs requests; more than there are slots wait for their turn. */
export class RequestRunner implements Disposable {
  /** Its queue. */
  readonly queue: BlockQueue;
  readonly #site: CommandSite;
  readonly #timeoutMs: number;
  /** By slot. */
  readonly #pending: (Pending | undefined)[];
  readonly #waiting: PromiseWithResolvers<number>[] = [];
  #inFlight = 0;
  #answers = 0;
  #notifyDue = false;
  #pumping = false;
  /** Why nothing goes any more, until the device is reset. */
  #failure: { readonly error: unknown } | null = null;

  /** Takes over `onFree` and `onAnswer` of the queue. */
  constructor(site: CommandSite, queue: BlockQueue, timeoutMs: number) {
    this.queue = queue;
    this.#site = site;
    this.#timeoutMs = timeoutMs;
    this.#pending = new Array<Pending | undefined>(queue.slotCount).fill(undefined);
    queue.onAnswer = (slot, status) => this.#answered(slot, status);
  }

  /** Requests in flight or waiting for a slot. */
  get load(): number {
    return this.#inFlight + this.#waiting.length;
  }

  /** Resolves when the device has answered OK. @throws DeviceError, TimeoutError, UsageError, ClosedError */
  async run(request: Request): Promise<void> {
    const { queue } = this;
    const slot = await this.#acquire();
    try {
      request.prepare?.(slot, queue.data(slot));
      queue.submit(slot, request.type, request.sector, request.lengthBytes, true);
    } catch (error) {
      if (!queue.closed) queue.release(slot);
      throw error;
    }
    this.#inFlight++;
    await new Promise<void>((resolve, reject) => {
      this.#pending[slot] = { request, resolve, reject };
      this.#scheduleNotify();
    });
  }

  /** Ends everything under way with `ClosedError`. */
  [Symbol.dispose](): void {
    this.#fail(new ClosedError(`block device ${this.#site.name}`));
  }

  #acquire(): Promise<number> | number {
    if (this.#failure !== null) throw this.#failure.error;
    const { queue } = this;
    const slot = this.#waiting.length > 0 ? -1 : queue.reserve();
    if (slot >= 0) return slot;
    const turn = Promise.withResolvers<number>();
    this.#waiting.push(turn);
    queue.onFree = () => this.#slotFree();
    return turn.promise;
  }

  #slotFree(): void {
    const { queue } = this;
    const next = this.#waiting.shift();
    if (this.#waiting.length === 0) queue.onFree = null;
    next?.resolve(queue.reserve());
  }

  /** Requests that are made in one turn are shown to the device together. */
  #scheduleNotify(): void {
    if (this.#notifyDue) return;
    this.#notifyDue = true;
    queueMicrotask(() => {
      this.#notifyDue = false;
      try {
        this.queue.notify();
      } catch (error) {
        return this.#fail(error);
      }
      if (!this.#pumping) void this.#pump();
    });
  }

  /** Waits for answers as long as there are any to come. */
  async #pump(): Promise<void> {
    const { queue } = this;
    const { name, waiter, alive } = this.#site;
    const timeoutMs = this.#timeoutMs;
    this.#pumping = true;
    try {
      while (this.#inFlight > 0) {
        const before = this.#answers;
        // A lie that was found behind honest answers is still to be thrown.
        if (queue.fault !== null || await waiter.wait(queue.ring, timeoutMs)) queue.reap();
        else if (this.#answers === before) {
          alive?.();
          throw new TimeoutError(
            `${name}, queue ${queue.index}: ${this.#inFlight} requests, and no answer in ${timeoutMs} ms`,
            { hint: "reset the device" },
          );
        }
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#pumping = false;
    }
  }

  #answered(slot: number, status: number): void {
    const { queue } = this;
    const pending = this.#pending[slot];
    if (pending === undefined) return;
    this.#pending[slot] = undefined;
    this.#inFlight--;
    this.#answers++;
    const { request, resolve, reject } = pending;
    if (status === BLK_STATUS.ok) {
      try {
        request.finish?.(queue.data(slot));
        resolve();
      } catch (error) {
        // The caller's array is not what it was: that is this request's end alone.
        reject(error);
      }
    } else {
      const what = `${blkTypeName(request.type)} at sector ${request.about ?? request.sector}`;
      const answer = status === BLK_STATUS.ioErr ? "IOERR" : "UNSUPP";
      reject(
        new DeviceError(`${what}: the device answered ${answer}`, {
          function: this.#site.name,
          queue: queue.index,
          field: "status",
        }),
      );
    }
    queue.release(slot);
  }

  /** Ends everything under way. Slots of requests that the device has stay with it. */
  #fail(error: unknown): void {
    const told = error instanceof ClosedError ? new ClosedError(`block device ${this.#site.name}`) : error;
    this.#failure ??= { error: told };
    this.#inFlight = 0;
    for (const [slot, pending] of this.#pending.entries()) {
      this.#pending[slot] = undefined;
      pending?.reject(told);
    }
    for (const turn of this.#waiting.splice(0)) turn.reject(told);
  }
}
