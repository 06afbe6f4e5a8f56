/**
 * A virtio network device (virtio 1.2 §5.1): a port of an embedded switch.
 *
 * It offers no offloads, so every header is 12 bytes of which only `num_buffers` ever matters. A legacy driver without MRG_RXBUF has a header of
 * 10 bytes, and frames go between drivers of both kinds.
 *
 * @module
 */
import { DEVICE_ID } from "../../../virtio/spec/device_id.ts";
import {
  MAC_BYTES,
  NET_CONFIG,
  NET_FEATURE,
  NET_FEATURE_BIT,
  NET_FEATURE_REQUIRES,
  NET_HDR_BYTES,
  NET_HDR_LEGACY_BYTES,
  NET_STATUS,
  netControlQueue,
  type NetFeatureName,
} from "../../../virtio/spec/net.ts";
import type { ModelOptions } from "../../device_kind.ts";
import { type DeviceControls, either } from "../../device_control.ts";
import type { DeviceCore, DeviceModel, ModelParts, NetInterface } from "../../device_model.ts";
import { LegacyFraming } from "../queue/legacy_framing.ts";
import { formatMac, parseMac } from "./mac_address.ts";
import { NetControlQueue } from "./control_queue.ts";
import { ReceiveFilter } from "./filter.ts";
import { FlowTable } from "./flow.ts";
import type { NetFrame } from "./frame.ts";
import type { FrameBurst } from "./frame_burst.ts";
import { NetParts } from "./parts.ts";
import { ReceiveQueues } from "./receive_queues.ts";
import { NetSettings } from "./settings.ts";
import { NetTransmitter } from "./transmitter.ts";
import type { NetSwitch } from "./switch.ts";
import { COUNTER, type CounterName, COUNTERS, type SwitchPort } from "./switch_port.ts";

/** Fields up to `mtu`: the later ones belong to features that are not offered. */
const CONFIG_BYTES = 12;
const OFFERED = NET_FEATURE.MAC | NET_FEATURE.MTU | NET_FEATURE.STATUS | NET_FEATURE.MRG_RXBUF |
  NET_FEATURE.CTRL_VQ | NET_FEATURE.CTRL_RX | NET_FEATURE.CTRL_RX_EXTRA | NET_FEATURE.CTRL_MAC_ADDR |
  NET_FEATURE.MQ;

/** Own fields of a virtio-net function. */
export interface NetFields {
  /** Its address, such as `52:54:00:12:34:56`. VF n has it plus n + 1 in the low 24 bits. Default: one of its own. */
  readonly mac?: string;
  /** Bytes, 68 to 65535. Default 1500. */
  readonly mtu?: number | undefined;
  /** Largest number of queue pairs. Default 4; with 1, MQ is not offered. */
  readonly queuePairs?: number | undefined;
  /** Embedded switch that it and its VFs are ports of. Default `s0`. */
  readonly switch?: string;
  /** What the host uses its network interface for, as guards would find it: `carries the default route`. */
  readonly hostUse?: readonly string[];
}

/** What a network device is made from; its switch is given beside. */
export type NetModelOptions = Omit<NetFields, "mac" | "switch"> & ModelOptions & { readonly mac: string };

/** The device. */
export class NetModel implements DeviceModel, SwitchPort {
  readonly deviceId: number = DEVICE_ID.net;
  readonly classCode = 0x020000;
  readonly configSizeBytes: number = CONFIG_BYTES;
  readonly features: bigint;
  readonly queueSizes: readonly number[];
  readonly netInterface: NetInterface;
  /** Largest number of queue pairs. */
  readonly maxPairs: number;
  /** The switch that it is a port of. */
  readonly net: NetSwitch;
  readonly counters: Float64Array = new Float64Array(COUNTERS);
  /** What the driver set, and while suspended what it had set before. */
  readonly #settings: NetSettings;
  readonly #kept: ReceiveFilter = new ReceiveFilter();
  #suspended = false;
  readonly #mac: Uint8Array;
  readonly #mtu: number;
  #core: DeviceCore | null = null;
  #linkUp = true;

  readonly controls: DeviceControls = {
    link: either(["up", "down"], () => this.#linkUp, (up) => this.setLink(up)),
  };

  // Of the running driver; set by `start`.
  readonly #framing = new LegacyFraming();

  // Of the hot path; all made once.
  readonly #control: NetControlQueue;
  readonly #transmitter: NetTransmitter;
  readonly #receiveQueues: ReceiveQueues;
  readonly #flows = new FlowTable();
  readonly parts: ModelParts;

  /** A device that is on no switch before `connect`. @throws UsageError for options that cannot be */
  constructor(net: NetSwitch, options: NetModelOptions) {
    const { mtu = 1500, queuePairs = 4, queueSize = 256 } = options;
    this.net = net;
    this.#mac = parseMac(options.mac);
    this.#mtu = mtu;
    this.maxPairs = queuePairs;
    this.features = offeredFeatures(options.featuresOff ?? 0n, queuePairs);
    const hasControl = (this.features & NET_FEATURE.CTRL_VQ) !== 0n;
    this.queueSizes = new Array<number>(2 * queuePairs + (hasControl ? 1 : 0)).fill(queueSize);
    this.netInterface = { mac: options.mac, mtu, ...(options.hostUse && { hostUse: options.hostUse }) };
    this.#settings = new NetSettings(
      queuePairs,
      () => this.#core?.negotiatedFeatures ?? 0n,
      () => this.#core?.configChanged(),
    );
    this.#control = new NetControlQueue(this.#settings, this.#framing, queueSize);
    this.#transmitter = new NetTransmitter(this, net, this.#settings, this.#flows, this.#framing, queueSize);
    this.#receiveQueues = new ReceiveQueues(this.#settings, this.#flows, this.#framing, queueSize);
    this.parts = new NetParts(this.#settings, this.features, {
      restored: () => {
        this.#suspended = false;
        this.#receiveQueues.forget();
        // Which pairs were in use before is not in the parts; what is queued on any is still sent.
        this.#settings.usedPairs = this.#settings.has(NET_FEATURE.MQ) ? this.maxPairs : 1;
      },
      stopChanged: () => this.net.portsChanged(),
    });
    this.#forget();
  }

  // ---- from outside ----

  /** PCI address of its function. */
  get name(): string {
    return this.#core?.name ?? "network device without a function";
  }

  /** Its address now, as text. */
  get mac(): string {
    const { macHigh, macLow } = this.#settings.filter;
    return formatMac(macHigh, macLow);
  }

  /** Queue pairs in use. */
  get activePairs(): number {
    return this.#settings.activePairs;
  }

  /** Whether its link is up; it is at first. */
  get linkUp(): boolean {
    return this.#linkUp;
  }

  /** Plugs the cable in or out. */
  setLink(up: boolean): void {
    if (this.#linkUp === up) return;
    this.#linkUp = this.#transmitter.linkUp = up;
    this.#core?.configChanged();
  }

  /** Counters since the machine started, by name; see `COUNTER`. */
  stats(): Record<CounterName, number> {
    const out = {} as Record<CounterName, number>;
    for (const [name, at] of Object.entries(COUNTER)) out[name as CounterName] = this.counters[at]!;
    return out;
  }

  // ---- DeviceModel ----

  /** Takes its place; called once. */
  connect(core: DeviceCore): void {
    this.#core = core;
    this.#receiveQueues.connect(core);
    this.net.add(this, this.maxPairs);
  }

  /** Lets go of everything; may be called again. */
  close(): void {
    this.net.remove(this);
    this.#core = null;
    this.#receiveQueues.close();
  }

  /** What is wrong with a set of features; undefined when nothing is. */
  checkFeatures(accepted: bigint): string | undefined {
    if (this.#core?.behindFrontEnd) accepted |= NET_FEATURE.CTRL_VQ;
    for (const { feature, requires } of NET_FEATURE_REQUIRES) {
      if ((accepted & NET_FEATURE[feature]) === 0n || satisfied(accepted, requires)) continue;
      const wanted = requires.map((set) => set.join(" and ")).join(", or ");
      return `VIRTIO_NET_F_${feature} needs ${wanted}`;
    }
    return undefined;
  }

  /** Reads device-specific configuration. */
  config(): Uint8Array {
    const bytes = NET_CONFIG.encode({
      status: this.#linkUp ? NET_STATUS.linkUp : 0,
      max_virtqueue_pairs: this.maxPairs,
      mtu: this.#mtu,
    });
    bytes.set(this.#settings.filter.mac);
    return bytes;
  }

  /** Reports the write: there is nothing to write, except for a legacy driver its address, as a whole or byte by byte. */
  writeConfig(offset: number, from: Uint8Array): void {
    if (this.#core?.legacy && offset + from.length <= MAC_BYTES) {
      const { mac } = this.#settings.filter;
      mac.set(from, offset);
      if ((mac[0]! & 1) === 0) {
        this.#settings.filter.mac = mac;
        return;
      }
      this.#core.report("virtio 1.2 §5.1.4.3", "a multicast address cannot be the device's own");
      return;
    }
    this.#core?.report(
      "virtio 1.2 §5.1.4",
      `write of ${from.length} bytes at ${offset} of virtio_net_config, which is read-only`,
    );
  }

  /** The driver is ready. */
  start(): void {
    const features = this.#core?.negotiatedFeatures ?? 0n;
    const core = this.#core;
    if (core !== null) {
      this.#framing.start(core);
      const mergeable = (features & NET_FEATURE.MRG_RXBUF) !== 0n;
      const headerBytes = core.legacy && !mergeable ? NET_HDR_LEGACY_BYTES : NET_HDR_BYTES;
      const mtu = (features & NET_FEATURE.MTU) !== 0n ? this.#mtu : undefined;
      this.#transmitter.start(core, headerBytes, mtu);
      this.#receiveQueues.start(headerBytes, mtu, mergeable);
    }
    const multiqueue = (features & NET_FEATURE.MQ) !== 0n;
    const hasControl = (features & NET_FEATURE.CTRL_VQ) !== 0n;
    if (core !== null && hasControl) this.#control.start(core, netControlQueue(this.maxPairs, multiqueue));
    // Nobody commands how many pairs there are: those that have queues.
    if (multiqueue && !hasControl) this.#settings.setPairs(this.maxPairs);
    // The front end has the driver's address and filters, and leaves out what they leave out.
    if (core?.behindFrontEnd && !hasControl) this.#settings.filter.promiscuous = true;
  }

  /** Forgets everything of the driver; while it is suspended, the port stands for the addresses of before. */
  reset(suspended = false): void {
    if (suspended) this.#kept.copy(this.filter);
    this.#suspended = suspended;
    this.#forget();
    this.net.stopped(this);
  }

  #forget(): void {
    this.#framing.stop();
    this.#control.stop();
    this.#flows.clear();
    this.#receiveQueues.forget();
    this.#settings.reset(this.#mac);
  }

  /** Reports notifications of queues that are not in use; the work is done in `poll`. */
  notified(queue: number): void {
    if (queue % 2 === 1 && queue > 2 * this.#settings.usedPairs && queue !== this.#control.index) {
      this.#core?.report(
        "virtio 1.2 §5.1.6.5.5",
        `transmit queue ${queue} was notified, ${this.#settings.activePairs} queue pairs are in use`,
        queue,
      );
    }
  }

  /** Works, at most `budget` buffers. @returns how many were moved */
  poll(budget: number): number {
    if (this.#suspended && this.#receiveQueues.haveBuffers) this.#suspended = false;
    let moved = this.net.resume(this, budget);
    moved += this.transmit(budget - moved);
    moved += this.#control.poll(budget - moved);
    this.net.flush();
    return moved;
  }

  /** Asks for notifications. @returns true when work is there already */
  arm(): boolean {
    const core = this.#core;
    if (core === null) return false;
    let work = false;
    for (let pair = 0; pair < this.#settings.usedPairs; pair++) {
      const queue = core.queue(2 * pair + 1);
      // What a full receiver holds up goes on with the receiver's doorbell, not with this one.
      if (queue !== undefined && !this.net.waiting(this, pair) && queue.arm()) work = true;
    }
    if (this.#control.arm()) work = true;
    if (this.net.awaited(this) && this.#receiveQueues.arm()) work = true;
    return work;
  }

  /** How long to sleep at most; undefined: until something rings. */
  get wakeAfterMs(): number | undefined {
    return this.net.waitLeftMs(this);
  }

  // ---- transmit ----

  /** Goes on with the transmit queues. @returns frames taken */
  transmit(budget: number): number {
    const core = this.#core;
    if (core === null) return 0;
    let moved = 0;
    for (let pair = 0; pair < this.#settings.usedPairs && moved < budget; pair++) {
      const queue = core.queue(2 * pair + 1);
      if (queue !== undefined) moved += this.#transmitter.transmit(queue, pair, budget - moved);
    }
    return moved;
  }

  // ---- receive ----

  /** Which frames it takes, or would take if it were not suspended. */
  get filter(): ReceiveFilter {
    return this.#suspended ? this.#kept : this.#settings.filter;
  }

  /** Both that `filter` may be. */
  get filters(): readonly ReceiveFilter[] {
    return [this.#settings.filter, this.#kept];
  }

  /** A driver runs, with receive buffers at least once since it was suspended, and the link is up. */
  get receiving(): boolean {
    return this.#core !== null && this.#core.live && this.#linkUp && !this.#suspended;
  }

  /**
   * Its owner stopped it, or its driver reset it and may go on (QUEUE_STATE, or queues that it disabled before). The latter ends with the first receive buffers rather than with DRIVER_OK, since a driver needs
   * its control queue, and so a running device, to put addresses and filters back.
   */
  get suspended(): boolean {
    return (this.#suspended || (this.#core?.stopped ?? false)) && this.#linkUp;
  }

  /** There are more receive buffers than when they last were too few. */
  get hasRoom(): boolean {
    return this.#receiveQueues.hasRoom;
  }

  /** Puts a frame into a receive queue. @returns one of `DELIVERY` */
  deliver(frame: NetFrame): number {
    return this.#receiveQueues.deliver(frame);
  }

  /** Puts frames into one receive queue that go together. @returns how many */
  deliverBurst(frames: FrameBurst, from: number, count: number): number {
    return this.#receiveQueues.deliverBurst(frames, from, count);
  }

  /** Publishes what was delivered. */
  flush(): void {
    this.#receiveQueues.flush();
  }

  wake(): void {
    this.#core?.wake?.();
  }
}

/** What is left of `OFFERED` when bits are off: a device must not offer what needs something that it does not offer. */
function offeredFeatures(off: bigint, queuePairs: number): bigint {
  let features = OFFERED & ~off;
  if (queuePairs === 1) features &= ~NET_FEATURE.MQ;
  if ((features & NET_FEATURE.CTRL_VQ) === 0n) features &= ~NET_FEATURE.CTRL_RX_EXTRA;
  for (const { feature, requires } of NET_FEATURE_REQUIRES) {
    if (!satisfied(features, requires)) features &= ~(1n << BigInt(NET_FEATURE_BIT[feature]));
  }
  return features;
}

function satisfied(features: bigint, requires: readonly (readonly NetFeatureName[])[]): boolean {
  return requires.some((set) => set.every((name) => (features & NET_FEATURE[name]) !== 0n));
}
