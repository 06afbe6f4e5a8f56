/**
 * How a block device is opened.
 *
 * @module
 */
import type { DriverOptions } from "../driver_options.ts";

/** Options of `VirtioBlk.open`. */
export interface VirtioBlkOptions extends DriverOptions {
  /** Request queues to set up. Default 1; more need MQ. */
  readonly queues?: number;
  /** Descriptors of each queue. Default 256; the device may have fewer. */
  readonly queueSize?: number;
  /** Requests that each queue can have in flight. Default 64, or as many as its descriptors allow. */
  readonly depth?: number;
  /**
   * Most data of one request in bytes, a multiple of 512; longer reads and writes become several requests. Each queue has `depth` buffers of
   * this size. Default 65536, or what SIZE_MAX and SEG_MAX allow.
   */
  readonly requestBytes?: number;
  /** Most bytes of one data segment. Default: `requestBytes`, or SIZE_MAX. A request may have several. */
  readonly segmentBytes?: number;
  /** How long the device may answer nothing at all while requests are waited for, in milliseconds. Default 30000. */
  readonly timeoutMs?: number;
}
