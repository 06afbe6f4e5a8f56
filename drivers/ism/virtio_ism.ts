/**
 * Driver of virtio-ism (id 44; draft version 3, reference 5): memory shared between the functions of a communication domain,
 * whatever process or guest drives them.
 *
 * ```ts
 * import { VirtioIsm } from "@ringside/ringside/drivers/virtio-ism";
 *
 * await using ism = await VirtioIsm.open(transport); // of `openTransport`
 * const region = await ism.alloc(1 << 20); // its `token` goes to the other side, which attaches it
 * region.setUint32(0, 42);
 * region.notify(); // whoever has attached it gets an update
 * for await (const event of ism.events()) console.log(event.type);
 * ```
 *
 * @module
 */
import { requireType, typedErrors } from "../../lib/errors/doors.ts";
import { ClosedError, UsageError } from "../../lib/errors/mod.ts";
import { DEVICE_ID } from "../../lib/virtio/spec/device_id.ts";
import { ISM_PERM } from "../../lib/virtio/spec/ism.ts";
import type { VirtioTransport } from "../../lib/virtio/transport/transport.ts";
import { VirtioDriver } from "../driver.ts";
import { type DriverKind, DriverLife } from "../driver_life.ts";
import type { IsmInfo } from "./config.ts";
import { EventBacklog } from "./events.ts";
import type { VirtioIsmOptions } from "./options.ts";
import type { IsmEvent, IsmRegion } from "./region.ts";
import type { IsmRights } from "./region_memory.ts";
import { IsmSession } from "./session.ts";

export { ISM_ACK, ISM_COMMAND, ISM_DEFAULT_PERMISSIONS, ISM_PERM } from "../../lib/virtio/spec/ism.ts";
export type { IsmAckName, IsmCommandName } from "../../lib/virtio/spec/ism.ts";
export type { RingOptions } from "../../lib/virtio/features.ts";
export type { InterruptChoice } from "../../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../../lib/virtio/transport/transport.ts";
export type { WaitMode, WaitTarget } from "../../lib/wait/waiter.ts";
export type { VirtioDriver } from "../driver.ts";
export type { DriverOptions } from "../driver_options.ts";
export type { IsmInfo } from "./config.ts";
export { IsmError } from "./error.ts";
export type { IsmBufferFreeEvent, IsmEvent, IsmFaultEvent, IsmPeerEvent, IsmUpdateEvent } from "./region.ts";
export type { VirtioIsmOptions } from "./options.ts";
export type { IsmRegion } from "./region.ts";
export type { IsmRights, IsmSegment, RegionMemory } from "./region_memory.ts";

/** What a device says of a region and of this device's permissions on it. */
export interface IsmQuery {
  /** Size in bytes. */
  readonly sizeBytes: bigint;
  /** `ISM_PERM` bits. */
  readonly permissions: number;
}

/** What happened since the function was opened, over all resets. */
export interface IsmStatistics {
  /** Commands that the device answered since the last reset. */
  readonly commands: number;
  /** UPDATE events. */
  readonly updates: number;
  /** Updates of regions by their vector. */
  readonly vectorUpdates: number;
  /** ATTACH events. */
  readonly attaches: number;
  /** DETACH events. */
  readonly detaches: number;
  /** BUFFER_FREE events. */
  readonly buffersFreed: number;
  /** Events that could not be. */
  readonly faults: number;
  /** Events that nobody took in time. */
  readonly eventsLost: number;
  /** Regions that are attached now. */
  readonly regions: number;
  /** Bytes of regions mapped into this process now. */
  readonly mappedBytes: number;
  /** Bytes lent to the device now, without DEV_MEM. */
  readonly lentBytes: number;
  /** Interrupts that were taken. */
  readonly interrupts: number;
  /** Times that the device was reset after the first start. */
  readonly resets: number;
}

/** How to grant permissions to one device. */
export interface GrantOptions {
  /** Take everything from all devices without permissions of their own in the same step (CLEAN_DEFAULT; ). */
  readonly cleanDefault?: boolean;
}

const KIND: DriverKind = {
  what: "ISM device",
  deviceId: DEVICE_ID.ism,
  modernOnly: "the legacy interface has no shared memory",
};

/**
 * An opened virtio-ism function. It owns its queues, and the regions that it allocates and attaches; the transport stays the caller's.
 *
 * Nothing runs in the background: events are seen while something is waited for, and by `pollEvents`. Those of all regions wait in one
 * backlog for `takeEvents` or `events`; whoever takes one has it alone.
 *
 * Errors: `IsmError` (a command was refused), `DeviceError` (the device lies; `await reset()` brings it back), `TimeoutError` (no answer: reset),
 * `UsageError`, `ClosedError`.
 */
export class VirtioIsm extends VirtioDriver {
  static {
    typedErrors(this);
  }

  readonly #life: DriverLife<IsmSession>;
  readonly #backlog: EventBacklog;

  private constructor(life: DriverLife<IsmSession>, backlog: EventBacklog) {
    super(life);
    this.#life = life;
    this.#backlog = backlog;
  }

  /**
   * Resets the device, negotiates, checks what it says of itself, sets up queues, and starts it. After a `reset` all regions are closed; other devices
   * see them detached.
   * @throws UnsupportedError (no ISM device), DeviceError, TimeoutError, UsageError, ExhaustedError, SyscallError
   */
  static async open(transport: VirtioTransport, options: VirtioIsmOptions = {}): Promise<VirtioIsm> {
    const backlog = new EventBacklog(options.eventBacklog ?? 1024, transport.name);
    const spinMicroseconds = options.spinMicroseconds ?? (options.wait === undefined ? 0 : 50);
    const life = new DriverLife(
      transport,
      KIND,
      { ...options, spinMicroseconds },
      (session) => new IsmSession(session, options, backlog),
    );
    return await life.open(new VirtioIsm(life, backlog));
  }

  /** What the device says of itself. */
  get info(): IsmInfo {
    const { info } = this.#life.live;
    return { ...info, cdid: info.cdid.slice() };
  }

  /** Regions that are attached, allocated ones among them. */
  get regions(): readonly IsmRegion[] {
    return this.#life.live.regions;
  }

  /** MSI-X vectors that `setEventVector` may bind; as many as were asked for and the device has. */
  get regionVectors(): readonly number[] {
    return this.#life.live.regionVectors;
  }

  /** Waits sleep; else they poll. */
  get sleeps(): boolean {
    return this.#life.live.sleeps;
  }

  /**
   * Allocates a region of zeroed memory, to be read and written here. Every device of the domain may attach, read and write it until `grantDefault`
   * or `grantFor` says otherwise.
   */
  async alloc(sizeBytes: number): Promise<IsmRegion> {
    return await this.#life.live.alloc(sizeBytes);
  }

  /** Size of a region, and what this device may do with it. */
  async query(token: bigint): Promise<IsmQuery> {
    const { size, permissions } = await this.#life.live.commands.query(checkToken(token));
    return { sizeBytes: size, permissions: Number(permissions & 0xffff_ffffn) };
  }

  /** Attaches a region of another device. @param rights default: to be read and written */
  async attach(token: bigint, rights: IsmRights = { read: true, write: true }): Promise<IsmRegion> {
    return await this.#life.live.attach(checkToken(token), rights);
  }

  /** Gives a region up. Its mapping is gone even when the device refuses. */
  async detach(region: IsmRegion | bigint): Promise<void> {
    if (typeof region !== "bigint") await region.detach();
    else await this.#life.live.detachToken(checkToken(region));
  }

  /** Sets what devices without permissions of their own may do with a region. @param permissions READ, WRITE, ATTACH, MANAGE */
  async grantDefault(region: IsmRegion | bigint, permissions: number): Promise<void> {
    await this.#life.live.commands.grantDefault(tokenOf(region), checkPermissions(permissions));
  }

  /** Sets what one device may do with a region; the default permissions are not its any more. @param permissions as `grantDefault` */
  async grantFor(
    region: IsmRegion | bigint,
    devid: bigint,
    permissions: number,
    options: GrantOptions = {},
  ): Promise<void> {
    const clean = options.cleanDefault === true ? ISM_PERM.CLEAN_DEFAULT : 0;
    await this.#life.live.commands.grantFor(tokenOf(region), devid, checkPermissions(permissions) | clean);
  }

  /** Has updates of a region come by a vector instead of as events (N-5.13); null: as events again. @param vector one of `regionVectors` */
  async setEventVector(region: IsmRegion, vector: number | null): Promise<void> {
    await this.#life.live.setEventVector(region, vector);
  }

  /** Looks for events, without waiting. @returns how many wait to be taken */
  pollEvents(): number {
    this.#life.live.poll();
    return this.#backlog.length;
  }

  /** Takes events that wait, oldest first, after a look for new ones. @param most default: all */
  takeEvents(most: number = Infinity): IsmEvent[] {
    const count = Math.min(this.pollEvents(), most);
    return Array.from({ length: count }, () => this.#backlog.take()!);
  }

  /** Waits until an event can be taken. @returns false after `timeoutMs` @throws DeviceError when the device has stopped meanwhile */
  async waitEvent(timeoutMs: number = Infinity): Promise<boolean> {
    const session = this.#life.live;
    if (await session.wait(() => this.#backlog.length > 0, timeoutMs)) return true;
    if (this.#life.isLive(session)) this.#life.device.checkAlive();
    return false;
  }

  /** Events as they come, until the driver is closed or reset, or `signal` aborts. */
  async *events(options: { readonly signal?: AbortSignal } = {}): AsyncGenerator<IsmEvent, void, undefined> {
    const session = this.#life.live;
    requireType(options, "object", "events: options");
    const { signal } = options;
    if (signal !== undefined) requireType(signal, "object", "events: signal", "addEventListener", "aborted");
    const nudge = () => session.nudge();
    signal?.addEventListener("abort", nudge);
    try {
      const ready = (): boolean => this.#backlog.length > 0 || signal?.aborted === true;
      while (this.#life.isLive(session)) {
        await session.wait(ready, Infinity);
        if (signal?.aborted) return;
        const event = this.#backlog.take();
        if (event !== undefined) yield event;
      }
    } catch (error) {
      if (!(error instanceof ClosedError && !this.#life.isLive(session))) throw error;
    } finally {
      signal?.removeEventListener("abort", nudge);
    }
  }

  /**
   * For what is built on regions: waits for whatever `ready` looks at, with this driver's interrupts. It is called often, also after each of them, with all
   * events handed out; it should be quick, allocate nothing, and may throw. What it looks at must make itself heard: by an event, or by `nudge`.
   * @returns false after `timeoutMs`
   */
  async waitFor(ready: () => boolean, timeoutMs: number): Promise<boolean> {
    return await this.#life.live.wait(ready, timeoutMs);
  }

  /** As `waitFor`, blocking this thread. @throws UsageError also while an asynchronous wait is under way */
  waitForBlocking(ready: () => boolean, timeoutMs: number): boolean {
    return this.#life.live.waitBlocking(ready, timeoutMs);
  }

  /** Hands events out that have come; quicker than `pollEvents`, since no vector is looked at while somebody sleeps for it. */
  service(): void {
    this.#life.live.service();
  }

  /** For what is built on regions: as `Waiter.turnIfDue`, for loops that have no need to wait. */
  turnIfDue(): Promise<void> | null {
    return this.#life.waiter.turnIfDue();
  }

  /** Has all that wait look again. */
  nudge(): void {
    if (!this.closed) this.#life.live.nudge();
  }

  /** What happened so far. */
  statistics(): IsmStatistics {
    const session = this.#life.live;
    return {
      commands: session.commands.answered,
      ...this.#backlog.counts,
      eventsLost: this.#backlog.lost,
      regions: session.regions.length,
      mappedBytes: session.regions.reduce((sum, { mappedBytes }) => sum + mappedBytes, 0),
      lentBytes: session.lentBytes,
      interrupts: this.interrupts,
      resets: this.resets,
    };
  }
}

function tokenOf(region: IsmRegion | bigint): bigint {
  return typeof region === "bigint" ? checkToken(region) : region.token;
}

function checkToken(token: bigint): bigint {
  if (token >= 0n && token < 1n << 64n) return token;
  throw new UsageError(`${token} is no token of a region`, { hint: "tokens have 64 bits" });
}

function checkPermissions(permissions: number): number {
  const known = ISM_PERM.READ | ISM_PERM.WRITE | ISM_PERM.ATTACH | ISM_PERM.MANAGE;
  if (Number.isInteger(permissions) && (permissions & ~known) === 0 && permissions >= 0) return permissions;
  throw new UsageError(`permissions ${permissions}`, {
    hint:
      "bits of ISM_PERM: READ, WRITE, ATTACH, MANAGE; cleaning the default permissions is an option of grantFor",
  });
}
