/**
 * What a request begins with, and how one is refused: as an errno in its reply.
 *
 * @module
 */
import { RingsideError, UnsupportedError } from "../../../errors/mod.ts";
import { errnoName, errnoNumber, SyscallError } from "../../../../ffi/mod.ts";
import type { Field, Fields, Struct, Values } from "../../../wire/mod.ts";

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

/** Refuses as an argument that cannot be. */
export function invalid(command: string, text: string): RequestRefused {
  return new RequestRefused("EINVAL", `${command}: ${text}`);
}

/**
 * Decodes the structure that a request begins with.
 * @param command for messages @throws RequestRefused when it is cut short, or `argsz` does not count all of it
 */
export function decodeRequest<F extends Fields & { readonly argsz: Field<"u32"> }>(
  struct: Struct<F>,
  payload: Uint8Array,
  command: string,
): Values<F> {
  const { sizeBytes } = struct;
  if (payload.byteLength < sizeBytes) throw invalid(command, `${payload.byteLength} of ${sizeBytes} bytes`);
  const values = struct.decode(payload);
  if (values.argsz < sizeBytes) throw invalid(command, `argsz ${values.argsz}`);
  return values;
}
