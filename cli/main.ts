/**
 * The command line of Ringside.
 *
 * @module
 */
import { runParser } from "@optique/core/facade";
import { formatMessage, type Message } from "@optique/core/message";
import { UsageError } from "../lib/errors/mod.ts";
import { type Host, openHost } from "../lib/host/mod.ts";
import { EXIT, exitStatus, failureJson, failureText } from "./failure.ts";
import {
  type Output,
  OutputClosedError,
  print,
  printingTo,
  printJson,
  remark,
  terminalColumns,
} from "./output.ts";
import { COMMAND_USAGE, type Invocation, parser } from "./parser.ts";
import manifest from "../deno.json" with { type: "json" };

export type { Output };

/**
 * Parses arguments and runs the command.
 *
 * @param output takes what is printed, instead of standard output and standard error; bytes (`rng -o -`, `ism pipe`) go there nevertheless
 * @returns the exit status; errors are told on standard error, and with `--json` on standard output too.
 */
export async function main(args: readonly string[], output?: Output): Promise<number> {
  return await (output === undefined ? run(args) : printingTo(output, () => run(args)));
}

async function run(args: readonly string[]): Promise<number> {
  // What cannot be parsed is told as JSON too.
  let json = args.includes("--json");
  let host: string | undefined;
  try {
    const invocation = parse(args);
    if (typeof invocation === "number") return invocation;
    ({ json, host } = invocation);
    return await dispatch(invocation) ?? EXIT.ok;
  } catch (error) {
    if (error instanceof OutputClosedError) return EXIT.ok;
    remark(failureText(error, host));
    if (json) tryPrintJson(failureJson(error, host));
    return exitStatus(error);
  }
}

/** An invocation, or the exit status when help was asked for. @throws UsageError */
function parse(args: readonly string[]): Invocation | number {
  let message: Message = [];
  const columns = terminalColumns();
  const parsed: Invocation | number | undefined = runParser<typeof parser, number, undefined>(
    parser,
    "ringside",
    args,
    {
      help: { command: true, option: true, onShow: () => EXIT.ok },
      version: { option: true, value: manifest.version, onShow: () => EXIT.ok },
      completion: { command: true, onShow: () => EXIT.ok },
      commandList: "top-level",
      usageLine: COMMAND_USAGE,
      termWidth: "auto",
      maxWidth: columns,
      aboveError: "none",
      onError: (_, error): undefined => {
        message = error;
      },
      stdout: (text) => print(ownerFirst(text)),
      stderr: () => {},
    },
  );
  if (parsed !== undefined) return parsed;
  // A suggestion is a paragraph of its own.
  throw new UsageError(formatMessage(message, { quotes: true }).replace(/\n+/g, " "));
}

/** The parser allows an argument of a group of commands anywhere, and lists it last; where it belongs is before the group's command. */
function ownerFirst(help: string): string {
  return help.replace(/^(Usage: ringside (?:admin|ism) )(?!PF |FUNCTION )(.*) (PF|FUNCTION)$/m, "$1$3 $2");
}

function tryPrintJson(value: unknown): void {
  try {
    printJson(value);
  } catch (error) {
    if (!(error instanceof OutputClosedError)) remark(failureText(error));
  }
}

async function dispatch(invocation: Invocation): Promise<number | void> {
  if (invocation.command === "emulate" || invocation.command === "demo") {
    if (invocation.host !== undefined) throw ownHost(invocation.command);
    return invocation.command === "emulate"
      ? await (await import("./emulate.ts")).emulate(invocation)
      : await (await import("./demo.ts")).demo(invocation);
  }
  using host = openHost(invocation.host ?? "linux");
  return await onHost(host, invocation);
}

function ownHost(command: "demo" | "emulate"): UsageError {
  return new UsageError(`${command} serves a host of its own and takes no --host`, {
    hint: command === "demo"
      ? "its main job on another host: deno run --allow-ffi examples/vf_to_vf.ts HOST PF"
      : "its argument is the directory that --host of other commands takes",
  });
}

/** Each command is loaded when it is asked for: most need little of what there is. */
async function onHost(
  host: Host,
  invocation: Exclude<Invocation, { command: "emulate" | "demo" }>,
): Promise<number | void> {
  switch (invocation.command) {
    case "list":
      return (await import("./list.ts")).list(host, invocation);
    case "show":
      return (await import("./show.ts")).show(host, invocation);
    case "bind":
      return (await import("./bind.ts")).bind(host, invocation);
    case "restore":
      return (await import("./restore.ts")).restore(host, invocation);
    case "sriov":
      return (await import("./sriov.ts")).sriov(host, invocation);
    case "status":
      return (await import("./status.ts")).status(host, invocation);
    case "doctor":
      return (await import("./doctor.ts")).doctor(host, invocation);
    case "admin list":
      return (await import("./admin/list.ts")).adminList(host, invocation);
    case "admin legacy dump":
      return (await import("./admin/legacy.ts")).adminLegacyDump(host, invocation);
    case "admin legacy read":
      return (await import("./admin/legacy.ts")).adminLegacyRead(host, invocation);
    case "admin legacy write":
      return (await import("./admin/legacy.ts")).adminLegacyWrite(host, invocation);
    case "admin notify-info":
      return (await import("./admin/notify_info.ts")).adminNotifyInfo(host, invocation);
    case "admin caps":
      return (await import("./admin/caps.ts")).adminCaps(host, invocation);
    case "admin parts show":
      return (await import("./admin/parts.ts")).adminPartsShow(host, invocation);
    case "admin parts save":
      return (await import("./admin/parts.ts")).adminPartsSave(host, invocation);
    case "admin parts load":
      return (await import("./admin/parts.ts")).adminPartsLoad(host, invocation);
    case "admin mode stop":
    case "admin mode resume":
      return (await import("./admin/mode.ts")).adminMode(host, invocation);
    case "ism info":
      return (await import("./ism/info.ts")).ismInfo(host, invocation);
    case "ism alloc":
      return (await import("./ism/alloc.ts")).ismAlloc(host, invocation);
    case "ism query":
      return (await import("./ism/query.ts")).ismQuery(host, invocation);
    case "ism attach":
      return (await import("./ism/attach.ts")).ismAttach(host, invocation);
    case "ism detach":
      return (await import("./ism/detach.ts")).ismDetach(host, invocation);
    case "ism grant":
      return (await import("./ism/grant.ts")).ismGrant(host, invocation);
    case "ism watch":
      return (await import("./ism/watch.ts")).ismWatch(host, invocation);
    case "ism pipe":
      return (await import("./ism/pipe.ts")).ismPipe(host, invocation);
    case "ism figure":
      return (await import("./ism/figure.ts")).ismFigure(host, invocation);
    case "queue":
      return (await import("./queue.ts")).queue(host, invocation);
    case "queue save":
      return (await import("./queue.ts")).queueSave(host, invocation);
    case "queue load":
      return (await import("./queue.ts")).queueLoad(host, invocation);
    case "blk info":
      return (await import("./blk.ts")).blkInfo(host, invocation);
    case "blk id":
      return (await import("./blk.ts")).blkId(host, invocation);
    case "blk read":
      return (await import("./blk.ts")).blkRead(host, invocation);
    case "blk write":
      return (await import("./blk.ts")).blkWrite(host, invocation);
    case "blk flush":
      return (await import("./blk.ts")).blkFlush(host, invocation);
    case "blk discard":
      return (await import("./blk.ts")).blkDiscard(host, invocation);
    case "blk zero":
      return (await import("./blk.ts")).blkZero(host, invocation);
    case "console":
      return (await import("./console.ts")).consoleBridge(host, invocation);
    case "rng":
      return (await import("./rng.ts")).rng(host, invocation);
    case "net send":
      return (await import("./net_send.ts")).netSend(host, invocation);
    case "net receive":
      return (await import("./net_receive.ts")).netReceive(host, invocation);
    case "net loop":
      return (await import("./net_loop.ts")).netLoop(host, invocation);
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
