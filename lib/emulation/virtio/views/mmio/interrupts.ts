/**
 * Interrupts of a virtio-mmio device: InterruptStatus and the line, or messages (virtio 1.2 §4.2.2; N-7.1).
 *
 * @module
 */
import { ISR, NO_VECTOR } from "../../../../virtio/spec/pci.ts";
import type { PlatformPort } from "../../../platform_behaviour.ts";
import type { MmioMsi } from "./msi.ts";

/** What is pending, and who hears of it. */
export class MmioInterrupts {
  /** Of a form that has it. */
  readonly msi: MmioMsi | null;
  #port: PlatformPort | null = null;
  #status = 0;

  /** Nothing is pending. */
  constructor(msi: MmioMsi | null) {
    this.msi = msi;
  }

  /** Takes or leaves the machine. */
  connect(port: PlatformPort | null): void {
    this.#port = port;
  }

  /** InterruptStatus. */
  get status(): number {
    return this.#status;
  }

  /** InterruptACK: these have been handled. */
  acknowledge(bits: number): void {
    this.#set(this.#status & ~bits);
  }

  /** Messages, or the line; what the other of them was to say is not said any more. */
  setMsi(enabled: boolean): void {
    this.msi!.setEnabled(enabled);
    if (enabled) this.#set(0);
  }

  /** A used buffer notification. @param vector of the queue */
  queue(vector: number): void {
    this.#raise(ISR.queue, vector);
  }

  /** A configuration change notification. @param vector of the configuration */
  config(vector: number): void {
    this.#raise(ISR.config, vector);
  }

  /** The device was reset. */
  cleared(): void {
    this.msi?.cleared();
    this.#set(0);
  }

  /** N-7.1: one or the other. */
  #raise(bit: number, vector: number): void {
    if (!this.msi?.enabled) this.#set(this.#status | bit);
    else if (vector !== NO_VECTOR) this.msi.raise(vector);
  }

  #set(status: number): void {
    this.#status = status;
    this.#port?.setLine(status !== 0);
  }
}
