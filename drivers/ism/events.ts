/**
 * Events: what the device writes into event buffers, checked; and where they wait until somebody takes them (reference 5.4).
 *
 * @module
 */
import { DeviceError, UsageError } from "../../lib/errors/mod.ts";
import {
  ISM_EVENT,
  ISM_EVENT_ATTACH_DETACH,
  ISM_EVENT_BUFFER_FREE,
  ISM_EVENT_UPDATE,
  ISM_QUEUE,
} from "../../lib/virtio/spec/ism.ts";
import type { IsmInfo } from "./config.ts";
import type { IsmEvent } from "./region.ts";

/** An event of a region, as it is in the buffer. */
export type RawRegionEvent =
  | { readonly type: "update"; readonly offset: number; readonly devid: bigint }
  | {
    readonly type: "attach" | "detach";
    readonly offset: number;
    readonly devid: bigint;
    readonly peers: bigint;
  };

/** An event as it is in the buffer. */
export type RawEvent = RawRegionEvent | { readonly type: "buffer-free"; readonly buffer: bigint };

const TYPE_BYTES = 8;

/** Reads the events of buffers. */
export class EventParser {
  readonly #name: string;
  readonly #info: IsmInfo;

  /** @param name function, for messages */
  constructor(name: string, info: IsmInfo) {
    this.#name = name;
    this.#info = info;
  }

  /**
   * Calls `tell` for each event of a buffer, up to the first one that cannot be.
   * @returns why the rest was left alone; undefined when all was read
   */
  parse(
    buffer: Uint8Array<ArrayBuffer>,
    lengthBytes: number,
    tell: (event: RawEvent) => void,
  ): DeviceError | undefined {
    if (lengthBytes === 0) return this.#lie("used.len", "an event buffer came back empty");
    const view = new DataView(buffer.buffer, buffer.byteOffset, lengthBytes);
    for (let at = 0; at < lengthBytes;) {
      const left = lengthBytes - at;
      if (left < TYPE_BYTES) return this.#lie("used.len", `${left} bytes after the last event`);
      const type = view.getBigUint64(at, true);
      const layout = layoutOf(type);
      if (layout === undefined) return this.#lie("ev_type", `unknown event type ${type}`);
      if (left < layout.sizeBytes) {
        return this.#lie("used.len", `an event of type ${type} with ${left} of ${layout.sizeBytes} bytes`);
      }
      const event = this.#decode(buffer, at, layout);
      if (event instanceof DeviceError) return event;
      tell(event);
      at += layout.sizeBytes;
    }
    return undefined;
  }

  #decode(buffer: Uint8Array, at: number, layout: EventLayout): RawEvent | DeviceError {
    if (layout === ISM_EVENT_BUFFER_FREE) {
      const { buffer: address } = ISM_EVENT_BUFFER_FREE.decode(buffer, at);
      if (this.#info.devMem) {
        return this.#lie("ev_type", "BUFFER_FREE, although the device supplies all memory");
      }
      return { type: "buffer-free", buffer: address };
    }
    const { ev_type, offset, devid } = ISM_EVENT_UPDATE.decode(buffer, at);
    const chunk = BigInt(this.#info.chunkSizeBytes);
    if (offset % chunk !== 0n || offset / chunk >= BigInt(this.#info.maxChunks)) {
      return this.#lie("offset", `0x${offset.toString(16)} is no chunk of the area`);
    }
    if (layout === ISM_EVENT_UPDATE) return { type: "update", offset: Number(offset), devid };
    const { peers } = ISM_EVENT_ATTACH_DETACH.decode(buffer, at);
    const type = ev_type === BigInt(ISM_EVENT.ATTACH) ? "attach" : "detach";
    return { type, offset: Number(offset), devid, peers };
  }

  #lie(field: string, message: string): DeviceError {
    return new DeviceError(message, { function: this.#name, queue: ISM_QUEUE.event, field });
  }
}

type EventLayout = typeof ISM_EVENT_UPDATE | typeof ISM_EVENT_ATTACH_DETACH | typeof ISM_EVENT_BUFFER_FREE;

/** The numbers look like bits of a mask, but an event has exactly one. */
function layoutOf(type: bigint): EventLayout | undefined {
  switch (type) {
    case BigInt(ISM_EVENT.UPDATE):
      return ISM_EVENT_UPDATE;
    case BigInt(ISM_EVENT.ATTACH):
    case BigInt(ISM_EVENT.DETACH):
      return ISM_EVENT_ATTACH_DETACH;
    case BigInt(ISM_EVENT.BUFFER_FREE):
      return ISM_EVENT_BUFFER_FREE;
    default:
      return undefined;
  }
}

/** Events in order of arrival, a bounded number of them. */
export class EventBacklog {
  readonly #events: (IsmEvent | undefined)[];
  #first = 0;
  #count = 0;
  /** Events that found no room: the oldest go. */
  lost = 0;

  /** @param capacity most events that are kept @param name function, for messages @throws UsageError */
  constructor(capacity: number, name: string) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > 1 << 20) {
      throw new UsageError(`${name}: a backlog of ${capacity} events`, { hint: "1 to 1048576" });
    }
    this.#events = new Array(capacity).fill(undefined);
  }

  /** Events that wait. */
  get length(): number {
    return this.#count;
  }

  /** Adds one; when there is no room, the oldest is lost. */
  push(event: IsmEvent): void {
    if (this.#count === this.#events.length) {
      this.take();
      this.lost++;
    }
    this.#events[(this.#first + this.#count++) % this.#events.length] = event;
  }

  /** The oldest. */
  take(): IsmEvent | undefined {
    if (this.#count === 0) return undefined;
    const event = this.#events[this.#first];
    this.#events[this.#first] = undefined;
    this.#first = (this.#first + 1) % this.#events.length;
    this.#count--;
    return event;
  }
}
