/**
 * How a failure is told: one line, and an exit status.
 *
 * @module
 */
import { NotFoundError, RingsideError, UsageError } from "../lib/errors/mod.ts";
import { SyscallError } from "../ffi/mod.ts";

/** Exit statuses: 1 the operation failed or was refused, 2 the request itself was wrong. */
export const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

/** The line for an error; programming errors keep their stack. */
export function failureText(error: unknown): string {
  if (error instanceof RingsideError) {
    return `ringside: ${error.message}${error.hint === "" ? "" : ` (${error.hint})`}`;
  }
  if (error instanceof Deno.errors.NotCapable) {
    return `ringside: ${error.message} (the commands of the README grant what is needed)`;
  }
  return `ringside: internal error: ${error instanceof Error ? error.stack : String(error)}`;
}

/** The exit status for an error. */
export function exitStatus(error: unknown): number {
  if (error instanceof UsageError || error instanceof NotFoundError) return EXIT.usage;
  if (error instanceof SyscallError && error.code === "ENOENT") return EXIT.usage;
  return EXIT.failed;
}
