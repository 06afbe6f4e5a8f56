/** Region information and region I/O descriptors: what a server encodes is what a client decodes. */
import { assertEquals, assertThrows } from "@std/assert";
import { ProtocolError } from "../../../../lib/errors/mod.ts";
import { REGION_FLAG } from "../../../../lib/vfio/device.ts";
import { decodeRegionInfo } from "../../../../lib/vfio/region_answer.ts";
import { ioEventFdShadow, regionIoFds } from "../../../../lib/sockets/vfio_user/protocol.ts";
import { encodeRegionInfo } from "../../../../lib/sockets/vfio_user/server/region_reply.ts";
import { decodeRegionIoFds, encodeRegionIoFds } from "../../../../lib/sockets/vfio_user/region_io_fds.ts";
import { FakeDevice } from "./fake_device.ts";

const { read, write, mmap, caps } = REGION_FLAG;

Deno.test("region info: sparse areas, type and MSI-X-mappable travel as a capability chain", () => {
  using device = new FakeDevice();
  const region = {
    ...device.region(2),
    msixMappable: true,
    type: { type: 5, subtype: 6 },
    fileOffset: 0x100000,
  };
  const { bytes, complete, mappable } = encodeRegionInfo(region, 4096);
  assertEquals([complete, mappable, bytes.byteLength], [true, true, 32 + (16 + 2 * 16) + 16 + 8]);
  const view = new DataView(bytes.buffer);
  assertEquals(view.getUint32(0, true), 104, "argsz");
  assertEquals(view.getUint32(12, true), 32, "cap_offset");
  assertEquals([view.getUint16(32, true), view.getUint32(36, true)], [1, 80], "sparse mmap, next");
  assertEquals([view.getUint16(80, true), view.getUint32(84, true)], [2, 96], "type, next");
  assertEquals([view.getUint16(96, true), view.getUint32(100, true)], [3, 0], "MSI-X mappable, end");
  const { info, fileOffset } = decodeRegionInfo(bytes, 2, "peer");
  assertEquals(info, {
    index: 2,
    flags: read | write | mmap | caps,
    sizeBytes: 0x10000,
    mmapAreas: region.mmapAreas,
    msixMappable: true,
    type: { type: 5, subtype: 6 },
  });
  assertEquals(fileOffset, 0x100000n);
});

Deno.test("region info: a region that is mappable as a whole needs no sparse capability", () => {
  using device = new FakeDevice();
  const whole = [{ offset: 0, sizeBytes: 0x10000 }];
  const { bytes } = encodeRegionInfo({ ...device.region(2), mmapAreas: whole }, 32);
  assertEquals(bytes.byteLength, 32);
  assertEquals(decodeRegionInfo(bytes, 2, "peer").info.mmapAreas, whole);
});

Deno.test("region info: without room the answer is the fixed part, argsz says more, and the CAPS flag is not set", () => {
  using device = new FakeDevice();
  const { bytes, complete } = encodeRegionInfo(device.region(2), 32);
  const view = new DataView(bytes.buffer);
  assertEquals([complete, bytes.byteLength, view.getUint32(0, true)], [false, 32, 80]);
  assertEquals([view.getUint32(4, true), view.getUint32(12, true)], [read | write | mmap, 0]);
});

Deno.test("region info: without a file nothing is mappable", () => {
  using device = new FakeDevice();
  const { file: _file, ...region } = device.region(2);
  const { bytes, mappable } = encodeRegionInfo(region, 4096);
  assertEquals([mappable, decodeRegionInfo(bytes, 2, "peer").info.mmapAreas], [false, []]);
});

const areas = [
  { offset: 0x3000, sizeBytes: 4, fdIndex: 0 },
  { offset: 0x3004, sizeBytes: 2, fdIndex: 1, value: 7 },
];

Deno.test("region I/O descriptors: 40 bytes an entry, in and out", () => {
  const { bytes, complete } = encodeRegionIoFds(2, areas, 4096);
  assertEquals([complete, bytes.byteLength], [true, 16 + 80]);
  assertEquals(decodeRegionIoFds(bytes, 2, 2, 0x4000, "peer"), { argsz: 96, areas });
});

Deno.test("region I/O descriptors: libvfio-user's 48 bytes an entry are understood", () => {
  const bytes = regionIoFds.encode({ argsz: 16 + 96, index: 2, count: 2 }, 96);
  areas.forEach((area, i) => {
    ioEventFdShadow.encodeInto(bytes, 16 + 48 * i, {
      offset: BigInt(area.offset),
      size: BigInt(area.sizeBytes),
      fdIndex: area.fdIndex,
      flags: area.value === undefined ? 0 : 1,
      shadowOffset: 0x1234n,
      dataMatch: BigInt(area.value ?? 0),
    });
  });
  assertEquals(decodeRegionIoFds(bytes, 2, 2, 0x4000, "peer").areas, areas);
});

Deno.test("region I/O descriptors: without room none are there, and argsz tells the need", () => {
  const { bytes, complete } = encodeRegionIoFds(2, areas, 50);
  assertEquals([complete, bytes.byteLength], [false, 16]);
  assertEquals(decodeRegionIoFds(bytes, 2, 0, 0x4000, "peer"), { argsz: 96, areas: [] });
});

Deno.test("region I/O descriptors: lies are ProtocolErrors", () => {
  const good = encodeRegionIoFds(2, areas, 4096).bytes;
  const lie = (at: number, value: number): Uint8Array => {
    const bytes = good.slice();
    new DataView(bytes.buffer).setUint32(at, value, true);
    return bytes;
  };
  const check = (bytes: Uint8Array, text: string) =>
    assertThrows(() => decodeRegionIoFds(bytes, 2, 2, 0x4000, "peer"), ProtocolError, text);
  check(good.subarray(0, 15), "15 of 16 bytes");
  check(lie(0, 8), "argsz");
  check(lie(0, 0x7fff_ffff), "argsz");
  check(lie(8, 3), "index");
  check(lie(12, 3), "count");
  check(lie(12, 0xffff_ffff), "count");
  check(lie(16 + 16, 2), "fd_index");
  check(lie(16, 0x3fff), "leaves the region");
  check(lie(16 + 4, 1), "leaves the region");
});
