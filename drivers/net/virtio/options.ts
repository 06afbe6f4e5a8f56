/**
 * How a network device is opened.
 *
 * @module
 */
import type { GroupOwnerOptions } from "../../../lib/virtio/admin/owner.ts";
import type { DriverOptions } from "../../driver_options.ts";

/** Options of `VirtioNet.open`. */
export interface VirtioNetOptions extends DriverOptions {
  /** Pairs of receive and transmit queues to set up and use. Default 1; more need MQ. */
  readonly queuePairs?: number;
  /**
   * So many of the pairs, the last ones, are for Workers: `VirtioNet.lend` hands each out, and `rx` and `tx` do not have them. Default 0. The device gives
   * frames to all pairs alike: those of one that nobody has opened wait, or are dropped.
   */
  readonly lentPairs?: number;
  /** Descriptors, and so buffers, of each receive and transmit queue. Default 256; the device may have fewer. */
  readonly queueSize?: number;
  /**
   * Bytes of each receive buffer, the 12-byte header included. Default 2048, or what one frame of the MTU needs when frames cannot be
   * spread over several buffers.
   */
  readonly bufferBytes?: number;
  /** Set administration queues up, too, for `VirtioNet.admin`: of a PF that offers ADMIN_VQ. Default false. */
  readonly admin?: boolean | GroupOwnerOptions;
  /** Accept MRG_RXBUF: a frame may be spread over several receive buffers. Default true. */
  readonly mergeable?: boolean;
  /** How long the device may take to answer a control command, in milliseconds. Default 2000. */
  readonly controlTimeoutMs?: number;
}

/** Options of `VirtioNet.resume`. Queue size, buffer size and layout are those of before unless given; the number of pairs always is. */
export interface ResumeNetOptions extends Omit<VirtioNetOptions, "queuePairs" | "lentPairs"> {
  /** `continue`: fail unless the rings go on at their places (QUEUE_STATE). `fresh`: start new ones. Default: continue where possible. */
  readonly rings?: "continue" | "fresh";
}
