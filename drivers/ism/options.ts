/**
 * How a virtio-ism function is opened.
 *
 * @module
 */
import type { DriverOptions } from "../driver_options.ts";

/** Options of `VirtioIsm.open`. Waits sleep at once by default; with `wait: "adaptive"` they spin before. */
export interface VirtioIsmOptions extends DriverOptions {
  /** Accept DEV_MEM: the device supplies the memory of regions. Default true; without it, or when it is not offered, the driver does (N-5.6). */
  readonly devMem?: boolean;
  /** MSI-X vectors to have besides those of config space and queues, for `setEventVector`. Default 0; the device may have fewer. */
  readonly regionVectors?: number;
  /** How long a control command may take, in milliseconds. Default 5000. */
  readonly commandTimeoutMs?: number;
  /** Buffers that the event queue is given. Default 32; the device may have fewer. */
  readonly eventBuffers?: number;
  /** Bytes of each; the device may fill one with several events. Default 256, at least 32. */
  readonly eventBufferBytes?: number;
  /** Events that are kept until somebody takes them; then the oldest is lost, and counted. Default 1024. */
  readonly eventBacklog?: number;
}
