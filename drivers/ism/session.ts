/**
 * Everything of a virtio-ism function that lives from one reset to the next: queues, areas, regions, events.
 *
 * @module
 */
import { ClosedError, type DeviceError, UsageError } from "../../lib/errors/mod.ts";
import type { DmaMemory } from "../../lib/memory/mod.ts";
import { ISM_PERM, ISM_QUEUE } from "../../lib/virtio/spec/ism.ts";
import type { WaitTarget } from "../../lib/wait/waiter.ts";
import type { DriverParts } from "../driver_life.ts";
import { checkCount } from "../driver_options.ts";
import type { Session } from "../session.ts";
import { BufferLoans } from "./buffer_loans.ts";
import { ChunkMap, chunkRuns } from "./chunks.ts";
import { type ChunkReply, IsmCommands } from "./commands.ts";
import { type IsmAreas, type IsmInfo, ismWishes, readIsm } from "./config.ts";
import { IsmError, ismLie } from "./error.ts";
import { EventQueue } from "./event_queue.ts";
import { type EventBacklog, type RawEvent, type RawRegionEvent, readEvents } from "./events.ts";
import type { VirtioIsmOptions } from "./options.ts";
import { type IsmEvent, IsmRegion, type RegionHolder } from "./region.ts";
import type { IsmRights } from "./region_memory.ts";

const CONTROL_QUEUE_SIZE = 16;
/** Elements of a command: class and command, data, ack, reply. */
const CONTROL_PARTS = 4;
/** Events of regions whose ALLOC or ATTACH is under way, for regions that this driver does not know yet. */
const MOST_EARLY = 256;

/** See the module's text. */
export class IsmSession implements DriverParts, RegionHolder {
  readonly info: IsmInfo;
  readonly commands: IsmCommands;
  readonly #name: string;
  readonly #session: Session;
  readonly #areas: IsmAreas;
  readonly #chunks: ChunkMap;
  readonly #events: EventQueue;
  readonly #backlog: EventBacklog;
  readonly #loans: BufferLoans | null;
  readonly #regions = new Map<bigint, IsmRegion>();
  readonly #byOffset = new Map<number, IsmRegion>();
  readonly #byVector = new Map<number, Set<IsmRegion>>();
  readonly #early: RawRegionEvent[] = [];
  #making = 0;
  #servicing = false;
  #ended = false;

  /** Brings the device up to DRIVER_OK. */
  constructor(session: Session, options: VirtioIsmOptions, backlog: EventBacklog) {
    const { device } = session;
    const { transport } = device;
    this.#session = session;
    this.#backlog = backlog;
    const { name } = transport;
    this.#name = name;
    const { eventBuffers = 32, eventBufferBytes = 256, regionVectors = 0 } = options;
    checkCount(name, "event buffers", eventBuffers, 1, 32768);
    checkCount(name, "bytes an event buffer", eventBufferBytes, 32, 1 << 20);
    checkCount(name, "vectors of regions", regionVectors, 0, 2048);
    session.negotiate(ismWishes(options));
    const { info, areas } = readIsm(device);
    this.info = info;
    this.#areas = areas;
    session.listen([ISM_QUEUE.control, ISM_QUEUE.event], {
      count: regionVectors,
      onSignal: (vector) => this.#signalled(vector),
    });
    const control = session.queue(ISM_QUEUE.control, CONTROL_QUEUE_SIZE, CONTROL_PARTS);
    const events = session.queue(ISM_QUEUE.event, eventBuffers);
    const { dma } = transport;
    this.#chunks = new ChunkMap(this.#name, info);
    const timeoutMs = options.commandTimeoutMs ?? 5000;
    const commands = session.own(new IsmCommands(session.site, control, timeoutMs, info, this.#chunks));
    this.commands = commands;
    const asleep = session.interruptKind !== "none";
    this.#events = session.own(new EventQueue(events, dma, eventBufferBytes, asleep));
    this.#loans = info.devMem ? null : session.own(new BufferLoans(dma, () => commands.stuck));
    device.driverOk();
    this.#events.start();
  }

  /** Nothing of the config space changes: such an interrupt can only mean that the device stopped. */
  configChanged(): void {
    this.#session.device.checkAlive();
  }

  get regions(): IsmRegion[] {
    return [...this.#regions.values()];
  }

  get regionVectors(): readonly number[] {
    return this.#session.spareVectors;
  }

  get lentBytes(): number {
    return this.#loans?.bytes ?? 0;
  }

  /** Unmaps all regions: before the device is reset, so that nobody looks at what is no longer theirs. May be called again. */
  end(): void {
    this.#ended = true;
    for (const region of this.#regions.values()) region.release();
    this.#regions.clear();
    this.#byOffset.clear();
    this.#byVector.clear();
  }

  async alloc(sizeBytes: number): Promise<IsmRegion> {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
      throw new UsageError(`${this.#name}: a region of ${sizeBytes} bytes`);
    }
    return await this.#make(async () => {
      // N-5.6: a buffer of exactly that size. A device without room for so much refuses; no memory is set aside for it here.
      const fits = sizeBytes <= this.info.regionsAreaBytes;
      const loan = this.#loans?.lend(fits ? sizeBytes : 1);
      let reply: ChunkReply;
      try {
        reply = await this.commands.alloc(sizeBytes, loan?.iova);
      } catch (error) {
        this.#takeBack(loan, error);
        throw error;
      }
      const rights = { read: true, write: true };
      const region = await this.#undoing(
        reply.first,
        () => this.#register(reply.first, sizeBytes, reply, rights, true),
      );
      return this.#lent(loan, region);
    });
  }

  async attach(token: bigint, rights: IsmRights): Promise<IsmRegion> {
    const permissions = (rights.read ? ISM_PERM.READ : 0) | (rights.write ? ISM_PERM.WRITE : 0);
    if (permissions === 0) {
      throw new UsageError(`${this.#name}: a region attached neither to be read nor to be written`);
    }
    return await this.#make(async () => {
      let expected: number | undefined;
      if (this.#loans !== null) expected = this.#checkSize((await this.commands.query(token)).size);
      const loan = expected === undefined ? undefined : this.#loans?.lend(expected);
      try {
        const reply = await this.commands.attach(token, permissions, loan?.iova);
        const region = await this.#undoing(token, () => {
          const sizeBytes = this.#checkSize(reply.first);
          if (expected !== undefined && sizeBytes !== expected) {
            throw ismLie(this.#name, "size", `${sizeBytes} bytes; the query before said ${expected}`);
          }
          return this.#register(token, sizeBytes, reply, rights, false);
        });
        return this.#lent(loan, region);
      } catch (error) {
        this.#takeBack(loan, error);
        throw error;
      }
    });
  }

  /** Those of an earlier life of the device are gone already. */
  #takeBack(loan: DmaMemory | undefined, error: unknown): void {
    if (loan !== undefined && !(error instanceof ClosedError)) this.#loans?.takeBack(loan);
  }

  /** Notes whose the buffer is. @throws ClosedError when the device has given it back meanwhile */
  #lent(loan: DmaMemory | undefined, region: IsmRegion): IsmRegion {
    if (loan === undefined || this.#loans?.assign(loan, region)) return region;
    this.#let(region);
    throw new ClosedError(`region 0x${region.token.toString(16)}`);
  }

  /** The device has let go of a region. */
  #let(region: IsmRegion): void {
    region.release();
    this.#forget(region);
    this.nudge();
  }

  async detach(region: IsmRegion): Promise<void> {
    if (region.closed || this.#regions.get(region.token) !== region) return;
    region.release();
    // Whoever waits on it must not have to wait for the device's answer, which may never come.
    this.nudge();
    let detached = false;
    try {
      await this.commands.detach(region.token);
      detached = true;
      // What the device has sent of it so far must not be taken for events of the next region at its place.
      if (!this.#ended) this.service();
    } catch (error) {
      detached ||= error instanceof IsmError && error.ackName === "ENOENT";
      throw error;
    } finally {
      this.#forget(region);
      // A device that refuses to detach goes on using the buffer.
      if (detached) this.#loans?.detached(region);
    }
  }

  async detachToken(token: bigint): Promise<void> {
    const region = this.#regions.get(token);
    if (region !== undefined) return await this.detach(region);
    await this.commands.detach(token);
  }

  async setEventVector(region: IsmRegion, vector: number | null): Promise<void> {
    if (vector !== null && !this.regionVectors.includes(vector)) {
      throw new UsageError(`${this.#name}: vector ${vector} is not one for regions`, {
        hint: this.regionVectors.length === 0
          ? "open the function with regionVectors, and with MSI-X"
          : `there are ${this.regionVectors.join(", ")}`,
      });
    }
    await this.commands.setEventVector(region.token, vector);
    if (this.#regions.get(region.token) !== region) return;
    this.#unbind(region);
    region.bindVector(vector);
    if (vector === null) return;
    const bound = this.#byVector.get(vector) ?? new Set();
    this.#byVector.set(vector, bound.add(region));
  }

  /** Takes what is in the event queue. Allocates nothing when there is nothing. @throws DeviceError when the device broke the ring */
  service(): void {
    if (this.#servicing || this.#ended) return;
    this.#servicing = true;
    try {
      // Without a sleeping waiter nobody else looks at the vectors.
      if (this.#byVector.size > 0 && this.#session.waiter.mode === "poll") this.#session.waiter.service();
      this.#events.drain(this.#read);
    } finally {
      this.#servicing = false;
    }
  }

  /** As `service`, and takes signals of vectors. */
  poll(): void {
    if (this.#byVector.size > 0) this.#session.waiter.service();
    this.service();
  }

  /** Waits until `ready`, which is asked with all events handed out. Interrupts of the event queue stay as they are. */
  wait(ready: () => boolean, timeoutMs: number): Promise<boolean> {
    return this.#session.waiter.wait(this.#target(ready), timeoutMs);
  }

  /** As `wait`, blocking this thread. */
  waitBlocking(ready: () => boolean, timeoutMs: number): boolean {
    return this.#session.waiter.waitBlocking(this.#target(ready), timeoutMs);
  }

  #target(ready: () => boolean): WaitTarget {
    const look = (): boolean => {
      this.service();
      return ready();
    };
    return { hasUsed: look, suppressInterrupts: () => {}, enableInterrupts: look };
  }

  /** Has everybody who sleeps look again. */
  nudge(): void {
    this.#session.waiter.wake();
  }

  /** True when waits can sleep. */
  get sleeps(): boolean {
    return this.#session.interruptKind !== "none" && this.#session.waiter.mode !== "poll";
  }

  async waitUpdate(region: IsmRegion, since: number, timeoutMs: number): Promise<boolean> {
    const woken = await this.wait(() => region.updates !== since || region.closed, timeoutMs);
    if (region.closed) throw new ClosedError(`region 0x${region.token.toString(16)}`);
    return woken;
  }

  /** Runs what makes a region; events of regions not known yet are kept meanwhile. */
  async #make(build: () => Promise<IsmRegion>): Promise<IsmRegion> {
    this.#making++;
    try {
      return await build();
    } finally {
      this.#making--;
      if (this.#making === 0) { for (const event of this.#early.splice(0)) this.#deliver(event, undefined); }
    }
  }

  /** When `build` fails, the device is told that the region is not wanted. */
  async #undoing(token: bigint, build: () => IsmRegion): Promise<IsmRegion> {
    if (this.#ended) throw new ClosedError(`ISM device ${this.#name}`);
    try {
      return build();
    } catch (error) {
      if (!this.#regions.has(token)) await this.commands.detach(token).catch(() => {});
      throw error;
    }
  }

  #register(
    token: bigint,
    sizeBytes: number,
    reply: ChunkReply,
    rights: IsmRights,
    allocated: boolean,
  ): IsmRegion {
    if (this.#regions.has(token)) {
      throw ismLie(
        this.#name,
        "token",
        `0x${token.toString(16)} is the token of another region of this driver`,
      );
    }
    const chunks = this.#chunks.take(reply.bytes, reply.num, sizeBytes);
    try {
      const runs = chunkRuns(chunks, this.info.chunkSizeBytes);
      const what = `${this.#name}, region 0x${token.toString(16)}`;
      const { chunkSizeBytes, notifySizeBytes, notifyAreaBytes } = this.info;
      const place = chunks[0]! / chunkSizeBytes * notifySizeBytes;
      if (place + notifySizeBytes > notifyAreaBytes) {
        const addresses = Math.floor(notifyAreaBytes / notifySizeBytes);
        throw ismLie(
          this.#name,
          "chunks[0]",
          `chunk ${chunks[0]! / chunkSizeBytes}; there are ${addresses} notify addresses (N-5.2)`,
        );
      }
      const notify = this.#areas.notify.doorbell(place, 1);
      const parts = { token, chunks, allocated, notify };
      const region = new IsmRegion(this, parts, this.#areas.regions, runs, sizeBytes, rights, what);
      this.#regions.set(token, region);
      this.#byOffset.set(chunks[0]!, region);
      this.#deliverEarly(region);
      return region;
    } catch (error) {
      this.#chunks.release(chunks);
      throw error;
    }
  }

  #forget(region: IsmRegion): void {
    if (this.#regions.get(region.token) !== region) return;
    this.#regions.delete(region.token);
    this.#byOffset.delete(region.chunks[0]!);
    this.#chunks.release(region.chunks);
    this.#unbind(region);
  }

  #unbind(region: IsmRegion): void {
    if (region.vector === null) return;
    const bound = this.#byVector.get(region.vector);
    bound?.delete(region);
    if (bound?.size === 0) this.#byVector.delete(region.vector);
    region.bindVector(null);
  }

  #checkSize(size: bigint): number {
    if (size >= 1n && size <= BigInt(this.info.regionsAreaBytes)) return Number(size);
    throw ismLie(this.#name, "size", `a region of ${size} bytes in an area of ${this.info.regionsAreaBytes}`);
  }

  readonly #read = (buffer: Uint8Array<ArrayBuffer>, lengthBytes: number): void => {
    const fault = readEvents(this.#name, this.info, buffer, lengthBytes, this.#arrived);
    if (fault !== undefined) this.#fault(fault);
  };

  readonly #arrived = (event: RawEvent): void => {
    if (event.type === "buffer-free") return this.#bufferFree(event.buffer);
    const region = this.#byOffset.get(event.offset);
    if (region === undefined && this.#making > 0 && this.#early.length < MOST_EARLY) this.#early.push(event);
    else this.#deliver(event, region);
  };

  #deliverEarly(region: IsmRegion): void {
    for (const event of this.#early.splice(0)) {
      if (event.offset === region.chunks[0]) this.#deliver(event, region);
      else this.#early.push(event);
    }
  }

  #deliver(raw: RawRegionEvent, region: IsmRegion | undefined): void {
    if (raw.type === "update") {
      this.#backlog.counts.updates++;
      return this.#tell({ type: "update", region, devid: raw.devid }, region);
    }
    if (raw.type === "attach") this.#backlog.counts.attaches++;
    else this.#backlog.counts.detaches++;
    this.#tell({ type: raw.type, region, devid: raw.devid, peers: raw.peers }, region);
  }

  #signalled(vector: number): void {
    for (const region of this.#byVector.get(vector) ?? []) {
      this.#backlog.counts.vectorUpdates++;
      this.#tell({ type: "update", region, devid: undefined }, region);
    }
  }

  #bufferFree(buffer: bigint): void {
    const found = this.#loans?.freed(buffer);
    if (typeof found === "string") return this.#fault(ismLie(this.#name, "buffer", found, ISM_QUEUE.event));
    if (found && !found.closed) this.#let(found);
    this.#backlog.counts.buffersFreed++;
    this.#backlog.push({ type: "buffer-free", buffer });
  }

  #fault(error: DeviceError): void {
    this.#backlog.counts.faults++;
    this.#backlog.push({ type: "fault", error });
  }

  #tell(event: IsmEvent, region: IsmRegion | undefined): void {
    if (region === undefined || !region.tell(event)) this.#backlog.push(event);
  }
}
