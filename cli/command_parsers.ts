/**
 * The parser of each command, by its first word; loaded when it is asked for.
 *
 * @module
 */
import { merge } from "@optique/core/constructs";
import type { Parser } from "@optique/core/parser";
import type { Invocation } from "./parser.ts";
import { globals } from "./parsers/shared.ts";

/** A parser of the command line, or of a part of it. */
export type CommandLine = Parser<"sync", Invocation, unknown>;

/** The first argument that is none of the options that every command has. */
export function commandWord(args: readonly string[]): string | undefined {
  let at = 0;
  while (at < args.length && /^--(json$|host$|host=)/.test(args[at]!)) at += args[at] === "--host" ? 2 : 1;
  return args[at];
}

const functions = () => import("./parsers/functions.ts");
const registers = () => import("./parsers/registers.ts");
const embedded = () => import("./parsers/embedded.ts");

/** By the command's first word: what `parser.ts` has, and nothing else. */
export const PARSERS: Readonly<Record<string, () => Promise<CommandLine>>> = {
  list: async () => merge(globals, (await functions()).list),
  show: async () => merge(globals, (await functions()).show),
  bind: async () => merge(globals, (await functions()).bind),
  restore: async () => merge(globals, (await functions()).restore),
  sriov: async () => merge(globals, (await functions()).sriov),
  status: async () => merge(globals, (await functions()).status),
  top: async () => merge(globals, (await functions()).top),
  control: async () => merge(globals, (await functions()).control),
  doctor: async () => merge(globals, (await functions()).doctor),
  peek: async () => merge(globals, (await registers()).peek),
  poke: async () => merge(globals, (await registers()).poke),
  regs: async () => merge(globals, (await registers()).regs),
  repl: async () => merge(globals, (await registers()).repl),
  trace: async () => merge(globals, (await import("./parsers/trace.ts")).trace),
  emulate: async () => merge(globals, (await embedded()).emulate),
  demo: async () => merge(globals, (await embedded()).demo),
  man: async () => merge(globals, (await embedded()).man),
  admin: async () => merge(globals, (await import("./parsers/admin.ts")).admin),
  tvq: async () => merge(globals, (await import("./parsers/tvq.ts")).tvq),
  ism: async () => merge(globals, (await import("./parsers/ism.ts")).ism),
  mmio: async () => merge(globals, (await import("./parsers/mmio.ts")).mmio),
  queue: async () => merge(globals, (await import("./parsers/queue.ts")).queue),
  net: async () => merge(globals, (await import("./parsers/net.ts")).net),
  blk: async () => merge(globals, (await import("./parsers/blk.ts")).blk),
  bench: async () => merge(globals, (await import("./parsers/bench.ts")).bench),
  console: async () => merge(globals, (await import("./parsers/console.ts")).consoleCommand),
  rng: async () => merge(globals, (await import("./parsers/rng.ts")).rng),
};
