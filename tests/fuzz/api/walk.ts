/**
 * A random walk over the public doors, as a process: it may be killed by a signal, or hang, and its parent then says so.
 *
 * Arguments: operations, directory of a served host, directory for files, and `--seed` as the test was given it. Each operation is a line on standard error before it begins. The
 * findings are one line of JSON on standard output.
 */
import { mappingCount, openFdCount, readDirectory, readLink } from "../../../ffi/mod.ts";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import { VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { VirtioManagement } from "../../../drivers/management/virtio_management.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { RingsideError } from "../../../lib/errors/mod.ts";
import type { Host } from "../../../lib/host/mod.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { FEATURE } from "../../../lib/virtio/spec/features.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { Random } from "../../random.ts";
import { type Door, doorsOf, freeDoors, nameOf, publicModules, readMarks } from "./doors.ts";
import { OwnError, shown, Values } from "./values.ts";

/** What the walk found. */
export interface Findings {
  readonly operations: number;
  readonly errors: number;
  /** How often each door threw, or rejected with, something that is no error of this library; with an example. */
  readonly untyped: { door: string; count: number; error: string; values: string; stack: string }[];
  /** Doors that were found, that were used, and that at least once did what they are for. */
  readonly doors: { found: number; used: number; succeeded: number; never: readonly string[] };
  /** Drivers that the walk opened by its own hand, by class; and those of them that did something for it. */
  readonly drivers: Record<string, { opened: number; used: number }>;
  /** Errors of `close`: it lets go of everything, whatever state it is in. */
  readonly closing: string[];
  /** Promises that did not settle though everything was closed. */
  readonly unsettled: string[];
  /** What the descriptors are that were not there before. */
  readonly open: readonly string[];
  readonly leaked: { fds: number; mappings: number };
  /** What was still to be restored. */
  readonly unrestored: string[];
}

const KEPT_OF_A_CLASS = 4;

const [operations = "1000", hostDirectory = "", directory = ""] = Deno.args;
const chance = new Random(1);
const stock = new Map<string, object[]>();
const closable: object[] = [];
const pending = new Map<Promise<unknown>, string>();
const untyped = new Map<string, Findings["untyped"][number]>();
let errors = 0;
const drivers: Findings["drivers"] = {};
/** Drivers of the walk's own that did nothing yet. */
const idle = new WeakSet<object>();
const doors = { found: new Set<string>(), used: new Set<string>(), succeeded: new Set<string>() };
const closing = new Set<string>();
let current = "";
let before = { fds: 0, mappings: 0, files: [] as string[] };

/** Descriptors, by what they are. */
function heldFiles(): string[] {
  return readDirectory("/proc/self/fd").flatMap(({ name }) => {
    try {
      return [`${name} ${readLink(`/proc/self/fd/${name}`)}`];
    } catch {
      return [];
    }
  });
}

const values = new Values(chance, {
  pick: (pattern) => {
    const names = [...stock.keys()].filter((name) => pattern?.test(name) ?? true);
    if (names.length === 0) return undefined;
    const list = stock.get(names[chance.below(names.length)]!)!;
    return list[chance.below(list.length)];
  },
  keep: (one) => (collect(one), one),
}, directory);

/** An object comes in: it is used from now on, and closed in the end. What it is one too many for goes at once. */
function collect(value: unknown, depth = 0): void {
  if (typeof value !== "object" || value === null || depth > 2) return;
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer || value instanceof Promise) return;
  if (value instanceof Error || values.spoilt.has(value)) return;
  if (Array.isArray(value) || value instanceof Map || value instanceof Set) {
    let left = 4;
    for (const one of value instanceof Map ? value.values() : value) {
      if (left-- === 0) break;
      collect(one, depth + 1);
    }
    return;
  }
  const plain = Object.getPrototypeOf(value) === Object.prototype;
  if (plain) { for (const one of Object.values(value).slice(0, 8)) collect(one, depth + 1); }
  const label = plain ? `{${Object.keys(value).slice(0, 6).join(",")}}` : nameOf(value);
  const found = doorsOf(value);
  if (found.length === 0) return;
  for (const { label } of found) doors.found.add(label);
  let list = stock.get(label);
  if (list === undefined) stock.set(label, list = []);
  if (list.includes(value)) return;
  if (list.push(value) > KEPT_OF_A_CLASS) list.shift();
  if (isClosable(value) && !closable.includes(value)) {
    closable.push(value);
    // Others use the machine, too.
    if ((value as { sizeBytes?: unknown }).sizeBytes as number > 1 << 28) return close(closable.pop()!);
    if (closable.length > 400) close(closable.shift()!);
  }
}

type Closable = { close?(): unknown; [Symbol.dispose]?(): void };

function isClosable(value: object): value is Closable {
  const one = value as Closable;
  return typeof one.close === "function" || typeof one[Symbol.dispose] === "function";
}

function close(one: object): void {
  const target = one as Closable;
  run(`${nameOf(one)}#close`, () => {
    try {
      return target[Symbol.dispose] === undefined ? target.close!() : target[Symbol.dispose]!();
    } catch (error) {
      if (!(error instanceof OwnError)) closing.add(`${nameOf(one)}: ${(error as Error).stack}`);
      throw error;
    }
  });
}

/** A door did what it is for. */
function succeed(label: string, target: object | undefined): void {
  doors.succeeded.add(label);
  if (target === undefined || /^[gs]et |#close|dispose/.test(label) || !idle.delete(target)) return;
  drivers[nameOf(target)]!.used++;
}

/** Does one thing, and judges what comes of it. */
function run(label: string, action: () => unknown, given: readonly unknown[] = [], target?: object): unknown {
  current = label;
  let result: unknown;
  try {
    result = action();
  } catch (error) {
    judge(label, error, given);
    return undefined;
  }
  follow(label, result, given, target);
  return result;
}

/** What comes of a result, at once or when its promise settles. */
function follow(label: string, result: unknown, given: readonly unknown[], target?: object): void {
  try {
    lookAt(label, result, given, target);
  } catch {
    // One of the walk's own values came back, and would not be looked at.
  }
}

function lookAt(label: string, result: unknown, given: readonly unknown[], target?: object): void {
  if (result instanceof Promise) {
    const done = result.then(
      (value) => follow(label, value, given, target),
      (error) => judge(label, error, given),
    )
      .finally(() => pending.delete(done));
    pending.set(done, `${label}(${given.map(shown).join(", ")})`);
  } else if (isGenerator(result)) {
    const generator = result;
    run(`${label}().next`, () => generator.next(), given);
    run(`${label}().return`, () => generator.return(undefined), given);
  } else {
    succeed(label, target);
    collect(result);
  }
}

function isGenerator(value: unknown): value is AsyncGenerator {
  return typeof value === "object" && value !== null &&
    Object.prototype.toString.call(value) === "[object AsyncGenerator]";
}

/** A class of the walk's own, given for a function: the language itself refuses the call, and nothing sees that before. */
function isOwnClass(error: unknown): boolean {
  return error instanceof TypeError && error.message.startsWith("Class constructor Odd");
}

function judge(label: string, error: unknown, given: readonly unknown[]): void {
  errors++;
  if (error instanceof OwnError || isOwnClass(error)) return;
  if (error instanceof RingsideError && error.message.trim() !== "") return;
  const stack = error instanceof Error ? error.stack ?? "" : "";
  const places = stack.split("\n").filter((line) =>
    line.includes("file://") && !line.includes("/tests/fuzz/")
  );
  const key = `${label} ${places[0] ?? ""}`;
  const found = untyped.get(key);
  if (found !== undefined) {
    found.count++;
    return;
  }
  untyped.set(key, {
    door: label,
    count: 1,
    error: error instanceof Error ? `${error.name}: ${error.message.slice(0, 120)}` : shown(error),
    values: given.map(shown).join(", ").slice(0, 300),
    stack: places.slice(0, 3).map((line) =>
      line.replace(/^.*file:\/\/[^)]*?\/((?:lib|drivers|ffi|tests)\/[^)]*)\)?$/, "$1")
    )
      .join(" < "),
  });
}

addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  if (!(event.reason instanceof OwnError)) judge(`unhandled, after ${current}`, event.reason, []);
});
addEventListener("error", (event) => {
  event.preventDefault();
  if (!(event.error instanceof OwnError)) judge(`uncaught, after ${current}`, event.error, []);
});

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

let host: Host | undefined;
const DRIVERS = [
  VirtioNet,
  VirtioNet,
  VirtioNet,
  VirtioRng,
  VirtioBlk,
  VirtioConsole,
  VirtioIsm,
  VirtioIsm,
  VirtioManagement,
] as const;
const ADDRESSES = [
  "01:00.0",
  "01:00.1",
  "01:00.2",
  "02:00.0",
  "03:00.0",
  "04:00.0",
  "05:00.0",
  "06:00.0",
  "07:00.0",
] as const;
/** Which of them is the management function; it gets devices of these types. */
const MANAGEMENT = 8;
const MANAGED = [VirtioNet, VirtioRng] as const;
const MANAGED_TYPES = [1, 4] as const;
const live: (Disposable[])[] = ADDRESSES.map(() => []);

/** Opens a function and drives it, when nobody does: the walk closes whatever it meets. */
async function revive(at: number): Promise<void> {
  for (const one of live[at]!.splice(0).reverse()) close(one);
  try {
    host = EmulatedHost.connect(hostDirectory);
    collect(host);
    const address = ADDRESSES[at]!;
    if (at === 1 && host.describe(ADDRESSES[0]).sriov?.numVfs === 0) host.setVfCount(ADDRESSES[0], 2);
    if (host.describe(address).driver !== "vfio-pci") host.bind(address);
    const device = host.open(address);
    live[at]!.push(device);
    const transport = PciModernTransport.open(device, at === MANAGEMENT ? { profile: "transport-vq" } : {});
    live[at]!.push(transport);
    const options = at === 0
      ? { admin: true }
      : at === MANAGEMENT
      ? { function: device, timeoutMs: 500 }
      : {};
    const driver = await DRIVERS[at]!.open(transport, options as never);
    opened(at, driver);
    if (driver instanceof VirtioManagement) await reviveManaged(driver);
    for (const one of live[at]!) collect(one);
  } catch (error) {
    if (!(error instanceof RingsideError)) judge("revive", error, []);
  }
}

function opened(at: number, driver: Disposable): void {
  live[at]!.push(driver);
  (drivers[nameOf(driver)] ??= { opened: 0, used: 0 }).opened++;
  idle.add(driver);
}

/** Devices of a management device, each with its driver. */
async function reviveManaged(management: VirtioManagement): Promise<void> {
  for (const [i, Driver] of MANAGED.entries()) {
    const { id } = await management.create({ type: MANAGED_TYPES[i]!, features: FEATURE.VERSION_1 });
    const transport = management.openTransport(id);
    live[MANAGEMENT]!.push(transport);
    opened(MANAGEMENT, await Driver.open(transport));
  }
}

async function walk(free: readonly Door[]): Promise<void> {
  for (const { label } of free) doors.found.add(label);
  const encoder = new TextEncoder();
  const cycle = { at: 0 };
  for (let i = 0; i < Number(operations); i++) {
    if (i % 100 === 0) await revive(cycle.at++ % ADDRESSES.length);
    if (i % 16 === 0) await turn();
    let target: object | undefined;
    let door: Door;
    if (chance.below(6) === 0) {
      door = free[chance.below(free.length)]!;
    } else {
      const names = [...stock.keys()];
      const list = stock.get(names[chance.below(names.length)]!)!;
      target = list[chance.below(list.length)]!;
      const own = doorsOf(target);
      door = own[chance.below(own.length)]!;
      if (/close|dispose|abort/i.test(door.label) && chance.below(4) !== 0) continue;
    }
    // Whoever calls a method with another's `this` gets what the language gives.
    const blocks = /Blocking|Now$|#reset|#resetQueue|#wait/.test(door.label);
    const given = values.list(door.parameters, !blocks);
    // Nobody else would end it.
    if (door.label === "serveEmulatedHost") stopSoon(given[0]);
    Deno.stderr.writeSync(encoder.encode(`${i} ${door.label}(${given.map(shown).join(", ")})\n`));
    doors.used.add(door.label);
    run(door.label, () => door.use(target, given), given, target);
  }
  closeAll();
  for (const list of live) for (const one of list.splice(0).reverse()) close(one);
  await finish();
}

function stopSoon(options: unknown): void {
  try {
    (options as { signal?: unknown }).signal ??= AbortSignal.timeout(50);
  } catch {
    // None of its options.
  }
}

function closeAll(): void {
  for (const one of closable.splice(0).reverse()) close(one);
}

async function finish(): Promise<void> {
  stock.clear();
  for (let i = 0; i < 500 && pending.size > 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    // What was being opened is there by now.
    closeAll();
  }
  // Whatever sleeps on another thread is closed when it is out; what leaks stays.
  for (let i = 0; i < 500 && openFdCount() > before.fds; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const unrestored: string[] = [];
  {
    using last = EmulatedHost.connect(hostDirectory);
    last.restore();
    for (const entry of last.journal()) unrestored.push(JSON.stringify(entry));
  }
  const findings: Findings = {
    open: heldFiles().filter((one) => !before.files.includes(one)),
    operations: Number(operations),
    errors,
    untyped: [...untyped.values()].sort((a, b) => b.count - a.count),
    doors: {
      found: doors.found.size,
      used: doors.used.size,
      succeeded: doors.succeeded.size,
      never: [...doors.found].filter((label) => !doors.succeeded.has(label)).sort(),
    },
    drivers,
    closing: [...closing],
    unsettled: [...pending.values()],
    leaked: { fds: openFdCount() - before.fds, mappings: mappingCount().mappings - before.mappings },
    unrestored,
  };
  console.log(JSON.stringify(findings));
  Deno.exit(0);
}

async function main(): Promise<void> {
  readMarks();
  // The first import at run time, and the first function that is driven, make descriptors of the runtime's own: a pair of sockets, and more.
  const free = freeDoors(await publicModules());
  // So does the first listener for a signal.
  const deaf = () => {};
  Deno.addSignalListener("SIGUSR2", deaf);
  Deno.removeSignalListener("SIGUSR2", deaf);
  await revive(0);
  for (const one of live[0]!.splice(0).reverse()) close(one);
  closeAll();
  await turn();
  before = { fds: openFdCount(), mappings: mappingCount().mappings, files: heldFiles() };
  await walk(free);
}

main().catch((error) => {
  console.error(error);
  Deno.exit(2);
});
