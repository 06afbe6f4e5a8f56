/**
 * Interrupts of a virtio PCI function: MSI-X vectors, or the ISR byte and the INTx line (virtio 1.2 §4.1.4.5, §4.1.5.1.2).
 *
 * @module
 */
import { ISR, NO_VECTOR } from "../../../../virtio/spec/pci.ts";
import type { PciFunctionPort } from "../../../pci_function.ts";

/** The ISR byte, and who hears of it. */
export class PciInterrupts {
  #port: PciFunctionPort | null = null;
  #isr = 0;

  /** MSI-X is in use. */
  get usesVectors(): boolean {
    return this.#port?.msixEnabled ?? false;
  }

  /** Takes or leaves the machine. */
  connect(port: PciFunctionPort | null): void {
    this.#port = port;
  }

  /** Reads the ISR byte, which clears it and takes the line back. */
  takeIsr(): number {
    const isr = this.#isr;
    this.clear();
    return isr;
  }

  /** Nothing is pending any more. */
  clear(): void {
    this.#isr = 0;
    this.#port?.setIntx(false);
  }

  /** A used buffer notification. @param vector of the queue */
  queue(vector: number): void {
    const port = this.#port;
    if (port === null) return;
    if (port.msixEnabled) {
      if (vector !== NO_VECTOR) port.raiseMsix(vector);
      return;
    }
    this.#isr |= ISR.queue;
    port.setIntx(true);
  }

  /** A configuration change notification. @param vector `config_msix_vector` */
  config(vector: number): void {
    const port = this.#port;
    if (port === null) return;
    // The standard sets this bit with MSI-X too; only the INTx line is not used then.
    this.#isr |= ISR.config;
    if (!port.msixEnabled) port.setIntx(true);
    else if (port.busMaster && vector !== NO_VECTOR) port.raiseMsix(vector);
  }
}
