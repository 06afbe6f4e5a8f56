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
import type { Waiter } from "../../lib/virtio/waiter.ts";
import type { Session } from "../session_owner.ts";
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
  readonly options: VirtioNetOptions;
  readonly receiveCounts: Float64Array;
  readonly transmitCounts: Float64Array;
  /** Called when an interrupt may mean a change of the config space. */
  readonly onConfigInterrupt: () => void;
}

/** See the module's text. */
export interface NetSession {
  /** As read after negotiation. */
  readonly config: NetConfig;
  /** Longest frame to send. */
  readonly maxFrameBytes: number;
  /** By pair. */
  readonly receive: readonly ReceiveQueue[];
  /** By pair. */
  readonly transmit: readonly TransmitQueue[];
  /** Undefined without CTRL_VQ. */
  readonly control: ControlQueue | undefined;
  readonly waiter: Waiter;
}

/** Brings the device up to DRIVER_OK with receive buffers in place. */
export function buildSession(session: Session, context: SessionContext): NetSession {
  const { device } = session;
  const { options } = context;
  const { transport } = device;
  const name = transport.name;
  device.negotiate(netWishes(options, transport.profile));
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
  session.listen(options, indices, context.onConfigInterrupt);

  const maxFrameBytes = config.mtu + ETHERNET_HEADER_BYTES;
  const receive: ReceiveQueue[] = [];
  const transmit: TransmitQueue[] = [];
  for (const number of numbers) {
    const receiveQueue = session.queue(number.receive, size);
    const buffers = session.own(
      new SlotPool(
        transport.dma,
        receiveQueue.size,
        bufferBytes,
        NET_HDR_BYTES,
        `queue ${number.receive} receive buffers`,
        { deviceReads: true, deviceWrites: true },
      ),
    );
    receive.push(new ReceiveQueue(name, receiveQueue, buffers, mergeable, context.receiveCounts));

    const transmitQueue = session.queue(number.transmit, size);
    const frames = session.own(
      new SlotPool(
        transport.dma,
        transmitQueue.size,
        NET_HDR_BYTES + maxFrameBytes,
        NET_HDR_BYTES,
        `queue ${number.transmit} transmit buffers`,
        { deviceReads: true, deviceWrites: false },
      ),
    );
    transmit.push(new TransmitQueue(name, transmitQueue, frames, maxFrameBytes, context.transmitCounts));
  }
  const { waiter } = session;
  let control: ControlQueue | undefined;
  if (controlIndex !== undefined) {
    const queue = session.queue(controlIndex, 16, 2);
    control = session.own(
      new ControlQueue(name, queue, transport.dma, waiter, options.controlTimeoutMs ?? 2000),
    );
  }
  device.driverOk();
  // An interrupt is for somebody who sleeps: `Waiter` asks for it.
  for (const queue of [...transmit, ...receive]) queue.suppressInterrupts();
  for (const queue of receive) queue.start();
  return { config, maxFrameBytes, receive, transmit, control, waiter };
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
