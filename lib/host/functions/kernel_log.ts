/**
 * What the kernel logs of a function while something is done to it.
 *
 * @module
 */
import { fileSizeBytes, isErrno, O, OwnedFd, read } from "../../../ffi/mod.ts";

/** The log from a moment on. */
export interface KernelLog extends Disposable {
  /** What was logged of a function since then, oldest first, without its address. */
  linesAbout(address: string): string[];
}

const KMSG = "/dev/kmsg";
const RECORD_BYTES = 8192;

/** Listens to `/dev/kmsg` from now on; undefined where this user may not, or there is none. @param path for tests */
export function listenToKernelLog(path: string = KMSG): KernelLog | undefined {
  let fd: OwnedFd;
  try {
    fd = OwnedFd.open(path, O.RDONLY | O.NONBLOCK);
  } catch (error) {
    if (isErrno(error, "ENOENT", "EACCES", "EPERM", "ENODEV", "ENXIO")) return undefined;
    throw error;
  }
  try {
    // What was logged before is behind the position then.
    fileSizeBytes(fd);
  } catch (error) {
    fd.close();
    if (isErrno(error, "EINVAL", "ESPIPE")) return undefined;
    throw error;
  }
  return {
    linesAbout: (address) => records(fd).flatMap((record) => messageAbout(record, address) ?? []),
    [Symbol.dispose]: () => fd.close(),
  };
}

/** Each read gives one record. */
function records(fd: OwnedFd): string[] {
  const found: string[] = [], bytes = new Uint8Array(RECORD_BYTES), decoder = new TextDecoder();
  for (;;) {
    try {
      const length = read(fd, bytes);
      if (length === 0) return found;
      found.push(decoder.decode(bytes.subarray(0, length)));
    } catch (error) {
      // Records were overwritten before they were read: the next read goes on behind them.
      if (isErrno(error, "EPIPE")) continue;
      if (isErrno(error, "EAGAIN", "EINVAL")) return found;
      throw error;
    }
  }
}

/**
 * The message of a record (`6,339,5140900,-;ice 0000:01:00.0: text`, then lines ` DEVICE=+pci:0000:01:00.0`) when it is about a function.
 * @internal
 */
export function messageAbout(record: string, address: string): string | undefined {
  const [line = "", ...properties] = record.split("\n");
  const text = line.slice(line.indexOf(";") + 1);
  if (properties.includes(` DEVICE=+pci:${address}`) || text.includes(address)) {
    const at = text.indexOf(address);
    return at < 0 ? text : text.slice(at + address.length).replace(/^:? */, "");
  }
  return undefined;
}
