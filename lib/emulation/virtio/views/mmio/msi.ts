/**
 * MSI of a virtio-mmio device, as both drafts have it: vectors that its driver gives an address and a value each (reference 7.2, 7.3).
 *
 * @module
 */
import { fixedMsiVector } from "../../../../virtio/spec/mmio.ts";
import { NO_VECTOR } from "../../../../virtio/spec/pci.ts";
import type { VirtioCore } from "../../core/core.ts";
import { MsiEntry, type MsiMessage } from "../../msi/entry.ts";

/** Which vectors there are. */
export interface MsiShape {
  /** How many. */
  readonly count: number;
  /** Events are mapped to vectors by commands; else vector 0 is the configuration's and i + 1 queue i's. */
  readonly sharing: boolean;
  /** Section of the reference that has the registers. */
  readonly rule: string;
}

/**
 * Vectors, and which event has which. What the address and data registers hold is latched by a command alone. Which vector an event has
 * is kept where a driver of MSI-X has it: in the queue, and in `configVector`.
 */
export class MmioMsi implements MsiShape {
  readonly count: number;
  readonly sharing: boolean;
  readonly rule: string;
  /** Low and high half of the address registers, and the data register. */
  readonly latch: Uint32Array<ArrayBuffer> = new Uint32Array(3);
  readonly #core: VirtioCore;
  readonly #entries: readonly MsiEntry[];
  readonly #configured = new Set<number>();
  /** Vectors without a message that a report was made of. */
  readonly #missed = new Set<number>();
  #enabled = false;

  /** As after a reset. */
  constructor(core: VirtioCore, shape: MsiShape, send: (message: MsiMessage) => void) {
    this.#core = core;
    this.count = shape.count;
    this.sharing = shape.sharing;
    this.rule = shape.rule;
    this.#entries = Array.from({ length: shape.count }, () => new MsiEntry(send));
  }

  /** Messages are sent, and the line is not used. */
  get enabled(): boolean {
    return this.#enabled;
  }

  /** Turns it on or off. What was pending is dropped when it is turned off. */
  setEnabled(enabled: boolean): void {
    if (enabled && this.#configured.size === 0) {
      this.#core.report("N-7.4", "MSI was enabled before any vector was configured");
    }
    this.#enabled = enabled;
    for (const entry of this.#entries) entry.enabled = enabled;
    if (this.sharing) return;
    this.#core.configVector = enabled ? fixedMsiVector("config") : NO_VECTOR;
    for (const queue of this.#core.queues) queue.vector = enabled ? fixedMsiVector(queue.index) : NO_VECTOR;
  }

  /** Gives a vector, which there is, the message that the registers hold. */
  configure(vector: number): void {
    const [low, high, data] = this.latch as unknown as [number, number, number];
    const address = BigInt(high) << 32n | BigInt(low);
    if (low % 4 !== 0) {
      this.#core.report(this.rule, `vector ${vector}: address 0x${address.toString(16)} is no multiple of 4`);
      return;
    }
    if (!this.#configured.has(vector)) this.#first(vector);
    this.#configured.add(vector);
    this.#entries[vector]!.message = { address, data };
  }

  /** N-7.4: what is wrong with the moment at which a vector is configured for the first time. */
  #first(vector: number): void {
    const queue = this.sharing ? undefined : this.#core.queues[vector - 1];
    if (this.#enabled) {
      this.#core.report("N-7.4", `vector ${vector} was configured after MSI had been enabled`);
    } else if (queue?.enabled) {
      queue.report("N-7.4", `its vector ${vector} was configured after the queue had been enabled`);
    }
  }

  /** Masks or unmasks a vector, which there is. What happened while it was masked is sent once. */
  setMasked(vector: number, masked: boolean): void {
    this.#entries[vector]!.masked = masked;
  }

  /** Something happened that has this vector. */
  raise(vector: number): void {
    if (vector >= this.count) return;
    if (this.#configured.has(vector)) return this.#entries[vector]!.raise();
    if (this.#missed.has(vector)) return;
    this.#missed.add(vector);
    this.#core.report("N-7.4", `vector ${vector} was to be sent, and was never configured`);
  }

  /** The device was reset: MSI is off (N-7.1), and no vector has a message. */
  cleared(): void {
    this.#enabled = false;
    this.latch.fill(0);
    this.#configured.clear();
    this.#missed.clear();
    for (const entry of this.#entries) entry.reset();
  }
}
