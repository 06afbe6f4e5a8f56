/** Messages of a front end against the back end, byte for byte where the protocol says them. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  createMemfd,
  createSharedFile,
  EventFd,
  fileSizeBytes,
  MappedMemory,
  mappingCount,
  openFdCount,
  type OwnedFd,
  UnixSocket,
} from "../../../../../ffi/mod.ts";
import {
  configMessage,
  inflightMessage,
  memRegion,
  memTable,
  MESSAGE_FLAG,
  messageHeader,
  PROTOCOL_FEATURE,
  REQUEST,
  singleMemRegion,
  u64Message,
  VHOST_FEATURE,
  vringAddr,
  vringState,
} from "../../../../../lib/sockets/vhost_user/protocol.ts";
import { BLK_CONFIG, BLK_FEATURE } from "../../../../../lib/virtio/spec/blk.ts";
import { FEATURE } from "../../../../../lib/virtio/spec/features.ts";
import { NET_CONFIG } from "../../../../../lib/virtio/spec/net.ts";
import { STATUS } from "../../../../../lib/virtio/spec/status.ts";
import { message, RawFrontEnd, TestMachine } from "./raw_front_end.ts";

const RNG = { name: "rng", kind: "virtio-rng" };
const BLK = { name: "blk", kind: "virtio-blk", sizeBytes: 1 << 20, queues: 2 };
const NET = { name: "net", kind: "virtio-net", mac: "52:54:00:00:00:01", queuePairs: 3, mtu: 1600 };
const OURS = PROTOCOL_FEATURE.MQ | PROTOCOL_FEATURE.REPLY_ACK | PROTOCOL_FEATURE.BACKEND_REQ |
  PROTOCOL_FEATURE.INFLIGHT_SHMFD | PROTOCOL_FEATURE.RESET_DEVICE | PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS |
  PROTOCOL_FEATURE.STATUS;

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text.replaceAll(" ", "").match(/../g)!, (byte) => parseInt(byte, 16));
}

Deno.test("vhost-user back end: GET_FEATURES and GET_PROTOCOL_FEATURES, pinned", () => {
  using machine = new TestMachine(RNG);
  using front = new RawFrontEnd(machine, "rng");
  front.send(bytesOf("01000000 01000000 00000000"));
  const reply = front.socket.receive(new Uint8Array(64))!;
  assertEquals(reply.length, 20);
  front.send(bytesOf("0f000000 01000000 00000000"));
  const into = new Uint8Array(64);
  assertEquals(front.socket.receive(into)!.length, 20);
  // MQ, REPLY_ACK, BACKEND_REQ, INFLIGHT_SHMFD, RESET_DEVICE, CONFIGURE_MEM_SLOTS, STATUS.
  assertEquals(hex(into.subarray(0, 20)), "0f000000" + "05000000" + "08000000" + "29b0010000000000");
  const features = front.askNumber(REQUEST.getFeatures);
  assert((features & VHOST_FEATURE.PROTOCOL_FEATURES) !== 0n);
  for (
    const name of [
      "VERSION_1",
      "RING_PACKED",
      "IN_ORDER",
      "INDIRECT_DESC",
      "EVENT_IDX",
      "RING_RESET",
    ] as const
  ) {
    assert((features & FEATURE[name]) !== 0n, name);
  }
  for (
    const name of ["ACCESS_PLATFORM", "NOTIFICATION_DATA", "NOTIF_CONFIG_DATA", "SR_IOV", "ADMIN_VQ"] as const
  ) {
    assertEquals(features & FEATURE[name], 0n, `${name} is the front end's`);
  }
  assertEquals(features & VHOST_FEATURE.LOG_ALL, 0n, "dirty pages are not logged");
});

Deno.test("vhost-user back end: CONFIG where there is a configuration, MTU for network devices, queues counted in pairs for them", () => {
  using machine = new TestMachine(BLK, NET);
  using blk = new RawFrontEnd(machine, "blk");
  assertEquals(blk.askNumber(REQUEST.getProtocolFeatures), OURS | PROTOCOL_FEATURE.CONFIG);
  blk.tellNumber(REQUEST.setProtocolFeatures, OURS);
  assertEquals(blk.askNumber(REQUEST.getQueueNum), 2n);
  assertEquals(blk.askNumber(REQUEST.getMaxMemSlots), 509n);
  using net = new RawFrontEnd(machine, "net");
  assertEquals(
    net.askNumber(REQUEST.getProtocolFeatures),
    OURS | PROTOCOL_FEATURE.CONFIG | PROTOCOL_FEATURE.MTU,
  );
  net.tellNumber(REQUEST.setProtocolFeatures, OURS | PROTOCOL_FEATURE.MTU);
  assertEquals(net.askNumber(REQUEST.getQueueNum), 3n);
  assertEquals(net.acknowledged(REQUEST.netSetMtu, u64Message.encode({ value: 1600n })), 0n);
  assertEquals(net.acknowledged(REQUEST.netSetMtu, u64Message.encode({ value: 1601n })), 1n);
  assertMatch(machine.takeViolations()[0]!, /NET_SET_MTU: an MTU of 1601: 68 to 1600/);
});

Deno.test("vhost-user back end: GET_CONFIG answers with as many bytes as it was asked for, zeroes past the end; none for what cannot be", () => {
  using machine = new TestMachine(BLK, NET);
  using blk = new RawFrontEnd(machine, "blk");
  blk.tellNumber(REQUEST.setProtocolFeatures, PROTOCOL_FEATURE.CONFIG);
  const whole = blk.ask(REQUEST.getConfig, configMessage.encode({ sizeBytes: 256 }, 256));
  assertEquals(whole.byteLength, 12 + 256);
  assertEquals(configMessage.decode(whole), { offset: 0, sizeBytes: 256, flags: 0 });
  assertEquals(BLK_CONFIG.decode(whole.subarray(12)).capacity, 2048n);
  assert(whole.subarray(12 + 60).every((byte) => byte === 0));
  for (const [offset, sizeBytes] of [[1, 256], [0, 0], [0xffff_fff8, 8], [256, 1]] as const) {
    assertEquals(blk.ask(REQUEST.getConfig, configMessage.encode({ offset, sizeBytes })).byteLength, 0);
    assertMatch(machine.takeViolations().join(), /GET_CONFIG/);
  }
  using net = new RawFrontEnd(machine, "net");
  net.tellNumber(REQUEST.setProtocolFeatures, PROTOCOL_FEATURE.CONFIG);
  const part = net.ask(
    REQUEST.getConfig,
    configMessage.encode({ offset: 0, sizeBytes: NET_CONFIG.sizeBytes }),
  );
  assertEquals(NET_CONFIG.decode(part.subarray(12)).max_virtqueue_pairs, 3);
});

Deno.test("vhost-user back end: SET_CONFIG writes what a driver can write, and refuses what belongs to a move", () => {
  using machine = new TestMachine(BLK);
  using front = new RawFrontEnd(machine, "blk");
  front.tellNumber(REQUEST.setProtocolFeatures, PROTOCOL_FEATURE.CONFIG | PROTOCOL_FEATURE.REPLY_ACK);
  front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1 | BLK_FEATURE.CONFIG_WCE | BLK_FEATURE.FLUSH);
  const { writeback } = BLK_CONFIG.fields;
  const write = (value: number, flags: number) => {
    const payload = configMessage.encode({ offset: writeback.offset, sizeBytes: 1, flags }, 1);
    payload[12] = value;
    return payload;
  };
  const read = () =>
    front.ask(REQUEST.getConfig, configMessage.encode({ offset: writeback.offset, sizeBytes: 1 }))[12];
  // The device runs from the first ring on; before, the features are agreed upon.
  using driver = front.driver(FEATURE.VERSION_1);
  driver.queue(0, 8);
  driver.sendMemory();
  driver.start(0);
  assertEquals(read(), 1);
  assertEquals(front.acknowledged(REQUEST.setConfig, write(0, 0)), 0n);
  assertEquals(read(), 0);
  assertEquals(front.acknowledged(REQUEST.setConfig, write(1, 1)), 1n);
  assertMatch(machine.takeViolations().join(), /SET_CONFIG: flags 1/);
  assertEquals(read(), 0);
});

Deno.test("vhost-user back end: REPLY_ACK: 0 for what was done, 1 for what was not, and the connection goes on; nothing without the feature", () => {
  using machine = new TestMachine(RNG);
  using front = new RawFrontEnd(machine, "rng");
  // The message that negotiates it is answered already.
  assertEquals(
    front.acknowledged(REQUEST.setProtocolFeatures, u64Message.encode({ value: PROTOCOL_FEATURE.REPLY_ACK })),
    0n,
  );
  assertEquals(front.acknowledged(REQUEST.setOwner), 0n);
  assertEquals(front.acknowledged(REQUEST.setVringNum, vringState.encode({ index: 1, num: 8 })), 1n);
  assertMatch(
    machine.takeViolations().join(),
    /front end of vhost-user:rng: SET_VRING_NUM: there is no ring 1, the device has 1/,
  );
  assertEquals(front.acknowledged(REQUEST.iotlbMsg, new Uint8Array(32)), 1n);
  assertMatch(machine.takeViolations().join(), /IOTLB_MSG: not a request of this back end/);
  assertEquals(front.acknowledged(REQUEST.setVringNum, vringState.encode({ index: 0, num: 8 })), 0n);
  using plain = new RawFrontEnd(new TestMachine(RNG), "rng");
  using _itsMachine = plain.machine;
  plain.send(
    message(REQUEST.setOwner, new Uint8Array(), { flags: MESSAGE_FLAG.version | MESSAGE_FLAG.needReply }),
  );
  assertEquals(plain.receive(), undefined);
});

Deno.test("vhost-user back end: a message that cannot be carried out ends the connection where no answer could say so; the next front end gets the device", () => {
  const wrong: readonly [string, (front: RawFrontEnd) => void, RegExp][] = [
    [
      "version 2",
      (front) => front.send(message(1, undefined, { flags: 2 })),
      /GET_FEATURES: flags 0x2 have version 2/,
    ],
    ["a reply", (front) => front.send(message(1, undefined, { flags: 5 })), /a reply, and nothing was asked/],
    ["too large", (front) => front.send(message(1, undefined, { size: 0x7fff_ffff })), /above the limit/],
    [
      "payload too short",
      (front) => front.send(message(REQUEST.setFeatures, new Uint8Array(4))),
      /4 bytes of payload, 8 are right/,
    ],
    [
      "payload too long",
      (front) => front.send(message(REQUEST.getFeatures, new Uint8Array(8))),
      /8 bytes of payload, 0 are right/,
    ],
    ["an unknown request", (front) => front.send(message(4711)), /front-end request 4711: not a request/],
    [
      "IOTLB",
      (front) => front.send(message(REQUEST.iotlbMsg, new Uint8Array(32))),
      /IOTLB_MSG: not a request/,
    ],
    [
      "a log",
      (front) => front.send(message(REQUEST.setLogBase, new Uint8Array(16))),
      /SET_LOG_BASE: not a request/,
    ],
    [
      "not negotiated",
      (front) => front.send(message(REQUEST.getQueueNum)),
      /GET_QUEUE_NUM: its protocol feature was not negotiated/,
    ],
    [
      "alien protocol features",
      (front) => front.send(message(REQUEST.setProtocolFeatures, u64Message.encode({ value: 1n << 40n }))),
      /not offered: bit 40/,
    ],
    [
      "alien features",
      (front) =>
        front.send(
          message(
            REQUEST.setFeatures,
            u64Message.encode({ value: FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM }),
          ),
        ),
      /not offered: VIRTIO_F_ACCESS_PLATFORM|ACCESS_PLATFORM/,
    ],
    [
      "no VERSION_1",
      (front) => front.send(message(REQUEST.setFeatures, u64Message.encode({ value: 0n }))),
      /must be accepted: .*VERSION_1/,
    ],
    [
      "a logged ring",
      (front) => front.send(message(REQUEST.setVringAddr, vringAddr.encode({ index: 0, flags: 1 }))),
      /nothing is logged/,
    ],
    [
      "a ring of 0",
      (front) => front.send(message(REQUEST.setVringNum, vringState.encode({ index: 0, num: 0 }))),
      /0 entries/,
    ],
    [
      "enabled by 2",
      (front) => front.send(message(REQUEST.setVringEnable, vringState.encode({ index: 0, num: 2 }))),
      /2 is neither 0 nor 1/,
    ],
    [
      "a kick without a descriptor",
      (front) => front.send(message(REQUEST.setVringKick, u64Message.encode({ value: 0n }))),
      /0 descriptors, it needs one/,
    ],
    [
      "a kick with odd bits",
      (front) => front.send(message(REQUEST.setVringKick, u64Message.encode({ value: 0x200n }))),
      /0x200 has bits that mean nothing/,
    ],
    ["a kick that is a file", (front) => {
      using file = createMemfd("no eventfd", 4096);
      front.send(message(REQUEST.setVringKick, u64Message.encode({ value: 0n })), [file]);
    }, /SET_VRING_KICK: the descriptor passed is no eventfd but/],
    ["a call that is a socket", (front) => {
      const [a, b] = UnixSocket.pair();
      front.send(message(REQUEST.setVringCall, u64Message.encode({ value: 0n })), [a.fd]);
      a.close();
      b.close();
    }, /SET_VRING_CALL: the descriptor passed is no eventfd but socket/],
    ["nine descriptors", (front) => {
      using fd = new EventFd();
      front.send(message(REQUEST.setOwner), new Array<OwnedFd>(9).fill(fd.fd));
    }, /9 descriptors beside one message/],
  ];
  using machine = new TestMachine(RNG);
  for (const [what, act, says] of wrong) {
    const [fds, maps] = [openFdCount(), mappingCount().mappings];
    {
      using front = new RawFrontEnd(machine, "rng");
      act(front);
      assertMatch(front.assertClosed(), says, what);
    }
    assertEquals([openFdCount(), mappingCount().mappings], [fds, maps], `${what} leaves something behind`);
  }
  using front = new RawFrontEnd(machine, "rng");
  assert(front.askNumber(REQUEST.getFeatures) > 0n);
});

Deno.test("vhost-user back end: memory that cannot be is refused whole, and what was there stays", () => {
  using machine = new TestMachine(RNG);
  using front = new RawFrontEnd(machine, "rng");
  front.tellNumber(
    REQUEST.setProtocolFeatures,
    PROTOCOL_FEATURE.REPLY_ACK | PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS,
  );
  using file = createMemfd("guest memory", 0x10000);
  const region = (guestAddress: bigint, sizeBytes: bigint, userAddress: bigint, mmapOffset = 0n) => ({
    guestAddress,
    sizeBytes,
    userAddress,
    mmapOffset,
  });
  type Region = ReturnType<typeof region>;
  const table = (...regions: Region[]) => {
    const payload = memTable.encode({ count: regions.length }, regions.length * memRegion.sizeBytes);
    regions.forEach((one, i) => memRegion.encodeInto(payload, 8 + 32 * i, one));
    return payload;
  };
  const good = region(0x1000n, 0x4000n, 0x7000_0000n);
  assertEquals(front.acknowledged(REQUEST.setMemTable, table(good), [file]), 0n);
  // One that ends within a page, as libblkio has it; then the first again.
  assertEquals(front.acknowledged(REQUEST.setMemTable, table(region(0n, 15120n, 0x1000n)), [file]), 0n);
  assertEquals(front.acknowledged(REQUEST.setMemTable, table(good), [file]), 0n);
  const bad: readonly [RegExp, Region[]][] = [
    [/does not begin at a page/, [region(0x800n, 0x1000n, 0x1000n)]],
    [/does not begin at a page/, [region(0n, 0x1000n, 0x10n)]],
    [/does not begin at a page/, [region(0n, 0x1000n, 0x1000n, 0x10n)]],
    [/it is empty/, [region(0n, 0n, 0x1000n)]],
    [/ends beyond/, [region(0xffff_ffff_ffff_f000n, 0x2000n, 0n)]],
    [/ends beyond/, [region(0n, 0x2000n, 0xffff_ffff_ffff_f000n)]],
    [/ends beyond/, [region(0n, 0x2000n, 0n, 1n << 60n)]],
    [/the file passed has 65536 bytes/, [region(0n, 0x20000n, 0n)]],
    [/the file passed has 65536 bytes/, [region(0n, 0x1000n, 0n, 0x10000n)]],
    [/the file passed has 65536 bytes/, [region(0n, 1n << 50n, 0n)]],
    [/overlaps the region at guest address 0x1000/, [good, region(0x4000n, 0x2000n, 0n)]],
    [/overlaps the region at user address 0x70000000/, [good, region(0x10000n, 0x1000n, 0x7000_3000n)]],
  ];
  for (const [says, regions] of bad) {
    const fds = regions.map(() => file);
    assertEquals(front.acknowledged(REQUEST.setMemTable, table(...regions), fds), 1n);
    assertMatch(machine.takeViolations().join(), says);
  }
  assertEquals(
    front.acknowledged(REQUEST.setMemTable, table(good, region(0x10000n, 0x1000n, 0n)), [file]),
    1n,
  );
  assertMatch(machine.takeViolations().join(), /1 descriptors for 2 regions/);
  assertEquals(front.acknowledged(REQUEST.setMemTable, table(good).subarray(0, 39), [file]), 1n);
  assertMatch(machine.takeViolations().join(), /39 bytes for 1 regions/);
  // Slots: the first region is still there, as it was.
  assertEquals(front.acknowledged(REQUEST.addMemReg, singleMemRegion.encode(good), [file]), 1n);
  assertMatch(machine.takeViolations().join(), /overlaps/);
  const more = region(0x10000n, 0x1000n, 0n, 0x5000n);
  assertEquals(front.acknowledged(REQUEST.addMemReg, singleMemRegion.encode(more), [file]), 0n);
  assertEquals(
    front.acknowledged(REQUEST.remMemReg, singleMemRegion.encode({ ...more, sizeBytes: 0x2000n })),
    1n,
  );
  assertMatch(machine.takeViolations().join(), /there is no region of 8192 bytes at guest address 0x10000/);
  // Older front ends send the descriptor once more.
  assertEquals(front.acknowledged(REQUEST.remMemReg, singleMemRegion.encode(more), [file]), 0n);
  assertEquals(front.acknowledged(REQUEST.remMemReg, singleMemRegion.encode(good)), 0n);
  assertEquals(front.acknowledged(REQUEST.remMemReg, singleMemRegion.encode(good)), 1n);
  machine.takeViolations();
  for (let i = 0; i < 509; i++) {
    const one = region(BigInt(i) * 0x1000n, 0x1000n, BigInt(i) * 0x1000n);
    assertEquals(front.acknowledged(REQUEST.addMemReg, singleMemRegion.encode(one), [file]), 0n, `${i}`);
  }
  assertEquals(
    front.acknowledged(REQUEST.addMemReg, singleMemRegion.encode(region(1n << 40n, 0x1000n, 1n << 40n)), [
      file,
    ]),
    1n,
  );
  assertMatch(machine.takeViolations().join(), /509 regions are the limit/);
});

Deno.test("vhost-user back end: the status as the front end says it, without FEATURES_OK for features that cannot be; 0 resets", () => {
  using machine = new TestMachine(RNG);
  using front = new RawFrontEnd(machine, "rng");
  front.tellNumber(REQUEST.setProtocolFeatures, PROTOCOL_FEATURE.STATUS | PROTOCOL_FEATURE.REPLY_ACK);
  assertEquals(front.askNumber(REQUEST.getStatus), 0n);
  // QEMU sets FEATURES_OK first, the others with DRIVER_OK.
  front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM);
  front.tellNumber(REQUEST.setStatus, BigInt(STATUS.featuresOk));
  assertEquals(front.askNumber(REQUEST.getStatus), 0n);
  assertMatch(machine.takeViolations().join(), /FEATURES_OK refused: not offered/);
  front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1);
  front.tellNumber(REQUEST.setStatus, BigInt(STATUS.featuresOk));
  assertEquals(front.askNumber(REQUEST.getStatus), BigInt(STATUS.featuresOk));
  front.tellNumber(REQUEST.setStatus, 0xfn);
  assertEquals(front.askNumber(REQUEST.getStatus), 0xfn);
  assertEquals(front.acknowledged(REQUEST.setStatus, u64Message.encode({ value: 256n })), 1n);
  machine.takeViolations();
  front.tellNumber(REQUEST.setStatus, 0n);
  assertEquals(front.askNumber(REQUEST.getStatus), 0n);
  assertEquals(machine.takeViolations(), []);
});

Deno.test("vhost-user back end: changes of the configuration go to the socket of SET_BACKEND_REQ_FD, and one that is deaf costs nothing", () => {
  using machine = new TestMachine(NET);
  using front = new RawFrontEnd(machine, "net");
  front.tellNumber(REQUEST.setProtocolFeatures, PROTOCOL_FEATURE.BACKEND_REQ | PROTOCOL_FEATURE.REPLY_ACK);
  using file = createMemfd("no socket", 4096);
  assertEquals(front.acknowledged(REQUEST.setBackendReqFd, undefined, [file]), 1n);
  assertMatch(machine.takeViolations().join(), /the descriptor passed is no socket/);
  const [own, theirs] = UnixSocket.pair();
  front.tell(REQUEST.setBackendReqFd, new Uint8Array(), [theirs.fd]);
  theirs.close();
  front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1);
  using driver = front.driver(FEATURE.VERSION_1);
  driver.queue(1, 8);
  driver.sendMemory();
  driver.start(1);
  const view = machine.machine.vhostUserDevice("vhost-user:net") as unknown as {
    core: { configChanged(): void };
  };
  view.core.configChanged();
  const into = new Uint8Array(64);
  assertEquals(own.receive(into, { wait: false })?.length, 12);
  // CONFIG_CHANGE_MSG, version 1, no payload.
  assertEquals(hex(into.subarray(0, 12)), "020000000100000000000000");
  for (let i = 0; i < 20_000; i++) view.core.configChanged();
  own.close();
  view.core.configChanged();
  view.core.configChanged();
  assert(front.askNumber(REQUEST.getFeatures) > 0n);
});

Deno.test("vhost-user back end: memory for chains in flight: its size, its header, and what is none", () => {
  using machine = new TestMachine(BLK);
  using front = new RawFrontEnd(machine, "blk");
  front.tellNumber(REQUEST.setProtocolFeatures, PROTOCOL_FEATURE.INFLIGHT_SHMFD | PROTOCOL_FEATURE.REPLY_ACK);
  front.send(message(REQUEST.getInflightFd, inflightMessage.encode({ queueCount: 2, queueSize: 64 })));
  const reply = front.receive()!;
  const { mmapBytes, mmapOffset, queueCount, queueSize } = inflightMessage.decode(reply.payload);
  assertEquals([mmapOffset, queueCount, queueSize], [0n, 2, 64]);
  const [file] = reply.fds;
  // 16 bytes and 16 for each descriptor, each queue at a multiple of 64.
  assert(mmapBytes >= BigInt(2 * (1024 + 64)));
  assertEquals(BigInt(fileSizeBytes(file!)), mmapBytes);
  const set = (values: Partial<Record<"mmapBytes" | "mmapOffset", bigint>>, fds: OwnedFd[]) =>
    front.acknowledged(
      REQUEST.setInflightFd,
      inflightMessage.encode({ mmapBytes, mmapOffset, queueCount, queueSize, ...values }),
      fds,
    );
  assertEquals(set({}, [file!]), 0n);
  assertEquals(set({}, [file!]), 0n, "marked as ours, it is taken again");
  for (
    const [values, says] of [
      [{ mmapBytes: 64n }, /need/],
      [{ mmapOffset: 8n }, /page's start/],
      [{ mmapOffset: 1n << 20n }, /the file passed has/],
      [{ mmapOffset: 1n << 62n }, /page's start/],
    ] as const
  ) {
    assertEquals(set(values, [file!]), 1n);
    assertMatch(machine.takeViolations().join(), says);
  }
  assertEquals(set({}, []), 1n);
  assertMatch(machine.takeViolations().join(), /0 descriptors/);
  {
    using memory = MappedMemory.map(file!, Number(mmapBytes));
    const second = 64 * Math.ceil((16 + 64 * 16) / 64);
    assertEquals([...memory.bytes(second + 8, 4)], [1, 0, 64, 0], "version 1, 64 descriptors");
    // Another back end took chain 5 of the second queue, and gave back one that came after it.
    memory.bytes()[second + 16 + 5 * 16] = 1;
    assertEquals(set({}, [file!]), 1n);
    assertMatch(machine.takeViolations().join(), /queue 1: another back end left chain 5, out of order/);
    memory.bytes()[second + 16 + 5 * 16] = 0;
    memory.bytes()[second + 8] = 2;
    assertEquals(set({}, [file!]), 1n);
    assertMatch(machine.takeViolations().join(), /region 1 has version 2/);
  }
  using foreign = createSharedFile("another version", Number(mmapBytes));
  assertEquals(set({}, [foreign]), 0n);
  for (
    const ask of [{ queueCount: 3, queueSize: 64 }, { queueCount: 0, queueSize: 64 }, {
      queueCount: 1,
      queueSize: 0,
    }]
  ) {
    using other = new RawFrontEnd(new TestMachine(BLK), "blk");
    using _itsMachine = other.machine;
    other.tellNumber(REQUEST.setProtocolFeatures, PROTOCOL_FEATURE.INFLIGHT_SHMFD);
    other.send(message(REQUEST.getInflightFd, inflightMessage.encode(ask)));
    assertMatch(other.assertClosed(), /GET_INFLIGHT_FD: \d rings of \d+/);
  }
  file!.close();
});

Deno.test("vhost-user back end: of packed rings there is no memory for chains in flight, and none is taken", () => {
  using machine = new TestMachine(BLK);
  using front = new RawFrontEnd(machine, "blk");
  const { INFLIGHT_SHMFD, REPLY_ACK } = PROTOCOL_FEATURE;
  front.tellNumber(REQUEST.setProtocolFeatures, INFLIGHT_SHMFD | REPLY_ACK);
  front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1 | FEATURE.RING_PACKED | 1n << 30n);
  const about = { queueCount: 1, queueSize: 64 };
  front.send(message(REQUEST.getInflightFd, inflightMessage.encode(about)));
  const { payload, fds } = front.receive()!;
  assertEquals([inflightMessage.decode(payload).mmapBytes, fds.length], [0n, 0]);
  using file = createSharedFile("of another", 8192);
  const set = inflightMessage.encode({ ...about, mmapBytes: 8192n });
  assertEquals(front.acknowledged(REQUEST.setInflightFd, set, [file]), 1n);
  assertMatch(machine.takeViolations().join(), /none is kept for packed rings/);
});

Deno.test("vhost-user back end: a second front end is turned away while one is there", () => {
  using machine = new TestMachine(RNG);
  using _first = new RawFrontEnd(machine, "rng");
  _first.askNumber(REQUEST.getFeatures);
  using second = new RawFrontEnd(machine, "rng");
  assertEquals(second.receive(), null);
  assert(_first.askNumber(REQUEST.getFeatures) > 0n);
  assertEquals(messageHeader.sizeBytes, 12);
});

Deno.test("vhost-user back end: a deaf front end holds nobody up, and hears every answer once it listens", () => {
  using machine = new TestMachine(RNG, { ...RNG, name: "other" });
  using front = new RawFrontEnd(machine, "rng");
  using other = new RawFrontEnd(machine, "other");
  const ask = message(REQUEST.getFeatures);
  let asked = 0;
  const push = () => {
    for (; asked < 60_000; asked++) {
      const sent = front.socket.sendSome(ask);
      if (sent === 0) return;
      assertEquals(sent, ask.length);
    }
  };
  for (let round = 0; round < 200; round++) {
    push();
    machine.machine.step();
    if (round % 50 === 0) assert(other.askNumber(REQUEST.getFeatures) > 0n);
  }
  assert(asked < 60_000, "more was taken than the sockets hold");
  const into = new Uint8Array(1 << 16);
  let bytes = 0;
  for (let idle = 0; idle < 100 && bytes < asked * 20; idle++) {
    const received = front.socket.receive(into, { wait: false });
    if (received !== undefined && received.length > 0) {
      bytes += received.length;
      idle = 0;
    }
    machine.machine.step();
  }
  assertEquals(bytes, asked * 20);
  assertEquals(machine.takeViolations(), []);
});

Deno.test("vhost-user back end: a message that does not end keeps the device from nobody for longer than the patience of the host", () => {
  using machine = new TestMachine(RNG);
  using front = new RawFrontEnd(machine, "rng");
  front.askNumber(REQUEST.getFeatures);
  front.send(message(REQUEST.setFeatures, new Uint8Array(8)).subarray(0, 14));
  machine.machine.step();
  const now = performance.now;
  try {
    performance.now = () => now.call(performance) + 11_000;
    machine.machine.step();
  } finally {
    performance.now = now;
  }
  assertMatch(front.assertClosed(), /the message that it began 10000 ms ago is not complete/);
});
