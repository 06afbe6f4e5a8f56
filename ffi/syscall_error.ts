/**
 * A failed system call as a typed error.
 *
 * @module
 */
import { RingsideError, type RingsideErrorOptions } from "../lib/errors/mod.ts";
import { errnoName, errnoText } from "./errno.ts";

/** A call into the C library that failed. */
export class SyscallError extends RingsideError {
  /** Name of the class. */
  override name = "SyscallError";
  /** The call, with the request's name for an ioctl: `ioctl VFIO_DEVICE_SET_IRQS`. */
  readonly call: string;
  /** Path, device or socket that the call was about. */
  readonly target: string;
  /** Error number. */
  readonly errno: number;
  /** Name of the error number, such as `EACCES`. */
  readonly code: string;

  /** For a call that just failed with `errno`; without `hint` the common causes are hinted at. */
  constructor(call: string, target: string, errno: number, options: RingsideErrorOptions = {}) {
    super(`${call} ${target}: ${errnoName(errno)} (${errnoText(errno)})`, {
      ...options,
      hint: options.hint ?? HINTS[errnoName(errno)] ?? "",
    });
    this.call = call;
    this.target = target;
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

const HINTS: Readonly<Record<string, string>> = {
  EMFILE: "raise the limit on open files (ulimit -n)",
  ENFILE: "the system's file table is full (sysctl fs.file-max)",
  ENOSPC: "the file system or device is full",
};

/**
 * Checks the result of a call of `libc`.
 * @returns the result.
 * @throws SyscallError when the result is `-errno`.
 */
export function check(result: number, call: string, target: string): number {
  if (result < 0) throw new SyscallError(call, target, -result);
  return result;
}

/** As `check`, but an expected error number gives −1 instead of an exception. */
export function checkUnless(result: number, expected: number, call: string, target: string): number {
  return result === -expected ? -1 : check(result, call, target);
}

/** True when `error` is a failed call with one of these error names. */
export function isErrno(error: unknown, ...codes: string[]): error is SyscallError {
  return error instanceof SyscallError && codes.includes(error.code);
}
