/** A front end whose back end answers what a test has written down, and what it then asked. */
import { assertEquals } from "@std/assert";
import { mappingCount, openFdCount, type OwnedFd, UnixSocket } from "../../../../../ffi/mod.ts";
import { VhostUserDevice } from "../../../../../lib/sockets/vhost_user/client/device.ts";
import type { VhostUserOptions } from "../../../../../lib/sockets/vhost_user/client/options.ts";
import { messageHeader, REQUEST, requestName } from "../../../../../lib/sockets/vhost_user/protocol.ts";

export interface Reply {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly fds?: readonly OwnedFd[];
}

/** The back end says no more, though it still listens. */
export const HANGS_UP: Reply = { bytes: new Uint8Array(0) };

/** A message as bytes. */
export function message(
  request: number,
  flags: number,
  payload: Uint8Array = new Uint8Array(0),
): Uint8Array<ArrayBuffer> {
  return messageHeader.encode({ request, flags, payloadBytes: payload.length }, payload);
}

export const REPLY = 5;

/** A little-endian number of 64 bits. */
export function u64(value: bigint): Uint8Array {
  return new Uint8Array(new BigUint64Array([value]).buffer);
}

/** Little-endian numbers of 32 bits. */
export function u32(...values: number[]): Uint8Array {
  return new Uint8Array(new Uint32Array(values).buffer);
}

/** The reply to a request. */
export function reply(request: keyof typeof REQUEST, payload: Uint8Array, fds?: readonly OwnedFd[]): Reply {
  return { bytes: message(REQUEST[request], REPLY, payload), ...(fds === undefined ? {} : { fds }) };
}

/** The answer that REPLY_ACK gives. */
export function ack(request: keyof typeof REQUEST, value = 0n): Reply {
  return reply(request, u64(value));
}

/** What a back end without protocol features says first. */
export function plain(features = 0n): Reply[] {
  return [reply("getFeatures", u64(features))];
}

/** What one with protocol features says first. */
export function able(protocolFeatures: bigint, features = 0n): Reply[] {
  return [
    reply("getFeatures", u64(features | 1n << 30n)),
    reply("getProtocolFeatures", u64(protocolFeatures)),
  ];
}

/** One connection, from the back end's side. */
export class Connection {
  readonly peer: UnixSocket;
  /** What came with the requests; closed with this. */
  readonly fds: OwnedFd[] = [];
  readonly #buffer = new Uint8Array(1 << 16);

  constructor(peer: UnixSocket, replies: readonly Reply[]) {
    this.peer = peer;
    this.put(...replies);
  }

  /** Puts replies where the front end will find them. */
  put(...replies: Reply[]): void {
    for (const one of replies) {
      if (one === HANGS_UP) this.peer.close();
      else this.peer.send(one.bytes, one.fds);
    }
  }

  /** Requests that came since the last look: name, `!` when an answer is asked for, descriptors, and the payload in hexadecimal. */
  requests(): string[] {
    const found: string[] = [];
    for (;;) {
      const received = this.peer.receive(this.#buffer, { wait: false });
      if (received === undefined || received.length === 0) break;
      this.fds.push(...received.fds);
      for (let at = 0; at < received.length;) {
        const { request, flags, payloadBytes } = messageHeader.decode(this.#buffer, at);
        const payload = this.#buffer.slice(at + 12, at + 12 + payloadBytes);
        assertEquals(flags & ~8, 1);
        at += 12 + payloadBytes;
        // The kernel ends a read behind the message that carried descriptors.
        const beside = at === received.length && received.fds.length > 0 ? ` +${received.fds.length}` : "";
        const hex = [...payload].map((byte) => byte.toString(16).padStart(2, "0")).join("");
        found.push(`${requestName(request)}${flags & 8 ? "!" : ""}${beside}${hex === "" ? "" : ` ${hex}`}`);
      }
    }
    return found;
  }

  close(): void {
    this.peer.close();
    for (const fd of this.fds) fd.close();
  }
}

export interface Scripted extends Disposable {
  readonly device: VhostUserDevice;
  /** The first connection, and those that came after it. */
  readonly connections: Connection[];
}

/** A front end that has connected, and a check that it leaks nothing. @param later scripts of further connections; where there is none, nobody listens */
export function scripted(
  replies: readonly Reply[],
  options: Partial<VhostUserOptions> = {},
  later: readonly (readonly Reply[])[] = [],
): Scripted {
  const before = [openFdCount(), mappingCount().mappings];
  const scripts = [replies, ...later];
  const connections: Connection[] = [];
  const connect = () => {
    const script = scripts.shift();
    if (script === undefined) return UnixSocket.connect("/nonexistent/socket");
    const [peer, socket] = UnixSocket.pair();
    connections.push(new Connection(peer, script));
    return socket;
  };
  const end = () => {
    for (const one of connections) one.close();
    assertEquals([openFdCount(), mappingCount().mappings], before, "descriptors and mappings");
  };
  try {
    const device = VhostUserDevice.over(connect, { deviceId: 1, name: "fake", ...options });
    const dispose = () => {
      device.close();
      end();
    };
    return { device, connections, [Symbol.dispose]: dispose };
  } catch (error) {
    end();
    throw error;
  }
}
