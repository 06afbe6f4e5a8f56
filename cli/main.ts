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
import { OutputClosedError, print, printJson, remark, terminalColumns } from "./output.ts";
import { COMMAND_USAGE, type Invocation, parser } from "./parser.ts";
import { adminCaps } from "./admin/caps.ts";
import { adminLegacyDump, adminLegacyRead, adminLegacyWrite } from "./admin/legacy.ts";
import { adminList } from "./admin/list.ts";
import { adminMode } from "./admin/mode.ts";
import { adminNotifyInfo } from "./admin/notify_info.ts";
import { adminPartsLoad, adminPartsSave, adminPartsShow } from "./admin/parts.ts";
import { bind } from "./bind.ts";
import { blkDiscard, blkFlush, blkId, blkInfo, blkRead, blkWrite, blkZero } from "./blk.ts";
import { consoleBridge } from "./console.ts";
import { demo } from "./demo.ts";
import { doctor } from "./doctor.ts";
import { emulate } from "./emulate.ts";
import { ismAlloc } from "./ism/alloc.ts";
import { ismAttach } from "./ism/attach.ts";
import { ismDetach } from "./ism/detach.ts";
import { ismFigure } from "./ism/figure.ts";
import { ismGrant } from "./ism/grant.ts";
import { ismInfo } from "./ism/info.ts";
import { ismPipe } from "./ism/pipe.ts";
import { ismQuery } from "./ism/query.ts";
import { ismWatch } from "./ism/watch.ts";
import { list } from "./list.ts";
import { netLoop } from "./net_loop.ts";
import { netReceive } from "./net_receive.ts";
import { netSend } from "./net_send.ts";
import { queue, queueLoad, queueSave } from "./queue.ts";
import { restore } from "./restore.ts";
import { rng } from "./rng.ts";
import { show } from "./show.ts";
import { sriov } from "./sriov.ts";
import { status } from "./status.ts";
import manifest from "../deno.json" with { type: "json" };

/** Parses arguments and runs the command. @returns the exit status; errors are told on standard error, and with `--json` on standard output too. */
export async function main(args: readonly string[]): Promise<number> {
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
      ...(columns === undefined ? {} : { maxWidth: columns }),
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
    return invocation.command === "emulate" ? await emulate(invocation) : await demo(invocation);
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
    case "admin list":
      return adminList(host, invocation);
    case "admin legacy dump":
      return adminLegacyDump(host, invocation);
    case "admin legacy read":
      return adminLegacyRead(host, invocation);
    case "admin legacy write":
      return adminLegacyWrite(host, invocation);
    case "admin notify-info":
      return adminNotifyInfo(host, invocation);
    case "admin caps":
      return adminCaps(host, invocation);
    case "admin parts show":
      return adminPartsShow(host, invocation);
    case "admin parts save":
      return adminPartsSave(host, invocation);
    case "admin parts load":
      return adminPartsLoad(host, invocation);
    case "admin mode stop":
    case "admin mode resume":
      return adminMode(host, invocation);
    case "ism info":
      return ismInfo(host, invocation);
    case "ism alloc":
      return ismAlloc(host, invocation);
    case "ism query":
      return ismQuery(host, invocation);
    case "ism attach":
      return ismAttach(host, invocation);
    case "ism detach":
      return ismDetach(host, invocation);
    case "ism grant":
      return ismGrant(host, invocation);
    case "ism watch":
      return ismWatch(host, invocation);
    case "ism pipe":
      return ismPipe(host, invocation);
    case "ism figure":
      return ismFigure(host, invocation);
    case "queue":
      return queue(host, invocation);
    case "queue save":
      return queueSave(host, invocation);
    case "queue load":
      return queueLoad(host, invocation);
    case "blk info":
      return blkInfo(host, invocation);
    case "blk id":
      return blkId(host, invocation);
    case "blk read":
      return blkRead(host, invocation);
    case "blk write":
      return blkWrite(host, invocation);
    case "blk flush":
      return blkFlush(host, invocation);
    case "blk discard":
      return blkDiscard(host, invocation);
    case "blk zero":
      return blkZero(host, invocation);
    case "console":
      return consoleBridge(host, invocation);
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
