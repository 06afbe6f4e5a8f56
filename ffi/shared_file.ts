/**
 * Memory that is handed to other processes as a file, for reading and writing or for reading only.
 *
 * @module
 */
import { O, OwnedFd } from "./fd.ts";
import { libc } from "./libc.ts";
import { createMemfd, fileSeals } from "./memory.ts";
import { check } from "./syscall_error.ts";

/** Seals of a memfd (F_SEAL_*). */
export const SEAL = { shrink: 2, grow: 4 } as const;

/**
 * An anonymous file of `sizeBytes` zero bytes, whose size is sealed, and which only this user may open anew: another user who was given a
 * descriptor for reading has no way to one for writing.
 * @throws SyscallError
 */
export function createSharedFile(name: string, sizeBytes: number): OwnedFd {
  const fd = createMemfd(name, sizeBytes);
  try {
    const F_ADD_SEALS = 1033;
    check(libc.fcntlValue(fd.number, F_ADD_SEALS, BigInt(SEAL.grow)), "fcntl F_ADD_SEALS", fd.target);
    check(libc.fchmod(fd.number, 0o600), "fchmod", fd.target);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
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
