/**
 * What is peculiar to a driver of the legacy interface, whichever view it comes through (virtio 1.2 §2.2.3, §3.1.2).
 *
 * The legacy registers are a second view of the same device. A driver uses one of the two interfaces: the one that writes first after a reset
 * has the device, and what comes through the other is reported and has no effect, except for a reset, which resets both. There is no
 * FEATURES_OK: features are final at first use, which is the first notification or DRIVER_OK.
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";
import type { DeviceType } from "../../../virtio/spec/device_type.ts";
import { deviceType, deviceTypeName, deviceTypes } from "../../../virtio/spec/device_types.ts";
import { FEATURE } from "../../../virtio/spec/features.ts";
import { legacyRingLayout } from "../../../virtio/spec/legacy.ts";
import { describeStatus } from "../../../virtio/spec/status.ts";
import { ONE_INTERFACE, type VirtioCore } from "./core.ts";
import { type CoreQueue, splitSize } from "./queue.ts";

/** Rule of everything about the register block. */
export const LEGACY_BLOCK = "2.3";
const LOW_BITS = 0xffff_ffffn;

/** How the legacy interface of a function differs from the default. */
export interface LegacyOptions {
  /** Rule of everything about its registers. Default that of PCI. */
  readonly rule?: string;
  /**
   * Offer ANY_LAYOUT, as the standard demands of a transitional device. Default true. A driver that does not accept it must put headers into
   * descriptors of their own.
   */
  readonly anyLayout?: boolean;
}

/** See the module. */
export class LegacyDriver {
  /** Its type. */
  readonly type: DeviceType;
  /** Features 0–31 that are offered. */
  readonly offered: bigint;
  /** Queues that it can use: administration queues are not there. */
  readonly queues: readonly CoreQueue[];
  readonly #core: VirtioCore;
  readonly #rule: string;

  /** Beside a device after reset. @throws UsageError for a device type that has no legacy interface */
  constructor(core: VirtioCore, options: LegacyOptions = {}) {
    const { deviceId, queueSizes } = core.model;
    const type = deviceType(deviceId);
    if (type?.legacyConfigBytes === undefined) {
      const others = deviceTypes().filter((one) => one.legacyConfigBytes !== undefined);
      throw new UsageError(`virtio device type ${deviceId} has no legacy interface`, {
        hint: `these have one: ${others.map(({ id }) => deviceTypeName(id)).join(", ")}`,
      });
    }
    this.type = type;
    this.#core = core;
    this.#rule = options.rule ?? LEGACY_BLOCK;
    this.queues = core.queues.slice(0, queueSizes.length);
    this.offered = core.offered & LOW_BITS | (options.anyLayout ?? true ? FEATURE.ANY_LAYOUT : 0n);
  }

  /** The first to write has the device. @returns false when a driver uses the modern interface, which is reported */
  claim(what: string): boolean {
    const core = this.#core;
    if (core.legacy) return true;
    if (core.status !== 0) {
      core.report(
        ONE_INTERFACE,
        `${what} was written through the legacy interface while a driver uses the modern one: status ${
          describeStatus(core.status)
        }`,
      );
      return false;
    }
    // What somebody may have left: modern registers before the status, states of queues, device parts of a driver that never came.
    core.reset(true);
    for (const queue of core.queues) queue.forgetState();
    core.legacy = true;
    return true;
  }

  /** Features 0–31; those that are not offered are dropped and reported. */
  acceptFeatures(value: number): void {
    const core = this.#core;
    if (core.started) {
      core.report("virtio 1.2 §3.1.2", "driver_features was written after the device had been used");
      return;
    }
    core.reportAlien(BigInt(value), this.offered);
    core.driverFeatures = BigInt(value) & this.offered;
    // A driver may set up rings first; none was looked at yet.
    for (const queue of this.queues) if (queue.enabled) queue.makeRing(core.driverFeatures);
  }

  /** IOVA of a queue's ring, which is one contiguous area; 0 while there is none. A modern driver's rings are not shown. */
  ring({ enabled, descriptorArea }: CoreQueue): bigint {
    return this.#core.legacy && enabled ? descriptorArea : 0n;
  }

  /**
   * Sets a queue's ring up at an IOVA; 0 ends it.
   * @param shape entries and alignment, where the driver chooses them: both powers of two, not too many entries. Default: what PCI has
   */
  setRing(
    queue: CoreQueue,
    iova: bigint,
    shape?: { readonly size: number; readonly alignBytes: number },
  ): void {
    if (iova === 0n) {
      queue.ring = undefined;
      queue.enabled = false;
      queue.addresses.fill(0);
      return;
    }
    if (queue.enabled && this.#core.started) {
      queue.report(this.#rule, "queue_pfn was written while the queue is in use");
      return;
    }
    queue.size = shape?.size ?? splitSize(queue.maxSize);
    const { availableOffset, usedOffset } = legacyRingLayout(queue.size, shape?.alignBytes);
    queue.place(0, iova);
    queue.place(1, iova + BigInt(availableOffset));
    queue.place(2, iova + BigInt(usedOffset));
    queue.makeRing(this.#core.driverFeatures);
  }

  /** A notification by a write, wherever it was written. */
  notify(index: number): void {
    const core = this.#core;
    if (!core.legacy) {
      core.report(ONE_INTERFACE, `notification of queue ${index}, no driver uses the legacy interface`);
    } else if (this.queues[index]?.enabled !== true) {
      core.report(this.#rule, `queue ${index} was notified, it has no ring`);
    } else this.#use(index);
  }

  /** An eventfd that stands for a notification was rung. It may have been before a reset, so a wrong one is none. */
  rang(index: number): void {
    if (this.#core.legacy && this.queues[index]?.enabled === true) this.#use(index);
  }

  #use(index: number): void {
    const core = this.#core;
    core.firstUse();
    core.wake();
    if (core.live) core.notified(index);
  }
}
