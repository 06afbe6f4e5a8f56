import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import type { MmioForm } from "../../../lib/virtio/spec/mmio.ts";
import { Random } from "../../random.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { IsmPeer, type RegionReport } from "../ism/ism_peer.ts";
import { Traffic } from "../migration/traffic.ts";
import { PROFILE_OF } from "../transports/matrix.ts";
import { fillDisk } from "../transports/traffic.ts";

const FORMS: readonly MmioForm[] = ["modern", "legacy", "v3", "msi-v2"];
const PF = "0000:01:00.0";
/** Of one direction of one pair. */
const FRAMES = 40;
const DISK_BYTES = 512 * 1024;

function addressOf(at: number): string {
  return `a${at}00000000.virtio_mmio`;
}

/** Frames from one to the other, as many as may be on the way at a time. */
async function flow(from: VirtioNet, to: VirtioNet, seed: number): Promise<Traffic> {
  const traffic = new Traffic(to.mac, from.mac, seed);
  while (traffic.sent.frames < FRAMES) {
    // An embedded switch drops what it cannot deliver.
    if (traffic.sent.frames - traffic.received.frames < 32) traffic.send(from, 16);
    if (traffic.receive(to) === 0) await to.waitReceive(5);
  }
  await traffic.drain(to);
  return traffic;
}

for (
  const options of [
    { interrupts: "none", wait: "poll", packed: false },
    { interrupts: "auto", wait: "adaptive", packed: true },
  ] as const
) {
  Deno.test(
    `a register window of each form and a PCI function on one switch, each with each, and their disks meanwhile: ${
      options.interrupts === "none" ? "polling, split rings" : "interrupts, packed rings where there are"
    }`,
    async () => {
      const before = [openFdCount(), mappingCount()];
      await using served = await TopologyHost.start([
        { address: PF, kind: "virtio-net", switch: "s0" },
        ...FORMS.map((form, at) => ({
          address: addressOf(at),
          kind: "virtio-net",
          switch: "s0",
          mmio: { form },
        })),
        ...FORMS.map((form, at) => ({
          address: addressOf(at + 4),
          kind: "virtio-blk",
          sizeBytes: DISK_BYTES,
          queues: 2,
          mmio: { form, ...(form === "msi-v2" ? { sharing: true } : {}) },
        })),
      ]);
      {
        await using owned = new AsyncDisposableStack();
        const nets: VirtioNet[] = [], disks: VirtioBlk[] = [];
        const transportOf = (address: string, form?: MmioForm) =>
          owned.use(served.open(address, { profile: form === undefined ? "spec" : PROFILE_OF[form] }))
            .transport;
        nets.push(owned.use(await VirtioNet.open(transportOf(PF), options)));
        for (const [at, form] of FORMS.entries()) {
          nets.push(owned.use(await VirtioNet.open(transportOf(addressOf(at), form), options)));
          const disk = await VirtioBlk.open(transportOf(addressOf(at + 4), form), { ...options, queues: 2 });
          disks.push(owned.use(disk));
        }
        for (const { transport, features } of [...nets, ...disks]) {
          assertEquals((features >> 34n & 1n) === 1n, options.packed && !transport.legacy, transport.name);
        }
        // In a ring, all at once, each to its next, then to the one after it, …: in the end each to each.
        const blocks = disks.map((disk, at) => fillDisk(disk, new Random(at).bytes(DISK_BYTES)));
        for (let step = 1; step < nets.length; step++) {
          const flows = await Promise.all(
            nets.map((net, at) => flow(net, nets[(at + step) % nets.length]!, 100 * step + at)),
          );
          for (const { sent, received } of flows) {
            assertEquals(received, sent);
            assert(sent.frames >= FRAMES);
          }
        }
        await Promise.all(blocks);
        for (const one of [...nets, ...disks]) {
          assertEquals(one.interrupts > 0, options.interrupts !== "none", one.transport.name);
        }
      }
      assertEquals(await served.stop(), []);
      assertEquals([openFdCount(), mappingCount()], before);
    },
  );
}

Deno.test("1.7: memory of virtio-ism by SHMSel, mapped by processes on windows of each form and one on PCI: each sees the others' bytes and hears of them", async () => {
  const settings = { kind: "virtio-ism", chunkSize: 4096, chunks: 64 };
  const forms = ["modern", "v3", "msi-v2"] as const;
  await using served = await TopologyHost.start([
    { address: PF, ...settings },
    ...forms.map((form, at) => ({ address: addressOf(at), ...settings, mmio: { form } })),
  ]);
  {
    await using owned = new AsyncDisposableStack();
    const peers = await Promise.all([
      IsmPeer.start(served, PF),
      ...forms.map((form, at) => IsmPeer.start(served, addressOf(at), {}, PROFILE_OF[form])),
    ]);
    for (const peer of peers) owned.use(peer);
    const cdids = await Promise.all(peers.map((peer) => peer.get<{ cdidText: string }>({ op: "info" })));
    assertEquals(new Set(cdids.map(({ cdidText }) => cdidText)).size, 1);
    // Each is the allocator once.
    for (const [at, allocator] of peers.entries()) {
      const others = peers.filter((one) => one !== allocator);
      const { token, mapped } = await allocator.get<RegionReport>({ op: "alloc", sizeBytes: 10_000 });
      assertEquals(mapped, true);
      for (const other of others) {
        const report = await other.get<RegionReport>({ op: "attach", token, read: true, write: true });
        assertEquals(report.mapped, true);
      }
      const bytes = [...new Random(at).bytes(600)];
      for (const [turn, writer] of peers.entries()) {
        const offset = 4000 + 600 * turn;
        await writer.get({ op: "write", token, offset, bytes });
        for (const reader of peers) {
          assertEquals(await reader.get({ op: "read", token, offset, length: 600 }), bytes);
        }
      }
      await allocator.get({ op: "notify", token });
      for (const other of others) {
        const seen: string[] = [];
        while (!seen.at(-1)?.startsWith("update")) {
          const events = await other.get<string[]>({ op: "events", count: 1 });
          assert(events.length > 0, `no update after ${seen.join(", ")}`);
          seen.push(...events);
        }
      }
      for (const peer of peers) await peer.get({ op: "detach", token });
      assertEquals((await allocator.get<{ mappedBytes: number }>({ op: "state" })).mappedBytes, 0);
    }
  }
  assertEquals(await served.stop(), []);
});
