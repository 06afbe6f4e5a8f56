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
import { COMMAND_USAGE, type Invocation, type Of, parser } from "./parser.ts";
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
  return help.replace(
    /^(Usage: ringside (?:admin|ism|mmio|tvq) )(?!PF |FUNCTION |DEVICE )(.*) (PF|FUNCTION|DEVICE)$/m,
    "$1$3 $2",
  );
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
  const command: (host: Host, how: never) => Promise<number | void> = COMMANDS[invocation.command];
  return await command(host, invocation as never);
}

function ownHost(command: "demo" | "emulate"): UsageError {
  return new UsageError(`${command} serves a host of its own and takes no --host`, {
    hint: command === "demo"
      ? "its main job on another host: deno run --allow-ffi examples/vf_to_vf.ts HOST PF"
      : "its argument is the directory that --host of other commands takes",
  });
}

/** What a command does: it gets the host that it is about. */
type Commands = {
  readonly [C in Exclude<Invocation["command"], "emulate" | "demo">]: (
    host: Host,
    how: Of<C>,
  ) => Promise<number | void>;
};

/** Each command is loaded when it is asked for: most need little of what there is. */
const COMMANDS: Commands = {
  list: async (host, how) => (await import("./list.ts")).list(host, how),
  show: async (host, how) => (await import("./show.ts")).show(host, how),
  bind: async (host, how) => (await import("./bind.ts")).bind(host, how),
  restore: async (host, how) => (await import("./restore.ts")).restore(host, how),
  sriov: async (host, how) => (await import("./sriov.ts")).sriov(host, how),
  status: async (host, how) => (await import("./status.ts")).status(host, how),
  doctor: async (host, how) => (await import("./doctor.ts")).doctor(host, how),
  "admin list": async (host, how) => (await import("./admin/list.ts")).adminList(host, how),
  "admin legacy dump": async (host, how) => (await import("./admin/legacy.ts")).adminLegacyDump(host, how),
  "admin legacy read": async (host, how) => (await import("./admin/legacy.ts")).adminLegacyRead(host, how),
  "admin legacy write": async (host, how) => (await import("./admin/legacy.ts")).adminLegacyWrite(host, how),
  "admin notify-info": async (host, how) =>
    (await import("./admin/notify_info.ts")).adminNotifyInfo(host, how),
  "admin caps": async (host, how) => (await import("./admin/caps.ts")).adminCaps(host, how),
  "admin parts show": async (host, how) => (await import("./admin/parts.ts")).adminPartsShow(host, how),
  "admin parts save": async (host, how) => (await import("./admin/parts.ts")).adminPartsSave(host, how),
  "admin parts load": async (host, how) => (await import("./admin/parts.ts")).adminPartsLoad(host, how),
  "admin mode stop": async (host, how) => (await import("./admin/mode.ts")).adminMode(host, how),
  "admin mode resume": async (host, how) => (await import("./admin/mode.ts")).adminMode(host, how),
  "tvq resources": async (host, how) => (await import("./tvq/resources.ts")).tvqResources(host, how),
  "tvq create": async (host, how) => (await import("./tvq/create.ts")).tvqCreate(host, how),
  "tvq destroy": async (host, how) => (await import("./tvq/create.ts")).tvqDestroy(host, how),
  "tvq list": async (host, how) => (await import("./tvq/list.ts")).tvqList(host, how),
  "tvq show": async (host, how) => (await import("./tvq/show.ts")).tvqShow(host, how),
  "tvq features": async (host, how) => (await import("./tvq/features.ts")).tvqFeatures(host, how),
  "tvq config": async (host, how) => (await import("./tvq/config.ts")).tvqConfig(host, how),
  "tvq queues": async (host, how) => (await import("./tvq/queues.ts")).tvqQueues(host, how),
  "tvq notify-area": async (host, how) => (await import("./tvq/queues.ts")).tvqNotifyArea(host, how),
  "ism info": async (host, how) => (await import("./ism/info.ts")).ismInfo(host, how),
  "ism alloc": async (host, how) => (await import("./ism/alloc.ts")).ismAlloc(host, how),
  "ism query": async (host, how) => (await import("./ism/query.ts")).ismQuery(host, how),
  "ism attach": async (host, how) => (await import("./ism/attach.ts")).ismAttach(host, how),
  "ism detach": async (host, how) => (await import("./ism/detach.ts")).ismDetach(host, how),
  "ism grant": async (host, how) => (await import("./ism/grant.ts")).ismGrant(host, how),
  "ism watch": async (host, how) => (await import("./ism/watch.ts")).ismWatch(host, how),
  "ism pipe": async (host, how) => (await import("./ism/pipe.ts")).ismPipe(host, how),
  "ism figure": async (host, how) => (await import("./ism/figure.ts")).ismFigure(host, how),
  "mmio show": async (host, how) => (await import("./mmio.ts")).mmioShow(host, how),
  queue: async (host, how) => (await import("./queue.ts")).queue(host, how),
  "queue save": async (host, how) => (await import("./queue.ts")).queueSave(host, how),
  "queue load": async (host, how) => (await import("./queue.ts")).queueLoad(host, how),
  "blk info": async (host, how) => (await import("./blk.ts")).blkInfo(host, how),
  "blk id": async (host, how) => (await import("./blk.ts")).blkId(host, how),
  "blk read": async (host, how) => (await import("./blk.ts")).blkRead(host, how),
  "blk write": async (host, how) => (await import("./blk.ts")).blkWrite(host, how),
  "blk flush": async (host, how) => (await import("./blk.ts")).blkFlush(host, how),
  "blk discard": async (host, how) => (await import("./blk.ts")).blkDiscard(host, how),
  "blk zero": async (host, how) => (await import("./blk.ts")).blkZero(host, how),
  console: async (host, how) => (await import("./console.ts")).consoleBridge(host, how),
  rng: async (host, how) => (await import("./rng.ts")).rng(host, how),
  "net send": async (host, how) => (await import("./net_send.ts")).netSend(host, how),
  "net receive": async (host, how) => (await import("./net_receive.ts")).netReceive(host, how),
  "net loop": async (host, how) => (await import("./net_loop.ts")).netLoop(host, how),
  "bench net": async (host, how) => (await import("./bench/net.ts")).benchNet(host, how),
  "bench blk": async (host, how) => (await import("./bench/blk.ts")).benchBlk(host, how),
};

if (import.meta.main) Deno.exit(await main(Deno.args));
