/**
 * The command line as one binary: `deno task compile [FILE]` (default `build/ringside`) makes it, and prints its size and what its start takes, in turn
 * with `true` and with the same command from its sources.
 *
 * @module
 */
import manifest from "../deno.json" with { type: "json" };
import { fileSizeBytes, makeDirectory, O, OwnedFd } from "../ffi/mod.ts";
import { RingsideError, UnsupportedError } from "../lib/errors/mod.ts";
import { BenchRun } from "./bench_run.ts";
import { inTurn } from "./in_turn.ts";
import { rounds } from "./report.ts";

const ROOT = new URL("../", import.meta.url).pathname;
const PERMISSIONS = ["--allow-ffi", "--allow-env", "--allow-run"];
const MAIN = `${ROOT}cli/main.ts`;

const RUNTIME =
  `deno compile puts a program behind a runtime that Deno fetches from its own download site: denort-${Deno.build.target}.zip of release ${Deno.version.deno}. ` +
  "Where that cannot be reached, bring the file, unpack it, and say DENORT_BIN=/path/of/denort";

async function output(
  program: string,
  args: readonly string[],
): Promise<{ success: boolean; out: string; err: string }> {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { success, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** @throws UnsupportedError when there is no runtime for it, RingsideError for another reason */
async function compile(file: string): Promise<void> {
  const { success, err } = await output(Deno.execPath(), [
    ...["compile", "--quiet", ...PERMISSIONS, "--output", file, MAIN],
  ]);
  if (!success) {
    if (/base binary|denort/.test(err)) {
      throw new UnsupportedError("there is no runtime to put the program behind", { hint: RUNTIME });
    }
    throw new RingsideError(`deno compile failed:\n${err}`);
  }
  // Any program is taken as a runtime; only the right one runs what is behind it.
  const { out } = await output(file, ["--version"]);
  if (out.trim() !== manifest.version) {
    throw new UnsupportedError(`${file} does not run the program that is in it`, {
      hint: `DENORT_BIN is another program than denort of Deno ${Deno.version.deno}`,
    });
  }
}

async function took(program: string, args: readonly string[]): Promise<number> {
  const start = performance.now();
  const { success, err } = await output(program, args);
  if (!success) throw new RingsideError(`${program} ${args.join(" ")} failed: ${err}`);
  return performance.now() - start;
}

async function report(file: string): Promise<void> {
  using fd = OwnedFd.open(file, O.RDONLY);
  console.log(`${file}: ${(fileSizeBytes(fd) / 1e6).toFixed(1)} MB`);
  using run = new BenchRun(false);
  const source = ["run", "--quiet", "--no-check", ...PERMISSIONS, MAIN];
  const measured = await inTurn(run, {
    "true": () => took("true", []),
    "--help": () => took(file, ["--help"]),
    "list": () => took(file, ["list"]),
    "list, from its sources": () => took(Deno.execPath(), [...source, "list"]),
  }, { count: 20 });
  for (const [name, values] of Object.entries(measured)) {
    const statistic = rounds("milliseconds", values);
    if (statistic.kind !== "rounds") continue;
    const { median, min, max } = statistic;
    console.log(`${name.padEnd(24)}${median.toFixed(0)} ms [${min.toFixed(0)} ms - ${max.toFixed(0)} ms]`);
  }
}

if (import.meta.main) {
  const file = Deno.args[0] ?? `${ROOT}build/ringside`;
  try {
    makeDirectory(file.slice(0, file.lastIndexOf("/") + 1) || ".");
    await compile(file);
    await report(file);
  } catch (error) {
    if (!(error instanceof RingsideError)) throw error;
    console.error(`compile: ${error.message}${error.hint === "" ? "" : ` (${error.hint})`}`);
    Deno.exit(1);
  }
}
