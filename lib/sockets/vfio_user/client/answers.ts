/**
 * What a client answers to the commands of its server: DMA_READ and DMA_WRITE within what is mapped.
 *
 * @module
 */
import { errnoNumber, type UnixSocket } from "../../../../ffi/mod.ts";
import type { ClientMemory } from "./memory.ts";
import type { Way } from "../../channel.ts";
import { UserMessage, UserMessages } from "../messages.ts";
import {
  COMMAND,
  commandName,
  dmaAccess,
  HEADER_BYTES,
  LIMIT,
  maxMessageBytes,
  MESSAGE_FLAG,
} from "../protocol.ts";

/** A socket on which the server sends: the connection, or its twin. */
export class CommandWay implements Way {
  /** The socket. */
  readonly socket: UnixSocket;
  /** Messages of the server. */
  readonly in: UserMessages;
  /** Messages to the server. */
  readonly out: UserMessage;

  readonly #memory: ClientMemory;

  /** Takes the socket over. @param name for messages: the server. @param memory what the server may read and write */
  constructor(socket: UnixSocket, name: string, memory: ClientMemory) {
    this.socket = socket;
    this.#memory = memory;
    this.in = new UserMessages(socket, name, {
      messageBytes: maxMessageBytes(LIMIT.dataTransferBytes),
      messageFds: LIMIT.messageFds,
    });
    this.out = new UserMessage(socket);
  }

  get isReply(): boolean {
    return this.in.isReply;
  }

  get title(): string {
    return commandName(this.in.command);
  }

  answer(): void {
    const { command, flags, messageId, payloadOffset, payloadBytes, view } = this.in;
    const wantsReply = (flags & MESSAGE_FLAG.noReply) === 0;
    const writes = command === COMMAND.dmaWrite;
    if (!writes && command !== COMMAND.dmaRead) return this.#refuse(errnoNumber.ENOTSUP!);
    if (payloadBytes < dmaAccess.sizeBytes) return this.#refuse(errnoNumber.EINVAL!);
    const address = view.getBigUint64(payloadOffset + dmaAccess.fields.address.offset, true);
    const count = Number(view.getBigUint64(payloadOffset + dmaAccess.fields.count.offset, true));
    const expected = dmaAccess.sizeBytes + (writes ? count : 0);
    if (count > LIMIT.dataTransferBytes || payloadBytes !== expected) {
      return this.#refuse(errnoNumber.EINVAL!);
    }
    const bytes = this.#memory.view(address, count, writes);
    if (bytes === undefined) return this.#refuse(errnoNumber.EFAULT!);
    if (writes) bytes.set(this.in.payload.subarray(dmaAccess.sizeBytes));
    if (!wantsReply) return;
    const replyBytes = dmaAccess.sizeBytes + (writes ? 0 : count);
    this.out.reserve(replyBytes);
    dmaAccess.encodeInto(this.out.bytes, HEADER_BYTES, { address, count: BigInt(count) });
    if (!writes) this.out.bytes.set(bytes, HEADER_BYTES + dmaAccess.sizeBytes);
    this.out.header(messageId, command, MESSAGE_FLAG.typeReply, replyBytes);
    this.out.transmit(replyBytes);
  }

  #refuse(error: number): void {
    const { command, flags, messageId } = this.in;
    if ((flags & MESSAGE_FLAG.noReply) !== 0) return;
    this.out.header(messageId, command, MESSAGE_FLAG.typeReply | MESSAGE_FLAG.error, 0, error);
    this.out.transmit(0);
  }

  close(): void {
    this.in.close();
    this.socket.close();
  }
}
