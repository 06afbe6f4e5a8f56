/** The vfio-user server: version, information, connections that come and go. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  createMemfd,
  EventFd,
  fileSizeBytes,
  mappingCount,
  openFdCount,
  UnixSocket,
} from "../../../../../ffi/mod.ts";
import { ClosedError, ProtocolError, UsageError } from "../../../../../lib/errors/mod.ts";
import { decodeVersion } from "../../../../../lib/sockets/vfio_user/capabilities.ts";
import {
  COMMAND,
  messageHeader,
  userDeviceInfo,
  versionMessage,
} from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { decodeRegionInfo } from "../../../../../lib/vfio/region_answer.ts";
import { deviceFeature, irqInfo, regionInfo } from "../../../../../lib/vfio/kernel/abi.ts";
import { VfioUserServer } from "../../../../../lib/sockets/vfio_user/mod.ts";
import { FakeDevice, REGISTER } from "../fake_device.ts";
import { message, RawClient, testSocketPath, versionPayload } from "../raw_client.ts";
import {
  access,
  actionTrigger,
  bench,
  dataEventfd,
  EBUSY,
  EINVAL,
  EIO,
  EMSGSIZE,
  ENOTSUP,
  ENOTTY,
  irqs,
  map,
} from "./bench.ts";

Deno.test("server VERSION: major and minor, capabilities within the offer; QEMU's 0.0 is answered with 0.0", () => {
  using b = bench();
  for (const [minor, answered] of [[0, 0], [1, 1], [7, 1]] as const) {
    b.client.socket.close();
    b.server.handleReadable();
    const client = new RawClient(b.server, { negotiate: false });
    const reply = client.call(COMMAND.version, versionPayload(minor), [], { id: 77 });
    const { major, minor: got, capabilities, named } = decodeVersion(reply.payload, "server");
    assertEquals([reply.id, reply.flags, reply.error, major, got], [77, 1, 0, 0, answered]);
    assertEquals(capabilities.maxMessageFds, 16);
    assert(capabilities.writeMultiple);
    assertEquals(named.size, 5);
    client.socket.close();
    b.server.handleReadable();
  }
  using bare = new RawClient(b.server, { negotiate: false });
  const reply = bare.call(COMMAND.version, versionMessage.encode({}));
  assertEquals(new TextDecoder().decode(reply.payload.subarray(4)), '{"capabilities":{}}\0');
});

Deno.test("server VERSION: a bad one is refused with EINVAL and ends the connection", () => {
  using b = bench();
  b.client.socket.close();
  for (
    const payload of [
      new Uint8Array(2),
      versionMessage.encode({ major: 1 }),
      new Uint8Array([0, 0, 0, 0, 65]),
    ]
  ) {
    using client = new RawClient(b.server, { negotiate: false });
    assertEquals(client.call(COMMAND.version, payload).error, EINVAL);
    assert(client.ended);
    assertEquals(b.server.connectionFd, null);
  }
  using early = new RawClient(b.server, { negotiate: false });
  assertEquals(early.call(COMMAND.deviceReset).error, EINVAL);
  assert(early.ended);
  assertEquals(b.device.log.filter((line) => line !== "attached" && line !== "detached"), []);
});

Deno.test("server VERSION: a second one is refused, the connection goes on", () => {
  using b = bench();
  assertEquals(b.client.call(COMMAND.version, versionPayload()).error, EINVAL);
  assertEquals(b.client.call(COMMAND.deviceReset).error, 0);
});

Deno.test("server DEVICE_GET_INFO, GET_IRQ_INFO: answers, and refusals of a short argsz or a wrong index", () => {
  using b = bench();
  const info = b.client.call(COMMAND.deviceGetInfo, userDeviceInfo.encode({ argsz: 16 }));
  assertEquals(userDeviceInfo.decode(info.payload), { argsz: 16, flags: 3, numRegions: 9, numIrqs: 5 });
  assertEquals(b.client.call(COMMAND.deviceGetInfo, userDeviceInfo.encode({ argsz: 15 })).error, EINVAL);
  assertEquals(b.client.call(COMMAND.deviceGetInfo, new Uint8Array(15)).error, EINVAL);
  const irq = b.client.call(COMMAND.deviceGetIrqInfo, irqInfo.encode({ argsz: 16, index: 2 }));
  assertEquals(irqInfo.decode(irq.payload), { argsz: 16, flags: 9, index: 2, count: 8 });
  assertEquals(
    b.client.call(COMMAND.deviceGetIrqInfo, irqInfo.encode({ argsz: 16, index: 5 })).error,
    EINVAL,
  );
  assertEquals(
    b.client.call(COMMAND.deviceGetIrqInfo, irqInfo.encode({ argsz: 0, index: 1 })).error,
    EINVAL,
  );
});

Deno.test("server GET_REGION_INFO: capabilities and one file, which is the region's", () => {
  using b = bench();
  const ask = (index: number, argsz: number) =>
    b.client.call(COMMAND.deviceGetRegionInfo, regionInfo.encode({ argsz, index }));
  const reply = ask(2, 4096);
  assertEquals(decodeRegionInfo(reply.payload, 2, "server").info.mmapAreas, b.device.region(2).mmapAreas);
  assertEquals(reply.fds.length, 1);
  const [file] = reply.fds;
  assertEquals(fileSizeBytes(file!), 0x10000);
  file!.close();
  const short = ask(2, 32);
  assertEquals([short.payload.byteLength, short.fds.length], [32, 0]);
  assertEquals(ask(0, 32).fds.length, 0);
  assertEquals([ask(9, 32).error, ask(0xffff_ffff, 32).error, ask(0, 31).error], [EINVAL, EINVAL, EINVAL]);
});

Deno.test("server: reset, feature, unknown commands, flags and stray descriptors", () => {
  using b = bench();
  using event = new EventFd();
  const before = openFdCount();
  assertEquals(b.client.call(COMMAND.deviceReset).error, 0);
  assertEquals(b.device.log.at(-1), "reset");
  assertEquals(b.client.call(COMMAND.deviceReset, new Uint8Array(1)).error, EINVAL);
  const probe = deviceFeature.encode({ argsz: 8, flags: (1 << 18) | 11 });
  assertEquals(b.client.call(COMMAND.deviceFeature, probe).error, ENOTTY);
  assertEquals(b.client.call(COMMAND.deviceFeature, new Uint8Array(7)).error, EINVAL);
  for (const command of [0, 14, 17, 18, 19, 0xffff, COMMAND.dmaRead, COMMAND.dmaWrite]) {
    const reply = b.client.call(command);
    assertEquals([reply.command, reply.error, reply.flags], [command, ENOTSUP, 0x21]);
  }
  assertEquals(b.client.call(COMMAND.deviceReset, undefined, [], { flags: 0x40 }).error, EINVAL);
  assertEquals(b.client.call(COMMAND.deviceReset, undefined, [], { flags: 0x20 }).error, EINVAL);
  assertEquals(
    b.client.call(COMMAND.deviceReset, undefined, [event.fd, event.fd]).error,
    0,
    "closed, not refused",
  );
  b.client.call(COMMAND.deviceReset);
  assertEquals(openFdCount(), before);
});

Deno.test("server: a message that cannot be ends the connection; the next client is served", () => {
  using b = bench();
  b.client.socket.close();
  b.server.handleReadable();
  const breaches: [Uint8Array<ArrayBuffer>, number | undefined][] = [
    [message(COMMAND.deviceReset, undefined, { size: 15 }), EINVAL],
    [message(COMMAND.deviceReset, undefined, { size: 0 }), EINVAL],
    [message(COMMAND.regionWrite, undefined, { size: (1 << 20) + 64 }), EMSGSIZE],
    [message(COMMAND.deviceReset, undefined, { flags: 3 }), EINVAL],
    [message(COMMAND.deviceReset, undefined, { flags: 1 }), undefined],
  ];
  for (const [bytes, error] of breaches) {
    using client = new RawClient(b.server);
    const reply = client.send(bytes);
    assertEquals(reply?.error, error);
    assert(client.ended);
    assert(b.server.lastReason instanceof ProtocolError);
    assertEquals([b.server.connectionFd, b.device.log.at(-1)], [null, "detached"]);
  }
  using next = new RawClient(b.server);
  assertEquals(next.call(COMMAND.deviceReset).error, 0);
});

Deno.test("server: a client that dies in the middle of a message leaves nothing behind", () => {
  const before = [openFdCount(), mappingCount().mappings];
  {
    using b = bench();
    using file = createMemfd("memory", 0x4000);
    using event = new EventFd();
    b.client.call(COMMAND.dmaMap, map({}), [file]);
    b.client.call(COMMAND.deviceSetIrqs, irqs(dataEventfd | actionTrigger, 2, 0, 1), [event.fd]);
    const open = openFdCount();
    b.client.socket.send(message(COMMAND.dmaMap, map({ address: 0x80000n })).slice(0, 30), [file]);
    b.client.socket.close();
    b.server.handleReadable();
    assert(b.server.lastReason?.message.includes("30 bytes into a message"));
    assertEquals([b.server.connected, b.server.dma.count, b.device.eventFdCount], [false, 0, 0]);
    assertEquals(openFdCount(), open - 3, "its socket at both ends, and the eventfd");
  }
  assertEquals([openFdCount(), mappingCount().mappings], before);
});

Deno.test("server: an orderly end has no reason; the same device serves the next client", () => {
  using b = bench();
  b.client.socket.close();
  b.server.handleReadable();
  assertEquals([b.server.lastReason, b.server.connectionFd], [null, null]);
  using next = new RawClient(b.server);
  assert(b.server.connected);
  assertEquals(b.device.log, ["attached", "detached", "attached"]);
  assertEquals(next.call(COMMAND.deviceReset).error, 0);
});

Deno.test("server: a second client is refused with EBUSY, the first goes on", () => {
  using b = bench();
  const eager = UnixSocket.connect(b.server.path);
  eager.send(message(COMMAND.version, versionPayload(), { id: 321 }));
  const slow = UnixSocket.connect(b.server.path);
  b.server.handleReadable();
  for (const [socket, id] of [[eager, 321], [slow, 0]] as const) {
    const bytes = new Uint8Array(64);
    assertEquals(socket.receive(bytes)!.length, 16);
    assertEquals([...bytes.subarray(0, 16)], [
      ...message(COMMAND.version, undefined, { id, flags: 0x21, error: EBUSY! }),
    ]);
    socket.close();
  }
  assertEquals(b.client.call(COMMAND.deviceReset).error, 0);
});

Deno.test("server: the place of a client that died is free for one that connects at the same time", () => {
  using b = bench();
  b.client.socket.close();
  const next = UnixSocket.connect(b.server.path);
  next.send(message(COMMAND.version, versionPayload(), { id: 9 }));
  b.server.handleListener();
  const answer = new Uint8Array(1024);
  next.receive(answer);
  assertEquals(messageHeader.decode(answer).errorNumber, 0);
  assertEquals(b.device.log, ["attached", "detached", "attached"]);
  next.close();
});

Deno.test("server: watchers hear of each connection, before its descriptor is closed", () => {
  const heard: string[] = [];
  const watcher = {
    connected: (fd: { number: number }) => void heard.push(`+${fd.number > 0}`),
    disconnecting: (fd: { number: number }, reason: Error | null) =>
      void heard.push(`-${fd.number > 0} ${reason}`),
  };
  using b = bench({ watcher });
  assertEquals(b.server.fds().length, 2);
  b.client.socket.close();
  b.server.handleReadable();
  assertEquals(heard, ["+true", "-true null"]);
  assertEquals(b.server.fds().length, 1);
});

Deno.test("server: errors of the device become error replies; a bug of it ends the connection and comes out", () => {
  using b = bench();
  b.client.call(COMMAND.regionWrite, access(BigInt(REGISTER.length), 0, 4, [4, 0, 0, 0]));
  const fault = b.client.call(COMMAND.regionWrite, access(BigInt(REGISTER.fill), 0, 4, [1, 0, 0, 0]));
  assertEquals(fault.error, EINVAL, "a DmaFault");
  b.client.socket.send(message(COMMAND.regionWrite, access(BigInt(REGISTER.bug), 0, 4, [0, 0, 0, 0])));
  assertThrows(() => b.server.handleReadable(), TypeError, "a bug of the device");
  assertEquals(b.client.receive()!.error, EIO);
  assertEquals([b.server.connectionFd, b.device.log.at(-1)], [null, "detached"]);
});

Deno.test("server: after close everything is a ClosedError, and the socket is gone", () => {
  const device = new FakeDevice();
  const server = VfioUserServer.listen(testSocketPath(), device);
  const client = new RawClient(server);
  server.close();
  server.close();
  assertEquals(device.log, ["attached", "detached"]);
  assertThrows(() => server.handleReadable(), ClosedError);
  assertThrows(() => server.fds(), ClosedError);
  assertThrows(() => UnixSocket.connect(server.path), Error, "ENOENT");
  client[Symbol.dispose]();
  device[Symbol.dispose]();
});

Deno.test("server: options that cannot be are UsageErrors", () => {
  using device = new FakeDevice();
  const before = openFdCount();
  for (
    const options of [{ maxMessageFds: 0 }, { maxMessageFds: 65 }, { maxDataTransferBytes: 7 }, {
      maxDmaMaps: -1,
    }]
  ) {
    assertThrows(() => VfioUserServer.listen(testSocketPath(), device, options), UsageError);
  }
  assertEquals(openFdCount(), before);
});
