/**
 * Standard output for a pump of bytes.
 *
 * @module
 */
import { EPOLL, Epoll, isErrno, O, OwnedFd, SyscallError, waitReady, write } from "../../ffi/mod.ts";

/** Of a pipe that was found writable, a blocking write of so much does not block (PIPE_BUF). */
const SURE_BYTES = 4096;

/** Writes do not block this thread, whoever reads. */
export class PatientOutput implements Disposable {
  readonly #fd: OwnedFd;
  readonly #pieceBytes: number;

  constructor() {
    const fd = OwnedFd.standard("output");
    const always = isAlwaysReady(fd);
    const own = always ? undefined : withoutBlocking(fd);
    this.#pieceBytes = always || own !== undefined ? Infinity : SURE_BYTES;
    if (own !== undefined) fd.close();
    this.#fd = own ?? fd;
  }

  /** Blocks this thread until there is room. @returns false after `timeoutMs`, or when a signal came */
  wait(timeoutMs: number): boolean {
    return waitReady(this.#fd, "writable", timeoutMs);
  }

  /** Writes what there is room for. @returns bytes; 0: none now @throws SyscallError (EPIPE: nobody reads) */
  write(bytes: Uint8Array<ArrayBuffer>): number {
    if (!this.wait(0)) return 0;
    try {
      return write(this.#fd, bytes.length > this.#pieceBytes ? bytes.subarray(0, this.#pieceBytes) : bytes);
    } catch (error) {
      if (isErrno(error, "EAGAIN")) return 0;
      throw error;
    }
  }

  /** Standard output itself stays open. */
  [Symbol.dispose](): void {
    this.#fd.close();
  }
}

/** It is a file, or a device that never waits: the kernel refuses to watch it. */
function isAlwaysReady(fd: OwnedFd): boolean {
  using epoll = new Epoll();
  try {
    epoll.add(fd, 0, EPOLL.out);
    return false;
  } catch (error) {
    if (isErrno(error, "EPERM")) return true;
    throw error;
  }
}

/**
 * The same pipe or terminal by a descriptor of its own that does not block: O_NONBLOCK on the inherited one would be on it for all other processes
 * that have it, too. A socket, or somebody else's terminal, cannot be opened anew.
 */
function withoutBlocking(fd: OwnedFd): OwnedFd | undefined {
  try {
    return OwnedFd.open(`/proc/self/fd/${fd.number}`, O.WRONLY | O.NONBLOCK);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}
