/** What a killed driver leaves in the process of the devices, and in those of its peers: descriptors and mappings, as the kernel lists them. */
import { assert, assertEquals } from "@std/assert";
import { accessible } from "../../../ffi/mod.ts";
import { holdings } from "../../holdings.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { IsmPeer, type RegionReport } from "./ism_peer.ts";

const A = "0000:01:00.0", B = "0000:02:00.0", C = "0000:03:00.0";
const BOTH = { read: true, write: true } as const;
const LOOKS = 500;

/** Memory files, eventfds and epoll sets of a process, and its mappings of memory files. */
const MEMORY_AND_EVENTS = /^fd \/memfd:|^fd anon_inode|^map \/memfd/;

/** Regions of device memory: `ism`, and the domain. */
function regionFiles(pid: number): number {
  return Object.entries(holdings(pid, MEMORY_AND_EVENTS)).reduce(
    (sum, [what, n]) => what.includes("memfd:ism") ? sum + n : sum,
    0,
  );
}

async function until(what: string, reached: () => boolean): Promise<void> {
  for (let i = 0; i < LOOKS; i++) {
    if (reached()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(what);
}

for (const devMem of [true, false]) {
  Deno.test(`3: nothing of a killed driver is left in /proc (${devMem ? "the device's memory" : "its own memory"}); regions that others have live on`, async () => {
    await using served = await TopologyHost.start(
      [A, B, C].map((address) => ({ address, kind: "virtio-ism", domain: "here", chunkSize: 4096 })),
      { alone: true },
    );
    {
      await using a = await IsmPeer.start(served, A);
      await using b = await IsmPeer.start(served, B);
      const { token } = await a.get<RegionReport>({ op: "alloc", sizeBytes: 10_000 });
      await b.get({ op: "attach", token, read: true, write: false });
      const quiet = holdings(served.pid, MEMORY_AND_EVENTS);
      assert(regionFiles(served.pid) > 0 && regionFiles(b.pid) > 0, JSON.stringify(quiet));
      const peers = [holdings(a.pid, MEMORY_AND_EVENTS), holdings(b.pid, MEMORY_AND_EVENTS)];

      const c = await IsmPeer.start(served, C, { devMem });
      const { devid } = await c.get<{ devid: string }>({ op: "info" });
      await c.get({ op: "attach", token, ...BOTH });
      await c.get({ op: "write", token, offset: 9_999, bytes: [5] });
      // One that it has alone, one that it shares, and one that it reaches by messages, which the device maps for itself.
      const alone = await c.get<RegionReport>({ op: "alloc", sizeBytes: 20_000 });
      const shared = await c.get<RegionReport>({ op: "alloc", sizeBytes: 30_000 });
      await c.get({ op: "write", token: shared.token, offset: 29_999, bytes: [7] });
      await b.get({ op: "attach", token: shared.token, ...BOTH });
      const sent = await a.get<RegionReport>({ op: "alloc", sizeBytes: 5000 });
      await c.get({ op: "attach", token: sent.token, read: false, write: true });
      await c.get({ op: "write", token: sent.token, offset: 4999, bytes: [9] });
      assert(
        Object.values(holdings(served.pid, MEMORY_AND_EVENTS)).reduce((x, y) => x + y) >
          Object.values(quiet).reduce((x, y) => x + y) + 4,
      );
      await a.get({ op: "events", count: 2 });
      await c.kill();
      assertEquals(accessible(`/proc/${c.pid}/maps`), false);

      assertEquals(await a.get({ op: "events", count: 2 }).then((seen) => (seen as string[]).sort()), [
        `detach by ${devid}, 0 left`,
        `detach by ${devid}, 1 left`,
      ]);
      assertEquals(await a.refused({ op: "query", token: alone.token }), "ENOENT");
      // What others have lives on, also where the memory was the dead one's.
      assertEquals(await b.get({ op: "read", token, offset: 9_999, length: 1 }), [5]);
      assertEquals(await b.get({ op: "read", token: shared.token, offset: 29_999, length: 1 }), [7]);
      await b.get({ op: "write", token: shared.token, offset: 0, bytes: [1] });
      assertEquals(await a.get({ op: "read", token: sent.token, offset: 4999, length: 1 }), [9]);
      await a.get({ op: "detach", token: sent.token });
      await b.get({ op: "detach", token: shared.token });
      assertEquals(await a.refused({ op: "query", token: shared.token }), "ENOENT");

      const rest = () => [served.pid, a.pid, b.pid].map((pid) => holdings(pid, MEMORY_AND_EVENTS));
      await until(
        "the processes hold more than before",
        () => JSON.stringify(rest()) === JSON.stringify([quiet, ...peers]),
      ).catch(() => {});
      assertEquals(rest(), [quiet, ...peers]);
      assertEquals(await b.get({ op: "read", token, offset: 9_999, length: 1 }), [5]);
      await b.get({ op: "detach", token });
      await a.get({ op: "detach", token });
      assertEquals([served.pid, a.pid, b.pid].map(regionFiles), [0, 0, 0]);
    }
    assertEquals(await served.stop(), []);
  });
}
