/**
 * The command line of Ringside.
 *
 * @module
 */
import { run } from "@optique/run";
import { type Host, openHost } from "../lib/host/mod.ts";
import { EXIT, exitStatus, failureText } from "./failure.ts";
import { remark } from "./output.ts";
import { type Invocation, parser } from "./parser.ts";
import { bind } from "./bind.ts";
import { demo } from "./demo.ts";
import { doctor } from "./doctor.ts";
import { emulate } from "./emulate.ts";
import { list } from "./list.ts";
import { netLoop } from "./net_loop.ts";
import { netReceive } from "./net_receive.ts";
import { netSend } from "./net_send.ts";
import { restore } from "./restore.ts";
import { rng } from "./rng.ts";
import { show } from "./show.ts";
import { sriov } from "./sriov.ts";
import { status } from "./status.ts";
import manifest from "../deno.json" with { type: "json" };

/** Parses arguments and runs the command. @returns the exit status; errors are told on standard error. */
export async function main(args: readonly string[]): Promise<number> {
  const invocation = run(parser, {
    args,
    programName: "ringside",
    version: manifest.version,
    help: "both",
    completion: "both",
    aboveError: "none",
    errorExitCode: EXIT.usage,
  });
  try {
    return await dispatch(invocation) ?? EXIT.ok;
  } catch (error) {
    remark(failureText(error));
    return exitStatus(error);
  }
}

async function dispatch(invocation: Invocation): Promise<number | void> {
  if (invocation.command === "emulate") return await emulate(invocation);
  if (invocation.command === "demo") return await demo(invocation);
  using host = openHost(invocation.host);
  return await onHost(host, invocation);
}

function onHost(
  host: Host,
  invocation: Exclude<Invocation, { command: "emulate" | "demo" }>,
): number | void | Promise<number | void> {
  switch (invocation.command) {
    case "list":
      return list(host, invocation);
    case "show":
      return show(host, invocation);
    case "bind":
      return bind(host, invocation);
    case "restore":
      return restore(host, invocation);
    case "sriov":
      return sriov(host, invocation);
    case "status":
      return status(host, invocation);
    case "doctor":
      return doctor(host, invocation);
    case "rng":
      return rng(host, invocation);
    case "net send":
      return netSend(host, invocation);
    case "net receive":
      return netReceive(host, invocation);
    case "net loop":
      return netLoop(host, invocation);
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
