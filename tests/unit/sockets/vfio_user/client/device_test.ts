/** The client against servers that lie, their replies ready in the socket before it asks: connecting, memory, what it says after its end. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { errnoNumber, EventFd, SyscallError, UnixListener, UnixSocket } from "../../../../../ffi/mod.ts";
import {
  ClosedError,
  ExhaustedError,
  PeerGoneError,
  ProtocolError,
  RefusedError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../../../lib/errors/mod.ts";
import { encodeVersion } from "../../../../../lib/sockets/vfio_user/capabilities.ts";
import {
  COMMAND,
  dmaAccess,
  messageHeader,
  userDeviceInfo,
  versionMessage,
} from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { VfioUserDevice } from "../../../../../lib/sockets/vfio_user/mod.ts";
import { message, testSocketPath } from "../raw_client.ts";
import {
  capabilities,
  connectFails,
  EBUSY,
  EINVAL,
  ENOTTY,
  FAILED,
  type Fixed,
  goodInfo,
  goodVersion,
  put,
  reply,
  session,
} from "./session.ts";

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
  const { needsFile, pageSizes } = s.device.dma.mapper;
  assertEquals([s.device.path, needsFile, pageSizes], ["vfio-user", true, 4096n]);
  assert(!s.device.dma.mapper.iommu, "the peer knows the memory by these addresses");
});

Deno.test("client: a server that cannot be talked to is a ProtocolError, and nothing stays open", () => {
  using event = new EventFd();
  const version = (payload: Uint8Array, id = 0) => [reply(COMMAND.version, id, payload), goodInfo];
  const good = encodeVersion(1, capabilities);
  connectFails(version(good, 7), ProtocolError, "message id 7 instead of 0");
  connectFails(version(versionMessage.encode({ major: 1 })), ProtocolError, "version 1.0");
  connectFails(version(versionMessage.encode({ minor: 2 })), ProtocolError, "version 0.2");
  const narrow = encodeVersion(1, { ...capabilities, maxDataTransferBytes: 7 });
  connectFails(version(narrow), UnsupportedError, "7 bytes in one message");
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
    ProtocolError,
    "refuses protocol version 0.1",
  );
  connectFails([reply(COMMAND.version, 0, undefined, FAILED, 0)], ProtocolError, "refuses");
});

Deno.test("client: a server that is silent, or goes at any byte of its answer", () => {
  connectFails([], TimeoutError, "no reply to ");
  connectFails([goodVersion], TimeoutError, "no reply to ");
  for (const cut of [0, 1, 15, 16, 17, goodVersion.bytes.byteLength - 1]) {
    const part = cut === 0 ? [] : [{ bytes: goodVersion.bytes.slice(0, cut) }];
    connectFails(part, PeerGoneError, cut === 0 ? "closed" : `${cut} bytes into a message`, true);
    if (cut > 0) connectFails(part, TimeoutError, "no reply to");
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

Deno.test("client: who lent the socket is told once that the device is closed, also when the peer is gone", () => {
  for (const gone of [false, true]) {
    const told: boolean[] = [];
    using s = session([], { onClosed: () => told.push(s.device.closed) });
    if (gone) s.peer.shutdown();
    for (let i = 0; i < 3; i++) s.device.close();
    s.device[Symbol.dispose]();
    assertEquals(told, [true]);
  }
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
