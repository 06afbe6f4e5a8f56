/**
 * Start-up: what a command takes from nothing to its end, and an embedded host until it serves, in turn with a Deno process that does nothing.
 *
 * @module
 */
import { startEmulatedHost } from "../cli/emulated_process.ts";
import { RingsideError } from "../lib/errors/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import { inTurn } from "./in_turn.ts";
import { startScript } from "./processes.ts";
import { compare, type Figure, rounds, type Section } from "./report.ts";

const NOTHING = "a Deno process that does nothing";
const PERMISSIONS = ["--allow-ffi", "--allow-env", "--allow-run"];
const COMMANDS = [["--help"], ["list"], ["list", "--json"], ["status"], ["show", "--help"]] as const;

/** Measures commands that do little, and the start of an embedded host. */
export async function benchStart(run: BenchRun): Promise<Section[]> {
  const commands = COMMANDS.map((args) =>
    [`ringside ${args.join(" ")}`, () => toItsEnd("../cli/main.ts", args)] as const
  );
  const took = await inTurn(run, {
    [NOTHING]: () => toItsEnd("nothing.ts", []),
    ...Object.fromEntries(commands),
    "an embedded host, until it is ready": hostReady,
  }, { count: run.pick(20, 3) });
  const nothing = rounds("milliseconds", took[NOTHING]!);
  const least = median(nothing);
  const figures = Object.entries(took).filter(([name]) => name !== NOTHING).map(([name, values]): Figure => {
    const value = rounds("milliseconds", values);
    return {
      name,
      value,
      beside: [compare(value, NOTHING, nothing)],
      note: `${(median(value) - least).toFixed(0)} ms more`,
    };
  });
  return [{
    title: "Start-up time of commands",
    figures,
    notes: ["with what V8 compiled before in Deno's cache, as on every start but the first"],
  }];
}

function median(value: ReturnType<typeof rounds>): number {
  return value.kind === "rounds" ? value.median : NaN;
}

async function toItsEnd(script: string, args: readonly string[]): Promise<number> {
  const start = performance.now();
  const { success } = await startScript(script, { args, flags: PERMISSIONS }).status;
  if (!success) throw new RingsideError(`ringside ${args.join(" ")} failed`);
  return performance.now() - start;
}

async function hostReady(): Promise<number> {
  const start = performance.now();
  const host = await startEmulatedHost();
  const took = performance.now() - start;
  await host.stop();
  return took;
}
