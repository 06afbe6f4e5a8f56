/**
 * The seam `VfioDevice`: a function opened for userspace, whoever serves it: kernel (group or cdev) or a vfio-user process. A PCI function has more,
 * see `VfioPciDevice`.
 *
 * @module
 */
import type { EventFd, MappedMemory } from "../../ffi/mod.ts";
import type { Lifeline } from "../wait/lifeline.ts";
import type { AddressSpaces, DmaSpace } from "../memory/mod.ts";

/** Region indices of a PCI function (linux/vfio.h, VFIO_PCI_*_REGION_INDEX). Those of a platform device are its register windows, in firmware's order. */
export const REGION = {
  bar0: 0,
  bar1: 1,
  bar2: 2,
  bar3: 3,
  bar4: 4,
  bar5: 5,
  rom: 6,
  config: 7,
  vga: 8,
} as const;

/** Interrupt indices of a PCI function (VFIO_PCI_*_IRQ_INDEX). */
export const IRQ = { intx: 0, msi: 1, msix: 2, error: 3, request: 4 } as const;

/**
 * Interrupt indices of a platform device: its lines, by their order in firmware, of one vector each. Over vfio-user from this library's emulated
 * host index 1 is something else: the messages that the device sends, as many vectors as it has. The kernel has no messages of platform devices.
 */
export const PLATFORM_IRQ = { line: 0, messages: 1 } as const;

/** `vfio_device_info.flags`. */
export const DEVICE_FLAG = { reset: 1, pci: 2, platform: 4 } as const;
/** `vfio_region_info.flags`. */
export const REGION_FLAG = { read: 1, write: 2, mmap: 4, caps: 8 } as const;
/** `vfio_irq_info.flags`. */
export const IRQ_FLAG = { eventfd: 1, maskable: 2, automasked: 4, noResize: 8 } as const;
/** `vfio_irq_set.flags`: one data kind and one action. */
export const IRQ_SET = {
  dataNone: 1,
  dataBool: 2,
  dataEventfd: 4,
  actionMask: 8,
  actionUnmask: 16,
  actionTrigger: 32,
} as const;

/** How a function is reached. */
export type VfioPath = "group" | "cdev" | "vfio-user";

/** `vfio_device_info`. */
export interface VfioDeviceInfo {
  /** `DEVICE_FLAG` bits. */
  readonly flags: number;
  /** Region indices are below this. */
  readonly numRegions: number;
  /** Interrupt indices are below this. */
  readonly numIrqs: number;
}

/** A part of a region, in bytes from its start. */
export interface RegionArea {
  /** From the start of the region, in bytes. */
  readonly offset: number;
  /** In bytes. */
  readonly sizeBytes: number;
}

/** `vfio_region_info` with its capabilities. */
export interface RegionInfo {
  /** `REGION` number; of a platform device, that of its register window. */
  readonly index: number;
  /** `REGION_FLAG` bits. */
  readonly flags: number;
  /** 0 when the function has no such region. */
  readonly sizeBytes: number;
  /** Parts that may be mapped: the sparse areas when the server lists them, else the whole region, else none. */
  readonly mmapAreas: readonly RegionArea[];
  /** The MSI-X table's page may be mapped with the rest (VFIO_REGION_INFO_CAP_MSIX_MAPPABLE). */
  readonly msixMappable: boolean;
  /** Type and subtype of a device-specific region. */
  readonly type?: { readonly type: number; readonly subtype: number };
}

/** `vfio_irq_info`. */
export interface IrqInfo {
  /** `IRQ` number; of a platform device, that of its line (`PLATFORM_IRQ`). */
  readonly index: number;
  /** `IRQ_FLAG` bits. */
  readonly flags: number;
  /** Vectors; 0 when the function has no such interrupt. */
  readonly count: number;
}

/** What to do to a range of an interrupt index (VFIO_DEVICE_SET_IRQS). */
export type IrqRequest =
  /** Deliver vector `start + i` to `eventFds[i]`; null takes vector out. Enables the index. */
  | { index: number; action: "trigger"; start: number; eventFds: readonly (EventFd | null)[] }
  /** Turns the whole index off. */
  | { index: number; action: "disable" }
  /** Raises vectors by software. */
  | { index: number; action: "fire"; start: number; count: number }
  | { index: number; action: "mask" | "unmask"; start: number; count: number }
  /** The same for some of the vectors from `start`: those that are true. */
  | { index: number; action: "fire" | "mask" | "unmask"; start: number; which: readonly boolean[] }
  /** The kernel unmasks by itself when this eventfd is signalled (resample). */
  | { index: number; action: "unmask-on"; start: number; eventFd: EventFd };

/** VFIO_DEVICE_FEATURE numbers. */
export const DEVICE_FEATURE = {
  pciVfToken: 0,
  migration: 1,
  migDeviceState: 2,
  lowPowerEntry: 3,
  lowPowerEntryWithWakeup: 4,
  lowPowerExit: 5,
  dmaLoggingStart: 6,
  dmaLoggingStop: 7,
  dmaLoggingReport: 8,
  migDataSize: 9,
  busMaster: 10,
  dmaBuf: 11,
} as const;

/**
 * An opened function of any bus. Every call is synchronous; after `close()` every call is a `ClosedError` and every view of mapped
 * memory is detached.
 *
 * Errors: `UsageError` for a range, index or state that cannot be, before anything reaches the kernel; `SyscallError` or
 * `ProtocolError`/`PeerGoneError`/`TimeoutError` for what the kernel or the peer answers; `UnsupportedError` for a facility
 * that the function or path lacks.
 */
export interface VfioDevice extends Disposable, Partial<AddressSpaces> {
  /** Address, as the host lists it. */
  readonly name: string;
  /** How it was opened. */
  readonly path: VfioPath;
  /** What the server says of the device. */
  readonly info: VfioDeviceInfo;
  /** True after `close`. */
  readonly closed: boolean;
  /** DMA memory for this function. */
  readonly dma: DmaSpace;
  /** Ends when the function is wanted back, broken or closed, or the process that serves it (vfio-user) is gone. Absent: nobody tells. */
  readonly lifeline?: Lifeline | undefined;

  /** What the server says of a region. @param index a `REGION` number, or one beyond for device-specific regions */
  regionInfo(index: number): RegionInfo;
  /** What the server says of a kind of interrupt. @param index an `IRQ` number */
  irqInfo(index: number): IrqInfo;

  /** Reads exactly `into.length` bytes; 1, 2, 4 and 8 bytes are one access of that width. */
  readRegion(index: number, offset: number, into: Uint8Array<ArrayBuffer>): void;
  /** Writes exactly `from.length` bytes; 1, 2, 4 and 8 bytes are one access of that width. */
  writeRegion(index: number, offset: number, from: Uint8Array<ArrayBuffer>): void;
  /**
   * Maps a range that lies in one of the region's `mmapAreas`, or, where the server gives the files of other parts when it is asked (vfio-user
   * between peers of this library: shared memory that may be mapped for a while, or for reading only), one that it grants now. The device owns
   * the mapping and closes it with itself.
   * @param options `writable`: default as the region is. A read-only mapping hands out copies only.
   * @throws UsageError (not whole pages of the region), UnsupportedError (not to be mapped, or not writable), SyscallError
   */
  mapRegion(index: number, area: RegionArea, options?: { writable?: boolean }): MappedMemory;
  /**
   * An eventfd that does what a write of `sizeBytes` at `offset` would do, when the server offers one (vfio-user region I/O
   * fds); else undefined. `value` is given when only that value's write is covered.
   * @param value the one that will be written: a server may have an eventfd for each value at the same place. Default: any.
   */
  doorbellFd(
    index: number,
    offset: number,
    sizeBytes: number,
    value?: number,
  ): { fd: EventFd; value?: number } | undefined;

  /** Wires, raises, masks or turns off interrupts. */
  setIrqs(request: IrqRequest): void;

  /** Resets the function (FLR or what the kernel has). @throws UnsupportedError when it has no reset. */
  reset(): void;
  /** True when the kernel knows the feature on this function (`get` or `set` for that direction). */
  probeFeature(feature: number, direction?: "get" | "set"): boolean;
  /** Closes the function; every mapping is taken away first. May be called again. */
  close(): void;
}
