/**
 * Directories that live as long as a command.
 *
 * @module
 */
import {
  makeDirectory,
  processId,
  readDirectory,
  removeDirectory,
  removeFile,
  SyscallError,
} from "../ffi/mod.ts";

const DIRECTORY = 4;

/** Makes a directory for this user alone, below TMPDIR or /tmp. @throws SyscallError with what to do */
export function makeTemporaryDirectory(): string {
  const parent = (Deno.env.get("TMPDIR") || "/tmp").replace(/\/+$/, "");
  const path = `${parent}/ringside-${processId()}-${crypto.randomUUID().slice(0, 8)}`;
  try {
    makeDirectory(path, 0o700);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new SyscallError(error.call, error.target, error.errno, {
      hint: "set TMPDIR to a directory that can be written",
      cause: error,
    });
  }
  return path;
}

/** Removes a directory and all in it; one that is not there is fine. @throws SyscallError */
export function removeTree(directory: string): void {
  try {
    for (const { name, type } of readDirectory(directory)) {
      const path = `${directory}/${name}`;
      if (type === DIRECTORY) removeTree(path);
      else removeFile(path);
    }
  } catch (error) {
    // Another process may remove it at the same time.
    if (error instanceof SyscallError && error.code === "ENOENT") return;
    throw error;
  }
  removeDirectory(directory);
}
