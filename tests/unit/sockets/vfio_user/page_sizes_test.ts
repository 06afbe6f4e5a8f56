/** Pages of both sides of vfio-user, on processors whose pages are 4, 16 or 64 KiB. */
import { assertEquals, assertThrows } from "@std/assert";
import { createMemfd, pageSizeBytes } from "../../../../ffi/mod.ts";
import { DmaTable } from "../../../../lib/sockets/dma_table.ts";
import { decodeVersion, encodeVersion } from "../../../../lib/sockets/vfio_user/capabilities.ts";
import { COMMAND, dmaMap } from "../../../../lib/sockets/vfio_user/protocol.ts";
import { mapDma } from "../../../../lib/sockets/vfio_user/server/dma.ts";
import { RequestRefused } from "../../../../lib/sockets/vfio_user/server/refusal.ts";
import { capabilities, reply, session } from "./client/session.ts";
import { bench, map } from "./server/bench.ts";

Deno.test("client: what it maps are whole pages of the server's and of its own", () => {
  const large = Math.max(0x10000, pageSizeBytes);
  for (
    const [pageSizes, page] of [[0x1000, pageSizeBytes], [large, large], [large | 0x200_0000, large]] as const
  ) {
    const version = reply(COMMAND.version, 0, encodeVersion(1, { ...capabilities, pageSizes }));
    using s = session([reply(COMMAND.dmaMap, 2)], {}, version);
    const memory = s.device.dma.allocate(100, { huge: "never" });
    assertEquals([memory.sizeBytes, memory.iova % BigInt(page)], [page, 0n]);
    const [offer, , map] = s.requests();
    const { capabilities: offered } = JSON.parse(new TextDecoder().decode(offer!.subarray(20, -1)));
    assertEquals(offered.pgsizes, pageSizeBytes);
    const { address, size } = dmaMap.decode(map!, 16);
    assertEquals([address, size], [memory.iova, BigInt(page)]);
  }
});

Deno.test("server DMA_MAP: ranges are whole pages of the processor, of whatever size, and VERSION says so", () => {
  using b = bench();
  assertEquals(decodeVersion(b.client.version, "server").capabilities.pageSizes, pageSizeBytes);
  using file = createMemfd("memory", 0x40000);
  for (const pageBytes of [4096, 16384, 65536].filter((bytes) => bytes >= pageSizeBytes)) {
    const table = new DmaTable();
    const page = BigInt(pageBytes);
    const limits = { maxDmaMaps: 8, pageBytes, unsealed: "map" as const };
    const context = { limits, what: "client", mappings: 0, keepFiles: false, messages: null };
    const ask = (fields: { address?: bigint; size?: bigint; offset?: bigint }) => () =>
      mapDma(table, map({ address: 2n * page, size: page, offset: page, ...fields }), [file], context);
    for (
      const wrong of [{ address: page / 2n }, { size: page / 2n }, { size: 3n * page / 2n }, {
        offset: page / 2n,
      }]
    ) {
      assertThrows(ask(wrong), RequestRefused, "are not whole pages");
    }
    assertEquals(table.count, 0);
    ask({})();
    assertEquals([table.count, table.regions[0]!.sizeBytes], [1, pageBytes]);
    table.clear();
  }
});
