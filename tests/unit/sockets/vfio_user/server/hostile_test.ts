/** The vfio-user server and clients that want to break it: each ends in a reason, with nothing left, and nobody else waits. */
import { assert, assertEquals, assertIsError } from "@std/assert";
import { createMemfd, openFdCount, type OwnedFd, UnixSocket } from "../../../../../ffi/mod.ts";
import { ProtocolError } from "../../../../../lib/errors/mod.ts";
import {
  COMMAND,
  dmaAccess,
  dmaUnmap,
  MESSAGE_FLAG,
  writeMulti,
} from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { REGISTER } from "../fake_device.ts";
import { message, type Reply } from "../raw_client.ts";
import { access, type Bench, bench, EINVAL, map, unsealedFile } from "./bench.ts";

const IOVA = 0x10000;

function u32(value: number): number[] {
  return [value & 0xff, value >> 8 & 0xff, value >> 16 & 0xff, value >>> 24];
}

function join(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** An answer to a DMA message. */
function answer(
  command: number,
  data: number[],
  says: { id?: number; address?: number; count?: number } = {},
): Uint8Array<ArrayBuffer> {
  const { id = 0, address = IOVA, count = data.length } = says;
  const payload = dmaAccess.encode({ address: BigInt(address), count: BigInt(count) }, data.length);
  payload.set(data, dmaAccess.sizeBytes);
  return message(command, payload, { id, flags: MESSAGE_FLAG.typeReply });
}

function aim(b: Bench, length: number): void {
  const bytes = [...u32(IOVA), 0, 0, 0, 0, ...u32(length)];
  assertEquals(b.client.call(COMMAND.regionWrite, access(BigInt(REGISTER.iova), 0, 12, bytes)).error, 0);
}

const sum = message(COMMAND.regionRead, access(BigInt(REGISTER.sum), 0, 4), { id: 78 });
const fill = message(COMMAND.regionWrite, access(BigInt(REGISTER.fill), 0, 4, u32(9)), { id: 77 });

/** The answer to `request`, when `reply` lies behind it. */
function answered(b: Bench, request: Uint8Array, reply: Uint8Array): Reply {
  b.client.socket.send(join(request, reply));
  b.server.handleReadable();
  b.client.receive();
  return b.client.receive()!;
}

Deno.test("server: an answer that speaks of another address or count is none", () => {
  using b = bench();
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  aim(b, 4);
  const data = [1, 2, 3, 4];
  const { dmaRead, dmaWrite } = COMMAND;
  let id = 0;
  for (
    const [request, reply, error] of [
      [sum, answer(dmaRead, data, { id: id++ }), 0],
      [sum, answer(dmaRead, data, { id: id++, count: 3 }), EINVAL],
      [sum, answer(dmaRead, data, { id: id++, address: IOVA + 4096 }), EINVAL],
      [fill, answer(dmaWrite, [], { id: id++, count: 4 }), 0],
      [fill, answer(dmaWrite, [], { id: id++, count: 3 }), EINVAL],
      [fill, answer(dmaWrite, [], { id: id++, count: 4, address: 0 }), EINVAL],
      [fill, message(dmaWrite, undefined, { id: id++, flags: MESSAGE_FLAG.typeReply }), EINVAL],
    ] as const
  ) {
    assertEquals(answered(b, request, reply).error, error, `answer ${id}`);
  }
  assert(b.server.connected);
});

Deno.test("server: an answer with another id is not waited for twice, and ends the connection", () => {
  using b = bench({ dmaTimeoutMs: 10 });
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  aim(b, 4);
  assertEquals(answered(b, sum, answer(COMMAND.dmaRead, [1, 2, 3, 4], { id: 7 })).error, EINVAL);
  assertEquals(b.server.connectionFd, null);
  assertIsError(b.server.lastReason, ProtocolError, "a reply to DMA_READ, which was not sent");
});

Deno.test("server: a client that goes in the middle of a wait has left, whatever it had sent; the next one is served", () => {
  using b = bench();
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  aim(b, 4);
  b.client.socket.send(join(sum, message(COMMAND.deviceReset)));
  b.client.socket.shutdown();
  using next = UnixSocket.connect(b.server.path);
  b.server.handleReadable();
  assertEquals(b.server.lastReason, null);
  assertEquals(b.device.log.filter((line) => line === "reset" || line === "detached"), ["detached"]);
  assert(b.server.connectionFd !== null, "the next one");
  next.close();
  b.server.handleReadable();
});

Deno.test("server: memory that a device still holds when its client takes it away is not reached any more", () => {
  using b = bench();
  for (const fds of [[], [unsealedFile(0x4000)]]) {
    assertEquals(b.client.call(COMMAND.dmaMap, map({}), fds).error, 0);
    assert(b.server.dma.find(IOVA, 0, 8, true));
    const held = b.server.dma.region!;
    const unmap = dmaUnmap.encode({ argsz: 24, address: BigInt(IOVA), size: 0x4000n });
    assertEquals(b.client.call(COMMAND.dmaUnmap, unmap).error, 0);
    assertEquals([held.load(), held.store()], [false, false]);
    assertEquals(b.client.receive(), undefined, "nor asked for");
    for (const fd of fds) fd.close();
  }
});

Deno.test("server: writes of one message are those that were sent, also when an answer moves them in the buffer", () => {
  using b = bench();
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  aim(b, 4);
  // What lies before and behind it, so that the answer needs a larger buffer.
  const before = Array.from(
    { length: 249 },
    () => message(COMMAND.deviceGetInfo, undefined, { flags: MESSAGE_FLAG.noReply }),
  );
  const entry = (offset: number, value: number) => access(BigInt(offset), 0, 4, [...u32(value), 0, 0, 0, 0]);
  const writes = [entry(REGISTER.fill, 9), entry(0x200, 0x12345678), entry(0x204, 0x9abcdef0)];
  const multi = join(writeMulti.encode({ writeCount: BigInt(writes.length) }), ...writes);
  b.client.socket.send(join(...before, message(COMMAND.regionWriteMulti, multi)));
  b.client.socket.send(answer(COMMAND.dmaWrite, [], { count: 4 }));
  b.server.handleReadable();
  b.client.receive();
  assertEquals(b.client.receive()?.error, 0);
  assertEquals([...b.device.bar0.subarray(0x200, 0x208)], [...u32(0x12345678), ...u32(0x9abcdef0)]);
});

Deno.test("server: a flood of messages is carried out in turns; none is lost", () => {
  using b = bench();
  // Makes the buffer large.
  b.client.call(COMMAND.regionWrite, access(0x1000n, 0, 0x2000, new Array(0x2000).fill(0)));
  b.device.log.length = 0;
  const MESSAGES = 2000;
  const reset = message(COMMAND.deviceReset, undefined, { flags: MESSAGE_FLAG.noReply });
  b.client.socket.send(join(...new Array(MESSAGES).fill(reset)));
  b.server.handleConnection();
  let turns = 1;
  for (; b.server.dueAt === 0; turns++) {
    assert(b.device.log.length <= 256 * turns, `${b.device.log.length} messages in ${turns} turns`);
    b.server.expire();
  }
  assert(turns > 1);
  assertEquals([b.device.log.length, b.server.dueAt], [MESSAGES, Infinity]);
});

Deno.test("server: a flood of connections is refused in turns", () => {
  using b = bench();
  const others = Array.from({ length: 16 }, () => UnixSocket.connect(b.server.path));
  const refused = () =>
    others.filter((one) => one.receive(new Uint8Array(new ArrayBuffer(16)), { wait: false }) !== undefined)
      .length;
  b.server.handleListener();
  const first = refused();
  assert(first > 0 && first <= 8, `${first} in one turn`);
  for (let turn = 0; turn < 3; turn++) b.server.handleListener();
  for (const one of others) one.close();
  b.server.handleListener();
  assert(b.server.connected);
});

Deno.test("server: hundreds of descriptors beside each message end the connection, with all of them closed", () => {
  using b = bench();
  using file = createMemfd("passed", 4096);
  const before = openFdCount();
  b.client.socket.send(message(COMMAND.deviceReset), new Array<OwnedFd>(253).fill(file));
  b.client.socket.send(message(COMMAND.deviceReset), new Array<OwnedFd>(253).fill(file));
  b.server.handleReadable();
  assertEquals(b.server.connectionFd, null);
  assertIsError(b.server.lastReason, ProtocolError, "descriptors beside one message");
  assertEquals(openFdCount(), before - 1, "the connection's own");
});

Deno.test("server: the last pages of the address space are memory as any other", () => {
  using b = bench();
  const address = (1n << 64n) - 0x4000n;
  assertEquals(b.client.call(COMMAND.dmaMap, map({ address })).error, 0);
  assertEquals(b.client.call(COMMAND.dmaMap, map({ address: address + 0x1000n })).error !== 0, true);
  const [lo, hi] = [0xffff_fffc, 0xffff_ffff];
  assertEquals([b.server.dma.extent(lo, hi), b.server.dma.find(lo, hi, 8, false)], [4, false]);
  assertEquals(b.server.dma.find(0, 2 ** 32, 4, false), false, "a carry past the end");
});
