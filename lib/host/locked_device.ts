/**
 * An opened function together with its lock.
 *
 * @module
 */
import { typedErrors } from "../errors/doors.ts";
import type { MappedMemory } from "../../ffi/mod.ts";
import type { DmaSpace } from "../memory/mod.ts";
import type {
  HotResetInfo,
  IrqInfo,
  IrqRequest,
  Lifeline,
  RegionArea,
  RegionInfo,
  VfioDevice,
  VfioDeviceInfo,
  VfioPath,
} from "../vfio/device.ts";

/** Passes every call on to a device, and lets go of a lock when the device has been closed. */
export class LockedDevice implements VfioDevice {
  static {
    typedErrors(this);
  }

  readonly #device: VfioDevice;
  readonly #release: () => void;
  #released = false;

  /** Takes over the device. `release` is called once, after the device is closed. */
  constructor(device: VfioDevice, release: () => void) {
    this.#device = device;
    this.#release = release;
  }

  /** See `VfioDevice`. */
  get name(): string {
    return this.#device.name;
  }

  /** See `VfioDevice`. */
  get path(): VfioPath {
    return this.#device.path;
  }

  /** See `VfioDevice`. */
  get info(): VfioDeviceInfo {
    return this.#device.info;
  }

  /** See `VfioDevice`. */
  get closed(): boolean {
    return this.#device.closed;
  }

  /** See `VfioDevice`. */
  get lifeline(): Lifeline | undefined {
    return this.#device.lifeline;
  }

  /** See `VfioDevice`. */
  get dma(): DmaSpace {
    return this.#device.dma;
  }

  /** See `VfioDevice`. */
  regionInfo(index: number): RegionInfo {
    return this.#device.regionInfo(index);
  }

  /** See `VfioDevice`. */
  irqInfo(index: number): IrqInfo {
    return this.#device.irqInfo(index);
  }

  /** See `VfioDevice`. */
  readRegion(index: number, offset: number, into: Uint8Array<ArrayBuffer>): void {
    this.#device.readRegion(index, offset, into);
  }

  /** See `VfioDevice`. */
  writeRegion(index: number, offset: number, from: Uint8Array<ArrayBuffer>): void {
    this.#device.writeRegion(index, offset, from);
  }

  /** See `VfioDevice`. */
  mapRegion(index: number, area: RegionArea, options?: { writable?: boolean }): MappedMemory {
    return this.#device.mapRegion(index, area, options);
  }

  /** See `VfioDevice`. */
  doorbellFd(
    index: number,
    offset: number,
    sizeBytes: number,
    value?: number,
  ): ReturnType<VfioDevice["doorbellFd"]> {
    return this.#device.doorbellFd(index, offset, sizeBytes, value);
  }

  /** See `VfioDevice`. */
  setIrqs(request: IrqRequest): void {
    this.#device.setIrqs(request);
  }

  /** See `VfioDevice`. */
  reset(): void {
    this.#device.reset();
  }

  /** See `VfioDevice`. */
  hotResetInfo(): HotResetInfo {
    return this.#device.hotResetInfo();
  }

  /** See `VfioDevice`. */
  hotReset(): void {
    this.#device.hotReset();
  }

  /** See `VfioDevice`. */
  probeFeature(feature: number, direction?: "get" | "set"): boolean {
    return this.#device.probeFeature(feature, direction);
  }

  /** See `VfioDevice`. */
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
