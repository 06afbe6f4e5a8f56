/**
 * An opened function together with its lock.
 *
 * @module
 */
import type { MappedMemory } from "../../ffi/mod.ts";
import type { DmaSpace } from "../memory/mod.ts";
import type {
  HotResetInfo,
  IrqInfo,
  IrqRequest,
  RegionArea,
  RegionInfo,
  VfioDevice,
  VfioDeviceInfo,
  VfioPath,
} from "../vfio/device.ts";

/** Passes every call on to a device, and lets go of a lock when the device has been closed. */
export class LockedDevice implements VfioDevice {
  readonly #device: VfioDevice;
  readonly #release: () => void;

  /** Takes over the device. `release` is called once, after the device is closed. */
  constructor(device: VfioDevice, release: () => void) {
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

  doorbellFd(index: number, offset: number, sizeBytes: number): ReturnType<VfioDevice["doorbellFd"]> {
    return this.#device.doorbellFd(index, offset, sizeBytes);
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

  close(): void {
    if (this.#device.closed) return;
    try {
      this.#device.close();
    } finally {
      this.#release();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
