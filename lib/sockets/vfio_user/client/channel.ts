/**
 * The client's end of a connection: requests, and what is checked of each reply's header.
 *
 * @module
 */
import { PeerGoneError, ProtocolError } from "../../../errors/mod.ts";
import { errnoNumber, type OwnedFd, SyscallError, type UnixSocket } from "../../../../ffi/mod.ts";
import type { Field, Fields, Struct, Values } from "../../../wire/mod.ts";
import { RequestChannel } from "../../channel.ts";
import type { UserMessage, UserMessages } from "../messages.ts";
import { COMMAND, commandName, MAX_ERROR_NUMBER, MESSAGE_FLAG } from "../protocol.ts";
import { CommandWay } from "./answers.ts";
import type { ClientMemory } from "./memory.ts";

const NO_FDS: readonly OwnedFd[] = [];
const NOTHING = new Uint8Array();

export class ClientChannel extends RequestChannel<CommandWay> {
  /** Build a request's payload here, from `HEADER_BYTES` on. */
  readonly out: UserMessage;
  /** The reply, after `request` has returned. */
  readonly in: UserMessages;
  readonly #memory: ClientMemory;
  #nextId = 0;

  /** Takes the socket over, whose timeout must be set. */
  constructor(socket: UnixSocket, name: string, timeoutMs: number, memory: ClientMemory) {
    super(new CommandWay(socket, name, memory), name, timeoutMs);
    this.#memory = memory;
    this.out = this.way.out;
    this.in = this.way.in;
  }

  /** From now on the server sends its commands over `fd`, a socket, which is taken over. @throws ProtocolError when it is none */
  useTwin(fd: OwnedFd): void {
    this.addTwin(fd, (socket) => new CommandWay(socket, this.name, this.#memory));
  }

  /**
   * Sends the request whose payload was built in `out`, and waits for its reply, which is then in `in`.
   *
   * @param maxReplyFds how many descriptors the reply may bring.
   * @throws SyscallError with the peer's errno when it refuses; PeerGoneError, TimeoutError, ProtocolError, ClosedError
   */
  request(command: number, payloadBytes: number, fds = NO_FDS, maxReplyFds = 0): void {
    this.requireUsable(fds);
    const id = this.#nextId;
    this.#nextId = (id + 1) & 0xffff;
    try {
      const deadline = performance.now() + this.timeoutMs;
      try {
        this.out.header(id, command, MESSAGE_FLAG.typeCommand, payloadBytes);
        this.out.transmit(payloadBytes, fds);
      } catch (error) {
        // A server that refuses us has said why before it closed.
        if (!(error instanceof PeerGoneError) || command !== COMMAND.version) throw error;
      }
      this.awaitReply(commandName(command), deadline);
      this.#checkReply(id, command, maxReplyFds);
    } catch (error) {
      throw this.fail(error as Error);
    }
    const { flags, errorNumber } = this.in;
    if ((flags & MESSAGE_FLAG.error) !== 0) {
      // An error reply need not say which error.
      throw new SyscallError(`vfio-user ${commandName(command)}`, this.name, errorNumber || errnoNumber.EIO!);
    }
  }

  /**
   * As `request`, with a structure that has its `argsz` (all that is sent, when not given), and `data` behind it.
   * @throws what `request` throws
   */
  ask<F extends Fields & { readonly argsz: Field<"u32"> }>(
    command: number,
    struct: Struct<F>,
    values: Partial<Values<F>>,
    beside: { readonly data?: Uint8Array; readonly fds?: readonly OwnedFd[]; readonly replyFds?: number } =
      {},
  ): void {
    const { data = NOTHING, fds, replyFds } = beside;
    const argsz = struct.sizeBytes + data.byteLength;
    this.out.put(struct.encode({ argsz, ...values }, data));
    this.request(command, argsz, fds, replyFds);
  }

  /** The structure that the reply begins with. @param exactly nothing is behind it @throws ProtocolError */
  replied<F extends Fields>(struct: Struct<F>, exactly = false): Values<F> {
    if (exactly) this.expectExactly(struct.sizeBytes);
    else this.expectAtLeast(struct.sizeBytes);
    return struct.decode(this.in.payload);
  }

  #checkReply(id: number, command: number, maxReplyFds: number): void {
    const reply = this.in;
    const what = `${this.name}: reply to ${commandName(command)}`;
    const failed = (reply.flags & MESSAGE_FLAG.error) !== 0;
    // A server that is taken refuses before it has read our VERSION, so it cannot know the message's id.
    const refusal = failed && command === COMMAND.version && reply.command === command;
    if (reply.messageId !== id && !refusal) {
      throw new ProtocolError(`${what}: message id ${reply.messageId} instead of ${id}`);
    }
    if (reply.command !== command) {
      throw new ProtocolError(`${what}: command is ${commandName(reply.command)}`);
    }
    if (failed && reply.errorNumber > MAX_ERROR_NUMBER) {
      throw new ProtocolError(`${what}: error number ${reply.errorNumber}`);
    }
    if (reply.fds.length > (failed ? 0 : maxReplyFds)) {
      throw new ProtocolError(`${what}: ${reply.fds.length} descriptors instead of at most ${maxReplyFds}`);
    }
  }

  /** Checks that the reply's payload has `bytes` or more. @throws ProtocolError */
  expectAtLeast(bytes: number): void {
    const have = this.in.payloadBytes;
    if (have >= bytes) return;
    throw this.malformed(`reply to ${commandName(this.in.command)}: ${have} of ${bytes} bytes`);
  }

  /** Checks that the reply's payload has exactly `bytes`. @throws ProtocolError */
  expectExactly(bytes: number): void {
    const have = this.in.payloadBytes;
    if (have === bytes) return;
    throw this.malformed(`reply to ${commandName(this.in.command)}: ${have} bytes instead of ${bytes}`);
  }
}
