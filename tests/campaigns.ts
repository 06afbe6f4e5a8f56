/**
 * The long tests, side by side: what is in `tests/fuzz`, and the campaigns of the other tests in full. Arguments go to all of them: `--seed 7`.
 * What each says comes out when it has ended.
 */
const FLAGS = ["--no-check", "--sanitize-ops", "--sanitize-resources", "--allow-ffi"];
const PROCESSES = ["--allow-run", "--allow-env", "--allow-sys"];
const CAMPAIGNS = "--filter=/^campaign:/";
const EMULATED = ["", "admin/", "cli/", "host/", "ism/", "life/", "management/", "mmio/"].map((folder) =>
  `tests/emulated/${folder}all.ts`
);

/** Two cores have two to do, and a third where one of them waits. */
const RUNS: readonly (readonly string[])[] = [
  [...PROCESSES, CAMPAIGNS, ...EMULATED, "--", "--full"],
  [CAMPAIGNS, "tests/unit/all.ts", "--", "--full"],
  [...PROCESSES, "--allow-read", "tests/fuzz/", "--"],
];

async function run(args: readonly string[]): Promise<boolean> {
  const start = performance.now();
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["test", ...FLAGS, ...args, ...Deno.args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  console.log(`== deno test ${args.join(" ")}: ${((performance.now() - start) / 1000).toFixed(0)} s`);
  for (const [from, to] of [[stdout, Deno.stdout], [stderr, Deno.stderr]] as const) {
    for (let rest = from; rest.length > 0;) rest = rest.subarray(to.writeSync(rest));
  }
  return success;
}

const succeeded = await Promise.all(RUNS.map(run));
if (succeeded.includes(false)) Deno.exit(1);
