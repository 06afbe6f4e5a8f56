/**
 * One process at a time drives a function.
 *
 * @module
 */
import {
  FileLock,
  isErrno,
  makeDirectory,
  processExists,
  processId,
  readTextIfAny,
  sleepBlocking,
} from "../../../ffi/mod.ts";
import { RefusedError } from "../../errors/mod.ts";
import { withoutVfTokens } from "../../vfio/uuid.ts";

const COMMAND_LENGTH = 160;
const RETRIES = 20;
const RETRY_MS = 5;

/** Locks of functions: one file each, whose text says who holds it. The kernel drops a lock when its process dies. */
export class FunctionLocks {
  readonly #directory: string;
  readonly #alsoLookIn: readonly string[];
  readonly #holder: string;

  /**
   * Makes nothing yet.
   * @param directory where the lock files are; made when first needed.
   * @param alsoLookIn further directories that `holder` looks in.
   * @param name what this process is called; default its command line
   */
  constructor(directory: string, alsoLookIn: readonly string[] = [], name: string = commandLine()) {
    this.#directory = directory;
    this.#alsoLookIn = alsoLookIn;
    this.#holder = `pid ${processId()} ${shortened(name)}`.trimEnd();
  }

  /** Takes a function's lock. @throws RefusedError naming the holder, SyscallError */
  acquire(address: string): FileLock {
    this.#writing(address, () => makeDirectory(this.#directory));
    for (let attempt = 0;; attempt++) {
      const lock = this.#writing(
        address,
        () => FileLock.tryAcquire(this.#path(this.#directory, address), this.#holder),
      );
      if (lock instanceof FileLock) return lock;
      // No text: the holder has only just taken it, or is letting go.
      if (lock.heldBy === "" && attempt < RETRIES) {
        sleepBlocking(RETRY_MS);
        continue;
      }
      throw inUse(address, lock.heldBy);
    }
  }

  /** Looks whether each of them could be taken now. @throws RefusedError naming the first holder */
  refuseIfHeld(addresses: readonly string[]): void {
    for (const address of addresses) {
      const heldBy = this.holder(address);
      if (heldBy !== undefined) throw inUse(address, heldBy);
    }
  }

  /** Takes the locks of several functions, or none. @throws RefusedError naming the first holder, SyscallError */
  acquireAll(addresses: readonly string[]): Disposable {
    using held = new DisposableStack();
    for (const address of addresses) held.use(this.acquire(address));
    return held.move();
  }

  /** Who holds a function's lock; undefined when it is free. */
  holder(address: string): string | undefined {
    for (const directory of [this.#directory, ...this.#alsoLookIn]) {
      const path = this.#path(directory, address);
      const text = readLock(path);
      // A process that was killed leaves its text behind.
      const pid = Number(/^pid (\d+)/.exec(text)?.[1] ?? "0");
      if (pid > 0 && processExists(pid) && isLocked(path)) return text;
    }
    return undefined;
  }

  /** Runs what writes below the directory; root may have made it, or a lock in it, for itself alone. */
  #writing<T>(address: string, write: () => T): T {
    try {
      return write();
    } catch (error) {
      if (!isErrno(error, "EACCES", "EPERM", "EROFS")) throw error;
      throw new RefusedError(
        `${address} cannot be locked: this user may not write below ${this.#directory}`,
        {
          hint: `run as root, or let root make the directory: install -d -o <user> ${this.#directory}`,
          cause: error,
        },
      );
    }
  }

  #path(directory: string, address: string): string {
    return `${directory}/${address}.lock`;
  }
}

function inUse(address: string, heldBy: string): RefusedError {
  return new RefusedError(`${address} is in use by ${heldBy || "another process"}`, {
    hint: isOwn(heldBy)
      ? "close the opened device first"
      : "one process at a time drives a function; end that one",
  });
}

function isOwn(holder: string): boolean {
  return new RegExp(`^pid ${processId()}\\b`).test(holder);
}

/** Whether somebody holds the file, for the rare case that the process id in it was given to another process. */
function isLocked(path: string): boolean {
  try {
    const lock = FileLock.tryAcquire(path, "");
    if (!(lock instanceof FileLock)) return true;
    lock.release();
    return false;
  } catch (error) {
    // Not ours to try: the text and the living process have to do.
    if (isErrno(error, "EACCES", "EPERM", "EROFS")) return true;
    throw error;
  }
}

function readLock(path: string): string {
  try {
    return (readTextIfAny(path) ?? "").trim();
  } catch (error) {
    if (isErrno(error, "EACCES", "EPERM")) return "";
    throw error;
  }
}

function commandLine(): string {
  const text = readTextIfAny("/proc/self/cmdline") ?? "";
  const words = text.split("\0").filter((word) => word !== "");
  // The runtime and its options say nothing about who it is; the script and its arguments do.
  const script = words.findIndex((word) => /\.[cm]?[jt]s$/.test(word));
  const own = script < 0 ? words : words.slice(script);
  if (own[0] !== undefined) own[0] = own[0].slice(own[0].lastIndexOf("/") + 1);
  return own.join(" ");
}

/** On one line, not longer than a line, and without what only its process and its PF's shall know: whoever finds the function in use reads it. */
function shortened(name: string): string {
  const line = withoutVfTokens(name.replace(/\s+/g, " "));
  return line.length > COMMAND_LENGTH ? `${line.slice(0, COMMAND_LENGTH)}…` : line;
}
