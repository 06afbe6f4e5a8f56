/** The vfio-user server and memory that it does not map: files that could shrink, and memory that came without a file. */
import { assert, assertEquals } from "@std/assert";
import { MappedMemory, resizeFile } from "../../../../../ffi/mod.ts";
import { ProtocolError } from "../../../../../lib/errors/mod.ts";
import { COMMAND, dmaAccess, dmaUnmap } from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { REGISTER } from "../fake_device.ts";
import { message, versionPayload } from "../raw_client.ts";
import { access, type Bench, bench, EINVAL, EIO, map, unsealedFile } from "./bench.ts";

const REPLY = 1;
const IOVA = 0x10000;

function u32(value: number): number[] {
  return [value & 0xff, value >> 8 & 0xff, value >> 16 & 0xff, value >>> 24];
}

/** Points the device's engine at a range. */
function aim(b: Bench, iova: number, length: number): void {
  const bytes = [...u32(iova), 0, 0, 0, 0];
  assertEquals(b.client.call(COMMAND.regionWrite, access(BigInt(REGISTER.iova), 0, 8, bytes)).error, 0);
  assertEquals(
    b.client.call(COMMAND.regionWrite, access(BigInt(REGISTER.length), 0, 4, u32(length))).error,
    0,
  );
}

const fill = (value: number) =>
  message(COMMAND.regionWrite, access(BigInt(REGISTER.fill), 0, 4, u32(value)), { id: 77 });
const sum = message(COMMAND.regionRead, access(BigInt(REGISTER.sum), 0, 4), { id: 78 });

function dmaReply(
  command: number,
  id: number,
  address: number,
  data: number[],
  count = data.length,
  flags = REPLY,
) {
  const payload = dmaAccess.encode({ address: BigInt(address), count: BigInt(count) }, data.length);
  payload.set(data, dmaAccess.sizeBytes);
  return message(command, payload, { id, flags });
}

function join(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

Deno.test("server: an unsealed file is copied from and to, and may be truncated: the server lives, the device is told", () => {
  using b = bench();
  using file = unsealedFile(0x8000);
  using mine = MappedMemory.map(file, 0x8000);
  assertEquals(b.client.call(COMMAND.dmaMap, map({ offset: 0x2000n }), [file]).error, 0);
  assertEquals([b.server.dma.count, b.server.dma.regions.length], [1, 0]);
  aim(b, IOVA + 0x10, 4);
  assertEquals(b.client.send(fill(5))?.error, 0);
  assertEquals([...mine.bytes(0x200f, 6)], [0, 5, 5, 5, 5, 0]);
  mine.bytes()[0x2010] = 250;
  assertEquals([...b.client.send(sum)!.payload.subarray(16)], u32(265));
  resizeFile(file, 0x2000);
  assertEquals([b.client.send(fill(6))?.error, b.client.send(sum)?.error], [EINVAL, EINVAL]);
  resizeFile(file, 0x8000);
  assertEquals([...b.client.send(sum)!.payload.subarray(16)], u32(0), "and it is back");
  const unmap = dmaUnmap.encode({ argsz: 24, address: BigInt(IOVA), size: 0x4000n });
  assertEquals(b.client.call(COMMAND.dmaUnmap, unmap).error, 0);
  assertEquals([b.client.send(sum)?.error, b.device.log.at(-2)], [EINVAL, "unmap 10000 16384"]);
});

Deno.test("server: memory without a file is reached by DMA_READ and DMA_WRITE, also while other messages wait", () => {
  using b = bench();
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  aim(b, IOVA + 4, 3);
  // The answers lie ready in the socket: this client and its server share a thread.
  const reset = message(COMMAND.deviceReset, undefined, { id: 79 });
  b.client.socket.send(join(fill(9), reset, dmaReply(COMMAND.dmaWrite, 0, IOVA + 4, [], 3)));
  b.server.handleReadable();
  const write = b.client.receive()!;
  assertEquals([write.command, write.id, write.flags, write.error], [COMMAND.dmaWrite, 0, 0, 0]);
  assertEquals([...write.payload], [...dmaAccess.encode({ address: BigInt(IOVA + 4), count: 3n }), 9, 9, 9]);
  assertEquals([b.client.receive()!.id, b.client.receive()!.id], [77, 79], "then the others, in order");
  aim(b, IOVA + 4, 3);
  b.client.socket.send(join(sum, dmaReply(COMMAND.dmaRead, 1, IOVA + 4, [100, 200, 44])));
  b.server.handleReadable();
  const read = b.client.receive()!;
  assertEquals([read.command, read.id], [COMMAND.dmaRead, 1]);
  assertEquals([...read.payload], [...dmaAccess.encode({ address: BigInt(IOVA + 4), count: 3n })]);
  assertEquals([...b.client.receive()!.payload.subarray(16)], u32(344));
  assertEquals(b.server.connected, true);
});

Deno.test("server: an access by messages is cut to what the client takes", () => {
  using b = bench({ maxDataTransferBytes: 16 });
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  aim(b, IOVA, 40);
  const answers = [16, 16, 8].map((count, id) => dmaReply(COMMAND.dmaWrite, id, IOVA + 16 * id, [], count));
  b.client.socket.send(join(fill(1), ...answers));
  b.server.handleReadable();
  const sizes = answers.map(() => b.client.receive()!.payload.byteLength - dmaAccess.sizeBytes);
  assertEquals([sizes, b.client.receive()!.error], [[16, 16, 8], 0]);
});

Deno.test("server: a client that refuses a message refuses it alone; one that says nonsense fails that access", () => {
  using b = bench();
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  aim(b, IOVA, 4);
  const refused = message(COMMAND.dmaRead, undefined, { id: 0, flags: REPLY | 0x20, error: EIO! });
  b.client.socket.send(join(sum, refused));
  b.server.handleReadable();
  assertEquals([b.client.receive()!.command, b.client.receive()!.error], [COMMAND.dmaRead, EINVAL]);
  b.client.socket.send(join(sum, dmaReply(COMMAND.dmaRead, 1, IOVA, [1, 2, 3])));
  b.server.handleReadable();
  assertEquals([b.client.receive()!.command, b.client.receive()!.error], [COMMAND.dmaRead, EINVAL]);
  b.client.socket.send(join(sum, dmaReply(COMMAND.dmaRead, 2, IOVA, [1, 2, 3, 4])));
  b.server.handleReadable();
  assertEquals([b.client.receive()!.command, b.client.receive()!.error], [COMMAND.dmaRead, 0]);
});

Deno.test("server: a client that does not answer is asked once; its late answer and all else it says are in order", () => {
  using b = bench({ dmaTimeoutMs: 10 });
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  aim(b, IOVA, 4);
  b.client.socket.send(sum);
  b.server.handleReadable();
  assertEquals([b.client.receive()!.command, b.client.receive()!.error], [COMMAND.dmaRead, EINVAL]);
  assertEquals(b.client.send(sum)?.error, EINVAL, "and no second question");
  assertEquals(b.client.send(dmaReply(COMMAND.dmaRead, 0, IOVA, [1, 2, 3, 4])), undefined);
  assertEquals(b.client.call(COMMAND.deviceReset).error, 0);
  b.client.send(dmaReply(COMMAND.dmaRead, 0, IOVA, [1, 2, 3, 4]));
  assert(!b.server.connected, "it comes once");
  assert(b.server.lastReason instanceof ProtocolError);
});

Deno.test("server: a client that goes while it is asked is gone; what it sent before an access outside of a message is not forgotten", () => {
  using b = bench();
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  b.client.socket.send(
    join(message(COMMAND.deviceReset, undefined, { id: 5 }), dmaReply(COMMAND.dmaRead, 0, IOVA, [8, 8])),
  );
  const { region } = b.server.dma.resolve(BigInt(IOVA), 2, false);
  assertEquals([...region.bytes], [8, 8]);
  assertEquals(b.server.dueAt, 0, "nothing in the socket tells of the other message");
  b.server.expire();
  assertEquals([b.client.receive()!.command, b.client.receive()!.id, b.device.log.at(-1)], [
    COMMAND.dmaRead,
    5,
    "reset",
  ]);
  b.client.socket.close();
  assert(!b.server.dma.find(IOVA, 0, 2, false));
  b.server.expire();
  assertEquals([b.server.connectionFd, b.device.log.at(-1)], [null, "detached"]);
  // It broke no rule: a process may end at any time.
  assertEquals(b.server.lastReason, null);
});

Deno.test("server: a client that goes with requests on the way has left, and broke no rule; one that goes within a request has", () => {
  const begun = message(COMMAND.regionRead, access(BigInt(REGISTER.sum), 0, 4), { id: 79 }).subarray(0, 20);
  for (const [sent, within] of [[[sum, sum, sum], false], [[begun], true]] as const) {
    using b = bench();
    b.client.socket.send(join(...sent));
    b.client.socket.close();
    for (let calls = 0; b.server.connectionFd !== null && calls < 10; calls++) {
      b.server.handleReadable();
      b.server.expire();
    }
    assertEquals([b.server.connectionFd, b.device.log.at(-1)], [null, "detached"]);
    assertEquals(b.server.lastReason?.message.includes("bytes into a message") ?? false, within);
    if (!within) assertEquals(b.server.lastReason, null);
  }
});

Deno.test("server: a client that floods instead of answering is let go", () => {
  using b = bench({ maxDataTransferBytes: 8 });
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  const resets = new Uint8Array(200_000 - 200_000 % 16);
  const one = message(COMMAND.version, versionPayload().slice(0, 0));
  for (let at = 0; at < resets.byteLength; at += one.byteLength) resets.set(one, at);
  b.client.socket.send(resets.slice(0, 150_000 - 150_000 % 16));
  assert(!b.server.dma.find(IOVA, 0, 2, false));
  b.server.expire();
  assertEquals(b.server.connectionFd, null);
  assert(b.server.lastReason instanceof ProtocolError);
});
