/**
 * Where a driver notifies the queues of a virtio-mmio device: QueueNotify, or the addresses that the drafts let a device choose (reference 7.2,
 * N-7.6, A-7.8, A-7.14, A-7.15).
 *
 * @module
 */
import type { RegisterTable } from "../../../../registers/declaration.ts";
import { MMIO_CONFIG_OFFSET, MMIO_MODERN_CFG } from "../../../../virtio/spec/mmio.ts";
import type { DoorbellPlace } from "../doorbell_fds.ts";

/** What a device says of its doorbells. */
export interface NotifyConfig {
  /** Bytes from the start of the window to the doorbell of queue 0; 16 bits. */
  readonly base: number;
  /** Bytes from each queue's doorbell to the next; 16 bits. 0: all have one, and what is written says which is meant. */
  readonly multiplier: number;
}

/** All in one, at QueueNotify. */
export const QUEUE_NOTIFY: NotifyConfig = { base: MMIO_MODERN_CFG.queue_notify.offset, multiplier: 0 };

/** The doorbells of a device. */
export class MmioNotify implements NotifyConfig {
  readonly base: number;
  readonly multiplier: number;
  /** Writes of 32 bits are possible, and so is NOTIFICATION_DATA: all doorbells are at multiples of 4. */
  readonly wide: boolean;
  readonly #queues: number;

  /** Of a device with so many queues. */
  constructor({ base, multiplier }: NotifyConfig, queues: number) {
    this.base = base;
    this.multiplier = multiplier;
    this.wide = base % 4 === 0 && multiplier % 4 === 0;
    this.#queues = queues;
  }

  /** What QueueNotify reads. */
  get word(): number {
    return (this.base | this.multiplier << 16) >>> 0;
  }

  /** the window reaches at least so far. */
  get endBytes(): number {
    return this.#last + this.#width;
  }

  /** A doorbell begins at this offset. */
  has(offset: number): boolean {
    if (offset === this.base) return true;
    const from = offset - this.base;
    return from > 0 && offset <= this.#last && from % this.multiplier === 0;
  }

  /** The queue that a write there notifies. @param value what was written, or the low half of it */
  queueAt(offset: number, value: number): number {
    return this.multiplier === 0 ? value : (offset - this.base) / this.multiplier;
  }

  /** Where eventfds stand for writes, a list for each queue. @param widths of the writes */
  places(widths: readonly number[]): readonly (readonly DoorbellPlace[])[] {
    return Array.from(
      { length: this.#queues },
      (_, queue) =>
        widths.map((sizeBytes) =>
          this.multiplier === 0
            ? { offset: this.base, sizeBytes, value: queue }
            : { offset: this.base + queue * this.multiplier, sizeBytes }
        ),
    );
  }

  /** Why they cannot be there, among these registers and so much configuration; undefined when they can. */
  problem(table: RegisterTable, configBytes: number): string | undefined {
    const taken = [
      ...Object.entries(table).map(([name, { offset, width, ...own }]) => ({
        name: own.name ?? name,
        start: offset,
        end: offset + width,
      })),
      { name: "the configuration", start: MMIO_CONFIG_OFFSET, end: MMIO_CONFIG_OFFSET + configBytes },
    ];
    for (let queue = 0; queue < this.#queues; queue++) {
      const at = this.base + queue * this.multiplier;
      if (at === QUEUE_NOTIFY.base) continue;
      const hit = taken.find(({ start, end }) => at < end && at + this.#width > start);
      if (hit === undefined) continue;
      return `the doorbell of queue ${queue} would be at 0x${at.toString(16)}, where ${hit.name} is`;
    }
    return undefined;
  }

  get #width(): number {
    return this.wide ? 4 : 2;
  }

  get #last(): number {
    return this.base + Math.max(0, this.#queues - 1) * this.multiplier;
  }
}
