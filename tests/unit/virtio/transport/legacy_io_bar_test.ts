import { assertEquals, assertThrows } from "@std/assert";
import { UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { transitionalIdentity } from "../../../../lib/virtio/transport/legacy_identity.ts";
import { LegacyIoBar } from "../../../../lib/virtio/transport/legacy_io_bar.ts";
import { LegacyNotify } from "../../../../lib/virtio/transport/legacy_notify.ts";
import { LegacyModel, type LegacyModelOptions } from "./legacy_model.ts";
import { Random } from "../../../random.ts";

const NET_FIELDS = [[0, 6], [6, 2], [8, 2], [10, 2]] as const;
const BLK_FIELDS = [
  ...[[0, 8], [8, 4], [12, 4], [16, 2], [18, 1], [19, 1], [20, 4], [24, 1], [25, 1], [26, 2], [28, 4]],
  ...[[32, 1], [33, 1], [34, 2], [36, 4], [40, 4], [44, 4], [48, 4], [52, 4], [56, 1]],
] as [number, number][];

function present(options: LegacyModelOptions = {}) {
  const deviceId = options.deviceId ?? 1;
  const config = Uint8Array.from({ length: deviceId === 1 ? 12 : 60 }, (_, i) => 0x40 + i);
  const model = new LegacyModel({
    config,
    configFields: deviceId === 1 ? NET_FIELDS : BLK_FIELDS,
    ...options,
  });
  const notify = new LegacyNotify(model, { member: model.vf, owner: model.pf });
  const bar = new LegacyIoBar(model, { deviceId, notify });
  const enable = (on: boolean) => {
    model.vf.vectors = on ? [null] : [];
    bar.msixEnabled = on;
  };
  return { model, bar, enable };
}

Deno.test("A-3.13 offsets: 0 to 19 are common, 20 on the device's from 0; with MSI-X the vectors are there and the rest moves by 4", () => {
  const { model, bar, enable } = present({ features: 0x1234_5678 });
  assertEquals(bar.readValue(0, 4), 0x1234_5678);
  assertEquals([bar.readValue(20, 1), bar.readValue(26, 2), bar.readValue(30, 2)], [0x40, 0x4746, 0x4b4a]);
  assertEquals(model.log, ["r device_features", "r config 0+1", "r config 6+2", "r config 10+2"]);
  enable(true);
  model.log.length = 0;
  bar.writeValue(20, 2, 1);
  assertEquals([bar.readValue(20, 2), bar.readValue(22, 2)], [1, 0xffff]);
  assertEquals([bar.readValue(24, 1), bar.readValue(30, 2)], [0x40, 0x4746]);
  assertEquals(model.log, [
    "w config_vector 1",
    "r config_vector",
    "r queue_vector",
    "r config 0+1",
    "r config 6+2",
  ]);
  enable(false);
  assertEquals(bar.readValue(20, 1), 0x40, "they move back");
});

Deno.test("N-3.14 an access over several fields is one command a field, ascending", () => {
  const { model, bar } = present({ features: 0xaabb_ccdd });
  model.queueSizes[0] = 0x100;
  model.isr = 3;
  model.status = 7;
  const bytes = new Uint8Array(24);
  bar.read(0, bytes);
  assertEquals(model.log, [
    "r device_features",
    "r driver_features",
    "r pfn",
    "r queue_size",
    "r queue_select",
    "r notify",
    "r status",
    "r isr",
    "r config 0+1",
    "r config 1+1",
    "r config 2+1",
    "r config 3+1",
  ]);
  assertEquals([...bytes.subarray(0, 4)], [0xdd, 0xcc, 0xbb, 0xaa]);
  assertEquals([...bytes.subarray(12, 24)], [0, 1, 0, 0, 0, 0, 7, 3, 0x40, 0x41, 0x42, 0x43]);
  assertEquals(model.isr, 0, "the ISR was read, and read once");
  model.log.length = 0;
  bar.write(4, Uint8Array.of(1, 2, 3, 4, 0, 0, 0, 0));
  assertEquals(model.log, ["w driver_features 67305985", "w pfn 0"]);
});

Deno.test("N-3.14 unaligned accesses and parts of fields", () => {
  const { model, bar } = present({ features: 0xaabb_ccdd });
  const bytes = new Uint8Array(5);
  bar.read(1, bytes);
  assertEquals(model.log, ["r device_features 1+1", "r device_features 2+2", "r driver_features 0+2"]);
  assertEquals([...bytes], [0xcc, 0xbb, 0xaa, 0, 0]);
  model.log.length = 0;
  bar.writeValue(4, 4, 0x11223344);
  bar.writeValue(5, 1, 0xee);
  bar.writeValue(6, 2, 0x5566);
  assertEquals(model.driverFeatures, 0x5566_ee44);
  assertEquals(model.log, [
    "w driver_features 287454020",
    "w driver_features 1+1 238",
    "w driver_features 2+2 21862",
  ]);
});

Deno.test("what the BAR reads and writes is what the registers are, byte for byte, in any cut", () => {
  const random = new Random(77);
  const { model, bar } = present({ deviceId: 2, features: 0x8765_4321 });
  model.config.fill(0, 57);
  const truth = new Uint8Array(80);
  const view = new DataView(truth.buffer);
  view.setUint32(0, 0x8765_4321, true);
  view.setUint16(12, 8, true);
  truth.set(model.config, 20);
  for (let round = 0; round < 500; round++) {
    const offset = random.below(80);
    const into = new Uint8Array(1 + random.below(Math.min(16, 80 - offset)));
    const writes = random.below(3) === 0 && offset >= 18;
    if (writes) {
      for (let i = 0; i < into.length; i++) into[i] = 1 + random.below(255);
      bar.write(offset, into);
      // status, then 19 is read-only, then the config but for its padding.
      into.forEach((byte, i) => {
        const at = offset + i;
        if (at !== 19 && at < 77) truth[at] = byte;
      });
    } else {
      bar.read(offset, into);
      assertEquals(into, truth.slice(offset, offset + into.length), `${into.length} bytes at ${offset}`);
    }
  }
});

Deno.test("blk: fields of 1, 2, 4 and 8 bytes are never mixed in a command; padding reads 0 without one", () => {
  const { model, bar } = present({ deviceId: 2 });
  const bytes = new Uint8Array(20);
  bar.read(20, bytes);
  assertEquals(model.log, [
    "r config 0+4",
    "r config 4+4",
    "r config 8+4",
    "r config 12+4",
    "r config 16+2",
    "r config 18+1",
    "r config 19+1",
  ]);
  assertEquals(bytes, model.config.slice(0, 20));
  model.log.length = 0;
  bar.read(20 + 1, bytes.subarray(0, 7));
  assertEquals(model.log, ["r config 1+1", "r config 2+2", "r config 4+4"], "aligned");
  model.log.length = 0;
  const end = new Uint8Array(8).fill(9);
  bar.read(20 + 52, end);
  assertEquals(model.log, ["r config 52+4", "r config 56+1"]);
  assertEquals([...end], [0x74, 0x75, 0x76, 0x77, 0x78, 0, 0, 0]);
  bar.write(20 + 57, Uint8Array.of(1, 2, 3));
  assertEquals(model.log.length, 2, "writes to padding are dropped");
});

Deno.test("blk: fields of SECURE_ERASE, bit 16, can be there; those of ZONED, which legacy devices must not offer, cannot", () => {
  const { model, bar } = present({
    deviceId: 2,
    config: new Uint8Array(96).fill(3),
    configFields: [[56, 1], [60, 4], [64, 4], [68, 4], [72, 4]],
  });
  const bytes = new Uint8Array(20);
  bar.read(20 + 56, bytes);
  assertEquals(model.log, ["r config 56+1", "r config 60+4", "r config 64+4", "r config 68+4"]);
  assertEquals([...bytes], [3, 0, 0, 0, ...new Array(12).fill(3), ...new Array(4).fill(0xff)]);
  assertEquals([bar.sizeBytes, transitionalIdentity(2).bar0SizeBytes], [128, 128]);
});

Deno.test("behind the last field everything reads as ones and writes are dropped; outside the BAR is a UsageError", () => {
  const { model, bar } = present();
  assertEquals(bar.sizeBytes, 64);
  const bytes = new Uint8Array(4);
  bar.read(30, bytes);
  assertEquals([[...bytes], model.log], [[0x4a, 0x4b, 0xff, 0xff], ["r config 10+2"]]);
  bar.write(60, bytes);
  assertEquals([bar.readValue(60, 4), model.log.length], [0xffff_ffff, 1]);
  for (const [offset, length] of [[61, 4], [64, 1], [-1, 2], [0.5, 1], [NaN, 1], [0, 65], [0, 0]]) {
    assertThrows(() => bar.read(offset!, new Uint8Array(length!)), UsageError, "64 bytes");
    assertThrows(() => bar.write(offset!, new Uint8Array(length!)), UsageError);
  }
  assertThrows(() => bar.writeValue(18, 1, 256), UsageError);
});

Deno.test("read-only registers take no command when they are written", () => {
  const { model, bar } = present();
  bar.writeValue(0, 4, 5);
  bar.writeValue(12, 2, 5);
  bar.writeValue(19, 1, 5);
  assertEquals(model.log, []);
  bar.write(18, Uint8Array.of(1, 0xff));
  assertEquals(model.log, ["w status 1"], "the status beside the ISR is written");
});

Deno.test("N-3.16 Queue Notify: 2 bytes at 16 go to the notify address, or are a command; other widths are refused and do nothing", () => {
  const area = { whose: "member", bar: 2, offset: 0x40 } as const;
  const { model, bar } = present({ areas: [area] });
  model.status = 4;
  const rung: number[] = [];
  model.onNotify = (queue) => rung.push(queue);
  bar.writeValue(16, 2, 1);
  bar.writeValue(16, 2, 0xfffe);
  bar.writeValue(16, 2, 1);
  assertEquals([rung, model.vf.barWrites.length, model.log], [[1, 0xfffe, 1], 3, []]);
  for (const [offset, length] of [[16, 1], [17, 1], [16, 4], [14, 4], [15, 2], [0, 20], [12, 8]]) {
    assertThrows(() => bar.write(offset!, new Uint8Array(length!)), UsageError, "covers Queue Notify");
  }
  assertEquals([rung.length, model.log], [3, []]);
  assertEquals(bar.readValue(16, 2), 0);
  assertEquals(model.log, ["r notify"]);

  const plain = present();
  plain.model.status = 4;
  plain.bar.writeValue(16, 2, 3);
  assertEquals(plain.model.log, ["w notify 3"]);
});

Deno.test("what a transitional function shows: ids, revision 0, an I/O BAR of a power of two", () => {
  assertEquals(transitionalIdentity(1), {
    vendorId: 0x1af4,
    deviceId: 0x1000,
    revisionId: 0,
    subsystemVendorId: 0x1af4,
    subsystemId: 1,
    bar0SizeBytes: 64,
    bar0SizeMask: 0xffff_ffc1,
  });
  assertEquals([2, 3, 4, 5, 8, 9].map((id) => transitionalIdentity(id).deviceId), [
    0x1001,
    0x1003,
    0x1005,
    0x1002,
    0x1004,
    0x1009,
  ]);
  assertEquals([2, 4].map((id) => transitionalIdentity(id).bar0SizeBytes), [128, 32]);
  assertThrows(() => transitionalIdentity(44), UnsupportedError, "ISM");
});
