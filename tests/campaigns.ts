/**
 * The long tests, side by side: what is in `tests/fuzz` and `tests/readme`, and the campaigns of the other tests in full. Arguments go to all of them: `--seed 7`.
 * What each says comes out when all have ended, and what failed last.
 */
import { inLanes } from "./guest/rig/lanes.ts";

const FLAGS = ["--no-check", "--sanitize-ops", "--sanitize-resources", "--allow-ffi"];
const PROCESSES = ["--allow-run", "--allow-env", "--allow-sys"];
const CAMPAIGNS = "--filter=/^campaign:/";
const FUZZ = [...PROCESSES, "--allow-read"];
/** Two cores have two to do, and two more where one of them waits. */
const LANES = 4;
/** Runs that the files of a folder are dealt to: who ends early takes another. */
const DEALT = 6;

/** Test files below a folder that have campaigns, in an order that does not depend on the file system. */
function campaignsBelow(folder: string): string[] {
  const found = [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    if (isDirectory) return campaignsBelow(path);
    const has = name.endsWith("_test.ts") && /\b(?:campaign|onlyInFull)\(/.test(Deno.readTextFileSync(path));
    return has ? [path] : [];
  });
  return found.sort();
}

/** Its files in turn, so that no run has all of what takes long: neighbours are of a kind. */
function dealt(files: readonly string[]): string[][] {
  const runs = Array.from({ length: DEALT }, (_, run) => files.filter((_, at) => at % DEALT === run));
  return runs.filter((run) => run.length > 0);
}

/** What takes longest begins first. */
const RUNS: readonly (readonly string[])[] = [
  [...FUZZ, "--ignore=tests/fuzz/api,tests/fuzz/cli", "tests/fuzz/", "--"],
  [...FUZZ, "tests/fuzz/api/", "--"],
  ...dealt(campaignsBelow("tests/emulated")).map((
    files,
  ) => [...PROCESSES, CAMPAIGNS, ...files, "--", "--full"]),
  ...dealt(campaignsBelow("tests/unit")).map((files) => [CAMPAIGNS, ...files, "--", "--full"]),
  [...FUZZ, "tests/fuzz/cli/", "--"],
  [...FUZZ, "tests/readme/", "--"],
];

async function run(
  args: readonly string[],
): Promise<{ args: readonly string[]; output: Deno.CommandOutput }> {
  const start = performance.now();
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["test", ...FLAGS, ...args, ...Deno.args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  console.log(`== deno test ${args.join(" ")}: ${output.success ? "passed" : "FAILED"} in ${seconds} s`);
  return { args, output };
}

function show({ args, output }: Awaited<ReturnType<typeof run>>): void {
  console.log(`== deno test ${args.join(" ")}`);
  for (const [from, to] of [[output.stdout, Deno.stdout], [output.stderr, Deno.stderr]] as const) {
    for (let rest = from; rest.length > 0;) rest = rest.subarray(to.writeSync(rest));
  }
}

const runs = await inLanes(LANES, RUNS.map((args) => () => run(args)));
// What failed comes last: the end of a long log is what is read, and kept.
runs.filter(({ output }) => output.success).forEach(show);
const failed = runs.filter(({ output }) => !output.success);
failed.forEach(show);
if (failed.length > 0) Deno.exit(1);
