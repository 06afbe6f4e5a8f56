/**
 * How the 82576's functions are opened.
 *
 * @module
 */
import type { WaitMode } from "../../../lib/wait/waiter.ts";

/** Options of `Igb.open` and `IgbVf.open`. */
export interface IgbNetOptions {
  /** Descriptors of each queue, a multiple of 8 from 8 to 4096; there is one buffer fewer. Default 256. */
  readonly queueSize?: number | undefined;
  /** Bytes of an Ethernet payload, 68 to 9500. Default 1500. */
  readonly mtu?: number | undefined;
  /** `msix` (default), or `none`: then everything is polled. */
  readonly interrupts?: "msix" | "none" | undefined;
  /** Default `adaptive`; without interrupts `poll`. */
  readonly wait?: WaitMode | undefined;
  /** See `WaiterOptions`. */
  readonly spinMicroseconds?: number | undefined;
  /** How long the function may take to come out of a reset, or a PF to answer its VF, in milliseconds. Default 2000. */
  readonly timeoutMs?: number | undefined;
}
