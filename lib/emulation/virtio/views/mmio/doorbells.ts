/**
 * Notifications of a virtio-mmio device by register writes, and by eventfds that stand for them (virtio 1.2 §4.2.3.3; N-7.6, N-7.7, A-7.14).
 *
 * @module
 */
import { DRAFT_FEATURE, FEATURE } from "../../../../virtio/spec/features.ts";
import type { MmioForm } from "../../../../virtio/spec/mmio.ts";
import type { VirtioCore } from "../../core/core.ts";
import type { DoorbellPlace } from "../doorbell_fds.ts";
import { MmioNotify, type NotifyConfig, QUEUE_NOTIFY } from "./notify.ts";
import { MMIO_RULE } from "./registers.ts";

/** A notification that is in order. */
export interface MmioNotification {
  /** Of this queue, which need not exist. */
  readonly queue: number;
  /** What came with it under NOTIFICATION_DATA. */
  readonly position: number | undefined;
}

/** The doorbells of a device: QueueNotify, or where a draft lets it put them. */
export class MmioDoorbells {
  /** Where a draft has them; null in the other forms. */
  readonly drafted: MmioNotify | null;
  readonly #core: VirtioCore;
  readonly #form: MmioForm;
  readonly #standard: MmioNotify;
  /** N-7.7: the driver has read where they are. */
  #read = false;

  /** Nobody has read where they are. @param config default: all in one, at QueueNotify */
  constructor(core: VirtioCore, form: MmioForm, config: NotifyConfig = QUEUE_NOTIFY) {
    const queues = core.queues.length;
    this.#core = core;
    this.#form = form;
    this.#standard = new MmioNotify(QUEUE_NOTIFY, queues);
    this.drafted = form === "v3" || form === "msi-v2" ? new MmioNotify(config, queues) : null;
  }

  /** Nobody has read where they are any more. */
  poweredOn(): void {
    this.#read = false;
  }

  /** QueueNotify is being read. @returns false where it cannot be */
  readWord(): boolean {
    if (this.drafted === null || !this.#drafts(this.#core.offered)) return false;
    this.#read = true;
    return true;
  }

  /** A write to this offset is a notification now. */
  has(offset: number): boolean {
    return this.#now.has(offset);
  }

  /** What a write says; undefined when it is wrong, which is reported. */
  written(offset: number, from: Uint8Array): MmioNotification | undefined {
    const notify = this.#now, drafted = notify === this.drafted;
    const rule = (draft: string) => drafted ? draft : MMIO_RULE;
    const data = (this.#core.negotiatedFeatures & FEATURE.NOTIFICATION_DATA) !== 0n;
    const narrow = drafted && !data;
    if (from.length !== 4 && !(narrow && from.length === 2)) {
      this.#core.report(
        rule("A-7.14"),
        `notification of ${from.length} bytes: it must be ${narrow ? "2 or 4" : 4}`,
      );
      return undefined;
    }
    if (from.length === 4 && !notify.wide) {
      this.#core.report(
        "A-7.14",
        `notification of 4 bytes at 0x${offset.toString(16)}: doorbells that are no multiples of 4 take 2`,
      );
      return undefined;
    }
    if (drafted && !this.#read) {
      this.#read = true;
      this.#core.report("N-7.7", "a doorbell was rung, and QueueNotify had not been read for where it is");
    }
    const low = from[0]! | from[1]! << 8, high = from.length === 4 ? from[2]! | from[3]! << 8 : 0;
    const named = data ? low : low + high * 0x1_0000;
    const queue = notify.queueAt(offset, named);
    if (queue !== named) {
      this.#core.report(rule("N-7.6"), `the doorbell of queue ${queue} was rung for queue ${named}`);
      return undefined;
    }
    return { queue, position: data ? high : undefined };
  }

  /** Places of eventfds, a list for each queue. They stand for writes without data. */
  places(): readonly (readonly DoorbellPlace[])[] {
    const standard = this.#form === "v3" ? [] : this.#standard.places([4]);
    const drafted = this.drafted?.places(this.drafted.wide ? [4, 2] : [2]) ?? [];
    return this.#core.queues.map(({ index }) => {
      const own = standard[index] ?? [];
      // Both may be QueueNotify.
      const more = (drafted[index] ?? []).filter((place) =>
        !own.some((one) => one.offset === place.offset && one.sizeBytes === place.sizeBytes)
      );
      return [...own, ...more];
    });
  }

  /** The queue whose eventfd was rung, by the first of its places. */
  rung(offset: number, value: number | undefined): number {
    return value ?? this.drafted!.queueAt(offset, 0);
  }

  get #now(): MmioNotify {
    const { drafted } = this;
    return drafted !== null && this.#drafts(this.#core.negotiatedFeatures) ? drafted : this.#standard;
  }

  /** Version 3 always has a draft's doorbells, the other draft by a feature. */
  #drafts(features: bigint): boolean {
    return this.#form === "v3" || (features & DRAFT_FEATURE.MMIO_NOTIFICATION) !== 0n;
  }
}
