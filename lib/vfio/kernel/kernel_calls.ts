/**
 * The calls into the kernel that opening and driving a function takes, as one object: so that the logic above them (orders,
 * retries, undoing) can be run against a model of the kernel on machines without VFIO.
 *
 * @module
 */
import {
  accessible,
  addressOf,
  ioctlBuffer,
  type IoctlRequest,
  ioctlValue,
  MappedMemory,
  O,
  OwnedFd,
  pread,
  pwrite,
  readDirectory,
  readLink,
  readText,
} from "../../../ffi/mod.ts";
import type { Fields, Struct, Values } from "../../wire/mod.ts";

/** What this folder asks of the kernel. Failures are `SyscallError`s. */
export interface KernelCalls {
  /** Opens a device node for reading and writing. */
  openNode(path: string): OwnedFd;
  /** True when something is at the path. */
  exists(path: string): boolean;
  /** Target of a symbolic link. */
  readLink(path: string): string;
  /** Text of a file, without white space at its ends. */
  readText(path: string): string;
  /** Names in a directory, sorted. */
  list(path: string): string[];
  /** A request about a number. @returns the call's result. */
  ioctlValue(fd: OwnedFd, request: IoctlRequest, value?: bigint): number;
  /** A request about a structure. @returns the call's result. The kernel may write to `argument`. */
  ioctlBuffer(fd: OwnedFd, request: IoctlRequest, argument: Uint8Array<ArrayBuffer>): number;
  /** As `ioctlBuffer`, after putting the address of `pointee` at `pointerOffset` of `argument`. */
  ioctlPointing(
    fd: OwnedFd,
    request: IoctlRequest,
    argument: Uint8Array<ArrayBuffer>,
    pointerOffset: number,
    pointee: Uint8Array<ArrayBuffer>,
  ): number;
  /** Reads at an offset. @returns how many bytes were read. */
  pread(fd: OwnedFd, into: Uint8Array<ArrayBuffer>, offset: bigint): number;
  /** Writes at an offset. @returns how many bytes were written. */
  pwrite(fd: OwnedFd, from: Uint8Array<ArrayBuffer>, offset: bigint): number;
  /** Maps a part of a device, shared. */
  map(fd: OwnedFd, sizeBytes: number, offset: bigint, writable: boolean): MappedMemory;
}

/** The running kernel, through the C library. */
export const runningKernel: KernelCalls = {
  openNode: (path) => OwnedFd.open(path, O.RDWR),
  exists: (path) => accessible(path),
  readLink,
  readText: (path) => readText(path).trim(),
  list: (path) => readDirectory(path).map((entry) => entry.name),
  ioctlValue,
  ioctlBuffer,
  ioctlPointing(fd, request, argument, pointerOffset, pointee) {
    new DataView(argument.buffer, argument.byteOffset).setBigUint64(pointerOffset, addressOf(pointee), true);
    const result = ioctlBuffer(fd, request, argument);
    // A use after the call keeps the pointee from being collected during it.
    return pointee.byteLength >= 0 ? result : -1;
  },
  pread,
  pwrite,
  map: (fd, sizeBytes, offset, writable) => MappedMemory.map(fd, sizeBytes, { offset, writable }),
};

/** A request about one structure, whose first field is its size. @returns the structure as the kernel left it @throws SyscallError, ClosedError */
export function ioctlStruct<F extends Fields>(
  kernel: KernelCalls,
  fd: OwnedFd,
  request: IoctlRequest,
  struct: Struct<F>,
  values: Partial<Values<F>> = {},
): Values<F> {
  const argument = struct.encode(values);
  new DataView(argument.buffer).setUint32(0, struct.sizeBytes, true);
  kernel.ioctlBuffer(fd, request, argument);
  return struct.decode(argument);
}
