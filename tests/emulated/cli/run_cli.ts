import { fromFileUrl } from "../../unit/architecture/source_files.ts";

const main = fromFileUrl(new URL("../../../cli/main.ts", import.meta.url));
const PERMISSIONS = ["--allow-ffi", "--allow-env", "--allow-run", "--allow-sys"];

export interface CliResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the command line as a user would, in a process of its own. */
export async function cli(...args: string[]): Promise<CliResult> {
  return await cliWith({}, ...args);
}

/** As `cli`, as another user or with another permission set. */
export async function cliWith(
  options: { uid?: number; permissions?: readonly string[] },
  ...args: string[]
): Promise<CliResult> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", ...(options.permissions ?? PERMISSIONS), main, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}
