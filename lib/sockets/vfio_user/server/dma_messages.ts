/**
 * Commands of a server to its client, DMA_READ and DMA_WRITE, each awaited in this thread for a limited time.
 *
 * @module
 */
import { PeerGoneError, TimeoutError } from "../../../errors/mod.ts";
import { type UnixSocket, waitReady } from "../../../../ffi/mod.ts";
import type { AnswerBudget } from "../../answer_budget.ts";
import { UserMessage, type UserMessages } from "../messages.ts";
import type { DmaMessages } from "../../far_memory.ts";
import { COMMAND, commandName, dmaAccess, HEADER_BYTES, MESSAGE_FLAG } from "../protocol.ts";

/** See the module. */
export class ServerMessages implements DmaMessages {
  readonly #socket: UnixSocket;
  readonly #in: UserMessages;
  /** What the connection sends: no command of ours may come into the middle of a reply. */
  readonly #replies: UserMessage;
  readonly #out: UserMessage;
  readonly #budget: AnswerBudget;
  #nextId = 0;
  /** The one command that the client did not answer in time; after it no other is sent. −1: all were answered. */
  #unanswered = -1;
  #closed = false;
  /** The client was asked before. */
  #asked = false;

  /** Data bytes in one message, as negotiated; 0: none can be sent. */
  dataBytes = 0;
  /** Why the connection cannot go on; null while it can. */
  failure: Error | null = null;
  /** While an answer was awaited other messages arrived, which have not been looked at. */
  readAhead = false;

  /** Shares the connection's socket and its two halves. */
  constructor(
    socket: UnixSocket,
    incoming: UserMessages,
    replies: UserMessage,
    budget: AnswerBudget,
  ) {
    this.#socket = socket;
    this.#in = incoming;
    this.#replies = replies;
    this.#out = new UserMessage(socket);
    this.#budget = budget;
  }

  /** So much time has gone into waiting that the others come first: no more accesses for now. A client that was never asked need not rest. */
  get exhausted(): boolean {
    return this.#asked && this.#budget.exhausted;
  }

  dmaRead(address: bigint, into: Uint8Array<ArrayBuffer>): boolean {
    for (let done = 0; done < into.byteLength;) {
      const count = Math.min(this.dataBytes, into.byteLength - done);
      if (count === 0) return false;
      this.#out.reserve(dmaAccess.sizeBytes);
      const payload = this.#exchange(COMMAND.dmaRead, address + BigInt(done), count, dmaAccess.sizeBytes);
      if (payload === undefined || payload.byteLength !== dmaAccess.sizeBytes + count) return false;
      into.set(payload.subarray(dmaAccess.sizeBytes), done);
      done += count;
    }
    return true;
  }

  dmaWrite(address: bigint, from: Uint8Array<ArrayBuffer>): boolean {
    for (let done = 0; done < from.byteLength;) {
      const count = Math.min(this.dataBytes, from.byteLength - done);
      if (count === 0) return false;
      const payloadBytes = dmaAccess.sizeBytes + count;
      this.#out.reserve(payloadBytes);
      this.#out.bytes.set(from.subarray(done, done + count), HEADER_BYTES + dmaAccess.sizeBytes);
      if (this.#exchange(COMMAND.dmaWrite, address + BigInt(done), count, payloadBytes) === undefined) {
        return false;
      }
      done += count;
    }
    return true;
  }

  /** Whether a reply is the one that was given up. It comes once. */
  isLate(id: number, command: number): boolean {
    const late = id === this.#unanswered && (command === COMMAND.dmaRead || command === COMMAND.dmaWrite);
    if (late) this.#unanswered = NEVER_AGAIN;
    return late;
  }

  /** No more commands. */
  close(): void {
    this.#closed = true;
    this.#out.close();
  }

  /** @returns the reply's payload; undefined when there is none, or it is an error, or one to something else */
  #exchange(
    command: number,
    address: bigint,
    count: number,
    payloadBytes: number,
  ): Uint8Array<ArrayBuffer> | undefined {
    if (this.#closed || this.failure !== null || this.#unanswered !== -1) return undefined;
    this.#asked = true;
    const creditMs = this.#budget.refill();
    if (creditMs < 1) return undefined;
    const deadline = this.#budget.now() + creditMs;
    const id = this.#nextId;
    this.#nextId = (id + 1) & 0xffff;
    dmaAccess.encodeInto(this.#out.bytes, HEADER_BYTES, { address, count: BigInt(count) });
    this.#in.hold(true);
    try {
      if (!this.#flush(this.#replies, deadline)) return this.#giveUp(id);
      this.#out.header(id, command, MESSAGE_FLAG.typeCommand, payloadBytes);
      this.#out.transmitNow(payloadBytes);
      if (!this.#flush(this.#out, deadline)) {
        throw new TimeoutError(
          `${this.#socket.fd.target}: the client does not take a ${commandName(command)}`,
        );
      }
      for (;;) {
        const reply = this.#in.takeReply(id, command);
        if (reply !== undefined) {
          const { flags, payload } = reply;
          if ((flags & MESSAGE_FLAG.error) !== 0 || payload.byteLength < dmaAccess.sizeBytes) {
            return undefined;
          }
          const said = dmaAccess.decode(payload);
          return said.address === address && said.count === BigInt(count) ? payload : undefined;
        }
        if (!this.#wait("readable", deadline)) return this.#giveUp(id);
        const filled = this.#in.fill(false);
        if (filled === "end") throw this.#in.endOfStream();
      }
    } catch (error) {
      if (error instanceof PeerGoneError) this.#closed = true;
      this.failure = error as Error;
      return undefined;
    } finally {
      this.#budget.spent();
      this.#in.hold(false);
      if (this.#in.pendingBytes > 0) this.readAhead = true;
    }
  }

  #flush(out: UserMessage, deadline: number): boolean {
    for (;;) {
      out.flush();
      if (!out.waiting) return true;
      if (!this.#wait("writable", deadline)) return false;
    }
  }

  #wait(what: "readable" | "writable", deadline: number): boolean {
    const left = Math.ceil(deadline - this.#budget.now());
    return left > 0 && (waitReady(this.#socket.fd, what, left) || this.#budget.now() < deadline);
  }

  #giveUp(id: number): undefined {
    this.#unanswered = id;
    return undefined;
  }
}

/** No id: messages have 16 bits for theirs. */
const NEVER_AGAIN = -2;
