/**
 * Files of JSON that commands save and load.
 *
 * @module
 */
import { O, OwnedFd, readText, writeAll } from "../ffi/mod.ts";
import { UsageError } from "../lib/errors/mod.ts";

/** What a file holds, not looked at. @throws UsageError (no JSON), SyscallError */
export function readJsonFile(path: string): unknown {
  try {
    return JSON.parse(readText(path));
  } catch (error) {
    if (error instanceof SyntaxError) throw new UsageError(`${path} is not JSON: ${error.message}`);
    throw error;
  }
}

/** For this user alone. @throws SyscallError */
export function writeJsonFile(path: string, value: unknown): void {
  using file = OwnedFd.open(path, O.WRONLY | O.CREAT | O.TRUNC, 0o600);
  writeAll(file, new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`));
}
