/**
 * Everything of a network device that lives from one reset to the next: features, queues, buffers, interrupts.
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import { adminQueueNumbers, type GroupOwner } from "../../../lib/virtio/admin/owner.ts";
import { FEATURE } from "../../../lib/virtio/spec/features.ts";
import {
  ETHERNET_HEADER_BYTES,
  NET_FEATURE,
  netControlQueue,
  netQueues,
} from "../../../lib/virtio/spec/net.ts";
import type { VirtioDevice } from "../../../lib/virtio/device.ts";
import { ControlQueue } from "../../../lib/virtio/control/control_queue.ts";
import { hasQueueState } from "../../../lib/virtio/features.ts";
import { BufferPool } from "../../../lib/virtio/queue/buffer_pool.ts";
import type { QueueState } from "../../../lib/virtio/spec/queue_state.ts";
import type { Virtqueue } from "../../../lib/virtio/queue/virtqueue.ts";
import type { DriverParts } from "../../driver_life.ts";
import type { Listeners } from "../../listeners.ts";
import type { Session } from "../../session.ts";
import { buildAdminQueues } from "../../admin/session.ts";
import { type NetConfig, readLinkUp, readNetConfig } from "./config.ts";
import { netWishes } from "./features.ts";
import { type NetFraming, netFraming } from "./framing.ts";
import { LendablePair } from "./lent_pair.ts";
import type { VirtioNetOptions } from "./options.ts";
import { ReceiveQueue, slotsFor } from "./receive.ts";
import { decodeFrame, type SavedNet, type SavedReceive } from "./saved.ts";
import { madeUpMac, NetSettings, type OwnAddress } from "./settings.ts";
import { TransmitQueue } from "./transmit.ts";

const DEFAULT_BUFFER_BYTES = 2048;
/** A received frame may carry a VLAN tag on top of the MTU. */
const VLAN_TAG_BYTES = 4;
// used lengths and parts are 16-bit offsets in a burst; nothing on a wire is longer.
const MAX_BUFFER_BYTES = 65536;

/** What outlives a session. */
export interface NetContext extends OwnAddress {
  readonly options: VirtioNetOptions;
  readonly receiveCounts: Float64Array;
  readonly transmitCounts: Float64Array;
  /** Told of link changes. */
  readonly listeners: Listeners<[up: boolean]>;
  /** Undefined without the option. */
  readonly admin: GroupOwner | undefined;
  /** The first session goes on where another device stopped. */
  resume: ResumePlan | undefined;
}

/** What a session goes on with. */
export interface ResumePlan {
  readonly saved: SavedNet;
  /** `continue`: rings at their saved places, or an error; `fresh`: at the beginning; undefined: continue where possible. */
  readonly rings: "continue" | "fresh" | undefined;
}

const CONTROL_QUEUE_SIZE = 16;
/** Most parts of a command: class and command, two tables of addresses, acknowledgement. */
const CONTROL_SEGMENTS = 4;

/** See the module's text. */
export class NetSession implements DriverParts {
  /** As read after negotiation. */
  readonly config: NetConfig;
  /** Longest frame to send. */
  readonly maxFrameBytes: number;
  /** Bytes of each receive buffer. */
  readonly bufferBytes: number;
  /** By pair. */
  readonly receive: readonly ReceiveQueue[];
  /** By pair. */
  readonly transmit: readonly TransmitQueue[];
  /** Pairs after those, for other threads. */
  readonly lendable: readonly LendablePair[];
  readonly settings: NetSettings;
  /** Of a session that goes on with a saved one: whether its rings do, or start at the beginning. */
  readonly rings: "continued" | "fresh";
  /** As of the last look. */
  linkUp: boolean;
  readonly #device: VirtioDevice;
  readonly #context: NetContext;
  readonly #resume: ResumePlan | undefined;
  readonly #pairs: number;
  #generation: number;

  /**
   * Brings the device up to DRIVER_OK with receive buffers in place. A session that goes on with a saved one has none yet, and its frames are
   * not visible to the device: `begin` puts addresses and filters back before.
   */
  constructor(session: Session, context: NetContext) {
    const { device } = session;
    const { options, resume } = context;
    const { transport } = device;
    const name = transport.name;
    this.#device = device;
    this.#context = context;
    this.#resume = resume;
    context.resume = undefined;
    const adminOptions = options.admin === true ? {} : options.admin || undefined;
    const adminNumbers = adminOptions && adminQueueNumbers(transport, adminOptions.adminQueues);
    session.negotiate(netWishes(options));
    const config = this.config = readNetConfig(device);
    const pairs = options.queuePairs ?? 1;
    checkPairs(name, pairs, config.maxQueuePairs);
    const own = pairs - checkLent(name, options.lentPairs ?? 0, pairs, transport.legacy);
    this.#pairs = pairs;
    const framing = netFraming(device);
    const { headerBytes, tableSegments } = framing;
    const bufferBytes = receiveBufferBytes(name, options.bufferBytes, config.mtu, framing);
    this.bufferBytes = bufferBytes;
    const size = options.queueSize ?? 256;

    const numbers = Array.from({ length: pairs }, (_, pair) => netQueues(pair));
    const controlIndex = device.has(NET_FEATURE.CTRL_VQ)
      ? netControlQueue(config.maxQueuePairs, device.has(NET_FEATURE.MQ))
      : undefined;
    const indices = numbers.flatMap(({ receive, transmit }) => [receive, transmit]);
    if (controlIndex !== undefined) indices.push(controlIndex);
    if (adminNumbers !== undefined) indices.push(...adminNumbers);
    const lent = numbers.slice(own).flatMap(({ receive, transmit }) => [receive, transmit]);
    session.listen(indices, undefined, lent);

    if (resume !== undefined && config.mtu < resume.saved.mtu) {
      throw new UnsupportedError(
        `${name} has MTU ${config.mtu}, the suspended device had ${resume.saved.mtu}`,
      );
    }
    this.rings = resume === undefined ? "fresh" : chooseRings(device, resume, size, controlIndex);
    const start = (state: QueueState | undefined) => (this.rings === "continued" ? state : undefined);
    const maxFrameBytes = this.maxFrameBytes = config.mtu + ETHERNET_HEADER_BYTES;
    const receive: ReceiveQueue[] = [];
    const transmit: TransmitQueue[] = [];
    const lendable: LendablePair[] = [];
    for (const [pair, number] of numbers.entries()) {
      const isLent = pair >= own;
      const saved = resume?.saved.pairs[pair];
      const queue = (index: number, state: QueueState | undefined) =>
        session.queue(index, size, tableSegments, start(state), isLent);
      const incoming = queue(number.receive, saved?.receive.ring.state);
      const receiveSlots = slotCount(incoming, size, framing);
      const buffers = session.own(
        new BufferPool(incoming, transport.dma, {
          label: "receive buffers",
          count: receiveSlots + loadedSlots(saved?.receive, headerBytes, bufferBytes),
          slotBytes: bufferBytes,
          headBytes: headerBytes,
          chains: framing.headerApart ? undefined : "writable",
          lendable: isLent,
        }),
      );

      const outgoing = queue(number.transmit, saved?.transmit.ring.state);
      const frames = session.own(
        new BufferPool(outgoing, transport.dma, {
          label: "transmit buffers",
          count: slotCount(outgoing, size, framing),
          slotBytes: headerBytes + maxFrameBytes,
          headBytes: headerBytes,
          access: { deviceReads: true, deviceWrites: false },
          chains: framing.headerApart ? undefined : "readable",
          lendable: isLent,
        }),
      );
      if (isLent) {
        const vector = (index: number) => session.ownVector(index);
        const parts = { name, pair, framing, receiveSlots, maxFrameBytes, vector };
        lendable.push(new LendablePair({ ...parts, receive: buffers, transmit: frames }));
        continue;
      }
      receive.push(new ReceiveQueue(name, buffers, receiveSlots, framing, context.receiveCounts));
      transmit.push(new TransmitQueue(name, frames, maxFrameBytes, framing, context.transmitCounts));
      if (saved !== undefined) {
        receive.at(-1)!.load(saved.receive);
        transmit.at(-1)!.reoffer(saved.transmit);
      }
    }
    this.receive = receive;
    this.transmit = transmit;
    this.lendable = lendable;
    if (lendable.length > 0) {
      // Who waits in another thread does not see that the device's process is gone, or that the transport is closed.
      for (
        const forget of [
          transport.lifeline?.onEnd(() => this.end()),
          transport.onClose?.(() => this.end()),
        ]
      ) {
        if (forget !== undefined) session.own({ [Symbol.dispose]: forget });
      }
    }
    let control: ControlQueue | undefined;
    if (controlIndex !== undefined) {
      const state = start(resume?.saved.control?.ring.state);
      const queue = session.queue(controlIndex, CONTROL_QUEUE_SIZE, CONTROL_SEGMENTS, state);
      const timeoutMs = options.controlTimeoutMs ?? 2000;
      control = session.own(new ControlQueue(session.site, queue, timeoutMs, framing.headerApart));
    }
    this.settings = new NetSettings(device, control, pairs, context);
    const { absence } = transport;
    if (control !== undefined && absence !== undefined) {
      session.own({ [Symbol.dispose]: absence.onReturn(() => this.settings.repeat()) });
    }
    if (adminNumbers !== undefined) {
      context.admin!.attach(buildAdminQueues(session, adminNumbers, adminOptions!));
    }
    device.driverOk();
    // Nobody waits yet: `Waiter` asks for interrupts before it sleeps.
    for (const queue of [...transmit, ...receive]) queue.suppressInterrupts();
    if (resume === undefined) { for (const queue of receive) queue.start(); }
    context.mac = config.mac === undefined ? madeUpMac() : Uint8Array.from(config.mac);
    this.linkUp = config.linkUp;
    this.#generation = transport.configGeneration();
  }

  /** Administration, queue pairs, and what a saved device had set; then it gets its buffers, and the frames that are sent again. */
  async begin(): Promise<void> {
    const saved = this.#resume?.saved;
    await this.#context.admin?.begin();
    const pairs = this.#pairs;
    if (pairs > 1) await this.settings.setQueuePairs(saved?.activePairs ?? pairs);
    if (saved === undefined) return;
    await this.settings.putBack(saved);
    for (const queue of this.receive) queue.start();
    for (const queue of this.transmit) queue.flush();
  }

  /** What is lent is taken back, and its counts are kept. */
  end(): void {
    const { receiveCounts, transmitCounts } = this.#context;
    for (const pair of this.lendable) {
      pair[Symbol.dispose]();
      moveCounts(pair.receiveCounts, receiveCounts);
      moveCounts(pair.transmitCounts, transmitCounts);
    }
  }

  /** Looks at status and config; tells the listeners. */
  configChanged(): void {
    this.#device.checkAlive();
    const generation = this.#device.transport.configGeneration();
    const up = readLinkUp(this.#device);
    if (generation === this.#generation && up === this.linkUp) return;
    this.#generation = generation;
    if (up === this.linkUp) return;
    this.linkUp = up;
    this.#context.listeners.tell(up);
  }

  /** What the queues hold, and the rest of what makes the device go on elsewhere. It must be stopped. @throws DeviceError */
  save(
    states: ReadonlyMap<number, QueueState>,
  ): Pick<
    SavedNet,
    "mtu" | "bufferBytes" | "mac" | "filters" | "macTable" | "activePairs" | "pairs" | "control"
  > {
    const { receive, transmit } = this;
    const stateOf = (index: number) => states.get(index) ?? null;
    return {
      mtu: this.config.mtu,
      bufferBytes: this.bufferBytes,
      ...this.settings.save(stateOf),
      pairs: receive.map((queue, pair) => ({
        receive: queue.save(stateOf(queue.index)),
        transmit: transmit[pair]!.save(stateOf(transmit[pair]!.index)),
      })),
    };
  }
}

function moveCounts(from: Float64Array, to: Float64Array): void {
  for (let at = 0; at < to.length; at++) to[at]! += from[at]!;
  from.fill(0);
}

function checkLent(name: string, lent: number, pairs: number, legacy: boolean): number {
  if (!Number.isInteger(lent) || lent < 0 || lent > pairs) {
    throw new UsageError(`${name}: ${shown(lent)} of ${pairs} queue pairs are to be lent`);
  }
  if (lent === 0 || !legacy) return lent;
  throw new UnsupportedError(`${name}: queue pairs of a legacy device cannot be lent`, {
    hint: "use the modern interface of the function",
  });
}

/** Rings can go on in place when the device takes their state, and they are what they were: layout, sizes, numbers. */
function chooseRings(
  device: VirtioDevice,
  { saved, rings }: ResumePlan,
  size: number,
  controlIndex: number | undefined,
): "continued" | "fresh" {
  if (rings === "fresh") return "fresh";
  const { transport } = device;
  const layout = device.has(FEATURE.RING_PACKED) ? "packed" : "split";
  const all = saved.pairs.flatMap(({ receive, transmit }) => [receive.ring, transmit.ring]);
  const problem = !hasQueueState(transport, device.features)
    ? 'VIRTIO_F_QUEUE_STATE was not negotiated; open the transport with profile "queue-state"'
    : all[0]!.state.layout !== layout
    ? `the rings are ${all[0]!.state.layout}, ${layout} was negotiated`
    : all.some((ring) => ring.size !== size || transport.queueMaxSize(ring.queue) < size)
    ? `the sizes of the rings are not the ${size} of the new ones`
    : (saved.control?.ring.queue ?? controlIndex) !== controlIndex
    ? "the control queue has another number here"
    : saved.control !== null &&
        saved.control.ring.size !== Math.min(CONTROL_QUEUE_SIZE, transport.queueMaxSize(controlIndex!))
    ? "the control queue has another size here"
    : undefined;
  if (problem === undefined) return "continued";
  if (rings === undefined) return "fresh";
  throw new UnsupportedError(`${transport.name}: the saved rings cannot go on: ${problem}`, {
    hint: 'rings: "fresh" starts new ones, with the same frames',
  });
}

/** Buffers of a queue: as many as were asked for and the ring has room for. A legacy device's ring may be longer than what was asked for. */
function slotCount(queue: Virtqueue, wanted: number, { descriptors }: NetFraming): number {
  return Math.max(1, Math.min(wanted, Math.floor(queue.size / descriptors)));
}

function loadedSlots(saved: SavedReceive | undefined, headerBytes: number, bufferBytes: number): number {
  const bytes = (frame: string) => headerBytes + decodeFrame(frame).length;
  return saved?.frames.reduce((sum, one) => sum + slotsFor(bytes(one), bufferBytes), 0) ?? 0;
}

function checkPairs(name: string, pairs: number, maximum: number): void {
  if (!Number.isInteger(pairs) || pairs < 1) throw new UsageError(`${name}: ${pairs} queue pairs`);
  if (pairs <= maximum) return;
  throw new UnsupportedError(
    `${name} has ${maximum} queue ${maximum === 1 ? "pair" : "pairs"}, ${pairs} are wanted`,
  );
}

/** Without mergeable buffers each must hold a whole frame (virtio 1.4 §5.1.6.3.1). */
function receiveBufferBytes(
  name: string,
  wanted: number | undefined,
  mtu: number,
  { mergeable, headerBytes }: NetFraming,
): number {
  const whole = headerBytes + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES + mtu;
  const least = mergeable ? headerBytes + ETHERNET_HEADER_BYTES : whole;
  const bytes = wanted ?? Math.max(DEFAULT_BUFFER_BYTES, least);
  if (Number.isInteger(bytes) && bytes >= least && bytes <= MAX_BUFFER_BYTES + headerBytes) return bytes;
  throw new UsageError(`${name}: receive buffers of ${bytes} bytes`, {
    hint: mergeable
      ? `${least} bytes at least`
      : `${least} bytes at least, since a frame of MTU ${mtu} is not spread over several buffers here`,
  });
}
