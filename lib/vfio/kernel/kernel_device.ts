/**
 * A function opened through kernel VFIO: everything that the group path and the character device path have in common.
 *
 * @module
 */
import { isErrno, type MappedMemory } from "../../../ffi/mod.ts";
import { typedErrors } from "../../errors/doors.ts";
import { ClosedError, DeviceError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import {
  DEVICE_FLAG,
  type IrqInfo,
  type IrqRequest,
  REGION_FLAG,
  type RegionArea,
  type RegionInfo,
  type VfioDevice,
  type VfioDeviceInfo,
} from "../device.ts";
import { DeviceLifeline } from "../device_lifeline.ts";
import { decodeRegionInfo, type RegionAnswer } from "../region_answer.ts";
import { DEVICE_IOCTL, deviceFeature, deviceInfo, FEATURE_FLAG, irqInfo, regionInfo } from "./abi.ts";
import type { IommuBinding } from "./binding.ts";
import { explaining } from "./explain.ts";
import { infoCall } from "./info_call.ts";
import { IrqControl } from "./irq_control.ts";
import { ioctlStruct, type KernelCalls } from "./kernel_calls.ts";

const MAX_FEATURE = 0xffff;

const RESET_HINTS: Readonly<Record<string, string>> = {
  EAGAIN: "the function's slot is locked by another reset: try again",
  ENOTTY: "the kernel found no way to reset this function alone: use a hot reset",
};

/** `VfioDevice` over a kernel descriptor: all of a platform device, and what a PCI function has in common with it. Made by `openKernelDevice`. */
export class KernelDevice implements VfioDevice {
  static {
    typedErrors(this);
  }

  readonly name: string;
  /** Path that it was opened by. */
  readonly path: "group" | "cdev";
  /** As `VfioDevice.info`. */
  readonly info: VfioDeviceInfo;
  /** Takes all requests. */
  protected readonly kernel: KernelCalls;
  /** How it hangs on its IOMMU. */
  protected readonly binding: IommuBinding;
  readonly #irqs: IrqControl;
  readonly #regions = new Map<number, RegionAnswer>();
  readonly #irqInfos = new Map<number, IrqInfo>();
  readonly #mappings = new Set<MappedMemory>();
  readonly #onClosed: (() => void) | undefined;
  /** Wired from the start: who unbinds a function that is open and tells of nothing waits ten seconds for the kernel to ask again. */
  readonly lifeline: DeviceLifeline;
  #closed = false;

  /**
   * Takes over `binding`, and closes it when the function's facts cannot be read.
   * @param bus the flag that the kernel must have for it @throws SyscallError, UnsupportedError when it is on another bus to VFIO
   */
  constructor(
    kernel: KernelCalls,
    name: string,
    binding: IommuBinding,
    bus: "pci" | "platform",
    onClosed?: () => void,
  ) {
    this.#onClosed = onClosed;
    this.kernel = kernel;
    this.binding = binding;
    this.name = name;
    this.path = binding.path;
    using opened = new DisposableStack();
    opened.defer(() => binding.close());
    const { flags, numRegions, numIrqs } = ioctlStruct(kernel, binding.fd, DEVICE_IOCTL.getInfo, deviceInfo);
    if ((flags & DEVICE_FLAG[bus]) === 0) {
      const kind = bus === "pci" ? "PCI function" : "platform device";
      throw new UnsupportedError(`${name} is not a ${kind} to VFIO (flags ${flags})`);
    }
    this.info = { flags, numRegions, numIrqs };
    this.#irqs = new IrqControl(this, (index) => this.irqInfo(index), (argument) => {
      kernel.ioctlBuffer(binding.fd, DEVICE_IOCTL.setIrqs, argument);
    });
    this.lifeline = new DeviceLifeline(this);
    opened.move();
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Shared by the functions of an IOMMU group that this process has open. @throws ClosedError */
  get dma(): DmaSpace {
    this.requireOpen();
    return this.binding.dma;
  }

  /** By PASID. */
  addressSpace(id: number): DmaSpace {
    this.requireOpen();
    const { addressSpaces } = this.binding;
    if (addressSpaces !== undefined) return addressSpaces.addressSpace(id);
    throw new UnsupportedError(`${this.name} has no address space ${id}: it was opened by its group`, {
      hint: "PASIDs are attached through iommufd: open it by its character device (path cdev)",
    });
  }

  /** As `VfioDevice.regionInfo`. */
  regionInfo(index: number): RegionInfo {
    return this.#region(index).info;
  }

  /** As `VfioDevice.irqInfo`. */
  irqInfo(index: number): IrqInfo {
    this.requireOpen();
    const known = this.#irqInfos.get(index);
    if (known !== undefined) return known;
    this.#checkIndex("interrupt index", index, this.info.numIrqs);
    let info: IrqInfo;
    try {
      const { fd } = this.binding;
      const { flags, count } = ioctlStruct(this.kernel, fd, DEVICE_IOCTL.getIrqInfo, irqInfo, { index });
      info = { index, flags, count };
    } catch (error) {
      // The kernel's answer for an index that the function could have and has not (error interrupts of conventional PCI).
      if (!isErrno(error, "EINVAL")) throw error;
      info = { index, flags: 0, count: 0 };
    }
    this.#irqInfos.set(index, info);
    return info;
  }

  readRegion(index: number, offset: number, into: Uint8Array<ArrayBuffer>): void {
    const base = this.#access(index, offset, into.byteLength, REGION_FLAG.read, "read");
    for (let done = 0; done < into.byteLength;) {
      const rest = done === 0 ? into : into.subarray(done);
      const n = this.kernel.pread(this.binding.fd, rest, base + BigInt(offset + done));
      if (n <= 0) throw this.#ended("read", index, offset + done);
      done += n;
    }
  }

  writeRegion(index: number, offset: number, from: Uint8Array<ArrayBuffer>): void {
    const base = this.#access(index, offset, from.byteLength, REGION_FLAG.write, "written");
    for (let done = 0; done < from.byteLength;) {
      const rest = done === 0 ? from : from.subarray(done);
      const n = this.kernel.pwrite(this.binding.fd, rest, base + BigInt(offset + done));
      if (n <= 0) throw this.#ended("write", index, offset + done);
      done += n;
    }
    this.wrote(index);
  }

  mapRegion(index: number, area: RegionArea, options: { writable?: boolean } = {}): MappedMemory {
    const { info, fileOffset } = this.#region(index);
    const { offset, sizeBytes } = area;
    const allowed = Number.isSafeInteger(offset) && Number.isSafeInteger(sizeBytes) && sizeBytes > 0 &&
      info.mmapAreas.some((one) => offset >= one.offset && offset + sizeBytes <= one.offset + one.sizeBytes);
    if (!allowed) {
      const areas = info.mmapAreas.map((one) => `[${one.offset}, +${one.sizeBytes})`).join(", ");
      throw new UsageError(`${this.name} region ${index}: [${offset}, +${sizeBytes}) cannot be mapped`, {
        hint: areas === "" ? "use readRegion and writeRegion" : `what can be: ${areas}`,
      });
    }
    const mayWrite = (info.flags & REGION_FLAG.write) !== 0;
    const writable = options.writable ?? mayWrite;
    if (writable && !mayWrite) {
      throw new UsageError(`${this.name} region ${index} cannot be mapped for writing: it is read-only`);
    }
    this.requireMappable(index);
    const memory = this.kernel.map(this.binding.fd, sizeBytes, fileOffset + BigInt(offset), writable);
    for (const one of this.#mappings) if (one.closed) this.#mappings.delete(one);
    this.#mappings.add(memory);
    return memory;
  }

  /** Always undefined: the kernel offers none, its BARs are mapped instead. @throws ClosedError */
  doorbellFd(): undefined {
    this.requireOpen();
    return undefined;
  }

  /** As `VfioDevice.setIrqs`. */
  setIrqs(request: IrqRequest): void {
    this.requireOpen();
    this.#irqs.apply(request);
  }

  reset(): void {
    this.requireOpen();
    if ((this.info.flags & DEVICE_FLAG.reset) === 0) {
      throw new UnsupportedError(`${this.name} cannot be reset alone`, { hint: this.noResetHint });
    }
    explaining(RESET_HINTS, () => this.kernel.ioctlValue(this.binding.fd, DEVICE_IOCTL.reset));
    this.wasReset();
  }

  probeFeature(feature: number, direction?: "get" | "set"): boolean {
    this.requireOpen();
    if (!Number.isInteger(feature) || feature < 0 || feature > MAX_FEATURE) {
      throw new UsageError(`${this.name}: device feature ${feature} is not a 16-bit number`);
    }
    const flags = feature | FEATURE_FLAG.probe | (direction === undefined ? 0 : FEATURE_FLAG[direction]);
    try {
      ioctlStruct(this.kernel, this.binding.fd, DEVICE_IOCTL.feature, deviceFeature, { flags });
      return true;
    } catch (error) {
      // ENOTTY: no such feature here; EINVAL: not in this direction; ENOTSUP: known, not on this function.
      if (isErrno(error, "ENOTTY", "EINVAL", "ENOTSUP")) return false;
      throw error;
    }
  }

  /** Detaches and unmaps every mapping, then closes the function. DMA memory goes with the last function of the group. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.unmapAll();
    } finally {
      try {
        this.binding.close();
      } finally {
        // Whoever waits for it hears of it, whatever a caller's `onClosed` does.
        this.lifeline.close();
        this.#onClosed?.();
      }
    }
  }

  /** Same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** What was broken is not any more. */
  protected wasReset(): void {
    this.lifeline.wasReset();
  }

  /** A region was written to. */
  protected wrote(_index: number): void {}

  /** @throws UsageError when a region must not be mapped now, though it can be */
  protected requireMappable(_index: number): void {}

  /** The kernel's EINVAL for a region means that the function has none of this number. */
  protected isAbsent(_index: number): boolean {
    return false;
  }

  /** What to do where the kernel cannot reset it. */
  protected get noResetHint(): string {
    return "the kernel has no reset function for this kind of device: reset it through its registers, as its driver does";
  }

  /** Something of it is mapped. */
  protected get isMapped(): boolean {
    return this.#mappings.size > 0;
  }

  /** Detaches and unmaps every mapping. */
  protected unmapAll(): void {
    for (const memory of this.#mappings) memory.close();
    this.#mappings.clear();
  }

  /** @throws ClosedError */
  protected requireOpen(): void {
    if (this.#closed) throw new ClosedError(`function ${this.name}`);
  }

  #checkIndex(what: string, index: number, count: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= count) {
      throw new UsageError(`${this.name} has no ${what} ${index}: there are ${count}`);
    }
  }

  #region(index: number): RegionAnswer {
    this.requireOpen();
    const known = this.#regions.get(index);
    if (known !== undefined) return known;
    this.#checkIndex("region", index, this.info.numRegions);
    let answer: RegionAnswer;
    try {
      const bytes = infoCall(
        this.kernel,
        this.binding.fd,
        DEVICE_IOCTL.getRegionInfo,
        regionInfo.sizeBytes,
        (argsz) => regionInfo.encode({ argsz, index }, argsz - regionInfo.sizeBytes),
      );
      answer = decodeRegionInfo(bytes, index, this.name);
    } catch (error) {
      if (!this.isAbsent(index) || !isErrno(error, "EINVAL")) throw error;
      const none: RegionInfo = { index, flags: 0, sizeBytes: 0, mmapAreas: [], msixMappable: false };
      answer = { info: none, fileOffset: 0n };
    }
    this.#regions.set(index, answer);
    return answer;
  }

  /** Checks an access; @returns the region's offset on the descriptor. */
  #access(index: number, offset: number, length: number, flag: number, verb: string): bigint {
    const { info, fileOffset } = this.#region(index);
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > info.sizeBytes) {
      throw new UsageError(
        `${this.name} region ${index}: [${offset}, +${length}) is outside its ${info.sizeBytes} bytes`,
      );
    }
    if ((info.flags & flag) === 0) throw new UsageError(`${this.name} region ${index} cannot be ${verb}`);
    return fileOffset;
  }

  #ended(what: string, index: number, offset: number): DeviceError {
    return new DeviceError(`${what} of region ${index} ended at offset ${offset}`, { function: this.name });
  }
}
