import { ConsoleStream } from "./console_stream.ts";
import { STANDARD_DEVICES } from "./devices.ts";
import type { GuestDevice } from "./devices.ts";
import { GuestCrashError, GuestOptionsError, GuestTimeoutError, NotSetUpError } from "./errors.ts";
import { baseEnvironment } from "./init_script.ts";
import type { GuestTask } from "./init_script.ts";
import { buildInitramfs } from "./initramfs.ts";
import { preparedKernel } from "./kernel.ts";
import type { GuestKernel, KernelFlavour } from "./kernel.ts";
import { MACHINES } from "./machines.ts";
import type { Accelerator, Machine, MachineKind } from "./machines.ts";
import { BOOT_MODULES, builtinParameters, DEFAULT_MODULES } from "./modules.ts";
import type { ModuleLoad } from "./modules.ts";
import type { ArchiveEntry } from "./newc.ts";
import { exists, guestRoot, PATHS, PROJECT_ROOT, SYSROOT_LOADER } from "./paths.ts";
import { qemuCommand } from "./qemu.ts";

/** Options of `bootGuest`. Exactly one of `command` and `script` is given. */
export interface GuestOptions {
  /** Default `q35`. */
  readonly machine?: MachineKind;
  /** Program and arguments, run as root in the host's root file system with the project as working folder. */
  readonly command?: readonly string[];
  /** Busybox shell script, run in the initramfs with no file share at all. */
  readonly script?: string;
  /** Further files for the initramfs of a `script`. */
  readonly files?: readonly ArchiveEntry[];
  /** Variables for `command`, over those of `baseEnvironment`. */
  readonly env?: Readonly<Record<string, string>>;
  /** Functions of the guest; `STANDARD_DEVICES` unless given. */
  readonly devices?: readonly GuestDevice[];
  /** Host-side network back ends to plug into a hub, e.g. `{ hub: 0, netdev: "user" }`. */
  readonly uplinks?: readonly { readonly hub: number; readonly netdev: string }[];
  /** Appended to QEMU's arguments, e.g. `["-object", …, "-device", …]`. */
  readonly qemuArgs?: readonly string[];
  /** RAM as shared memory (implied by a `vfio-user` device). */
  readonly sharedMemory?: boolean;
  /** False leaves out the IOMMU (a microvm has none): for devices that do not offer VIRTIO_F_ACCESS_PLATFORM. */
  readonly iommu?: boolean;
  /**
   * Run QEMU in a network namespace of its own, in which it may make TAP devices; they go with it. Without being root that needs unprivileged user
   * namespaces. See `hasOwnNetworks`.
   */
  readonly ownNetwork?: boolean;
  readonly memoryMiB?: number;
  readonly cpus?: number;
  readonly accel?: Accelerator;
  readonly kernel?: KernelFlavour;
  readonly kernelArgs?: readonly string[];
  /** Modules to load before the task starts, in this order; `DEFAULT_MODULES` unless given. */
  readonly modules?: readonly ModuleLoad[];
  /** Number of 2 MiB hugepages the kernel sets aside. */
  readonly hugepages?: number;
  readonly timeoutMs?: number;
  /** Kills QEMU when it is aborted; `bootGuest` then throws the signal's reason and keeps nothing. */
  readonly signal?: AbortSignal;
  /** Receives the console line by line, as lines come; without it the console goes to standard output. */
  readonly onConsole?: (text: string) => void;
  /** Keep the run's folder (initramfs, console log, status) also after success. */
  readonly keepRun?: boolean;
}

/** How far a guest got, in milliseconds since QEMU was started (as seen by the guest's own clock for phases). */
export interface GuestTimings {
  /** Until the first text on the console. */
  readonly firstOutputMs: number | undefined;
  readonly totalMs: number;
  /** Seconds of guest uptime at which each phase of the init ended: kernel, modules, shares, task. */
  readonly phases: Readonly<Record<string, number>>;
}

/** A guest that ran to its end. */
export interface GuestResult {
  /** Exit status of the command or script. */
  readonly exitCode: number;
  /** The console's last 256 KiB. */
  readonly console: string;
  readonly kernel: GuestKernel;
  readonly timings: GuestTimings;
  /** Folder with the console log and QEMU's arguments; kept unless the exit status was 0. */
  readonly runFolder: string | undefined;
}

/** Boots a guest, runs one task in it and waits for its end. */
export async function bootGuest(options: GuestOptions): Promise<GuestResult> {
  if (!exists(SYSROOT_LOADER)) throw new NotSetUpError(PATHS.sysroot);
  const machine = MACHINES[options.machine ?? "q35"];
  const kernel = preparedKernel(options.kernel, machine.architecture);
  const task = guestTask(options, kernel, machine);
  const loads = options.modules ?? DEFAULT_MODULES;
  const boot = task.kind === "command" ? BOOT_MODULES : BOOT_MODULES.slice(0, 1);
  const bootLoads = [...boot, ...machine.bootModules].map((name) => ({ name }));
  const timeoutMs = options.timeoutMs ?? 300_000;

  const runFolder = await makeRunFolder();
  const initramfs = `${runFolder}/initramfs.cpio`;
  const statusFile = `${runFolder}/status`;
  if (task.kind === "command" && machine.architecture !== "x86_64") {
    // The root is shared read-only, so the place to mount the project at must be there.
    await Deno.mkdir(`${guestRoot(machine.architecture)}${PROJECT_ROOT}`, { recursive: true });
  }
  await Deno.writeFile(
    initramfs,
    buildInitramfs(machine, kernel, [...bootLoads, ...loads], task, options.files),
  );
  const qemu = qemuCommand({
    machine,
    accel: options.accel ?? "tcg",
    cpus: options.cpus ?? 2,
    memoryMiB: options.memoryMiB ?? 1024,
    sharedMemory: options.sharedMemory ?? false,
    iommu: machine.hasIommu && (options.iommu ?? true),
    devices: options.devices ?? (options.machine === "microvm" ? [] : STANDARD_DEVICES),
    uplinks: options.uplinks ?? [],
    ownNetwork: options.ownNetwork ?? false,
    shareHost: task.kind === "command",
    kernelImage: kernel.image,
    kernelArgs: [
      `hugepages=${options.hugepages ?? 16}`,
      ...builtinParameters(kernel, loads),
      ...(options.kernelArgs ?? []),
    ],
    initramfs,
    statusFile,
    runFolder,
    extraArgs: options.qemuArgs ?? [],
  });
  await Deno.writeTextFile(`${runFolder}/qemu.json`, JSON.stringify(qemu, null, 1));

  const started = performance.now();
  const ended = await runQemu(qemu, timeoutMs, options.onConsole ?? writeStdout, options.signal);
  const totalMs = performance.now() - started;
  if (options.signal?.aborted) {
    await Deno.remove(runFolder, { recursive: true });
    throw options.signal.reason;
  }
  await Deno.writeTextFile(`${runFolder}/console.log`, ended.console.text);
  const status = readStatus(statusFile);
  if (status.exitCode === undefined) {
    const phase = `after phase "${status.lastPhase}"; files of this run are kept in ${runFolder}`;
    if (ended.timedOut) throw new GuestTimeoutError(timeoutMs, phase, ended.console.tail());
    throw new GuestCrashError(ended.code, phase, ended.console.tail());
  }
  const keep = status.exitCode !== 0 || (options.keepRun ?? false);
  if (!keep) await Deno.remove(runFolder, { recursive: true });
  return {
    exitCode: status.exitCode,
    console: ended.console.text,
    kernel,
    timings: { firstOutputMs: ended.firstOutputMs, totalMs, phases: status.phases },
    runFolder: keep ? runFolder : undefined,
  };
}

function guestTask(options: GuestOptions, kernel: GuestKernel, machine: Machine): GuestTask {
  if ((options.command === undefined) === (options.script === undefined)) {
    throw new GuestOptionsError("bootGuest: give either `command` or `script`");
  }
  if (options.script !== undefined) return { kind: "script", text: options.script };
  const argv = options.command ?? [];
  if (argv.length === 0) throw new GuestOptionsError("bootGuest: `command` is empty");
  return { kind: "command", argv, env: { ...baseEnvironment(kernel.moduleFolder, machine), ...options.env } };
}

interface QemuEnd {
  readonly code: number;
  readonly timedOut: boolean;
  readonly firstOutputMs: number | undefined;
  readonly console: ConsoleStream;
}

async function runQemu(
  qemu: { readonly argv: readonly string[]; readonly env: Readonly<Record<string, string>> },
  timeoutMs: number,
  sink: (text: string) => void,
  signal?: AbortSignal,
): Promise<QemuEnd> {
  const [program = "", ...args] = qemu.argv;
  const started = performance.now();
  let firstOutputMs: number | undefined;
  const stream = new ConsoleStream((text) => {
    firstOutputMs ??= performance.now() - started;
    sink(text);
  });
  const child = new Deno.Command(program, {
    args,
    env: { ...qemu.env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, timeoutMs);
  const onAbort = (): void => child.kill("SIGKILL");
  if (signal?.aborted) onAbort();
  signal?.addEventListener("abort", onAbort);
  const [status] = await Promise.all([
    child.status,
    stream.drain(child.stdout),
    stream.drain(child.stderr, (lines) => {
      // QEMU then stops the machine but stays; waiting for the timeout would gain nothing.
      if (lines.includes("KVM internal error")) {
        child.kill("SIGKILL");
        return `${lines}guest: KVM does not work on this machine; use the accelerator tcg\n`;
      }
      // A hub among the guest's own functions is meant to have no way out.
      return lines.replace(/^.*warning: hub \d+ is not connected to host network\n/gm, "");
    }),
  ]);
  clearTimeout(timer);
  signal?.removeEventListener("abort", onAbort);
  return { code: status.code, timedOut, firstOutputMs, console: stream };
}

interface Status {
  readonly exitCode: number | undefined;
  readonly lastPhase: string;
  readonly phases: Record<string, number>;
}

function readStatus(file: string): Status {
  const text = exists(file) ? Deno.readTextFileSync(file) : "";
  const phases: Record<string, number> = {};
  let lastPhase = "start";
  for (const match of text.matchAll(/^phase ([\d.]+) (\S+)/gm)) {
    lastPhase = match[2] ?? "";
    phases[lastPhase] = Number(match[1]);
  }
  const exit = /^exit (\d+)/m.exec(text)?.[1];
  return { exitCode: exit === undefined ? undefined : Number(exit), lastPhase, phases };
}

async function makeRunFolder(): Promise<string> {
  await Deno.mkdir(PATHS.runs, { recursive: true });
  // Folders of failed runs are kept to be looked at, but not for ever. Names sort by time.
  const old = [...Deno.readDirSync(PATHS.runs)].map((entry) => entry.name).sort();
  for (const name of old.slice(0, -8)) {
    await Deno.remove(`${PATHS.runs}/${name}`, { recursive: true }).catch(() => {});
  }
  return await Deno.makeTempDir({
    dir: PATHS.runs,
    prefix: `${new Date().toISOString().replaceAll(":", "")}-`,
  });
}

const encoder = new TextEncoder();

function writeStdout(text: string): void {
  const bytes = encoder.encode(text);
  for (let offset = 0; offset < bytes.length;) offset += Deno.stdout.writeSync(bytes.subarray(offset));
}
