/** Numbers and layouts of vhost-user messages, pinned, and how a stream is cut into them. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { UnixSocket } from "../../../../ffi/mod.ts";
import { ProtocolError } from "../../../../lib/errors/mod.ts";
import { VhostUserMessage, VhostUserMessages } from "../../../../lib/sockets/vhost_user/messages.ts";
import * as protocol from "../../../../lib/sockets/vhost_user/protocol.ts";
import type { Fields, Struct } from "../../../../lib/wire/mod.ts";

/** `name@offset:type` of every field, and the size. */
function layout(struct: Struct<Fields>): string {
  const fields = Object.entries(struct.fields).map(([name, { offset, type }]) => `${name}@${offset}:${type}`);
  return `${struct.sizeBytes} ${fields.join(" ")}`;
}

Deno.test("vhost-user structures have the published sizes and offsets", () => {
  assertEquals(layout(protocol.messageHeader), "12 request@0:u32 flags@4:u32 payloadBytes@8:u32");
  assertEquals(layout(protocol.u64Message), "8 value@0:u64");
  assertEquals(layout(protocol.vringState), "8 index@0:u32 num@4:u32");
  assertEquals(
    layout(protocol.vringAddr),
    "40 index@0:u32 flags@4:u32 descriptor@8:u64 used@16:u64 available@24:u64 log@32:u64",
  );
  assertEquals(layout(protocol.memTable), "8 count@0:u32 padding@4:u32");
  assertEquals(
    layout(protocol.memRegion),
    "32 guestAddress@0:u64 sizeBytes@8:u64 userAddress@16:u64 mmapOffset@24:u64",
  );
  assertEquals(
    layout(protocol.singleMemRegion),
    "40 padding@0:u64 guestAddress@8:u64 sizeBytes@16:u64 userAddress@24:u64 mmapOffset@32:u64",
  );
  assertEquals(layout(protocol.logBase), "16 mmapBytes@0:u64 mmapOffset@8:u64");
  assertEquals(layout(protocol.configMessage), "12 offset@0:u32 sizeBytes@4:u32 flags@8:u32");
  assertEquals(
    layout(protocol.inflightMessage),
    "24 mmapBytes@0:u64 mmapOffset@8:u64 queueCount@16:u16 queueSize@18:u16 padding@20:u32",
  );
  assertEquals(
    layout(protocol.inflightSplitQueue),
    "16 features@0:u64 version@8:u16 descriptorCount@10:u16 lastBatchHead@12:u16 usedIndex@14:u16",
  );
  assertEquals(layout(protocol.inflightSplitDescriptor), "16 inflight@0:u8 next@6:u16 counter@8:u64");
  assertEquals(
    layout(protocol.inflightPackedQueue),
    "32 features@0:u64 version@8:u16 descriptorCount@10:u16 freeHead@12:u16 oldFreeHead@14:u16 usedIndex@16:u16 " +
      "oldUsedIndex@18:u16 usedWrap@20:u8 oldUsedWrap@21:u8",
  );
  assertEquals(
    layout(protocol.inflightPackedDescriptor),
    "32 inflight@0:u8 next@2:u16 last@4:u16 count@6:u16 counter@8:u64 id@16:u16 flags@18:u16 lengthBytes@20:u32 " +
      "address@24:u64",
  );
  assertEquals(layout(protocol.vringArea), "24 value@0:u64 sizeBytes@8:u64 offset@16:u64");
  assertEquals(layout(protocol.deviceStateTransfer), "8 direction@0:u32 phase@4:u32");
});

Deno.test("vhost-user requests, flags and protocol features have the published numbers", () => {
  assertEquals(Object.values(protocol.REQUEST), Array.from({ length: 44 }, (_, i) => i + 1));
  assertEquals(Object.values(protocol.BACKEND_REQUEST), Array.from({ length: 10 }, (_, i) => i + 1));
  assertEquals(
    Object.values(protocol.PROTOCOL_FEATURE),
    Array.from({ length: 21 }, (_, i) => 1n << BigInt(i)),
  );
  const { setMemTable, setVringKick, setBackendReqFd, getConfig, getInflightFd, addMemReg, getStatus } =
    protocol.REQUEST;
  assertEquals(
    [setMemTable, setVringKick, setBackendReqFd, getConfig, getInflightFd, addMemReg, getStatus],
    [5, 12, 21, 24, 31, 37, 40],
  );
  assertEquals({ ...protocol.MESSAGE_FLAG }, { versionMask: 3, version: 1, reply: 4, needReply: 8 });
  assertEquals(protocol.VHOST_FEATURE.PROTOCOL_FEATURES, 0x4000_0000n);
  assertEquals({ ...protocol.VRING_FD }, { indexMask: 0xffn, none: 0x100n });
  assertEquals(protocol.requestName(12), "SET_VRING_KICK");
  assertEquals(protocol.requestName(2, "back-end"), "BACKEND_CONFIG_CHANGE_MSG");
  assertEquals(protocol.requestName(99), "front-end request 99");
  assertEquals(protocol.protocolFeatureNames(1n << 3n | 1n << 40n), ["REPLY_ACK", "bit 40"]);
});

Deno.test("vhost-user header: 12 bytes; request, version 1 and flags, size of the payload", () => {
  const [peer, socket] = UnixSocket.pair();
  using _peer = peer;
  using _socket = socket;
  const out = new VhostUserMessage(peer);
  out.put(protocol.vringState.encode({ index: 3, num: 256 }));
  out.header(protocol.REQUEST.setVringNum, protocol.MESSAGE_FLAG.needReply, 8);
  out.transmit(8);
  const bytes = new Uint8Array(64);
  assertEquals(socket.receive(bytes)!.length, 20);
  assertEquals(
    [...bytes.subarray(0, 20)],
    [8, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0],
  );
});

Deno.test("vhost-user stream: cut by the payload's size; another version, or a size above the limit, is malformed", () => {
  const message = (request: number, flags: number, size: number, payload: number[] = []) =>
    new Uint8Array([...protocol.messageHeader.encode({ request, flags, payloadBytes: size }), ...payload]);
  const incoming = (bytes: Uint8Array<ArrayBuffer>, check: (of: VhostUserMessages) => void) => {
    const [peer, socket] = UnixSocket.pair();
    using _peer = peer;
    using _socket = socket;
    const of = new VhostUserMessages(socket, "peer", "front-end");
    peer.send(bytes);
    assertEquals(of.fill(false), "data");
    check(of);
    of.close();
  };
  incoming(new Uint8Array([...message(1, 5, 2, [7, 8]), ...message(40, 9, 0)]), (of) => {
    assert(of.next());
    assertEquals([of.request, of.isReply, of.needsReply, [...of.payload]], [1, true, false, [7, 8]]);
    assert(of.next());
    assertEquals([of.title, of.isReply, of.needsReply, of.payloadBytes], ["GET_STATUS", false, true, 0]);
    assertEquals(of.next(), false);
  });
  for (const flags of [0, 2, 3, 4]) {
    incoming(message(1, flags, 0), (of) => {
      const error = assertThrows(() => of.next(), ProtocolError);
      assertEquals(
        error.message,
        `peer: GET_FEATURES: flags 0x${flags.toString(16)} have version ${flags & 3}`,
      );
    });
  }
  for (const size of [protocol.LIMIT.messageBytes - 11, 0xffff_ffff]) {
    incoming(message(1, 1, size), (of) => {
      const error = assertThrows(() => of.next(), ProtocolError);
      assertEquals(
        error.message,
        `peer: GET_FEATURES: message size ${12 + size} is above the limit of 4096 bytes`,
      );
    });
  }
});
