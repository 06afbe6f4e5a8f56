import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import type { ManagedDevice } from "../../../drivers/management/virtio_management.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { assertNothingLeft, type Holdings, holdings, settledHoldings } from "../../holdings.ts";
import { onlyInFull } from "../../random.ts";
import { testFrame } from "../../unit/virtio/model_net.ts";
import { ManagementHost } from "./management_host.ts";

const OPTIONS = { interrupts: "none", wait: "poll", queueSize: 8 } as const;
const SECTOR = 512;

type Driver = VirtioNet | VirtioBlk | VirtioRng;

/** What so many devices cost, while all of them run. */
interface Cost {
  readonly commands: number;
  readonly allocations: number;
  readonly dmaBytes: number;
  /** Descriptors and mappings of this process, and of the host's. */
  readonly own: number;
  readonly hosts: number;
}

function sum(counts: Holdings): number {
  return Object.values(counts).reduce((all, n) => all + n, 0);
}

/** Creates a device: of each four two are network devices, one is a block device, one an entropy device. */
function create(host: ManagementHost, at: number): Promise<ManagedDevice> {
  return at % 4 < 2 ? host.net() : at % 4 === 2 ? host.blk(8) : host.rng();
}

async function open(host: ManagementHost, { id }: ManagedDevice, at: number): Promise<Driver> {
  const transport = host.management.openTransport(id);
  return at % 4 < 2
    ? await VirtioNet.open(transport, { ...OPTIONS, bufferBytes: 512 })
    : at % 4 === 2
    ? await VirtioBlk.open(transport, OPTIONS)
    : await VirtioRng.open(transport, OPTIONS);
}

/** Uses each of four devices once. */
async function use([one, two, blk, rng]: readonly Driver[], at: number): Promise<void> {
  const [from, to] = [one as VirtioNet, two as VirtioNet];
  const frame = testFrame(60 + at % 100, at);
  frame.set(to.mac);
  frame.set(from.mac, 6);
  assert(from.send(frame));
  assertEquals(await to.receive(10_000), frame);
  const sector = new Uint8Array(SECTOR).fill(at);
  await (blk as VirtioBlk).write(at % 8, sector);
  assertEquals(await (blk as VirtioBlk).read(at % 8, 1), sector);
  assertEquals((await (rng as VirtioRng).read(16)).length, 16);
}

/** Creates so many devices, initialises and uses each, and destroys them all. */
async function live(host: ManagementHost, sysfs: SocketSysfs, count: number): Promise<Cost> {
  const { management, served, function: { device: { dma } } } = host;
  const costs = (): Cost => ({
    commands: management.statistics.sent,
    allocations: dma.usage.allocations,
    dmaBytes: dma.usage.bytes,
    own: sum(holdings("self")),
    hosts: sum(holdings(served.pid)),
  });
  const before = costs();
  const devices = await Promise.all(Array.from({ length: count }, (_, at) => create(host, at)));
  const drivers: Driver[] = [];
  for (const [at, device] of devices.entries()) drivers.push(await open(host, device, at));
  for (let at = 0; at < count; at += 4) await use(drivers.slice(at, at + 4), at);
  const states = sysfs.readText("/ringside/managed").trim().split("\n").map((line) => JSON.parse(line));
  assertEquals([states.length, states.filter(({ status }) => status === 15).length], [count, count]);
  const during = costs();
  for (const driver of drivers) {
    driver.close();
    await driver.settled;
    driver.transport.close();
  }
  await Promise.all(devices.map(({ id }) => management.destroy(id)));
  assertEquals(sysfs.readText("/ringside/managed"), "");
  const cost = Object.fromEntries(
    Object.entries(during).map(([name, n]) => [name, n - before[name as keyof Cost]]),
  );
  return { ...cost, commands: costs().commands - before.commands } as unknown as Cost;
}

/** In one run; what each device costs is the same however many there are. */
async function grow(counts: readonly number[]): Promise<void> {
  const most = Math.max(...counts);
  await using host = await ManagementHost.start({ virtqueues: 2 * most }, {}, [], { alone: true });
  const { management, served } = host;
  using sysfs = new SocketSysfs(`${served.directory}/host.sock`, 20_000);
  await live(host, sysfs, 4);
  const { usage } = host.function.device.dma;
  const atStart = await management.resources();
  const [own, hosts] = [await settledHoldings("self"), await settledHoldings(served.pid)];
  const each: Cost[] = [];
  for (const count of counts) {
    const cost = await live(host, sysfs, count);
    each.push(
      Object.fromEntries(Object.entries(cost).map(([name, n]) => [name, n / count])) as unknown as Cost,
    );
    assertEquals(await management.resources(), atStart);
  }
  for (const cost of each) assertEquals(cost, each[0]!);
  assertEquals(management.statistics.failed, 0);
  assertEquals(host.function.device.dma.usage, usage);
  assertNothingLeft(await settledHoldings("self"), own);
  assertNothingLeft(await settledHoldings(served.pid), hosts, "is left behind in the host");
  assertEquals(await host.stop(), []);
}

Deno.test("4, 12 and 40 managed devices: what each costs is the same, and all of it comes back", () =>
  grow([4, 12, 40]));

Deno.test(
  onlyInFull(
    "100, 300 and 1,000 managed devices: what each costs is the same, and all of it comes back",
    () => grow([100, 300, 1000]),
  ),
);
