/**
 * Info requests whose answer may be longer than asked for: the kernel says how long, and is asked again.
 *
 * @module
 */
import type { IoctlRequest, OwnedFd } from "../../../ffi/mod.ts";
import { ProtocolError } from "../../errors/mod.ts";
import type { KernelCalls } from "./kernel_calls.ts";

/** No answer is near this; more is taken for a broken one. */
const MAX_INFO_BYTES = 1 << 20;
const MAX_TRIES = 8;

/**
 * Issues an info request, with a buffer as large as the kernel wants it. Too small a buffer is not an error there: the
 * capabilities are left out and `argsz`, the first field, is raised.
 *
 * @param make makes the argument: a buffer of this size with its input fields set.
 * @returns the answer, cut to what the kernel filled.
 * @throws SyscallError, ProtocolError when the size never settles or is beyond reason.
 */
export function infoCall(
  kernel: KernelCalls,
  fd: OwnedFd,
  request: IoctlRequest,
  fixedBytes: number,
  make: (argsz: number) => Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  let size = fixedBytes;
  for (let i = 0; i < MAX_TRIES; i++) {
    const bytes = make(size);
    kernel.ioctlBuffer(fd, request, bytes);
    const needed = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
    if (needed <= size) return bytes.subarray(0, Math.max(needed, fixedBytes));
    if (needed > MAX_INFO_BYTES) {
      throw new ProtocolError(`${request.name} of ${fd.target} wants a buffer of ${needed} bytes`);
    }
    size = needed;
  }
  throw new ProtocolError(`${request.name} of ${fd.target} asked for a larger buffer ${MAX_TRIES} times`);
}
