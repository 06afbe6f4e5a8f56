import { assertEquals, assertThrows } from "@std/assert";
import { ClosedError, UsageError } from "../../../lib/errors/mod.ts";
import { REGION } from "../../../lib/vfio/device.ts";
import { ConfigAccess } from "../../../lib/vfio/mod.ts";
import { FakeDevice } from "./fake_device.ts";

Deno.test("config registers are accesses of their width at their offset", () => {
  using device = new FakeDevice({});
  const config = new ConfigAccess(device);
  config.write32(0x10, 0xdead_beef);
  config.write16(0x14, 0x1234);
  config.write8(0x16, 0x56);
  assertEquals([config.read32(0x10), config.read16(0x14), config.read8(0x16)], [0xdead_beef, 0x1234, 0x56]);
  assertEquals([...device.bytes(REGION.config).subarray(0x10, 0x17)], [
    0xef,
    0xbe,
    0xad,
    0xde,
    0x34,
    0x12,
    0x56,
  ]);
  assertEquals(device.accesses.map((one) => [one.index, one.offset, one.length]), [
    [7, 0x10, 4],
    [7, 0x14, 2],
    [7, 0x16, 1],
    [7, 0x10, 4],
    [7, 0x14, 2],
    [7, 0x16, 1],
  ]);
});

Deno.test("readAll gives 256 or 4096 bytes, by the region's size", () => {
  using express = new FakeDevice({});
  express.bytes(REGION.config)[4095] = 9;
  const all = new ConfigAccess(express).readAll();
  assertEquals([all.length, all[4095]], [4096, 9]);
  using conventional = new FakeDevice({ [REGION.config]: { sizeBytes: 256 } });
  assertEquals(new ConfigAccess(conventional).readAll().length, 256);
  assertThrows(() => new ConfigAccess(conventional).read32(256), UsageError);
});

Deno.test("setCommand changes what is named, keeps the rest, and gives the value before", () => {
  using device = new FakeDevice({});
  const config = new ConfigAccess(device);
  config.write16(4, 0x0541);
  assertEquals(config.setCommand({ memory: true, busMaster: true, intxDisable: false }), 0x0541);
  assertEquals(config.read16(4), 0x0147);
  config.setCommand({ busMaster: false });
  assertEquals(config.read16(4), 0x0143);
  const before = device.accesses.length;
  config.setCommand({ memory: true });
  assertEquals(device.accesses.slice(before).map((one) => one.kind), ["read"]);
});

Deno.test("offsets that are outside or not aligned are UsageErrors; a closed device a ClosedError", () => {
  const device = new FakeDevice({});
  const config = new ConfigAccess(device);
  for (const offset of [-1, 1, 2, 4096, 4094, 0.5, NaN]) {
    assertThrows(() => config.read32(offset), UsageError);
  }
  assertThrows(() => config.write16(3, 0), UsageError, "configuration space offset 3: no 16-bit register");
  assertThrows(() => config.write8(4096, 0), UsageError);
  assertEquals(device.accesses, []);
  device.close();
  assertThrows(() => config.read32(0), ClosedError);
  assertThrows(() => config.readAll(), ClosedError);
});
