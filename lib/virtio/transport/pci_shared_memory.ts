/**
 * A shared memory region behind a PCI function (SPEC "Shared memory capability"; reference 1.7).
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import type { MappedMemory } from "../../memory/mod.ts";
import { REGION, type RegionArea, type VfioDevice } from "../../vfio/device.ts";
import type { StructurePlace } from "./pci_layout.ts";
import type { BarSet } from "./pci_registers.ts";
import type { SharedMemory } from "./transport.ts";

/** Part of a BAR. Offsets of its calls count from the region's start. */
export class PciSharedMemory implements SharedMemory {
  static {
    typedErrors(this);
  }

  readonly sizeBytes: number;
  readonly #device: VfioDevice;
  readonly #bars: BarSet;
  readonly #place: StructurePlace;
  readonly #what: string;

  /** @param place checked to lie inside its BAR @param id for messages */
  constructor(device: VfioDevice, bars: BarSet, place: StructurePlace, id: number) {
    this.#device = device;
    this.#bars = bars;
    this.#place = place;
    this.sizeBytes = place.lengthBytes;
    this.#what = `${device.name}, shared memory region ${id}`;
  }

  /** Maps whole pages. */
  map(area?: RegionArea, options: { writable?: boolean } = {}): MappedMemory {
    const { offset, sizeBytes } = area ?? { offset: 0, sizeBytes: this.sizeBytes };
    this.#check(offset, sizeBytes);
    const { bar, offset: start } = this.#place;
    return this.#device.mapRegion(REGION.bar0 + bar, { offset: start + offset, sizeBytes }, {
      writable: options.writable ?? true,
    });
  }

  /** By accesses to the BAR. */
  read(offset: number, into: Uint8Array<ArrayBuffer>): void {
    this.#check(offset, into.byteLength);
    this.#device.readRegion(REGION.bar0 + this.#place.bar, this.#place.offset + offset, into);
  }

  /** By accesses to the BAR. */
  write(offset: number, from: Uint8Array<ArrayBuffer>): void {
    this.#check(offset, from.byteLength);
    this.#device.writeRegion(REGION.bar0 + this.#place.bar, this.#place.offset + offset, from);
  }

  /** A register in the BAR. */
  doorbell(offset: number, width: 1 | 2 | 4): { write(value: number): void } {
    this.#check(offset, width);
    return this.#bars.bar(this.#place.bar).doorbell(this.#place.offset + offset, width);
  }

  #check(offset: number, sizeBytes: number): void {
    const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(sizeBytes) && offset >= 0;
    if (whole && sizeBytes >= 0 && offset + sizeBytes <= this.sizeBytes) return;
    throw new UsageError(`${this.#what}: [${offset}, +${sizeBytes}) is outside its ${this.sizeBytes} bytes`);
  }
}
