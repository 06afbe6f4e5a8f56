/**
 * Files that are there whole or not at all: written beside their place, and renamed.
 *
 * @module
 */
import { O, OwnedFd } from "./fd.ts";
import { ACCESS, accessible, readLink, regularFileBytes, removeFile, syncFile, writeAll } from "./file.ts";
import { cString, libc } from "./libc.ts";
import { errnoNumber } from "./errno.ts";
import { check, isErrno, SyscallError } from "./syscall_error.ts";
import { processId } from "./system.ts";

const UNWRITABLE = "it is written beside its place and renamed, so its directory has to be writable";
const HINTS: Readonly<Record<string, string>> = {
  EACCES: UNWRITABLE,
  EPERM: UNWRITABLE,
  EROFS: UNWRITABLE,
  ENOENT: "its directory is not there: make that first",
};

/**
 * A file that is being written. Until `keep` its place holds what it held before, and when it is disposed of without, nothing is left of it.
 *
 * `-` is standard output, and what is no regular file (a device, a named pipe) is written as it is: there, nothing can be taken back.
 */
export class NewFile implements Disposable {
  /** Where it will be; for messages. */
  readonly path: string;
  /** Open for writing. */
  readonly fd: OwnedFd;
  /** Where it is until it is kept; undefined for what is written in place. */
  readonly #beside: string | undefined;
  readonly #place: string;

  /** Begins a file; a link is followed. @param mode permissions @throws SyscallError also when what is there cannot be written */
  constructor(path: string, mode = 0o644) {
    if (path === "-") {
      this.fd = OwnedFd.standard("output");
      this.path = this.#place = this.fd.target;
      return;
    }
    this.path = path;
    const there = whatIsThere(path);
    this.#place = there?.place ?? path;
    if (there?.regular === false) {
      this.fd = OwnedFd.open(path, O.WRONLY);
      return;
    }
    if (there !== undefined && !accessible(path, ACCESS.write)) {
      throw new SyscallError("open", path, errnoNumber.EACCES!);
    }
    this.#beside = `${this.#place}.${processId()}.part`;
    try {
      this.fd = OwnedFd.open(this.#beside, O.WRONLY | O.CREAT | O.TRUNC, mode);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      // The name beside it is none of the caller's.
      throw new SyscallError("open", path, error.errno, {
        hint: HINTS[error.code] ?? error.hint,
        cause: error,
      });
    }
  }

  /** Puts it into its place, and closes it. May be called again. @param durably also after a power failure @throws SyscallError */
  keep(durably = false): void {
    if (this.fd.closed) return;
    try {
      if (this.#beside !== undefined) {
        if (durably) syncFile(this.fd);
        check(
          libc.rename(cString(this.#beside), cString(this.#place)),
          "rename",
          `${this.#beside} to ${this.#place}`,
        );
      }
      this.fd.close();
    } finally {
      this[Symbol.dispose]();
    }
  }

  /** Closes it, and removes what was not kept. */
  [Symbol.dispose](): void {
    if (this.fd.closed) return;
    this.fd.close();
    if (this.#beside !== undefined) removeFile(this.#beside);
  }
}

/** Replaces a file's content so that a reader sees the old or the new one, also after a crash. @throws SyscallError */
export function replaceFile(path: string, bytes: Uint8Array<ArrayBuffer>, mode = 0o644): void {
  using file = new NewFile(path, mode);
  writeAll(file.fd, bytes);
  file.keep(true);
}

/** What a path leads to; undefined when there is nothing. @throws SyscallError */
function whatIsThere(path: string): { readonly place: string; readonly regular: boolean } | undefined {
  try {
    // Opens nothing: a pipe would wait for its reader.
    using found = OwnedFd.open(path, O.PATH);
    return {
      place: readLink(`/proc/self/fd/${found.number}`),
      regular: regularFileBytes(found) !== undefined,
    };
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
