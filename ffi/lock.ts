/**
 * Advisory whole-file locks (flock): held by an open file, so the kernel drops them when the process dies.
 *
 * @module
 */
import { O, OwnedFd } from "./fd.ts";
import { errnoNumber } from "./errno.ts";
import { pread, writeAll } from "./file.ts";
import { libc } from "./libc.ts";
import { check, checkUnless } from "./syscall_error.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;

/** An exclusive lock on a file that says who holds it. */
export class FileLock implements Disposable {
  /** The locked file. */
  readonly path: string;
  readonly #fd: OwnedFd;

  private constructor(path: string, fd: OwnedFd) {
    this.path = path;
    this.#fd = fd;
  }

  /**
   * Takes the lock without waiting; the file is made when missing and gets `holder` as its content.
   * @returns the lock, or the text of the holder when another open file has it.
   * @throws SyscallError
   */
  static tryAcquire(path: string, holder: string): FileLock | { heldBy: string } {
    using opened = new DisposableStack();
    const fd = opened.use(OwnedFd.open(path, O.RDWR | O.CREAT));
    const got = checkUnless(libc.flock(fd.number, LOCK_EX | LOCK_NB), errnoNumber.EAGAIN!, "flock", path);
    if (got < 0) {
      const text = new Uint8Array(256);
      const n = pread(fd, text, 0n);
      return { heldBy: new TextDecoder().decode(text.subarray(0, n)).trim() };
    }
    check(libc.ftruncate64(fd.number, 0n), "ftruncate", path);
    writeAll(fd, new TextEncoder().encode(holder) as Uint8Array<ArrayBuffer>);
    opened.move();
    return new FileLock(path, fd);
  }

  /** Lets go. The file stays: removing it would let two processes lock two files of one name. */
  release(): void {
    if (this.#fd.closed) return;
    libc.ftruncate64(this.#fd.number, 0n);
    this.#fd.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.release();
  }
}
