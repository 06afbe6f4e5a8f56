/**
 * What the drivers of the 82576's PF and of its VFs have in common.
 *
 * @module
 */
import { typedErrors } from "../../../lib/errors/doors.ts";
import { ClosedError, UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import type { VfioDevice } from "../../../lib/vfio/device.ts";
import { formatMac } from "../../../lib/virtio/spec/net.ts";
import { byName, counters } from "../../counters.ts";
import { Listeners } from "../../listeners.ts";
import { oneOrAll } from "../../wait_targets.ts";
import { FrameBurst } from "../api/frame_burst.ts";
import type { NetDevice } from "../api/net_device.ts";
import { COUNT, type NetStatistics } from "../api/statistics.ts";
import type { IgbNetOptions } from "./options.ts";
import type { IgbReceiveQueue } from "./receive.ts";
import { IgbSession } from "./session.ts";
import type { IgbTransmitQueue } from "./transmit.ts";

/** An opened function of an 82576. It owns its queues and buffers; the function stays the caller's. */
export abstract class IgbNet implements NetDevice, Disposable {
  static {
    typedErrors(this);
  }

  /** The function; stays the caller's. */
  readonly device: VfioDevice;
  /** As it was opened. */
  protected readonly options: IgbNetOptions;
  /** By direction, for all queues and sessions. */
  protected readonly counts: { readonly rx: Float64Array; readonly tx: Float64Array } = {
    rx: counters(COUNT),
    tx: counters(COUNT),
  };
  readonly #linkListeners = new Listeners<[boolean]>();
  readonly #one = new FrameBurst(1, 64);
  /** Filled in by `start`. */
  protected readonly address: Uint8Array<ArrayBuffer> = new Uint8Array(6);
  #session: IgbSession | null = null;
  #settling: Promise<void> = Promise.resolve();
  #interrupts = 0;
  #resets = 0;
  #linkUp = false;
  /** Its queues are there. */
  #started = false;
  #closed = false;

  /** Made by `open` of the drivers. */
  protected constructor(device: VfioDevice, options: IgbNetOptions) {
    this.device = device;
    this.options = options;
  }

  /** Resets the function and brings it up: registers, queues, interrupts. What it made is in the session, and is undone when this throws. */
  protected abstract start(session: IgbSession): Promise<void>;

  /** Stops the function, in the middle of whatever it does: no DMA and no interrupt after this. */
  protected abstract stop(session: IgbSession): void;

  /** What the link is now, by the device's registers. */
  protected abstract readLink(): boolean;

  /** Looks after what nobody waits for. */
  abstract service(): void;

  /** Receives frames for all addresses. */
  abstract setPromiscuous(on: boolean): Promise<void>;

  /** The first session's beginning. @throws what `start` throws; nothing of it is left then */
  protected async opened(): Promise<this> {
    try {
      await this.#begin();
    } catch (error) {
      this.close();
      await this.settled;
      throw error;
    }
    return this;
  }

  async #begin(): Promise<void> {
    const session = new IgbSession(this.device, this.options);
    this.#session = session;
    try {
      await this.start(session);
      // Somebody may have closed it meanwhile.
      if (this.#session !== session) throw new ClosedError(this.name);
      this.#started = true;
    } catch (error) {
      try {
        if (this.#session === session) this.#end();
      } catch {
        // What went wrong first is what is told.
      }
      throw error;
    }
  }

  /** The session. @throws ClosedError */
  protected get live(): IgbSession {
    if (this.#session === null) {
      throw new ClosedError(
        this.#closed ? this.name : `${this.name}, which is being reset, or whose reset failed,`,
      );
    }
    return this.#session;
  }

  /** The session, when it has begun. @throws ClosedError */
  get #running(): IgbSession {
    if (this.#session !== null && !this.#started) {
      throw new ClosedError(`${this.name}, which is being reset,`);
    }
    return this.live;
  }

  #end(): void {
    const session = this.#session;
    if (session === null) return;
    this.#session = null;
    this.#started = false;
    this.#interrupts += session.waiter.interrupts;
    this.#linkUp = false;
    const { waiter } = session;
    try {
      if (!this.device.closed) this.stop(session);
    } catch {
      // The function is gone, or does not answer. What is left to do is to let go of the memory.
    }
    waiter.close();
    const before = this.#settling;
    this.#settling = waiter.settled.then(() => before);
    session[Symbol.dispose]();
  }

  /** The function, for messages. */
  get name(): string {
    return this.device.name;
  }

  /** Six bytes, a copy. */
  get mac(): Uint8Array<ArrayBuffer> {
    return this.address.slice();
  }

  /** `52:54:00:00:00:01`. */
  get macText(): string {
    return formatMac(this.address);
  }

  /** Bytes of an Ethernet payload. */
  get mtu(): number {
    return this.options.mtu ?? 1500;
  }

  /** Longest frame that can be sent, Ethernet header included, checksum at the end not. */
  get maxFrameBytes(): number {
    return this.live.maxFrameBytes;
  }

  /** As of the last interrupt or `service`. */
  get linkUp(): boolean {
    return this.#linkUp;
  }

  /** Kind of interrupt in use. */
  get interruptKind(): "msix" | "none" {
    return this.live.byInterrupt ? "msix" : "none";
  }

  /** Interrupts that were taken so far. */
  get interrupts(): number {
    return this.#interrupts + (this.#session?.waiter.interrupts ?? 0);
  }

  /** Times that the device was reset after the first start. */
  get resets(): number {
    return this.#resets;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Receive queues, by pair. A reset makes new ones. */
  get rx(): readonly IgbReceiveQueue[] {
    return this.#running.rx;
  }

  /** Transmit queues, by pair. A reset makes new ones. */
  get tx(): readonly IgbTransmitQueue[] {
    return this.#running.tx;
  }

  /** Copies one frame into a slot of the first pair, and sends it. @returns false when the device has all slots: wait with `waitTransmit` */
  send(frame: Uint8Array): boolean {
    const queue = this.#running.tx[0]!;
    queue.checkLength(frame.length);
    const slot = queue.reserve();
    if (slot < 0) {
      this.counts.tx[COUNT.dropped]!++;
      return false;
    }
    queue.frame(slot).set(frame);
    queue.send(slot, frame.length);
    queue.flush();
    return true;
  }

  /** A copy of the next frame of any pair; undefined when none came in `timeoutMs`. */
  async receive(timeoutMs: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const turn = this.#running.waiter.turnIfDue();
      if (turn !== null) await turn;
      for (const queue of this.#running.rx) {
        const burst = this.#one;
        if (queue.receiveBurst(burst) === 0) continue;
        const frame = new Uint8Array(burst.frameBytes(0));
        queue.copyFrame(burst, 0, frame);
        queue.recycle(burst);
        return frame;
      }
      if (!await this.waitReceive(Math.max(deadline - performance.now(), 0))) return undefined;
    }
  }

  /** Waits until a pair has frames (all pairs, or one). @returns false after `timeoutMs` */
  waitReceive(timeoutMs: number, pair?: number): Promise<boolean> {
    const { waiter, rx } = this.#running;
    return waiter.wait(oneOrAll(rx, pair, "queue pair"), timeoutMs);
  }

  /** Waits until the device has given a transmit slot back. @returns false after `timeoutMs` */
  waitTransmit(timeoutMs: number, pair = 0): Promise<boolean> {
    const { waiter, tx } = this.#running;
    return waiter.wait(oneOrAll(tx, pair, "queue pair"), timeoutMs);
  }

  /** Resolves to true when the link is up, to false after `timeoutMs`. */
  async waitLink(timeoutMs: number): Promise<boolean> {
    if (!(timeoutMs >= 0)) throw new UsageError(`${this.name}: a timeout of ${shown(timeoutMs)} ms`);
    for (const deadline = performance.now() + timeoutMs;;) {
      this.service();
      if (this.#linkUp) return true;
      if (performance.now() >= deadline) return false;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Reads the link, and tells of a change. */
  protected updateLink(): boolean {
    const up = this.readLink();
    if (up !== this.#linkUp) {
      this.#linkUp = up;
      this.#linkListeners.tell(up);
    }
    return up;
  }

  /** Calls `listener` when the link goes up or down. @returns what takes it off again */
  onLinkChange(listener: (up: boolean) => void): () => void {
    return this.#linkListeners.add(listener, "onLinkChange");
  }

  /** Counters since `open`, of this driver. */
  statistics(): NetStatistics {
    return {
      received: byName(COUNT, this.counts.rx),
      transmitted: byName(COUNT, this.counts.tx),
      interrupts: this.interrupts,
      resets: this.resets,
    };
  }

  /** Resets the device and brings it up again with the options of `open`. Waits end with `ClosedError`; queues and slots of before are void. */
  async reset(): Promise<void> {
    if (this.#closed) throw new ClosedError(this.name);
    this.#end();
    await this.#settling;
    if (this.#closed) throw new ClosedError(this.name);
    if (this.#session !== null) throw new UsageError(`${this.name}: two resets at once`);
    await this.#begin();
    this.#resets++;
  }

  /** Stops the device and frees queues and buffers. The function stays open. `settled` resolves when interrupted waits are over. */
  close(): void {
    this.#closed = true;
    this.#end();
  }

  /** Resolves when nothing of the waits that `close` or `reset` interrupted is left. */
  get settled(): Promise<void> {
    return this.#settling;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** `close`, and waits until interrupted waits are over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.settled;
  }
}
