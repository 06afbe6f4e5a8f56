/**
 * Runs tests inside a guest: `deno task test:guest [options] [file or folder …] [-- deno test arguments]`,
 * or, to look around in it, any one program: `deno task test:guest --exec [options] -- lspci -vvv`.
 *
 * Tests below `tests/guest/host_side/` boot guests of their own: they run on the host. Two guests run at a time where there are two processors, since
 * one keeps little more than one of them busy; what each has to say comes when it is over. Without a selection the tests for AArch64 run too,
 * in guests of that architecture, where there is a kernel for them.
 *
 * The exit status is that of `deno test`. On a machine where the rig is not set up the run counts as
 * skipped, with status 0, so that the other test suites of a pipeline can be asked for together with this one.
 */
import { parseArgs } from "node:util";
import { hasAarch64Root } from "./aarch64.ts";
import { cacheForGuest, denoEnvironment, denoForGuest, LANE_VARIABLE, testFiles } from "./deno_in_guest.ts";
import { GuestOptionsError, NotSetUpError, RigError } from "./errors.ts";
import { bootGuest } from "./guest.ts";
import type { GuestOptions } from "./guest.ts";
import { hasDebianKernel, hasKernel, preparedKernel } from "./kernel.ts";
import { inLanes, type Job } from "./lanes.ts";
import type { GuestKernel, KernelFlavour } from "./kernel.ts";
import { MACHINES } from "./machines.ts";
import type { Architecture, MachineKind } from "./machines.ts";
import { exists, PATHS, PROJECT_ROOT, SYSROOT_LOADER } from "./paths.ts";
import { TestSummary } from "./test_summary.ts";

/** What to run, and in which guest. */
export interface TestRun {
  /** Files and folders, absolute or relative to the project. */
  readonly selection: readonly string[];
  /** Nothing was selected, neither tests nor a guest: then the selection is for x86-64, and guests for AArch64 come beside it. */
  readonly everything: boolean;
  /** Further arguments for `deno test`, e.g. `--filter`. */
  readonly denoArgs: readonly string[];
  readonly guest: Omit<GuestOptions, "command" | "script">;
  /** Guests at a time. */
  readonly lanes: number;
}

/** What guests of the other architecture run, by kernel: most of the tests owe nothing to it, and each takes three times as long there. */
const AARCH64_SETS: Readonly<Record<KernelFlavour, readonly string[]>> = {
  ready: [`${PROJECT_ROOT}/tests/guest/arm64.ts`],
  "ready-64k": [`${PROJECT_ROOT}/tests/guest/large_pages.ts`],
  debian: [],
};

/** Invalidation of translations is told to all processors, and each is waited for: under TCG one processor is the faster. */
const AARCH64_CPUS = 1;

/** Tests that boot guests themselves, on the host's side. */
const HOST_SIDE = `${PROJECT_ROOT}/tests/guest/host_side/`;
/** Tests that start the command line again and again: they take as long as all the others in the guest. */
const COMMANDS = /\/(?:cli|guide|readme)_test\.ts$/;
/** Tests that want all that a distribution's kernel has, and not what the ready one alone has. */
const OF_DISTRIBUTION = /\/stacks_test\.ts$/;

/** Runs the selected test files, in a guest and on the host's side. @returns the exit status */
export async function runTests(run: TestRun): Promise<number> {
  if (!exists(SYSROOT_LOADER)) throw new NotSetUpError(PATHS.sysroot);
  // Asked for first, so that a kernel that is missing is told before anything runs.
  const kernel = preparedKernel(run.guest.kernel, architectureOf(run));
  const files = testFiles(run.selection);
  if (files.length === 0) {
    throw new GuestOptionsError(`no test files in ${run.selection.join(" ")} (looked for *_test.ts)`);
  }
  const hostSide = files.filter((file) => file.startsWith(HOST_SIDE));
  const chosen = run.guest.kernel !== undefined || architectureOf(run) !== "x86_64" || !hasDebianKernel();
  const isOfDistribution = (file: string) => !chosen && OF_DISTRIBUTION.test(file);
  const ofDistribution = files.filter(isOfDistribution);
  const inside = files.filter((file) => !file.startsWith(HOST_SIDE) && !isOfDistribution(file));
  const summary = new TestSummary();
  const isCommand = (file: string) => COMMANDS.test(file);
  // The largest file is what takes longest, as a rule: it must not be the last to begin.
  const sizeOf = (file: string) => Deno.statSync(file).size;
  const [inGuests, onHost] = run.lanes === 1 ? [[inside], [hostSide]] : [
    [inside.filter(isCommand), inside.filter((file) => !isCommand(file))],
    hostSide.toSorted((a, b) => sizeOf(b) - sizeOf(a)).map((file) => [file]),
  ];
  const some = (group: readonly string[]) => group.length > 0;
  const guests = inGuests.filter(some), others = onHost.filter(some);
  const distributions = [ofDistribution].filter(some);
  const foreign = run.everything ? aarch64Runs(run) : [];
  const live = run.lanes === 1 ||
    guests.length + others.length + distributions.length + foreign.length === 1;
  const jobs: Job<number>[] = [
    ...guests.map((group): Job<number> => (lane) =>
      runInGuest(run, kernel, group, outputInto(summary, live), lane)
    ),
    ...foreign.map((there): Job<number> => (lane) => {
      const { selection, guest } = there;
      const booted = preparedKernel(guest.kernel, "aarch64");
      return runInGuest(there, booted, selection, outputInto(summary, live), lane);
    }),
    ...distributions.map((group): Job<number> => (lane) => {
      const there: TestRun = { ...run, guest: { ...run.guest, kernel: "debian" } };
      return runInGuest(there, preparedKernel("debian"), group, outputInto(summary, live), lane);
    }),
    ...others.map((group): Job<number> => (lane) => runOnHost(run, group, outputInto(summary, live), lane)),
  ];
  const codes = await inLanes(run.lanes, jobs);
  for (const line of summary.lines()) console.log(line);
  return codes.find((code) => code !== 0) ?? 0;
}

/** What comes beside a run of everything: the set for pages of 4 KiB in a guest of the other architecture, where there is a kernel for it. */
function aarch64Runs(run: TestRun): TestRun[] {
  if (!hasAarch64Root() || !hasKernel("aarch64", ["ready"])) return [];
  const guest = { ...run.guest, machine: "virt", kernel: "ready", cpus: AARCH64_CPUS } as const;
  return [{ ...run, selection: AARCH64_SETS.ready, guest }];
}

/** What a run prints; disposed of when it is over. */
interface RunOutput extends Disposable {
  pass(text: string): void;
}

/** @param live as it comes, else when it is over: what two say at once cannot be read */
function outputInto(summary: TestSummary, live: boolean): RunOutput {
  let held = "";
  return {
    pass: (text) => {
      if (live) summary.pass(text);
      else held += text;
    },
    [Symbol.dispose]: () => {
      summary.pass(held);
      summary.end();
    },
  };
}

async function runInGuest(
  run: TestRun,
  kernel: GuestKernel,
  files: readonly string[],
  into: RunOutput,
  lane: number,
): Promise<number> {
  using output = into;
  // Tests start the command line as a process.
  const architecture = architectureOf(run);
  await cacheForGuest([...files, `${PROJECT_ROOT}/cli/main.ts`], architecture, lane);
  const deno = await denoForGuest(architecture);
  const started = performance.now();
  const result = await bootGuest({
    ...run.guest,
    command: [deno, "test", "--no-check", "--cached-only", "-A", ...run.denoArgs, ...files],
    env: {
      ...denoEnvironment(architecture, lane),
      RINGSIDE_GUEST_CDEV: kernel.builtin.includes("iommufd") ? "1" : "0",
      ...run.guest.env,
    },
    onConsole: (text) => output.pass(text),
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const { phases } = result.timings;
  output.pass(
    `guest: Linux ${result.kernel.release}, ${seconds} s in all, kernel up after ${phases.kernel} s, ` +
      `tests started after ${phases.shares} s and took ${
        ((phases.task ?? 0) - (phases.shares ?? 0)).toFixed(1)
      } s\n`,
  );
  if (result.runFolder !== undefined) output.pass(`guest: its console log is in ${result.runFolder}\n`);
  return result.exitCode;
}

async function runOnHost(
  run: TestRun,
  files: readonly string[],
  into: RunOutput,
  lane: number,
): Promise<number> {
  using output = into;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "--no-check", "-A", ...run.denoArgs, ...files],
    cwd: PROJECT_ROOT,
    env: {
      ...(Deno.stdout.isTerminal() ? { FORCE_COLOR: "1" } : { NO_COLOR: "1" }),
      [LANE_VARIABLE]: String(lane),
    },
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) output.pass(text);
  return (await child.status).code;
}

/** Runs one program in the guest; the word `deno` stands for a Deno the guest can start. */
async function runProgram(run: TestRun): Promise<number> {
  const { denoArgs, guest } = run;
  const architecture = architectureOf(run);
  const [program, ...args] = denoArgs;
  if (program === undefined) throw new GuestOptionsError("--exec needs a program after --");
  const command = [program === "deno" ? await denoForGuest(architecture) : program, ...args];
  const result = await bootGuest({
    ...guest,
    command,
    env: { ...denoEnvironment(architecture), ...guest.env },
  });
  return result.exitCode;
}

function architectureOf({ guest }: TestRun): Architecture {
  return MACHINES[guest.machine ?? "q35"].architecture;
}

function parseMachine(value: string | undefined): MachineKind | undefined {
  if (value === undefined || Object.hasOwn(MACHINES, value)) return value as MachineKind | undefined;
  throw new GuestOptionsError(`--machine is "${value}"; it can be ${Object.keys(MACHINES).join(", ")}`);
}

const ARCHITECTURES = { x86_64: "q35", arm64: "virt" } as const;

/** The machine of an architecture, where none is named. */
function parseArchitecture(
  value: string | undefined,
  named: MachineKind | undefined,
): MachineKind | undefined {
  if (value === undefined) return named;
  if (!Object.hasOwn(ARCHITECTURES, value)) {
    throw new GuestOptionsError(`--arch is "${value}"; it can be ${Object.keys(ARCHITECTURES).join(" or ")}`);
  }
  const machine = ARCHITECTURES[value as keyof typeof ARCHITECTURES];
  if (named === undefined) return machine;
  if (MACHINES[named].architecture === MACHINES[machine].architecture) return named;
  throw new GuestOptionsError(`--machine ${named} is not --arch ${value}`);
}

function parseFlavour(value: string | undefined): KernelFlavour | undefined {
  if (value === undefined || value === "ready" || value === "ready-64k" || value === "debian") return value;
  throw new GuestOptionsError(`--kernel is "${value}"; it can be ready, ready-64k or debian`);
}

function positive(name: string, value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1) {
    throw new GuestOptionsError(`--${name} is "${value}"; it must be a whole number from 1 up`);
  }
  return number;
}

/** Splits the rig's own words; a word it does not know is the caller's mistake and not a crash. */
function parseWords(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        arch: { type: "string" },
        machine: { type: "string" },
        accel: { type: "string", default: "tcg" },
        kernel: { type: "string" },
        timeout: { type: "string", default: "1200" },
        memory: { type: "string", default: "1024" },
        cpus: { type: "string" },
        hugepages: { type: "string", default: "16" },
        env: { type: "string", multiple: true, default: [] },
        "kernel-arg": { type: "string", multiple: true, default: [] },
        "qemu-arg": { type: "string", multiple: true, default: [] },
        keep: { type: "boolean", default: false },
        exec: { type: "boolean", default: false },
        guests: { type: "string", default: String(Math.min(2, navigator.hardwareConcurrency)) },
      },
    });
  } catch (error) {
    if (error instanceof TypeError) throw new GuestOptionsError(error.message);
    throw error;
  }
}

/** What the command line asks for. */
interface Invocation extends TestRun {
  /** Run the words after `--` as a program instead of tests. */
  readonly exec: boolean;
}

function parseCommandLine(args: readonly string[]): Invocation {
  const separator = args.indexOf("--");
  const own = separator < 0 ? args : args.slice(0, separator);
  const { values, positionals } = parseWords(own);
  if (values.accel !== "tcg" && values.accel !== "kvm") {
    throw new GuestOptionsError(`--accel is "${values.accel}"; it can be tcg or kvm`);
  }
  const machine = parseArchitecture(values.arch, parseMachine(values.machine));
  const kernel = parseFlavour(values.kernel);
  const env = Object.fromEntries(values.env.map((pair): [string, string] => {
    const equals = pair.indexOf("=");
    if (equals < 1) throw new GuestOptionsError(`--env is "${pair}"; it must be NAME=value`);
    return [pair.slice(0, equals), pair.slice(equals + 1)];
  }));
  const ofAarch64 = machine !== undefined && MACHINES[machine].architecture === "aarch64";
  const all = ofAarch64 ? AARCH64_SETS[kernel ?? "ready"] : [`${PROJECT_ROOT}/tests/guest`];
  return {
    exec: values.exec,
    lanes: positive("guests", values.guests),
    selection: positionals.length > 0 ? positionals : all,
    everything: positionals.length === 0 && machine === undefined && kernel === undefined,
    denoArgs: separator < 0 ? [] : args.slice(separator + 1),
    guest: {
      ...(machine === undefined ? {} : { machine }),
      accel: values.accel,
      ...(kernel === undefined ? {} : { kernel }),
      timeoutMs: positive("timeout", values.timeout) * 1000,
      memoryMiB: positive("memory", values.memory),
      cpus: positive("cpus", values.cpus ?? String(ofAarch64 ? AARCH64_CPUS : 2)),
      hugepages: positive("hugepages", values.hugepages),
      env,
      kernelArgs: values["kernel-arg"],
      qemuArgs: values["qemu-arg"],
      keepRun: values.keep,
    },
  };
}

if (import.meta.main) {
  try {
    const invocation = parseCommandLine(Deno.args);
    Deno.exitCode = invocation.exec ? await runProgram(invocation) : await runTests(invocation);
  } catch (error) {
    if (error instanceof NotSetUpError) {
      console.log(`skipped: ${error.message}`);
      console.log("guest tests: 0 passed, 0 failed, 1 skipped");
    } else if (error instanceof RigError) {
      console.error(`guest rig: ${error.message}`);
      Deno.exitCode = 1;
    } else {
      throw error;
    }
  }
}
