/**
 * Standard input and output for a pump of bytes: nothing blocks this thread for longer than it says, so that signals and the other side are seen.
 *
 * @module
 */
import { EPOLL, Epoll, isErrno, O, OwnedFd, read, SyscallError, write } from "../../ffi/mod.ts";

/** How long this thread itself may sleep: another one, which costs a hop, does the rest. */
const BLOCK_MS = 5;
/** Of a pipe that was found writable, a blocking write of so much does not block (PIPE_BUF). */
const SURE_BYTES = 4096;

/** Waits for a descriptor. Files and some devices are always ready; the kernel refuses to watch them. */
class Readiness implements Disposable {
  readonly #epoll: Epoll | null;

  constructor(fd: OwnedFd, events: number) {
    const epoll = new Epoll();
    try {
      epoll.add(fd, 0, events);
    } catch (error) {
      epoll.close();
      if (!isErrno(error, "EPERM")) throw error;
      this.#epoll = null;
      return;
    }
    this.#epoll = epoll;
  }

  /** It is no pipe, terminal or socket. */
  get always(): boolean {
    return this.#epoll === null;
  }

  now(): boolean {
    return this.#epoll === null || this.#epoll.waitBlocking(0) > 0;
  }

  /** Returns earlier when it is ready. */
  async wait(timeoutMs: number): Promise<void> {
    if (this.#epoll === null || this.#epoll.waitBlocking(Math.min(BLOCK_MS, timeoutMs)) > 0) return;
    await this.#epoll.wait(timeoutMs);
  }

  [Symbol.dispose](): void {
    this.#epoll?.close();
  }
}

/** Standard input. */
export class PatientInput implements Disposable {
  readonly #fd: OwnedFd = OwnedFd.standard("input");
  readonly #readiness: Readiness = new Readiness(this.#fd, EPOLL.in);

  /** A read would not wait: there is something, or nothing more. */
  get ready(): boolean {
    return this.#readiness.now();
  }

  /** Returns earlier when there is something. */
  async wait(timeoutMs: number): Promise<void> {
    await this.#readiness.wait(timeoutMs);
  }

  /** @returns bytes; 0 at the end @throws SyscallError */
  read(into: Uint8Array<ArrayBuffer>): number {
    return read(this.#fd, into);
  }

  /** Standard input itself stays open. */
  [Symbol.dispose](): void {
    this.#readiness[Symbol.dispose]();
    this.#fd.close();
  }
}

/** Standard output. */
export class PatientOutput implements Disposable {
  readonly #fd: OwnedFd;
  readonly #readiness: Readiness;
  readonly #pieceBytes: number;

  constructor() {
    const fd = OwnedFd.standard("output");
    this.#readiness = new Readiness(fd, EPOLL.out);
    const own = this.#readiness.always ? undefined : withoutBlocking(fd);
    this.#pieceBytes = this.#readiness.always || own !== undefined ? Infinity : SURE_BYTES;
    if (own !== undefined) fd.close();
    this.#fd = own ?? fd;
  }

  /** Returns earlier when there is room. */
  async wait(timeoutMs: number): Promise<void> {
    await this.#readiness.wait(timeoutMs);
  }

  /** Writes what there is room for. @returns bytes; 0: none now @throws SyscallError (EPIPE: nobody reads) */
  write(bytes: Uint8Array<ArrayBuffer>): number {
    if (!this.#readiness.now()) return 0;
    try {
      return write(this.#fd, bytes.length > this.#pieceBytes ? bytes.subarray(0, this.#pieceBytes) : bytes);
    } catch (error) {
      if (isErrno(error, "EAGAIN")) return 0;
      throw error;
    }
  }

  /** Standard output itself stays open. */
  [Symbol.dispose](): void {
    this.#readiness[Symbol.dispose]();
    this.#fd.close();
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
