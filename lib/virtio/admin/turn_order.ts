/**
 * Whose turn it is: commands that wait, in an order that keeps each member's (N-3.6), and those that must go alone (N-3.2, N-3.7).
 *
 * A member's commands stand in a line of their own, and only lines whose first command may be sent are looked at, so it does not matter how
 * many wait. Behind a command that must go alone nothing is sorted into lines before that is over.
 *
 * @module
 */
import type { Pending } from "./pending.ts";

/** A queue, as far as it matters here. An `AdminLane` is one. */
export interface LaneRoom {
  /** Commands that can be sent now. */
  readonly room: number;
  /** Commands that the device has, given up or not. */
  readonly outstanding: number;
}

/** Commands in the order in which they were asked for, linked by themselves. One that has its result meanwhile is passed over. */
class PendingList {
  #first: Pending | null = null;
  #last: Pending | null = null;

  get first(): Pending | null {
    while (this.#first?.done) this.shift();
    return this.#first;
  }

  push(pending: Pending): void {
    pending.next = null;
    if (this.#last === null) this.#first = pending;
    else this.#last.next = pending;
    this.#last = pending;
  }

  /** Puts one back that was taken from here. */
  putBack(pending: Pending): void {
    let before: Pending | null = null;
    let after = this.first;
    while (after !== null && after.sequence < pending.sequence) {
      before = after;
      after = after.next;
    }
    pending.next = after;
    if (before === null) this.#first = pending;
    else before.next = pending;
    if (after === null) this.#last = pending;
  }

  shift(): void {
    const first = this.#first!;
    this.#first = first.next;
    if (this.#first === null) this.#last = null;
    first.next = null;
  }

  *[Symbol.iterator](): Generator<Pending> {
    for (let one = this.first; one !== null; one = one.next) if (!one.done) yield one;
  }
}

/** Commands of one member. */
interface Line<L> {
  readonly member: string;
  readonly waiting: PendingList;
  /** Queue that has its commands; null while the device has none. */
  lane: L | null;
  /** How many the device has, given up ones included. */
  atDevice: number;
}

/** See the module's text. */
export class TurnOrder<L extends LaneRoom> {
  readonly #lanes: readonly L[];
  readonly #pipelined: boolean;
  /** Of members that have commands, here or at the device. */
  readonly #lines = new Map<string, Line<L>>();
  /** Lines that may send, in the order in which they came to it. Whether they really may is found out when their turn comes. */
  readonly #ready = new Set<Line<L>>();
  /** Lines whose first command is to be repeated later. */
  readonly #delayed = new Set<Line<L>>();
  /** First one that must go alone, and what was asked for after it. */
  readonly #behind = new PendingList();
  /** Commands in lines. */
  #lined = 0;
  /** While it is set, nothing but it may be sent. */
  #alone: Pending | null = null;
  #retryAt = Infinity;

  /** Nobody waits. @param pipelined a member's commands are sent at once, into one queue */
  constructor(lanes: readonly L[], pipelined: boolean) {
    this.#lanes = lanes;
    this.#pipelined = pipelined;
  }

  /** When the next command is to be repeated, as of `performance.now()`. */
  get retryAt(): number {
    return this.#retryAt;
  }

  /** Commands that the device has, given up ones included. */
  get outstanding(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.outstanding, 0);
  }

  /** All that are not with the device. */
  *waiting(): Generator<Pending> {
    for (const line of this.#lines.values()) yield* line.waiting;
    yield* this.#behind;
  }

  /** A command was asked for. */
  add(pending: Pending): void {
    if (pending.alone || this.#alone !== null || this.#behind.first !== null) this.#behind.push(pending);
    else this.#lineUp(pending);
  }

  /** A command that was returned is to be sent again, at `notBefore`. */
  repeat(pending: Pending): void {
    const line = this.#line(pending.member);
    line.waiting.putBack(pending);
    pending.lined = true;
    this.#lined++;
    this.#delay(line, pending.notBefore);
  }

  /**
   * The next command that may be sent; it is in no line any more. One without a command begins its quiet.
   * @returns undefined when nobody may, or there is no room
   */
  next(now: number): Pending | undefined {
    if (now >= this.#retryAt) this.#endDelays(now);
    const quiet = this.#admit();
    if (quiet !== undefined) return quiet;
    for (const line of this.#ready) {
      const pending = line.waiting.first;
      if (pending === null) {
        this.#ready.delete(line);
        this.#tidy(line);
      } else if (pending.notBefore > now) {
        this.#delay(line, pending.notBefore);
      } else if (this.#laneOf(line) !== undefined) {
        line.waiting.shift();
        this.#left(pending);
        return pending;
      } else if (!this.#lanes.some((lane) => lane.room > 0)) return undefined;
    }
    return undefined;
  }

  /** N-3.6: a member's commands are in one queue, or one at a time. Among queues, the one with the fewest commands. @param pending of `next` */
  laneFor(pending: Pending): L {
    return this.#laneOf(this.#line(pending.member))!;
  }

  #laneOf(line: Line<L>): L | undefined {
    if (line.lane !== null) return this.#pipelined && line.lane.room > 0 ? line.lane : undefined;
    let best: L | undefined;
    for (const lane of this.#lanes) {
      if (lane.room > 0 && (best === undefined || lane.outstanding < best.outstanding)) best = lane;
    }
    return best;
  }

  /** What `next` gave is with the device. */
  sent(pending: Pending, lane: L): void {
    const line = this.#line(pending.member);
    line.lane = lane;
    line.atDevice++;
    this.#ready.delete(line);
    if (this.#pipelined) this.#ready.add(line);
  }

  /** The device has given a command back. */
  returned(pending: Pending): void {
    const line = this.#line(pending.member);
    if (--line.atDevice > 0) return;
    line.lane = null;
    if (line.waiting.first === null) this.#tidy(line);
    else this.#ready.add(line);
  }

  /** A command has its result, and `done` is set. */
  ended(pending: Pending): void {
    this.#left(pending);
  }

  /** What went alone is over. */
  release(pending: Pending): void {
    if (this.#alone === pending) this.#alone = null;
  }

  /** All that waited have ended. Members keep their places at the device. */
  clear(): void {
    this.#ready.clear();
    this.#delayed.clear();
    this.#retryAt = Infinity;
    for (const line of this.#lines.values()) if (line.waiting.first === null) this.#tidy(line);
  }

  #line(member: string): Line<L> {
    let line = this.#lines.get(member);
    if (line === undefined) {
      line = { member, waiting: new PendingList(), lane: null, atDevice: 0 };
      this.#lines.set(member, line);
    }
    return line;
  }

  #lineUp(pending: Pending): void {
    const line = this.#line(pending.member);
    line.waiting.push(pending);
    pending.lined = true;
    this.#lined++;
    if (this.#pipelined || line.atDevice === 0) this.#ready.add(line);
  }

  #left(pending: Pending): void {
    if (!pending.lined) return;
    pending.lined = false;
    this.#lined--;
  }

  #tidy(line: Line<L>): void {
    if (line.atDevice > 0) return;
    this.#ready.delete(line);
    this.#delayed.delete(line);
    this.#lines.delete(line.member);
  }

  #delay(line: Line<L>, notBefore: number): void {
    this.#ready.delete(line);
    this.#delayed.add(line);
    this.#retryAt = Math.min(this.#retryAt, notBefore);
  }

  #endDelays(now: number): void {
    this.#retryAt = Infinity;
    for (const line of this.#delayed) {
      const notBefore = line.waiting.first?.notBefore ?? 0;
      if (notBefore > now) {
        this.#retryAt = Math.min(this.#retryAt, notBefore);
        continue;
      }
      this.#delayed.delete(line);
      this.#ready.add(line);
    }
  }

  /** Sorts those behind into lines, up to the next that must go alone; its turn comes when nobody is before it, here or at the device. */
  #admit(): Pending | undefined {
    for (let first; this.#alone === null && (first = this.#behind.first) !== null;) {
      if (first.alone) {
        if (this.#lined > 0 || this.outstanding > 0) return undefined;
        this.#alone = first;
      }
      this.#behind.shift();
      if (first.command === undefined) return first;
      this.#lineUp(first);
    }
    return undefined;
  }
}
