/**
 * What all drivers have in common.
 *
 * @module
 */
import { typedErrors } from "../lib/errors/doors.ts";
import { featureNames } from "../lib/virtio/features.ts";
import type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
import type { DriverLife, DriverParts } from "./driver_life.ts";

/** An opened device. It owns its queues and buffers; the transport stays the caller's. */
export abstract class VirtioDriver implements Disposable, AsyncDisposable {
  static {
    typedErrors(this);
  }

  /** How the function is reached; stays the caller's. */
  readonly transport: VirtioTransport;
  readonly #life: DriverLife<DriverParts>;

  /** Made by `open` of each driver. */
  protected constructor(life: DriverLife<DriverParts>) {
    this.transport = life.transport;
    this.#life = life;
  }

  /** Features in force. */
  get features(): bigint {
    return this.#life.device.features;
  }

  /** Names of the features in force, lowest bit first. */
  get featureNames(): string[] {
    return featureNames(this.features, this.transport.deviceId, this.transport.profile);
  }

  /** Kind of interrupt in use. */
  get interruptKind(): InterruptKind {
    return this.#life.interruptKind;
  }

  /** Interrupts that were taken so far; remembered after `close`, as are resets and features. */
  get interrupts(): number {
    return this.#life.interrupts;
  }

  /** Times that the device was reset after the first start. */
  get resets(): number {
    return this.#life.resets;
  }

  /**
   * Why nothing comes of the device any more, as every call throws it: its process is gone, the function is wanted back, broken or closed. Null while
   * something may come.
   */
  get lost(): Error | null {
    return this.#life.lost;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#life.closed;
  }

  /**
   * Resets the device and brings it up again with the options of `open`: after a lie, or at will. What is under way ends with `ClosedError`: whether the
   * device has carried it out is not known. Queues, slots and all that was had of them are void.
   * @throws as `open`; the device is then stopped, and `reset` may be tried again
   */
  reset(): Promise<void> {
    return this.#life.reset();
  }

  /** Resets the device and frees queues and buffers. The transport stays open. `settled` resolves when interrupted waits are over. */
  close(): void {
    this.#life.close();
  }

  /** Resolves when nothing of the waits that `close` or `reset` interrupted is left. */
  get settled(): Promise<void> {
    return this.#life.settled;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** `close`, and waits until interrupted waits are over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.settled;
  }
}
