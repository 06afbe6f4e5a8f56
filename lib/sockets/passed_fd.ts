/**
 * Descriptors that a peer passed, checked before anything is done with them.
 *
 * @module
 */
import { ProtocolError } from "../errors/mod.ts";
import {
  EventFd,
  fileSizeBytes,
  isErrno,
  isSealedAgainstShrinking,
  type OwnedFd,
  readLink,
} from "../../ffi/mod.ts";

/**
 * Wraps an eventfd that a peer passed. A pipe or file in its place could block or fill a disk, and one that blocks could stop
 * this thread, so the kind is checked and the descriptor made non-blocking.
 *
 * @param fd stays the caller's when this throws.
 * @throws ProtocolError when it is no eventfd, SyscallError
 */
export function passedEventFd(fd: OwnedFd, what: string): EventFd {
  const target = kindOf(fd, "anon_inode:[eventfd]");
  if (target !== "anon_inode:[eventfd]") {
    throw new ProtocolError(`${what}: the descriptor passed is no eventfd but ${target}`);
  }
  fd.setNonBlocking();
  return new EventFd(fd);
}

/** Checks that a descriptor that a peer passed is a socket. @throws ProtocolError, SyscallError */
export function requirePassedSocket(fd: OwnedFd, what: string): void {
  const target = kindOf(fd, "socket:");
  if (!target.startsWith("socket:")) {
    throw new ProtocolError(`${what}: the descriptor passed is no socket but ${target}`);
  }
}

/** What a descriptor is, as the kernel names it. @param unknown without /proc, where it stays unknown */
function kindOf(fd: OwnedFd, unknown: string): string {
  try {
    return readLink(`/proc/self/fd/${fd.number}`);
  } catch (error) {
    if (!isErrno(error, "ENOENT", "EACCES")) throw error;
    return unknown;
  }
}

/**
 * Checks that a file that a peer passed covers `[offset, offset + sizeBytes)`: an access past a file's end ends the process.
 *
 * @param sealed also demand that the file cannot shrink later (F_SEAL_SHRINK).
 * @throws ProtocolError, SyscallError (it has no size: a pipe, a socket)
 */
export function checkPassedFile(
  fd: OwnedFd,
  offset: bigint,
  sizeBytes: number,
  sealed: boolean,
  what: string,
): void {
  const fileBytes = fileSizeBytes(fd);
  if (offset + BigInt(sizeBytes) > BigInt(fileBytes)) {
    throw new ProtocolError(
      `${what}: the file passed has ${fileBytes} bytes, which end before offset ${offset} + ${sizeBytes}`,
    );
  }
  if (sealed && !isSealedAgainstShrinking(fd)) {
    throw new ProtocolError(`${what}: the file passed is not sealed against shrinking`, {
      hint: "pass a memfd with F_SEAL_SHRINK (QEMU: memory-backend-memfd with seal=on)",
    });
  }
}
