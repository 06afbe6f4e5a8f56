/**
 * The register file of a version 1 device: the legacy interface of virtio-mmio (virtio 1.2 §4.2.4).
 *
 * @module
 */
import { MMIO_LEGACY_CFG } from "../../../../virtio/spec/mmio.ts";
import { LegacyDriver, type LegacyOptions } from "../../core/legacy_driver.ts";
import { type CoreQueue, splitSize } from "../../core/queue.ts";
import { type MmioParts, type MmioRegisterName, MmioRegisters } from "./registers.ts";

/** Rule of everything about it. */
export const LEGACY_MMIO_RULE = "virtio 1.2 §4.2.4";

/** Version 1: a ring is one area, its driver chooses size and alignment, and there is no FEATURES_OK. */
export class LegacyMmioRegisters extends MmioRegisters {
  /** The driver that it is for. */
  readonly driver: LegacyDriver;
  /** GuestPageSize. It outlives a reset by the driver: Linux writes it before its first one. */
  #pageBytes = 0;
  /** QueueNum and QueueAlign of each queue; 0: not written. */
  readonly #sizes: Uint32Array<ArrayBuffer>;
  readonly #alignments: Uint32Array<ArrayBuffer>;

  /** As after a reset. @throws UsageError for a device type that has no legacy interface */
  constructor(parts: MmioParts, options: LegacyOptions) {
    super(parts, "legacy", MMIO_LEGACY_CFG);
    this.driver = new LegacyDriver(parts.core, { ...options, rule: LEGACY_MMIO_RULE });
    this.#sizes = new Uint32Array(this.driver.queues.length);
    this.#alignments = new Uint32Array(this.driver.queues.length);
  }

  override cleared(): void {
    super.cleared();
    this.#sizes.fill(0);
    this.#alignments.fill(0);
  }

  override poweredOn(): void {
    this.#pageBytes = 0;
  }

  override get(name: MmioRegisterName, high: boolean): number {
    const { driver, selectors, queue } = this;
    switch (name) {
      case "device_features":
        return selectors.device_feature_select === 0 ? Number(driver.offered) : 0;
      case "queue_size_max":
        // Its rings are split ones.
        return splitSize(queue?.maxSize ?? 0);
      case "queue_pfn":
        if (queue === undefined || this.#pageBytes === 0) return 0;
        return Number(driver.ring(queue) / BigInt(this.#pageBytes));
      default:
        return super.get(name, high);
    }
  }

  override set(name: MmioRegisterName, high: boolean, value: number): void {
    const { driver, selectors } = this;
    switch (name) {
      case "guest_page_size":
        return this.#setPageSize(value);
      case "driver_features":
        if (!this.#claim("GuestFeatures")) return;
        if (selectors.driver_feature_select === 0) driver.acceptFeatures(value);
        else if (value !== 0) {
          this.#wrong(
            `GuestFeatures word ${selectors.driver_feature_select}: 0x${value.toString(16)} was not offered`,
          );
        }
        return;
      case "device_status":
        if (value === 0 || this.#claim("Status")) super.set(name, high, value);
        return;
      case "queue_size":
        return this.#setSize(value);
      case "queue_align":
        return this.#setAlignment(value);
      case "queue_pfn":
        return this.#setFrame(value);
      default:
        super.set(name, high, value);
    }
  }

  /** The first to write has the device. What was selected before stays, and so do the sizes. */
  #claim(what: string): boolean {
    const { selectors } = this;
    const kept = { ...selectors }, sizes = this.#sizes.slice(), alignments = this.#alignments.slice();
    const claimed = this.driver.claim(what);
    Object.assign(selectors, kept);
    this.#sizes.set(sizes);
    this.#alignments.set(alignments);
    return claimed;
  }

  /** The driver writes device-specific configuration. @returns whether it may */
  claimConfig(): boolean {
    return this.#claim("device configuration");
  }

  #setPageSize(value: number): void {
    if (!powerOfTwo(value)) return this.#wrong(`GuestPageSize ${value} is no power of two`);
    if (this.driver.queues.some(({ enabled }) => enabled)) {
      return this.#wrong("GuestPageSize was written while a queue has a ring");
    }
    this.#pageBytes = value;
  }

  #setSize(value: number): void {
    const queue = this.existing("queue_size");
    if (queue === undefined) return;
    const most = splitSize(queue.maxSize);
    if (powerOfTwo(value) && value <= most) this.#sizes[queue.index] = value;
    else queue.report(LEGACY_MMIO_RULE, `QueueNum ${value} is no power of two up to ${most}`);
  }

  #setAlignment(value: number): void {
    const queue = this.existing("queue_align");
    if (queue === undefined) return;
    if (powerOfTwo(value)) this.#alignments[queue.index] = value;
    else queue.report(LEGACY_MMIO_RULE, `QueueAlign ${value} is no power of two`);
  }

  #setFrame(value: number): void {
    const queue = this.existing("queue_pfn");
    if (queue === undefined || !this.#claim("QueuePFN")) return;
    if (value === 0) return this.driver.setRing(queue, 0n);
    const lack = this.#lack(queue);
    if (lack !== undefined) return queue.report(LEGACY_MMIO_RULE, `QueuePFN was written before ${lack}`);
    const shape = { size: this.#sizes[queue.index]!, alignBytes: this.#alignments[queue.index]! };
    this.driver.setRing(queue, BigInt(value) * BigInt(this.#pageBytes), shape);
  }

  #lack({ index }: CoreQueue): string | undefined {
    if (this.#pageBytes === 0) return "GuestPageSize";
    if (this.#sizes[index] === 0) return "QueueNum";
    return this.#alignments[index] === 0 ? "QueueAlign" : undefined;
  }

  #wrong(problem: string): void {
    this.core.report(LEGACY_MMIO_RULE, problem);
  }
}

function powerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}
