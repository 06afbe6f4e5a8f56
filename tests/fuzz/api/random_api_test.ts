import { assert, assertEquals } from "@std/assert";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { TopologyHost } from "../../emulated/drivers/topology_host.ts";
import type { Findings } from "./walk.ts";

const WALK = new URL("./walk.ts", import.meta.url).pathname;
/** A call that takes longer hangs. */
const HANG_MS = 60_000;
const LINES_SHOWN = 30;
/** With so many it must have been everywhere. */
const ENOUGH_OPERATIONS = 100_000;
const DRIVERS = ["VirtioNet", "VirtioRng", "VirtioBlk", "VirtioConsole", "VirtioIsm", "VirtioManagement"];

const FUNCTIONS = [
  { address: "0000:01:00.0", kind: "virtio-net", totalVfs: 4, switch: "s0", adminQueues: 2, legacyVfs: true },
  { address: "0000:02:00.0", kind: "virtio-rng" },
  { address: "0000:03:00.0", kind: "virtio-blk", sizeBytes: 1 << 20 },
  { address: "0000:04:00.0", kind: "virtio-console" },
  { address: "0000:05:00.0", kind: "virtio-ism" },
  { address: "0000:06:00.0", kind: "virtio-ism" },
  { address: "0000:07:00.0", kind: "virtio-management", switch: "s0" },
];

interface Outcome {
  readonly signal: string | null;
  readonly code: number;
  readonly hung: boolean;
  readonly lastLines: string[];
  readonly findings: Findings | undefined;
}

/** Runs a walk in a process of its own, and watches it. */
async function walk(operations: number, host: string, directory: string): Promise<Outcome> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "--allow-ffi",
      "--allow-read",
      WALK,
      `${operations}`,
      host,
      directory,
      ...Deno.args,
    ],
    cwd: directory,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lastLines: string[] = [];
  let hung = false;
  const kill = (): void => {
    hung = true;
    child.kill("SIGKILL");
  };
  let watchdog = setTimeout(kill, HANG_MS);
  const watching = (async () => {
    let rest = "";
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      clearTimeout(watchdog);
      watchdog = setTimeout(kill, HANG_MS);
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      lastLines.push(...lines);
      lastLines.splice(0, lastLines.length - LINES_SHOWN);
    }
  })();
  const output = await new Response(child.stdout).text();
  const { signal, code } = await child.status;
  await watching;
  clearTimeout(watchdog);
  const findings = output.trim() === "" ? undefined : JSON.parse(output) as Findings;
  return { signal, code, hung, lastLines, findings };
}

/** `-- --seed 7 --operations 5000` for another walk, `--report` for all that it found. */
const given = Deno.args.indexOf("--operations");
const operations = given < 0 ? 100_000 : Number(Deno.args[given + 1]);

Deno.test(`${operations} random calls through the public doors: typed errors only, and nothing is left over`, async () => {
  const directory = makeTemporaryDirectory();
  try {
    await using served = await TopologyHost.start(FUNCTIONS, { alone: true });
    const outcome = await walk(operations, served.directory, directory);
    const { findings } = outcome;
    if (findings === undefined || outcome.signal !== null || outcome.code !== 0 || outcome.hung) {
      throw new Error(
        `arguments ${
          Deno.args.join(" ")
        }: signal ${outcome.signal}, code ${outcome.code}, hung ${outcome.hung}; the last calls:\n${
          outcome.lastLines.join("\n")
        }`,
      );
    }
    const { doors, drivers } = findings;
    console.log(
      `${doors.found} doors, ${doors.used} used, ${doors.succeeded} with success; ${findings.errors} errors`,
    );
    for (const [name, { opened, used }] of Object.entries(drivers)) {
      console.log(`${name}: ${opened} opened, ${used} of them used`);
    }
    if (Deno.args.includes("--report")) {
      const total = findings.untyped.reduce((sum, { count }) => sum + count, 0);
      console.log(`${total} of ${findings.errors} errors untyped, in ${findings.untyped.length} kinds`);
      console.log(`doors that never did what they are for: ${findings.doors.never.join(", ")}`);
      for (const { door, count, error, values, stack } of findings.untyped) {
        console.log(`${count}\t${door}(${values})\n\t\t${error}\n\t\t${stack}`);
      }
    }
    assertEquals(
      [
        findings.untyped.slice(0, 20),
        findings.closing,
        findings.unsettled,
        findings.open,
        findings.leaked,
        findings.unrestored,
      ],
      [[], [], [], [], { fds: 0, mappings: 0 }, []],
      `arguments ${Deno.args.join(" ")}`,
    );
    // A walk that only met closed doors would find nothing, too.
    const enough = operations / ENOUGH_OPERATIONS;
    assert(doors.used >= doors.found * Math.min(enough, 0.95), `${doors.used} of ${doors.found} doors used`);
    assert(doors.succeeded >= doors.found * Math.min(enough, 0.6), `${doors.succeeded} with success`);
    for (const name of DRIVERS) {
      const { opened, used } = drivers[name] ?? { opened: 0, used: 0 };
      assert(
        opened >= Math.floor(20 * enough) && used >= Math.floor(10 * enough),
        `${name}: ${opened}, ${used}`,
      );
    }
  } finally {
    removeTree(directory);
  }
});
