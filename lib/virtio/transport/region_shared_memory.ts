/**
 * A shared memory region that is part of a region of its function: of a BAR, or of the register window of a platform device (reference 1.7).
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import type { MappedMemory } from "../../memory/mod.ts";
import type { RegionArea, VfioDevice } from "../../vfio/device.ts";
import type { MappedRegion } from "../../vfio/mapped_region.ts";
import type { SharedMemory } from "./transport.ts";

/** Offsets of its calls count from the shared memory's start. */
export class RegionSharedMemory implements SharedMemory {
  static {
    typedErrors(this);
  }

  readonly sizeBytes: number;
  readonly #device: VfioDevice;
  readonly #region: MappedRegion;
  readonly #start: number;
  readonly #what: string;

  /** @param place in bytes of the region, checked to lie inside it @param id for messages */
  constructor(
    device: VfioDevice,
    region: MappedRegion,
    place: { readonly offset: number; readonly lengthBytes: number },
    id: number,
  ) {
    this.#device = device;
    this.#region = region;
    this.#start = place.offset;
    this.sizeBytes = place.lengthBytes;
    this.#what = `${device.name}, shared memory region ${id}`;
  }

  /** Maps whole pages. */
  map(area?: RegionArea, options: { writable?: boolean } = {}): MappedMemory {
    const { offset, sizeBytes } = area ?? { offset: 0, sizeBytes: this.sizeBytes };
    this.#check(offset, sizeBytes);
    return this.#device.mapRegion(this.#region.index, { offset: this.#start + offset, sizeBytes }, {
      writable: options.writable ?? true,
    });
  }

  /** By accesses to the region. */
  read(offset: number, into: Uint8Array<ArrayBuffer>): void {
    this.#check(offset, into.byteLength);
    this.#device.readRegion(this.#region.index, this.#start + offset, into);
  }

  /** By accesses to the region. */
  write(offset: number, from: Uint8Array<ArrayBuffer>): void {
    this.#check(offset, from.byteLength);
    this.#device.writeRegion(this.#region.index, this.#start + offset, from);
  }

  /** A register in the region. */
  doorbell(offset: number, width: 1 | 2 | 4): { write(value: number): void } {
    this.#check(offset, width);
    return this.#region.doorbell(this.#start + offset, width);
  }

  #check(offset: number, sizeBytes: number): void {
    const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(sizeBytes) && offset >= 0;
    if (whole && sizeBytes >= 0 && offset + sizeBytes <= this.sizeBytes) return;
    throw new UsageError(`${this.#what}: [${offset}, +${sizeBytes}) is outside its ${this.sizeBytes} bytes`);
  }
}
