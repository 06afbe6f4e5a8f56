import { main } from "../../../cli/main.ts";
import { fromFileUrl } from "../../unit/architecture/source_files.ts";

const path = fromFileUrl(new URL("../../../cli/main.ts", import.meta.url));
const PERMISSIONS = ["--allow-ffi", "--allow-env", "--allow-run"];

export interface CliResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface CliOptions {
  readonly uid?: number;
  readonly permissions?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: "null" | "piped";
  readonly stdout?: "piped" | "inherit";
}

/** The command line in a process of its own. */
export function startCli(options: CliOptions, ...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", ...(options.permissions ?? PERMISSIONS), path, ...args],
    stdin: options.stdin ?? "null",
    stdout: options.stdout ?? "piped",
    stderr: "piped",
    env: { NO_COLOR: "1", ...options.env },
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  }).spawn();
}

/** Runs the command line in this process: for all that reads no standard input and hears no signal. */
export async function cli(...args: string[]): Promise<CliResult> {
  let [out, err] = ["", ""];
  const code = await main(args, { out: (text) => out += text, err: (text) => err += text });
  return { code, out, err };
}

/** As `cli`, in a process of its own, as a user would. */
export async function cliWith(options: CliOptions, ...args: string[]): Promise<CliResult> {
  const { code, stdout, stderr } = await startCli(options, ...args).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** The command line as a word of a shell script, for pipes. */
export async function shell(script: string, env: Record<string, string> = {}): Promise<CliResult> {
  const words = [Deno.execPath(), "run", "--quiet", "--no-check", ...PERMISSIONS, path];
  const { code, stdout, stderr } = await new Deno.Command("bash", {
    args: ["-c", `ringside() { ${words.join(" ")} "$@"; }\n${script}`],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1", ...env },
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}
