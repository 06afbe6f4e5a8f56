/**
 * Driver of the virtio network device (id 1), whatever transport its function is reached through.
 *
 * The fast way: `net.rx[i].receiveBurst` / `recycle` and `net.tx[i].reserve` / `frame` / `send` / `flush`, which copy and allocate nothing. The short
 * way: `send`, `receive` and `frames`, one frame at a time, copied.
 *
 * ```ts
 * import { VirtioNet } from "@ringside/ringside/drivers/virtio-net";
 *
 * await using net = await VirtioNet.open(transport, { queueSize: 256 }); // of `openTransport`
 * net.send(frame);
 * const answer = await net.receive(1000);
 * ```
 *
 * @module
 */
import { typedErrors } from "../../lib/errors/doors.ts";
import { UnsupportedError, UsageError } from "../../lib/errors/mod.ts";
import { shown } from "../../lib/errors/shown.ts";
import { GroupOwner } from "../../lib/virtio/admin/owner.ts";
import { DEVICE_ID } from "../../lib/virtio/spec/device_id.ts";
import { formatMac } from "../../lib/virtio/spec/net.ts";
import type { VirtioTransport } from "../../lib/virtio/transport/transport.ts";
import { byName, counters } from "../counters.ts";
import { VirtioDriver } from "../driver.ts";
import { type DriverKind, DriverLife } from "../driver_life.ts";
import { Listeners } from "../listeners.ts";
import { oneOrAll } from "../wait_targets.ts";
import { FrameBurst } from "./api/frame_burst.ts";
import type { NetDevice } from "./api/net_device.ts";
import { COUNT, type NetStatistics, type QueueStatistics } from "./api/statistics.ts";
import type { ReceiveFilter } from "./virtio/saved.ts";
import type { LentNetPair } from "./virtio/lent_pair.ts";
import type { ResumeNetOptions, VirtioNetOptions } from "./virtio/options.ts";
import type { ReceiveQueue } from "./virtio/receive.ts";
import { checkSavedNet, SAVED_NET_VERSION, type SavedNet } from "./virtio/saved.ts";
import { type NetContext, NetSession, type ResumePlan } from "./virtio/session.ts";
import type { TransmitQueue } from "./virtio/transmit.ts";

export type { GroupOwner, GroupOwnerOptions } from "../../lib/virtio/admin/owner.ts";
export type { RingOptions } from "../../lib/virtio/features.ts";
export type { InterruptChoice } from "../../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../../lib/virtio/transport/transport.ts";
export type { WaitMode, WaitTarget } from "../../lib/wait/waiter.ts";
export type { VirtioDriver } from "../driver.ts";
export type { DriverOptions } from "../driver_options.ts";
export { FrameBurst } from "./api/frame_burst.ts";
export type { NetDevice, NetReceiveQueue, NetTransmitQueue } from "./api/net_device.ts";
export { formatMac } from "../../lib/virtio/spec/net.ts";
export { type LegacyVfIdentity, readLegacyVfIdentity } from "./virtio/legacy_vf_identity.ts";
export { type LentNetPair, NetPair, type NetPairOptions } from "./virtio/lent_pair.ts";
export type { ReceiveFilter } from "./virtio/saved.ts";
export type { ResumeNetOptions, VirtioNetOptions } from "./virtio/options.ts";
export type { ReceiveQueue } from "./virtio/receive.ts";
export { checkSavedNet } from "./virtio/saved.ts";
export type { SavedNet, SavedPair, SavedReceive, SavedRing, SavedTransmit } from "./virtio/saved.ts";
export type { TransmitQueue } from "./virtio/transmit.ts";
export type { NetStatistics, QueueStatistics } from "./api/statistics.ts";

const KIND: DriverKind = { what: "network device", deviceId: DEVICE_ID.net };

/**
 * An opened network device. It owns its queues and buffers; the transport stays the caller's.
 *
 * Errors: `DeviceError` (the device lies or refuses; `location` names queue and field; `await reset()` brings it back), `TimeoutError`, `UsageError`,
 * `UnsupportedError` (a feature that was not negotiated), `ClosedError` after `close()`.
 */
export class VirtioNet extends VirtioDriver implements NetDevice {
  static {
    typedErrors(this);
  }

  readonly #life: DriverLife<NetSession>;
  readonly #context: NetContext;
  readonly #one = new FrameBurst(1, 256);

  private constructor(life: DriverLife<NetSession>, context: NetContext) {
    super(life);
    this.#life = life;
    this.#context = context;
  }

  /**
   * Resets the device, negotiates, sets up queues and buffers, and starts it.
   * @throws UnsupportedError (no network device, feature or queue pairs missing), DeviceError, TimeoutError, UsageError, ExhaustedError, SyscallError
   */
  static open(transport: VirtioTransport, options: VirtioNetOptions = {}): Promise<VirtioNet> {
    return VirtioNet.#open(transport, options);
  }

  /**
   * Goes on, on any function, with a device that was suspended: addresses and filters are put back, frames that nobody took come first, and frames that
   * the device had not sent are sent, before any other. `saved` is checked; it is used up when this resolves, and as good as before when it fails.
   *
   * With QUEUE_STATE (profile `queue-state`), and layout and sizes as before, the rings go on at their places; else they start afresh. Frames are
   * treated alike.
   * @throws UsageError (`saved`, naming the field), UnsupportedError (MTU, queues, or control commands are not enough for it), and as `open`
   */
  static async resume(
    transport: VirtioTransport,
    saved: SavedNet,
    options: ResumeNetOptions = {},
  ): Promise<VirtioNet> {
    const { rings, ...rest } = options;
    const checked = checkSavedNet(saved);
    const { ring } = checked.pairs[0]!.receive;
    const driving: VirtioNetOptions = {
      queueSize: ring.size,
      bufferBytes: checked.bufferBytes,
      packed: ring.state.layout === "packed",
      ...rest,
      queuePairs: checked.pairs.length,
    };
    return await VirtioNet.#open(transport, driving, { saved: checked, rings });
  }

  static async #open(
    transport: VirtioTransport,
    options: VirtioNetOptions,
    resume?: ResumePlan,
  ): Promise<VirtioNet> {
    const admin = options.admin === true ? {} : options.admin || undefined;
    const context: NetContext = {
      options,
      receiveCounts: counters(COUNT),
      transmitCounts: counters(COUNT),
      listeners: new Listeners(),
      admin: admin && new GroupOwner(transport.name, admin),
      resume,
      mac: new Uint8Array(6),
    };
    const life = new DriverLife(transport, KIND, options, (session) => new NetSession(session, context));
    return await life.open(new VirtioNet(life, context));
  }

  /** The function, for messages. */
  get name(): string {
    return this.transport.name;
  }

  /** Six bytes, a copy. Without MAC the driver made one up (locally administered). */
  get mac(): Uint8Array<ArrayBuffer> {
    return this.#context.mac.slice();
  }

  /** `02:00:00:00:00:01`. */
  get macText(): string {
    return formatMac(this.#context.mac);
  }

  /** Bytes of an Ethernet payload. */
  get mtu(): number {
    return this.#life.live.config.mtu;
  }

  /** Longest frame that can be sent, Ethernet header included, checksum at the end not. */
  get maxFrameBytes(): number {
    return this.#life.live.maxFrameBytes;
  }

  /** Mbit/s; undefined when the device does not say. */
  get speedMbps(): number | undefined {
    return this.#life.live.config.speedMbps;
  }

  /** As of the last config interrupt or `service`. True for a device without STATUS. */
  get linkUp(): boolean {
    return this.#life.live.linkUp;
  }

  /** Group administration by this PF; outlives resets. @throws UnsupportedError without the option `admin` */
  get admin(): GroupOwner {
    if (this.#context.admin !== undefined) return this.#context.admin;
    throw new UnsupportedError(`${this.transport.name} was opened without its administration queues`, {
      hint: "VirtioNet.open(transport, { admin: true })",
    });
  }

  /** Queue pairs that the device has. */
  get maxQueuePairs(): number {
    return this.#life.live.config.maxQueuePairs;
  }

  /** Receive queues, by pair. A reset makes new ones. */
  get rx(): readonly ReceiveQueue[] {
    return this.#life.live.receive;
  }

  /** Transmit queues, by pair. A reset makes new ones. */
  get tx(): readonly TransmitQueue[] {
    return this.#life.live.transmit;
  }

  /**
   * Hands a pair of `lentPairs` out, once between two resets: plain data, for `postMessage` to a Worker of this process, where `NetPair.open` takes it. What
   * is never opened is let go of with the device.
   * @throws UsageError (no such pair, or lent before), UnsupportedError (the device is notified by messages of this thread), SyscallError
   */
  lend(pair: number): LentNetPair {
    const { receive, lendable } = this.#life.live;
    const found = lendable[pair - receive.length];
    if (found !== undefined) return found.lend(this.#context.mac);
    throw new UsageError(`${this.transport.name}: queue pair ${shown(pair)} is not for another thread`, {
      hint: `open it with lentPairs: the last pairs of queuePairs; ${lendable.length} are so now`,
    });
  }

  /** Whether a resumed device's rings went on at their places (QUEUE_STATE), or started afresh, as those of any other. */
  get rings(): "continued" | "fresh" {
    return this.#life.live.rings;
  }

  /** Takes frames from the first pair; see `ReceiveQueue.receiveBurst`. */
  receiveBurst(burst: FrameBurst): number {
    return this.#firstReceive.receiveBurst(burst);
  }

  /** Gives a burst of the first pair back; see `ReceiveQueue.recycle`. */
  recycle(burst: FrameBurst): void {
    this.#firstReceive.recycle(burst);
  }

  /** Sends reserved slots of the first pair; see `TransmitQueue.transmitBurst`. */
  transmitBurst(slots: Uint16Array, lengths: Uint32Array, count: number): number {
    return this.#firstTransmit.transmitBurst(slots, lengths, count);
  }

  /**
   * Copies one frame into a slot of the first pair, and sends it.
   * @returns false when the device has all slots: wait with `waitTransmit`. @throws UsageError for a frame that is too short or too long
   */
  send(frame: Uint8Array): boolean {
    const queue = this.#firstTransmit;
    queue.checkLength(frame.length);
    const slot = queue.reserve();
    if (slot < 0) {
      this.#context.transmitCounts[COUNT.dropped]!++;
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
      // Frames may come so fast that there is never anything to wait for.
      const turn = this.#life.waiter.turnIfDue();
      if (turn !== null) await turn;
      const frame = this.#takeOne();
      if (frame !== undefined) return frame;
      // What was there may have been of no length, or taken by another receive.
      const leftMs = Math.max(deadline - performance.now(), 0);
      if (
        !await this.#life.wait(oneOrAll(this.#life.live.receive, undefined, "queue pair"), timeoutMs, leftMs)
      ) {
        return undefined;
      }
    }
  }

  /** Frames of any pair, copied, until none comes for `idleTimeoutMs` (default: without end). */
  async *frames(idleTimeoutMs: number = Infinity): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    for (;;) {
      const frame = await this.receive(idleTimeoutMs);
      if (frame === undefined) return;
      yield frame;
    }
  }

  /** Frames of any pair, without end. */
  [Symbol.asyncIterator](): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    return this.frames();
  }

  /** Waits until a pair has frames (all pairs, or one). @returns false after `timeoutMs` @throws DeviceError when the device stopped */
  async waitReceive(timeoutMs: number, pair?: number): Promise<boolean> {
    return await this.#life.wait(oneOrAll(this.#life.live.receive, pair, "queue pair"), timeoutMs);
  }

  /** As `waitReceive`, blocking this thread. */
  waitReceiveBlocking(timeoutMs: number, pair?: number): boolean {
    return this.#life.waiter.waitBlocking(oneOrAll(this.#life.live.receive, pair, "queue pair"), timeoutMs);
  }

  /** Waits until the device has given a transmit slot back. @returns false after `timeoutMs` */
  waitTransmit(timeoutMs: number, pair = 0): Promise<boolean> {
    return this.#life.waiter.wait(oneOrAll(this.#life.live.transmit, pair, "queue pair"), timeoutMs);
  }

  /** As `waitTransmit`, blocking this thread. */
  waitTransmitBlocking(timeoutMs: number, pair = 0): boolean {
    return this.#life.waiter.waitBlocking(
      oneOrAll(this.#life.live.transmit, pair, "queue pair"),
      timeoutMs,
    );
  }

  /** Sets a receive filter: `promisc`, `allmulti`, and with CTRL_RX_EXTRA `alluni`, `nomulti`, `nouni`, `nobcast`. */
  async setFilter(filter: ReceiveFilter, on: boolean): Promise<void> {
    await this.#life.live.settings.setFilter(filter, on);
  }

  /** Receives frames for all addresses. */
  setPromiscuous(on: boolean): Promise<void> {
    return this.setFilter("promisc", on);
  }

  /** Receives frames for all multicast addresses. */
  setAllMulticast(on: boolean): Promise<void> {
    return this.setFilter("allmulti", on);
  }

  /** Sets the table of addresses to receive for, beside the device's own. */
  async setMacTable(unicast: readonly Uint8Array[], multicast: readonly Uint8Array[] = []): Promise<void> {
    await this.#life.live.settings.setMacTable(unicast, multicast);
  }

  /** Sets the device's own address: by CTRL_MAC_ADDR, or on a legacy device without it by its config space. */
  async setMac(mac: Uint8Array): Promise<void> {
    await this.#life.live.settings.setMac(mac);
  }

  /** Sets how many of the pairs that were set up at `open` the device spreads frames over. */
  async setQueuePairs(pairs: number): Promise<void> {
    await this.#life.live.settings.setQueuePairs(pairs);
  }

  /** Calls `listener` when the link goes up or down. @returns what takes it off again */
  onLinkChange(listener: (up: boolean) => void): () => void {
    return this.#context.listeners.add(listener, "onLinkChange");
  }

  /**
   * Looks after what nobody waits for: takes pending interrupts, and looks whether the config changed or the device stopped. While polling, call it
   * now and then. @throws DeviceError when the device stopped (DEVICE_NEEDS_RESET) or is gone
   */
  service(): void {
    this.#life.service();
  }

  /** Counters since `open`. */
  statistics(): NetStatistics {
    return {
      received: this.#count("receiveCounts"),
      transmitted: this.#count("transmitCounts"),
      interrupts: this.interrupts,
      resets: this.resets,
    };
  }

  /**
   * Stops the device under traffic, by a reset, and closes it: what it leaves goes on with `resume`, in this or another process, on this or another
   * function. Commands under way are finished first; waits end with `ClosedError`.
   *
   * In the result are frames that were sent and not yet returned by the device, and frames that it delivered and that were not yet taken. Not in it,
   * since they are the caller's: bursts that were received and not recycled, and slots that were reserved and not sent.
   * @throws DeviceError (the device lies; with QUEUE_STATE its state is checked against the rings), TimeoutError (reset); it is closed all the same
   */
  async suspend(): Promise<SavedNet> {
    const session = this.#life.live;
    if (session.lendable.length > 0) {
      throw new UsageError(`${this.transport.name}: suspend with queue pairs that are lent`);
    }
    await session.settings.idle();
    if (!this.#life.isLive(session)) throw this.#life.gone();
    const { features } = this;
    return this.#life.suspend((parts, states) => ({
      version: SAVED_NET_VERSION,
      device: "net",
      profile: this.transport.profile,
      features: `0x${features.toString(16)}`,
      ...parts.save(states),
    }));
  }

  /** @throws UsageError when all pairs are lent */
  get #firstReceive(): ReceiveQueue {
    return this.#life.live.receive[0] ?? this.#allLent();
  }

  get #firstTransmit(): TransmitQueue {
    return this.#life.live.transmit[0] ?? this.#allLent();
  }

  #allLent(): never {
    throw new UsageError(`${this.transport.name}: all its queue pairs are for other threads`);
  }

  /** Those of lent pairs, too. */
  #count(which: "receiveCounts" | "transmitCounts"): QueueStatistics {
    const sums = this.#context[which].slice();
    for (const pair of this.#life.parts?.lendable ?? []) {
      pair[which].forEach((count, at) => sums[at]! += count);
    }
    return byName(COUNT, sums);
  }

  #takeOne(): Uint8Array<ArrayBuffer> | undefined {
    for (const queue of this.#life.live.receive) {
      const burst = this.#one;
      if (queue.receiveBurst(burst) === 0) continue;
      const frame = new Uint8Array(burst.frameBytes(0));
      queue.copyFrame(burst, 0, frame);
      try {
        queue.recycle(burst);
      } catch {
        // The ring broke after this frame: the frame is good, and the next call throws what happened.
        burst.clear();
      }
      return frame;
    }
    return undefined;
  }
}
