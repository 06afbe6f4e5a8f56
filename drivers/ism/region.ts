/**
 * A region: shared memory that this device has allocated or attached.
 *
 * @module
 */
import { typedErrors } from "../../lib/errors/doors.ts";
import { ClosedError, type DeviceError } from "../../lib/errors/mod.ts";
import { ISM_KICK } from "../../lib/virtio/spec/ism.ts";
import type { IsmRights, IsmSegment, RegionMemory } from "./region_memory.ts";

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
  readonly sizeBytes: number;
  readonly chunks: readonly number[];
  readonly allocated: boolean;
  readonly rights: IsmRights;
  readonly memory: RegionMemory;
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
export class IsmRegion implements AsyncDisposable {
  static {
    typedErrors(this);
  }

  /** What other devices of the domain find it by. */
  readonly token: bigint;
  /** Its size. The last chunk may have more, which is not reached (N-5.14). */
  readonly sizeBytes: number;
  /** Offset of each chunk in this device's area. */
  readonly chunks: readonly number[];
  /** This device has allocated it; else it has attached it. */
  readonly allocated: boolean;
  /** What may be done with its bytes here. */
  readonly rights: IsmRights;
  readonly #holder: RegionHolder;
  readonly #memory: RegionMemory;
  readonly #notify: { write(value: number): void };
  #closed = false;
  #updates = 0;
  #peers: bigint | undefined;
  #vector: number | null = null;
  #listener: ((event: IsmEvent) => void) | null = null;

  /** Made by `VirtioIsm.alloc` and `attach`. */
  constructor(holder: RegionHolder, parts: RegionParts) {
    this.#holder = holder;
    this.token = parts.token;
    this.sizeBytes = parts.sizeBytes;
    this.chunks = parts.chunks;
    this.allocated = parts.allocated;
    this.rights = parts.rights;
    this.#memory = parts.memory;
    this.#notify = parts.notify;
  }

  /** True when the region can no longer be used. */
  get closed(): boolean {
    return this.#closed || this.#memory.closed;
  }

  /** Its parts whose bytes follow each other in the device's memory. */
  get segments(): readonly IsmSegment[] {
    return this.#memory.segments;
  }

  /** One segment holds all of it. */
  get contiguous(): boolean {
    return this.#memory.segments.length === 1;
  }

  /** All of it is mapped: accesses are loads and stores. */
  get mapped(): boolean {
    return this.#memory.segments.every(({ mapped }) => mapped);
  }

  /** Bytes of this process's mappings. */
  get mappedBytes(): number {
    return this.#memory.mappedBytes;
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

  /** A view of bytes that lie in one segment. @throws also UsageError when they do not, or are not mapped, or may not be written or not be read */
  bytes(offset = 0, lengthBytes: number = this.sizeBytes - offset): Uint8Array<ArrayBuffer> {
    return this.#live.bytes(offset, lengthBytes);
  }

  /** Copies out `into.length` bytes. */
  read(offset: number, into: Uint8Array): void {
    this.#live.read(offset, into);
  }

  /** Copies `from` in. */
  write(offset: number, from: Uint8Array): void {
    this.#live.write(offset, from);
  }

  /** One byte. Like all `get` and `set`: not atomic, wherever it lies. */
  getUint8(offset: number): number {
    return this.#live.getUint8(offset);
  }

  /** Two bytes. */
  getUint16(offset: number): number {
    return this.#live.getUint16(offset);
  }

  /** Four bytes. */
  getUint32(offset: number): number {
    return this.#live.getUint32(offset);
  }

  /** Eight bytes. */
  getBigUint64(offset: number): bigint {
    return this.#live.getBigUint64(offset);
  }

  /** One byte. */
  setUint8(offset: number, value: number): void {
    this.#live.setUint8(offset, value);
  }

  /** Two bytes. */
  setUint16(offset: number, value: number): void {
    this.#live.setUint16(offset, value);
  }

  /** Four bytes. */
  setUint32(offset: number, value: number): void {
    this.#live.setUint32(offset, value);
  }

  /** Eight bytes. */
  setBigUint64(offset: number, value: bigint): void {
    this.#live.setBigUint64(offset, value);
  }

  /** Tells all other devices that have the region: they get UPDATE (reference 5.6). */
  notify(): void {
    if (this.closed) this.#gone();
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
    if (!this.#closed) await this.#holder.detach(this);
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

  /** For the driver: unmaps. */
  release(): void {
    this.#closed = true;
    this.#memory.close();
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

  get #live(): RegionMemory {
    if (this.#closed) this.#gone();
    return this.#memory;
  }

  #gone(): never {
    throw new ClosedError(this.#name);
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
