/**
 * What a management device has to give to managed devices, and what of it is given (N-4.2, A-4.13).
 *
 * @module
 */
import { FreeNumbers } from "../../free_numbers.ts";

/** What there is. All up to 65535, as AVAIL_RES has them. */
export interface ManagementLimits {
  /** Virtqueues of all managed devices together. */
  readonly virtqueues: number;
  /** Least virtqueues that a device takes. */
  readonly minQueues: number;
  /** Most virtqueues of one device. With `minQueues` all devices have that many. */
  readonly maxQueues: number;
  /** Most devices at a time. */
  readonly devices: number;
}

/** What one device has. */
export interface Share {
  /** Virtqueues that it takes from the others: at least `minQueues`, whether it has so many or not. */
  readonly virtqueues: number;
  /** A place for each of its queues, that no other device's queue has: from 0, below `ManagementLimits.virtqueues`. */
  readonly places: readonly number[];
}

/** See the module. */
export class ManagementResources {
  /** What there is. */
  readonly limits: ManagementLimits;
  readonly #places = new FreeNumbers();
  #virtqueues = 0;
  #devices = 0;

  /** All of it free. */
  constructor(limits: ManagementLimits) {
    this.limits = limits;
  }

  /** `struct mgmt_dev_avail_res`, as things are now. */
  get available(): Record<"num_avail_vqs" | "min_mdev_vqs" | "max_mdev_vqs" | "num_avail_mdev", number> {
    const { virtqueues, minQueues, maxQueues, devices } = this.limits;
    const left = virtqueues - this.#virtqueues;
    return {
      num_avail_vqs: left,
      min_mdev_vqs: minQueues,
      max_mdev_vqs: maxQueues,
      num_avail_mdev: Math.min(devices - this.#devices, Math.floor(left / minQueues)),
    };
  }

  /** The share of a device with so many queues. @returns undefined when there is not so much, or a device may not have so many */
  take(queues: number): Share | undefined {
    const { minQueues, maxQueues } = this.limits;
    const { num_avail_vqs, num_avail_mdev } = this.available;
    const virtqueues = Math.max(queues, minQueues);
    if (virtqueues > maxQueues || virtqueues > num_avail_vqs || num_avail_mdev === 0) return undefined;
    this.#virtqueues += virtqueues;
    this.#devices++;
    return { virtqueues, places: Array.from({ length: queues }, () => this.#places.take()) };
  }

  /** Gives a share back, which is not used again. */
  giveBack({ virtqueues, places }: Share): void {
    this.#virtqueues -= virtqueues;
    this.#devices--;
    for (const place of places) this.#places.release(place);
  }
}
