/** The front end's connection: every message by its bytes, what a back end can do wrong, and how it is lost. */
import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { createMemfd, EventFd, UnixSocket } from "../../../../../ffi/mod.ts";
import {
  ClosedError,
  DeviceError,
  ExhaustedError,
  PeerGoneError,
  ProtocolError,
  RingsideError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../../../lib/errors/mod.ts";
import type { FrontEndChannel } from "../../../../../lib/sockets/vhost_user/client/channel.ts";
import { VhostUserDevice } from "../../../../../lib/sockets/vhost_user/client/device.ts";
import { PROTOCOL_FEATURE, REQUEST } from "../../../../../lib/sockets/vhost_user/protocol.ts";
import { Waiter } from "../../../../../lib/wait/waiter.ts";
import {
  able,
  ack,
  HANGS_UP,
  message,
  plain,
  REPLY,
  type Reply,
  reply,
  scripted,
  u32,
  u64,
} from "./scripted.ts";

const { REPLY_ACK, BACKEND_REQ, CONFIGURE_MEM_SLOTS, CONFIG, MQ, STATUS } = PROTOCOL_FEATURE;

/** One look takes no longer than 2 ms, which is soon over where others are at work. */
function answerAll(device: VhostUserDevice): void {
  for (let i = 0; i < 20; i++) device.lifeline.answer();
}

Deno.test("a back end without protocol features is asked for nothing that it may not have", () => {
  using s = scripted(plain(0x1_0000_8000n));
  assertEquals(s.connections[0]!.requests(), ["SET_OWNER", "GET_FEATURES"]);
  assertEquals([s.device.features, s.device.protocolFeatures], [0x1_0000_8000n, 0n]);
});

Deno.test("of protocol features those are taken that are used; what is told is then answered (REPLY_ACK)", () => {
  const all = (1n << 21n) - 1n;
  using s = scripted([...able(all), ack("setBackendReqFd"), reply("getMaxMemSlots", u64(32n))]);
  assertEquals(s.connections[0]!.requests(), [
    "SET_OWNER",
    "GET_FEATURES",
    "GET_PROTOCOL_FEATURES",
    // MQ, REPLY_ACK, BACKEND_REQ, CONFIG, INFLIGHT_SHMFD, RESET_DEVICE, CONFIGURE_MEM_SLOTS, STATUS
    "SET_PROTOCOL_FEATURES 29b2010000000000",
    "SET_BACKEND_REQ_FD! +1",
    "GET_MAX_MEM_SLOTS",
  ]);
});

Deno.test("memory by SET_MEM_TABLE: all regions each time; guest address and user address are the IOVA", () => {
  using s = scripted(plain());
  const [back] = s.connections;
  back!.requests();
  const memory = s.device.dma.allocate(5000, { huge: "never" });
  assertEquals([memory.iova, memory.sizeBytes], [0x200000n, 8192]);
  const first = "0000200000000000" + "0000800000000000" + "0000200000000000" + "0000000000000000";
  assertEquals(back!.requests(), [`SET_MEM_TABLE +1 0100000000000000${first}`]);
  // A part of the same pool is told of already.
  const other = s.device.dma.allocate(4096, { huge: "never" });
  assertEquals([other.iova, back!.requests()], [0x202000n, []]);
  const large = s.device.dma.allocate(12 << 20, { huge: "never" });
  const second = "0000a00000000000" + "0000c00000000000" + "0000a00000000000" + "0000000000000000";
  assertEquals(back!.requests(), [`SET_MEM_TABLE +2 0200000000000000${first}${second}`]);
  // The last of the second pool: it goes, and that is waited for.
  back!.put(reply("getFeatures", u64(0n)));
  large.close();
  assertEquals(back!.requests(), [`SET_MEM_TABLE +1 0100000000000000${first}`, "GET_FEATURES"]);
  memory.close();
  other.close();
  assertEquals(back!.requests(), []);
});

Deno.test("memory by CONFIGURE_MEM_SLOTS: regions one by one, and no more than there are slots", () => {
  using s = scripted([
    ...able(CONFIGURE_MEM_SLOTS | REPLY_ACK),
    reply("getMaxMemSlots", u64(2n)),
    ack("addMemReg"),
    ack("addMemReg"),
    ack("remMemReg"),
  ]);
  const [back] = s.connections;
  back!.requests();
  s.device.dma.allocate(4096, { huge: "never" });
  const large = s.device.dma.allocate(12 << 20, { huge: "never" });
  const region = (hex: string, size: string) => "0".repeat(16) + hex + size + hex + "0".repeat(16);
  assertEquals(back!.requests(), [
    `ADD_MEM_REG! +1 ${region("0000200000000000", "0000800000000000")}`,
    `ADD_MEM_REG! +1 ${region("0000a00000000000", "0000c00000000000")}`,
  ]);
  assertThrows(
    () => s.device.dma.allocate(32 << 20, { huge: "never" }),
    ExhaustedError,
    "fake: the back end takes 2 regions of memory at a time",
  );
  large.close();
  assertEquals(back!.requests(), [`REM_MEM_REG! ${region("0000a00000000000", "0000c00000000000")}`]);
});

Deno.test("a refusal by REPLY_ACK names request and queue, and is no end of the connection", () => {
  using s = scripted([...able(REPLY_ACK), ack("setVringNum", 7n), ack("setVringNum")]);
  const act = () => s.device.use((channel) => channel.tell(REQUEST.setVringNum, u32(3, 256), { queue: 3 }));
  const error = assertThrows(act, DeviceError);
  assertEquals(error.message, "fake, queue 3, SET_VRING_NUM: the back end refuses it, with 7");
  act();
});

for (
  const [what, bad, why] of [
    ["to another request", reply("getStatus", u64(0n)), "reply to GET_QUEUE_NUM: it is one to GET_STATUS"],
    ["that is short", reply("getQueueNum", u32(1)), "reply to GET_QUEUE_NUM: 4 bytes instead of 8"],
    [
      "that is long",
      reply("getQueueNum", new Uint8Array(12)),
      "reply to GET_QUEUE_NUM: 12 bytes instead of 8",
    ],
    ["of another version", { bytes: message(17, 6, u64(1n)) }, "GET_QUEUE_NUM: flags 0x6 have version 2"],
    [
      "without the flag of one",
      { bytes: message(17, 1, u64(1n)) },
      "GET_QUEUE_NUM came as a request of the back end",
    ],
    [
      "above all limits",
      { bytes: message(17, 5).map((byte, at) => at >= 8 ? 0xff : byte) },
      "above the limit",
    ],
  ] as const
) {
  Deno.test(`a reply ${what} breaks the connection, and says how`, () => {
    using s = scripted([...able(MQ), bad]);
    const ask = () => s.device.use((channel) => channel.askNumber(REQUEST.getQueueNum));
    const error = assertThrows(ask, ProtocolError, why);
    assert(!(error instanceof PeerGoneError));
    // For good.
    assertEquals(assertThrows(ask, ProtocolError), error);
    assertEquals(assertThrows(() => s.device.lifeline.check(), ProtocolError), error);
  });
}

Deno.test("descriptors that nobody asked for break the connection, and are closed", () => {
  using fd = createMemfd("passed", 4096);
  using s = scripted([...able(MQ), reply("getQueueNum", u64(1n), [fd])]);
  assertThrows(
    () => s.device.use((channel) => channel.askNumber(REQUEST.getQueueNum)),
    ProtocolError,
    "1 descriptors instead of at most 0",
  );
});

Deno.test("an answer of REPLY_ACK of another length breaks the connection", () => {
  using s = scripted([...able(REPLY_ACK), reply("setStatus", u32(0))]);
  assertThrows(
    () => s.device.use((channel) => channel.tellNumber(REQUEST.setStatus, 1n)),
    ProtocolError,
    "answer to SET_STATUS: 4 bytes instead of 8",
  );
});

Deno.test("a back end that dies at any byte of what it says first is gone, and says so", () => {
  const whole = [
    ...able(REPLY_ACK | BACKEND_REQ | CONFIGURE_MEM_SLOTS),
    ack("setBackendReqFd"),
    reply("getMaxMemSlots", u64(8n)),
  ];
  const bytes = whole.reduce((sum, one) => sum + one.bytes.length, 0);
  for (let cut = 0; cut < bytes; cut++) {
    const replies: Reply[] = [];
    let left = cut;
    for (const one of whole) {
      replies.push({ bytes: one.bytes.slice(0, left) });
      left = Math.max(0, left - one.bytes.length);
    }
    const error = assertThrows(() => scriptedAndGone(replies), PeerGoneError);
    assert(error.message.includes("closed the connection"), error.message);
  }
});

/** The back end has written, and will write no more. */
function scriptedAndGone(replies: readonly Reply[]): void {
  using _ = scripted([...replies.filter(({ bytes }) => bytes.length > 0), HANGS_UP]);
}

Deno.test("a back end that says nothing is waited for no longer than was said", () => {
  const begin = performance.now();
  assertThrows(
    () => scripted([], { timeoutMs: 30 }),
    TimeoutError,
    "fake: no reply to GET_FEATURES within 30 ms",
  );
  assert(performance.now() - begin < 2000);
});

Deno.test("what the back end asks: a change of the config space is heard of, the rest is refused, and each is answered when it wants", () => {
  using s = scripted(able(BACKEND_REQ));
  const [back] = s.connections;
  back!.requests();
  using twin = new UnixSocket(back!.fds.pop()!);
  let changes = 0;
  s.device.attach(() => changes++, () => {});
  twin.send(message(2, 1));
  answerAll(s.device);
  assertEquals(changes, 1);
  twin.send(message(2, 9));
  using passed = new EventFd();
  // A notification page, and numbers that nobody knows.
  twin.send(message(3, 9, new Uint8Array(24)), [passed.fd]);
  twin.send(message(77, 9));
  twin.send(message(1, 1));
  answerAll(s.device);
  assertEquals(changes, 2);
  const answers = new Uint8Array(100);
  assertEquals(twin.receive(answers)!.length, 60);
  assertEquals(
    [0, 20, 40].map((at) => [...new Uint32Array(answers.slice(at, at + 20).buffer)]),
    [[2, 5, 8, 0, 0], [3, 5, 8, 1, 0], [77, 5, 8, 1, 0]],
  );
  // Also while a reply is awaited.
  twin.send(message(2, 9));
  back!.put(reply("getQueueNum", u64(1n)));
  s.device.use((channel) => channel.askNumber(REQUEST.getQueueNum));
  answerAll(s.device);
  assertEquals(changes, 3);
  // A reply there is one to nothing.
  twin.send(message(2, REPLY));
  answerAll(s.device);
  assertThrows(
    () => s.device.lifeline.check(),
    ProtocolError,
    "a reply to nothing (BACKEND_CONFIG_CHANGE_MSG)",
  );
});

Deno.test("without a wish to wait, a back end that is gone ends the device, and all who wait", async () => {
  using s = scripted(plain());
  using waiter = new Waiter({ mode: "eventfd" });
  using eventFd = new EventFd();
  waiter.watch({ eventFd, acknowledge: () => 3 });
  waiter.watchLifeline(s.device.lifeline);
  const waits = waiter.wait(
    { hasUsed: () => false, suppressInterrupts() {}, enableInterrupts: () => false },
    60_000,
  );
  s.connections[0]!.peer.close();
  const error = await waits.then(() => undefined, (error) => error);
  assertInstanceOf(error, PeerGoneError);
  assertEquals(s.device.lost, true);
  assertThrows(() => s.device.use(() => {}), PeerGoneError);
  await waiter.settled;
});

Deno.test("a lost back end that comes back is told of the memory again, and of what the transport sets up; waits go on", async () => {
  const script = [...able(REPLY_ACK), ack("setMemTable")];
  using s = scripted(script, { reconnectMs: 5000 }, [[HANGS_UP], [...script, ack("setStatus")]]);
  const { device, connections } = s;
  device.dma.allocate(4096, { huge: "never" });
  const told = connections[0]!.requests();
  device.attach(() => {}, () => device.use((channel) => channel.tellNumber(REQUEST.setStatus, 15n)));
  using waiter = new Waiter({ mode: "eventfd" });
  using eventFd = new EventFd();
  waiter.watch({ eventFd, acknowledge: () => 3 });
  waiter.watchLifeline(device.lifeline);
  const target = {
    hasUsed: () => device.returns === 1,
    suppressInterrupts() {},
    enableInterrupts: () => false,
  };
  const waits = waiter.wait(target, 60_000);
  connections[0]!.peer.close();
  // The second leaves before it has said anything.
  assertEquals(await waits, true);
  assertEquals([device.lost, device.returns], [false, 1]);
  assertEquals(connections[2]!.requests(), [...told, "SET_STATUS! 0f00000000000000"]);
  waiter.close();
  await waiter.settled;
});

Deno.test("whoever sleeps while a call of somebody else brings a lost back end back, looks again", async () => {
  using s = scripted(plain(), { reconnectMs: 5000 }, [plain()]);
  using waiter = new Waiter({ mode: "eventfd" });
  using eventFd = new EventFd();
  waiter.watch({ eventFd, acknowledge: () => 3 });
  waiter.watchLifeline(s.device.lifeline);
  s.connections[0]!.peer.close();
  s.device.lifeline.answer();
  assertEquals(s.device.lost, true);
  const target = {
    hasUsed: () => s.device.returns === 1,
    suppressInterrupts() {},
    enableInterrupts: () => false,
  };
  const waits = waiter.wait(target, Infinity);
  s.device.use(() => {});
  let timer: ReturnType<typeof setTimeout> | undefined;
  const asleep = new Promise<string>((done) => timer = setTimeout(() => done("asleep"), 20_000));
  assertEquals(await Promise.race([waits, asleep]), true);
  clearTimeout(timer);
  waiter.close();
  await waiter.settled;
});

Deno.test("whoever asks a lost back end waits until it is back, and is answered by the new one", () => {
  using s = scripted(able(MQ), { reconnectMs: 5000 }, [[...able(MQ), reply("getQueueNum", u64(4n))]]);
  s.connections[0]!.peer.close();
  assertEquals(s.device.use((channel) => channel.askNumber(REQUEST.getQueueNum)), 4n);
  assertEquals(s.device.returns, 1);
});

Deno.test("a thread that blocks sees a back end come back, by sleeping and by polling", () => {
  for (const mode of ["eventfd", "poll"] as const) {
    using s = scripted(plain(), { reconnectMs: 5000 }, [plain()]);
    using waiter = new Waiter({ mode });
    using eventFd = new EventFd();
    waiter.watch({ eventFd, acknowledge: () => 3 });
    waiter.watchLifeline(s.device.lifeline);
    s.connections[0]!.peer.close();
    const target = {
      hasUsed: () => s.device.returns === 1,
      suppressInterrupts() {},
      enableInterrupts: () => false,
    };
    assertEquals(waiter.waitBlocking(target, 60_000), true);
  }
});

Deno.test("a back end that does not come back in time, or comes back as another, ends the device", () => {
  const ask = (channel: FrontEndChannel) => channel.askNumber(REQUEST.getFeatures);
  {
    using s = scripted(plain(), { reconnectMs: 30 });
    s.connections[0]!.peer.close();
    assertThrows(() => s.device.use(ask), PeerGoneError, "and was not back within 30 ms");
    assertThrows(() => s.device.lifeline.check(), PeerGoneError, "not back within");
  }
  {
    using s = scripted(plain(0x3n), { reconnectMs: 5000 }, [plain(0x1n)]);
    s.connections[0]!.peer.close();
    assertThrows(() => s.device.use(ask), UnsupportedError, "came back without features 0x2");
  }
  {
    using s = scripted(able(MQ | STATUS), { reconnectMs: 5000 }, [able(MQ)]);
    s.connections[0]!.peer.close();
    assertThrows(() => s.device.use(ask), UnsupportedError, "came back without STATUS");
  }
  {
    using s = scripted(able(CONFIG), { reconnectMs: 5000 }, [able(CONFIG), []]);
    s.device.attach(() => {}, () => {
      throw new UsageError("the transport's own");
    });
    s.connections[0]!.peer.close();
    assertThrows(() => s.device.use(ask), UsageError, "the transport's own");
  }
});

Deno.test("who listens and says nothing holds nobody up who only looks, and is left for another that answers", () => {
  using s = scripted(plain(), { reconnectMs: 60_000, timeoutMs: 20 }, [[], [], plain()]);
  s.connections[0]!.peer.close();
  // A look is over at once, whatever `timeoutMs` says: so many would take a minute.
  let looks = 0;
  while (s.device.returns === 0) {
    s.device.lifeline.answer();
    looks++;
  }
  assert(looks > 3);
  assertEquals(s.connections.length, 4);
  for (const silent of s.connections.slice(1, 3)) {
    assertEquals(silent.requests(), ["SET_OWNER", "GET_FEATURES"]);
    assertEquals(silent.peer.receive(new Uint8Array(1), { wait: false })?.length, 0, "it was left");
  }
  assertEquals(s.device.lost, false);
});

Deno.test("a look at a silent back end waits for nobody, however long a request may", () => {
  using s = scripted(plain(), { reconnectMs: 60_000, timeoutMs: 3_600_000 }, [[]]);
  s.connections[0]!.peer.close();
  // Each would take an hour.
  while (s.connections.length < 2) s.device.lifeline.answer();
  for (let look = 0; look < 5; look++) s.device.lifeline.answer();
  assertEquals([s.device.lost, s.device.returns], [true, 0]);
  s.connections[1]!.put(...plain());
  while (s.device.lost) s.device.lifeline.answer();
  assertEquals(s.device.returns, 1);
});

Deno.test("a silent back end that is waited for ends the device when its time is over, and that is said", () => {
  using s = scripted(plain(), { reconnectMs: 50, timeoutMs: 60_000 }, [[]]);
  s.connections[0]!.peer.close();
  assertThrows(
    () => s.device.use((channel) => channel.askNumber(REQUEST.getFeatures)),
    PeerGoneError,
    "was not back within 50 ms; somebody listens, and says nothing",
  );
});

Deno.test("a request that is not answered in time: the back end counts as lost where it may come back, else the device is gone", () => {
  const ask = (channel: FrontEndChannel) => channel.askNumber(REQUEST.getQueueNum);
  {
    using s = scripted(able(MQ), { reconnectMs: 60_000, timeoutMs: 20 }, [[
      ...able(MQ),
      reply("getQueueNum", u64(3n)),
    ]]);
    assertEquals([s.device.use(ask), s.device.returns], [3n, 1]);
  }
  {
    using s = scripted(able(MQ), { timeoutMs: 20 });
    for (let tries = 0; tries < 2; tries++) {
      const error = assertThrows(() => s.device.use(ask), TimeoutError, "fake");
      assertEquals(error.hint, "is the serving process stopped or busy?");
    }
    assertThrows(() => s.device.lifeline.check(), TimeoutError);
    assertEquals(s.device.lost, true);
  }
});

Deno.test("closed: every call says so, and closing again is nothing", () => {
  const s = scripted(plain());
  s.device.close();
  assertThrows(() => s.device.use(() => {}), ClosedError);
  assertThrows(() => s.device.lifeline.check(), ClosedError);
  s[Symbol.dispose]();
});

Deno.test("options that cannot be are refused before anything is connected", () => {
  const never = () => {
    throw new Error("connected");
  };
  for (
    const options of [
      {},
      { deviceId: 0 },
      { deviceId: "net" },
      { deviceId: 1, timeoutMs: 0 },
      { deviceId: 1, timeoutMs: "5" },
      { deviceId: 1, reconnectMs: -1 },
      { deviceId: 1, reconnectMs: 2 ** 31 },
      { deviceId: 1, name: 5 },
      { deviceId: 1, mac: new Uint8Array(5) },
      { deviceId: 1, mac: Uint8Array.of(1, 0, 0, 0, 0, 0) },
      { deviceId: 1, mac: "02:00:00:00:00:01" },
    ]
  ) {
    assertThrows(() => VhostUserDevice.over(never, options as never), UsageError);
  }
  assertThrows(
    () => VhostUserDevice.connect("/nonexistent/socket", { deviceId: 1 }),
    RingsideError,
    "ENOENT",
  );
});
