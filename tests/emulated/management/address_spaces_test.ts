/** Managed devices whose queues are in address spaces of their own (N-4.18). */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { VirtioDevice } from "../../../lib/virtio/device.ts";
import { STATUS } from "../../../lib/virtio/spec/status.ts";
import { Random } from "../../random.ts";
import { Traffic } from "../migration/traffic.ts";
import { ManagementHost } from "./management_host.ts";

const SECTOR = 512;
const PAGE = 4096;

/** What a device does with its queues: net to net, frames both ways. */
async function exchange(from: VirtioNet, to: VirtioNet): Promise<void> {
  const traffic = await new Traffic(to.mac, from.mac, 7).exchange(from, to, 200);
  assertEquals(traffic.received, traffic.sent);
}

for (const layout of ["aligned", "packed"] as const) {
  Deno.test(`N-4.18: net and blk in address spaces 1 and 2, at the same IOVAs, with other memory behind them: ${layout} payloads`, async () => {
    const before = [openFdCount(), mappingCount().mappings];
    {
      await using host = await ManagementHost.start({ layout }, { layout });
      const { dma } = host.function.device;
      const atStart = dma.usage;
      const nets: VirtioNet[] = [], blks: VirtioBlk[] = [], areas: string[][] = [];
      for (const addressSpace of [1, 2]) {
        const net = host.transport(await host.net(), { addressSpace });
        const blk = host.transport(await host.blk(64), { addressSpace });
        assert(net.dma === blk.dma && net.dma === host.management.addressSpace(addressSpace));
        nets.push(host.use(await VirtioNet.open(net)));
        blks.push(host.use(await VirtioBlk.open(blk)));
        areas.push([net, net, net, blk].map((one, at) => one.queueView(at % 3).descriptorArea));
      }
      assertEquals(areas[0], areas[1], "the same addresses");
      assertEquals(new Set(areas[0]).size, 4);
      assertEquals(dma.usage, atStart, "nothing of it in address space 0");
      await Promise.all([exchange(nets[0]!, nets[1]!), exchange(nets[1]!, nets[0]!)]);
      const random = new Random(3);
      const written = blks.map(() => random.bytes(64 * SECTOR));
      await Promise.all(blks.map((blk, at) => blk.write(0, written[at]!)));
      const read = await Promise.all(blks.map((blk) => blk.read(0, 64)));
      assertEquals(read.map((bytes) => bytes.toHex()), written.map((bytes) => bytes.toHex()));
      // Driven again, after a reset that led its queues back to address space 0.
      nets[0]!.close();
      const again = host.use(await VirtioNet.open(nets[0]!.transport));
      await exchange(again, nets[1]!);
      assertEquals(host.management.statistics.failed, 0);
      assertEquals(await host.stop(), []);
    }
    assertEquals([openFdCount(), mappingCount().mappings], before);
  });
}

Deno.test("N-4.18: a buffer of address space 0 is not there for a queue in address space 1: a violation with device, queue, address space and IOVA", async () => {
  await using host = await ManagementHost.start();
  const { device: fn } = host.function;
  const managed = await host.rng();
  const other = host.use(await VirtioRng.open(host.transport(await host.rng(), { addressSpace: 2 })));
  const transport = host.transport(managed, { addressSpace: 1 });
  using device = new VirtioDevice(transport);
  device.negotiate();
  using queue = device.createQueue(0);
  device.driverOk();
  // Far from what the queue has in its own space.
  using memory = fn.dma.allocate(1 << 20, { huge: "never" });
  const at = memory.iova + BigInt(memory.sizeBytes - PAGE);
  queue.addSingle(Number(at & 0xffff_ffffn), Number(at >> 32n), 64, true);
  queue.flush();
  for (let i = 0; i < 2000 && (transport.readStatus() & STATUS.deviceNeedsReset) === 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assertEquals(transport.readStatus() & STATUS.deviceNeedsReset, STATUS.deviceNeedsReset);
  assert(memory.bytes().every((byte) => byte === 0));
  assertEquals((await other.read(64)).length, 64, "the device beside it goes on");
  const [violation, ...more] = await host.stop();
  assertEquals([violation?.function, violation?.queue, violation?.rule, more], [
    managed.name,
    0,
    "N-4.18",
    [],
  ]);
  assert(violation!.message.startsWith("address space 1: "), violation!.message);
  assert(violation!.message.includes(`0x${at.toString(16)}`), violation!.message);
});

Deno.test("a reset of the function ends its address spaces, not its own memory; they can be had again", async () => {
  await using host = await ManagementHost.start();
  const { device: fn } = host.function;
  using kept = fn.dma.allocate(PAGE);
  const space = host.management.addressSpace(1);
  const memory = space.allocate(PAGE);
  assertEquals(memory.iova, space.allocate(PAGE).iova - BigInt(PAGE));
  fn.reset();
  assertEquals([space.closed, memory.closed, kept.closed], [true, true, false]);
  assertThrows(() => space.allocate(PAGE), ClosedError);
  const again = fn.addressSpace!(1);
  using after = again.allocate(PAGE);
  assertEquals(after.iova, memory.iova, "the server has nothing there any more");
});

Deno.test("address spaces that are not there: refused with function and reason, before anything is sent", async () => {
  {
    await using host = await ManagementHost.start({ addressSpaces: 2 });
    const device = await host.rng();
    const { id } = device;
    for (const addressSpace of [3, -1, 1.5]) {
      assertThrows(
        () => host.management.openTransport(id, { addressSpace }),
        UsageError,
        `${host.function.device.name}: address space ${addressSpace} is not one of the server's, 1 to 2`,
      );
    }
    const last = host.use(await VirtioRng.open(host.transport(device, { addressSpace: 2 })));
    assertEquals((await last.read(16)).length, 16);
    assertEquals(await host.stop(), []);
  }
  await using host = await ManagementHost.start({ addressSpaces: 0 });
  const { id } = await host.rng();
  assertThrows(
    () => host.management.openTransport(id, { addressSpace: 1 }),
    UnsupportedError,
    `${host.function.device.name} has no address space 1 beside 0: its server offers none`,
  );
  const plain = host.use(await VirtioRng.open(host.management.openTransport(id)));
  assertEquals((await plain.read(16)).length, 16);
});
