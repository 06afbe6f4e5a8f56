/**
 * How a served request is refused: as an errno in its reply.
 *
 * @module
 */
import { RingsideError, UnsupportedError } from "../../../errors/mod.ts";
import { errnoName, errnoNumber, SyscallError } from "../../../../ffi/mod.ts";

/** A request of a client that the server refuses, with the errno that its reply carries. */
export class RequestRefused extends RingsideError {
  /** Name of the error type. */
  override name = "RequestRefused";
  /** Error number of the reply. */
  readonly errno: number;

  /** Made with a message for people. @param code name of the errno, such as `EINVAL`. */
  constructor(code: string, message: string) {
    super(`${message} (${errnoName(errnoNumber[code]!)})`);
    this.errno = errnoNumber[code]!;
  }
}

/** The errno that tells a client of an error of this library; undefined for any other exception, which is a bug. */
export function replyErrorNumber(error: unknown): number | undefined {
  if (error instanceof RequestRefused || error instanceof SyscallError) return error.errno;
  if (error instanceof UnsupportedError) return errnoNumber.ENOTSUP!;
  if (error instanceof RingsideError) return errnoNumber.EINVAL!;
  return undefined;
}
