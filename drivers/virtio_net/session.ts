/**
 * Everything of a network device that lives from one reset to the next: features, queues, buffers, interrupts.
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../../lib/errors/mod.ts";
import {
  ETHERNET_HEADER_BYTES,
  NET_FEATURE,
  NET_HDR_BYTES,
  netControlQueue,
  netQueues,
} from "../../lib/virtio/constants/net.ts";
import type { VirtioDevice } from "../../lib/virtio/device.ts";
import { bindInterrupts, type BoundInterrupts } from "../../lib/virtio/interrupts.ts";
import { Waiter } from "../../lib/virtio/waiter.ts";
import { type NetConfig, readNetConfig } from "./config.ts";
import { ControlQueue } from "./control.ts";
import { netWishes } from "./features.ts";
import type { VirtioNetOptions } from "./options.ts";
import { ReceiveQueue } from "./receive.ts";
import { SlotPool } from "./slots.ts";
import { TransmitQueue } from "./transmit.ts";

const DEFAULT_BUFFER_BYTES = 2048;
/** A received frame may carry a VLAN tag on top of the MTU. */
const VLAN_TAG_BYTES = 4;
// used lengths and parts are 16-bit offsets in a burst; nothing on a wire is longer.
const MAX_BUFFER_BYTES = 65536;

/** What outlives a session. */
export interface SessionContext {
  readonly device: VirtioDevice;
  readonly options: VirtioNetOptions;
  readonly receiveCounts: Float64Array;
  readonly transmitCounts: Float64Array;
  /** Called when an interrupt may mean a change of the config space. */
  readonly onConfigInterrupt: () => void;
}

/** See the module's text. Made by `startSession`. */
export class NetSession {
  /** As read after negotiation. */
  readonly config: NetConfig;
  /** By pair. */
  readonly receive: readonly ReceiveQueue[];
  /** By pair. */
  readonly transmit: readonly TransmitQueue[];
  /** Undefined without CTRL_VQ. */
  readonly control: ControlQueue | undefined;
  readonly waiter: Waiter;
  readonly interrupts: BoundInterrupts;
  readonly #device: VirtioDevice;
  readonly #owned: readonly Disposable[];

  /** Takes over `owned`. */
  constructor(
    device: VirtioDevice,
    parts: Pick<NetSession, "config" | "receive" | "transmit" | "control" | "waiter" | "interrupts">,
    owned: readonly Disposable[],
  ) {
    this.#device = device;
    this.config = parts.config;
    this.receive = parts.receive;
    this.transmit = parts.transmit;
    this.control = parts.control;
    this.waiter = parts.waiter;
    this.interrupts = parts.interrupts;
    this.#owned = owned;
  }

  /** Longest frame to send. */
  get maxFrameBytes(): number {
    return this.config.mtu + ETHERNET_HEADER_BYTES;
  }

  /**
   * Resets the device, then lets everything go: a device that does not reset loses its memory all the same. Never throws.
   * @returns why the reset failed; undefined when it did not
   */
  stop(): unknown {
    return stop(this.#device, this.#owned);
  }
}

/** Brings the device up to DRIVER_OK with receive buffers in place. On failure everything is undone. */
export function startSession(context: SessionContext): NetSession {
  const { device } = context;
  const owned: Disposable[] = [];
  try {
    const session = build(context, owned);
    device.driverOk();
    // An interrupt is for somebody who sleeps: `Waiter` asks for it.
    for (const queue of [...session.transmit, ...session.receive]) queue.suppressInterrupts();
    for (const queue of session.receive) queue.start();
    return session;
  } catch (error) {
    stop(device, owned);
    throw error;
  }
}

function build(context: SessionContext, owned: Disposable[]): NetSession {
  const { device, options } = context;
  const { transport } = device;
  const name = transport.name;
  device.negotiate(netWishes(options));
  const config = readNetConfig(device);
  const pairs = options.queuePairs ?? 1;
  checkPairs(name, pairs, config.maxQueuePairs);
  const mergeable = device.has(NET_FEATURE.MRG_RXBUF);
  const bufferBytes = receiveBufferBytes(name, options.bufferBytes, config.mtu, mergeable);
  const size = options.queueSize ?? 256;

  const numbers = Array.from({ length: pairs }, (_, pair) => netQueues(pair));
  const controlIndex = device.has(NET_FEATURE.CTRL_VQ)
    ? netControlQueue(config.maxQueuePairs, device.has(NET_FEATURE.MQ))
    : undefined;
  const indices = numbers.flatMap(({ receive, transmit }) => [receive, transmit]);
  if (controlIndex !== undefined) indices.push(controlIndex);

  const interrupts = bindInterrupts(transport, options.interrupts ?? "auto", indices);
  owned.push({ [Symbol.dispose]: () => transport.closed || transport.disableInterrupts() });
  const waiter = new Waiter({
    mode: options.wait ?? (interrupts.kind === "none" ? "poll" : "adaptive"),
    ...(options.spinMicroseconds === undefined ? {} : { spinMicroseconds: options.spinMicroseconds }),
  });
  owned.push(waiter);
  if (waiter.mode !== "poll" && interrupts.kind === "none") {
    throw new UsageError(`${name}: wait mode "${waiter.mode}" without interrupts`, {
      hint: 'use wait: "poll"',
    });
  }
  interrupts.vectors.forEach((vector, at) => {
    const config = interrupts.carriesConfig(at);
    waiter.watch(vector, config ? (isr) => void ((isr & 2) !== 0 && context.onConfigInterrupt()) : undefined);
  });

  const setUp = (index: number, wanted: number, maxSegments: number) => {
    const vector = interrupts.queueVector(index);
    return device.createQueue(index, {
      size: wanted,
      maxSegments,
      ...(vector === undefined ? {} : { vector }),
    });
  };
  const maxFrameBytes = config.mtu + ETHERNET_HEADER_BYTES;
  const receive: ReceiveQueue[] = [];
  const transmit: TransmitQueue[] = [];
  for (const number of numbers) {
    const receiveQueue = setUp(number.receive, size, 0);
    const buffers = new SlotPool(
      transport.dma,
      receiveQueue.size,
      bufferBytes,
      NET_HDR_BYTES,
      `queue ${number.receive} receive buffers`,
      { deviceReads: true, deviceWrites: true },
    );
    owned.push(buffers);
    receive.push(new ReceiveQueue(name, receiveQueue, buffers, mergeable, context.receiveCounts));

    const transmitQueue = setUp(number.transmit, size, 0);
    const frames = new SlotPool(
      transport.dma,
      transmitQueue.size,
      NET_HDR_BYTES + maxFrameBytes,
      NET_HDR_BYTES,
      `queue ${number.transmit} transmit buffers`,
      { deviceReads: true, deviceWrites: false },
    );
    owned.push(frames);
    transmit.push(new TransmitQueue(name, transmitQueue, frames, maxFrameBytes, context.transmitCounts));
  }
  let control: ControlQueue | undefined;
  if (controlIndex !== undefined) {
    const queue = setUp(controlIndex, 16, 2);
    control = new ControlQueue(name, queue, transport.dma, waiter, options.controlTimeoutMs ?? 2000);
    owned.push(control);
  }
  return new NetSession(device, { config, receive, transmit, control, waiter, interrupts }, owned);
}

/** The device and its queues first, then what they used, in reverse order. */
function stop(device: VirtioDevice, owned: readonly Disposable[]): unknown {
  const failure = device.stop();
  for (const one of [...owned].reverse()) attempt(() => one[Symbol.dispose]());
  return failure;
}

function attempt(act: () => unknown): void {
  try {
    act();
  } catch {
    // The device does not reset, or the peer is gone. What is left to do is to let go of the rest.
  }
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
  mergeable: boolean,
): number {
  const whole = NET_HDR_BYTES + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES + mtu;
  const least = mergeable ? NET_HDR_BYTES + ETHERNET_HEADER_BYTES : whole;
  const bytes = wanted ?? Math.max(DEFAULT_BUFFER_BYTES, least);
  if (Number.isInteger(bytes) && bytes >= least && bytes <= MAX_BUFFER_BYTES + NET_HDR_BYTES) return bytes;
  throw new UsageError(`${name}: receive buffers of ${bytes} bytes`, {
    hint: mergeable
      ? `${least} bytes at least`
      : `${least} bytes at least, since a frame of MTU ${mtu} is not spread over several buffers here`,
  });
}
