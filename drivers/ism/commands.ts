/**
 * The commands of the control queue, encoded and decoded (reference 5.3).
 *
 * @module
 */
import { DeviceError } from "../../lib/errors/mod.ts";
import {
  ISM_ACK,
  ISM_ALLOC,
  ISM_ALLOC_REPLY,
  ISM_ATTACH,
  ISM_ATTACH_REPLY,
  ISM_COMMAND,
  ISM_CTRL,
  ISM_EVENT_VECTOR,
  ISM_GRANT_DEFAULT,
  ISM_GRANT_FOR_DEVICE,
  ISM_QUERY_REPLY,
  ISM_QUEUE,
  ISM_TOKEN,
  type IsmCommandName,
} from "../../lib/virtio/spec/ism.ts";
import { ControlQueue } from "../../lib/virtio/control/control_queue.ts";
import type { CommandSite } from "../../lib/virtio/control/engine.ts";
import type { Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";
import { type ChunkMap, chunksOf, REPLY_HEADER_BYTES, replyBytes } from "./chunks.ts";
import type { IsmInfo } from "./config.ts";
import { IsmError } from "./error.ts";

/** Takes a region back to the event queue. */
const NO_VECTOR = 0xffffn;
/** Each try has room for what the one before asked for; a device that asks for more again and again is not served. */
const MOST_TRIES = 3;
const ADDRESS_BYTES = 8;
/** Room for the reply to a command that does not know how long it will be. */
const REPLY_BYTES = 3904;

/** A reply with a list of chunks. */
export interface ChunkReply {
  /** `token` of ALLOC, `size` of ATTACH. */
  readonly first: bigint;
  /** Chunks in the list; checked against the area. */
  readonly num: number;
  /** All of it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** One method a command. @throws of all: IsmError (any `ack` but OK), DeviceError (a reply that cannot be), TimeoutError, ClosedError */
export class IsmCommands implements Disposable {
  /** Commands that were answered. */
  answered = 0;
  readonly #name: string;
  readonly #info: IsmInfo;
  readonly #control: ControlQueue;
  readonly #chunks: ChunkMap;

  /** Takes over a queue that is set up. @throws ExhaustedError, SyscallError */
  constructor(site: CommandSite, queue: Virtqueue, timeoutMs: number, info: IsmInfo, chunks: ChunkMap) {
    this.#name = site.name;
    this.#info = info;
    this.#chunks = chunks;
    // Class and command, data, `ack` and reply are an element each.
    this.#control = new ControlQueue(site, queue, timeoutMs, true);
  }

  /** No command is sent until the device is reset: one was not answered. */
  get stuck(): boolean {
    return this.#control.stuck;
  }

  /** Takes the command memory away. */
  [Symbol.dispose](): void {
    this.#control[Symbol.dispose]();
  }

  /** @param buffer IOVA of the memory, without DEV_MEM */
  alloc(sizeBytes: number, buffer: bigint | undefined): Promise<ChunkReply> {
    const data = withBuffer(ISM_ALLOC.encode({ size: BigInt(sizeBytes) }), buffer);
    const { token, num } = ISM_ALLOC_REPLY.fields;
    const expected = Math.min(chunksOf(sizeBytes, this.#info), this.#info.maxChunks);
    return this.#chunkCommand("ALLOC_REGION", data, expected, token.offset, num.offset);
  }

  /** @param permissions READ, WRITE @param buffer as `alloc` */
  attach(token: bigint, permissions: number, buffer: bigint | undefined): Promise<ChunkReply> {
    const data = withBuffer(ISM_ATTACH.encode({ token, rw_perm: BigInt(permissions) }), buffer);
    const { size, num } = ISM_ATTACH_REPLY.fields;
    const room = Math.floor((REPLY_BYTES - REPLY_HEADER_BYTES) / 8);
    const expected = Math.min(room, this.#info.maxChunks);
    return this.#chunkCommand("ATTACH_REGION", data, expected, size.offset, num.offset, token);
  }

  /** Size and this device's permissions. */
  async query(token: bigint): Promise<{ size: bigint; permissions: bigint }> {
    const reply = await this.#simple(
      "QUERY_INFO",
      token,
      ISM_TOKEN.encode({ token }),
      ISM_QUERY_REPLY.sizeBytes,
    );
    return ISM_QUERY_REPLY.decode(reply);
  }

  async detach(token: bigint): Promise<void> {
    await this.#simple("DETACH_REGION", token, ISM_TOKEN.encode({ token }), 0);
  }

  async grantDefault(token: bigint, permissions: number): Promise<void> {
    const data = ISM_GRANT_DEFAULT.encode({ token, permissions: BigInt(permissions) });
    await this.#simple("GRANT_SET_DEFAULT", token, data, 0);
  }

  async grantFor(token: bigint, devid: bigint, permissions: number): Promise<void> {
    const data = ISM_GRANT_FOR_DEVICE.encode({ token, permissions: BigInt(permissions), peer_devid: devid });
    await this.#simple("GRANT_SET_FOR_DEVICE", token, data, 0);
  }

  async setEventVector(token: bigint, vector: number | null): Promise<void> {
    const data = ISM_EVENT_VECTOR.encode({ token, vector: vector === null ? NO_VECTOR : BigInt(vector) });
    await this.#simple("EVENT_VECTOR_SET", token, data, 0);
  }

  async #send(
    command: IsmCommandName,
    data: Uint8Array,
    replySizeBytes: number,
  ): Promise<{ ack: number; reply: Uint8Array<ArrayBuffer> }> {
    const [commandClass, number] = ISM_COMMAND[command];
    const head = ISM_CTRL.encode({ class: commandClass, command: number });
    const answer = await this.#control.send(command, head, [data], replySizeBytes);
    if (answer.writtenBytes === 0) {
      throw new DeviceError(`the device returned ${command} without acknowledging`, {
        function: this.#name,
        queue: ISM_QUEUE.control,
        field: "ack",
      });
    }
    this.answered++;
    return answer;
  }

  async #simple(
    command: IsmCommandName,
    token: bigint,
    data: Uint8Array,
    replySizeBytes: number,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { ack, reply } = await this.#send(command, data, replySizeBytes);
    if (ack !== ISM_ACK.OK) throw new IsmError(this.#name, command, ack, token);
    this.#checkReply(command, reply, replySizeBytes);
    return reply;
  }

  /** A command whose reply has a list of chunks; asked again with as much room as the device says it needs. */
  async #chunkCommand(
    command: IsmCommandName,
    data: Uint8Array,
    expected: number,
    firstAt: number,
    numAt: number,
    token?: bigint,
  ): Promise<ChunkReply> {
    let room = expected;
    for (let tries = 1;; tries++) {
      const { ack, reply } = await this.#send(command, data, replyBytes(room));
      if (ack !== ISM_ACK.OK && ack !== ISM_ACK.E2BIG) throw new IsmError(this.#name, command, ack, token);
      // without the header there is nothing to go by.
      if (ack === ISM_ACK.E2BIG && (reply.length < REPLY_HEADER_BYTES || tries === MOST_TRIES)) {
        throw new IsmError(this.#name, command, ack, token);
      }
      this.#checkReply(command, reply, REPLY_HEADER_BYTES);
      const view = new DataView(reply.buffer);
      const num = this.#chunks.checkCount(view.getBigUint64(numAt, true));
      if (ack === ISM_ACK.OK) return { first: view.getBigUint64(firstAt, true), num, bytes: reply };
      if (num <= room) throw new IsmError(this.#name, command, ack, token);
      room = num;
    }
  }

  #checkReply(command: IsmCommandName, reply: Uint8Array, sizeBytes: number): void {
    if (reply.length >= sizeBytes) return;
    throw new DeviceError(`the reply to ${command} has ${reply.length} of ${sizeBytes} bytes`, {
      function: this.#name,
      queue: ISM_QUEUE.control,
      field: "used.len",
    });
  }
}

function withBuffer(data: Uint8Array<ArrayBuffer>, buffer: bigint | undefined): Uint8Array<ArrayBuffer> {
  if (buffer === undefined) return data;
  const longer = new Uint8Array(data.length + ADDRESS_BYTES);
  longer.set(data);
  new DataView(longer.buffer).setBigUint64(data.length, buffer, true);
  return longer;
}
