/**
 * eventfd: the counter through which interrupts and doorbells travel.
 *
 * @module
 */
import { requireType, typedErrors } from "../lib/errors/doors.ts";
import { UsageError } from "../lib/errors/mod.ts";
import { OwnedFd } from "./fd.ts";
import { errnoNumber } from "./errno.ts";
import { libc } from "./libc.ts";
import { check, checkUnless } from "./syscall_error.ts";

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

/** A non-blocking eventfd. */
export class EventFd implements Disposable {
  static {
    typedErrors(this);
  }

  /** The descriptor. */
  readonly fd: OwnedFd;
  // One buffer each way, so that a signal or a take allocates nothing.
  readonly #value = new BigUint64Array(1);
  readonly #one = new BigUint64Array([1n]);
  readonly #words = new Uint32Array(this.#value.buffer);

  /** Makes a new one, or wraps a descriptor that a peer passed. @throws SyscallError */
  constructor(existing?: OwnedFd) {
    if (existing !== undefined) {
      requireType(existing, "object", "new EventFd: existing");
      if (!(existing instanceof OwnedFd)) throw new UsageError("new EventFd: no OwnedFd");
    }
    this.fd = existing ??
      new OwnedFd(check(libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd", ""), "eventfd");
  }

  /** Adds 1. @throws SyscallError, ClosedError */
  signal(): void {
    // EAGAIN means the counter is at its maximum: the other side has long been told.
    checkUnless(libc.write(this.fd.number, this.#one, 8n), errnoNumber.EAGAIN!, "write", this.fd.target);
  }

  /** Takes the count and sets it to 0; 0 when nothing was signalled. @throws SyscallError, ClosedError */
  take(): number {
    const n = checkUnless(
      libc.read(this.fd.number, this.#value, 8n),
      errnoNumber.EAGAIN!,
      "read",
      this.fd.target,
    );
    return n < 0 ? 0 : this.#words[0]! + this.#words[1]! * 2 ** 32;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.fd.closed;
  }

  /** Releases what it holds. May be called again. */
  close(): void {
    this.fd.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
