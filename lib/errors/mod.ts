/**
 * The errors that every call throws on purpose. Each says what was wrong, where (which function, queue or field) and, when there is
 * one, what to do about it (`hint`).
 *
 * ```ts
 * import { DeviceError, RingsideError } from "@ringside/ringside/errors";
 *
 * try {
 *   await net.receive(1000);
 * } catch (error) {
 *   if (error instanceof DeviceError) await net.reset(); // the device lies: error.location names queue and field
 *   else if (error instanceof RingsideError) console.error(error.message, error.hint);
 *   else throw error;
 * }
 * ```
 *
 * A failed system call is a `SyscallError` (door `vfio`, or the main one), which has the errno, and the call's name.
 *
 * @module
 */

/** Options common to all errors of this library. */
export interface RingsideErrorOptions {
  /** What the reader can do about it, as one sentence or command. */
  hint?: string | undefined;
  /** The error underneath. */
  cause?: unknown;
}

/** Base of every error that this library throws on purpose. */
export class RingsideError extends Error {
  /** Name of the class. */
  override name = "RingsideError";
  /** What the reader can do about it; empty when nothing useful is known. */
  readonly hint: string;

  /** Takes one sentence: what was wrong, and where. */
  constructor(message: string, options: RingsideErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.hint = options.hint ?? "";
  }
}

/** The caller passed something that cannot work: a malformed address, a length out of range, a wrong state. */
export class UsageError extends RingsideError {
  /** Name of the class. */
  override name = "UsageError";
}

/** The named thing (function, group, file, driver) does not exist. */
export class NotFoundError extends RingsideError {
  /** Name of the class. */
  override name = "NotFoundError";
}

/** A guard refused: the host uses the function, another process drives it, or the request is unsafe unless forced. */
export class RefusedError extends RingsideError {
  /** Name of the class. */
  override name = "RefusedError";
}

/** An object was used after `close()` or `[Symbol.dispose]()`. */
export class ClosedError extends RingsideError {
  /** Name of the class. */
  override name = "ClosedError";

  /** Says that `what`, in the reader's words, is closed. */
  constructor(what: string) {
    super(`${what} is closed`, { hint: "open it again; nothing of a closed object can be used" });
  }
}

/** Whoever the function belongs to wants it back: it is being removed, or taken from its driver, which waits until the function is closed. */
export class RemovalRequestedError extends RingsideError {
  /** Name of the class. */
  override name = "RemovalRequestedError";
}

/** A peer on a socket, or a file, broke its format: truncated, oversized, out of order, unknown. */
export class ProtocolError extends RingsideError {
  /** Name of the class. */
  override name = "ProtocolError";
}

/** A file that was given as input breaks its format: it is corrupt, cut, or of another kind. */
export class InputError extends ProtocolError {
  /** Name of the class. */
  override name = "InputError";
}

/** The other end of a socket is gone. */
export class PeerGoneError extends ProtocolError {
  /** Name of the class. */
  override name = "PeerGoneError";
}

/** Where in a device something was seen. */
export interface DeviceLocation {
  /** PCI address or socket of the function. */
  function?: string | undefined;
  /** Virtqueue index. */
  queue?: number | undefined;
  /** Field as the standard names it, such as `used.id` or `device_status`. */
  field?: string | undefined;
}

/** The device broke the standard, or lies: an index, id, length or state that cannot be. */
export class DeviceError extends RingsideError {
  /** Name of the class. */
  override name = "DeviceError";
  /** Function, queue and field in question, as far as known. */
  readonly location: DeviceLocation;

  /** The message is prefixed with the location. */
  constructor(message: string, location: DeviceLocation = {}, options: RingsideErrorOptions = {}) {
    super(`${describe(location)}${message}`, options);
    this.location = location;
  }
}

/** A wait ended without the event. */
export class TimeoutError extends RingsideError {
  /** Name of the class. */
  override name = "TimeoutError";
}

/** Memory, IOVA space, descriptors or vectors ran out. */
export class ExhaustedError extends RingsideError {
  /** Name of the class. */
  override name = "ExhaustedError";
}

/** The device, kernel or transport at hand has no such facility. */
export class UnsupportedError extends RingsideError {
  /** Name of the class. */
  override name = "UnsupportedError";
}

function describe(location: DeviceLocation): string {
  const parts: string[] = [];
  if (location.function !== undefined) parts.push(location.function);
  if (location.queue !== undefined) parts.push(`queue ${location.queue}`);
  if (location.field !== undefined) parts.push(location.field);
  return parts.length === 0 ? "" : `${parts.join(", ")}: `;
}
