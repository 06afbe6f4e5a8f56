/** Framing by itself: messages whose header is another than vfio-user's (12 bytes, with the size of the payload, as vhost-user has it). */
import { assertEquals, assertThrows } from "@std/assert";
import { EventFd, type OwnedFd, UnixSocket } from "../../../ffi/mod.ts";
import { ProtocolError } from "../../../lib/errors/mod.ts";
import { IncomingMessages, OutgoingMessage } from "../../../lib/sockets/messages.ts";

const HEADER_BYTES = 12;

class Incoming extends IncomingMessages {
  request = 0;

  constructor(socket: UnixSocket) {
    super(socket, "peer", { messageBytes: 64, messageFds: 2 }, HEADER_BYTES);
  }

  protected override sizeAt(at: number): number {
    return HEADER_BYTES + this.view.getUint32(at + 8, true);
  }

  protected override takeHeader(at: number): string | undefined {
    this.request = this.view.getUint32(at, true);
    const version = this.view.getUint32(at + 4, true) & 3;
    return version === 1 ? undefined : `version ${version}`;
  }

  protected override get title(): string {
    return `request ${this.request}`;
  }
}

class Outgoing extends OutgoingMessage {
  constructor(socket: UnixSocket) {
    super(socket, HEADER_BYTES);
  }

  send(request: number, payload: Uint8Array, fds: readonly OwnedFd[] = [], version = 1): void {
    this.put(payload);
    this.view.setUint32(0, request, true);
    this.view.setUint32(4, version, true);
    this.view.setUint32(8, payload.byteLength, true);
    this.transmit(payload.byteLength, fds);
  }
}

function pair(): { out: Outgoing; incoming: Incoming; peer: UnixSocket } & Disposable {
  const [peer, socket] = UnixSocket.pair();
  const incoming = new Incoming(socket);
  return {
    out: new Outgoing(peer),
    incoming,
    peer,
    [Symbol.dispose](): void {
      incoming.close();
      socket.close();
      peer.close();
    },
  };
}

Deno.test("framing: any header that has a size; descriptors go with their message", () => {
  using p = pair();
  using event = new EventFd();
  p.out.send(5, Uint8Array.of(1, 2, 3), [event.fd]);
  p.out.send(6, new Uint8Array());
  p.incoming.fill(true);
  assertEquals(p.incoming.next(), true);
  assertEquals([p.incoming.request, [...p.incoming.payload]], [5, [1, 2, 3]]);
  assertEquals(p.incoming.fds.length, 1);
  if (!p.incoming.next()) p.incoming.fill(true), p.incoming.next();
  assertEquals([p.incoming.request, p.incoming.payloadBytes, p.incoming.fds.length], [6, 0, 0]);
});

Deno.test("framing: a message in pieces is whole before it is current", () => {
  using p = pair();
  const bytes = Uint8Array.of(9, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 7, 8);
  for (const byte of bytes) {
    assertEquals(p.incoming.next(), false);
    p.peer.send(Uint8Array.of(byte));
    p.incoming.fill(true);
  }
  assertEquals(p.incoming.next(), true);
  assertEquals([p.incoming.request, [...p.incoming.payload]], [9, [7, 8]]);
});

Deno.test("framing: a header that cannot be is named", () => {
  for (
    const [payloadBytes, version, text] of [
      [53, 1, "peer: request 3: message size 65 is above the limit of 64 bytes"],
      [4, 2, "peer: request 3: version 2"],
    ] as const
  ) {
    using p = pair();
    p.out.send(3, new Uint8Array(payloadBytes), [], version);
    p.incoming.fill(true);
    assertThrows(() => p.incoming.next(), ProtocolError, text);
  }
});
