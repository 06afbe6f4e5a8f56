/**
 * In the guest: functions in use, by commands and by this process, that are unbound or unplugged under their users.
 * Started by
 * `removal_in_guest_test.ts` with one `RemovalTask` in JSON.
 */
import { main } from "../../../cli/main.ts";
import { LinuxHost } from "../../../lib/host/linux_host.ts";
import type { VfioPciDevice } from "../../../lib/vfio/mod.ts";
import { requirePciDevice } from "../../../lib/vfio/mod.ts";
import { functions, ID, type KernelPath } from "../guest_host.ts";
import { report } from "./job_guest.ts";

/** What to do. */
export interface RemovalTask {
  /** Of each disk. */
  readonly sectors: number;
  readonly rounds: readonly RemovalRound[];
}

/** Each set of functions is opened by a path, then taken away. */
export interface RemovalRound {
  readonly way: "unbind" | "device_del";
  /** By set. */
  readonly paths: readonly KernelPath[];
}

/** How a function went. */
export interface RemovedFunction {
  readonly user: string;
  readonly path: KernelPath;
  readonly address: string;
  /** How long the kernel was kept waiting, in seconds of the guest's clock. Of a VF undefined: it goes while its PF goes. */
  readonly waited?: number;
  /** Of a command. */
  readonly code?: number;
  /** What the command, or the function's lifeline, said. */
  readonly said: string;
}

/** All is in use: functions may be unplugged. */
export interface InUseReport {
  readonly inUse: RemovalRound["way"];
}

/** After a round. */
export interface RoundReport {
  readonly way: RemovalRound["way"];
  readonly removed: readonly RemovedFunction[];
  /** What `restore` could not put back, a line each. */
  readonly failed: readonly string[];
  /** Functions with entries in the journal, after those of the functions that are gone were forgotten. */
  readonly kept: readonly string[];
  /** Drivers of the functions after it; null for those that are gone. */
  readonly drivers: readonly (string | null)[];
  /** The kernel waited for somebody who could not be told. */
  readonly silent: readonly string[];
}

const PCI = "/sys/bus/pci/devices";
const TOKEN = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
const LOOK_MS = 20;

/** One set of the guest's functions. */
interface FunctionSet {
  readonly nets: readonly string[];
  readonly blk: string;
  readonly sectors: number;
  readonly rng: string;
  readonly pf: string;
}

interface User {
  readonly name: string;
  readonly path: KernelPath;
  readonly address: string;
  readonly ended: Promise<{ readonly code?: number; readonly said: string }>;
}

const now = (): number => Number(Deno.readTextFileSync("/proc/uptime").split(" ")[0]);

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function until(come: () => boolean): Promise<void> {
  while (!come()) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
}

/** Its interrupts are on, which is the last step of a driver. */
function isDriven(address: string): boolean {
  return Deno.readTextFileSync("/proc/interrupts").includes(`(${address})`);
}

/**
 * A command that would go on for hours, in this process, which does not end with it: so what the kernel waits for is that the command lets go. Resolves
 * when it drives its function, or has ended.
 */
async function command(name: string, address: string, path: KernelPath, args: string[]): Promise<User> {
  let said = "", over = false;
  const output = { out: (text: string) => said += text, err: (text: string) => said += text };
  const ended = main([...args, "--path", path], output).then((code) => {
    over = true;
    return { code, said };
  });
  await until(() => over || isDriven(address));
  return { name, path, address, ended };
}

/** A PF with a VF, both open in this process, which lets go of each when it is asked and does not end. */
function holdPf(host: LinuxHost, pf: string, path: KernelPath): User[] {
  const opened = (address: string): VfioPciDevice =>
    requirePciDevice(host.open(address, { path, vfToken: TOKEN }), "interrupts");
  const owner = opened(pf);
  const [vf = ""] = host.setVfCount(pf, 1);
  host.bind(vf);
  return [["a held PF", pf, owner] as const, ["a held VF", vf, opened(vf)] as const].map(
    ([name, address, device]) => ({
      name,
      path,
      address,
      ended: new Promise((resolve) => {
        device.onRemovalRequested(() => {
          const reason = device.lifeline!.reason();
          device.close();
          resolve({ said: `${reason.name}: ${reason.message}` });
        });
      }),
    }),
  );
}

async function use(host: LinuxHost, set: FunctionSet, path: KernelPath, index: number): Promise<User[]> {
  const { nets: [from = "", to = ""], blk, sectors, rng, pf } = set;
  host.bind([from, to, blk, rng, pf]);
  const commands = await Promise.all([
    // The one that sends, and the one that receives.
    command("net loop", index === 0 ? from : to, path, ["net", "loop", from, to, "--count", "1000000000"]),
    command("blk", blk, path, ["blk", "read", blk, "0", String(sectors), "-o", "/dev/null"]),
    command("rng", rng, path, ["rng", rng, "1000000000", "-o", "/dev/null"]),
  ]);
  return [...commands, ...holdPf(host, pf, path)];
}

/** Unbinds a function. @returns how long the write took */
async function unbind(address: string): Promise<number> {
  const script =
    `read from x < /proc/uptime; echo ${address} > ${PCI}/${address}/driver/unbind; read to x < /proc/uptime; echo $from $to`;
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  const [from = NaN, to = NaN] = new TextDecoder().decode(stdout).trim().split(" ").map(Number);
  return to - from;
}

/** Waits until a function is gone. @returns from when VFIO let nobody open it any more */
async function unplugged(address: string): Promise<number> {
  await until(() => !exists(`${PCI}/${address}/vfio-dev`));
  const from = now();
  await until(() => !exists(`${PCI}/${address}`));
  return now() - from;
}

async function round(
  host: LinuxHost,
  sets: readonly FunctionSet[],
  task: RemovalRound,
): Promise<RoundReport> {
  const { way, paths } = task;
  const users = (await Promise.all(paths.map((path, index) => use(host, sets[index]!, path, index)))).flat();
  report({ inUse: way } satisfies InUseReport);
  const isOf = (address: string, pf: string) => address.slice(0, -1) === pf.slice(0, -1);
  const pfs = sets.map((set) => set.pf);
  const removed = await Promise.all(users.map(async (user): Promise<RemovedFunction> => {
    const { name, path, address, ended } = user;
    // A VF goes when its PF goes.
    const isVf = !pfs.includes(address) && pfs.some((pf) => isOf(address, pf));
    if (isVf) await until(() => !exists(`${PCI}/${address}`));
    const waited = isVf ? undefined : await (way === "unbind" ? unbind(address) : unplugged(address));
    return { user: name, path, address, ...(waited === undefined ? {} : { waited }), ...await ended };
  }));
  const failed = host.restore().failed.map(({ entry, error }) => `${entry.function}: ${error.message}`);
  const gone = [...new Set(failed.map((line) => line.split(" ")[0]!.slice(0, -1)))];
  if (gone.length > 0) host.restore(gone, { forget: true });
  const { stdout } = new Deno.Command("dmesg").outputSync();
  const drivers = sets.flatMap(({ nets, blk, rng, pf }) => [...nets, blk, rng, pf]).map((address) =>
    exists(`${PCI}/${address}`) ? host.describe(address).driver ?? "" : null
  );
  return {
    way,
    removed,
    failed,
    kept: host.journal().map((entry) => entry.function),
    drivers,
    silent: new TextDecoder().decode(stdout).split("\n").filter((line) =>
      /No device request channel|blocked until released/.test(line)
    ),
  };
}

if (import.meta.main) {
  const { rounds, sectors } = JSON.parse(Deno.args[0]!) as RemovalTask;
  using host = new LinuxHost();
  const nets = functions(ID.net), blks = functions(ID.blk), rngs = functions(ID.rng), pfs = functions(ID.igb);
  const sets = pfs.map((pf, i): FunctionSet => ({
    pf,
    nets: nets.slice(2 * i, 2 * i + 2),
    blk: blks[i]!,
    sectors,
    rng: rngs[i]!,
  }));
  for (const task of rounds) report(await round(host, sets, task));
}
