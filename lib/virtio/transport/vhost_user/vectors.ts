/**
 * Interrupts of a device behind vhost-user: eventfds of this process, one for the config space and one for each queue. There is no line.
 *
 * @module
 */
import { EventFd } from "../../../../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../../../errors/mod.ts";
import { shown } from "../../../errors/shown.ts";
import type { InterruptVector } from "../../../wait/interrupt_vector.ts";
import type { InterruptKind } from "../transport.ts";

/** See the module's text. */
export class VhostUserVectors {
  readonly #name: string;
  /** How many there can be. */
  readonly #most: number;
  readonly #byQueue = new Map<number, number>();
  /** Of changes of the config space. */
  config: number | null = null;
  #eventFds: readonly EventFd[] = [];

  /** None is on. */
  constructor(name: string, most: number) {
    this.#name = name;
    this.#most = most;
  }

  /** As `VirtioTransport.interruptCount`. */
  count(kind: InterruptKind): number {
    return kind === "msix" ? this.#most : 0;
  }

  /** As `VirtioTransport.enableInterrupts`. */
  enable(kind: InterruptKind, count: number, given?: readonly EventFd[]): InterruptVector[] {
    using opened = new DisposableStack();
    const eventFds: EventFd[] = [...given ?? []].map((one) => opened.use(one));
    if (kind === "none") return [];
    if (this.#eventFds.length > 0) throw new UsageError(`${this.#name}: interrupts are on already`);
    if (!Number.isInteger(count) || count < 1 || (given !== undefined && given.length !== count)) {
      throw new UsageError(`${this.#name}: ${shown(count)} vectors, ${eventFds.length} eventfds`);
    }
    const available = this.count(kind);
    if (count > available) {
      throw new UnsupportedError(`${this.#name} has ${available} ${kind} vectors, ${count} are wanted`);
    }
    while (eventFds.length < count) eventFds.push(opened.use(new EventFd()));
    opened.move();
    this.#eventFds = eventFds;
    return eventFds.map((eventFd) => ({ eventFd, acknowledge: () => 3 }));
  }

  /** That of a queue; null for none. */
  ofQueue(queue: number): number | null {
    return this.#byQueue.get(queue) ?? null;
  }

  /** Binds a queue; null for none. @throws UsageError */
  bind(queue: number, vector: number | null): void {
    if (this.check(vector) === null) this.#byQueue.delete(queue);
    else this.#byQueue.set(queue, vector!);
  }

  /** @throws UsageError for one that is not on */
  check(vector: number | null): number | null {
    if (vector === null || this.#eventFds[vector] !== undefined) return vector;
    throw new UsageError(
      `${this.#name}: ${this.#eventFds.length} vectors are on, there is no vector ${shown(vector)}`,
    );
  }

  /** What is signalled for a queue. */
  call(queue: number): EventFd | undefined {
    const vector = this.#byQueue.get(queue);
    return vector === undefined ? undefined : this.#eventFds[vector];
  }

  /** The config space has changed. */
  signalConfig(): void {
    if (this.config !== null) this.#eventFds[this.config]?.signal();
  }

  /** All of them: perhaps there was something. */
  signalAll(): void {
    for (const one of this.#eventFds) one.signal();
  }

  /** No queue has one, nor has the config space; the eventfds stay. @returns queues that had */
  unbind(): number[] {
    const bound = [...this.#byQueue.keys()];
    this.#byQueue.clear();
    this.config = null;
    return bound;
  }

  /** Closes the eventfds. */
  close(): void {
    for (const one of this.#eventFds) one.close();
    this.#eventFds = [];
  }
}
