/**
 * A region: shared memory that this device has allocated or attached.
 *
 * @module
 */
import { typedErrors } from "../../lib/errors/doors.ts";
import { ClosedError, type DeviceError } from "../../lib/errors/mod.ts";
import { ISM_KICK } from "../../lib/virtio/spec/ism.ts";
import { RegionMemory } from "./region_memory.ts";

/** What a region needs of its driver. */
export interface RegionHolder {
  /** Sends DETACH and forgets it. */
  detach(region: IsmRegion): Promise<void>;
  /** Waits until `updates` has changed. */
  waitUpdate(region: IsmRegion, since: number, timeoutMs: number): Promise<boolean>;
}

/** What a region is made of. */
export interface RegionParts {
  readonly token: bigint;
  readonly chunks: readonly number[];
  readonly allocated: boolean;
  readonly notify: { write(value: number): void };
}

/**
 * Shared memory of several devices, made of chunks. Offsets are bytes from its start, whatever chunks they lie in; multi-byte values are
 * little-endian. Only as much as was attached for is allowed: without the right to write there is no view that could be written through, and the
 * mapping itself is for reading.
 *
 * Errors of every access: `UsageError` (outside of `sizeBytes`, or without the right), `ClosedError` after `detach`, or after a reset or
 * `close` of the driver; then every view is detached, too.
 */
export class IsmRegion extends RegionMemory implements AsyncDisposable {
  static {
    typedErrors(this);
  }

  /** What other devices of the domain find it by. */
  readonly token: bigint;
  /** Offset of each chunk in this device's area. */
  readonly chunks: readonly number[];
  /** This device has allocated it; else it has attached it. */
  readonly allocated: boolean;
  readonly #holder: RegionHolder;
  readonly #notify: { write(value: number): void };
  #updates = 0;
  #peers: bigint | undefined;
  #vector: number | null = null;
  #listener: ((event: IsmEvent) => void) | null = null;

  /** Made by `VirtioIsm.alloc` and `attach`. @param memory as for `RegionMemory` */
  constructor(
    holder: RegionHolder,
    parts: RegionParts,
    ...memory: ConstructorParameters<typeof RegionMemory>
  ) {
    super(...memory);
    this.#holder = holder;
    this.token = parts.token;
    this.chunks = parts.chunks;
    this.allocated = parts.allocated;
    this.#notify = parts.notify;
  }

  /** Updates seen so far, by event or vector. */
  get updates(): number {
    return this.#updates;
  }

  /** References of other devices, as the last ATTACH or DETACH event said; undefined before the first. */
  get peers(): bigint | undefined {
    return this.#peers;
  }

  /** Vector that updates come by; null: as events (N-5.13). */
  get vector(): number | null {
    return this.#vector;
  }

  /** Tells all other devices that have the region: they get UPDATE (reference 5.6). */
  notify(): void {
    if (this.closed) throw new ClosedError(this.#name);
    this.#notify.write(ISM_KICK);
  }

  /**
   * Waits for an update. @param since value of `updates` that is known already; default: now's
   * @returns false after `timeoutMs` @throws as other accesses, and as `VirtioIsm.waitEvent`
   */
  waitUpdate(timeoutMs: number = Infinity, since: number = this.#updates): Promise<boolean> {
    if (this.closed) return Promise.reject(new ClosedError(this.#name));
    return this.#holder.waitUpdate(this, since, timeoutMs);
  }

  /** Unmaps it and sends DETACH. A region that is closed already is fine. @throws IsmError, TimeoutError */
  async detach(): Promise<void> {
    if (!this.closed) await this.#holder.detach(this);
  }

  /** As `detach`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.detach();
  }

  /**
   * Has the region's events go to `listener` instead of those that the driver keeps; null: back. For what is built on regions. The listener must not throw,
   * and is called while somebody waits for, or polls, the driver.
   */
  listen(listener: ((event: IsmEvent) => void) | null): void {
    this.#listener = listener;
  }

  /** For the driver: notes the event. @returns true when the region's listener has it */
  tell(event: IsmEvent): boolean {
    if (event.type === "update") this.#updates++;
    else if (event.type === "attach" || event.type === "detach") this.#peers = event.peers;
    if (this.#listener === null) return false;
    this.#listener(event);
    return true;
  }

  /** For the driver. */
  bindVector(vector: number | null): void {
    this.#vector = vector;
  }

  get #name(): string {
    return `region 0x${this.token.toString(16)}`;
  }
}

/** Somebody has notified a region. */
export interface IsmUpdateEvent {
  /** Which event it is. */
  readonly type: "update";
  /** The region; undefined when it was detached meanwhile. */
  readonly region: IsmRegion | undefined;
  /** Who; undefined when the update came by a vector, which does not say. */
  readonly devid: bigint | undefined;
}

/** Somebody has attached or detached a region, or is gone. */
export interface IsmPeerEvent {
  /** Which event it is. */
  readonly type: "attach" | "detach";
  /** The region; undefined when it was detached meanwhile. */
  readonly region: IsmRegion | undefined;
  /** Who. */
  readonly devid: bigint;
  /** References to the region that are left, without this driver's. */
  readonly peers: bigint;
}

/** The device needs a buffer no longer (without DEV_MEM). The driver has freed it; a region that was attached with it has ended. */
export interface IsmBufferFreeEvent {
  /** Which event it is. */
  readonly type: "buffer-free";
  /** Its IOVA. */
  readonly buffer: bigint;
}

/** The device has sent an event that cannot be. The rest of its buffer was left alone. */
export interface IsmFaultEvent {
  /** Which event it is. */
  readonly type: "fault";
  /** What was wrong. */
  readonly error: DeviceError;
}

/** What happens to regions. */
export type IsmEvent = IsmUpdateEvent | IsmPeerEvent | IsmBufferFreeEvent | IsmFaultEvent;
