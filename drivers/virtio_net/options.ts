/**
 * How a network device is opened.
 *
 * @module
 */
import type { GroupOwnerOptions } from "../../lib/virtio/admin/owner.ts";
import type { InterruptChoice } from "../../lib/virtio/interrupts.ts";
import type { RingOptions } from "../../lib/virtio/features.ts";
import type { WaitMode } from "../../lib/virtio/waiter.ts";

/** Options of `VirtioNet.open`. Ring features are accepted when offered, unless turned off (`RingOptions`). */
export interface VirtioNetOptions extends RingOptions {
  /** Pairs of receive and transmit queues to set up and use. Default 1; more need MQ. */
  readonly queuePairs?: number;
  /** Descriptors, and so buffers, of each receive and transmit queue. Default 256; the device may have fewer. */
  readonly queueSize?: number;
  /**
   * Bytes of each receive buffer, the 12-byte header included. Default 2048, or what one frame of the MTU needs when frames cannot be
   * spread over several buffers.
   */
  readonly bufferBytes?: number;
  /** Default `auto`: MSI-X, else INTx, else polling. */
  readonly interrupts?: InterruptChoice;
  /** How waits wait. Default `adaptive`, or `poll` without interrupts. */
  readonly wait?: WaitMode;
  /** How long an adaptive wait spins, in microseconds. Default 50. */
  readonly spinMicroseconds?: number;
  /** Set administration queues up, too, for `VirtioNet.admin`: of a PF that offers ADMIN_VQ. Default false. */
  readonly admin?: boolean | GroupOwnerOptions;
  /** Accept MRG_RXBUF: a frame may be spread over several receive buffers. Default true. */
  readonly mergeable?: boolean;
  /** Feature bits that are not accepted, whatever the rest says. */
  readonly refusedFeatures?: bigint;
  /** How long the device may take to answer a control command, in milliseconds. Default 2000. */
  readonly controlTimeoutMs?: number;
  /** How long a reset of the device may take, in milliseconds. Default: the transport's. */
  readonly resetTimeoutMs?: number;
}

/** Options of `VirtioNet.resume`. Queue size, buffer size and layout are those of before unless given; the number of pairs always is. */
export interface ResumeNetOptions extends Omit<VirtioNetOptions, "queuePairs"> {
  /** `continue`: fail unless the rings go on at their places (QUEUE_STATE). `fresh`: start new ones. Default: continue where possible. */
  readonly rings?: "continue" | "fresh";
}
