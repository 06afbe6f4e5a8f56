/** A virtio device by vhost-user messages: which are sent when, and what of the answers is believed. */
import { assertEquals, assertThrows } from "@std/assert";
import { createMemfd, EventFd, type OwnedFd } from "../../../../../ffi/mod.ts";
import {
  ClosedError,
  DeviceError,
  ProtocolError,
  UnsupportedError,
  UsageError,
} from "../../../../../lib/errors/mod.ts";
import { PROTOCOL_FEATURE, REQUEST } from "../../../../../lib/sockets/vhost_user/protocol.ts";
import { FEATURE, openTransport, VirtioDevice, type VirtioTransport } from "../../../../../lib/virtio/mod.ts";
import { BLK_FEATURE } from "../../../../../lib/virtio/spec/blk.ts";
import { NET_FEATURE } from "../../../../../lib/virtio/spec/net.ts";
import { STATUS } from "../../../../../lib/virtio/spec/status.ts";
import {
  able,
  ack,
  type Connection,
  plain,
  type Reply,
  reply,
  type Scripted,
  scripted,
  u32,
  u64,
} from "../../../sockets/vhost_user/client/scripted.ts";

const { REPLY_ACK, CONFIG, MQ, INFLIGHT_SHMFD, RESET_DEVICE } = PROTOCOL_FEATURE;
const READY = STATUS.acknowledge | STATUS.driver | STATUS.featuresOk;

/** Of an eventfd that was passed. */
function readCount(fd: OwnedFd): number {
  return new EventFd(fd).take();
}

interface Opened extends Disposable {
  readonly transport: VirtioTransport;
  readonly back: Connection;
  readonly s: Scripted;
}

function opened(replies: readonly Reply[], options: Parameters<typeof scripted>[1] = {}): Opened {
  const s = scripted(replies, options);
  const transport = openTransport(s.device);
  const [back] = s.connections;
  const dispose = () => {
    transport.close();
    s[Symbol.dispose]();
  };
  return { transport, back: back!, s, [Symbol.dispose]: dispose };
}

const RING = { size: 256, descriptorArea: 0x1000n, driverArea: 0x2000n, deviceArea: 0x3000n };

Deno.test("a queue is told of at DRIVER_OK: size, base, addresses, descriptors; then it is enabled; a reset asks for its base", () => {
  const features = 1n << 32n | NET_FEATURE.MRG_RXBUF;
  const asked = reply("getFeatures", u64(features));
  using o = opened([...able(0n, features), asked, reply("getVringBase", u32(1, 7))]);
  const { transport, back } = o;
  back.requests();
  transport.writeStatus(STATUS.acknowledge | STATUS.driver);
  transport.writeDriverFeatures(features);
  transport.writeStatus(READY);
  transport.enableInterrupts("msix", 2);
  transport.setQueueVector(1, 1);
  transport.enableQueue(1, RING);
  assertEquals([transport.queueEnabled(1), transport.queueView(1).vector], [true, 1]);
  // Bit 30 goes with them: rings begin disabled then.
  assertEquals(back.requests(), ["SET_FEATURES 0080004001000000"]);
  transport.writeStatus(READY | STATUS.driverOk);
  const started = [
    "SET_VRING_NUM 0100000000010000",
    "SET_VRING_BASE 0100000000000000",
    // Index and flags; descriptor table, used ring, available ring, log.
    "SET_VRING_ADDR 0100000000000000" + "0010000000000000" + "0030000000000000" + "0020000000000000" +
    "0".repeat(16),
    "SET_VRING_ERR +1 0100000000000000",
    "SET_VRING_CALL +1 0100000000000000",
    "SET_VRING_KICK +1 0100000000000000",
    "SET_VRING_ENABLE 0100000001000000",
    "GET_FEATURES",
  ];
  assertEquals(back.requests(), started);
  assertEquals(transport.readStatus(), READY | STATUS.driverOk);
  transport.setQueueVector(1, null);
  // Another descriptor, at which nobody looks: bit 8 would say that none comes along, and libvhost-user calls all the same.
  assertEquals(back.requests(), ["SET_VRING_CALL +1 0100000000000000"]);
  transport.reset();
  assertEquals(back.requests(), ["GET_VRING_BASE 0100000000000000"]);
  assertEquals([transport.readStatus(), transport.queueEnabled(1), transport.driverFeatures], [0, false, 0n]);
});

Deno.test("without protocol features there is nothing to enable; a packed ring's base has both wrap counters set", () => {
  const features = 1n << 32n | FEATURE.RING_PACKED;
  using o = opened([...plain(features), reply("getFeatures", u64(features))]);
  const { transport, back } = o;
  back.requests();
  transport.writeDriverFeatures(features);
  transport.enableQueue(0, RING);
  transport.writeStatus(READY | STATUS.driverOk);
  const sent = back.requests();
  assertEquals(sent[0], "SET_FEATURES 0000000005000000");
  assertEquals(sent[2], "SET_VRING_BASE 0000000000800080");
  assertEquals(sent.at(-2), "SET_VRING_KICK +1 0000000000000000");
  back.put(reply("getVringBase", u32(0, 0)));
});

Deno.test("the notification is the kick descriptor that was passed", () => {
  const features = 1n << 32n;
  using o = opened([...plain(features), reply("getFeatures", u64(features))]);
  const { transport, back } = o;
  transport.writeDriverFeatures(features);
  transport.enableQueue(0, RING);
  transport.writeStatus(READY | STATUS.driverOk);
  back.requests();
  const kick = back.fds.at(-1)!;
  const bell = transport.doorbell(0);
  bell.ring(0, 0);
  bell.ring(5, 1);
  assertEquals(readCount(kick), 2);
  back.put(reply("getVringBase", u32(0, 0)));
  transport.close();
  assertThrows(() => bell.ring(0, 0), ClosedError);
});

Deno.test("an answer to GET_VRING_BASE about another queue breaks the connection", () => {
  using o = opened([...plain(1n << 32n), reply("getFeatures", u64(0n)), reply("getVringBase", u32(1, 0))]);
  const { transport } = o;
  transport.writeDriverFeatures(1n << 32n);
  transport.enableQueue(0, RING);
  transport.writeStatus(READY | STATUS.driverOk);
  assertThrows(() => transport.reset(), ProtocolError, "GET_VRING_BASE of queue 0: it is about queue 1");
});

Deno.test("status by SET_STATUS and GET_STATUS; RESET_DEVICE and status 0 for a reset", () => {
  const protocol = PROTOCOL_FEATURE.STATUS | RESET_DEVICE | REPLY_ACK;
  using o = opened([
    ...able(protocol, 1n << 32n),
    ack("setStatus"),
    reply("getStatus", u64(3n)),
    reply("getStatus", u64(0x100n)),
    ack("resetDevice"),
    ack("setStatus"),
  ]);
  const { transport, back } = o;
  back.requests();
  transport.writeStatus(3);
  assertEquals(transport.readStatus(), 3);
  const error = assertThrows(() => transport.readStatus(), DeviceError, "0x100 is no status");
  assertEquals(error.location.field, "device_status");
  transport.reset();
  assertEquals(back.requests(), [
    "SET_STATUS! 0300000000000000",
    "GET_STATUS",
    "GET_STATUS",
    "RESET_DEVICE!",
    "SET_STATUS! 0000000000000000",
  ]);
  back.put(ack("resetDevice"), ack("setStatus"));
});

Deno.test("a ring that the back end cannot go on with asks for a reset", () => {
  using o = opened([...plain(1n << 32n), reply("getFeatures", u64(0n))]);
  const { transport, back } = o;
  transport.writeDriverFeatures(1n << 32n);
  transport.enableQueue(0, RING);
  transport.writeStatus(READY | STATUS.driverOk);
  back.requests();
  const [error] = back.fds;
  new EventFd(error!).signal();
  assertEquals(transport.readStatus() & STATUS.deviceNeedsReset, STATUS.deviceNeedsReset);
  back.put(reply("getVringBase", u32(0, 0)));
  transport.reset();
  assertEquals(transport.readStatus(), 0);
});

/** A configuration in an answer. */
function config(bytes: Uint8Array, head = u32(0, bytes.length, 0)): Reply {
  return reply("getConfig", Uint8Array.of(...head, ...bytes));
}

Deno.test("the config space is as long as the back end says that it is, and read as a whole", () => {
  const bytes = Uint8Array.from({ length: 57 }, (_, at) => at);
  const refused = [reply("getConfig", new Uint8Array(0)), reply("getConfig", u32(0, 0, 0))];
  // Where fields end, from the last one down to those that this one has.
  const features = 1n << 32n | BLK_FEATURE.SECURE_ERASE | BLK_FEATURE.DISCARD;
  const tries = [93, 92, 88, 84, 80, 76, 72, 68, 64];
  using o = opened([
    ...able(CONFIG | REPLY_ACK, features),
    ...tries.map((_, at) => refused[at % 2]!),
    config(bytes),
    config(bytes),
    config(bytes.map((byte, at) => at === 8 ? 99 : byte)),
    ack("setConfig"),
  ], { deviceId: 2 });
  const { transport, back } = o;
  const sizes = back.requests().slice(4).map((text) => parseInt(text.slice(19, 21), 16));
  assertEquals(sizes, [...tries, 57]);
  assertEquals([transport.configSizeBytes, transport.readConfig(8, 4)], [57, 0x0b0a0908]);
  assertEquals([transport.configGeneration(), transport.configGeneration()], [0, 1]);
  assertEquals(transport.readConfig(8, 1), 99);
  back.requests();
  transport.writeConfig(32, 1, 0);
  assertEquals(back.requests(), ["SET_CONFIG! 200000000100000000000000" + "00"]);
  assertEquals(transport.readConfig(32, 1), 0);
  // A field that it has not takes its feature along.
  assertEquals(transport.readDeviceFeatures(), 1n << 32n | BLK_FEATURE.DISCARD);
  for (const [offset, width] of [[57, 1], [56, 2], [1, 2], [-1, 1]] as const) {
    assertThrows(() => transport.readConfig(offset, width), UsageError);
  }
  assertThrows(() => transport.writeConfig(0, 1, 256), UsageError, "does not fit");
});

Deno.test("an answer about another part of the config space breaks the connection", () => {
  const s = scripted([...able(CONFIG), config(new Uint8Array(12), u32(4, 12, 0))], { deviceId: 3 });
  assertThrows(() => openTransport(s.device), ProtocolError, "about 12 bytes from 4 on");
  s[Symbol.dispose]();
});

Deno.test("a network device without CONFIG has the address of the caller, if one is given, and no field else but queue pairs", () => {
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 7);
  const features = 1n << 32n | NET_FEATURE.MTU | NET_FEATURE.MAC;
  {
    using o = opened(plain(features), { mac });
    assertEquals(o.transport.readDeviceFeatures(), 1n << 32n | NET_FEATURE.MAC);
    assertEquals([0, 5, 6].map((at) => o.transport.readConfig(at, 1)), [2, 7, 1]);
    o.back.requests();
    o.transport.writeDriverFeatures(1n << 32n | NET_FEATURE.MAC);
    // What is the front end's own, the back end does not hear of, unless it has it, too.
    assertEquals(o.back.requests(), ["SET_FEATURES 2000000001000000"]);
  }
  {
    using o = opened(plain(1n << 32n), { mac });
    o.back.requests();
    o.transport.writeDriverFeatures(1n << 32n | NET_FEATURE.MAC);
    assertEquals(o.back.requests(), ["SET_FEATURES 0000000001000000"]);
  }
  {
    using o = opened(plain(features));
    assertEquals(o.transport.readDeviceFeatures(), 1n << 32n);
  }
});

Deno.test("another device without CONFIG says so when a field is read", () => {
  using o = opened(plain(1n << 32n), { deviceId: 2 });
  assertEquals(o.transport.configSizeBytes, 0);
  assertThrows(
    () => o.transport.readConfig(0, 4),
    UnsupportedError,
    "tells no configuration (CONFIG), which a block device needs",
  );
});

Deno.test("queues: by GET_QUEUE_NUM, in pairs of a network device; else as many as the type has at least", () => {
  for (
    const [deviceId, told, count] of [[1, 4n, 8], [2, 4n, 4], [1, 200n, 256], [4, undefined, 1], [
      1,
      undefined,
      2,
    ], [3, undefined, 2]] as const
  ) {
    const replies = told === undefined ? plain() : [...able(MQ), reply("getQueueNum", u64(told))];
    using o = opened(replies, { deviceId });
    assertEquals(o.transport.queueCount, count);
    assertEquals([o.transport.queueMaxSize(count - 1), o.transport.queueMaxSize(count)], [1024, 0]);
    assertEquals(o.transport.interruptCount("msix"), count + 1);
    assertEquals(o.transport.interruptCount("intx"), 0);
  }
  const s = scripted([...able(MQ), reply("getQueueNum", u64(0n))]);
  assertThrows(() => openTransport(s.device), ProtocolError, "GET_QUEUE_NUM: 0 queues of a network device");
  s[Symbol.dispose]();
});

Deno.test("the control queue of a network device is the front end's, unless the back end has commands that it alone can carry out", () => {
  const own = NET_FEATURE.CTRL_VQ | NET_FEATURE.CTRL_RX | NET_FEATURE.MQ;
  const base = 1n << 32n;
  for (
    const [offered, features, count] of [
      [0n, 0n, 4],
      // As DPDK has it.
      [own | NET_FEATURE.GUEST_ANNOUNCE, own, 5],
      [NET_FEATURE.CTRL_VQ, NET_FEATURE.CTRL_VQ | NET_FEATURE.CTRL_RX, 5],
      [own | NET_FEATURE.CTRL_RX_EXTRA, own | NET_FEATURE.CTRL_RX_EXTRA, 5],
    ] as const
  ) {
    using o = opened([...able(MQ, base | offered), reply("getQueueNum", u64(2n))]);
    assertEquals([o.transport.readDeviceFeatures(), o.transport.queueCount], [base | features, count]);
  }
});

Deno.test("pairs are turned on and off by the front end's own control queue", () => {
  const features = 1n << 32n | NET_FEATURE.CTRL_VQ | NET_FEATURE.MQ;
  using o = opened([...able(MQ | REPLY_ACK, features), reply("getQueueNum", u64(2n))]);
  const { transport, back, s } = o;
  const acks = (...requests: Parameters<typeof ack>[0][]) => back.put(...requests.map((one) => ack(one)));
  acks("setMemTable", "setFeatures");
  using memory = transport.dma.allocate(16384, { huge: "never" });
  transport.writeDriverFeatures(features);
  const at = (page: number) => memory.iova + BigInt(page * 1024);
  for (const queue of [0, 1, 2, 3]) transport.enableQueue(queue, RING);
  // One command: class mq, vqPairsSet, two pairs.
  transport.enableQueue(4, { size: 4, descriptorArea: at(0), driverArea: at(1), deviceArea: at(2) });
  for (let n = 0; n < 4; n++) {
    acks(
      "setVringNum",
      "setVringBase",
      "setVringAddr",
      "setVringErr",
      "setVringCall",
      "setVringKick",
      "setVringEnable",
    );
  }
  transport.writeStatus(READY | STATUS.driverOk);
  const enables = () => back.requests().filter((text) => text.startsWith("SET_VRING_ENABLE"));
  assertEquals(enables().map((text) => text.slice(-16)), [
    "0000000001000000",
    "0100000001000000",
    "0200000000000000",
    "0300000000000000",
  ]);
  const bytes = memory.bytes();
  bytes.set([4, 0, 2, 0, 0xff], 3072);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (const [slot, offset, length, flags, next] of [[0, 0, 4, 1, 1], [1, 4, 1, 2, 0]] as const) {
    view.setBigUint64(16 * slot, at(3) + BigInt(offset), true);
    view.setUint32(16 * slot + 8, length, true);
    view.setUint16(16 * slot + 12, flags, true);
    view.setUint16(16 * slot + 14, next, true);
  }
  view.setUint16(1024 + 2, 1, true);
  acks("setVringEnable", "setVringEnable", "setVringEnable", "setVringEnable");
  transport.doorbell(4).ring(0, 0);
  assertEquals([bytes[3076], view.getUint16(2048 + 2, true)], [0, 1]);
  assertEquals(enables().map((text) => text.slice(-16)), [
    "0000000001000000",
    "0100000001000000",
    "0200000001000000",
    "0300000001000000",
  ]);
  back.put(...[0, 1, 2, 3].map((queue) => reply("getVringBase", u32(queue, 0))));
  transport.close();
  s.device.close();
});

Deno.test("what the protocol cannot carry is neither offered nor to be accepted", () => {
  const { ACCESS_PLATFORM, NOTIFICATION_DATA, SR_IOV, ADMIN_VQ, VERSION_1, RING_RESET } = FEATURE;
  const bad = ACCESS_PLATFORM | NOTIFICATION_DATA | SR_IOV | ADMIN_VQ;
  using o = opened(able(0n, VERSION_1 | RING_RESET | bad | 1n << 26n), { deviceId: 4 });
  assertEquals(o.transport.readDeviceFeatures(), VERSION_1 | RING_RESET);
  for (const bit of [ACCESS_PLATFORM, NOTIFICATION_DATA, 1n << 26n, 1n << 30n, 1n << 64n]) {
    assertThrows(() => o.transport.writeDriverFeatures(VERSION_1 | bit), UsageError);
  }
});

Deno.test("split queues: the file of GET_INFLIGHT_FD is given back before the queues are told of", () => {
  using file = createMemfd("inflight", 8192);
  const features = 1n << 32n;
  const answer = new Uint8Array(24);
  new DataView(answer.buffer).setBigUint64(0, 8192n, true);
  new DataView(answer.buffer).setBigUint64(8, 64n, true);
  using o = opened([
    ...able(INFLIGHT_SHMFD, features),
    reply("getInflightFd", answer, [file]),
    reply("getFeatures", u64(features)),
  ]);
  const { transport, back } = o;
  transport.writeDriverFeatures(features);
  transport.enableQueue(0, RING);
  transport.enableQueue(1, { ...RING, size: 128 });
  back.requests();
  transport.writeStatus(READY | STATUS.driverOk);
  assertEquals(back.requests().slice(0, 3), [
    "GET_INFLIGHT_FD " + "0".repeat(32) + "0200000100000000",
    "SET_INFLIGHT_FD +1 " + "0020000000000000" + "4000000000000000" + "0200000100000000",
    "SET_VRING_NUM 0000000000010000",
  ]);
  back.put(...[0, 1].map((queue) => reply("getVringBase", u32(queue, 0))));
});

Deno.test("GET_INFLIGHT_FD without a file breaks the connection; with a size of 0 there is none", () => {
  for (const size of [4096n, 0n]) {
    const answer = new Uint8Array(24);
    new DataView(answer.buffer).setBigUint64(0, size, true);
    using o = opened([
      ...able(INFLIGHT_SHMFD, 1n << 32n),
      reply("getInflightFd", answer),
      reply("getFeatures", u64(0n)),
    ]);
    o.transport.writeDriverFeatures(1n << 32n);
    o.transport.enableQueue(0, RING);
    const start = () => o.transport.writeStatus(READY | STATUS.driverOk);
    if (size > 0n) {
      assertThrows(start, ProtocolError, "GET_INFLIGHT_FD: no file came along");
      continue;
    }
    start();
    o.back.put(reply("getVringBase", u32(0, 0)));
  }
});

Deno.test("another profile, the legacy interface, a second queue of a number: UsageError or DeviceError, and nothing is sent", () => {
  using s = scripted(plain(1n << 32n));
  assertThrows(
    () => openTransport(s.device, { profile: "mmio-v3" }),
    UsageError,
    "is of devices with registers",
  );
  assertThrows(() => openTransport(s.device, { legacy: {} as never }), UsageError, "a legacy interface");
  using transport = openTransport(s.device);
  transport.enableQueue(0, RING);
  assertThrows(() => transport.enableQueue(0, RING), DeviceError, "set up already");
  assertThrows(() => transport.doorbell(1), UsageError, "queue 1 is not set up");
  assertThrows(() => transport.setQueueVector(0, 0), UsageError, "there is no vector 0");
  assertThrows(() => transport.enableInterrupts("msix", 9), UnsupportedError, "3 msix vectors, 9 are wanted");
  assertThrows(() => transport.enableInterrupts("intx", 1), UnsupportedError);
});

Deno.test("the order of the standard holds: VirtioDevice from reset to DRIVER_OK and closed", () => {
  const features = 1n << 32n;
  const asked = reply("getFeatures", u64(features));
  using o = opened([...plain(features), asked, reply("getVringBase", u32(0, 0)), asked]);
  using device = new VirtioDevice(o.transport);
  assertEquals(device.negotiate(), features);
  const queue = device.createQueue(0, { size: 64 });
  device.driverOk();
  assertEquals([device.live, queue.size], [true, 64]);
  device.close();
  const sent = o.back.requests().map((text) => text.split(" ")[0]);
  assertEquals(sent.slice(0, 4), ["SET_OWNER", "GET_FEATURES", "SET_FEATURES", "SET_MEM_TABLE"]);
  assertEquals(sent.at(-1), "GET_VRING_BASE");
});

Deno.test("a back end that is back hears of features and queues where their drivers stand; then it and they are signalled", () => {
  const features = 1n << 32n;
  const script = [...plain(features), reply("getFeatures", u64(features))];
  const asked = reply("getFeatures", u64(features));
  using s = scripted(script, { reconnectMs: 5000 }, [[...script, asked, reply("getVringBase", u32(0, 0))]]);
  using transport = openTransport(s.device);
  transport.writeStatus(STATUS.acknowledge | STATUS.driver);
  transport.writeDriverFeatures(features);
  const [, vector] = transport.enableInterrupts("msix", 2);
  transport.setQueueVector(0, 1);
  const calls: boolean[] = [];
  transport.enableQueue(0, RING, (offersAgain) => {
    calls.push(offersAgain);
    return { layout: "split", availableIndex: 0x1234 };
  });
  transport.writeStatus(READY | STATUS.driverOk);
  const before = s.connections[0]!.requests();
  s.connections[0]!.peer.close();
  // Nobody takes it: the next back end must not take it for one of its own.
  transport.doorbell(0).ring(0, 0);
  s.device.use((channel) => channel.askNumber(REQUEST.getFeatures));
  const told = s.connections[1]!.requests();
  assertEquals(told.slice(0, 5), [...before.slice(0, 4), "SET_VRING_BASE 0000000034120000"]);
  assertEquals(told.slice(5, -1), before.slice(5));
  assertEquals(calls, [true]);
  assertEquals([readCount(s.connections[1]!.fds.at(-1)!), vector!.eventFd.take()], [1, 1]);
});

Deno.test("who has to say something again is called when the back end is back and runs; what goes wrong then ends the device", async () => {
  const features = 1n << 32n;
  const asked = reply("getFeatures", u64(features));
  const script = [...plain(features), asked];
  using s = scripted(script, { reconnectMs: 5000 }, [script, script, script]);
  using transport = openTransport(s.device);
  const { absence } = transport;
  assertEquals([absence!.away, absence!.returns], [false, 0]);
  let calls = 0;
  const forget = absence!.onReturn(() => {
    calls++;
    assertEquals(s.connections.at(-1)!.requests().at(-2), "SET_VRING_KICK +1 0000000000000000");
    return Promise.resolve();
  });
  transport.writeDriverFeatures(features);
  transport.enableQueue(0, RING, () => ({ layout: "split", availableIndex: 0 }));
  transport.writeStatus(READY | STATUS.driverOk);
  const lose = () => {
    s.connections.at(-1)!.peer.close();
    while (!absence!.away) s.device.lifeline.answer();
    while (absence!.away) s.device.lifeline.answer();
  };
  lose();
  assertEquals([calls, absence!.returns], [1, 1]);
  forget();
  // A driver that is closed meanwhile is no fault of the back end.
  absence!.onReturn(() => Promise.reject(new ClosedError("the driver")));
  lose();
  await Promise.resolve();
  s.device.lifeline.check();
  absence!.onReturn(() => Promise.reject(new DeviceError("refused", { function: "fake" })));
  lose();
  for (let i = 0; i < 5; i++) await Promise.resolve();
  assertThrows(() => s.device.lifeline.check(), DeviceError, "refused");
  assertThrows(() => absence!.onReturn("no" as never), UsageError);
});

Deno.test("while a back end is lost its status and configuration are as they were last, and nobody waits to see them", () => {
  const bytes = Uint8Array.from({ length: 93 }, (_, at) => at);
  const protocol = PROTOCOL_FEATURE.STATUS | CONFIG | REPLY_ACK;
  using s = scripted(
    [
      ...able(protocol, 1n << 32n),
      config(bytes),
      ack("setStatus"),
      reply("getStatus", u64(3n)),
      config(bytes),
    ],
    { deviceId: 2, reconnectMs: 20_000 },
  );
  using transport = openTransport(s.device);
  transport.writeStatus(STATUS.acknowledge | STATUS.driver);
  const before = [transport.readStatus(), transport.configGeneration()];
  s.connections[0]!.peer.close();
  // The first of each finds the loss, the others know of it.
  for (let i = 0; i < 3; i++) {
    assertEquals([transport.readStatus(), transport.configGeneration(), transport.readConfig(4, 1)], [
      ...before,
      4,
    ]);
  }
  assertEquals(s.device.lost, true);
});

Deno.test("a queue whose driver cannot go on ends the device when its back end comes back", () => {
  const script = [...plain(1n << 32n), reply("getFeatures", u64(0n))];
  using s = scripted(script, { reconnectMs: 5000 }, [script]);
  using transport = openTransport(s.device);
  transport.writeDriverFeatures(1n << 32n);
  transport.enableQueue(0, RING);
  transport.writeStatus(READY | STATUS.driverOk);
  s.connections[0]!.peer.close();
  assertThrows(
    () => s.device.use((channel) => channel.askNumber(REQUEST.getFeatures)),
    UnsupportedError,
    "fake, queue 0: its driver cannot go on with a back end that came back",
  );
});
