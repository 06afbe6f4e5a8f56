/**
 * `ringside repl`: Deno's REPL as a process of its own. This one outlives it, and puts the host back.
 *
 * @module
 */
import { putBackTerminal, terminalSettings } from "../../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { EXIT } from "../exit.ts";
import { remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { noteHost } from "./noted_host.ts";
import type { SessionOptions } from "./session.ts";

/** How long the REPL may take to end when it is told to. */
const PATIENCE_MS = 2000;

/** Runs the REPL until its user leaves it. @returns its exit status, or 1 when something could not be put back */
export async function repl(host: Host, options: Of<"repl">): Promise<number> {
  if (Deno.build.standalone) {
    throw new UnsupportedError("the REPL is Deno's own, which a compiled program does not have", {
      hint: "deno task ringside repl, in the project's folder",
    });
  }
  if (options.function === undefined) {
    if (options.bind || options.table !== undefined) {
      throw new UsageError("--bind and --table are about a function, and none is named");
    }
  }
  const address = options.function === undefined ? undefined : host.describe(options.function).address;
  const noted = noteHost(host);
  const terminal = terminalSettings();
  let status: number;
  try {
    if (options.bind && address !== undefined) host.bind(address);
    status = await session({ ...options, function: address });
  } finally {
    putBackTerminal(terminal);
    const { done, failed } = noted.putBack();
    for (const line of done) remark(line);
    for (const line of failed) remark(`ringside: ${line}`);
    if (failed.length > 0) status = EXIT.failed;
  }
  return status;
}

/** The REPL, from its start to its end. Ctrl-C is for what runs in it. @returns its exit status */
async function session(options: SessionOptions): Promise<number> {
  const file = (path: string) => new URL(path, import.meta.url);
  const [start, door] = ["./session.ts", "../../mod.ts"].map((path) => JSON.stringify(file(path).href));
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...[
        "repl",
        "--quiet",
        "--no-check",
        "--config",
        decodeURIComponent(file("../../deno.json").pathname),
      ],
      ...["--allow-ffi", "--allow-env", "--allow-run", "--allow-read"],
      ...[
        "--eval",
        `(await import(${start})).startSession(${JSON.stringify(options)}, await import(${door}))`,
      ],
    ],
  }).spawn();
  let killing: ReturnType<typeof setTimeout> | undefined;
  const end = () => {
    kill(child, "SIGTERM");
    killing ??= setTimeout(() => kill(child, "SIGKILL"), PATIENCE_MS);
  };
  const listeners = { SIGINT: () => {}, SIGTERM: end, SIGHUP: end };
  const names = Object.keys(listeners) as (keyof typeof listeners)[];
  for (const name of names) Deno.addSignalListener(name, listeners[name]);
  try {
    return (await child.status).code;
  } finally {
    clearTimeout(killing);
    for (const name of names) Deno.removeSignalListener(name, listeners[name]);
  }
}

function kill(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has ended, and that has not been heard of yet.
  }
}
