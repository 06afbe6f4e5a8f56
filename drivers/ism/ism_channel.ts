/**
 * A byte channel between two processes, in a shared memory region of a virtio-ism device: a ring each way, one writer and one reader each.
 *
 * Bytes move by loads and stores; the device is asked only to wake a side that sleeps.
 *
 * ```ts
 * import { IsmChannel } from "@ringside/ringside/drivers/virtio-ism-channel";
 *
 * await using channel = await IsmChannel.create(ism, { peer: 2n }); // the other process connects with its token
 * await channel.waitPeer();
 * await channel.writeAll(bytes);
 * const count = await channel.readSome(into); // 0: the peer has closed its side
 * ```
 *
 * @module
 */
import { typedErrors } from "../../lib/errors/doors.ts";
import {
  ClosedError,
  PeerGoneError,
  ProtocolError,
  RefusedError,
  TimeoutError,
  UsageError,
} from "../../lib/errors/mod.ts";
import { shown } from "../../lib/errors/shown.ts";
import { stillThere } from "../caller_bytes.ts";
import { ISM_PERM, type IsmEvent, type IsmRegion, type VirtioIsm } from "./virtio_ism.ts";
import {
  CAPACITY_LIMITS,
  CHANNEL_HEADER,
  CHANNEL_MAGIC,
  CHANNEL_STATE,
  CHANNEL_VERSION,
  channelBytes,
  isCapacity,
  readHeader,
  RINGS_AT,
  SIDE,
} from "./channel/layout.ts";
import type { ChannelWait, IsmChannelCreateOptions, IsmChannelOptions } from "./channel/options.ts";
import { RingConsumer, RingProducer } from "./channel/ring.ts";
import { type Look, Patience, poll, spin, WakeWish } from "./channel/waiting.ts";

export type { IsmRegion, VirtioIsm } from "./virtio_ism.ts";
export type { ChannelWait, IsmChannelCreateOptions, IsmChannelOptions } from "./channel/options.ts";

/** What went through a channel on this side. */
export interface IsmChannelStatistics {
  /** Bytes written. */
  readonly bytesWritten: number;
  /** Bytes read. */
  readonly bytesRead: number;
  /** Notifications sent, since the other side slept. */
  readonly notifications: number;
  /** Waits that slept. */
  readonly sleeps: number;
}

/** Writes between two looks whether the device's host is still there: who always finds room hears of its end in no other way. */
const WRITES = 1024;
/** Most of a piece that `readable` gives. */
const STREAM_BYTES = 64 * 1024;

const STATE_WORD = CHANNEL_HEADER.fields.state.offset / 4;
/**
 * One end of a channel. One call reads and one writes at a time; `read` and `write` do what can be done at once, `readSome` and `writeAll` wait.
 *
 * Errors of every call: `PeerGoneError` (the peer is gone, gave up, or no longer reads; what it wrote before can be read first), `ProtocolError` (the
 * peer breaks the layout; the channel is of no use then), `TimeoutError`, `UsageError`, `ClosedError`.
 */
export class IsmChannel implements AsyncDisposable {
  static {
    // `read` and `write` are called for each message, and look at their arguments themselves.
    const waits = ["waitReadable", "waitWritable", "waitReadableBlocking", "waitWritableBlocking"];
    typedErrors(this, ["create", "connect", "readSome", "writeAll", ...waits, "waitPeer", "drained"]);
  }

  /** The region; the channel's. */
  readonly region: IsmRegion;
  /** This side created it. */
  readonly created: boolean;
  /** Bytes that can be under way in each direction. */
  readonly capacityBytes: number;
  readonly #ism: VirtioIsm;
  readonly #state: Uint32Array<ArrayBuffer>;
  readonly #producer: RingProducer;
  readonly #consumer: RingConsumer;
  readonly #wait: ChannelWait;
  readonly #spinMs: number;
  readonly #counts = { bytesWritten: 0, bytesRead: 0, notifications: 0, sleeps: 0 };
  #fault: ProtocolError | null = null;
  #peerGone = false;
  #ended = false;
  #writeClosed = false;
  #readClosed = false;
  #closed = false;
  #writes = 0;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | null = null;
  #writable: WritableStream<Uint8Array> | null = null;

  private constructor(
    ism: VirtioIsm,
    region: IsmRegion,
    created: boolean,
    capacity: number,
    options: IsmChannelOptions,
  ) {
    const spin = options.spinMicroseconds ?? 50;
    if (!(spin >= 0 && spin <= 1e9)) throw new UsageError(`a spin of ${spin} µs`);
    this.#wait = options.wait ?? (ism.sleeps ? "adaptive" : "poll");
    if (this.#wait !== "poll" && !ism.sleeps) {
      throw new UsageError(`${ism.transport.name}: wait mode "${this.#wait}", and the driver polls`, {
        hint: 'use wait: "poll", or open the driver with interrupts',
      });
    }
    this.#spinMs = this.#wait === "event" ? 0 : spin / 1000;
    this.#ism = ism;
    this.region = region;
    this.created = created;
    this.capacityBytes = capacity;
    const header = region.bytes(0, CHANNEL_HEADER.sizeBytes);
    this.#state = new Uint32Array(header.buffer, header.byteOffset, header.length / 4);
    this.#producer = new RingProducer(region, created ? 0 : 1, capacity);
    this.#consumer = new RingConsumer(region, created ? 1 : 0, capacity);
  }

  /**
   * Allocates a region and makes a channel in it. The other side connects by `token`.
   * @throws also IsmError, and UsageError when chunks are so small and scattered that the first 2048 bytes are not in one piece, or cannot be mapped
   */
  static async create(ism: VirtioIsm, options: IsmChannelCreateOptions = {}): Promise<IsmChannel> {
    const capacity = options.capacityBytes ?? 1024 * 1024;
    if (!isCapacity(capacity)) {
      throw new UsageError(`a channel of ${capacity} bytes`, {
        hint: `a power of two from ${CAPACITY_LIMITS.least} to ${CAPACITY_LIMITS.most}`,
      });
    }
    const region = await ism.alloc(channelBytes(capacity));
    try {
      const { READ, WRITE, ATTACH } = ISM_PERM;
      if (options.peer !== undefined) {
        await ism.grantFor(region, options.peer, READ | WRITE | ATTACH, { cleanDefault: true });
      }
      CHANNEL_HEADER.encodeInto(region.bytes(0, RINGS_AT), 0, {
        magic: CHANNEL_MAGIC,
        version: CHANNEL_VERSION,
        capacity,
        creator: ism.info.devid,
      });
      const channel = new IsmChannel(ism, region, true, capacity, options);
      await channel.#start(options);
      Atomics.store(channel.#state, STATE_WORD, CHANNEL_STATE.open);
      return channel;
    } catch (error) {
      await giveUp(region);
      throw error;
    }
  }

  /**
   * Attaches the region of a channel and becomes its other end.
   * @throws also IsmError, ProtocolError (there is no channel in it), RefusedError (it has its two ends), PeerGoneError (its creator has left)
   */
  static async connect(ism: VirtioIsm, token: bigint, options: IsmChannelOptions = {}): Promise<IsmChannel> {
    const region = await ism.attach(token);
    try {
      const capacity = readHeader(region);
      const channel = new IsmChannel(ism, region, false, capacity, options);
      await channel.#start(options);
      channel.#connect(ism.info.devid);
      return channel;
    } catch (error) {
      await giveUp(region);
      throw error;
    }
  }

  /** What the other side connects by. */
  get token(): bigint {
    return this.region.token;
  }

  /** Both ends are there, or were. */
  get connected(): boolean {
    return this.#alive() && Atomics.load(this.#state, STATE_WORD) === CHANNEL_STATE.connected;
  }

  /** True after `close` or `abort`, and when the driver was closed or reset. */
  get closed(): boolean {
    return !this.#alive();
  }

  /** Everything that the peer wrote before it closed was read. */
  get ended(): boolean {
    return this.#ended;
  }

  /** What went through on this side. */
  get statistics(): IsmChannelStatistics {
    return { ...this.#counts };
  }

  /** Bytes that `read` would give now. */
  get readableBytes(): number {
    this.#requireOpen();
    return this.#guard(this.#availableNow);
  }

  /** Bytes that `write` would take now. */
  get writableBytes(): number {
    this.#requireOpen();
    return this.#guard(this.#freeNow);
  }

  /** Copies out what has come. @returns bytes; 0: nothing now, or nothing more, which `ended` tells */
  read(into: Uint8Array, start = 0, end?: number): number {
    this.#requireOpen();
    const last = endOf(into, start, end);
    let count: number;
    try {
      count = this.#consumer.read(into, start, last);
    } catch (error) {
      this.#broken(error);
    }
    if (count > 0) {
      this.#counts.bytesRead += count;
      if (this.#consumer.wakes()) this.#notify();
    } else if (last > start) this.#nothingToRead();
    else stillThere(into, into.length, `${this.#name}, read`);
    return count;
  }

  /** Copies in what there is room for. @returns bytes taken; 0: the ring is full */
  write(bytes: Uint8Array, start = 0, end?: number): number {
    this.#requireOpen();
    const last = endOf(bytes, start, end);
    if (this.#writeClosed) throw new UsageError(`${this.#name}: closed for writing`);
    if (this.#producer.peerSays !== 0) throw this.#unread();
    if (++this.#writes >= WRITES || this.#ism.lost !== null) {
      // Not counted anew when it throws: so does every write from then on.
      this.#ism.transport.lifeline?.check();
      this.#writes = 0;
    }
    let count: number;
    try {
      count = this.#producer.write(bytes, start, last);
    } catch (error) {
      this.#broken(error);
    }
    if (count > 0) {
      this.#counts.bytesWritten += count;
      if (this.#producer.wakes()) this.#notify();
    } else if (last === start) stillThere(bytes, bytes.length, `${this.#name}, write`);
    else if (this.#noReader()) throw this.#unread();
    return count;
  }

  /** Waits until something can be read, and reads it. @returns bytes; 0 at the end */
  async readSome(into: Uint8Array, timeoutMs: number = Infinity): Promise<number> {
    const { length } = into;
    if (length === 0) throw new UsageError(`${this.#name}: a read of 0 bytes`);
    for (;;) {
      const turn = this.#turnIfDue();
      if (turn !== null) await turn;
      if (into.length < length) stillThere(into, length, `${this.#name}, readSome`);
      const count = this.read(into, 0, length);
      if (count > 0 || this.#ended) return count;
      if (!await this.waitReadable(timeoutMs)) {
        throw new TimeoutError(`${this.#name}: nothing to read in ${timeoutMs} ms`);
      }
    }
  }

  /** Writes all, waiting for room. @param timeoutMs for each wait */
  async writeAll(bytes: Uint8Array, timeoutMs: number = Infinity): Promise<void> {
    const { length } = bytes;
    const turn = this.#turnIfDue();
    if (turn !== null) await turn;
    for (let at = 0;;) {
      if (bytes.length < length) stillThere(bytes, length, `${this.#name}, writeAll, ${at} bytes written`);
      at += this.write(bytes, at, length);
      if (at >= length) return;
      if (!await this.waitWritable(timeoutMs)) {
        throw new TimeoutError(
          `${this.#name}: no room in ${timeoutMs} ms; ${at} of ${length} bytes are written`,
        );
      }
    }
  }

  /** Waits until `read` gives something, tells of the end, or throws. @returns false after `timeoutMs` */
  waitReadable(timeoutMs: number = Infinity): Promise<boolean> {
    return this.#until(this.#reading, timeoutMs);
  }

  /** Waits until `write` takes something or throws. @returns false after `timeoutMs` */
  waitWritable(timeoutMs: number = Infinity): Promise<boolean> {
    return this.#until(this.#writing, timeoutMs);
  }

  /** As `waitReadable`, blocking this thread. @throws UsageError also while an asynchronous wait of the driver is under way */
  waitReadableBlocking(timeoutMs: number = Infinity): boolean {
    return this.#untilBlocking(this.#reading, timeoutMs);
  }

  /** As `waitWritable`, blocking this thread. @throws as `waitReadableBlocking` */
  waitWritableBlocking(timeoutMs: number = Infinity): boolean {
    return this.#untilBlocking(this.#writing, timeoutMs);
  }

  /** Waits until the other side has connected. @throws TimeoutError, PeerGoneError when it went half-way, and nobody can connect any more */
  async waitPeer(timeoutMs: number = Infinity): Promise<void> {
    const glance = () => !this.#alive() || this.connected;
    const ready = () => glance() || this.#gone();
    if (!await this.#until({ glance, ready, wish: null, patience: new Patience() }, timeoutMs)) {
      throw new TimeoutError(`${this.#name}: nobody connected in ${timeoutMs} ms`);
    }
    this.#requireOpen();
    if (!this.connected) throw new PeerGoneError(`${this.#name}: the peer is gone, while it connected`);
  }

  /** Waits until the peer has read everything that was written. @throws TimeoutError, PeerGoneError when it never will */
  async drained(timeoutMs: number = Infinity): Promise<void> {
    const glance = () => !this.#alive() || this.#producer.drained;
    const ready = () => glance() || this.#noReader();
    if (!await this.#until({ ...this.#writing, glance, ready }, timeoutMs)) {
      throw new TimeoutError(`${this.#name}: not all was read in ${timeoutMs} ms`);
    }
    this.#requireOpen();
    if (!this.#producer.drained) throw this.#unread();
  }

  /** Says that nothing more comes: the peer sees the end after what is written. May be called again. */
  closeWrite(): void {
    this.#requireOpen();
    if (this.#writeClosed) return;
    this.#writeClosed = true;
    this.#producer.say(SIDE.closed);
    if (this.#producer.wakes()) this.#notify();
  }

  /** Says that nothing more is read: the peer's writes are refused from then on. May be called again. */
  closeRead(): void {
    this.#requireOpen();
    if (this.#readClosed) return;
    this.#readClosed = true;
    this.#consumer.say(SIDE.closed);
    if (this.#consumer.wakes(true)) this.#notify();
  }

  /**
   * Closes both directions and detaches the region. What is written can still be read by a peer that has connected; see `drained` and `waitPeer`.
   * May be called again. @throws IsmError, TimeoutError
   */
  async close(): Promise<void> {
    // After a fault the peer was told already.
    if (this.#alive() && this.#fault === null) {
      this.closeWrite();
      this.closeRead();
    }
    await this.#leave();
  }

  /** Gives the channel up: the peer gets `PeerGoneError` once it has read what is there. The region is detached without waiting for it. */
  abort(): void {
    if (this.#alive()) this.#giveUp();
    this.#leave().catch(() => {});
  }

  /** What the peer writes, as a stream; its `cancel` is `closeRead`. Instead of `read`. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#readable ??= this.#incoming();
  }

  /** What the peer reads, as a stream; its `close` is `closeWrite`, its `abort` is `abort`. Instead of `write`. */
  get writable(): WritableStream<Uint8Array> {
    return this.#writable ??= new WritableStream({
      write: (bytes) => this.writeAll(bytes),
      close: () => this.closeWrite(),
      abort: () => this.abort(),
    });
  }

  /** As `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #incoming(): ReadableStream<Uint8Array<ArrayBuffer>> {
    const buffer = new Uint8Array(STREAM_BYTES);
    return new ReadableStream({
      pull: async (controller) => {
        const count = await this.readSome(buffer);
        if (count === 0) controller.close();
        else controller.enqueue(buffer.slice(0, count));
      },
      cancel: () => this.closeRead(),
    }, { highWaterMark: 0 });
  }

  async #start(options: IsmChannelOptions): Promise<void> {
    this.region.listen((event) => this.#heard(event));
    if (options.vector !== undefined) await this.#ism.setEventVector(this.region, options.vector);
  }

  #connect(devid: bigint): void {
    const { open, connecting, connected } = CHANNEL_STATE;
    const before = Atomics.compareExchange(this.#state, STATE_WORD, open, connecting);
    if (before !== open) {
      throw new RefusedError(`${this.#name} has its two ends, or is not ready`, {
        hint: `its state is ${before}`,
      });
    }
    CHANNEL_HEADER.encodeInto(this.region.bytes(0, RINGS_AT), 0, { connector: devid });
    Atomics.store(this.#state, STATE_WORD, connected);
    this.#ism.service();
    // A DETACH that came before this channel listened.
    if (this.region.peers === 0n) this.#peerGone = true;
    if (!this.#peerGone) return this.#notify();
    if ((this.#consumer.peerSays & SIDE.closed) === 0) {
      throw new PeerGoneError(`${this.#name}: its creator is gone`);
    }
  }

  /** Somebody has detached: is it the peer? */
  #heard(event: IsmEvent): void {
    if (event.type !== "detach" || !this.#alive()) return;
    if (Atomics.load(this.#state, STATE_WORD) === CHANNEL_STATE.open) return;
    const { creator, connector } = CHANNEL_HEADER.decode(this.region.bytes(0, CHANNEL_HEADER.sizeBytes));
    if (event.peers === 0n || event.devid === (this.created ? connector : creator)) this.#peerGone = true;
  }

  /** Nothing is in the ring: is there ever to be anything? */
  #nothingToRead(): void {
    if (this.#ended) return;
    this.#ism.service();
    const says = this.#consumer.peerSays;
    if (says === 0 && !this.#peerGone) return;
    // What was written before is to be read first.
    if (this.#guard(this.#availableNow) > 0) return;
    if ((says & SIDE.aborted) !== 0) throw new PeerGoneError(`${this.#name}: the peer gave up`);
    if ((says & SIDE.closed) === 0) {
      throw new PeerGoneError(`${this.#name}: the peer is gone without closing`);
    }
    this.#ended = true;
  }

  #noReader(): boolean {
    this.#ism.service();
    return this.#peerGone || this.#producer.peerSays !== 0;
  }

  #unread(): PeerGoneError {
    return new PeerGoneError(`${this.#name}: the peer ${this.#peerGone ? "is gone" : "no longer reads"}`);
  }

  readonly #availableNow = (): number => this.#consumer.available();
  readonly #freeNow = (): number => this.#producer.free();

  readonly #reading: Look = {
    glance: () => !this.#alive() || this.#consumer.available() > 0,
    ready: () => this.#reading.glance() || this.#consumer.peerSays !== 0 || this.#gone(),
    wish: new WakeWish((wishes) => this.#consumer.sleep(wishes)),
    patience: new Patience(),
  };

  readonly #writing: Look = {
    glance: () => !this.#alive() || this.#producer.free() > 0,
    ready: () => this.#writing.glance() || this.#noReader(),
    wish: new WakeWish((wishes) => this.#producer.sleep(wishes)),
    patience: new Patience(),
  };

  #gone(): boolean {
    this.#ism.service();
    return this.#peerGone;
  }

  /** What is always ready to be read or written would leave nobody else a turn. */
  #turnIfDue(): Promise<void> | null {
    return this.#alive() ? this.#ism.turnIfDue() : null;
  }

  async #until(look: Look, timeoutMs: number): Promise<boolean> {
    this.#requireOpen();
    checkTimeout(timeoutMs);
    const turn = this.#turnIfDue();
    if (turn !== null) {
      await turn;
      this.#requireOpen();
    }
    look.wish?.begin();
    try {
      const deadline = performance.now() + timeoutMs;
      if (this.#wait === "poll") return await poll(look, deadline);
      if (spin(look, Math.min(deadline, performance.now() + this.#spinMs))) return true;
      this.#counts.sleeps++;
      const left = Math.max(deadline - performance.now(), 0);
      return await this.#ism.waitFor(this.#asking(look), left);
    } catch (error) {
      return this.#broken(error);
    } finally {
      look.wish?.end(this.#alive());
    }
  }

  #untilBlocking(look: Look, timeoutMs: number): boolean {
    this.#requireOpen();
    checkTimeout(timeoutMs);
    look.wish?.begin();
    try {
      const deadline = performance.now() + timeoutMs;
      const spinUntil = this.#wait === "poll" ? deadline : performance.now() + this.#spinMs;
      if (spin(look, Math.min(deadline, spinUntil))) return true;
      if (this.#wait === "poll") return false;
      this.#counts.sleeps++;
      const left = Math.max(deadline - performance.now(), 0);
      return this.#ism.waitForBlocking(this.#asking(look), left);
    } catch (error) {
      return this.#broken(error);
    } finally {
      look.wish?.end(this.#alive());
    }
  }

  /** Asks to be notified before the last look, and again after each that found nothing: a notification takes the wish away. */
  #asking({ ready, wish }: Look): () => boolean {
    return () => {
      if (ready()) return true;
      wish?.ask();
      return ready();
    };
  }

  #notify(): void {
    this.#counts.notifications++;
    this.region.notify();
  }

  #guard(look: () => number): number {
    try {
      return look();
    } catch (error) {
      this.#broken(error);
    }
  }

  /** The peer is told, and every later call throws the same. */
  #broken(error: unknown): never {
    if (error instanceof ProtocolError && !(error instanceof PeerGoneError) && this.#fault === null) {
      this.#fault = error;
      if (this.#alive()) this.#giveUp();
    }
    throw error;
  }

  #giveUp(): void {
    this.#producer.say(SIDE.closed | SIDE.aborted);
    this.#consumer.say(SIDE.closed | SIDE.aborted);
    const reader = this.#producer.wakes();
    if (this.#consumer.wakes(true) || reader) this.#notify();
  }

  async #leave(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.region.listen(null);
    // The answer wakes whoever waits on this channel, too.
    await this.region.detach();
  }

  #alive(): boolean {
    return !this.#closed && !this.#consumer.detached;
  }

  #requireOpen(): void {
    if (this.#fault !== null) throw this.#fault;
    if (!this.#alive()) throw new ClosedError(this.#name);
  }

  get #name(): string {
    return `channel 0x${this.region.token.toString(16)}`;
  }
}

async function giveUp(region: IsmRegion): Promise<void> {
  region.listen(null);
  // The first error says more.
  await region.detach().catch(() => {});
}

/** Where a range of the caller's array ends. @throws UsageError when it is no range, or that no array */
function endOf(bytes: Uint8Array, start: number, end: number | undefined): number {
  // Anything else may be a proxy that throws when it is looked at.
  if (!(ArrayBuffer.isView(bytes) && bytes instanceof Uint8Array)) {
    throw new UsageError(`${shown(bytes)} is not of type bytes`);
  }
  const { length } = bytes;
  const last = end === undefined ? length : end;
  if (Number.isInteger(start) && Number.isInteger(last) && start >= 0 && start <= last && last <= length) {
    return last;
  }
  throw new UsageError(`[${shown(start)}, ${shown(last)}) of ${length} bytes`);
}

function checkTimeout(timeoutMs: number): void {
  if (!(timeoutMs >= 0)) throw new UsageError(`a timeout of ${timeoutMs} ms`);
}
