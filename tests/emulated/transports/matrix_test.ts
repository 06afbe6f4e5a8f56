import { assertEquals, assertThrows } from "@std/assert";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { UsageError } from "../../../lib/errors/mod.ts";
import { readPage, runMatrix, transportTable, withTransportTable } from "./matrix.ts";

Deno.test("each driver over each transport and ring layout, with each kind of interrupt: the table in docs/drivers.md is what really ran", async () => {
  const before = [openFdCount(), mappingCount()];
  const results = await runMatrix();
  assertEquals([openFdCount(), mappingCount()], before);
  const page = readPage();
  assertEquals(page, withTransportTable(page, results), "deno task docs:transports writes it");
  assertThrows(() => withTransportTable("no marks", results), UsageError);
  const stale = page.replace(transportTable(results), transportTable(results).replace("MSI-X", "nothing"));
  assertEquals(stale === page, false);
  assertEquals(withTransportTable(stale, results), page);
});
