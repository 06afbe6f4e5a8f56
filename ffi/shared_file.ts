/**
 * Memory that is handed to other processes as a file, for reading and writing or for reading only.
 *
 * @module
 */
import { O, OwnedFd } from "./fd.ts";
import { libc } from "./libc.ts";
import { addSeals, createMemfd, fileSeals, SEAL } from "./memory.ts";
import { check } from "./syscall_error.ts";

/**
 * An anonymous file of `sizeBytes` zero bytes, whose size is sealed, and which only this user may open anew: another user who was given a
 * descriptor for reading has no way to one for writing.
 * @throws SyscallError
 */
export function createSharedFile(name: string, sizeBytes: number): OwnedFd {
  using opened = new DisposableStack();
  const fd = opened.use(createMemfd(name, sizeBytes));
  addSeals(fd, SEAL.grow);
  check(libc.fchmod(fd.number, 0o600), "fchmod", fd.target);
  opened.move();
  return fd;
}

/**
 * The same file, opened for reading only: the kernel refuses a writable mapping of it. A process of the same user can still open it anew
 * through `/proc`, so this keeps out mistakes and other users.
 * @throws SyscallError, also without `/proc`
 */
export function reopenReadOnly(fd: OwnedFd): OwnedFd {
  return OwnedFd.open(`/proc/self/fd/${fd.number}`, O.RDONLY);
}

/** The file cannot become shorter, so that mappings of it stay valid. */
export function isSealedAgainstShrinking(fd: OwnedFd): boolean {
  return (fileSeals(fd) & SEAL.shrink) !== 0;
}
