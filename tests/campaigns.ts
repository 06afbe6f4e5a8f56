/**
 * The long tests, side by side: what is in `tests/fuzz` and `tests/readme`, and the campaigns of the other tests in full. Arguments go to all of them: `--seed 7`.
 * What each says comes out when all have ended, and what failed last.
 */
const FLAGS = ["--no-check", "--sanitize-ops", "--sanitize-resources", "--allow-ffi"];
const PROCESSES = ["--allow-run", "--allow-env", "--allow-sys"];
const CAMPAIGNS = "--filter=/^campaign:/";
const EMULATED = ["", "admin/", "cli/", "host/", "ism/", "life/", "management/", "mmio/"].map((folder) =>
  `tests/emulated/${folder}all.ts`
);

/** Two cores have two to do, and two more where one of them waits. */
const RUNS: readonly (readonly string[])[] = [
  [...PROCESSES, CAMPAIGNS, ...EMULATED, "--", "--full"],
  [CAMPAIGNS, "tests/unit/all.ts", "--", "--full"],
  [...PROCESSES, "--allow-read", "--ignore=tests/fuzz/cli,tests/fuzz/workers", "tests/fuzz/", "--"],
  [...PROCESSES, "--allow-read", "tests/fuzz/cli/", "tests/fuzz/workers/", "tests/readme/", "--"],
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

const runs = await Promise.all(RUNS.map(run));
// What failed comes last: the end of a long log is what is read, and kept.
runs.filter(({ output }) => output.success).forEach(show);
const failed = runs.filter(({ output }) => !output.success);
failed.forEach(show);
if (failed.length > 0) Deno.exit(1);
