/**
 * A transport whose function can be another one from one moment to the next, with queues and driver going on above it (device parts;
 * virtio 1.4 §2.13).
 *
 * @module
 */
import { EventFd } from "../../../ffi/mod.ts";
import { requireType, typedErrors } from "../../errors/doors.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import { SharedDmaSpace } from "../../memory/mod.ts";
import { FEATURE, featureNames } from "../spec/features.ts";
import { EndHandlers } from "../../wait/end_handlers.ts";
import type { InterruptVector } from "../../wait/interrupt_vector.ts";
import type { Lifeline } from "../../wait/lifeline.ts";
import { MovableLifeline } from "../../wait/movable_lifeline.ts";
import type { Doorbell, InterruptKind, SharedMemory, VirtioTransport } from "./transport.ts";

/** What is asked of the function that is the current one, and is for it to answer or to refuse: whatever this class does not do itself. */
const FORWARDED: Readonly<Record<Exclude<keyof VirtioTransport, Own>, true>> = {
  kind: true,
  legacy: true,
  fixedQueueSizes: true,
  profile: true,
  deviceId: true,
  ownFeatures: true,
  registerName: true,
  allOnesReason: true,
  name: true,
  closed: true,
  queueCount: true,
  adminQueues: true,
  vfMigrationCapable: true,
  needsAccessPlatform: true,
  readDeviceFeatures: true,
  writeDriverFeatures: true,
  driverFeatures: true,
  readStatus: true,
  writeStatus: true,
  reset: true,
  configSizeBytes: true,
  configGeneration: true,
  readConfig: true,
  writeConfig: true,
  queueMaxSize: true,
  enableQueue: true,
  queueEnabled: true,
  disableQueue: true,
  resetQueue: true,
  queueView: true,
  queueState: true,
  notifyPlace: true,
  interruptLack: true,
  interruptKind: true,
  interruptCount: true,
  setConfigVector: true,
  setQueueVector: true,
  readInterruptStatus: true,
  absence: true,
};
type Own =
  | "dma"
  | "lifeline"
  | "adoptDriverFeatures"
  | "doorbell"
  | "enableInterrupts"
  | "disableInterrupts"
  | "sharedMemory"
  | "close"
  | "onClose"
  | typeof Symbol.dispose;

/** A transport, of which `FORWARDED` is the current function's. */
export interface MovableTransport extends VirtioTransport {
  /** Of the current function, under a driver that was opened on another. A driver that may move is not moved to. */
  readonly adoptDriverFeatures?: never;
}

/**
 * Registers, doorbells, interrupts and memory of the function that is the current one.
 *
 * `moveTo` makes another function current. It carries over what belongs to the driver's process: memory at the same addresses, eventfds,
 * doorbells. Registers and vectors are the owner's to carry, as device parts: it stops both functions, gives the parts of the old one to
 * the new one, and resumes that afterwards. Between stop and resume the driver may go on using its rings and notify; it must write no
 * register (set up or reset queues, bind vectors, negotiate), since that would be lost.
 */
export class MovableTransport implements VirtioTransport {
  static {
    for (const name of Object.keys(FORWARDED) as (keyof typeof FORWARDED)[]) {
      Object.defineProperty(this.prototype, name, {
        get(this: MovableTransport): unknown {
          const found: unknown = this.#current[name];
          return typeof found === "function" ? found.bind(this.#current) : found;
        },
      });
    }
    typedErrors(this);
  }

  /** Memory that every function reaches in its turn, at the same addresses. */
  readonly dma: SharedDmaSpace;
  readonly #doorbells = new Map<number, MovableDoorbell>();
  #current: VirtioTransport;
  readonly #lifeline = new MovableLifeline(() => this.#current.lifeline!);
  #interrupts: { readonly kind: InterruptKind; readonly eventFds: readonly EventFd[] } | null = null;
  /** Of the current function, as it gave them. */
  #vectors: readonly InterruptVector[] = [];
  #sharedMemoryUsed = false;
  readonly #ends = new EndHandlers();

  /** Begins on a function that no driver uses yet. The transport is this object's from now on, until it has moved away from it. */
  constructor(first: VirtioTransport) {
    requireType(first, "object", "new MovableTransport: first", "dma", "close", "enableInterrupts");
    this.#current = first;
    this.dma = new SharedDmaSpace(first.dma);
  }

  /** The function that it is on. */
  get current(): VirtioTransport {
    return this.#current;
  }

  /** That of the current function, whichever it is. */
  get lifeline(): Lifeline | undefined {
    return this.#current.lifeline === undefined ? undefined : this.#lifeline;
  }

  /**
   * Goes on with another function, which was opened and which no driver uses. The caller stopped the current one. From then on the transport moved to
   * is this object's, and the one before is the caller's again; nothing of it is turned on or mapped any more. When it fails, all is as it was.
   * @throws UsageError (another kind of device, the same function, closed), UnsupportedError (features, queues, vectors or memory that it cannot take over),
   * ExhaustedError (an address is in use there), SyscallError
   */
  moveTo(to: VirtioTransport): void {
    const from = this.#current;
    this.#checkTarget(from, to);
    const { attached } = this.dma;
    // Functions of one IOMMU context reach the memory already.
    const attach = !attached.includes(to.dma);
    const doorbells = new Map<number, Doorbell>();
    let vectors: readonly InterruptVector[] = [];
    if (attach) this.dma.attach(to.dma);
    try {
      to.adoptDriverFeatures!(from.driverFeatures);
      if (this.#interrupts !== null) {
        const { kind, eventFds } = this.#interrupts;
        vectors = to.enableInterrupts(kind, eventFds.length, duplicates(eventFds));
      }
      for (const queue of this.#doorbells.keys()) doorbells.set(queue, to.doorbell(queue));
    } catch (error) {
      try {
        to.disableInterrupts();
      } catch {
        // The first error says why.
      }
      if (attach) this.dma.detach(to.dma);
      throw error;
    }
    this.#lifeline.move(() => this.#current = to);
    this.#vectors = vectors;
    for (const [queue, target] of doorbells) this.#doorbells.get(queue)!.target = target;
    try {
      from.disableInterrupts();
    } catch {
      // It is stopped, and perhaps gone: it sends nothing to what is closed here.
    }
    if (attach) this.dma.detach(from.dma);
  }

  /** Call it when the current function was stopped: notifications from now on are for `ringAll` to repeat. */
  noteStopped(): void {
    for (const doorbell of this.#doorbells.values()) doorbell.rung = false;
  }

  /**
   * Notifies every queue, and signals every vector, for what one function was told and could not do, and another did and could not tell. Call
   * it when the current function was resumed.
   */
  ringAll(): void {
    // With NOTIFICATION_DATA a notification says how far the ring is filled. What was said before the stop may be rounds ago, and mean something else by now.
    this.#requireOpen();
    const anyTime = (this.driverFeatures & FEATURE.NOTIFICATION_DATA) === 0n;
    for (const [queue, doorbell] of this.#doorbells) {
      // A queue that was reset meanwhile must not be notified.
      if ((anyTime || doorbell.rung) && this.queueEnabled(queue)) doorbell.repeat();
    }
    for (const eventFd of this.#interrupts?.eventFds ?? []) eventFd.signal();
  }

  #checkTarget(from: VirtioTransport, to: VirtioTransport): void {
    this.#requireOpen();
    if (to === from) throw new UsageError(`${to.name} is the current function`);
    if (to.closed) throw new ClosedError(`virtio transport ${to.name}`);
    if (to.deviceId !== this.deviceId || to.profile !== this.profile || to.kind !== this.kind) {
      throw new UsageError(
        `${to.name} (device ${to.deviceId}, profile ${to.profile}, ${to.kind}) is another kind of device than ${from.name}`,
      );
    }
    if (to.adoptDriverFeatures === undefined) {
      throw new UnsupportedError(`${to.name}: no driver can move to a device behind ${to.kind}`);
    }
    if (to.needsAccessPlatform && (from.driverFeatures & FEATURE.ACCESS_PLATFORM) === 0n) {
      throw new UnsupportedError(
        `${to.name} is behind an IOMMU, and the driver did not accept VIRTIO_F_ACCESS_PLATFORM on ${from.name}`,
      );
    }
    if (this.#sharedMemoryUsed) {
      throw new UnsupportedError(`${from.name}: mappings of its shared memory cannot move to ${to.name}`);
    }
    const features = from.driverFeatures & ~to.readDeviceFeatures();
    if (features !== 0n) {
      const names = featureNames(features, this.deviceId, this.profile).join(", ");
      throw new UnsupportedError(`${to.name} does not offer ${names}, which the driver accepted`);
    }
    if ((to.lifeline === undefined) !== (from.lifeline === undefined)) {
      throw new UnsupportedError(
        `${to.name} is served by a process or the kernel, ${from.name} by the other`,
      );
    }
    if (to.queueCount !== from.queueCount || to.configSizeBytes !== from.configSizeBytes) {
      throw new UnsupportedError(
        `${to.name} has ${to.queueCount} queues and ${to.configSizeBytes} bytes of configuration, ${from.name} has ${from.queueCount} and ${from.configSizeBytes}`,
      );
    }
  }

  /** See `VirtioTransport`. It rings wherever the device is. */
  doorbell(queue: number): Doorbell {
    const target = this.#current.doorbell(queue);
    const known = this.#doorbells.get(queue);
    if (known !== undefined) {
      known.target = target;
      return known;
    }
    const made = new MovableDoorbell(target);
    this.#doorbells.set(queue, made);
    return made;
  }

  /** See `VirtioTransport`. The eventfds stay the same ones when the function is another. */
  enableInterrupts(kind: InterruptKind, count: number, given?: readonly EventFd[]): InterruptVector[] {
    const eventFds: EventFd[] = [...given ?? []];
    try {
      this.#requireOpen();
      if (kind === "none") {
        for (const one of eventFds) one.close();
        return [];
      }
      if (given === undefined) { while (eventFds.length < count) eventFds.push(new EventFd()); }
      const vectors = this.#current.enableInterrupts(kind, count, duplicates(eventFds));
      // The function may have been turned off without this object: then those of before are still open here.
      this.#closeEventFds();
      this.#vectors = vectors;
    } catch (error) {
      for (const one of eventFds) one.close();
      throw error;
    }
    this.#interrupts = { kind, eventFds };
    return eventFds.map((eventFd, vector) => ({
      eventFd,
      acknowledge: () => this.#vectors[vector]?.acknowledge() ?? 3,
    }));
  }

  disableInterrupts(): void {
    this.#requireOpen();
    try {
      this.#current.disableInterrupts();
    } finally {
      this.#closeEventFds();
    }
  }

  #closeEventFds(): void {
    for (const one of this.#interrupts?.eventFds ?? []) one.close();
    this.#interrupts = null;
    this.#vectors = [];
  }

  /** See `VirtioTransport`. A function whose shared memory is in use cannot be left. */
  sharedMemory(id: number): SharedMemory | undefined {
    const found = this.#current.sharedMemory?.(id);
    if (found !== undefined) this.#sharedMemoryUsed = true;
    return found;
  }

  /** Closes the current transport, which resets the device, then frees the memory. */
  close(): void {
    try {
      this.#current.close();
    } finally {
      this.#closeEventFds();
      this.dma.close();
      this.#ends.tell();
    }
  }

  /** See `VirtioTransport`. @internal */
  onClose(handler: () => void): () => void {
    return this.#ends.add(handler, "onClose: handler");
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #requireOpen(): void {
    if (this.closed) throw new ClosedError(`virtio transport ${this.name}`);
  }
}

/** Rings wherever the queue is served. */
class MovableDoorbell implements Doorbell {
  target: Doorbell;
  /** Since `noteStopped`. */
  rung = false;
  #nextOffset = 0;
  #nextWrap = 0;

  constructor(target: Doorbell) {
    this.target = target;
  }

  ring(nextOffset: number, nextWrap: number): void {
    this.rung = true;
    this.#nextOffset = nextOffset;
    this.#nextWrap = nextWrap;
    this.target.ring(nextOffset, nextWrap);
  }

  /** Once more what was said last. */
  repeat(): void {
    this.target.ring(this.#nextOffset, this.#nextWrap);
  }
}

/** Eventfds for somebody else to own. @throws SyscallError; then there are none */
function duplicates(eventFds: readonly EventFd[]): EventFd[] {
  const made: EventFd[] = [];
  try {
    for (const one of eventFds) made.push(new EventFd(one.fd.duplicate()));
  } catch (error) {
    for (const one of made) one.close();
    throw error;
  }
  return made;
}
