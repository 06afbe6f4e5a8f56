/**
 * A virtio-ism function that does as it is asked, request by request.
 *
 * @module
 */
import { IsmError, type IsmEvent, type IsmRegion, type VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { IsmChannel } from "../../../drivers/ism/ism_channel.ts";
import { mappingCount } from "../../../ffi/mod.ts";
import type { Answer, Request } from "./ism_peer.ts";

/** See the module's text. */
export class IsmRequests {
  readonly #ism: VirtioIsm;
  readonly #regions = new Map<bigint, IsmRegion>();
  #channel: IsmChannel | undefined;

  /** Asked of this function. */
  constructor(ism: VirtioIsm) {
    this.#ism = ism;
  }

  /** Does it. Errors are answers, too. */
  async answerTo(request: Request): Promise<Answer> {
    return await answering(() => this.#carryOut(request));
  }

  #region(token: string): IsmRegion {
    return this.#regions.get(BigInt(token))!;
  }

  #added(one: IsmRegion): Record<string, unknown> {
    this.#regions.set(one.token, one);
    const { token, sizeBytes, chunks, contiguous, mapped } = one;
    return { token: String(token), sizeBytes, chunks, contiguous, mapped };
  }

  async #events(count: number): Promise<string[]> {
    const seen: string[] = [];
    while (seen.length < count && await this.#ism.waitEvent(10_000)) {
      seen.push(...this.#ism.takeEvents().map(eventText));
    }
    return seen;
  }

  async #carryOut(request: Request): Promise<unknown> {
    switch (request.op) {
      case "info": {
        const { devid, cdidText, chunkSizeBytes, maxChunks } = this.#ism.info;
        return { devid: String(devid), cdidText, chunkSizeBytes, maxChunks };
      }
      case "alloc":
        return this.#added(await this.#ism.alloc(request.sizeBytes));
      case "attach":
        return this.#added(await this.#ism.attach(BigInt(request.token), request));
      case "query": {
        const { sizeBytes, permissions } = await this.#ism.query(BigInt(request.token));
        return { sizeBytes: Number(sizeBytes), permissions };
      }
      case "detach":
        return await this.#ism.detach(BigInt(request.token));
      case "grant-default":
        return await this.#ism.grantDefault(BigInt(request.token), request.permissions);
      case "grant-for": {
        const { token, devid, permissions, cleanDefault } = request;
        return await this.#ism.grantFor(BigInt(token), BigInt(devid), permissions, { cleanDefault });
      }
      case "vector":
        return await this.#ism.setEventVector(this.#region(request.token), request.vector);
      case "write":
        return this.#region(request.token).write(request.offset, Uint8Array.from(request.bytes));
      case "read": {
        const into = new Uint8Array(request.length);
        this.#region(request.token).read(request.offset, into);
        return [...into];
      }
      case "notify":
        return this.#region(request.token).notify();
      case "updates":
        await this.#region(request.token).waitUpdate(10_000, request.since);
        return this.#region(request.token).updates;
      case "events":
        return await this.#events(request.count);
      case "state": {
        const { regions: attached, mappedBytes, faults } = this.#ism.statistics();
        return { regions: attached, mappedBytes, faults, mappings: mappingCount().mappings };
      }
      case "reset":
        return await this.#ism.reset();
      case "channel":
        this.#channel = request.token === undefined
          ? await IsmChannel.create(this.#ism, request.options)
          : await IsmChannel.connect(this.#ism, BigInt(request.token), request.options);
        return String(this.#channel.token);
      case "send":
        await sendPattern(this.#channel!, request.length, request.end);
        return this.#channel!.statistics;
      case "receive":
        return await receivePattern(this.#channel!, request.length);
      case "close-channel":
        return await this.#channel!.close();
    }
  }
}

/** What came of it: a value, or an error by its name. */
export async function answering(act: () => Promise<unknown>): Promise<Answer> {
  try {
    return { value: await act() ?? null };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const ack = error instanceof IsmError ? error.ackName ?? String(error.ack) : undefined;
    return { error: error.name, message: error.message, ...(ack === undefined ? {} : { ack }) };
  }
}

/** What a test compares an event by. */
export function eventText(event: IsmEvent): string {
  switch (event.type) {
    case "fault":
      return `fault ${event.error.message}`;
    case "buffer-free":
      return "buffer-free";
    case "update":
      return `update by ${event.devid}`;
    default:
      return `${event.type} by ${event.devid}, ${event.peers} left`;
  }
}

/** Bytes with a known sequence; a sum that depends on their order. */
function fill(bytes: Uint8Array, from: number): void {
  for (let i = 0; i < bytes.length; i++) bytes[i] = (from + i) * 31 >> 3;
}

/** Sends so many bytes that `receivePattern` knows, and says so when they are all. */
export async function sendPattern(channel: IsmChannel, length: number, end: boolean): Promise<void> {
  const piece = new Uint8Array(50_000);
  for (let sent = 0; sent < length;) {
    const bytes = piece.subarray(0, Math.min(piece.length, length - sent));
    fill(bytes, sent);
    await channel.writeAll(bytes, 20_000);
    sent += bytes.length;
  }
  if (end) channel.closeWrite();
}

/** Reads until there is no more, or so many bytes came, and looks at each. @returns how many */
export async function receivePattern(channel: IsmChannel, length: number): Promise<number> {
  const into = new Uint8Array(70_000);
  const expected = new Uint8Array(into.length);
  let received = 0;
  while (received < length) {
    const count = await channel.readSome(into.subarray(0, length - received), 20_000);
    if (count === 0) break;
    fill(expected.subarray(0, count), received);
    for (let i = 0; i < count; i++) {
      if (into[i] !== expected[i]) throw new Error(`byte ${received + i}`);
    }
    received += count;
  }
  return received;
}
