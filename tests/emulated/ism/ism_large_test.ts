import { assertEquals } from "@std/assert";
import { VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const GIB = 2 ** 30;

Deno.test("virtio-ism with an area of 32 GiB: a region of 6 GiB, shared by two functions to its last word", async () => {
  const settings = { kind: "virtio-ism", domain: "large", chunkSize: GIB, chunks: 32, memory: 32 * GIB };
  await using served = await TopologyHost.start([
    { address: "0000:01:00.0", ...settings },
    { address: "0000:02:00.0", ...settings },
  ]);
  using one = served.reach("0000:01:00.0"), other = served.reach("0000:02:00.0");
  await using a = await VirtioIsm.open(one.transport);
  await using b = await VirtioIsm.open(other.transport);
  // The first one has the second begin above 4 GiB in the area. Only pages that are touched cost memory.
  await a.alloc(5 * GIB);
  const mine = await a.alloc(6 * GIB);
  const theirs = await b.attach(mine.token);
  for (const offset of [2 * GIB - 4, 4 * GIB, 6 * GIB - 4]) {
    mine.setUint32(offset, 0x1234_5678);
    assertEquals(theirs.getUint32(offset), 0x1234_5678, `${offset}`);
  }
  assertEquals(mine.segments[0]!.areaOffset, 5 * GIB);
});
