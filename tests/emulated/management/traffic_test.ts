import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { Random } from "../../random.ts";
import { Traffic } from "../migration/traffic.ts";
import { ManagementHost } from "./management_host.ts";

const PF = "0000:01:00.0";
const SECTOR = 512;
const FRAMES = 300;

async function hash(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Frames from one to the other, as many as may be on the way at a time. */
async function exchange(from: VirtioNet, to: VirtioNet, seed: number): Promise<Traffic> {
  const traffic = new Traffic(to.mac, from.mac, seed);
  while (traffic.sent.frames < FRAMES) {
    // An embedded switch drops what it cannot deliver.
    if (traffic.sent.frames - traffic.received.frames < 32) traffic.send(from, 16);
    if (traffic.receive(to) === 0) await to.waitReceive(5);
  }
  await traffic.drain(to);
  return traffic;
}

/** Random sectors, written by many requests at once, and what is read back. */
async function copy(blk: VirtioBlk, seed: number): Promise<[string, string]> {
  const bytes = new Random(seed).bytes(256 * SECTOR);
  const writes: Promise<void>[] = [];
  for (let at = 0; at < 256; at += 32) {
    writes.push(blk.write(at, bytes.subarray(at * SECTOR, (at + 32) * SECTOR)));
  }
  await Promise.all(writes);
  return [await hash(bytes), await hash(await blk.read(0, 256))];
}

for (
  const options of [
    { interrupts: "none", wait: "poll", packed: false },
    { interrupts: "msix", wait: "adaptive", packed: true },
  ] as const
) {
  const how = options.interrupts === "none" ? "polling, split rings" : "MSI, packed rings";
  Deno.test(`eight managed network devices and a block device at once, and a VF on the same switch: ${how}`, async () => {
    const before = [openFdCount(), mappingCount().mappings];
    {
      await using host = await ManagementHost.start({ virtqueues: 64 }, { interrupts: options.interrupts }, [
        { address: PF, kind: "virtio-net", totalVfs: 1, switch: "s0" },
      ]);
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
          { length: 8 },
          async () => host.use(await VirtioNet.open(host.transport(await host.net()), options)),
        ),
      );
      const blk = host.use(await VirtioBlk.open(host.transport(await host.blk(1024)), options));
      assertEquals(new Set(nets.map(({ macText }) => macText)).size, 8);
      assertEquals(
        nets.every(({ featureNames }) => featureNames.includes("VIRTIO_F_RING_PACKED") === options.packed),
        true,
      );
      const left = await management.resources();
      assertEquals(atStart.queues - left.queues, 8 * 3 + 1);

      // A ring of eight, all at once; then there and back to the VF; and blocks meanwhile.
      const blocks = [copy(blk, 1), copy(blk, 2)];
      const ring = await Promise.all(nets.map((net, at) => exchange(net, nets[(at + 1) % 8]!, at)));
      ring.push(await exchange(nets[3]!, pci, 8), await exchange(pci, nets[5]!, 9));
      for (const { sent, received } of ring) {
        assertEquals(received, sent);
        assertEquals(sent.frames >= FRAMES, true);
      }
      // Two copies wrote to the same place, one after the other or mixed: what counts is what the second one reads.
      await Promise.all(blocks);
      const [written, read] = await copy(blk, 3);
      assertEquals(read, written);
      if (options.interrupts === "msix") {
        for (const one of [...nets, blk]) {
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
