/**
 * The front end's end of a connection: requests, what is checked of each reply, and what the back end asks.
 *
 * @module
 */
import { DeviceError, ProtocolError } from "../../../errors/mod.ts";
import { type OwnedFd, UnixSocket } from "../../../../ffi/mod.ts";
import type { Fields, Struct, Values } from "../../../wire/mod.ts";
import { RequestChannel, type Way } from "../../channel.ts";
import { VhostUserMessage, VhostUserMessages } from "../messages.ts";
import {
  BACKEND_REQUEST,
  MESSAGE_FLAG,
  REQUEST,
  type Requester,
  requestName,
  u64Message,
} from "../protocol.ts";

const NO_FDS: readonly OwnedFd[] = [];
const NOTHING = new Uint8Array(0);
const DONE = 0n;
const REFUSED = 1n;

/** A socket with messages in both directions. */
abstract class MessageWay implements Way {
  readonly socket: UnixSocket;
  readonly in: VhostUserMessages;
  readonly out: VhostUserMessage;

  constructor(socket: UnixSocket, name: string, requester: Requester) {
    this.socket = socket;
    this.in = new VhostUserMessages(socket, name, requester);
    this.out = new VhostUserMessage(socket);
  }

  get isReply(): boolean {
    return this.in.isReply;
  }

  get title(): string {
    return this.in.title;
  }

  abstract answer(): void;

  close(): void {
    this.in.close();
    this.socket.close();
  }
}

/** The connection itself: what comes on it are replies. */
class ReplyWay extends MessageWay {
  readonly #name: string;

  constructor(socket: UnixSocket, name: string) {
    super(socket, name, "front-end");
    this.#name = name;
  }

  /** @throws ProtocolError always */
  override answer(): never {
    throw new ProtocolError(`${this.#name}: ${this.title} came as a request of the back end`);
  }
}

/** The socket of SET_BACKEND_REQ_FD. */
class BackEndWay extends MessageWay {
  readonly #onConfigChange: () => void;

  constructor(socket: UnixSocket, name: string, onConfigChange: () => void) {
    super(socket, name, "back-end");
    this.#onConfigChange = onConfigChange;
  }

  /** Takes changes of the config space, and refuses the rest: no notification page is mapped, and nothing else was negotiated. */
  override answer(): void {
    const { request, needsReply } = this.in;
    const known = request === BACKEND_REQUEST.configChangeMsg;
    if (known) this.#onConfigChange();
    if (!needsReply) return;
    this.out.put(u64Message.encode({ value: known ? DONE : REFUSED }));
    this.out.header(request, MESSAGE_FLAG.reply, u64Message.sizeBytes);
    this.out.transmit(u64Message.sizeBytes);
  }
}

/** What goes along with a request. */
export interface Beside {
  /** Behind the structure. */
  readonly data?: Uint8Array;
  /** They stay the caller's. */
  readonly fds?: readonly OwnedFd[];
  /** How many the reply may bring. Default 0. */
  readonly replyFds?: number;
  /** Names the ring that it is about. */
  readonly queue?: number;
}

/** See the module's text. */
export class FrontEndChannel extends RequestChannel<MessageWay> {
  /** REPLY_ACK was negotiated: a request without a reply of its own is answered, too. */
  replyAck = false;

  /** Takes the socket over, whose timeout must be set. */
  constructor(socket: UnixSocket, name: string, timeoutMs: number) {
    super(new ReplyWay(socket, name), name, timeoutMs);
  }

  /**
   * Gives the back end a socket for requests of its own (SET_BACKEND_REQ_FD).
   * @param onConfigChange must not ask this channel anything @throws as `tell`
   */
  listen(onConfigChange: () => void): void {
    const [ours, theirs] = UnixSocket.pair();
    using _theirs = theirs;
    this.addTwin(ours.fd, (socket) => new BackEndWay(socket, this.name, onConfigChange));
    this.tell(REQUEST.setBackendReqFd, NOTHING, { fds: [theirs.fd] });
  }

  /**
   * Sends a request that has a reply, and waits for that.
   * @returns the reply's payload: until the next call @throws PeerGoneError, TimeoutError, ProtocolError, SyscallError, ClosedError
   */
  ask(request: number, payload: Uint8Array, beside: Beside = {}): Uint8Array<ArrayBuffer> {
    this.#send(request, payload, 0, beside, true);
    return this.way.in.payload;
  }

  /** As `ask`, of one structure, which must be all of the reply. */
  askFor<F extends Fields>(
    request: number,
    payload: Uint8Array,
    reply: Struct<F>,
    beside: Beside = {},
  ): Values<F> {
    this.ask(request, payload, beside);
    return this.#decoded(request, reply);
  }

  /** All of the current reply. */
  #decoded<F extends Fields>(request: number, reply: Struct<F>): Values<F> {
    const bytes = this.way.in.payload;
    if (bytes.length === reply.sizeBytes) return reply.decode(bytes);
    throw this.malformed(
      `reply to ${requestName(request)}: ${bytes.length} bytes instead of ${reply.sizeBytes}`,
    );
  }

  /** As `ask`, of one 64-bit number. */
  askNumber(request: number): bigint {
    return this.askFor(request, NOTHING, u64Message).value;
  }

  /** Descriptors of the reply, for the caller to close. */
  takeFds(): OwnedFd[] {
    return this.way.in.takeFds();
  }

  /**
   * Sends a request that has no reply; with REPLY_ACK it is answered nevertheless, and the back end has carried it out when this returns.
   * @throws DeviceError when the back end refuses it (REPLY_ACK), and as `ask`
   */
  tell(request: number, payload: Uint8Array, beside: Beside = {}): void {
    if (!this.replyAck) return this.#send(request, payload, 0, beside, false);
    this.#send(request, payload, MESSAGE_FLAG.needReply, beside, true);
    const bytes = this.way.in.payload;
    if (bytes.length !== u64Message.sizeBytes) {
      throw this.malformed(
        `answer to ${requestName(request)}: ${bytes.length} bytes instead of ${u64Message.sizeBytes}`,
      );
    }
    const { value } = u64Message.decode(bytes);
    if (value === DONE) return;
    throw new DeviceError(`the back end refuses it, with ${value}`, {
      function: this.name,
      queue: beside.queue,
      field: requestName(request),
    });
  }

  /** As `tell`, of one 64-bit number. */
  tellNumber(request: number, value: bigint, beside: Beside = {}): void {
    this.tell(request, u64Message.encode({ value }), beside);
  }

  /** Returns when the back end has carried out all that was told. @throws as `ask` */
  settle(): void {
    if (!this.replyAck) this.askNumber(REQUEST.getFeatures);
  }

  /**
   * Sends a request that has a reply of one 64-bit number, for `heard`: nobody is waited for. Nothing else may be asked until then.
   * @throws as `ask`
   */
  post(request: number): void {
    this.requireUsable(NO_FDS);
    try {
      this.#put(request, NOTHING, 0, {});
    } catch (error) {
      throw this.fail(error as Error);
    }
  }

  /** The reply to what was posted; undefined while it has not come. @throws as `ask` */
  heard(request: number): bigint | undefined {
    this.requireUsable(NO_FDS);
    try {
      if (!this.replyIsThere()) return undefined;
      this.#check(request, 0);
    } catch (error) {
      throw this.fail(error as Error);
    }
    return this.#decoded(request, u64Message).value;
  }

  /** As `heard`, and waits for it. */
  awaitHeard(request: number): bigint {
    this.requireUsable(NO_FDS);
    this.#await(request, performance.now() + this.timeoutMs, 0);
    return this.#decoded(request, u64Message).value;
  }

  #send(request: number, payload: Uint8Array, flags: number, beside: Beside, waits: boolean): void {
    const { fds = NO_FDS, replyFds = 0 } = beside;
    this.requireUsable(fds);
    const deadline = performance.now() + this.timeoutMs;
    try {
      this.#put(request, payload, flags, beside);
    } catch (error) {
      throw this.fail(error as Error);
    }
    if (waits) this.#await(request, deadline, replyFds);
  }

  #await(request: number, deadline: number, replyFds: number): void {
    try {
      this.awaitReply(requestName(request), deadline);
      this.#check(request, replyFds);
    } catch (error) {
      throw this.fail(error as Error);
    }
  }

  #put(request: number, payload: Uint8Array, flags: number, { data = NOTHING, fds = NO_FDS }: Beside): void {
    const { out } = this.way;
    const bytes = payload.byteLength + data.byteLength;
    if (data.byteLength === 0) out.put(payload);
    else {
      const both = new Uint8Array(bytes);
      both.set(payload);
      both.set(data, payload.byteLength);
      out.put(both);
    }
    out.header(request, flags, bytes);
    out.transmit(bytes, fds);
  }

  /** The current reply is one to this, with no more descriptors than may be. @throws ProtocolError */
  #check(request: number, replyFds: number): void {
    const { in: incoming } = this.way;
    const reply = `${this.name}: reply to ${requestName(request)}`;
    if (incoming.request !== request) {
      throw new ProtocolError(`${reply}: it is one to ${incoming.title}`);
    }
    if (incoming.fds.length > replyFds) {
      throw new ProtocolError(
        `${reply}: ${incoming.fds.length} descriptors instead of at most ${replyFds}`,
      );
    }
  }
}
