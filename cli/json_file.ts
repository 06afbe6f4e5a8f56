/**
 * Files of JSON that commands save and load.
 *
 * @module
 */
import { readText, replaceFile } from "../ffi/mod.ts";
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

/** For this user alone; whole or not at all. @throws SyscallError */
export function writeJsonFile(path: string, value: unknown): void {
  replaceFile(path, new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`), 0o600);
}
