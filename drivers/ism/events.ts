/**
 * Events: what the device writes into event buffers, checked; and where they wait until somebody takes them (reference 5.4).
 *
 * @module
 */
import type { DeviceError } from "../../lib/errors/mod.ts";
import { ISM_EVENTS, ISM_QUEUE, type IsmEventName } from "../../lib/virtio/spec/ism.ts";
import { checkCount } from "../driver_options.ts";
import type { IsmInfo } from "./config.ts";
import { ismLie } from "./error.ts";
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

const NAMES: ReadonlyMap<bigint, IsmEventName> = new Map(
  (Object.keys(ISM_EVENTS) as IsmEventName[]).map((name) => [ISM_EVENTS[name].code, name]),
);

/**
 * Calls `tell` for each event of a buffer, up to the first one that cannot be.
 * @param who function, for messages @returns why the rest was left alone; undefined when all was read
 */
export function readEvents(
  who: string,
  info: IsmInfo,
  buffer: Uint8Array<ArrayBuffer>,
  lengthBytes: number,
  tell: (event: RawEvent) => void,
): DeviceError | undefined {
  if (lengthBytes === 0) return lie(who, "used.len", "an event buffer came back empty");
  const view = new DataView(buffer.buffer, buffer.byteOffset, lengthBytes);
  for (let at = 0; at < lengthBytes;) {
    const left = lengthBytes - at;
    if (left < TYPE_BYTES) return lie(who, "used.len", `${left} bytes after the last event`);
    const code = view.getBigUint64(at, true);
    const type = NAMES.get(code);
    if (type === undefined) return lie(who, "ev_type", `unknown event type ${code}`);
    const { sizeBytes } = ISM_EVENTS[type].layout;
    if (left < sizeBytes) {
      return lie(who, "used.len", `an event of type ${code} with ${left} of ${sizeBytes} bytes`);
    }
    if (type === "buffer-free") {
      if (info.devMem) return lie(who, "ev_type", "BUFFER_FREE, although the device supplies all memory");
      tell({ type, buffer: ISM_EVENTS[type].layout.decode(buffer, at).buffer });
    } else {
      const { offset, devid } = ISM_EVENTS.update.layout.decode(buffer, at);
      const chunk = BigInt(info.chunkSizeBytes);
      if (offset % chunk !== 0n || offset / chunk >= BigInt(info.maxChunks)) {
        return lie(who, "offset", `0x${offset.toString(16)} is no chunk of the area`);
      }
      if (type === "update") tell({ type, offset: Number(offset), devid });
      else {tell({
          type,
          offset: Number(offset),
          devid,
          peers: ISM_EVENTS[type].layout.decode(buffer, at).peers,
        });}
    }
    at += sizeBytes;
  }
  return undefined;
}

function lie(who: string, field: string, message: string): DeviceError {
  return ismLie(who, field, message, ISM_QUEUE.event);
}

/** Events in order of arrival, a bounded number of them, that no region's listener has taken; and how many there were. Both outlive resets. */
export class EventBacklog {
  /** Events that came, by kind. */
  readonly counts = { updates: 0, vectorUpdates: 0, attaches: 0, detaches: 0, buffersFreed: 0, faults: 0 };
  /** Events that found no room: the oldest go. */
  lost = 0;
  readonly #capacity: number;
  /** By when they came. */
  readonly #events = new Map<number, IsmEvent>();
  #next = 0;

  /** @param capacity most events that are kept @param name function, for messages @throws UsageError */
  constructor(capacity: number, name: string) {
    this.#capacity = checkCount(name, "events kept", capacity, 1, 1 << 20);
  }

  /** Events that wait. */
  get length(): number {
    return this.#events.size;
  }

  /** Adds one; when there is no room, the oldest is lost. */
  push(event: IsmEvent): void {
    this.#events.set(this.#next++, event);
    if (this.#events.size <= this.#capacity) return;
    this.take();
    this.lost++;
  }

  /** The oldest. */
  take(): IsmEvent | undefined {
    const oldest = this.#next - this.#events.size;
    const event = this.#events.get(oldest);
    this.#events.delete(oldest);
    return event;
  }
}
