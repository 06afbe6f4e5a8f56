/**
 * Mapped memory that cannot be touched after it is unmapped.
 *
 * @module
 */
import { typedErrors } from "../lib/errors/doors.ts";
import { ClosedError, ExhaustedError, UsageError } from "../lib/errors/mod.ts";
import { OwnedFd } from "./fd.ts";
import { readTextIfAny, regularFileBytes } from "./file.ts";
import { cString, libc } from "./libc.ts";
import { check, SyscallError } from "./syscall_error.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_ANONYMOUS = 0x20;
const MAP_POPULATE = 0x8000;
const MAP_HUGETLB = 0x40000;
const MAP_HUGE_2MB = 21 << 26;

let mappings = 0;
let mappedBytes = 0;

/** Live mappings of this process through this library: for leak accounting in tests. */
export function mappingCount(): { mappings: number; bytes: number } {
  return { mappings, bytes: mappedBytes };
}

/** Size of a page of the processor, in bytes. */
export const pageSizeBytes: number = libc.sysconf(30);

/** Below this a machine has room, or is lost anyway. */
const LARGE_BYTES = 1 << 28;

/**
 * A file in memory may be larger than the memory: when its pages are faulted in, the kernel ends processes until there are enough. A quarter of what is
 * free stays so.
 */
function checkRoom(sizeBytes: number, target: string): void {
  if (sizeBytes < LARGE_BYTES) return;
  const available = /^MemAvailable: +(\d+) kB$/m.exec(readTextIfAny("/proc/meminfo") ?? "")?.[1];
  if (available === undefined || sizeBytes <= Number(available) * 768) return;
  throw new ExhaustedError(
    `mapping ${target}: ${sizeBytes} bytes; ${Number(available) * 1024} are free on this machine`,
  );
}

/** How to map. */
export interface MapOptions {
  /** Offset in the file, a multiple of the page size. Default 0. */
  offset?: bigint;
  /** Default true. A view of a read-only mapping that is written to ends the process, so a read-only mapping hands out copies only. */
  writable?: boolean;
  /** Fault the pages in at once. Default false. */
  populate?: boolean;
}

/** A mapping that has no owner at the moment: plain data, which another thread of this process can be given. */
export interface MappedArea {
  /** Where it begins in this process. */
  readonly address: bigint;
  /** Size in bytes. */
  readonly sizeBytes: number;
  /** Where it comes from, for messages. */
  readonly target: string;
}

/**
 * A region of memory mapped into this process.
 *
 * It hands out one ArrayBuffer over the whole mapping (`buffer`), and views of it. Before the memory is unmapped the buffer is
 * detached, so that a late access through any view is `undefined` or a `TypeError`, never a fault.
 */
export class MappedMemory implements Disposable {
  static {
    typedErrors(this);
  }

  /** Where it comes from, for messages. */
  readonly target: string;
  /** Size in bytes. */
  readonly sizeBytes: number;
  /** False when the pages were mapped without write permission: `buffer` then throws, `copy` works. */
  readonly writable: boolean;
  readonly #pointer: Deno.PointerObject;
  #buffer: ArrayBuffer | null;

  private constructor(pointer: Deno.PointerObject, sizeBytes: number, writable: boolean, target: string) {
    this.#pointer = pointer;
    this.sizeBytes = sizeBytes;
    this.writable = writable;
    this.target = target;
    this.#buffer = Deno.UnsafePointerView.getArrayBuffer(pointer, sizeBytes);
    mappings++;
    mappedBytes += sizeBytes;
  }

  /**
   * Maps `sizeBytes` of an open file or device, shared. @throws SyscallError, ExhaustedError, UsageError also when a file ends before: to touch what is beyond its last
   * page is a bus error
   */
  static map(fd: OwnedFd, sizeBytes: number, options: MapOptions = {}): MappedMemory {
    const { offset = 0n, writable = true, populate = false } = options;
    const prot = PROT_READ | (writable ? PROT_WRITE : 0);
    const flags = MAP_SHARED | (populate ? MAP_POPULATE : 0);
    return MappedMemory.#map(fd, sizeBytes, prot, flags, offset, fd.target);
  }

  /** Maps fresh zeroed pages, of 2 MiB each when `huge`. @throws SyscallError (ENOMEM when there are no huge pages), ExhaustedError */
  static anonymous(sizeBytes: number, options: { huge?: boolean } = {}): MappedMemory {
    const flags = MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE | (options.huge ? MAP_HUGETLB | MAP_HUGE_2MB : 0);
    return MappedMemory.#map(null, sizeBytes, PROT_READ | PROT_WRITE, flags, 0n, "anonymous memory");
  }

  /**
   * Takes over what `handOver` gave. The caller knows that it is mapped, for writing, and nobody else's.
   * @internal
   */
  static takeOver({ address, sizeBytes, target }: MappedArea): MappedMemory {
    return new MappedMemory(Deno.UnsafePointer.create(address)!, sizeBytes, true, target);
  }

  static #map(
    fd: OwnedFd | null,
    sizeBytes: number,
    prot: number,
    flags: number,
    offset: bigint,
    target: string,
  ): MappedMemory {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
      throw new UsageError(`mapping ${target}: a size of ${sizeBytes} bytes cannot be mapped`);
    }
    if (offset % BigInt(pageSizeBytes) !== 0n) {
      throw new UsageError(`mapping ${target}: offset ${offset} is not a multiple of the page size`);
    }
    if ((flags & (MAP_POPULATE | MAP_HUGETLB)) === MAP_POPULATE) checkRoom(sizeBytes, target);
    const endsAt = fd === null ? Infinity : endOfFile(fd);
    if (offset + BigInt(sizeBytes) > endsAt) {
      throw new UsageError(`mapping ${target}: [${offset}, +${sizeBytes}) passes its end at ${endsAt}`);
    }
    const pointer = libc.mmap(BigInt(sizeBytes), prot, flags, fd?.number ?? -1, offset);
    if (typeof pointer === "number") {
      throw new SyscallError("mmap", `${target} (${sizeBytes} bytes)`, -pointer);
    }
    return new MappedMemory(pointer, sizeBytes, (prot & PROT_WRITE) !== 0, target);
  }

  /** The whole mapping. @throws ClosedError, UsageError when it is read-only */
  get buffer(): ArrayBuffer {
    const buffer = this.#live;
    if (this.writable) return buffer;
    throw new UsageError(`${this.target} is mapped read-only`, { hint: "use copy(), or map it writable" });
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#buffer === null;
  }

  /** Address in this process, in the form that kernel structures take. @throws ClosedError */
  get address(): bigint {
    if (this.#buffer === null) throw new ClosedError(this.target);
    return Deno.UnsafePointer.value(this.#pointer);
  }

  /** A byte view of a range. @throws ClosedError, UsageError when the range lies outside. */
  bytes(offset = 0, length: number = this.sizeBytes - offset): Uint8Array<ArrayBuffer> {
    this.#checkRange(offset, length);
    return new Uint8Array(this.buffer, offset, length);
  }

  /** A copy of a range: works on read-only mappings too. @throws ClosedError, UsageError */
  copy(offset = 0, length: number = this.sizeBytes - offset): Uint8Array<ArrayBuffer> {
    this.#checkRange(offset, length);
    return new Uint8Array(this.#live, offset, length).slice();
  }

  /** Copies a range into `into`, as many bytes as it has: works on read-only mappings too. @throws ClosedError, UsageError */
  copyInto(offset: number, into: Uint8Array): void {
    this.#checkRange(offset, into.length);
    into.set(new Uint8Array(this.#live, offset, into.length));
  }

  /** Keeps the pages in memory. @throws SyscallError with what to do when the limit is too low. */
  lock(): void {
    const result = libc.mlock(this.#pointer, BigInt(this.sizeBytes));
    if (result < 0) {
      throw new SyscallError("mlock", `${this.sizeBytes} bytes`, -result, {
        hint: "raise the limit on locked memory (ulimit -l), or run as root",
      });
    }
  }

  get #live(): ArrayBuffer {
    if (this.#buffer === null) throw new ClosedError(this.target);
    return this.#buffer;
  }

  #checkRange(offset: number, length: number): void {
    if (
      !Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0 ||
      offset + length > this.sizeBytes
    ) {
      throw new UsageError(`${this.target}: [${offset}, +${length}) is outside its ${this.sizeBytes} bytes`);
    }
  }

  /**
   * Closes this object and leaves the pages mapped, for another to take over. Every view is detached.
   * @throws ClosedError, UsageError for a read-only mapping
   * @internal
   */
  handOver(): MappedArea {
    const { address, sizeBytes, target } = this;
    if (!this.writable) throw new UsageError(`${target} is mapped read-only, and cannot be handed over`);
    this.#detach();
    return { address, sizeBytes, target };
  }

  #detach(): void {
    // A detached buffer reads as length 0 through every view that was made of it.
    structuredClone(this.#buffer, { transfer: [this.#buffer!] });
    this.#buffer = null;
    mappings--;
    mappedBytes -= this.sizeBytes;
  }

  /** Detaches every view, then unmaps. May be called again. */
  close(): void {
    if (this.#buffer === null) return;
    this.#detach();
    check(libc.munmap(this.#pointer, BigInt(this.sizeBytes)), "munmap", this.target);
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_HUGETLB = 4;

/** An anonymous file of `sizeBytes` zero bytes that can be passed to another process. @throws SyscallError */
export function createMemfd(name: string, sizeBytes: number, options: { huge?: boolean } = {}): OwnedFd {
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (options.huge ? MFD_HUGETLB | MAP_HUGE_2MB : 0);
  const number = check(libc.memfd_create(cString(name), flags), "memfd_create", name);
  using opened = new DisposableStack();
  const fd = opened.use(new OwnedFd(number, `memfd ${name}`));
  check(libc.ftruncate64(fd.number, BigInt(sizeBytes)), "ftruncate", fd.target);
  // Without a shrink seal a peer could truncate the file and our next access would be a bus error.
  addSeals(fd, SEAL.shrink);
  opened.move();
  return fd;
}

/** Seals of a memfd (F_SEAL_*). */
export const SEAL = { shrink: 2, grow: 4 } as const;

/** Forbids some changes of an open memfd for good. @param seals `SEAL` bits @throws SyscallError */
export function addSeals(fd: OwnedFd, seals: number): void {
  const F_ADD_SEALS = 1033;
  check(libc.fcntlValue(fd.number, F_ADD_SEALS, BigInt(seals)), "fcntl F_ADD_SEALS", fd.target);
}

/** Size of an open file, in bytes; its position is at the end then. @throws SyscallError */
export function fileSizeBytes(fd: OwnedFd): number {
  const SEEK_END = 2;
  return check(libc.lseek64(fd.number, 0n, SEEK_END), "lseek", fd.target);
}

/** End of a file's last page; a device has no end. @throws SyscallError */
function endOfFile(fd: OwnedFd): number {
  return Math.ceil((regularFileBytes(fd) ?? Infinity) / pageSizeBytes) * pageSizeBytes;
}

/** Seals on an open memfd (F_SEAL_* bits), or 0 when the file has none or knows no seals. */
export function fileSeals(fd: OwnedFd): number {
  const F_GET_SEALS = 1034;
  const seals = libc.fcntlValue(fd.number, F_GET_SEALS, 0n);
  return seals < 0 ? 0 : seals;
}
