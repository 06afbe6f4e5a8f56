/**
 * Eventfds of the vectors of one interrupt index, as SET_IRQS hands them over.
 *
 * @module
 */
import type { EventFd } from "../../ffi/mod.ts";
import { UsageError } from "../errors/mod.ts";
import type { ServedIrqRequest } from "../sockets/vfio_user/server/served_device.ts";

/** One for each vector that somebody listens to. */
export class VectorEventFds {
  /** How many vectors there are. */
  readonly count: number;
  readonly #what: string;
  readonly #list: (EventFd | null)[];
  /** How often each was signalled. */
  readonly signals: Float64Array;
  #set = false;

  /** Nobody listens. @param what they are, for messages: `MSI-X vectors` */
  constructor(count: number, what: string) {
    this.count = count;
    this.#what = what;
    this.signals = new Float64Array(count);
    this.#list = new Array<EventFd | null>(count).fill(null);
  }

  /** The index is in use: SET_IRQS gave it eventfds. */
  get enabled(): boolean {
    return this.#set;
  }

  /** Somebody listens to the vector. */
  heard(vector: number): boolean {
    return (this.#list[vector] ?? null) !== null;
  }

  /** Signals a vector, if somebody listens. */
  signal(vector: number): void {
    const eventFd = this.#list[vector] ?? null;
    if (eventFd === null) return;
    this.signals[vector]!++;
    eventFd.signal();
  }

  /** SET_IRQS of the index, inside its vectors; takes ownership of the eventfds. @throws UsageError for masking */
  set(request: ServedIrqRequest): void {
    switch (request.action) {
      case "trigger":
        request.eventFds.forEach((fd, i) => {
          this.#list[request.start + i]?.close();
          this.#list[request.start + i] = fd;
        });
        this.#set = true;
        return;
      case "disable":
        return this.detach();
      case "fire":
        for (let i = 0; i < request.count; i++) this.signal(request.start + i);
        return;
      default:
        closeEventFds(request);
        throw new UsageError(`${this.#what} cannot be masked by SET_IRQS`, {
          hint: "VFIO_IRQ_INFO_MASKABLE is not set",
        });
    }
  }

  /** Closes them. */
  detach(): void {
    this.#list.forEach((fd, i) => {
      fd?.close();
      this.#list[i] = null;
    });
    this.#set = false;
  }
}

/** What a request handed over is not wanted. */
export function closeEventFds(request: ServedIrqRequest): void {
  if (request.action === "trigger") { for (const fd of request.eventFds) fd?.close(); }
  if (request.action === "unmask-on") request.eventFd.close();
}

/** Vectors that a request names are below this. */
export function requestEnd(request: ServedIrqRequest): number {
  if ("eventFds" in request) return request.start + request.eventFds.length;
  if ("count" in request) return request.start + request.count;
  return request.action === "unmask-on" ? request.start + 1 : 0;
}
