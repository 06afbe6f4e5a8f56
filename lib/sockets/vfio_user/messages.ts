/**
 * The header of vfio-user messages, read and written. Client and server share this.
 *
 * @module
 */
import type { UnixSocket } from "../../../ffi/mod.ts";
import { IncomingMessages, OutgoingMessage, type StreamLimits } from "../messages.ts";
import { commandName, HEADER_BYTES, MESSAGE_FLAG, messageHeader } from "./protocol.ts";

const { messageId, command, messageBytes, flags, errorNumber } = messageHeader.fields;
const { typeMask, typeCommand, typeReply } = MESSAGE_FLAG;

/** The incoming half of a connection. */
export class UserMessages extends IncomingMessages {
  /** Header of the current message: its id, which a reply echoes. */
  messageId = 0;
  /** `COMMAND` number. */
  command = 0;
  /** `MESSAGE_FLAG` bits. */
  flags = 0;
  /** Error of a reply that has the error flag. */
  errorNumber = 0;

  /** Reads from a socket, which stays the caller's. @param what for messages: the peer. */
  constructor(socket: UnixSocket, what: string, limits: StreamLimits) {
    super(socket, what, limits, HEADER_BYTES);
  }

  protected override sizeAt(at: number): number {
    return this.view.getUint32(at + messageBytes.offset, true);
  }

  protected override takeHeader(at: number): string | undefined {
    const { view } = this;
    this.messageId = view.getUint16(at + messageId.offset, true);
    this.command = view.getUint16(at + command.offset, true);
    this.flags = view.getUint32(at + flags.offset, true);
    this.errorNumber = view.getUint32(at + errorNumber.offset, true);
    const type = this.flags & typeMask;
    if (type === typeCommand || type === typeReply) return undefined;
    return `flags 0x${this.flags.toString(16)} have message type ${type}`;
  }

  protected override get title(): string {
    return `${commandName(this.command)} ${this.messageId}`;
  }

  /** True when the current message is a reply. */
  get isReply(): boolean {
    return (this.flags & typeMask) === typeReply;
  }

  /**
   * Takes the reply to a command of ours from among the messages that have arrived behind the current one, which stay in order.
   * @returns its flags and payload, or undefined when it has not arrived @throws ProtocolError when too much else has
   */
  takeReply(id: number, number: number): { flags: number; payload: Uint8Array<ArrayBuffer> } | undefined {
    const message = this.takeAhead(
      (at) =>
        (this.view.getUint32(at + flags.offset, true) & typeMask) === typeReply &&
        this.view.getUint16(at + messageId.offset, true) === id &&
        this.view.getUint16(at + command.offset, true) === number,
      `a reply to ${commandName(number)}`,
    );
    if (message === undefined) return undefined;
    return { flags: messageHeader.decode(message).flags, payload: message.subarray(HEADER_BYTES) };
  }
}

/** The outgoing half: one buffer in which a message is built. */
export class UserMessage extends OutgoingMessage {
  /** Writes to a socket, which stays the caller's. */
  constructor(socket: UnixSocket) {
    super(socket, HEADER_BYTES);
  }

  /** Writes the header of a message, which `transmit` or `transmitNow` then sends. */
  header(id: number, number: number, bits: number, payloadBytes: number, error = 0): void {
    const { view } = this;
    view.setUint16(messageId.offset, id, true);
    view.setUint16(command.offset, number, true);
    view.setUint32(messageBytes.offset, HEADER_BYTES + payloadBytes, true);
    view.setUint32(flags.offset, bits, true);
    view.setUint32(errorNumber.offset, error, true);
  }
}
