/**
 * Queues that lie about what they used.
 *
 * @module
 */
import { DESC_FLAG } from "../../../virtio/spec/ring.ts";
import type { Chain } from "../queue/chain.ts";
import type { DeviceQueue, DeviceQueueSetup, QueueDevice } from "../queue/device_queue.ts";
import { PackedDeviceQueue } from "../queue/packed.ts";
import { SplitDeviceQueue } from "../queue/split.ts";
import { type LiePlan, Occasions } from "./lie.ts";

/** Lies that a queue of either layout tells, once each unless told otherwise. */
export const QUEUE_LIES = [
  /** `used.id` is not below the queue's size. */
  "used-id-out-of-range",
  /** `used.len` is one more than the buffer's device-writable bytes. */
  "used-length-over",
  /** A chain is returned twice. */
  "used-twice",
  /** A chain is returned that the driver did not give (the next id). */
  "used-not-in-flight",
  /** `used.idx` moves by more than the queue's size. Packed: the used descriptor is written one slot too far. */
  "used-index-jump",
  /** `used.idx` moves back by one. Packed: the next used descriptor is written over this one. */
  "used-index-back",
] as const;

/** Lies that only a packed ring can tell; a split one keeps silent. */
export const PACKED_LIES = [
  /** A used descriptor has AVAIL and USED of the round before, as if it had not been used. */
  "used-wrap-wrong",
  /** A used descriptor has USED of this round and AVAIL of the other: neither used nor available. */
  "used-flags-mixed",
  /** After a chain of several descriptors the next used one comes a slot too early, as if the chain had been shorter. */
  "used-skip-short",
  /** The next used descriptor comes a slot too late, as if the chain had been longer. */
  "used-skip-long",
] as const;

/** Name of a lie of queues. */
export type QueueLie = typeof QUEUE_LIES[number] | typeof PACKED_LIES[number];

/** The queues of a lying function, for `CoreOptions.makeQueue`. */
export function lyingQueues(
  plan: LiePlan<QueueLie>,
): (setup: DeviceQueueSetup, device: QueueDevice) => DeviceQueue {
  const occasions = new Occasions(plan);
  return (setup, device) =>
    setup.layout === "packed"
      ? new LyingPackedQueue(setup, device, occasions)
      : new LyingSplitQueue(setup, device, occasions);
}

/** A split ring whose used ring is not to be believed. */
class LyingSplitQueue extends SplitDeviceQueue {
  readonly #occasions: Occasions<QueueLie>;
  readonly #writable: Float64Array;

  constructor(setup: DeviceQueueSetup, device: QueueDevice, occasions: Occasions<QueueLie>) {
    super(setup, device);
    this.#occasions = occasions;
    this.#writable = new Float64Array(setup.size);
  }

  override pop(into: Chain): number {
    const id = super.pop(into);
    if (id >= 0) this.#writable[id] = into.writableBytes;
    return id;
  }

  /** Chain by chain: each is an occasion. */
  override popBurst(): number {
    return 0;
  }

  protected override writeUsed(id: number, lengthBytes: number, chains = 1): void {
    const { lie } = this.#occasions;
    if ((PACKED_LIES as readonly string[]).includes(lie) || !this.#occasions.take()) {
      super.writeUsed(id, lengthBytes, chains);
      return;
    }
    switch (lie) {
      case "used-id-out-of-range":
        super.writeUsed(this.size, lengthBytes);
        return;
      case "used-length-over":
        super.writeUsed(id, this.#writable[id]! + 1);
        return;
      case "used-twice":
        super.writeUsed(id, lengthBytes);
        super.writeUsed(id, lengthBytes);
        return;
      case "used-not-in-flight":
        super.writeUsed((id + this.size / 2) % this.size, lengthBytes);
        return;
      case "used-index-jump":
        super.writeUsed(id, lengthBytes);
        this.skipUsed(this.size);
        return;
      default:
        this.skipUsed(-1);
    }
  }
}

/** A packed ring whose used descriptors are not to be believed. */
class LyingPackedQueue extends PackedDeviceQueue {
  readonly #occasions: Occasions<QueueLie>;
  /** Device-writable bytes by id. */
  readonly #writable = new Float64Array(65536);

  constructor(setup: DeviceQueueSetup, device: QueueDevice, occasions: Occasions<QueueLie>) {
    super(setup, device);
    this.#occasions = occasions;
  }

  override pop(into: Chain): number {
    const id = super.pop(into);
    if (id >= 0) this.#writable[id] = into.writableBytes;
    return id;
  }

  /** Chain by chain: each is an occasion. */
  override popBurst(): number {
    return 0;
  }

  protected override writeUsed(id: number, lengthBytes: number, slots: number): void {
    const { lie } = this.#occasions;
    // A chain of one descriptor cannot be made shorter: the lie waits for a longer one.
    if ((lie === "used-skip-short" && slots === 1) || !this.#occasions.take()) {
      super.writeUsed(id, lengthBytes, slots);
      return;
    }
    switch (lie) {
      case "used-id-out-of-range":
        super.writeUsed(this.size, lengthBytes, slots);
        return;
      case "used-length-over":
        super.writeUsed(id, this.#writable[id]! + 1, slots);
        return;
      case "used-twice":
        super.writeUsed(id, lengthBytes, slots);
        super.writeUsed(id, lengthBytes, slots);
        return;
      case "used-not-in-flight":
        super.writeUsed((id + (this.size >> 1)) % this.size, lengthBytes, slots);
        return;
      case "used-index-jump":
        this.skipUsed(1);
        super.writeUsed(id, lengthBytes, slots);
        return;
      case "used-index-back":
        super.writeUsed(id, lengthBytes, slots);
        this.skipUsed(-slots);
        return;
      case "used-wrap-wrong":
        super.writeUsed(id, lengthBytes, slots, DESC_FLAG.avail | DESC_FLAG.used);
        return;
      case "used-flags-mixed":
        super.writeUsed(id, lengthBytes, slots, DESC_FLAG.avail);
        return;
      case "used-skip-short":
        super.writeUsed(id, lengthBytes, slots - 1);
        return;
      default:
        super.writeUsed(id, lengthBytes, slots);
        this.skipUsed(1);
    }
  }
}
