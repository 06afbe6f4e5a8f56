/**
 * An opened function together with its lock.
 *
 * @module
 */
import type { Lifeline } from "../../wait/lifeline.ts";
import { typedErrors } from "../../errors/doors.ts";
import type { MappedMemory } from "../../../ffi/mod.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import type {
  IrqInfo,
  IrqRequest,
  RegionArea,
  RegionInfo,
  VfioDeviceInfo,
  VfioPath,
} from "../../vfio/device.ts";
import type { HotResetInfo, VfioPciDevice } from "../../vfio/pci_device.ts";

/** Passes every call on to a device, and lets go of a lock when the device has been closed. */
export class LockedDevice implements VfioPciDevice {
  static {
    typedErrors(this);
  }

  readonly #device: VfioPciDevice;
  readonly #release: () => void;
  #released = false;

  /** Takes over the device. `release` is called once, after the device is closed. */
  constructor(device: VfioPciDevice, release: () => void) {
    this.#device = device;
    this.#release = release;
  }

  get name(): string {
    return this.#device.name;
  }

  get path(): VfioPath {
    return this.#device.path;
  }

  get info(): VfioDeviceInfo {
    return this.#device.info;
  }

  get closed(): boolean {
    return this.#device.closed;
  }

  get lifeline(): Lifeline | undefined {
    return this.#device.lifeline;
  }

  get dma(): DmaSpace {
    return this.#device.dma;
  }

  regionInfo(index: number): RegionInfo {
    return this.#device.regionInfo(index);
  }

  irqInfo(index: number): IrqInfo {
    return this.#device.irqInfo(index);
  }

  readRegion(index: number, offset: number, into: Uint8Array<ArrayBuffer>): void {
    this.#device.readRegion(index, offset, into);
  }

  writeRegion(index: number, offset: number, from: Uint8Array<ArrayBuffer>): void {
    this.#device.writeRegion(index, offset, from);
  }

  mapRegion(index: number, area: RegionArea, options?: { writable?: boolean }): MappedMemory {
    return this.#device.mapRegion(index, area, options);
  }

  doorbellFd(
    index: number,
    offset: number,
    sizeBytes: number,
    value?: number,
  ): ReturnType<VfioPciDevice["doorbellFd"]> {
    return this.#device.doorbellFd(index, offset, sizeBytes, value);
  }

  setIrqs(request: IrqRequest): void {
    this.#device.setIrqs(request);
  }

  reset(): void {
    this.#device.reset();
  }

  hotResetInfo(): HotResetInfo {
    return this.#device.hotResetInfo();
  }

  hotReset(): void {
    this.#device.hotReset();
  }

  probeFeature(feature: number, direction?: "get" | "set"): boolean {
    return this.#device.probeFeature(feature, direction);
  }

  setVfToken(token: string): void {
    this.#device.setVfToken(token);
  }

  /** Closes the device, then lets go of its lock; may be called again. */
  close(): void {
    // The device may be closed already, by what is below or by whoever made it: the lock is ours all the same.
    if (this.#released) return;
    this.#released = true;
    try {
      this.#device.close();
    } finally {
      this.#release();
    }
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
