/**
 * timerfd: time that passes, as a descriptor, for whoever waits for descriptors.
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import { OwnedFd } from "./fd.ts";
import { errnoNumber } from "./errno.ts";
import { libc } from "./libc.ts";
import { check, checkUnless } from "./syscall_error.ts";

const CLOCK_MONOTONIC = 1;
const TFD_CLOEXEC = 0o2000000;
const TFD_NONBLOCK = 0o4000;

/** A descriptor that is readable each time when an interval is over, until that is taken. */
export class TimerFd implements Disposable {
  /** The descriptor. */
  readonly fd: OwnedFd;
  readonly #value = new BigUint64Array(1);

  /** Begins at once. @param intervalMs above 0 @throws UsageError, SyscallError */
  constructor(intervalMs: number) {
    if (!(intervalMs > 0 && intervalMs <= 2 ** 31)) throw new UsageError(`a timer of ${intervalMs} ms`);
    const number = check(
      libc.timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
      "timerfd_create",
      "",
    );
    using opened = new DisposableStack();
    this.fd = opened.use(new OwnedFd(number, "timerfd"));
    const nanoseconds = BigInt(Math.ceil(intervalMs * 1e6));
    const one = [nanoseconds / 1_000_000_000n, nanoseconds % 1_000_000_000n];
    // struct itimerspec: interval, then first expiry.
    const spec = new Uint8Array(new BigInt64Array([...one, ...one]).buffer);
    check(libc.timerfd_settime(number, 0, spec, null), "timerfd_settime", "");
    opened.move();
  }

  /** Takes what is over, and waits for the next. @returns whether an interval was over @throws SyscallError, ClosedError */
  take(): boolean {
    const n = checkUnless(
      libc.read(this.fd.number, this.#value, 8n),
      errnoNumber.EAGAIN!,
      "read",
      this.fd.target,
    );
    return n > 0;
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
