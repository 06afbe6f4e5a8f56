/**
 * How a failure is told: one line on standard error, with `--json` an object on standard output as well, and an exit status.
 *
 * @module
 */
import { DeviceError, InputError, NotFoundError, RingsideError, UsageError } from "../lib/errors/mod.ts";
import { SyscallError } from "../ffi/syscall_error.ts";
import { EXIT } from "./exit.ts";
import { InterruptedError } from "./interruption.ts";

const NAMED_WRONG = ["ENOENT", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP"];

/** The line for an error; programming errors keep their stack. */
export function failureText(error: unknown, host?: string): string {
  if (error instanceof RingsideError) {
    return visible(
      `ringside: ${error.message}${error.hint === "" ? "" : ` (${forHost(error.hint, host)})`}`,
    );
  }
  if (error instanceof Deno.errors.NotCapable) {
    return `ringside: ${error.message} (the commands of the README grant what is needed)`;
  }
  return `ringside: internal error: ${error instanceof Error ? error.stack : String(error)}`;
}

/** Control characters of what was given, as JSON writes them: they would break the line, or do something to the terminal. */
function visible(line: string): string {
  // deno-lint-ignore no-control-regex -- control characters are what is looked for
  return line.replace(/[\x00-\x1f\x7f-\x9f]/g, (one) => {
    const short = JSON.stringify(one).slice(1, -1);
    return short === one ? `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}` : short;
  });
}

/** The object for an error. */
export function failureJson(error: unknown, host?: string): { error: Record<string, unknown> } {
  const { name, message } = error instanceof Error ? error : { name: "Error", message: String(error) };
  return {
    error: {
      type: error instanceof RingsideError ? name : "InternalError",
      message,
      ...(error instanceof RingsideError && error.hint !== "" ? { hint: forHost(error.hint, host) } : {}),
      ...(error instanceof SyscallError ? { errno: error.code } : {}),
      ...(error instanceof DeviceError ? { location: error.location } : {}),
    },
  };
}

/** Commands that a hint names, for the host that the failed one was for. */
export function forHost(hint: string, host: string | undefined): string {
  if (host === undefined || host === "linux") return hint;
  return hint.replace(
    /\bringside (?=(bind|restore|sriov|show|status|list|queue|ism|mmio)\b)/g,
    `ringside --host ${host} `,
  );
}

/** The exit status for an error. */
export function exitStatus(error: unknown): number {
  if (error instanceof InterruptedError) return error.exitStatus;
  const isRequest = error instanceof UsageError || error instanceof NotFoundError ||
    error instanceof InputError;
  if (isRequest) return EXIT.usage;
  // What was named is not there, or is of another kind.
  if (error instanceof SyscallError && NAMED_WRONG.includes(error.code)) return EXIT.usage;
  return EXIT.failed;
}
