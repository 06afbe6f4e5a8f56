/**
 * Benchmarks: `deno task bench [--short] [--json] [--only SECTION]`.
 *
 * No figure means much alone, so each is printed beside another that was measured in the same run.
 *
 * @module
 */
import { kernelRelease, readText } from "../ffi/mod.ts";
import { RingsideError, UsageError } from "../lib/errors/mod.ts";
import { benchAdmin } from "./admin.ts";
import { benchAllocation } from "./allocation.ts";
import { BenchRun, Interrupted } from "./bench_run.ts";
import { benchBlk } from "./blk.ts";
import { benchBringUp } from "./bring_up.ts";
import { benchFrames } from "./frames.ts";
import { benchIsm } from "./ism.ts";
import { benchLatency } from "./latency.ts";
import { benchManagement } from "./management.ts";
import { benchMemory } from "./memory.ts";
import { benchBlkRace } from "./peers/blk_race.ts";
import { benchNetRace } from "./peers/net_race.ts";
import { type Section, sectionText } from "./report.ts";
import { benchMmio } from "./mmio.ts";
import { benchPacket } from "./packet.ts";
import { benchRegisters } from "./registers.ts";
import { benchRing } from "./ring.ts";
import { benchRingsMatrix } from "./rings_matrix.ts";
import { benchStart } from "./start.ts";
import { benchWake } from "./wake.ts";
import { benchWasm } from "./wasm.ts";
import { benchWorkers } from "./workers.ts";

const SECTIONS: Readonly<Record<string, (run: BenchRun) => Promise<Section[]>>> = {
  ring: benchRing,
  rings: benchRingsMatrix,
  wasm: benchWasm,
  packet: benchPacket,
  registers: benchRegisters,
  allocation: benchAllocation,
  frames: benchFrames,
  workers: benchWorkers,
  blk: benchBlk,
  wake: benchWake,
  admin: benchAdmin,
  management: benchManagement,
  mmio: benchMmio,
  ism: benchIsm,
  start: benchStart,
  "bring-up": benchBringUp,
  memory: benchMemory,
};

/** What takes minutes and wants a quiet machine, most of it races with third-party programs: measured when it is named. */
const RACES: typeof SECTIONS = {
  "peers-net": benchNetRace,
  "peers-blk": benchBlkRace,
  latency: benchLatency,
};

const USAGE = `usage: bench [--short] [--json] [--only SECTION]...
  --short  few rounds: to see that everything works
  --json   one JSON object instead of tables
  --only   this section; may be given more than once: ${Object.keys(SECTIONS).join(", ")};
           races and what takes minutes, which are left out otherwise: ${Object.keys(RACES).join(", ")}`;

interface Arguments {
  readonly short: boolean;
  readonly json: boolean;
  readonly sections: readonly string[];
}

/** @returns undefined when help is wanted @throws UsageError */
function parse(args: readonly string[]): Arguments | undefined {
  let short = false, json = false;
  const only: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const [option, attached] = args[i]!.split("=", 2);
    if (option === "--help") return undefined;
    if (option === "--only") only.push(attached ?? args[++i] ?? "");
    else if (args[i] === "--short") short = true;
    else if (args[i] === "--json") json = true;
    else throw new UsageError(`${args[i]} is not an option`, { hint: USAGE });
  }
  const wrong = only.find((name) => !Object.hasOwn({ ...SECTIONS, ...RACES }, name));
  if (wrong !== undefined) {
    throw new UsageError(`there is no section ${JSON.stringify(wrong)}`, { hint: USAGE });
  }
  return { short, json, sections: only.length === 0 ? Object.keys(SECTIONS) : only };
}

/** What the figures were measured on. */
function machine(): Record<string, string> {
  const model = /^(?:model name|CPU part)\s*:\s*(.+)$/m.exec(readText("/proc/cpuinfo"))?.[1] ?? "unknown";
  const [load] = readText("/proc/loadavg").split(" ");
  return {
    processor: `${navigator.hardwareConcurrency} x ${model}`,
    memory: /^MemTotal:\s+(.+)$/m.exec(readText("/proc/meminfo"))?.[1] ?? "unknown",
    kernel: kernelRelease(),
    deno: `${Deno.version.deno} (V8 ${Deno.version.v8})`,
    load: `${load} at the start`,
  };
}

async function main(args: readonly string[]): Promise<number> {
  const wanted = parse(args);
  if (wanted === undefined) {
    console.log(USAGE);
    return 0;
  }
  using run = new BenchRun(wanted.short);
  const facts = machine();
  if (!wanted.json) {
    for (const [name, fact] of Object.entries(facts)) console.log(`${name.padEnd(10)} ${fact}`);
    if (run.short) console.log("short run: few rounds, so the figures say little");
  }
  const all: Section[] = [];
  const start = performance.now();
  for (const name of wanted.sections) {
    const sections = await measure((SECTIONS[name] ?? RACES[name])!, run);
    all.push(...sections);
    if (!wanted.json) { for (const section of sections) console.log(`\n${sectionText(section)}`); }
  }
  const seconds = (performance.now() - start) / 1000;
  if (wanted.json) console.log(JSON.stringify({ machine: facts, short: run.short, seconds, sections: all }));
  else console.log(`\ndone in ${seconds.toFixed(1)} s`);
  return 0;
}

async function measure(section: (run: BenchRun) => Promise<Section[]>, run: BenchRun): Promise<Section[]> {
  try {
    return await section(run);
  } catch (error) {
    // Ctrl-C in a terminal reaches the other processes too, so what failed may be their end.
    await run.turn();
    throw error;
  }
}

function told(error: unknown): number {
  if (error instanceof Interrupted) return 130;
  if (error instanceof RingsideError) {
    console.error(`bench: ${error.message}${error.hint === "" ? "" : `\n${error.hint}`}`);
    return error instanceof UsageError ? 2 : 1;
  }
  throw error;
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    Deno.exit(told(error));
  }
}
