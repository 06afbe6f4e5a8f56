/**
 * What a vfio-user server needs from the device behind it.
 *
 * @module
 */
import type { EventFd, OwnedFd } from "../../../../ffi/mod.ts";
import type { IrqInfo, RegionArea, RegionInfo, VfioDeviceInfo } from "../../../vfio/device.ts";
import type { DmaTable } from "../../dma_table.ts";

/** A region as served: what the client is told, and the file behind the parts that it may map. */
export interface ServedRegion extends RegionInfo {
  /** File that `mmapAreas` are mapped from, at offset `fileOffset` + area offset. */
  readonly file?: OwnedFd;
  /** Default 0. */
  readonly fileOffset?: number;
}

/** The file behind a part of a region, for a client to map. */
export interface ServedMapping {
  /** The device's own: a client gets a duplicate. Open for reading only unless `writable`. */
  readonly file: OwnedFd;
  /** Where the part begins in the file: a multiple of the page size. */
  readonly fileOffset: number;
  /** The client may write. */
  readonly writable: boolean;
}

/** An eventfd that stands for a register write (a doorbell), offered to clients by GET_REGION_IO_FDS. */
export interface ServedDoorbell extends RegionArea {
  /** The device's own: a client gets a duplicate. */
  readonly fd: EventFd;
  /** When given, only a write of this value. */
  readonly value?: number;
}

/** SET_IRQS after the server has checked index, range and data against `IrqInfo`. */
export type ServedIrqRequest =
  | { action: "trigger"; start: number; eventFds: readonly (EventFd | null)[] }
  | { action: "disable" }
  | { action: "fire" | "mask" | "unmask"; start: number; count: number }
  | { action: "unmask-on"; start: number; eventFd: EventFd };

/** A device whose state another of its kind can take over. */
export interface ServedMigration {
  /** Stops it, so that it touches no memory and sends nothing, or lets it run. Idempotent. */
  setStopped(stopped: boolean): void;
  /** Its state; it is stopped. */
  save(): Uint8Array;
  /** Takes a state; it is stopped, and acts on it when it runs. @throws RingsideError when this device cannot have that state: nothing has changed */
  load(state: Uint8Array): void;
}

/** VF tokens of a function, as vfio-pci keeps them. */
export interface ServedTokens {
  /** A client is about to get the function. @param shown the token that it shows, if it does @throws SyscallError EACCES, EINVAL */
  admit(shown: Uint8Array | undefined): void;
  /** It is a PF whose token can be set. */
  readonly settable: boolean;
  /** Sets it. */
  set(token: Uint8Array): void;
}

/**
 * The device side of a connection. Accesses arrive already checked against the regions' sizes and access flags.
 * A `RingsideError` thrown by a call becomes an error reply (EINVAL), an `UnsupportedError` ENOTSUP, a `SyscallError` its own errno; the
 * connection goes on. Any other exception is a bug: the client is let go and it comes out of `handleReadable`.
 */
export interface ServedDevice {
  /** For messages: the PCI address. */
  readonly name: string;
  /** Flags, and how many regions and interrupt indices there are. */
  readonly info: VfioDeviceInfo;
  /** A region; `index` is below `info.numRegions`. */
  region(index: number): ServedRegion;
  /** An interrupt index; `index` is below `info.numIrqs`. */
  irq(index: number): IrqInfo;
  /** Eventfds that stand for writes to the region; empty when there are none. */
  doorbells(index: number): readonly ServedDoorbell[];

  /** `DmaRegion.file` is wanted: for devices that share their driver's memory with others. It costs a descriptor for each mapping. Default false. */
  readonly keepsDmaFiles?: boolean;
  /**
   * The file behind a part of a region that lies in none of its `mmapAreas`: whole pages inside the region. Absent: there are no such parts.
   * @param writable the client wants to write, too: then the answer must be writable
   * @returns undefined when this part has nothing that could be mapped (ENOTSUP) @throws SyscallError, such as EACCES
   */
  mapArea?(index: number, offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined;

  /**
   * Address spaces beside the client's memory that `attached` is given: at index 0 the one with id 1. The server keeps them up to date, too; what
   * goes away there is not announced by `dmaWillUnmap`, but changes the `generation` of the table. Absent: there are none.
   */
  readonly addressSpaces?: readonly DmaTable[] | undefined;

  /** Absent: it has nothing to do with SR-IOV. */
  readonly vfTokens?: ServedTokens | undefined;

  /** Absent: it cannot be moved. */
  readonly migration?: ServedMigration | undefined;

  /** Fills `into` from the region. */
  readRegion(index: number, offset: number, into: Uint8Array): void;
  /** Takes `from`, which is only valid during the call. */
  writeRegion(index: number, offset: number, from: Uint8Array): void;
  /** Takes ownership of the eventfds of `trigger` and `unmask-on`. */
  setIrqs(index: number, request: ServedIrqRequest): void;
  /** Resets the function, as a function level reset does. */
  reset(): void;

  /** A client is there. `dma` is its memory; the server keeps it up to date. */
  attached(dma: DmaTable): void;
  /** Before a range goes away (unmap): the device must not touch it after this returns. */
  dmaWillUnmap(iova: bigint, sizeBytes: number): void;
  /** The client is gone, orderly or not: stop, reset, forget its eventfds and memory. */
  detached(): void;
}
