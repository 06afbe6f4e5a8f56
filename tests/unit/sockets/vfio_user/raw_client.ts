/**
 * A client that sends whatever bytes it is told to, for tests of the server.
 *
 * @module
 */
import { type OwnedFd, processId, UnixSocket } from "../../../../ffi/mod.ts";
import { encodeVersion } from "../../../../lib/sockets/vfio_user/capabilities.ts";
import { COMMAND, LIMIT, messageHeader } from "../../../../lib/sockets/vfio_user/protocol.ts";
import type { VfioUserServer } from "../../../../lib/sockets/vfio_user/mod.ts";

let sockets = 0;

/** A socket path that no other test uses. */
export function testSocketPath(): string {
  return `/tmp/ringside-${processId()}-${sockets++}-${crypto.randomUUID().slice(0, 8)}.sock`;
}

/** A message as bytes; `size` lies about its size when given. */
export function message(
  command: number,
  payload: Uint8Array = new Uint8Array(),
  options: { id?: number; flags?: number; size?: number; error?: number } = {},
): Uint8Array<ArrayBuffer> {
  const bytes = messageHeader.encode({
    messageId: options.id ?? 1,
    command,
    messageBytes: options.size ?? messageHeader.sizeBytes + payload.byteLength,
    flags: options.flags ?? 0,
    errorNumber: options.error ?? 0,
  }, payload.byteLength);
  bytes.set(payload, messageHeader.sizeBytes);
  return bytes;
}

/** What a client of this library offers. */
export function versionPayload(
  minor = 1,
  maxMessageFds = 16,
  addressSpaces?: number,
): Uint8Array<ArrayBuffer> {
  return encodeVersion(minor, {
    maxMessageFds,
    maxDataTransferBytes: LIMIT.dataTransferBytes,
    maxDmaMaps: LIMIT.dmaMaps,
    pageSizes: 4096,
    writeMultiple: true,
    ...(addressSpaces === undefined ? {} : { addressSpaces }),
  });
}

export interface Reply {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly error: number;
  readonly payload: Uint8Array<ArrayBuffer>;
  /** The caller closes them. */
  readonly fds: OwnedFd[];
}

/** A connection to a server in this process, which runs when a message has been sent. */
export class RawClient implements Disposable {
  readonly socket: UnixSocket;
  /** Payload of the server's VERSION; empty when nothing was negotiated. */
  readonly version: Uint8Array<ArrayBuffer> = new Uint8Array();
  readonly #server: VfioUserServer;
  readonly #bytes = new Uint8Array(1 << 17);
  #have = 0;
  #fds: OwnedFd[] = [];

  constructor(
    server: VfioUserServer,
    options: { negotiate?: boolean; maxMessageFds?: number; addressSpaces?: number } = {},
  ) {
    this.#server = server;
    this.socket = UnixSocket.connect(server.path);
    server.handleReadable();
    if (options.negotiate === false) return;
    const { maxMessageFds, addressSpaces } = options;
    const reply = this.call(COMMAND.version, versionPayload(1, maxMessageFds, addressSpaces));
    if (reply.error !== 0) throw new Error(`VERSION failed with ${reply.error}`);
    this.version = reply.payload;
  }

  /** Sends bytes, lets the server run, and returns its reply, if there is one. */
  send(bytes: Uint8Array<ArrayBuffer>, fds: readonly OwnedFd[] = []): Reply | undefined {
    this.socket.send(bytes, fds);
    this.#server.handleReadable();
    return this.receive();
  }

  /** As `send`, for a well-formed message that must be answered. */
  call(
    command: number,
    payload?: Uint8Array,
    fds: readonly OwnedFd[] = [],
    options: { id?: number; flags?: number } = {},
  ): Reply {
    const reply = this.send(message(command, payload, options), fds);
    if (reply === undefined) throw new Error(`no reply to command ${command}`);
    return reply;
  }

  /** The next reply that is there, or undefined. */
  receive(): Reply | undefined {
    while (this.#have < messageHeader.sizeBytes || this.#have < this.#size()) {
      const received = this.socket.receive(this.#bytes.subarray(this.#have), { wait: false });
      if (received === undefined || received.length === 0) return undefined;
      this.#have += received.length;
      this.#fds.push(...received.fds);
    }
    const header = messageHeader.decode(this.#bytes);
    const payload = this.#bytes.slice(messageHeader.sizeBytes, header.messageBytes);
    this.#bytes.copyWithin(0, header.messageBytes, this.#have);
    this.#have -= header.messageBytes;
    const fds = this.#fds;
    this.#fds = [];
    const { messageId: id, command, flags, errorNumber: error } = header;
    return { id, command, flags, error, payload, fds };
  }

  #size(): number {
    return messageHeader.decode(this.#bytes).messageBytes;
  }

  /** True when the server has closed its end; what it sent before is read away. */
  get ended(): boolean {
    this.#server.handleReadable();
    while (true) {
      const received = this.#tryReceive();
      if (received === "gone") return true;
      if (received === undefined) return false;
    }
  }

  #tryReceive(): "gone" | "data" | undefined {
    try {
      const received = this.socket.receive(this.#bytes, { wait: false });
      if (received === undefined) return undefined;
      for (const fd of received.fds) fd.close();
      return received.length === 0 ? "gone" : "data";
    } catch {
      return "gone";
    }
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds) fd.close();
    this.socket.close();
  }
}
