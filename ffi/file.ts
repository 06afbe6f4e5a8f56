/**
 * Files through the C library. `Deno.*` file calls on `/sys` and `/proc` demand every permission; these need `--allow-ffi` alone.
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import { O, OwnedFd } from "./fd.ts";
import { errnoNumber } from "./errno.ts";
import { callLength, cString, fromCString, libc } from "./libc.ts";
import { check, checkUnless, isErrno } from "./syscall_error.ts";

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** Reads up to `into.length` bytes at `offset`; returns how many. @throws SyscallError */
export function pread(fd: OwnedFd, into: Uint8Array<ArrayBuffer>, offset: bigint): number {
  return check(libc.pread64(fd.number, into, callLength(into), offset), "pread", fd.target);
}

/** Writes at `offset`; returns how many bytes the kernel took. @throws SyscallError */
export function pwrite(fd: OwnedFd, from: Uint8Array<ArrayBuffer>, offset: bigint): number {
  return check(libc.pwrite64(fd.number, from, callLength(from), offset), "pwrite", fd.target);
}

/** Does not return before what was written is on the disk. @throws SyscallError */
export function syncFile(fd: OwnedFd): void {
  check(libc.fdatasync(fd.number), "fdatasync", fd.target);
}

/** Sets a file's size; what is added reads as zero. @throws SyscallError */
export function resizeFile(fd: OwnedFd, sizeBytes: number): void {
  check(libc.ftruncate64(fd.number, BigInt(sizeBytes)), "ftruncate", fd.target);
}

/** How `zeroRange` makes a range read as zero: by giving its blocks back, or by keeping them. */
export type ZeroMode = "punch" | "keep";

/** Makes a range read as zero without writing it. @returns false when the file system cannot do that @throws SyscallError */
export function zeroRange(fd: OwnedFd, offset: number, lengthBytes: number, mode: ZeroMode): boolean {
  const KEEP_SIZE = 1;
  const PUNCH_HOLE = 2;
  const ZERO_RANGE = 16;
  const flags = KEEP_SIZE | (mode === "punch" ? PUNCH_HOLE : ZERO_RANGE);
  return checkUnless(
    libc.fallocate64(fd.number, flags, BigInt(offset), BigInt(lengthBytes)),
    errnoNumber.ENOTSUP!,
    "fallocate",
    fd.target,
  ) >= 0;
}

/** Reads at the file position; 0 at the end. @throws SyscallError */
export function read(fd: OwnedFd, into: Uint8Array<ArrayBuffer>): number {
  return check(libc.read(fd.number, into, callLength(into)), "read", fd.target);
}

/** Writes at the file position; returns how many bytes the kernel took. @throws SyscallError */
export function write(fd: OwnedFd, from: Uint8Array<ArrayBuffer>): number {
  return check(libc.write(fd.number, from, callLength(from)), "write", fd.target);
}

/** Writes all of `from` at the file position. @throws SyscallError */
export function writeAll(fd: OwnedFd, from: Uint8Array<ArrayBuffer>): void {
  let rest = from;
  while (rest.byteLength > 0) rest = rest.subarray(write(fd, rest));
}

/** Size of an open file in bytes; undefined for a device, a pipe or anything else that has none. @throws SyscallError */
export function regularFileBytes(fd: OwnedFd): number | undefined {
  const AT_EMPTY_PATH = 0x1000;
  const STATX_TYPE_AND_SIZE = 0x201;
  const [FORMAT, REGULAR] = [0o170000, 0o100000];
  const answer = new DataView(new ArrayBuffer(256));
  const bytes = new Uint8Array(answer.buffer);
  check(libc.statx(fd.number, cString(""), AT_EMPTY_PATH, STATX_TYPE_AND_SIZE, bytes), "statx", fd.target);
  if ((answer.getUint16(28, true) & FORMAT) !== REGULAR) return undefined;
  return Number(answer.getBigUint64(40, true));
}

/** More than any file that is read whole. */
const MOST_BYTES = 64 << 20;

/** Reads a whole file, of `maxBytes` at most. @throws SyscallError, UsageError when it is larger. */
export function readFile(path: string, maxBytes: number = MOST_BYTES): Uint8Array<ArrayBuffer> {
  using fd = OwnedFd.open(path, O.RDONLY);
  return readToEnd(fd, maxBytes);
}

/** Reads from the file position up to the end, `maxBytes` at most. @throws SyscallError, UsageError when there is more. */
export function readToEnd(fd: OwnedFd, maxBytes: number = MOST_BYTES): Uint8Array<ArrayBuffer> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let total = 0;
  while (true) {
    const chunk = new Uint8Array(total === 0 ? 4096 : Math.min(1 << 20, total));
    const n = read(fd, chunk);
    if (n === 0) break;
    total += n;
    if (total > maxBytes) throw new UsageError(`${fd.target} is larger than ${maxBytes} bytes`);
    chunks.push(chunk.subarray(0, n));
  }
  if (chunks.length === 1) return chunks[0]!;
  const all = new Uint8Array(total);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.byteLength;
  }
  return all;
}

/** Reads a text file. @throws SyscallError */
export function readText(path: string): string {
  return decoder.decode(readFile(path));
}

/**
 * Writes text with one `write`, as sysfs attributes want it; the file must exist.
 * @throws SyscallError, UsageError when it takes a part only
 */
export function writeAttribute(path: string, text: string): void {
  using fd = OwnedFd.open(path, O.WRONLY);
  const bytes = encoder.encode(text) as Uint8Array<ArrayBuffer>;
  const written = write(fd, bytes);
  if (written < bytes.byteLength) {
    throw new UsageError(`${path} took ${written} of ${bytes.byteLength} bytes`);
  }
}

/** Appends and does not return before the bytes are on the disk. @throws SyscallError */
export function appendDurably(path: string, bytes: Uint8Array<ArrayBuffer>, mode = 0o644): void {
  using fd = OwnedFd.open(path, O.WRONLY | O.CREAT | O.APPEND, mode);
  writeAll(fd, bytes);
  check(libc.fsync(fd.number), "fsync", path);
}

/** Target of a symbolic link, as written in it. @throws SyscallError */
export function readLink(path: string): string {
  const into = new Uint8Array(4096);
  const n = check(libc.readlink(cString(path), into, 4096n), "readlink", path);
  return decoder.decode(into.subarray(0, n));
}

/** Access modes of `access`. */
export const ACCESS = { exists: 0, execute: 1, write: 2, read: 4 } as const;

/** True when the caller may access `path` so (default: it exists). */
export function accessible(path: string, mode: number = ACCESS.exists): boolean {
  return libc.access(cString(path), mode) === 0;
}

/** A directory's entry: `type` as in `struct dirent` (4 directory, 8 file, 10 link, 12 socket, 2 character device). */
export interface DirectoryEntry {
  /** Address of the function, for messages. */
  readonly name: string;
  /** `DT_*` of `readdir`. */
  readonly type: number;
}

/** Entries of a directory without `.` and `..`, sorted by name. @throws SyscallError */
export function readDirectory(path: string): DirectoryEntry[] {
  const O_DIRECTORY = 0o200000;
  const directory = Deno.build.arch === "aarch64" ? 0o40000 : O_DIRECTORY;
  using fd = OwnedFd.open(path, O.RDONLY | directory);
  const buffer = new Uint8Array(32768);
  const view = new DataView(buffer.buffer);
  const entries: DirectoryEntry[] = [];
  while (true) {
    const n = check(libc.getdents64(fd.number, buffer, 32768n), "getdents64", path);
    if (n === 0) break;
    // struct linux_dirent64: d_ino u64, d_off s64, d_reclen u16, d_type u8, d_name[].
    for (let at = 0; at < n;) {
      const length = view.getUint16(at + 16, true);
      const name = fromCString(buffer.subarray(at + 19, at + length));
      if (name !== "." && name !== "..") entries.push({ name, type: buffer[at + 18]! });
      at += length;
    }
  }
  return entries.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** Creates a directory and its parents; those that exist are left alone. @throws SyscallError */
export function makeDirectory(path: string, mode = 0o755): void {
  const parts = path.split("/");
  for (let i = 1; i <= parts.length; i++) {
    const part = parts.slice(0, i).join("/");
    if (part === "" || part === ".") continue;
    checkUnless(libc.mkdir(cString(part), mode), errnoNumber.EEXIST!, "mkdir", part);
  }
}

/** Removes a file or socket; one that is not there is fine. @throws SyscallError */
export function removeFile(path: string): void {
  checkUnless(libc.unlink(cString(path)), errnoNumber.ENOENT!, "unlink", path);
}

/** Removes an empty directory; one that is not there is fine. @throws SyscallError */
export function removeDirectory(path: string): void {
  checkUnless(libc.rmdir(cString(path)), errnoNumber.ENOENT!, "rmdir", path);
}

/** Text of a file, or undefined when the file is not there or says it cannot be read. @throws SyscallError otherwise */
export function readTextIfAny(path: string): string | undefined {
  try {
    return readText(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EINVAL", "ENODEV", "EIO", "EOPNOTSUPP", "ENOTSUP")) {
      return undefined;
    }
    throw error;
  }
}

/**
 * Whether somebody has a block device, or a part of it, to himself: a file system, an array, swap, or a program that opened it with O_EXCL. Another
 * opens it in vain so, and that is how this finds out; a device that is not there, or that this user may not open, counts as free.
 * @throws SyscallError for what has nothing to do with the device
 */
export function blockDeviceClaimed(path: string): boolean {
  try {
    // Without waiting for a medium.
    OwnedFd.open(path, O.RDONLY | O.EXCL | O.NONBLOCK).close();
    return false;
  } catch (error) {
    if (isErrno(error, "EBUSY")) return true;
    if (isErrno(error, "ENOENT", "ENXIO", "ENODEV", "ENOMEDIUM", "EACCES", "EPERM", "EIO", "EROFS")) {
      return false;
    }
    throw error;
  }
}
