import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { Random } from "../../random.ts";
import { Traffic } from "../migration/traffic.ts";
import { ManagementHost } from "./management_host.ts";

const PF = "0000:01:00.0";
const SECTOR = 512;
/** Of one direction of one pair. */
const FRAMES = 40;
const DEVICES = 8;
const DISK_SECTORS = 1024;
/** Of one request. */
const PIECE_SECTORS = 32;

async function hash(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** The whole disk, written by many requests at once, and what is read back by as many. */
async function fillDisk(blk: VirtioBlk, seed: number): Promise<[string, string]> {
  const bytes = new Random(seed).bytes(DISK_SECTORS * SECTOR), back = new Uint8Array(bytes.length);
  const pieces = Array.from({ length: DISK_SECTORS / PIECE_SECTORS }, (_, at) => at * PIECE_SECTORS);
  await Promise.all(
    pieces.map((at) => blk.write(at, bytes.subarray(at * SECTOR, (at + PIECE_SECTORS) * SECTOR))),
  );
  await blk.flush();
  await Promise.all(pieces.map(async (at) => back.set(await blk.read(at, PIECE_SECTORS), at * SECTOR)));
  return [await hash(bytes), await hash(back)];
}

for (
  const { layout, ...options } of [
    { interrupts: "none", wait: "poll", packed: false, layout: "packed" },
    { interrupts: "msix", wait: "adaptive", packed: true, layout: "aligned" },
  ] as const
) {
  const how = `${
    options.interrupts === "none" ? "polling, split rings" : "MSI, packed rings"
  }, payloads ${layout}`;
  Deno.test(`eight managed network devices, each with each, and a block device at once, and a VF on the same switch: ${how}`, async () => {
    const before = [openFdCount(), mappingCount().mappings];
    {
      await using host = await ManagementHost.start(
        { virtqueues: 64, layout },
        { interrupts: options.interrupts, layout },
        [{ address: PF, kind: "virtio-net", totalVfs: 1, switch: "s0" }],
      );
      const { management, served } = host;
      const atStart = await management.resources();
      // The VF, by PCI.
      served.host.bind(PF);
      const [vf] = served.host.setVfCount(PF, 1) as [string];
      const reached = host.use(served.reach(vf));
      const pci = host.use(await VirtioNet.open(reached.transport, options));
      // Created and brought up side by side.
      const nets = await Promise.all(
        Array.from(
          { length: DEVICES },
          async () => host.use(await VirtioNet.open(host.transport(await host.net()), options)),
        ),
      );
      const blk = host.use(await VirtioBlk.open(host.transport(await host.blk(DISK_SECTORS)), options));
      const all = [...nets, pci];
      assertEquals(new Set(all.map(({ macText }) => macText)).size, DEVICES + 1);
      for (const { transport, featureNames } of [...all, blk]) {
        assertEquals(transport.kind, transport === reached.transport ? "pci-modern" : "transport-vq");
        assertEquals(featureNames.includes("VIRTIO_F_RING_PACKED"), options.packed);
      }
      const left = await management.resources();
      assertEquals(atStart.queues - left.queues, DEVICES * 3 + 1);

      // Nine in a ring, all at once, each to its next, then to the one after it, …: in the end each to each. And blocks meanwhile.
      const blocks = fillDisk(blk, 1);
      const flows: Traffic[] = [];
      for (let step = 1; step < all.length; step++) {
        flows.push(
          ...await Promise.all(
            all.map((net, at) => {
              const to = all[(at + step) % all.length]!;
              return new Traffic(to.mac, net.mac, 100 * step + at).exchange(net, to, FRAMES);
            }),
          ),
        );
      }
      assertEquals(flows.length, all.length * (all.length - 1));
      for (const { sent, received } of flows) {
        assertEquals(received, sent);
        assert(sent.frames >= FRAMES);
      }
      const [written, read] = await blocks;
      assertEquals(read, written);
      // A broadcast reaches all others, over whatever they are driven by.
      const broadcast = Uint8Array.of(
        ...new Uint8Array(6).fill(0xff),
        ...nets[0]!.mac,
        ...new Uint8Array(60),
      );
      assert(nets[0]!.send(broadcast));
      for (const net of all.slice(1)) assertEquals(await net.receive(5000), broadcast);
      if (options.interrupts === "msix") {
        for (const one of [...all, blk]) {
          assert(one.interrupts > 0, `${one.transport.name} had no interrupt`);
        }
      }
      assertEquals(management.statistics.failed, 0);

      for (const device of management.devices) await management.destroy(device.id);
      assertEquals(await management.resources(), atStart);
      assertEquals(await host.stop(), []);
    }
    assertEquals([openFdCount(), mappingCount().mappings], before);
  });
}
