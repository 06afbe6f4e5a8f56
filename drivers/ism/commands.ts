/**
 * The commands of the control queue, encoded and decoded (reference 5.3).
 *
 * @module
 */
import {
  ISM_ACK,
  ISM_CHUNKS_REPLY,
  ISM_COMMAND,
  ISM_COMMAND_DATA,
  ISM_CTRL,
  ISM_QUERY_REPLY,
  type IsmCommandName,
} from "../../lib/virtio/spec/ism.ts";
import { NO_VECTOR } from "../../lib/virtio/spec/pci.ts";
import { ControlQueue } from "../../lib/virtio/control/control_queue.ts";
import type { CommandSite } from "../../lib/virtio/control/engine.ts";
import type { Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";
import { type ChunkMap, chunksOf, REPLY_HEADER_BYTES, replyBytes } from "./chunks.ts";
import type { IsmInfo } from "./config.ts";
import { IsmError, ismLie } from "./error.ts";

/** Each try has room for what the one before asked for; a device that asks for more again and again is not served. */
const MOST_TRIES = 3;
const ADDRESS_BYTES = 8;
/** Chunks that the reply to a command has room for that does not know how many there will be. */
const MOST_UNASKED = 486;

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
    const data = withBuffer(ISM_COMMAND_DATA.ALLOC_REGION.encode({ size: BigInt(sizeBytes) }), buffer);
    return this.#chunkCommand("ALLOC_REGION", data, chunksOf(sizeBytes, this.#info));
  }

  /** @param permissions READ, WRITE @param buffer as `alloc` */
  attach(token: bigint, permissions: number, buffer: bigint | undefined): Promise<ChunkReply> {
    const fixed = ISM_COMMAND_DATA.ATTACH_REGION.encode({ token, rw_perm: BigInt(permissions) });
    return this.#chunkCommand("ATTACH_REGION", withBuffer(fixed, buffer), MOST_UNASKED, token);
  }

  /** Size and this device's permissions. */
  async query(token: bigint): Promise<{ size: bigint; permissions: bigint }> {
    const data = ISM_COMMAND_DATA.QUERY_INFO.encode({ token });
    return ISM_QUERY_REPLY.decode(await this.#simple("QUERY_INFO", token, data, ISM_QUERY_REPLY.sizeBytes));
  }

  async detach(token: bigint): Promise<void> {
    await this.#simple("DETACH_REGION", token, ISM_COMMAND_DATA.DETACH_REGION.encode({ token }));
  }

  async grantDefault(token: bigint, permissions: number): Promise<void> {
    const values = { token, permissions: BigInt(permissions) };
    await this.#simple("GRANT_SET_DEFAULT", token, ISM_COMMAND_DATA.GRANT_SET_DEFAULT.encode(values));
  }

  async grantFor(token: bigint, devid: bigint, permissions: number): Promise<void> {
    const values = { token, permissions: BigInt(permissions), peer_devid: devid };
    await this.#simple("GRANT_SET_FOR_DEVICE", token, ISM_COMMAND_DATA.GRANT_SET_FOR_DEVICE.encode(values));
  }

  async setEventVector(token: bigint, vector: number | null): Promise<void> {
    const values = { token, vector: BigInt(vector ?? NO_VECTOR) };
    await this.#simple("EVENT_VECTOR_SET", token, ISM_COMMAND_DATA.EVENT_VECTOR_SET.encode(values));
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
      throw ismLie(this.#name, "ack", `the device returned ${command} without acknowledging`);
    }
    this.answered++;
    return answer;
  }

  async #simple(
    command: IsmCommandName,
    token: bigint,
    data: Uint8Array,
    replySizeBytes = 0,
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
    token?: bigint,
  ): Promise<ChunkReply> {
    let room = Math.min(expected, this.#info.maxChunks);
    for (let tries = 1;; tries++) {
      const { ack, reply } = await this.#send(command, data, replyBytes(room));
      // without the header there is nothing to go by.
      const more = ack === ISM_ACK.E2BIG && reply.length >= REPLY_HEADER_BYTES && tries < MOST_TRIES;
      if (ack !== ISM_ACK.OK && !more) throw new IsmError(this.#name, command, ack, token);
      this.#checkReply(command, reply, REPLY_HEADER_BYTES);
      const { first, num: chunks } = ISM_CHUNKS_REPLY.decode(reply);
      const num = this.#chunks.checkCount(chunks);
      if (!more) return { first, num, bytes: reply };
      if (num <= room) throw new IsmError(this.#name, command, ack, token);
      room = num;
    }
  }

  #checkReply(command: IsmCommandName, reply: Uint8Array, sizeBytes: number): void {
    if (reply.length >= sizeBytes) return;
    const message = `the reply to ${command} has ${reply.length} of ${sizeBytes} bytes`;
    throw ismLie(this.#name, "used.len", message);
  }
}

function withBuffer(data: Uint8Array<ArrayBuffer>, buffer: bigint | undefined): Uint8Array<ArrayBuffer> {
  if (buffer === undefined) return data;
  const longer = new Uint8Array(data.length + ADDRESS_BYTES);
  longer.set(data);
  new DataView(longer.buffer).setBigUint64(data.length, buffer, true);
  return longer;
}
