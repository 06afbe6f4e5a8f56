/**
 * Waiting for one descriptor, in this thread.
 *
 * @module
 */
import { errnoNumber } from "./errno.ts";
import type { OwnedFd } from "./fd.ts";
import { libc } from "./libc.ts";
import { checkUnless } from "./syscall_error.ts";

const POLL = { readable: 1, writable: 4 } as const;

/**
 * Blocks this thread until the descriptor is ready, its other end is gone, or `timeoutMs` are over.
 * @returns false when nothing happened in that time, or a signal came @throws SyscallError, ClosedError
 */
export function waitReady(fd: OwnedFd, what: keyof typeof POLL, timeoutMs: number): boolean {
  // struct pollfd.
  const entry = new Uint8Array(new ArrayBuffer(8));
  const view = new DataView(entry.buffer);
  view.setInt32(0, fd.number, true);
  view.setInt16(4, POLL[what], true);
  return checkUnless(libc.poll(entry, 1n, timeoutMs), errnoNumber.EINTR!, "poll", fd.target) > 0;
}
