/**
 * File descriptors that are owned by one object and closed once.
 *
 * @module
 */
import { typedErrors } from "../lib/errors/doors.ts";
import { ClosedError } from "../lib/errors/mod.ts";
import { cString, libc } from "./libc.ts";
import { check } from "./syscall_error.ts";

/** Open flags (asm-generic; the same on x86-64 and AArch64 but for O_DIRECT and O_NOFOLLOW, which are not used). */
export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  PATH: 0o10000000,
  CLOEXEC: 0o2000000,
} as const;

let open = 0;

/** How many descriptors this process holds through this library: for leak accounting in tests. */
export function openFdCount(): number {
  return open;
}

/** An open descriptor. `close()` may be called again; any other use afterwards is a `ClosedError`. */
export class OwnedFd implements Disposable {
  static {
    typedErrors(this);
  }

  /** Path or description, for messages. */
  readonly target: string;
  #number: number;

  /** Takes ownership of a descriptor that a call just returned. */
  constructor(number: number, target: string) {
    this.#number = number;
    this.target = target;
    open++;
  }

  /** Opens a path. `flags` are `O` bits; close-on-exec is added. @throws SyscallError */
  static open(path: string, flags: number, mode = 0o644): OwnedFd {
    const number = check(libc.open(cString(path), flags | O.CLOEXEC, mode), "open", path);
    return new OwnedFd(number, path);
  }

  /** A descriptor of its own for standard input or output; closing it leaves the process its standard stream. @throws SyscallError */
  static standard(stream: "input" | "output"): OwnedFd {
    const original = new OwnedFd(stream === "input" ? 0 : 1, `standard ${stream}`);
    try {
      return original.duplicate();
    } finally {
      original.release();
    }
  }

  /** The number itself: for calls and kernel structures only. @throws ClosedError */
  get number(): number {
    if (this.#number < 0) throw new ClosedError(this.target);
    return this.#number;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#number < 0;
  }

  /** Passes ownership of the number to the caller; this object is closed without closing the descriptor. */
  release(): number {
    const number = this.number;
    this.#number = -1;
    open--;
    return number;
  }

  /** A second descriptor for the same open file. @throws SyscallError */
  duplicate(): OwnedFd {
    const F_DUPFD_CLOEXEC = 1030;
    return new OwnedFd(
      check(libc.fcntlValue(this.number, F_DUPFD_CLOEXEC, 0n), "fcntl F_DUPFD_CLOEXEC", this.target),
      this.target,
    );
  }

  /**
   * Makes reads and writes return at once. The setting belongs to the open file: a peer that passed it can undo it.
   * @throws SyscallError
   */
  setNonBlocking(): void {
    const F_GETFL = 3;
    const F_SETFL = 4;
    const flags = check(libc.fcntlValue(this.number, F_GETFL, 0n), "fcntl F_GETFL", this.target);
    if ((flags & O.NONBLOCK) !== 0) return;
    check(libc.fcntlValue(this.number, F_SETFL, BigInt(flags | O.NONBLOCK)), "fcntl F_SETFL", this.target);
  }

  /** Releases what it holds. May be called again. */
  close(): void {
    if (this.#number < 0) return;
    const number = this.#number;
    this.#number = -1;
    open--;
    libc.close(number);
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
