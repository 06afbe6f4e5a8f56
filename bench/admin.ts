/**
 * Administration commands: how many a second, what an access to a legacy register costs by command, and what a command leaves on the heap; over two
 * processes. The same register block of the same VF is read by plain accesses in turn with them.
 *
 * @module
 */
import type { VirtioAdmin, VirtioAdminOptions } from "../drivers/admin/virtio_admin.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { LEGACY_CFG, openTransport, type VirtioTransport } from "../lib/virtio/mod.ts";
import { ADMIN_QUEUES, useGroup } from "./admin_group.ts";
import { benchAdminVfs } from "./admin_vfs.ts";
import { type BenchRun, inFlight, perSecond } from "./bench_run.ts";
import { allocatedBytes, objectBytes } from "./heap.ts";
import { beside } from "./in_turn.ts";
import { compare, type Figure, samples, type Section, single } from "./report.ts";

/** Commands in flight, each to a VF of its own: those to one VF wait for each other. */
const DEPTH = 16;
const PLAIN = "plain register read";

interface Way {
  readonly name: string;
  readonly options: VirtioAdminOptions;
  /** Commands in flight; 0: synchronous. */
  readonly depth: number;
}

const INTERRUPTS = { interrupts: "msix", wait: "adaptive", adminQueues: 1 } as const;
const POLLING = { interrupts: "none", wait: "poll", adminQueues: 1 } as const;
const WAYS: readonly Way[] = [
  { name: "synchronous, one by one", options: INTERRUPTS, depth: 0 },
  { name: "depth 1, interrupts", options: INTERRUPTS, depth: 1 },
  { name: "depth 1, polling", options: POLLING, depth: 1 },
  { name: `depth ${DEPTH}, interrupts`, options: INTERRUPTS, depth: DEPTH },
  { name: `depth ${DEPTH}, polling`, options: POLLING, depth: DEPTH },
  {
    name: `depth ${DEPTH}, polling, ${ADMIN_QUEUES} queues`,
    options: { ...POLLING, adminQueues: ADMIN_QUEUES },
    depth: DEPTH,
  },
];

/** Measures commands, and what a thousand VFs take. */
export async function benchAdmin(run: BenchRun): Promise<Section[]> {
  return [...await benchCommands(run), await benchAdminVfs(run)];
}

async function benchCommands(run: BenchRun): Promise<Section[]> {
  await using stack = new AsyncDisposableStack();
  const { host, vfs, open } = await useGroup(stack, run, DEPTH);
  // The VF is driven by nobody: its features can be read both ways.
  const vf = stack.use(openTransport(stack.use(host.open(vfs[0]!))));
  const count = run.pick(5000, 1000);
  const rates: Figure[] = [], heap: Figure[] = [];
  const small = single("bytes", await objectBytes(run, count) / count);
  let access: Section | undefined;
  for (const { name, options, depth } of WAYS) {
    await using admin = await open(options);
    const work = (commands: number) =>
      depth === 0 ? synchronous(admin, commands) : asynchronous(admin, commands, depth);
    await work(run.pick(2 * count, count));
    const works = {
      commands: () => perSecond(count, () => work(count)),
      [PLAIN]: () => perSecond(count, () => reads(vf, count)),
    };
    rates.push(await beside(run, name, "per second", works, { count: run.pick(5, 3), warmUps: 0 }));
    const bytes = single("bytes", await allocatedBytes(run, () => work(count)) / count);
    heap.push({ name, value: bytes, beside: [compare(bytes, "a small object", small)] });
    if (depth === 0) access = await benchAccess(run, admin, vf);
  }
  return [
    {
      title: "Administration commands per second, over two processes (driver | emulated host)",
      figures: rates,
      notes: [
        "a command reads 4 bytes of a VF's legacy registers",
        `${PLAIN}: 4 bytes of the modern registers of such a VF by region access, a round trip on a socket`,
        `depth ${DEPTH}: to ${DEPTH} VFs at once, since commands to one VF keep their order`,
      ],
    },
    access!,
    {
      title: "Heap bytes that a command allocates",
      figures: heap,
      notes: [`over ${count} commands; no collection in between`],
    },
  ];
}

/** Access by access, in turn. */
async function benchAccess(run: BenchRun, admin: VirtioAdmin, vf: VirtioTransport): Promise<Section> {
  const { legacy } = admin.member(0);
  const { device_features, device_status } = LEGACY_CFG;
  const kinds = {
    "read, 4 bytes, by command": () => legacy.readCommon(device_features.offset, 4),
    "read, 1 byte, by command": () => legacy.readCommon(device_status.offset, 1),
    "write, 2 bytes, by command": () => legacy.writeCommon(LEGACY_CFG.queue_select.offset, 2, 0),
    plain: () => vf.readConfig(0, 4),
  };
  const names = Object.keys(kinds) as (keyof typeof kinds)[];
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<
    keyof typeof kinds,
    number[]
  >;
  for (let i = 0; i < run.pick(10_000, 500); i++) {
    for (const name of names) {
      const start = performance.now();
      kinds[name]();
      times[name].push((performance.now() - start) * 1000);
    }
    if (i % 1000 === 999) await run.turn();
  }
  const plain = samples("microseconds", times.plain);
  return {
    title: "An access to a legacy register by command, beside a plain register access",
    figures: names.filter((name) => name !== "plain").map((name): Figure => {
      const value = samples("microseconds", times[name]);
      return { name, value, beside: [compare(value, PLAIN, plain)] };
    }),
    notes: [
      "in turn, synchronous, in one thread; neither the command nor the plain access is hardware: behind kernel VFIO a plain access is a mapped load",
    ],
  };
}

function synchronous(admin: VirtioAdmin, count: number): Promise<void> {
  const { legacy } = admin.member(0);
  const { offset, width } = LEGACY_CFG.device_features;
  for (let i = 0; i < count; i++) check(legacy.readCommon(offset, width));
  return Promise.resolve();
}

function asynchronous(admin: VirtioAdmin, count: number, depth: number): Promise<void> {
  const { offset, width } = LEGACY_CFG.device_features;
  return inFlight(
    count,
    depth,
    async (vf) => check(await admin.member(vf).legacyAsync.readCommon(offset, width)),
  );
}

function reads(vf: VirtioTransport, count: number): Promise<void> {
  for (let i = 0; i < count; i++) check(vf.readConfig(0, 4));
  return Promise.resolve();
}

function check(value: number): void {
  if (value === 0) throw new DeviceError("a register that is not 0 reads 0");
}
