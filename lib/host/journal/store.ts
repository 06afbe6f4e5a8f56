/**
 * Where the journal's bytes are kept.
 *
 * @module
 */
import {
  appendDurably,
  FileLock,
  isErrno,
  makeDirectory,
  processId,
  readFile,
  replaceFile,
  sleepBlocking,
} from "../../../ffi/mod.ts";
import { requireType, typedErrors } from "../../errors/doors.ts";
import { RefusedError } from "../../errors/mod.ts";

/** A file of bytes that survives the process. Failures are `SyscallError`s. */
export interface JournalStore {
  /** Path, for messages. */
  readonly path: string;
  /** All bytes; undefined when nothing was ever written. */
  read(): Uint8Array<ArrayBuffer> | undefined;
  /** Adds bytes at the end; they are on the disk when this returns. */
  append(bytes: Uint8Array<ArrayBuffer>): void;
  /** Replaces everything so that a crash leaves the old bytes or the new ones. */
  replace(bytes: Uint8Array<ArrayBuffer>): void;
  /** Keeps a copy of bytes beside the journal. @returns its path; undefined when it could not be written. */
  keepCopy(bytes: Uint8Array<ArrayBuffer>): string | undefined;
  /** Runs `work` while no other process writes. @throws RefusedError when another one does not let go. */
  exclusively<T>(work: () => T): T;
}

const LOCK_WAIT_MS = 5000;
const LOCK_POLL_MS = 5;

/** `journal.jsonl` in a directory, which is made when it is first needed. */
export class FileJournalStore implements JournalStore {
  static {
    typedErrors(this);
  }

  readonly path: string;
  readonly #directory: string;
  readonly #lockWaitMs: number;

  /** Keeps the file in `directory`; waits for other writers for `lockWaitMs` at most. */
  constructor(directory: string, lockWaitMs: number = LOCK_WAIT_MS) {
    requireType(directory, "string", "new FileJournalStore: directory");
    this.#lockWaitMs = lockWaitMs;
    this.#directory = directory;
    this.path = `${directory}/journal.jsonl`;
  }

  read(): Uint8Array<ArrayBuffer> | undefined {
    return readIfThere(this.path);
  }

  append(bytes: Uint8Array<ArrayBuffer>): void {
    makeDirectory(this.#directory);
    appendDurably(this.path, bytes);
  }

  replace(bytes: Uint8Array<ArrayBuffer>): void {
    makeDirectory(this.#directory);
    replaceFile(this.path, bytes);
  }

  keepCopy(bytes: Uint8Array<ArrayBuffer>): string | undefined {
    try {
      for (let number = 1;; number++) {
        const path = `${this.path}.damaged-${number}`;
        const there = readIfThere(path);
        if (there !== undefined && !equal(there, bytes)) continue;
        if (there === undefined) replaceFile(path, bytes);
        return path;
      }
    } catch (error) {
      // An ordinary user may look at the journal of root.
      if (isErrno(error, "EACCES", "EPERM", "EROFS", "ENOSPC")) return undefined;
      throw error;
    }
  }

  exclusively<T>(work: () => T): T {
    makeDirectory(this.#directory);
    for (let waitedMs = 0;; waitedMs += LOCK_POLL_MS) {
      const lock = FileLock.tryAcquire(`${this.#directory}/journal.lock`, `pid ${processId()}`);
      if (lock instanceof FileLock) {
        using _held = lock;
        return work();
      }
      if (waitedMs >= this.#lockWaitMs) {
        throw new RefusedError(`${this.path} is being written by ${lock.heldBy || "another process"}`, {
          hint: "try again when that process has ended",
        });
      }
      sleepBlocking(LOCK_POLL_MS);
    }
  }
}

function readIfThere(path: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return readFile(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
