/** The vfio-user client: regions, their mappings, doorbells. */
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { createMemfd, EventFd, SyscallError } from "../../../../../ffi/mod.ts";
import {
  PeerGoneError,
  ProtocolError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../../../lib/errors/mod.ts";
import { REGION_FLAG } from "../../../../../lib/vfio/device.ts";
import { regionInfo } from "../../../../../lib/vfio/kernel/abi.ts";
import { encodeVersion } from "../../../../../lib/sockets/vfio_user/capabilities.ts";
import { COMMAND, messageHeader, writeMulti } from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { encodeRegionInfo } from "../../../../../lib/sockets/vfio_user/server/region_reply.ts";
import { encodeRegionIoFds } from "../../../../../lib/sockets/vfio_user/region_io_fds.ts";
import { message } from "../raw_client.ts";
import {
  access,
  bar,
  capabilities,
  EINVAL,
  FAILED,
  type Fixed,
  goodInfo,
  reply,
  session,
} from "./session.ts";

Deno.test("client: a read and a write of each width are one message", () => {
  for (const width of [1, 2, 4, 8]) {
    const data = Array.from({ length: width }, (_, i) => 10 + i);
    using s = session([
      bar,
      reply(COMMAND.regionRead, 3, access(0x20n, 0, width, data)),
      reply(COMMAND.regionWrite, 4, access(0x28n, 0, width)),
    ]);
    const into = new Uint8Array(width);
    s.device.readRegion(0, 0x20, into);
    assertEquals([...into], data);
    s.device.writeRegion(0, 0x28, into);
    const [, , , read, write] = s.requests();
    assertEquals([...read!], [...message(COMMAND.regionRead, access(0x20n, 0, width), { id: 3 })]);
    assertEquals([...write!], [...message(COMMAND.regionWrite, access(0x28n, 0, width, data), { id: 4 })]);
  }
});

Deno.test("client: longer transfers are cut to what the server takes", () => {
  const data = Array.from({ length: 100 }, (_, i) => i);
  using s = session([
    bar,
    reply(COMMAND.regionRead, 3, access(8n, 0, 64, data.slice(0, 64))),
    reply(COMMAND.regionRead, 4, access(72n, 0, 36, data.slice(64))),
    reply(COMMAND.regionWrite, 5, access(8n, 0, 64)),
    reply(COMMAND.regionWrite, 6, access(72n, 0, 36)),
  ]);
  const into = new Uint8Array(100);
  s.device.readRegion(0, 8, into);
  assertEquals([...into], data);
  s.device.writeRegion(0, 8, into);
  const last = s.requests().at(-1)!;
  assertEquals([...last], [...message(COMMAND.regionWrite, access(72n, 0, 36, data.slice(64)), { id: 6 })]);
});

Deno.test("client: a long write goes in messages of 32 KiB, what a peer surely gets by one recv, whatever it takes", () => {
  const large = regionInfo.encode({ argsz: 32, flags: REGION_FLAG.write, size: 0x10_0000n });
  const sizes = [0x8000, 0x8000, 0x8000, 5];
  using s = session(
    [
      reply(COMMAND.deviceGetRegionInfo, 2, large),
      ...sizes.map((size, i) => reply(COMMAND.regionWrite, 3 + i, access(BigInt(i * 0x8000), 0, size))),
    ],
    { timeoutMs: 60_000 },
    reply(COMMAND.version, 0, encodeVersion(1, { ...capabilities, maxDataTransferBytes: 1 << 20 })),
  );
  s.device.writeRegion(0, 0, new Uint8Array(3 * 0x8000 + 5));
  assertEquals(s.requests().slice(3).map((one) => one.byteLength - 32), sizes);
});

Deno.test("client: several writes go in one message where the server takes that, else in one each", () => {
  const writes = [
    { index: 0, offset: 4, data: new Uint8Array([1]) },
    { index: 0, offset: 0xff8, data: new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]) },
  ];
  const many = { ...capabilities, writeMultiple: true };
  const version = reply(COMMAND.version, 0, encodeVersion(1, many));
  const done = (id: number, count: number) =>
    reply(COMMAND.regionWriteMulti, id, writeMulti.encode({ writeCount: BigInt(count) }));
  {
    using s = session([bar, done(3, 2), done(4, 200), done(5, 1), done(6, 1)], {}, version);
    s.device.writeRegions(writes);
    const sent = s.requests()[3]!;
    assertEquals([...sent.subarray(16)], [
      ...[2, 0, 0, 0, 0, 0, 0, 0],
      ...[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
      ...[0xf8, 0xf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
    ]);
    s.device.writeRegions([]);
    s.device.writeRegions(Array.from({ length: 201 }, () => writes[0]!));
    assertEquals(s.requests().map((one) => one.byteLength), [16 + 8 + 200 * 24, 16 + 8 + 24]);
    for (const length of [0, 9]) {
      const wrong = [writes[0]!, { index: 0, offset: 0, data: new Uint8Array(length) }];
      assertThrows(() => s.device.writeRegions(wrong), UsageError, `${length} bytes`);
    }
    assertThrows(() => s.device.writeRegions([{ ...writes[1]!, offset: 0xff9 }]), UsageError, "outside");
    assertEquals(s.requests(), []);
    assertThrows(() => s.device.writeRegions(writes), ProtocolError, "1 of 2 writes");
  }
  using s = session([
    bar,
    reply(COMMAND.regionWrite, 3, access(4n, 0, 1)),
    reply(COMMAND.regionWrite, 4, access(0xff8n, 0, 8)),
  ]);
  s.device.writeRegions(writes);
  assertEquals(s.requests().slice(3).map((one) => messageHeader.decode(one).command), [10, 10]);
});

Deno.test("client: a lying answer to a region access is a ProtocolError, and the device stays broken with it", () => {
  using event = new EventFd();
  const lies: [Fixed, string][] = [
    [reply(COMMAND.regionRead, 4, access(0x20n, 0, 4, [1, 2, 3, 4])), "message id 4 instead of 3"],
    [reply(COMMAND.regionWrite, 3, access(0x20n, 0, 4, [1, 2, 3, 4])), "command is REGION_WRITE"],
    [reply(COMMAND.regionRead, 3, access(0x20n, 0, 4, [1, 2, 3])), "19 bytes instead of 20"],
    [reply(COMMAND.regionRead, 3, access(0x20n, 0, 4, [1, 2, 3, 4, 5])), "21 bytes instead of 20"],
    [reply(COMMAND.regionRead, 3), "0 bytes instead of 20"],
    [reply(COMMAND.regionRead, 3, access(0x20n, 0, 3, [1, 2, 3, 4])), "count is 3"],
    [reply(COMMAND.regionRead, 3, access(0x20n, 1, 4, [1, 2, 3, 4])), "of region 1"],
    [reply(COMMAND.regionRead, 3, access(0x1_0000_0020n, 0, 4, [1, 2, 3, 4])), "about offset 4294967328"],
    [reply(COMMAND.regionRead, 3, undefined, FAILED, 4096), "error number 4096"],
    [
      { ...reply(COMMAND.regionRead, 3, access(0x20n, 0, 4, [1, 2, 3, 4])), fds: [event.fd] },
      "1 descriptors instead of at most 0",
    ],
    [{ ...reply(COMMAND.regionRead, 3, undefined, FAILED, EINVAL), fds: [event.fd] }, "1 descriptors"],
  ];
  for (const [lie, text] of lies) {
    using s = session([bar, lie]);
    const into = new Uint8Array(4);
    const error = assertThrows(() => s.device.readRegion(0, 0x20, into), ProtocolError, text);
    assertStrictEquals(assertThrows(() => s.device.readRegion(0, 0x20, into)), error);
    assertStrictEquals(assertThrows(() => s.device.reset()), error);
    assertStrictEquals(s.device.broken, error);
    assertEquals([...into], [0, 0, 0, 0]);
  }
});

Deno.test("client: an error reply is the server's errno, and the connection goes on", () => {
  using s = session([
    bar,
    reply(COMMAND.regionRead, 3, undefined, FAILED, EINVAL),
    reply(COMMAND.regionRead, 4, access(0n, 0, 1, [7])),
  ]);
  const into = new Uint8Array(1);
  const error = assertThrows(() => s.device.readRegion(0, 0, into), SyscallError, "REGION_READ");
  assertEquals(error.code, "EINVAL");
  s.device.readRegion(0, 0, into);
  assertEquals(into[0], 7);
});

Deno.test("client: a peer that goes or falls silent in the middle of a call breaks the device with that error", () => {
  for (const part of [0, 10, 30]) {
    const bytes = reply(COMMAND.regionRead, 3, access(0n, 0, 4, [1, 2, 3, 4])).bytes.slice(0, part);
    const some = part === 0 ? [] : [{ bytes }];
    {
      using s = session([bar, ...some]);
      s.device.regionInfo(0);
      s.peer.shutdown();
      const gone = assertThrows(() => s.device.readRegion(0, 0, new Uint8Array(4)), PeerGoneError);
      assertStrictEquals(assertThrows(() => s.device.irqInfo(0)), gone);
    }
    using s = session([bar, ...some], { timeoutMs: 20 });
    const late = assertThrows(() => s.device.readRegion(0, 0, new Uint8Array(4)), TimeoutError);
    assertThrows(() => s.put(goodInfo), PeerGoneError, "closed", "nobody is there for a late reply");
    assertStrictEquals(
      assertThrows(() => s.device.readRegion(0, 0, new Uint8Array(4))),
      late,
    );
  }
});

Deno.test("client: accesses that cannot be are UsageErrors, and nothing is sent", () => {
  const readOnly = reply(
    COMMAND.deviceGetRegionInfo,
    3,
    regionInfo.encode({ argsz: 32, flags: REGION_FLAG.read, index: 6, size: 16n }),
  );
  using s = session([bar, readOnly]);
  s.device.regionInfo(0);
  s.device.regionInfo(6);
  s.requests();
  const four = new Uint8Array(4);
  for (const offset of [-1, 0.5, 0xffd, 0x1000, NaN, 2 ** 60]) {
    assertThrows(() => s.device.readRegion(0, offset, four), UsageError);
    assertThrows(() => s.device.writeRegion(0, offset, four), UsageError);
  }
  assertThrows(() => s.device.writeRegion(6, 0, four), UsageError, "cannot be written");
  for (const index of [-1, 9, 1.5, NaN]) {
    assertThrows(() => s.device.regionInfo(index), UsageError);
    assertThrows(() => s.device.readRegion(index, 0, four), UsageError);
    assertThrows(() => s.device.irqInfo(index), UsageError);
    assertThrows(() => s.device.doorbellFd(index, 0, 4), UsageError);
  }
  assertThrows(
    () => s.device.mapRegion(0, { offset: 0, sizeBytes: 4096 }),
    UnsupportedError,
    "may not be mapped",
  );
  assertThrows(() => s.device.mapRegion(0, { offset: 1, sizeBytes: 4096 }), UsageError, "whole pages");
  assertEquals(s.requests(), []);
  assertEquals(s.device.broken, null);
});

const mappable = {
  index: 0,
  flags: REGION_FLAG.read | REGION_FLAG.write,
  sizeBytes: 0x4000,
  mmapAreas: [{ offset: 0x1000, sizeBytes: 0x2000 }],
  msixMappable: false,
};

Deno.test("client: region information that lies is a ProtocolError", () => {
  using file = createMemfd("short", 0x2000);
  const whole = encodeRegionInfo({ ...mappable, file }, 4096).bytes;
  const lie = (at: number, value: number): Fixed => {
    const bytes = whole.slice();
    new DataView(bytes.buffer).setUint32(at, value, true);
    return { ...reply(COMMAND.deviceGetRegionInfo, 2, bytes), fds: [file] };
  };
  const lies: [Fixed, string][] = [
    [lie(0, 31), "argsz is 31"],
    [lie(0, 65537), "argsz is 65537"],
    [lie(0, 60), "argsz 60 with 64 bytes"],
    [lie(8, 1), "region 1"],
    [lie(12, 8), "offset 8"],
    [lie(12, 60), "offset 60"],
    [lie(36, 32), "comes back"],
    [lie(20, 0x20_0000), "2^53"],
    [lie(40, 2), "needs 48 bytes"],
    [lie(40, 0xffff_ffff), "needs"],
    [lie(52, 1), "leaves"],
    [lie(60, 1), "leaves"],
    [reply(COMMAND.deviceGetRegionInfo, 2, whole), "no file"],
    [reply(COMMAND.deviceGetRegionInfo, 2, whole.subarray(0, 31)), "31 of 32"],
    [{ ...reply(COMMAND.deviceGetRegionInfo, 2, whole), fds: [file, file] }, "2 descriptors"],
  ];
  for (const [fixed, text] of lies) {
    using s = session([fixed]);
    assertThrows(() => s.device.regionInfo(0), ProtocolError, text);
    assert(s.device.broken !== null, text);
  }
});

Deno.test("client: a file that ends before the area is not mapped", () => {
  using file = createMemfd("short", 0x2000);
  const bytes = encodeRegionInfo({ ...mappable, file }, 4096).bytes;
  const answer = (id: number): Fixed => ({ ...reply(COMMAND.deviceGetRegionInfo, id, bytes), fds: [file] });
  using s = session([answer(2), answer(3)]);
  assertEquals(s.device.regionInfo(0).mmapAreas, mappable.mmapAreas);
  assertThrows(
    () => s.device.mapRegion(0, { offset: 0x1000, sizeBytes: 0x2000 }),
    ProtocolError,
    "8192 bytes",
  );
});

Deno.test("client: mapped regions are the file's memory, and detached by close", () => {
  using file = createMemfd("region", 0x6000);
  const bytes = encodeRegionInfo({ ...mappable, file, fileOffset: 0x2000 }, 4096).bytes;
  const answer = (id: number): Fixed => ({ ...reply(COMMAND.deviceGetRegionInfo, id, bytes), fds: [file] });
  using s = session([answer(2), answer(3), answer(4)]);
  const memory = s.device.mapRegion(0, { offset: 0x1000, sizeBytes: 0x2000 });
  const again = s.device.mapRegion(0, { offset: 0x2000, sizeBytes: 0x1000 });
  const view = memory.bytes();
  view[0x1004] = 77;
  assertEquals(again.bytes()[4], 77);
  s.device.close();
  assertEquals([view.byteLength, view[0x1004]], [0, undefined]);
});

Deno.test("client: region information longer than asked for is asked for again", () => {
  using file = createMemfd("region", 0x400000);
  const areas = Array.from({ length: 100 }, (_, i) => ({ offset: i * 0x2000, sizeBytes: 0x1000 }));
  const region = { ...mappable, sizeBytes: 0x400000, mmapAreas: areas, file };
  using s = session([
    reply(COMMAND.deviceGetRegionInfo, 2, encodeRegionInfo(region, 1024).bytes),
    { ...reply(COMMAND.deviceGetRegionInfo, 3, encodeRegionInfo(region, 4096).bytes), fds: [file] },
  ]);
  assertEquals(s.device.regionInfo(0).mmapAreas, areas);
});

Deno.test("client: doorbells by offset and size; other kinds and other servers are no error", () => {
  using one = new EventFd();
  using two = new EventFd();
  const areas = [
    { offset: 0x10, sizeBytes: 4, fdIndex: 0 },
    { offset: 0x14, sizeBytes: 2, fdIndex: 1, value: 3 },
    { offset: 0x18, sizeBytes: 0, fdIndex: 1 },
  ];
  const answer = reply(COMMAND.deviceGetRegionIoFds, 3, encodeRegionIoFds(0, areas, 4096).bytes);
  using s = session([bar, { ...answer, fds: [one.fd, two.fd] }]);
  s.device.doorbellFd(0, 0x10, 4)!.fd.signal();
  assertEquals([one.take(), two.take()], [1, 0]);
  assertEquals(s.device.doorbellFd(0, 0x10, 2), undefined);
  assertEquals(s.device.doorbellFd(0, 0x14, 2)!.value, 3);
  s.device.doorbellFd(0, 0x18, 8)!.fd.signal();
  assertEquals(two.take(), 1);
  using none = session([bar, reply(COMMAND.deviceGetRegionIoFds, 3, undefined, FAILED, EINVAL)]);
  assertEquals(none.device.doorbellFd(0, 0, 4), undefined);
  using file = createMemfd("no eventfd", 4096);
  using liar = session([bar, { ...answer, fds: [one.fd, file] }]);
  assertThrows(() => liar.device.doorbellFd(0, 0x10, 4), ProtocolError, "no eventfd");
});

Deno.test("client: several doorbells at one place, for one value each: the one asked for, else the one for any value", () => {
  using one = new EventFd();
  using two = new EventFd();
  using any = new EventFd();
  const areas = [
    { offset: 0x10, sizeBytes: 2, fdIndex: 0, value: 1 },
    { offset: 0x10, sizeBytes: 2, fdIndex: 1, value: 2 },
    { offset: 0x20, sizeBytes: 2, fdIndex: 0, value: 1 },
    { offset: 0x20, sizeBytes: 2, fdIndex: 2 },
  ];
  const answer = reply(COMMAND.deviceGetRegionIoFds, 3, encodeRegionIoFds(0, areas, 4096).bytes);
  using s = session([bar, { ...answer, fds: [one.fd, two.fd, any.fd] }]);
  const signal = (offset: number, value?: number) => {
    const found = s.device.doorbellFd(0, offset, 2, value);
    found?.fd.signal();
    return found?.value;
  };
  assertEquals([signal(0x10, 2), signal(0x10, 1), signal(0x10, 2)], [2, 1, 2]);
  assertEquals([one.take(), two.take(), any.take()], [1, 2, 0]);
  assertEquals(s.device.doorbellFd(0, 0x10, 2, 3), undefined);
  assertEquals([signal(0x20, 7), signal(0x20, 1)], [undefined, 1]);
  assertEquals([one.take(), two.take(), any.take()], [1, 0, 1]);
  assertEquals(s.device.doorbellFd(0, 0x10, 2)!.value, 1, "without a value the first, as ever");
});
