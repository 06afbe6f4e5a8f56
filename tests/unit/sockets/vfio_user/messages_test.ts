/** Cutting a stream into messages: every way in which the bytes of a message can arrive. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EventFd, openFdCount, UnixSocket } from "../../../../ffi/mod.ts";
import { PeerGoneError, ProtocolError } from "../../../../lib/errors/mod.ts";
import { UserMessage, UserMessages } from "../../../../lib/sockets/vfio_user/messages.ts";
import { message } from "./raw_client.ts";
import { Random } from "../../../random.ts";

const LIMITS = { messageBytes: 16384, messageFds: 4 };

function pair(): { peer: UnixSocket; incoming: UserMessages; socket: UnixSocket } & Disposable {
  const [peer, socket] = UnixSocket.pair();
  const incoming = new UserMessages(socket, "peer", { ...LIMITS });
  const close = () => {
    incoming.close();
    peer.close();
    socket.close();
  };
  return { peer, incoming, socket, [Symbol.dispose]: close };
}

const payload = Uint8Array.from({ length: 23 }, (_, i) => i * 7);

Deno.test("stream: a message cut in two at every byte arrives whole", () => {
  const bytes = message(9, payload, { id: 0x1234, flags: 0x11, error: 5 });
  for (let cut = 1; cut < bytes.byteLength; cut++) {
    using ends = pair();
    const { peer, incoming } = ends;
    peer.send(bytes.slice(0, cut));
    assertEquals(incoming.fill(false), "data");
    assertEquals(incoming.next(), false, `cut at ${cut}`);
    assertEquals(incoming.fill(false), "nothing");
    peer.send(bytes.slice(cut));
    assertEquals(incoming.fill(false), "data");
    assert(incoming.next(), `cut at ${cut}`);
    const { messageId, command, flags, errorNumber } = incoming;
    assertEquals([messageId, command, flags, errorNumber], [0x1234, 9, 0x11, 5]);
    assertEquals(incoming.payload, payload);
    assertEquals([incoming.next(), incoming.pendingBytes], [false, 0]);
  }
});

Deno.test("stream: an end at every byte of a message is told from an end between two", () => {
  const bytes = message(9, payload);
  for (let cut = 0; cut < bytes.byteLength; cut++) {
    using ends = pair();
    const { peer, incoming } = ends;
    if (cut > 0) peer.send(bytes.slice(0, cut));
    peer.close();
    while (incoming.fill(false) === "data") assertEquals(incoming.next(), false);
    assertEquals(incoming.pendingBytes, cut);
    const error = incoming.endOfStream();
    assert(error instanceof PeerGoneError);
    assertEquals(error.message.includes(`${cut} bytes into a message`), cut > 0);
  }
});

Deno.test("stream: many messages of many sizes, in pieces of any size", () => {
  const random = new Random(12345);
  using ends = pair();
  const { peer, incoming } = ends;
  const sizes = Array.from(
    { length: 300 },
    () => (random.below(5) === 0 ? random.below(16000) : random.below(40)),
  );
  const all = sizes.flatMap((size, i) => [...message(3, new Uint8Array(size).fill(i), { id: i })]);
  const stream = Uint8Array.from(all);
  let seen = 0;
  for (let at = 0; at < stream.byteLength;) {
    const piece = Math.min(1 + random.below(9000), stream.byteLength - at);
    peer.send(stream.slice(at, at + piece));
    at += piece;
    while (incoming.fill(false) === "data") {
      while (incoming.next()) {
        assertEquals([incoming.messageId, incoming.payloadBytes], [seen, sizes[seen]!]);
        assert(incoming.payload.every((byte) => byte === (seen & 0xff)));
        seen++;
      }
    }
  }
  assertEquals([seen, incoming.pendingBytes], [300, 0]);
});

Deno.test("stream: sizes that cannot be are ProtocolErrors that name the field", () => {
  for (const size of [0, 1, 15]) {
    using ends = pair();
    ends.peer.send(message(4, payload, { size }));
    ends.incoming.fill(false);
    assertThrows(() => ends.incoming.next(), ProtocolError, `message size ${size} is below`);
  }
  for (const size of [LIMITS.messageBytes + 1, 0xffff_ffff]) {
    using ends = pair();
    ends.peer.send(message(4, payload, { size }));
    ends.incoming.fill(false);
    const error = assertThrows(() => ends.incoming.next(), ProtocolError, `message size ${size} is above`);
    assert(error.message.includes("DEVICE_GET_INFO"));
  }
  using ends = pair();
  ends.peer.send(message(4, payload, { flags: 2 }));
  ends.incoming.fill(false);
  assertThrows(() => ends.incoming.next(), ProtocolError, "message type 2");
});

Deno.test("stream: the largest message passes", () => {
  using ends = pair();
  ends.peer.send(message(4, new Uint8Array(LIMITS.messageBytes - 16)));
  while (!ends.incoming.next()) assertEquals(ends.incoming.fill(false), "data");
  assertEquals(ends.incoming.payloadBytes, LIMITS.messageBytes - 16);
});

Deno.test("stream: each message has the descriptors that came with it", () => {
  const before = openFdCount();
  {
    using ends = pair();
    const { peer, incoming } = ends;
    using first = new EventFd();
    using second = new EventFd();
    peer.send(message(1, payload, { id: 1 }));
    peer.send(message(2, payload, { id: 2 }), [first.fd, second.fd]);
    peer.send(message(3, payload, { id: 3 }));
    peer.send(message(4, payload, { id: 4 }), [second.fd]);
    const counts: number[] = [];
    while (incoming.fill(false) === "data") {
      while (incoming.next()) counts[incoming.messageId] = incoming.fds.length;
    }
    assertEquals(counts, [, 0, 2, 0, 1]);
  }
  assertEquals(openFdCount(), before);
});

Deno.test("stream: descriptors stay with a message that comes in pieces", () => {
  using ends = pair();
  const { peer, incoming } = ends;
  using event = new EventFd();
  const bytes = message(2, payload);
  for (let cut = 1; cut < bytes.byteLength; cut++) {
    peer.send(bytes.slice(0, cut), cut % 2 === 0 ? [event.fd] : []);
    incoming.fill(false);
    assertEquals([incoming.next(), incoming.fds.length], [false, 0]);
    peer.send(bytes.slice(cut), cut % 2 === 1 ? [event.fd] : []);
    incoming.fill(false);
    assert(incoming.next());
    const [fd] = incoming.takeFds();
    assert(fd !== undefined);
    fd!.close();
  }
});

Deno.test("stream: descriptors that come with a message's first byte are not the message's before it", () => {
  using ends = pair();
  const { peer, incoming } = ends;
  using event = new EventFd();
  peer.send(message(1, payload));
  peer.send(message(2, payload).slice(0, 1), [event.fd]);
  incoming.fill(false);
  assert(incoming.next());
  assertEquals([incoming.command, incoming.fds.length], [1, 0]);
  peer.send(message(2, payload).slice(1));
  assertEquals(incoming.next(), false);
  incoming.fill(false);
  assert(incoming.next());
  assertEquals([incoming.command, incoming.fds.length], [2, 1]);
});

Deno.test("stream: descriptors stay with their message when the buffer is moved together or grows", () => {
  for (const size of [100, 6000]) {
    using ends = pair();
    const { peer, incoming } = ends;
    using event = new EventFd();
    const second = message(2, new Uint8Array(size));
    // The first message all but fills the buffer, so that the second must be moved to be completed.
    peer.send(message(1, new Uint8Array(4040)));
    peer.send(second.slice(0, 20), [event.fd]);
    incoming.fill(false);
    assert(incoming.next());
    assertEquals([incoming.command, incoming.fds.length, incoming.next()], [1, 0, false]);
    peer.send(second.slice(20));
    peer.send(message(3), [event.fd, event.fd]);
    const seen: number[][] = [];
    while (incoming.fill(false) === "data") {
      while (incoming.next()) seen.push([incoming.command, incoming.fds.length]);
    }
    assertEquals(seen, [[2, 1], [3, 2]]);
  }
});

Deno.test("stream: too many descriptors beside one message are refused, also when they come piece by piece", () => {
  const before = openFdCount();
  for (const pieces of [1, 5]) {
    using ends = pair();
    using event = new EventFd();
    const bytes = message(2, payload);
    assertThrows(
      () => {
        for (let i = 0; i < pieces; i++) {
          ends.peer.send(bytes.slice(i, i + 1), new Array(pieces === 1 ? 5 : 1).fill(event.fd));
          ends.incoming.fill(false);
          ends.incoming.next();
        }
      },
      ProtocolError,
      "5 descriptors",
    );
  }
  assertEquals(openFdCount(), before);
});

Deno.test("stream: descriptors that nobody takes are closed with the next message, and on close", () => {
  using event = new EventFd();
  const before = openFdCount();
  {
    using ends = pair();
    const { peer, incoming } = ends;
    for (let i = 0; i < 3; i++) peer.send(message(2, payload), [event.fd]);
    const open = openFdCount();
    while (incoming.fill(false) === "data") while (incoming.next());
    assertEquals(openFdCount(), open, "three came, all are closed again");
    peer.send(message(2, payload).slice(0, 20), [event.fd]);
    incoming.fill(false);
    assertEquals(openFdCount(), open + 1);
  }
  assertEquals(openFdCount(), before);
});

Deno.test("stream: an outgoing message is header and payload, of any length", () => {
  const [a, b] = UnixSocket.pair();
  const out = new UserMessage(a);
  const incoming = new UserMessages(b, "peer", { ...LIMITS });
  for (const size of [0, 1, 48, 49, 4096, 10000, 3]) {
    const sent = Uint8Array.from({ length: size }, (_, i) => i * 3);
    out.put(sent);
    out.header(size, 7, 0x21, size, 22);
    out.transmit(size);
    while (!incoming.next()) incoming.fill(false);
    assertEquals([incoming.messageId, incoming.command, incoming.flags, incoming.errorNumber], [
      size,
      7,
      0x21,
      22,
    ]);
    assertEquals(incoming.payload, sent);
  }
  incoming.close();
  a.close();
  b.close();
});
