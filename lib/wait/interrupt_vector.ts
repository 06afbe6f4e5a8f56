/**
 * An interrupt as a waiter sees it, whatever raises it.
 *
 * @module
 */
import type { EventFd } from "../../ffi/mod.ts";

/** One interrupt line or vector, as eventfd. */
export interface InterruptVector {
  /** Signalled by the interrupt; the transport's. */
  readonly eventFd: EventFd;
  /** Called after the eventfd was taken: reads the ISR for INTx, and unmasks it where it masked itself, nothing for MSI and MSI-X. Returns ISR bits (1 queue, 2 config), 3 when unknown. */
  acknowledge(): number;
}
