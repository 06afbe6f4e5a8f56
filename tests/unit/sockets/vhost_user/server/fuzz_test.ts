/** Mutated messages, some with descriptors, against back ends: each is answered, refused or the end of the connection, other devices go on, and nothing leaks. */
import { assert, assertEquals } from "@std/assert";
import {
  createMemfd,
  EventFd,
  mappingCount,
  openFdCount,
  type OwnedFd,
  UnixSocket,
} from "../../../../../ffi/mod.ts";
import { PeerGoneError } from "../../../../../lib/errors/mod.ts";
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
import { FEATURE } from "../../../../../lib/virtio/spec/features.ts";
import { campaign, Random, rounds } from "../../../../random.ts";
import { message, RawFrontEnd, TestMachine } from "./raw_front_end.ts";

const MESSAGES = rounds(100_000);
const MESSAGES_A_CONNECTION = 200;
const DEVICES = [
  { name: "rng", kind: "virtio-rng" },
  { name: "net", kind: "virtio-net", queuePairs: 2 },
  { name: "blk", kind: "virtio-blk", sizeBytes: 1 << 16 },
  { name: "console", kind: "virtio-console" },
];
const FEATURE_SETS = [0n, FEATURE.RING_PACKED, FEATURE.EVENT_IDX | FEATURE.INDIRECT_DESC, FEATURE.IN_ORDER];
const MEMORY_BYTES = 0x10000;

/** Messages that a front end of good will could send, in an order in which they make sense. */
function templates(random: Random): readonly (readonly [number, Uint8Array])[] {
  const number = (value: bigint) => u64Message.encode({ value });
  const region = {
    guestAddress: 0x1000n,
    sizeBytes: BigInt(MEMORY_BYTES),
    userAddress: 0x7000_0000n,
    mmapOffset: 0n,
  };
  const table = memTable.encode({ count: 1 }, memRegion.sizeBytes);
  memRegion.encodeInto(table, memTable.sizeBytes, region);
  const index = random.below(3);
  const at = (offset: number) => region.userAddress + BigInt(offset);
  const features = FEATURE.VERSION_1 | random.pick(FEATURE_SETS) | VHOST_FEATURE.PROTOCOL_FEATURES;
  const protocol = PROTOCOL_FEATURE.MQ | PROTOCOL_FEATURE.REPLY_ACK | PROTOCOL_FEATURE.CONFIG |
    PROTOCOL_FEATURE.BACKEND_REQ | PROTOCOL_FEATURE.INFLIGHT_SHMFD | PROTOCOL_FEATURE.RESET_DEVICE |
    PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS | (random.below(2) === 0 ? 0n : PROTOCOL_FEATURE.STATUS);
  return [
    [REQUEST.getFeatures, new Uint8Array()],
    [REQUEST.getProtocolFeatures, new Uint8Array()],
    [REQUEST.setProtocolFeatures, number(protocol)],
    [REQUEST.setFeatures, number(features)],
    [REQUEST.setOwner, new Uint8Array()],
    [REQUEST.getQueueNum, new Uint8Array()],
    [REQUEST.setMemTable, table],
    [REQUEST.setVringNum, vringState.encode({ index, num: 8 })],
    [REQUEST.setVringBase, vringState.encode({ index, num: random.below(2) * 0x8000_8000 })],
    [
      REQUEST.setVringAddr,
      vringAddr.encode({ index, descriptor: at(0), available: at(0x1000), used: at(0x2000) }),
    ],
    [REQUEST.setVringCall, number(BigInt(index))],
    [REQUEST.setVringErr, number(BigInt(index))],
    [REQUEST.setVringKick, number(BigInt(index))],
    [REQUEST.setVringKick, number(0x100n)],
    [REQUEST.setVringEnable, vringState.encode({ index, num: 1 })],
    [REQUEST.setStatus, number(0xfn)],
    [REQUEST.getStatus, new Uint8Array()],
    [REQUEST.getConfig, configMessage.encode({ sizeBytes: 16 }, 16)],
    [REQUEST.setConfig, configMessage.encode({ offset: 32, sizeBytes: 1 }, 1)],
    [REQUEST.setBackendReqFd, new Uint8Array()],
    [REQUEST.getInflightFd, inflightMessage.encode({ queueCount: 1, queueSize: 8 })],
    [REQUEST.setInflightFd, inflightMessage.encode({ mmapBytes: 4096n, queueCount: 1, queueSize: 8 })],
    [REQUEST.getMaxMemSlots, new Uint8Array()],
    [REQUEST.addMemReg, singleMemRegion.encode({ ...region, guestAddress: 0x100000n, userAddress: 0n })],
    [REQUEST.remMemReg, singleMemRegion.encode(region)],
    [REQUEST.netSetMtu, number(1500n)],
    [REQUEST.getVringBase, vringState.encode({ index })],
    [REQUEST.setStatus, number(0n)],
    [REQUEST.resetDevice, new Uint8Array()],
    [REQUEST.resetOwner, new Uint8Array()],
  ];
}

/** Descriptors of all kinds, closed at the end. */
class Descriptors implements Disposable {
  readonly memory = createMemfd("fuzzed guest memory", MEMORY_BYTES);
  readonly event = new EventFd();
  readonly sockets = UnixSocket.pair();

  /** What a request should come with, or sometimes what it should not. */
  for(request: number, random: Random): OwnedFd[] {
    const { memory, event, sockets: [socket] } = this;
    if (random.below(20) === 0) {
      return Array.from({ length: random.below(4) }, () => random.pick([memory, event.fd, socket.fd]));
    }
    switch (request) {
      case REQUEST.setMemTable:
      case REQUEST.addMemReg:
      case REQUEST.setInflightFd:
        return [memory];
      case REQUEST.setVringKick:
      case REQUEST.setVringCall:
      case REQUEST.setVringErr:
        return [event.fd];
      case REQUEST.setBackendReqFd:
        return [socket.fd];
      default:
        return [];
    }
  }

  [Symbol.dispose](): void {
    this.memory.close();
    this.event.close();
    for (const socket of this.sockets) socket.close();
  }
}

function mutate(bytes: Uint8Array<ArrayBuffer>, random: Random): Uint8Array<ArrayBuffer> {
  const changed = bytes.slice();
  for (let changes = random.below(4); changes > 0; changes--) {
    const at = random.below(changed.length);
    // The header less often: a message that is no message ends the connection.
    if (at < messageHeader.sizeBytes && random.below(8) !== 0) continue;
    changed[at] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
  }
  return random.below(100) === 0
    ? changed.subarray(0, random.below(changed.length)) as typeof changed
    : changed;
}

/** @returns whether the connection goes on */
function send(front: RawFrontEnd, bytes: Uint8Array<ArrayBuffer>, fds: OwnedFd[]): boolean {
  const into = new Uint8Array(8192);
  try {
    if (bytes.length > 0) front.socket.send(bytes, fds);
    front.machine.machine.step();
    for (;;) {
      const received = front.socket.receive(into, { wait: false });
      if (received === undefined) return true;
      for (const fd of received.fds) fd.close();
      if (received.length === 0) return false;
    }
  } catch (error) {
    assert(error instanceof PeerGoneError, `${error}`);
    return false;
  }
}

Deno.test(
  campaign(
    `vhost-user back ends: ${MESSAGES} mutated messages, no crash, no leak, and other devices go on`,
    () => {
      const random = new Random(17);
      using machine = new TestMachine(...DEVICES, { name: "witness", kind: "virtio-rng" });
      using fds = new Descriptors();
      using witness = new RawFrontEnd(machine, "witness");
      const before = [openFdCount(), mappingCount().mappings];
      for (let sent = 0; sent < MESSAGES;) {
        {
          using front = new RawFrontEnd(machine, random.pick(DEVICES).name);
          for (let i = 0; i < MESSAGES_A_CONNECTION; i++) {
            const list = templates(random);
            // In order at first, so that rings run; then at random.
            const [request, payload] = i < list.length ? list[i]! : random.pick(list);
            const flags = MESSAGE_FLAG.version | (random.below(4) === 0 ? 0 : MESSAGE_FLAG.needReply);
            const bytes = message(request, payload, { flags });
            sent++;
            const goesOn = send(
              front,
              random.below(3) === 0 ? mutate(bytes, random) : bytes,
              fds.for(request, random),
            );
            if (random.below(5) === 0) fds.event.signal();
            if (!goesOn) {
              break;
            }
          }
        }
        assert(witness.askNumber(REQUEST.getFeatures) > 0n);
        assertEquals([openFdCount(), mappingCount().mappings], before, `after ${sent} messages`);
        const broken = machine.violations.splice(0).filter(({ rule }) => rule === "internal");
        assertEquals(broken, []);
      }
    },
  ),
);
