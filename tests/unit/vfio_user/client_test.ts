/** The client against servers that lie: their replies lie ready in the socket before the client asks. */
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import {
  createMemfd,
  errnoNumber,
  EventFd,
  mappingCount,
  openFdCount,
  type OwnedFd,
  SyscallError,
  UnixListener,
  UnixSocket,
} from "../../../ffi/mod.ts";
import {
  ClosedError,
  ExhaustedError,
  PeerGoneError,
  ProtocolError,
  RefusedError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { IRQ_FLAG, REGION_FLAG } from "../../../lib/vfio/device.ts";
import { regionInfo } from "../../../lib/vfio/kernel/abi.ts";
import { encodeVersion } from "../../../lib/vfio/vfio_user/capabilities.ts";
import {
  COMMAND,
  dmaAccess,
  messageHeader,
  regionAccess,
  userDeviceInfo,
  userIrqInfo,
  userIrqSet,
  versionMessage,
} from "../../../lib/vfio/vfio_user/protocol.ts";
import { encodeRegionInfo } from "../../../lib/vfio/vfio_user/region_reply.ts";
import { encodeRegionIoFds } from "../../../lib/vfio/vfio_user/region_io_fds.ts";
import { VfioUserDevice, type VfioUserOptions } from "../../../lib/vfio/vfio_user/mod.ts";
import { message, testSocketPath } from "./raw_client.ts";

const REPLY = 1;
const FAILED = 0x21;
const { EINVAL, ENOTTY, EBUSY } = errnoNumber;

interface Fixed {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly fds?: readonly OwnedFd[];
}

function reply(command: number, id: number, payload?: Uint8Array, flags = REPLY, error = 0): Fixed {
  return { bytes: message(command, payload, { id, flags, error }) };
}

const capabilities = {
  maxMessageFds: 2,
  maxDataTransferBytes: 64,
  maxDmaMaps: 1,
  pageSizes: 4096,
  writeMultiple: false,
};
const goodVersion = reply(COMMAND.version, 0, encodeVersion(1, capabilities));
const goodInfo = reply(
  COMMAND.deviceGetInfo,
  1,
  userDeviceInfo.encode({ argsz: 16, flags: 3, numRegions: 9, numIrqs: 5 }),
);

interface Session extends Disposable {
  device: VfioUserDevice;
  peer: UnixSocket;
  /** Requests that the client has sent, headers included; they are read away. */
  requests(): Uint8Array<ArrayBuffer>[];
  /** Puts replies where the client will find them. */
  put(...replies: Fixed[]): void;
}

function put(peer: UnixSocket, replies: readonly Fixed[]): void {
  for (const { bytes, fds } of replies) peer.send(bytes, fds);
}

/** A client that has connected, and a check that it leaks nothing. */
function session(replies: readonly Fixed[] = [], options: VfioUserOptions = {}): Session {
  const before = [openFdCount(), mappingCount().mappings];
  const [peer, socket] = UnixSocket.pair();
  put(peer, [goodVersion, goodInfo, ...replies]);
  const device = VfioUserDevice.fromSocket(socket, { name: "fake", timeoutMs: 50, ...options });
  const buffer = new Uint8Array(1 << 16);
  const requests = (): Uint8Array<ArrayBuffer>[] => {
    const found: Uint8Array<ArrayBuffer>[] = [];
    let have = 0;
    for (;;) {
      const received = peer.receive(buffer.subarray(have), { wait: false });
      if (received === undefined || received.length === 0) break;
      for (const fd of received.fds) fd.close();
      have += received.length;
    }
    for (let at = 0; at < have;) {
      const size = messageHeader.decode(buffer, at).messageBytes;
      found.push(buffer.slice(at, at + size));
      at += size;
    }
    return found;
  };
  const dispose = () => {
    device.close();
    peer.close();
    assertEquals([openFdCount(), mappingCount().mappings], before, "descriptors and mappings leak");
  };
  return { device, peer, requests, put: (...more) => put(peer, more), [Symbol.dispose]: dispose };
}

/** Connecting must fail so, and leave nothing open. */
function connectFails(
  replies: readonly Fixed[],
  // deno-lint-ignore no-explicit-any
  type: new (...args: any[]) => Error,
  text: string,
  close = false,
): void {
  const before = openFdCount();
  const [peer, socket] = UnixSocket.pair();
  put(peer, replies);
  if (close) peer.shutdown();
  assertThrows(() => VfioUserDevice.fromSocket(socket, { name: "fake", timeoutMs: 30 }), type, text);
  peer.close();
  assertEquals(openFdCount(), before);
}

Deno.test("client: what it sends at first is VERSION 0.1 with its limits, then DEVICE_GET_INFO", () => {
  using s = session();
  const [version, info] = s.requests();
  assertEquals(messageHeader.decode(version!), {
    messageId: 0,
    command: 1,
    messageBytes: version!.byteLength,
    flags: 0,
    errorNumber: 0,
  });
  const { capabilities: offered } = JSON.parse(new TextDecoder().decode(version!.subarray(20, -1)));
  assertEquals([...version!.subarray(16, 20), version!.at(-1)], [0, 0, 1, 0, 0]);
  assertEquals([offered.max_msg_fds, offered.max_data_xfer_size], [64, 1048576]);
  assertEquals([...info!], [...message(4, userDeviceInfo.encode({ argsz: 16 }), { id: 1 })]);
  assertEquals(s.device.info, { flags: 3, numRegions: 9, numIrqs: 5 });
  assertEquals([s.device.path, s.device.needsFile, s.device.pageSizes], ["vfio-user", true, 4096n]);
});

Deno.test("client: a server that cannot be talked to is a ProtocolError, and nothing stays open", () => {
  using event = new EventFd();
  const version = (payload: Uint8Array, id = 0) => [reply(COMMAND.version, id, payload), goodInfo];
  const good = encodeVersion(1, capabilities);
  connectFails(version(good, 7), ProtocolError, "message id 7 instead of 0");
  connectFails(version(versionMessage.encode({ major: 1 })), ProtocolError, "version 1.0");
  connectFails(version(versionMessage.encode({ minor: 2 })), ProtocolError, "version 0.2");
  connectFails(version(new Uint8Array(3)), ProtocolError, "3 of 4 bytes");
  connectFails([{ ...goodVersion, fds: [event.fd] }], ProtocolError, "descriptors");
  connectFails([reply(COMMAND.deviceGetInfo, 0)], ProtocolError, "command is DEVICE_GET_INFO");
  connectFails([reply(COMMAND.version, 0, undefined, FAILED, 5000)], ProtocolError, "error number 5000");
  const info = (values: Record<string, number>) => [
    goodVersion,
    reply(COMMAND.deviceGetInfo, 1, userDeviceInfo.encode({ argsz: 16, ...values })),
  ];
  connectFails(info({ numRegions: 101 }), ProtocolError, "num_regions is 101");
  connectFails(info({ numIrqs: 0xffff_ffff }), ProtocolError, "num_irqs is 4294967295");
  connectFails(
    [goodVersion, reply(COMMAND.deviceGetInfo, 1, new Uint8Array(15))],
    ProtocolError,
    "15 of 16 bytes",
  );
  connectFails([{ bytes: message(COMMAND.version, good, { size: 8, flags: 1 }) }], ProtocolError, "size 8");
  connectFails(
    [{ bytes: message(COMMAND.version, good, { size: 1 << 30, flags: 1 }) }],
    ProtocolError,
    "above",
  );
  connectFails([{ bytes: message(COMMAND.version, good, { flags: 4 }) }], ProtocolError, "message type 4");
});

Deno.test("client: refusals of the server are told apart", () => {
  connectFails([reply(COMMAND.version, 0, undefined, FAILED, EBUSY)], RefusedError, "another client");
  connectFails([reply(COMMAND.version, 99, undefined, FAILED, EBUSY)], RefusedError, "another client", true);
  connectFails(
    [reply(COMMAND.version, 0, undefined, FAILED, EINVAL)],
    SyscallError,
    "vfio-user VERSION fake: EINVAL",
  );
  connectFails([reply(COMMAND.version, 0, undefined, FAILED, 0)], SyscallError, "EIO");
});

Deno.test("client: a server that is silent, or goes at any byte of its answer", () => {
  connectFails([], TimeoutError, "did not answer in time");
  connectFails([goodVersion], TimeoutError, "did not answer in time");
  for (const cut of [0, 1, 15, 16, 17, goodVersion.bytes.byteLength - 1]) {
    const part = cut === 0 ? [] : [{ bytes: goodVersion.bytes.slice(0, cut) }];
    connectFails(part, PeerGoneError, cut === 0 ? "closed" : `${cut} bytes into a message`, true);
    if (cut > 0) connectFails(part, TimeoutError, "in time");
  }
});

Deno.test("client: connecting ends when the listener's queue stays full", () => {
  const listener = UnixListener.listen(testSocketPath(), 0);
  const waiting = UnixSocket.connect(listener.path);
  assertThrows(() => VfioUserDevice.connect(listener.path, { timeoutMs: 30 }), TimeoutError);
  waiting.close();
  listener.close();
  assertThrows(() => VfioUserDevice.connect(listener.path), SyscallError, "ENOENT");
  assertThrows(() => VfioUserDevice.connect(listener.path, { timeoutMs: 0 }), UsageError);
});

const bar: Fixed = reply(
  COMMAND.deviceGetRegionInfo,
  2,
  regionInfo.encode({ argsz: 32, flags: REGION_FLAG.read | REGION_FLAG.write, size: 0x1000n }),
);

function access(offset: bigint, region: number, count: number, data: readonly number[] = []): Uint8Array {
  const bytes = regionAccess.encode({ offset, region, count }, data.length);
  bytes.set(data, regionAccess.sizeBytes);
  return bytes;
}

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

function irqAnswer(id: number, index: number, count: number, flags: number = IRQ_FLAG.eventfd): Fixed {
  return reply(COMMAND.deviceGetIrqInfo, id, userIrqInfo.encode({ argsz: 16, flags, index, count }));
}

Deno.test("client SET_IRQS: eventfds and gaps go in runs, no message above the server's limit", () => {
  const done = (id: number) => reply(COMMAND.deviceSetIrqs, id);
  using s = session([irqAnswer(2, 2, 8), ...[3, 4, 5, 6].map(done)]);
  using event = new EventFd();
  s.device.setIrqs({
    index: 2,
    action: "trigger",
    start: 1,
    eventFds: [event, event, event, null, null, event],
  });
  const sent = s.requests().slice(3).map((bytes) => userIrqSet.decode(bytes, 16));
  assertEquals(sent.map(({ flags, start, count }) => [flags, start, count]), [
    [36, 1, 2],
    [36, 3, 1],
    [36, 4, 2],
    [36, 6, 1],
  ]);
});

Deno.test("client SET_IRQS: a refusal half-way takes out what was set before it", () => {
  using s = session([
    irqAnswer(2, 2, 8),
    reply(COMMAND.deviceSetIrqs, 3),
    reply(COMMAND.deviceSetIrqs, 4, undefined, FAILED, EINVAL),
    reply(COMMAND.deviceSetIrqs, 5),
  ]);
  using event = new EventFd();
  const eventFds = [event, event, event];
  assertThrows(
    () => s.device.setIrqs({ index: 2, action: "trigger", start: 0, eventFds }),
    SyscallError,
    "EINVAL",
  );
  const last = userIrqSet.decode(s.requests().at(-1)!, 16);
  assertEquals(last, { argsz: 20, flags: 36, index: 2, start: 0, count: 2 });
});

Deno.test("client SET_IRQS: the other actions, and what cannot be", () => {
  const maskable = IRQ_FLAG.eventfd | IRQ_FLAG.maskable;
  const done = (id: number) => reply(COMMAND.deviceSetIrqs, id);
  using s = session([irqAnswer(2, 0, 1, maskable), ...[3, 4, 5, 6, 7].map(done), irqAnswer(8, 2, 8)]);
  using event = new EventFd();
  s.device.setIrqs({ index: 0, action: "disable" });
  s.device.setIrqs({ index: 0, action: "fire", start: 0, count: 1 });
  s.device.setIrqs({ index: 0, action: "mask", start: 0, count: 1 });
  s.device.setIrqs({ index: 0, action: "unmask", start: 0, count: 1 });
  s.device.setIrqs({ index: 0, action: "unmask-on", start: 0, eventFd: event });
  const sent = s.requests().slice(3).map((bytes) => userIrqSet.decode(bytes, 16));
  assertEquals(sent.map(({ flags, start, count }) => [flags, start, count]), [
    [33, 0, 0],
    [33, 0, 1],
    [9, 0, 1],
    [17, 0, 1],
    [20, 0, 1],
  ]);
  s.device.irqInfo(2);
  s.requests();
  const closed = new EventFd();
  closed.close();
  const { device } = s;
  assertThrows(() => device.setIrqs({ index: 2, action: "fire", start: 7, count: 2 }), UsageError);
  assertThrows(() => device.setIrqs({ index: 2, action: "fire", start: -1, count: 1 }), UsageError);
  assertThrows(() => device.setIrqs({ index: 2, action: "fire", start: 0, count: 0 }), UsageError);
  assertThrows(() => device.setIrqs({ index: 2, action: "trigger", start: 0, eventFds: [] }), UsageError);
  assertThrows(
    () => device.setIrqs({ index: 2, action: "trigger", start: 0, eventFds: [closed] }),
    ClosedError,
  );
  assertThrows(() => device.setIrqs({ index: 2, action: "mask", start: 0, count: 1 }), UnsupportedError);
  assertEquals([s.requests(), device.broken], [[], null]);
});

Deno.test("client: interrupt information that lies is a ProtocolError", () => {
  for (
    const [fixed, text] of [
      [irqAnswer(2, 1, 8), "index is 1"],
      [irqAnswer(2, 2, 4097), "count is 4097"],
      [reply(COMMAND.deviceGetIrqInfo, 2, new Uint8Array(12)), "12 of 16"],
    ] as const
  ) {
    using s = session([fixed]);
    assertThrows(() => s.device.irqInfo(2), ProtocolError, text);
  }
});

Deno.test("client: DMA memory is passed as a file; the server's limit on mappings counts; a refusal leaves nothing", () => {
  using s = session([
    reply(COMMAND.dmaMap, 2, undefined, FAILED, EINVAL),
    reply(COMMAND.dmaMap, 3),
    reply(COMMAND.dmaUnmap, 4, new Uint8Array(24)),
  ]);
  assertThrows(() => s.device.dma.allocate(4096), SyscallError, "DMA_MAP");
  assertEquals(s.device.dma.usage.allocations, 0);
  const memory = s.device.dma.allocate(4096, { access: { deviceReads: true, deviceWrites: false } });
  assertEquals(memory.iova, 0x1000n);
  assertThrows(() => s.device.dma.allocate(4096), ExhaustedError, "1 DMA mappings");
  memory.close();
  const [, , , map, unmap] = s.requests();
  assertEquals(
    [...map!.subarray(16)],
    [32, 1, 0, 0x1000n, 0x1000n].flatMap((value) =>
      typeof value === "number" && value !== 0
        ? [value, 0, 0, 0]
        : typeof value === "number"
        ? [0, 0, 0, 0, 0, 0, 0, 0]
        : [0, 0x10, 0, 0, 0, 0, 0, 0]
    ),
  );
  assertEquals(unmap!.byteLength, 40);
});

Deno.test("client: DMA_READ and DMA_WRITE of the server are answered while a reply is awaited, within what is mapped", () => {
  const dma = (command: number, id: number, address: bigint, count: number, data: number[] = []): Fixed => {
    const payload = dmaAccess.encode({ address, count: BigInt(count) }, data.length);
    payload.set(data, dmaAccess.sizeBytes);
    return { bytes: message(command, payload, { id }) };
  };
  using s = session([reply(COMMAND.dmaMap, 2)]);
  const memory = s.device.dma.allocate(4096, { access: { deviceReads: true, deviceWrites: true } });
  memory.bytes()[5] = 55;
  s.requests();
  s.put(
    dma(COMMAND.dmaWrite, 100, 0x1010n, 3, [1, 2, 3]),
    dma(COMMAND.dmaRead, 101, 0x1005n, 1),
    dma(COMMAND.dmaRead, 102, 0x1fffn, 2),
    dma(COMMAND.dmaRead, 103, 0x0fffn, 1),
    dma(COMMAND.dmaWrite, 104, 0x1000n, 4, [1, 2, 3]),
    dma(COMMAND.dmaRead, 105, 0x1000n, 0x1000_0000),
    { bytes: message(COMMAND.dmaRead, new Uint8Array(4), { id: 106 }) },
    { bytes: message(COMMAND.deviceReset, undefined, { id: 107 }) },
    { bytes: message(COMMAND.deviceReset, undefined, { id: 108, flags: 0x10 }) },
    reply(COMMAND.deviceReset, 3),
  );
  s.device.reset();
  const answers = s.requests().slice(1).map((bytes) => {
    const { messageId, flags, errorNumber } = messageHeader.decode(bytes);
    return [messageId, flags, errorNumber, ...bytes.subarray(32)];
  });
  const { EFAULT, ENOTSUP } = errnoNumber;
  assertEquals(answers, [
    [100, 1, 0],
    [101, 1, 0, 55],
    [102, 0x21, EFAULT],
    [103, 0x21, EFAULT],
    [104, 0x21, EINVAL],
    [105, 0x21, EINVAL],
    [106, 0x21, EINVAL],
    [107, 0x21, ENOTSUP],
  ]);
  assertEquals([...memory.bytes(0x10, 3)], [1, 2, 3]);
});

Deno.test("client: facilities that are not there are UnsupportedErrors", () => {
  using s = session([
    reply(COMMAND.deviceFeature, 2, undefined, FAILED, ENOTTY),
    reply(COMMAND.deviceFeature, 3, undefined, FAILED, EINVAL),
    reply(COMMAND.deviceFeature, 4, new Uint8Array(8)),
    reply(COMMAND.deviceFeature, 5, undefined, FAILED, errnoNumber.EPERM!),
    reply(COMMAND.deviceFeature, 6, undefined, FAILED, ENOTTY),
  ]);
  assertEquals(s.device.probeFeature(3), false);
  assertEquals(s.device.probeFeature(3, "get"), false);
  assertEquals(s.device.probeFeature(1, "set"), true);
  assertThrows(() => s.device.probeFeature(1), SyscallError, "EPERM");
  assertThrows(() => s.device.setVfToken("12345678-1234-1234-1234-123456789abc"), UnsupportedError);
  assertThrows(() => s.device.setVfToken("nonsense"), UsageError);
  assertThrows(() => s.device.probeFeature(0x10000), UsageError);
  assertThrows(() => s.device.hotResetInfo(), UnsupportedError);
  assertThrows(() => s.device.hotReset(), UnsupportedError);
  const flags = s.requests().slice(2).map((bytes) => new DataView(bytes.buffer).getUint32(20, true));
  assertEquals(flags, [0x40003, 0x50003, 0x60001, 0x40001, 0x20000]);
  const noReset = reply(
    COMMAND.deviceGetInfo,
    1,
    userDeviceInfo.encode({ argsz: 16, flags: 2, numRegions: 9 }),
  );
  const [peer, socket] = UnixSocket.pair();
  put(peer, [goodVersion, noReset]);
  using device = VfioUserDevice.fromSocket(socket);
  assertThrows(() => device.reset(), UnsupportedError);
  peer.close();
});

Deno.test("client: after close every call is a ClosedError; closing a broken device releases its memory", () => {
  using s = session([reply(COMMAND.dmaMap, 2)]);
  const memory = s.device.dma.allocate(4096);
  const view = memory.bytes();
  s.peer.shutdown();
  assertThrows(() => s.device.reset(), PeerGoneError);
  memory.close();
  assertEquals(
    [view.byteLength, s.device.dma.usage.allocations],
    [0, 0],
    "no peer is needed to let go of memory",
  );
  s.device.close();
  s.device.close();
  const { device } = s;
  const bytes = new Uint8Array(4);
  for (
    const call of [
      () => device.regionInfo(0),
      () => device.irqInfo(0),
      () => device.readRegion(0, 0, bytes),
      () => device.writeRegion(0, 0, bytes),
      () => device.mapRegion(0, { offset: 0, sizeBytes: 4096 }),
      () => device.doorbellFd(0, 0, 4),
      () => device.setIrqs({ index: 0, action: "disable" }),
      () => device.reset(),
      () => device.hotResetInfo(),
      () => device.probeFeature(0),
      () => device.setVfToken("12345678-1234-1234-1234-123456789abc"),
      () => device.dma.allocate(4096),
    ]
  ) {
    assertThrows(call, ClosedError);
  }
});
