/**
 * vhost-user: the device's status, features and queues as messages to the process that serves it.
 *
 * @module
 */
import type { EventFd } from "../../../../ffi/mod.ts";
import { requireType, typedErrors } from "../../../errors/doors.ts";
import {
  ClosedError,
  DeviceError,
  ProtocolError,
  UnsupportedError,
  UsageError,
} from "../../../errors/mod.ts";
import { shown } from "../../../errors/shown.ts";
import type { VhostUserDevice } from "../../../sockets/vhost_user/client/device.ts";
import type { FrontEndChannel } from "../../../sockets/vhost_user/client/channel.ts";
import { LIMIT, PROTOCOL_FEATURE, REQUEST, VHOST_FEATURE } from "../../../sockets/vhost_user/protocol.ts";
import type { InterruptVector } from "../../../wait/interrupt_vector.ts";
import { DEVICE_ID } from "../../spec/device_id.ts";
import { deviceTypeName } from "../../spec/device_types.ts";
import { FEATURE } from "../../spec/features.ts";
import { NET_FEATURE, netControlQueue } from "../../spec/net.ts";
import type { QueueState } from "../../spec/queue_state.ts";
import { STATUS } from "../../spec/status.ts";
import { BaseTransport } from "../base_transport.ts";
import { quietly } from "../letting_go.ts";
import type {
  DeviceAbsence,
  Doorbell,
  InterruptKind,
  QueueAddresses,
  QueueTakeover,
  VirtioTransport,
} from "../transport.ts";
import { BACK_END_COMMANDS, carriedFeatures } from "./carried.ts";
import { VhostUserConfig } from "./config.ts";
import { answerNetControl, OWN_NET_CONTROL_FEATURES } from "./net_control.ts";
import { OwnQueue } from "./own_queue.ts";
import { VhostUserRing } from "./ring.ts";
import { VhostUserRings } from "./rings.ts";
import { VhostUserVectors } from "./vectors.ts";

/** Nothing says how long a queue may be; back ends take more than this. */
const QUEUE_SIZE = 1024;
/** Queues of a device whose back end does not say how many it has. */
const QUEUES: ReadonlyMap<number, number> = new Map([[DEVICE_ID.console, 2]]);

const NO_ADDRESSES: QueueAddresses = { size: 0, descriptorArea: 0n, driverArea: 0n, deviceArea: 0n };

/** See the module. Queues are started with DRIVER_OK, and stopped by a reset. */
export class VhostUserTransport extends BaseTransport implements VirtioTransport {
  static {
    typedErrors(this);
  }

  /** See `VirtioTransport`. */
  readonly kind = "vhost-user";
  /** See `VirtioTransport`. */
  readonly legacy = false;
  /** Queues: the most that the back end takes, and the control queue of a network device. */
  readonly queueCount: number;
  /** Queue pairs of a network device. */
  readonly #pairs: number;
  /** The control queue is this object's. */
  readonly #ownControl: boolean;
  readonly #device: VhostUserDevice;
  readonly #config: VhostUserConfig;
  readonly #vectors: VhostUserVectors;
  readonly #rings: VhostUserRings;
  #status = 0;
  readonly #returned = new Set<() => Promise<void>>();
  /** See `VirtioTransport`. */
  readonly absence: DeviceAbsence;

  /** Asks how many queues there are, and for the config space. The device stays its owner's. @throws as `VhostUserDevice.use` */
  constructor(device: VhostUserDevice) {
    super(device, device.deviceId);
    this.#device = device;
    const told = queuesTold(device);
    this.#config = new VhostUserConfig(device, told);
    const isNet = device.deviceId === DEVICE_ID.net;
    const offers = (bits: bigint) => isNet && (device.features & bits) !== 0n;
    // QEMU and DPDK take the number of a network device for one of pairs, and so does this library's back end.
    const rings = Math.min(isNet ? told * 2 : told, LIMIT.vrings);
    this.#pairs = rings >> 1;
    const hasControl = offers(NET_FEATURE.CTRL_VQ | NET_FEATURE.MQ);
    this.#ownControl = hasControl && !offers(BACK_END_COMMANDS);
    this.queueCount = rings + (hasControl ? 1 : 0);
    this.#vectors = new VhostUserVectors(this.name, 1 + this.queueCount);
    // Last: nobody would close it if one of those had failed.
    this.#rings = new VhostUserRings(device, this.#vectors);
    this.absence = {
      get away() {
        return device.lost;
      },
      get returns() {
        return device.returns;
      },
      onReturn: (handler) => {
        requireType(handler, "function", "onReturn: handler");
        this.#returned.add(handler);
        return () => void this.#returned.delete(handler);
      },
    };
    device.attach(() => this.#vectors.signalConfig(), () => this.#return());
  }

  /** See `VirtioTransport`. Without fields that are not known; and with MAC when the caller gave one. */
  readDeviceFeatures(): bigint {
    this.requireOpen();
    return (this.#device.features | this.#ownFeatures) & this.carried;
  }

  /** What the front end adds. */
  get #ownFeatures(): bigint {
    if (this.deviceId !== DEVICE_ID.net) return 0n;
    const control = this.#ownControl ? OWN_NET_CONTROL_FEATURES : 0n;
    return control | (this.#device.mac === undefined ? 0n : NET_FEATURE.MAC);
  }

  protected override get carried(): bigint {
    return carriedFeatures(this.#device, this.configSizeBytes, this.#ownControl);
  }

  protected override putDriverFeatures(bits: bigint): void {
    const known = bits & this.#device.features;
    const value = known | (this.#device.features & VHOST_FEATURE.PROTOCOL_FEATURES);
    this.#device.use((channel) => channel.tellNumber(REQUEST.setFeatures, value));
  }

  /** `device_status`: the back end's with STATUS, else, and while it is lost, as written. A ring that failed asks for a reset. */
  readStatus(): number {
    this.requireOpen();
    const { failed } = this.#rings;
    let status = this.#status;
    if (this.#device.has(PROTOCOL_FEATURE.STATUS)) {
      const told = this.#device.useIfThere((channel) => channel.askNumber(REQUEST.getStatus));
      if (told !== undefined && told > 0xffn) {
        throw new DeviceError(`0x${told.toString(16)} is no status`, this.#where("device_status"));
      }
      if (told !== undefined) status = Number(told);
    }
    return failed ? status | STATUS.deviceNeedsReset : status;
  }

  /** Starts the queues with DRIVER_OK, then tells the back end, with STATUS. */
  writeStatus(status: number): void {
    this.requireOpen();
    if ((status & STATUS.driverOk) !== 0) this.#rings.start(this.#layout);
    this.#device.use((channel) => this.#putStatus(channel, status));
    this.#status = status;
  }

  #putStatus(channel: FrontEndChannel, status: number): void {
    if (this.#device.has(PROTOCOL_FEATURE.STATUS)) channel.tellNumber(REQUEST.setStatus, BigInt(status));
  }

  /** Stops all queues and waits for that; then RESET_DEVICE and status 0, where the back end has them. */
  reset(): void {
    this.requireOpen();
    this.#stop();
    this.rememberDriverFeatures(0n);
  }

  /** What a back end that is lost had is gone with it. */
  #stop(): void {
    const stop = this.#rings.forget();
    this.#vectors.unbind();
    this.#status = 0;
    this.#config.forget();
    if (this.#device.lost) return;
    const before = this.#device.returns;
    this.#device.use((channel) => {
      // One that is back has nothing to stop.
      if (this.#device.returns !== before) return;
      stop(channel);
      const resets = this.#device.has(PROTOCOL_FEATURE.RESET_DEVICE);
      if (resets) channel.tell(REQUEST.resetDevice, new Uint8Array(0));
      this.#putStatus(channel, 0);
      if (resets || this.#device.has(PROTOCOL_FEATURE.STATUS)) channel.settle();
    });
  }

  /** 0 where nothing is known of it. */
  get configSizeBytes(): number {
    return this.#config.sizeBytes;
  }

  /** Reads the config space anew: what `readConfig` then gives belongs together. */
  configGeneration(): number {
    this.requireOpen();
    return this.#config.generation();
  }

  /** See `VirtioTransport`; as of the last `configGeneration`. @throws UnsupportedError when the back end has none at all */
  readConfig(offset: number, width: 1 | 2 | 4): number {
    this.#requireField(offset, width);
    return this.#config.read(offset, width);
  }

  /** See `VirtioTransport`. */
  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#requireField(offset, width);
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * width)) {
      throw new UsageError(`${this.name}: ${shown(value)} does not fit ${8 * width} bits`);
    }
    this.#config.write(offset, width, value);
  }

  #requireField(offset: number, width: 1 | 2 | 4): void {
    if (this.configSizeBytes === 0) {
      throw new UnsupportedError(
        `${this.name}: the back end tells no configuration (CONFIG), which a ${
          deviceTypeName(this.deviceId)
        } needs`,
        { hint: "is `type` that of the device behind this socket?" },
      );
    }
    this.requireConfig(offset, width);
  }

  /** See `VirtioTransport`. The protocol has no limit of its own. */
  queueMaxSize(queue: number): number {
    this.requireQueue(queue);
    return queue < this.queueCount ? QUEUE_SIZE : 0;
  }

  /** Remembers it until DRIVER_OK; a queue that was reset alone is started at once. */
  enableQueue(queue: number, addresses: QueueAddresses, takeover?: QueueTakeover): void {
    this.requireQueue(queue);
    if (this.#rings.get(queue) !== undefined) {
      throw new DeviceError(
        "the queue is set up already; it takes a reset to set it up again",
        this.#where("queue_enable", queue),
      );
    }
    requireType(addresses, "object", "enableQueue: addresses", "size", "descriptorArea");
    if (takeover !== undefined) requireType(takeover, "function", "enableQueue: takeover");
    const ring = new VhostUserRing(queue, addresses, takeover);
    if (this.#ownControl && queue === this.#controlQueue) ring.own = this.#serveControl(ring);
    else if (this.#ownControl && (this.driverFeatures & NET_FEATURE.MQ) !== 0n) ring.on = queue < 2;
    this.#rings.add(ring);
    if ((this.#status & STATUS.driverOk) !== 0) this.#rings.start(this.#layout);
  }

  get #controlQueue(): number {
    return netControlQueue(this.#pairs, (this.driverFeatures & NET_FEATURE.MQ) !== 0n);
  }

  get #layout(): QueueState["layout"] {
    return (this.driverFeatures & FEATURE.RING_PACKED) !== 0n ? "packed" : "split";
  }

  #serveControl({ index, addresses }: VhostUserRing): OwnQueue {
    const eventIndex = (this.driverFeatures & FEATURE.EVENT_IDX) !== 0n;
    return new OwnQueue({ layout: this.#layout, size: addresses.size, eventIndex }, addresses, {
      function: this.name,
      queue: index,
      memory: (iova, lengthBytes) => this.#device.bytesAt(iova, lengthBytes),
      answer: (command) => answerNetControl(command, this.#pairs, (pairs) => this.#rings.setPairs(pairs)),
    });
  }

  /** See `VirtioTransport`. */
  queueEnabled(queue: number): boolean {
    this.requireQueue(queue);
    return this.#rings.get(queue) !== undefined;
  }

  protected override queueAreas(queue: number): QueueAddresses {
    return this.#rings.get(queue)?.addresses ?? NO_ADDRESSES;
  }

  protected override queueVector(queue: number): number | null {
    return this.#vectors.ofQueue(queue);
  }

  /** GET_VRING_BASE (RING_RESET). */
  resetQueue(queue: number): void {
    this.requireRingReset();
    this.requireQueue(queue);
    const ring = this.#rings.get(queue);
    if (ring !== undefined) this.#rings.remove(ring);
  }

  /** A back end is back: it is told what the one before was told, and goes on where that stopped. */
  #return(): void {
    if (this.closed || this.#status === 0) return;
    if (this.driverFeatures !== 0n) this.putDriverFeatures(this.driverFeatures);
    this.#config.repeat();
    this.#rings.startAgain();
    this.#device.use((channel) => {
      this.#putStatus(channel, this.#status);
      channel.settle();
    });
    const said = this.#ownControl ? [] : [...this.#returned].map((one) => this.#sayAgain(one));
    // Until a command says that there are more, there is one pair of queues.
    const { deviceId } = this;
    const beyond = (queue: number) => queue >= 2 && queue !== this.#controlQueue;
    const later = (queue: number) => said.length > 0 && deviceId === DEVICE_ID.net && beyond(queue);
    this.#rings.kickAll(later, Promise.all(said));
    this.#vectors.signalAll();
  }

  /** Of the front end's own control queue all is as it was, and of another the driver says it. */
  async #sayAgain(handler: () => Promise<void>): Promise<void> {
    try {
      await handler();
    } catch (error) {
      if (!this.closed && !(error instanceof ClosedError)) this.#device.giveUp(error as Error);
    }
  }

  /** One system call a notification. */
  doorbell(queue: number): Doorbell {
    this.requireQueue(queue);
    const ring = this.#rings.get(queue);
    if (ring === undefined) throw new UsageError(`${this.name}: queue ${queue} is not set up`);
    const { kick, own } = ring;
    return {
      ring: () => {
        if (this.closed) throw new ClosedError(this.name);
        if (ring.held) return;
        if (own === undefined) kick.signal();
        else if (own.serve()) this.#vectors.call(queue)?.signal();
      },
    };
  }

  /** See `VirtioTransport`. */
  interruptCount(kind: InterruptKind): number {
    this.requireOpen();
    return this.#vectors.count(kind);
  }

  /** See `VirtioTransport`. */
  enableInterrupts(kind: InterruptKind, count: number, given?: readonly EventFd[]): InterruptVector[] {
    if (this.closed) { for (const one of given ?? []) one.close(); }
    this.requireOpen();
    return this.#vectors.enable(kind, count, given);
  }

  /** See `VirtioTransport`. */
  disableInterrupts(): void {
    this.requireOpen();
    this.#dropInterrupts();
  }

  #dropInterrupts(): void {
    try {
      for (const queue of this.#vectors.unbind()) this.#rings.putCall(queue);
    } finally {
      this.#vectors.close();
    }
  }

  /** See `VirtioTransport`: raised when the back end tells that the config space has changed. */
  setConfigVector(vector: number | null): void {
    this.requireOpen();
    this.#vectors.config = this.#vectors.check(vector);
  }

  /** See `VirtioTransport`. */
  setQueueVector(queue: number, vector: number | null): void {
    this.requireQueue(queue);
    this.#vectors.bind(queue, vector);
    this.#rings.putCall(queue);
  }

  /** There is no line. */
  readInterruptStatus(): number {
    this.requireOpen();
    return 0;
  }

  #where(field: string, queue?: number) {
    return { function: this.name, queue, field };
  }

  protected override end(gone: boolean): void {
    // Nobody is waited for that is closed, or lost.
    if (!gone) quietly(() => this.#stop());
    quietly(() => this.#dropInterrupts());
    this.#rings.close();
  }
}

/** As the back end says it, else as many as the type has at least: of a network device pairs. @throws ProtocolError for 0 */
function queuesTold(device: VhostUserDevice): number {
  const least = QUEUES.get(device.deviceId) ?? 1;
  if (!device.has(PROTOCOL_FEATURE.MQ)) return least;
  const told = Number(device.use((channel) => channel.askNumber(REQUEST.getQueueNum)));
  if (told >= least) return told;
  throw new ProtocolError(
    `${device.name}: reply to GET_QUEUE_NUM: ${told} queues of a ${deviceTypeName(device.deviceId)}`,
  );
}
