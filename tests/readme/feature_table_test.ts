import { assert, assertEquals, assertThrows } from "@std/assert";
import { featureTable, withFeatureTable } from "../../docs/feature_table.ts";
import { readText } from "../../ffi/mod.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import { root } from "./readme_commands.ts";

const rows = featureTable().split("\n").map((line) =>
  line.split("|").slice(1, -1).map((cell) => cell.trim())
);

/** The row of a feature, without its bit. */
function of(feature: string): string[] {
  const found = rows.filter((row) => row[1]!.startsWith(`\`${feature}\``));
  assertEquals(found.length, 1, feature);
  return found[0]!.slice(2);
}

Deno.test("the page's feature table is what the code says; deno task docs:features writes it", () => {
  const page = readText(`${root}docs/features.md`);
  assertEquals(page, withFeatureTable(page));
  assertThrows(() => withFeatureTable("no marks"), UsageError);
  assert(withFeatureTable(page.replace("VIRTIO_F_RING_PACKED", "OTHER")) === page);
});

Deno.test("the table knows drivers, embedded devices, and what is missing at either", () => {
  assert(rows.length > 60);
  assertEquals(of("VIRTIO_F_RING_PACKED"), ["all", "all", ""]);
  assertEquals(of("VIRTIO_F_QUEUE_STATE"), ["all", "all", ""]);
  assertEquals(of("VIRTIO_F_NOTIFICATION_DATA"), ["all", "all: by topology", ""]);
  assertEquals(of("VIRTIO_F_ADMIN_VQ"), ["admin; net: by option", "net, blk, console, rng: by topology", ""]);
  for (const own of ["VIRTIO_F_TRANSPT_VQ", "VIRTIO_F_TRANSPT_VQ_MDEV"]) {
    assertEquals(of(own), ["management", "management", ""]);
  }
  assertEquals(of("VIRTIO_F_SUSPEND"), ["–", "–", "missing"]);
  assertEquals(of("VIRTIO_F_ANY_LAYOUT"), ["net, blk", "net, blk", ""]);
  assertEquals(of("VIRTIO_ISM_F_DEV_MEM"), ["ism", "ism", ""]);
  assertEquals(of("VIRTIO_NET_F_MRG_RXBUF"), ["net", "net", ""]);
  assertEquals(of("VIRTIO_NET_F_SPEED_DUPLEX"), ["net", "–", "not on the embedded host"]);
  assertEquals(of("VIRTIO_NET_F_CSUM"), ["–", "–", "missing"]);
});
