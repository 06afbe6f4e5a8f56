/**
 * Arrays that belong to the caller. While a call waits, the caller can transfer an array's buffer or shrink it: it then has length 0, or less than it
 * had. So it is looked at again whenever it is used.
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import { shown } from "../lib/errors/shown.ts";

/**
 * The caller's array, if its first `lengthBytes` are still there.
 * @param lengthBytes what it had when the call began @param call for the message: function and call @throws UsageError
 */
export function stillThere<T extends Uint8Array>(bytes: T, lengthBytes: number, call: string): T {
  if (bytes.length >= lengthBytes && bytes.length > 0) return bytes;
  const detached = bytes.buffer instanceof ArrayBuffer && bytes.buffer.detached;
  if (lengthBytes === 0 && !detached) return bytes;
  const what = detached ? "was transferred" : `was shrunk from ${lengthBytes} to ${bytes.length} bytes`;
  throw new UsageError(
    `${call}: the array's buffer ${what}${lengthBytes > 0 ? " while the call waited" : ""}`,
    {
      hint: "leave it alone until the call is over, or pass a copy",
    },
  );
}

/** An array of as many bytes as a caller asks for. @throws UsageError when there cannot be one */
export function newBytes(lengthBytes: number, call: string): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(lengthBytes);
  } catch (error) {
    throw new UsageError(`${call}: an array of ${shown(lengthBytes)} bytes cannot be had`, {
      cause: error,
      hint: "ask for less at a time",
    });
  }
}
