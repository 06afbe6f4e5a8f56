/**
 * The header of vhost-user messages, read and written. Front end and back end share this.
 *
 * @module
 */
import type { UnixSocket } from "../../../ffi/mod.ts";
import { IncomingMessages, OutgoingMessage, type StreamLimits } from "../messages.ts";
import { HEADER_BYTES, LIMIT, MESSAGE_FLAG, messageHeader, type Requester, requestName } from "./protocol.ts";

const { request, flags, payloadBytes } = messageHeader.fields;
const { versionMask, version, reply, needReply } = MESSAGE_FLAG;
const LIMITS: StreamLimits = { messageBytes: LIMIT.messageBytes, messageFds: LIMIT.messageFds };

/** The incoming half of a connection. */
export class VhostUserMessages extends IncomingMessages {
  /** Header of the current message: what it asks, or what it is the reply to. */
  request = 0;
  /** `MESSAGE_FLAG` bits. */
  flags = 0;
  readonly #requester: Requester;

  /**
   * Reads from a socket, which stays the caller's.
   * @param what for messages: the peer. @param requester whose requests and their replies are on this socket
   */
  constructor(socket: UnixSocket, what: string, requester: Requester, limits: StreamLimits = LIMITS) {
    super(socket, what, limits, HEADER_BYTES);
    this.#requester = requester;
  }

  protected override sizeAt(at: number): number {
    return HEADER_BYTES + this.view.getUint32(at + payloadBytes.offset, true);
  }

  protected override takeHeader(at: number): string | undefined {
    this.request = this.view.getUint32(at + request.offset, true);
    this.flags = this.view.getUint32(at + flags.offset, true);
    if ((this.flags & versionMask) === version) return undefined;
    return `flags 0x${this.flags.toString(16)} have version ${this.flags & versionMask}`;
  }

  /** What the current message is, for messages: the name of its request. */
  override get title(): string {
    return requestName(this.request, this.#requester);
  }

  /** True when the current message is a reply. */
  get isReply(): boolean {
    return (this.flags & reply) !== 0;
  }

  /** True when the sender of the current message waits for an answer even if its request has no reply. It counts with REPLY_ACK only. */
  get needsReply(): boolean {
    return (this.flags & needReply) !== 0;
  }
}

/** The outgoing half: one buffer in which a message is built. */
export class VhostUserMessage extends OutgoingMessage {
  /** Writes to a socket, which stays the caller's. */
  constructor(socket: UnixSocket) {
    super(socket, HEADER_BYTES);
  }

  /** Writes the header of a message, which `transmit` or `transmitNow` then sends. @param bits of `MESSAGE_FLAG`, without the version */
  header(number: number, bits: number, bytes: number): void {
    const { view } = this;
    view.setUint32(request.offset, number, true);
    view.setUint32(flags.offset, version | bits, true);
    view.setUint32(payloadBytes.offset, bytes, true);
  }
}
