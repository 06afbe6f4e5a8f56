/**
 * MSI entries of a managed device: one for each queue, one for its configuration (TVQ class MSI; N-4.11).
 *
 * @module
 */

/** Where a message goes. */
export interface MsiMessage {
  /** Address of the platform, or of the driver's memory; a multiple of 4. */
  readonly address: bigint;
  /** 32 bits. */
  readonly data: number;
}

const NOWHERE: MsiMessage = { address: 0n, data: 0 };

/**
 * One source of interrupts. Disabled, what it would say is dropped, and so is what was pending. Masked, at most one message is kept, and sent
 * when it is unmasked and enabled. At first and after a reset it is disabled and not masked.
 */
export class MsiEntry {
  /** What it sends. */
  message: MsiMessage = NOWHERE;
  readonly #send: (message: MsiMessage) => void;
  #enabled = false;
  #masked = false;
  #pending = false;

  /** As after a reset. */
  constructor(send: (message: MsiMessage) => void) {
    this.#send = send;
  }

  /** It may send. */
  get enabled(): boolean {
    return this.#enabled;
  }

  /** Enables or disables it. */
  set enabled(enabled: boolean) {
    this.#enabled = enabled;
    if (!enabled) this.#pending = false;
  }

  /** It keeps what it would send. */
  get masked(): boolean {
    return this.#masked;
  }

  /** Masks or unmasks it. */
  set masked(masked: boolean) {
    this.#masked = masked;
    if (masked || !this.#pending) return;
    this.#pending = false;
    this.#send(this.message);
  }

  /** A message is kept. */
  get pending(): boolean {
    return this.#pending;
  }

  /** Something happened. */
  raise(): void {
    if (!this.#enabled) return;
    if (this.#masked) this.#pending = true;
    else this.#send(this.message);
  }

  /** To the state after a reset. */
  reset(): void {
    this.message = NOWHERE;
    this.#enabled = this.#masked = this.#pending = false;
  }
}
