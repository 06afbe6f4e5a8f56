/**
 * The command line of Ringside.
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { EXIT } from "./exit.ts";
import { environment } from "./environment.ts";
import { lettingGo } from "./letting_go.ts";
import { inStyle, type Output, OutputClosedError, printJson, remark, remarksInColour } from "./output.ts";
import { parse } from "./parse.ts";
import type { Invocation, Of } from "./parser.ts";

export type { Output };

/**
 * Parses arguments and runs the command.
 *
 * @param output takes what is printed, instead of standard output and standard error; bytes (`rng -o -`, `ism pipe`) go there nevertheless
 * @returns the exit status; errors are told on standard error, and with `--json` on standard output too.
 */
export async function main(args: readonly string[], output?: Output): Promise<number> {
  if (output === undefined) return await run(args);
  const { printingTo } = await import("./printing_to.ts");
  return await printingTo(output, () => run(args));
}

async function run(args: readonly string[]): Promise<number> {
  // What cannot be parsed is told as JSON too.
  let json = args.includes("--json");
  let host: string | undefined;
  try {
    const invocation = await parse(args);
    if (typeof invocation === "number") return invocation;
    ({ json, host } = invocation);
    return await dispatch(invocation, args) ?? EXIT.ok;
  } catch (error) {
    if (error instanceof OutputClosedError) return EXIT.ok;
    const { exitStatus, failureJson, failureText } = await import("./failure.ts");
    tell(failureText(error, host));
    try {
      if (json) printJson(failureJson(error, host));
    } catch (second) {
      if (!(second instanceof OutputClosedError)) tell(failureText(second));
    }
    return exitStatus(error);
  }
}

function tell(failure: string): void {
  remark(remarksInColour() ? failure.replace(/^ringside:/, (name) => inStyle(name, "red")) : failure);
}

async function dispatch(invocation: Invocation, args: readonly string[]): Promise<number | void> {
  if (invocation.command === "show" && invocation.dump !== undefined) {
    return (await import("./show_dump.ts")).showDump({ ...invocation, dump: invocation.dump });
  }
  if (invocation.command === "trace show") return (await import("./trace/show.ts")).traceShow(invocation);
  if (invocation.command === "trace diff") return (await import("./trace/diff.ts")).traceDiff(invocation);
  if (invocation.command === "trace replay") {
    return await (await import("./trace/replay.ts")).traceReplay(invocation);
  }
  if (invocation.command === "man") return (await import("./man.ts")).man(invocation);
  if (invocation.command === "emulate" || invocation.command === "demo") {
    if (invocation.host !== undefined) throw ownHost(invocation.command);
    return invocation.command === "emulate"
      ? await (await import("./emulate.ts")).emulate(invocation)
      : await (await import("./demo.ts")).demo(invocation);
  }
  const { openHost } = await import("../lib/host/mod.ts");
  // A failure is told by what is loaded already: there may be no descriptor left to load it by.
  await import("./failure.ts");
  const name = invocation.host ?? environment("RINGSIDE_HOST");
  using opened = openHost(name ?? "linux", { holder: `ringside ${args.join(" ")}` });
  const command: (host: Host, how: never) => Promise<number | void> = COMMANDS[invocation.command];
  const how = { ...invocation, host: name } as never;
  const trace = "trace" in invocation ? invocation.trace : undefined;
  using stack = new DisposableStack();
  const held = lettingGo(
    trace === undefined || trace === "-"
      ? opened
      : (await import("./tracing.ts")).tracedHost(opened, trace, stack),
  );
  try {
    return await command(held.host, how);
  } catch (error) {
    // What was closed under a command fails in as many ways as there are calls.
    throw held.reason ?? error;
  }
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
  readonly [C in Exclude<Invocation["command"], "emulate" | "demo" | "man" | `trace ${string}`>]: (
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
  top: async (host, how) => (await import("./top/top.ts")).top(host, how),
  doctor: async (host, how) => (await import("./doctor.ts")).doctor(host, how),
  control: async (host, how) => (await import("./control.ts")).control(host, how),
  peek: async (host, how) => (await import("./registers.ts")).peek(host, how),
  poke: async (host, how) => (await import("./registers.ts")).poke(host, how),
  regs: async (host, how) => (await import("./registers.ts")).regs(host, how),
  repl: async (host, how) => (await import("./repl/repl.ts")).repl(host, how),
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
