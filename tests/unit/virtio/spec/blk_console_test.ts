import { assertEquals } from "@std/assert";
import {
  BLK_CONFIG,
  BLK_FEATURE_BIT,
  BLK_RANGE,
  BLK_REQUEST,
  BLK_STATUS,
  BLK_TYPE,
  CONSOLE_CONFIG,
  CONSOLE_CONTROL,
  CONSOLE_CONTROL_QUEUE,
  CONSOLE_EVENT,
  CONSOLE_FEATURE,
  CONSOLE_FEATURE_BIT,
  CONSOLE_RESIZE,
  consoleQueues,
  featureBit,
  featureName,
} from "../../../../lib/virtio/spec/mod.ts";

function layout(struct: { sizeBytes: number; fields: object }): Record<string, string> {
  const fields = Object.entries(struct.fields) as [string, { offset: number; type: string }][];
  return Object.fromEntries([
    ...fields.map(([name, { offset, type }]) => [name, `${offset} ${type}`]),
    ["sizeBytes", `${struct.sizeBytes}`],
  ]);
}

Deno.test("5.2.3 block features", () => {
  assertEquals(BLK_FEATURE_BIT, {
    SIZE_MAX: 1,
    SEG_MAX: 2,
    GEOMETRY: 4,
    RO: 5,
    BLK_SIZE: 6,
    FLUSH: 9,
    TOPOLOGY: 10,
    CONFIG_WCE: 11,
    MQ: 12,
    DISCARD: 13,
    WRITE_ZEROES: 14,
    LIFETIME: 15,
    SECURE_ERASE: 16,
    ZONED: 17,
  });
  assertEquals(featureName(9, 2), "VIRTIO_BLK_F_FLUSH");
  assertEquals(featureBit("VIRTIO_BLK_F_WRITE_ZEROES", 2), 14);
  assertEquals(featureName(9, 1), "VIRTIO_NET_F_GUEST_ECN");
});

Deno.test("5.2.4 virtio_blk_config by offset", () => {
  assertEquals(layout(BLK_CONFIG), {
    capacity: "0 u64",
    size_max: "8 u32",
    seg_max: "12 u32",
    geometry_cylinders: "16 u16",
    geometry_heads: "18 u8",
    geometry_sectors: "19 u8",
    blk_size: "20 u32",
    physical_block_exp: "24 u8",
    alignment_offset: "25 u8",
    min_io_size: "26 u16",
    opt_io_size: "28 u32",
    writeback: "32 u8",
    unused0: "33 u8",
    num_queues: "34 u16",
    max_discard_sectors: "36 u32",
    max_discard_seg: "40 u32",
    discard_sector_alignment: "44 u32",
    max_write_zeroes_sectors: "48 u32",
    max_write_zeroes_seg: "52 u32",
    write_zeroes_may_unmap: "56 u8",
    max_secure_erase_sectors: "60 u32",
    max_secure_erase_seg: "64 u32",
    secure_erase_sector_alignment: "68 u32",
    zone_sectors: "72 u32",
    max_open_zones: "76 u32",
    max_active_zones: "80 u32",
    max_append_sectors: "84 u32",
    write_granularity: "88 u32",
    zone_model: "92 u8",
    sizeBytes: "96",
  });
});

Deno.test("5.2.6 block requests by offset, types and status", () => {
  assertEquals(layout(BLK_REQUEST), { type: "0 u32", reserved: "4 u32", sector: "8 u64", sizeBytes: "16" });
  assertEquals(layout(BLK_RANGE), {
    sector: "0 u64",
    num_sectors: "8 u32",
    flags: "12 u32",
    sizeBytes: "16",
  });
  assertEquals(BLK_TYPE, {
    in: 0,
    out: 1,
    flush: 4,
    getId: 8,
    getLifetime: 10,
    discard: 11,
    writeZeroes: 13,
    secureErase: 14,
  });
  assertEquals(BLK_STATUS, { ok: 0, ioErr: 1, unsupp: 2 });
});

Deno.test("5.3 console features, config, control messages and queue numbers", () => {
  assertEquals(CONSOLE_FEATURE_BIT, { SIZE: 0, MULTIPORT: 1, EMERG_WRITE: 2 });
  assertEquals(CONSOLE_FEATURE, { SIZE: 1n, MULTIPORT: 2n, EMERG_WRITE: 4n });
  assertEquals(featureName(2, 3), "VIRTIO_CONSOLE_F_EMERG_WRITE");
  assertEquals(layout(CONSOLE_CONFIG), {
    cols: "0 u16",
    rows: "2 u16",
    max_nr_ports: "4 u32",
    emerg_wr: "8 u32",
    sizeBytes: "12",
  });
  assertEquals(layout(CONSOLE_CONTROL), { id: "0 u32", event: "4 u16", value: "6 u16", sizeBytes: "8" });
  assertEquals(layout(CONSOLE_RESIZE), { cols: "0 u16", rows: "2 u16", sizeBytes: "4" });
  assertEquals(CONSOLE_EVENT, {
    deviceReady: 0,
    deviceAdd: 1,
    deviceRemove: 2,
    portReady: 3,
    consolePort: 4,
    resize: 5,
    portOpen: 6,
    portName: 7,
  });
  assertEquals(CONSOLE_CONTROL_QUEUE, { receive: 2, transmit: 3 });
  assertEquals([0, 1, 2, 30].map(consoleQueues), [
    { receive: 0, transmit: 1 },
    { receive: 4, transmit: 5 },
    { receive: 6, transmit: 7 },
    { receive: 62, transmit: 63 },
  ]);
});
