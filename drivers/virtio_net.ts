/**
 * Driver of the virtio network device (id 1), whatever transport its function is reached through.
 *
 * The fast way: `net.rx[i].receiveBurst` / `recycle` and `net.tx[i].reserve` / `frame` / `send` / `flush`, which copy and allocate nothing. The short
 * way: `send`, `receive` and `frames`, one frame at a time, copied.
 *
 * @module
 */
import { requireType, typedErrors } from "../lib/errors/doors.ts";
import { UnsupportedError, UsageError } from "../lib/errors/mod.ts";
import { GroupOwner } from "../lib/virtio/admin/owner.ts";
import { DEVICE_ID } from "../lib/virtio/constants/device_id.ts";
import { NET_FEATURE } from "../lib/virtio/constants/net.ts";
import { featureNames } from "../lib/virtio/features.ts";
import type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
import type { WaitTarget } from "../lib/virtio/waiter.ts";
import { SessionOwner } from "./session_owner.ts";
import { canWriteMac, formatMac, readLinkUp, writeMac } from "./virtio_net/config.ts";
import { checkMac, type ControlQueue, type ReceiveFilter } from "./virtio_net/control.ts";
import { FrameBurst } from "./virtio_net/frame_burst.ts";
import type { ResumeNetOptions, VirtioNetOptions } from "./virtio_net/options.ts";
import type { ReceiveQueue } from "./virtio_net/receive.ts";
import { checkSavedNet, decodeMac, SAVED_NET_VERSION, type SavedNet } from "./virtio_net/saved.ts";
import { buildSession, goOn, type NetSession, type ResumePlan, saveQueues } from "./virtio_net/session.ts";
import { COUNT, counters, type NetStatistics, queueStatistics } from "./virtio_net/statistics.ts";
import type { TransmitQueue } from "./virtio_net/transmit.ts";

export type { GroupOwner, GroupOwnerOptions } from "../lib/virtio/admin/owner.ts";
export type { RingOptions } from "../lib/virtio/features.ts";
export type { InterruptChoice } from "../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
export type { WaitMode, WaitTarget } from "../lib/virtio/waiter.ts";
export { FrameBurst } from "./virtio_net/frame_burst.ts";
export { formatMac } from "./virtio_net/config.ts";
export type { ReceiveFilter } from "./virtio_net/control.ts";
export type { ResumeNetOptions, VirtioNetOptions } from "./virtio_net/options.ts";
export type { ReceiveQueue } from "./virtio_net/receive.ts";
export { checkSavedNet } from "./virtio_net/saved.ts";
export type { SavedNet, SavedPair, SavedReceive, SavedRing, SavedTransmit } from "./virtio_net/saved.ts";
export type { TransmitQueue } from "./virtio_net/transmit.ts";
export type { NetStatistics, QueueStatistics } from "./virtio_net/statistics.ts";

/**
 * An opened network device. It owns its queues and buffers; the transport stays the caller's.
 *
 * Errors: `DeviceError` (the device lies or refuses; `location` names queue and field; `await reset()` brings it back), `TimeoutError`, `UsageError`,
 * `UnsupportedError` (a feature that was not negotiated), `ClosedError` after `close()`.
 */
export class VirtioNet implements Disposable, AsyncDisposable {
  static {
    typedErrors(this);
  }

  /** How the function is reached. */
  readonly transport: VirtioTransport;
  readonly #owner: SessionOwner<NetSession>;
  readonly #options: VirtioNetOptions;
  readonly #admin: GroupOwner | undefined;
  readonly #receiveCounts = counters();
  readonly #transmitCounts = counters();
  readonly #listeners = new Set<(up: boolean) => void>();
  readonly #one = new FrameBurst(1, 256);
  #mac: Uint8Array<ArrayBuffer> = new Uint8Array(6);
  #linkUp = true;
  #generation = 0;
  /** What control commands set, for `suspend`. */
  readonly #filters = new Map<ReceiveFilter, boolean>();
  #macTable: SavedNet["macTable"] = null;
  #activePairs = 1;

  private constructor(transport: VirtioTransport, options: VirtioNetOptions) {
    this.transport = transport;
    this.#options = options;
    this.#owner = new SessionOwner(transport, "network device", options.resetTimeoutMs);
    const admin = options.admin === true ? {} : options.admin || undefined;
    this.#admin = admin && new GroupOwner(transport.name, admin);
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
    if (transport.deviceId !== DEVICE_ID.net) {
      throw new UnsupportedError(
        `${transport.name} is no network device: its virtio id is ${transport.deviceId}`,
      );
    }
    const net = new VirtioNet(transport, options);
    try {
      await net.#start(resume);
      return net;
    } catch (error) {
      net.close();
      await net.settled;
      throw error;
    }
  }

  /** Features in force. */
  get features(): bigint {
    return this.#owner.device.features;
  }

  /** Names of the features in force, lowest bit first. */
  get featureNames(): string[] {
    return featureNames(this.features, this.transport.deviceId, this.transport.profile);
  }

  /** Six bytes, a copy. Without MAC the driver made one up (locally administered). */
  get mac(): Uint8Array<ArrayBuffer> {
    return this.#mac.slice();
  }

  /** `02:00:00:00:00:01`. */
  get macText(): string {
    return formatMac(this.#mac);
  }

  /** Bytes of an Ethernet payload. */
  get mtu(): number {
    return this.#owner.live.config.mtu;
  }

  /** Longest frame that can be sent, Ethernet header included, checksum at the end not. */
  get maxFrameBytes(): number {
    return this.#owner.live.maxFrameBytes;
  }

  /** Mbit/s; undefined when the device does not say. */
  get speedMbps(): number | undefined {
    return this.#owner.live.config.speedMbps;
  }

  /** As of the last config interrupt or `service`. True for a device without STATUS. */
  get linkUp(): boolean {
    this.#owner.live;
    return this.#linkUp;
  }

  /** Group administration by this PF; outlives resets. @throws UnsupportedError without the option `admin` */
  get admin(): GroupOwner {
    if (this.#admin !== undefined) return this.#admin;
    throw new UnsupportedError(`${this.transport.name} was opened without its administration queues`, {
      hint: "VirtioNet.open(transport, { admin: true })",
    });
  }

  /** Kind of interrupt in use. */
  get interruptKind(): InterruptKind {
    return this.#owner.interruptKind;
  }

  /** Queue pairs that the device has. */
  get maxQueuePairs(): number {
    return this.#owner.live.config.maxQueuePairs;
  }

  /** Receive queues, by pair. A reset makes new ones. */
  get rx(): readonly ReceiveQueue[] {
    return this.#owner.live.receive;
  }

  /** Transmit queues, by pair. A reset makes new ones. */
  get tx(): readonly TransmitQueue[] {
    return this.#owner.live.transmit;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#owner.closed;
  }

  /** Whether a resumed device's rings went on at their places (QUEUE_STATE), or started afresh, as those of any other. */
  get rings(): "continued" | "fresh" {
    return this.#owner.live.rings;
  }

  /** Takes frames from the first pair; see `ReceiveQueue.receiveBurst`. */
  receiveBurst(burst: FrameBurst): number {
    return this.#owner.live.receive[0]!.receiveBurst(burst);
  }

  /** Gives a burst of the first pair back; see `ReceiveQueue.recycle`. */
  recycle(burst: FrameBurst): void {
    this.#owner.live.receive[0]!.recycle(burst);
  }

  /** Sends reserved slots of the first pair; see `TransmitQueue.transmitBurst`. */
  transmitBurst(slots: Uint16Array, lengths: Uint32Array, count: number): number {
    return this.#owner.live.transmit[0]!.transmitBurst(slots, lengths, count);
  }

  /**
   * Copies one frame into a slot of the first pair, and sends it.
   * @returns false when the device has all slots: wait with `waitTransmit`. @throws UsageError for a frame that is too short or too long
   */
  send(frame: Uint8Array): boolean {
    const queue = this.#owner.live.transmit[0]!;
    queue.checkLength(frame.length);
    const slot = queue.reserve();
    if (slot < 0) {
      this.#transmitCounts[COUNT.dropped]!++;
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
      const turn = this.#owner.waiter.turnIfDue();
      if (turn !== null) await turn;
      const frame = this.#takeOne();
      if (frame !== undefined) return frame;
      // What was there may have been of no length, or taken by another receive.
      if (!await this.waitReceive(Math.max(deadline - performance.now(), 0))) return undefined;
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
    const session = this.#owner.live;
    if (await session.waiter.wait(target(session.receive, pair), timeoutMs)) return true;
    // Silence may mean that the device stopped; a mere look (0 ms) is not worth a register access.
    if (timeoutMs > 0 && this.#owner.isLive(session)) this.#owner.device.checkAlive();
    return false;
  }

  /** As `waitReceive`, blocking this thread. */
  waitReceiveBlocking(timeoutMs: number, pair?: number): boolean {
    const session = this.#owner.live;
    return session.waiter.waitBlocking(target(session.receive, pair), timeoutMs);
  }

  /** Waits until the device has given a transmit slot back. @returns false after `timeoutMs` */
  waitTransmit(timeoutMs: number, pair = 0): Promise<boolean> {
    const session = this.#owner.live;
    return session.waiter.wait(target(session.transmit, pair), timeoutMs);
  }

  /** Sets a receive filter: `promisc`, `allmulti`, and with CTRL_RX_EXTRA `alluni`, `nomulti`, `nouni`, `nobcast`. */
  async setFilter(filter: ReceiveFilter, on: boolean): Promise<void> {
    const extra = filter !== "promisc" && filter !== "allmulti";
    await this.#control(extra ? NET_FEATURE.CTRL_RX_EXTRA : NET_FEATURE.CTRL_RX).setFilter(filter, on);
    this.#filters.set(filter, on);
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
    const table = { unicast: unicast.map(formatMac), multicast: multicast.map(formatMac) };
    await this.#control(NET_FEATURE.CTRL_RX).setMacTable(unicast, multicast);
    this.#macTable = table;
  }

  /** Sets the device's own address: by CTRL_MAC_ADDR, or on a legacy device without it by its config space. */
  async setMac(mac: Uint8Array): Promise<void> {
    const copy = checkMac(mac).slice();
    const { device } = this.#owner;
    if (this.#owner.live !== undefined && canWriteMac(device)) writeMac(device, copy);
    else await this.#control(NET_FEATURE.CTRL_MAC_ADDR).setMac(copy);
    this.#mac = copy;
  }

  /** Sets how many of the pairs that were set up at `open` the device spreads frames over. */
  async setQueuePairs(pairs: number): Promise<void> {
    const { receive } = this.#owner.live;
    if (!Number.isInteger(pairs) || pairs < 1 || pairs > receive.length) {
      throw new UsageError(`${this.transport.name}: ${pairs} queue pairs; ${receive.length} are set up`, {
        hint: "open with queuePairs",
      });
    }
    await this.#control(NET_FEATURE.MQ).setQueuePairs(pairs);
    this.#activePairs = pairs;
  }

  /** Calls `listener` when the link goes up or down. @returns what takes it off again */
  onLinkChange(listener: (up: boolean) => void): () => void {
    requireType(listener, "function", "onLinkChange: listener");
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /**
   * Looks after what nobody waits for: takes pending interrupts, and looks whether the config changed or the device stopped. While polling, call it
   * now and then. @throws DeviceError when the device stopped (DEVICE_NEEDS_RESET) or is gone
   */
  service(): void {
    this.#owner.live.waiter.service();
    this.#configMayHaveChanged();
  }

  /** Counters since `open`. */
  statistics(): NetStatistics {
    return {
      received: queueStatistics(this.#receiveCounts),
      transmitted: queueStatistics(this.#transmitCounts),
      interrupts: this.#owner.interrupts,
      resets: this.#owner.resets,
    };
  }

  /**
   * Resets the device and brings it up again with the options of `open`: after a lie, or at will. Waits that are under way end with
   * `ClosedError`; queues and bursts of before are void; frames in flight are lost.
   * @throws as `open`; the device is then stopped, and `reset` may be tried again
   */
  reset(): Promise<void> {
    return this.#owner.reset(() => {
      this.#one.clear();
      return this.#start();
    });
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
    const session = this.#owner.live;
    await session.control?.idle();
    if (!this.#owner.isLive(session)) throw this.#owner.gone();
    const { features } = this;
    return this.#owner.suspend((parts, states) => ({
      version: SAVED_NET_VERSION,
      device: "net",
      profile: this.transport.profile,
      features: `0x${features.toString(16)}`,
      mac: this.macText,
      mtu: parts.config.mtu,
      bufferBytes: parts.bufferBytes,
      filters: Object.fromEntries(this.#filters),
      macTable: this.#macTable,
      activePairs: this.#activePairs,
      ...saveQueues(parts, states),
    }));
  }

  /** Resets the device and frees queues and buffers. The transport stays open. `settled` resolves when interrupted waits are over. */
  close(): void {
    this.#owner.close();
  }

  /** Resolves when nothing of the waits that `close` or `reset` interrupted is left. */
  get settled(): Promise<void> {
    return this.#owner.settled;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** `close`, and waits until interrupted waits are over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#owner.settled;
  }

  async #start(resume?: ResumePlan): Promise<void> {
    const session = this.#owner.start((owned) =>
      buildSession(owned, {
        options: this.#options,
        receiveCounts: this.#receiveCounts,
        transmitCounts: this.#transmitCounts,
        onConfigInterrupt: () => this.#configMayHaveChanged(),
        ...(resume === undefined ? {} : { resume }),
      })
    );
    this.#mac = session.config.mac?.slice() as Uint8Array<ArrayBuffer> | undefined ?? madeUpMac();
    this.#linkUp = session.config.linkUp;
    this.#generation = this.transport.configGeneration();
    this.#filters.clear();
    this.#macTable = null;
    this.#activePairs = 1;
    const pairs = resume?.saved.activePairs ?? session.receive.length;
    try {
      if (session.admin !== undefined) {
        this.#admin!.attach(session.admin);
        await this.#admin!.begin();
      }
      if (session.receive.length > 1) await this.setQueuePairs(pairs);
      if (resume !== undefined) {
        await this.#putBack(resume.saved);
        goOn(this.#owner.live);
      }
    } catch (error) {
      // What overtook it may be another reset, with a session of its own.
      if (this.#owner.isLive(session)) this.#owner.stop();
      await this.#owner.settled;
      throw error;
    }
  }

  /** Addresses and filters; the device has no receive buffers yet, so nothing comes past them. */
  async #putBack({ mac, filters, macTable }: SavedNet): Promise<void> {
    const address = decodeMac(mac);
    if (this.macText !== mac && this.#owner.device.has(NET_FEATURE.MAC)) await this.setMac(address);
    this.#mac = address;
    if (macTable !== null) {
      await this.setMacTable(macTable.unicast.map(decodeMac), macTable.multicast.map(decodeMac));
    }
    for (const [filter, on] of Object.entries(filters)) {
      if (on) await this.setFilter(filter as ReceiveFilter, true);
    }
  }

  /** Looks at status and config; tells the listeners. */
  #configMayHaveChanged(): void {
    this.#owner.device.checkAlive();
    const generation = this.transport.configGeneration();
    const up = readLinkUp(this.#owner.device);
    if (generation === this.#generation && up === this.#linkUp) return;
    this.#generation = generation;
    if (up === this.#linkUp) return;
    this.#linkUp = up;
    for (const listener of this.#listeners) listener(up);
  }

  #takeOne(): Uint8Array<ArrayBuffer> | undefined {
    for (const queue of this.#owner.live.receive) {
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

  #control(feature: bigint): ControlQueue {
    const { control } = this.#owner.live;
    if (control !== undefined && this.#owner.device.has(feature)) return control;
    const names = featureNames(feature, this.transport.deviceId, this.transport.profile).join(", ");
    throw new UnsupportedError(`${this.transport.name}: ${names} was not negotiated`);
  }
}

/** All queues as one thing to wait for, or one of them. @throws UsageError */
function target(queues: readonly WaitTarget[], pair: number | undefined): WaitTarget {
  if (pair !== undefined || queues.length === 1) {
    const one = queues[pair ?? 0];
    if (one === undefined) {
      throw new UsageError(`there is no queue pair ${pair}; ${queues.length} are set up`);
    }
    return one;
  }
  return {
    hasUsed: () => queues.some((queue) => queue.hasUsed()),
    suppressInterrupts: () => queues.forEach((queue) => queue.suppressInterrupts()),
    // Every queue is asked, also when the first says yes.
    enableInterrupts: () => queues.map((queue) => queue.enableInterrupts()).includes(true),
  };
}

function madeUpMac(): Uint8Array<ArrayBuffer> {
  const mac = crypto.getRandomValues(new Uint8Array(6));
  // Unicast, locally administered.
  mac[0] = (mac[0]! & 0xfc) | 0x02;
  return mac;
}
