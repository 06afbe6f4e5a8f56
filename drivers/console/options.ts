/**
 * How a console is opened.
 *
 * @module
 */
import type { DriverOptions } from "../driver_options.ts";

/** Options of `VirtioConsole.open`. */
export interface VirtioConsoleOptions extends DriverOptions {
  /** Accept MULTIPORT: several ports, which come and go. Default true; without it there is port 0 alone. */
  readonly multiport?: boolean;
  /** Most ports to set queues up for. Default: as many as the device has. */
  readonly maxPorts?: number;
  /** Descriptors, and so buffers, of each queue of a port. Default 16; the device may have fewer. */
  readonly queueSize?: number;
  /** Bytes of each buffer. Default 4096. */
  readonly bufferBytes?: number;
}
