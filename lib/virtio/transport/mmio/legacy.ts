/**
 * virtio-mmio, version 1 (virtio 1.2 §4.2.4).
 *
 * @module
 */
import { typedErrors } from "../../../errors/doors.ts";
import { UsageError } from "../../../errors/mod.ts";
import { LEGACY_RING_ALIGN } from "../../spec/legacy.ts";
import { MMIO_CONFIG_OFFSET, type MMIO_LEGACY_CFG } from "../../spec/mmio.ts";
import { legacyConfigBytes } from "../legacy_config.ts";
import { legacyAreas, legacyPageOf } from "../legacy_rings.ts";
import { MmioTransport } from "./transport.ts";
import { QueueDoorbell } from "../queue_doorbell.ts";
import type { Doorbell, QueueAddresses } from "../transport.ts";

/** Bits 0–31. */
const LOW_32 = 0xffff_ffffn;

/**
 * A device of version 1: rings in one area that a page number names, of the driver's size and alignment. The rings' alignment and the unit of
 * page numbers are 4096 bytes, whatever this processor's pages are: they are whole pages of it all the same, and one layout serves PCI and MMIO.
 */
export class MmioLegacyTransport extends MmioTransport<typeof MMIO_LEGACY_CFG> {
  static {
    typedErrors(this);
  }

  /** Legacy. */
  readonly legacy = true;
  /** Bits 0–31. */
  protected readonly carried = LOW_32;
  /** QueueNum of each queue, which cannot be read. */
  readonly #sizes = new Map<number, number>();

  /** As of every transport, and says the page size again, which has to be known before any queue is set up. */
  override reset(timeoutMs?: number): void {
    super.reset(timeoutMs);
    this.#sizes.clear();
    this.registers.write("guest_page_size", LEGACY_RING_ALIGN);
  }

  /** HostFeatures, bits 0–31. */
  readDeviceFeatures(): bigint {
    this.requireOpen();
    this.registers.write("device_features_select", 0);
    return BigInt(this.registers.read("device_features"));
  }

  /** GuestFeatures, bits 0–31. */
  protected putDriverFeatures(bits: bigint): void {
    this.registers.write("driver_features_select", 0);
    this.registers.write("driver_features", Number(bits));
  }

  /** By the device type, for no register says it, as far as the window goes; a device may have less (`legacyConfigBytes`). */
  get configSizeBytes(): number {
    return Math.min(legacyConfigBytes(this.deviceId), this.window.sizeBytes - MMIO_CONFIG_OFFSET);
  }

  /** 0: the legacy interface has none. `VirtioDevice.readConsistent` reads until two readings are alike instead. */
  configGeneration(): number {
    this.requireOpen();
    return 0;
  }

  /**
   * QueueNum, QueueAlign, and QueuePFN, which is read back. The areas must lie as `legacyRingLayout` has them.
   * @throws UsageError (another layout, more entries than QueueNumMax; a ring at 2^44 or above, which the register cannot name), DeviceError
   */
  enableQueue(queue: number, addresses: QueueAddresses): void {
    this.select(queue);
    const { registers } = this;
    const pfn = legacyPageOf(this.name, queue, addresses);
    const most = registers.read("queue_size_max");
    if (addresses.size > most) {
      throw new UsageError(
        `${this.name}, queue ${queue}: a ring of ${addresses.size}, QueueNumMax is ${most}`,
      );
    }
    if (registers.read("queue_pfn") !== 0) {
      throw this.error(
        queue,
        "queue_pfn",
        "the queue is set up already; it takes a reset to set it up again",
      );
    }
    registers.write("queue_size", addresses.size);
    registers.write("queue_align", LEGACY_RING_ALIGN);
    registers.write("queue_pfn", pfn);
    const kept = registers.read("queue_pfn");
    if (kept !== pfn) {
      throw this.error(
        queue,
        "queue_pfn",
        `0x${pfn.toString(16)} was written, 0x${kept.toString(16)} reads back`,
      );
    }
    this.#sizes.set(queue, addresses.size);
  }

  /** QueuePFN is not 0. */
  queueEnabled(queue: number): boolean {
    this.select(queue);
    return this.registers.read("queue_pfn") !== 0;
  }

  /** In one piece, as `legacyRingLayout` has it; nowhere while QueuePFN is 0. */
  protected queueAreas(queue: number): QueueAddresses {
    const size = this.#sizes.get(queue) ?? this.registers.read("queue_size_max");
    return legacyAreas(size, this.registers.read("queue_pfn"));
  }

  /** A write of the queue's index to QueueNotify. */
  doorbell(queue: number): Doorbell {
    this.requireQueue(queue);
    const { offset, width } = this.registers.table.queue_notify;
    return new QueueDoorbell(this.register(offset, width, queue), queue, false, this);
  }
}
