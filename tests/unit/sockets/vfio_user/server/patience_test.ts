/** The vfio-user server and clients that do not read, or do not speak: what they hold up, and for how long. */
import { assert, assertEquals, assertIsError } from "@std/assert";
import { fileSizeBytes } from "../../../../../ffi/mod.ts";
import { TimeoutError } from "../../../../../lib/errors/mod.ts";
import { regionInfo } from "../../../../../lib/vfio/kernel/abi.ts";
import { COMMAND, regionAccess } from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { message, RawClient, type Reply, versionPayload } from "../raw_client.ts";
import { access, type Bench, bench } from "./bench.ts";

const READ_BYTES = 0x8000;

/** Sends `bytes` again and again, without reading, until the server does not get rid of its replies. @returns messages sent */
function flood(b: Bench, bytes: (id: number) => Uint8Array<ArrayBuffer>): number {
  for (let sent = 0; sent < 10_000;) {
    b.client.socket.send(bytes(sent));
    sent++;
    b.server.handleReadable();
    if (b.server.blocked) return sent;
  }
  throw new Error("the client's socket takes everything");
}

/** Reads replies, letting the server go on, until there are `count`. */
function readAll(b: Bench, count: number): Reply[] {
  const replies: Reply[] = [];
  while (replies.length < count) {
    const reply = b.client.receive();
    if (reply !== undefined) replies.push(reply);
    b.server.handleReadable();
    if (reply === undefined && !b.server.connected) throw new Error(`let go after ${replies.length} replies`);
  }
  return replies;
}

Deno.test("server: replies that a client does not read wait for it, in order, and nothing else does", () => {
  const told: boolean[] = [];
  using b = bench({ watcher: { blocked: (_, blocked) => void told.push(blocked) } });
  b.device.bar2.bytes().forEach((_, i, all) => all[i] = i * 7);
  const read = (id: number) => message(COMMAND.regionRead, access(0n, 2, READ_BYTES), { id });
  const sent = flood(b, read);
  const accesses = () => b.device.log.filter((line) => line.startsWith("read")).length;
  assertEquals([told, b.server.connected, accesses()], [[true], true, sent]);
  b.client.socket.send(read(sent));
  b.server.handleReadable();
  assertEquals(accesses(), sent, "no more is carried out while a reply waits");
  const replies = readAll(b, sent + 1);
  assertEquals(replies.map(({ id, error }) => [id, error]), replies.map((_, id) => [id, 0]));
  for (const { payload } of replies) {
    assertEquals(payload.byteLength, regionAccess.sizeBytes + READ_BYTES);
    assert(payload.subarray(regionAccess.sizeBytes).every((byte, i) => byte === (i * 7 & 0xff)));
  }
  assertEquals([told, b.server.blocked, b.server.dueAt], [[true, false], false, Infinity]);
});

Deno.test("server: a descriptor goes with the reply that waits, whatever its owner does meanwhile", () => {
  using b = bench();
  const ask = (id: number) =>
    message(COMMAND.deviceGetRegionInfo, regionInfo.encode({ argsz: 4096, index: 2 }), { id });
  const sent = flood(b, ask);
  const replies = readAll(b, sent);
  let files = 0;
  for (const reply of replies) {
    for (const fd of reply.fds) {
      assertEquals(fileSizeBytes(fd), 0x10000);
      fd.close();
      files++;
    }
  }
  assertEquals(files, sent);
});

Deno.test("server: a client that reads nothing of a reply is let go at its time, not before", () => {
  using b = bench({ sendTimeoutMs: 5000 });
  flood(b, (id) => message(COMMAND.regionRead, access(0n, 2, READ_BYTES), { id }));
  const due = b.server.dueAt;
  b.server.expire(due - 1);
  assert(b.server.connected);
  // Whatever it reads shows that it is alive.
  b.client.receive();
  b.server.handleReadable();
  assert(b.server.dueAt > due || !b.server.blocked);
  flood(b, (id) => message(COMMAND.regionRead, access(0n, 2, READ_BYTES), { id }));
  b.server.expire(b.server.dueAt);
  assertEquals([b.server.connected, b.device.log.at(-1)], [false, "detached"]);
  assertIsError(b.server.lastReason, TimeoutError, "read nothing of a reply for 5000 ms");
});

Deno.test("server: a client that is silent, or stops in the middle of a message, is let go at its time", () => {
  using b = bench({ messageTimeoutMs: 3000 });
  assertEquals(b.server.dueAt, Infinity, "one that owes nothing may be silent for ever");
  b.client.socket.close();
  b.server.handleReadable();
  const begin: [string, (client: RawClient) => void, boolean][] = [
    ["has not sent its VERSION within 3000 ms", () => {}, false],
    [
      "has not sent its VERSION",
      (one) => void one.send(message(COMMAND.version, versionPayload()).slice(0, 40)),
      false,
    ],
    [
      "the message that it began 3000 ms ago",
      (one) => void one.send(message(COMMAND.deviceReset).slice(0, 7)),
      true,
    ],
    [
      "the message that it began",
      (one) => void one.send(message(COMMAND.regionWrite, access(0n, 0, 9, [1, 2]), { size: 41 })),
      true,
    ],
  ];
  for (const [reason, start, negotiate] of begin) {
    using client = new RawClient(b.server, { negotiate });
    start(client);
    const due = b.server.dueAt;
    b.server.expire(due - 1);
    b.server.handleReadable();
    assertEquals(b.server.dueAt, due, "more silence does not move it");
    assert(b.server.connectionFd !== null);
    b.server.expire(due);
    assertEquals(b.server.connectionFd, null);
    assert(client.ended);
    assertIsError(b.server.lastReason, TimeoutError, reason);
  }
});

Deno.test("server: a message in pieces has its time from its first byte on; the next one has its own", () => {
  using b = bench();
  const bytes = message(COMMAND.deviceReset);
  b.client.send(bytes.slice(0, 5));
  const due = b.server.dueAt;
  b.client.send(bytes.slice(5, 10));
  assertEquals(b.server.dueAt, due);
  const reply = b.client.send(Uint8Array.from([...bytes.slice(10), ...bytes.slice(0, 3)]));
  assertEquals(reply?.error, 0);
  assert(b.server.dueAt >= due && b.server.dueAt !== Infinity);
  assertEquals(b.client.send(bytes.slice(3))?.error, 0);
  assertEquals(b.server.dueAt, Infinity);
});
