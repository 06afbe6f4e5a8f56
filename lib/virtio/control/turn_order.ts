/**
 * Whose turn it is: commands that wait, in an order that keeps that of each line, and those that must go alone.
 *
 * Only lines whose first command may be sent are looked at, so it does not matter how many wait. Behind a command that must go alone nothing is sorted into lines before that is over.
 *
 * @module
 */
import type { Command } from "./command.ts";

/** A queue, as far as it matters here. A `CommandLane` is one. */
export interface LaneRoom {
  /** Commands that can be sent now. */
  readonly room: number;
  /** Commands that the device has, given up or not. */
  readonly outstanding: number;
}

/** Commands in the order in which they were asked for, linked by themselves. One that has its result meanwhile is passed over. */
class CommandList<C extends Command> {
  #first: C | null = null;
  #last: C | null = null;

  get first(): C | null {
    while (this.#first?.done) this.shift();
    return this.#first;
  }

  push(command: C): void {
    command.next = null;
    if (this.#last === null) this.#first = command;
    else this.#last.next = command;
    this.#last = command;
  }

  /** Puts one back that was taken from here. */
  putBack(command: C): void {
    let before: C | null = null;
    let after = this.first;
    while (after !== null && after.sequence < command.sequence) {
      before = after;
      after = after.next;
    }
    command.next = after;
    if (before === null) this.#first = command;
    else before.next = command;
    if (after === null) this.#last = command;
  }

  shift(): void {
    const first = this.#first!;
    this.#first = first.next;
    if (this.#first === null) this.#last = null;
    first.next = null;
  }

  *[Symbol.iterator](): Generator<C> {
    for (let one = this.first; one !== null; one = one.next) if (!one.done) yield one;
  }
}

/** Commands that keep their order. */
interface Line<C extends Command, L> {
  readonly name: string;
  readonly waiting: CommandList<C>;
  /** Queue that has its commands; null while the device has none. */
  lane: L | null;
  /** How many the device has, given up ones included. */
  atDevice: number;
  /** It may send, and is among the lines that may. */
  ready: boolean;
  /** The ones before and after it there. */
  before: Line<C, L> | null;
  after: Line<C, L> | null;
}

/** So many lines stay when they are empty: making one for each command of a member would cost more than the command. */
const KEPT_LINES = 1024;

/** See the module's text. */
export class TurnOrder<C extends Command, L extends LaneRoom> {
  readonly #lanes: readonly L[];
  readonly #pipelined: boolean;
  /** Of lines that have commands, here or at the device, and some that had. */
  readonly #lines = new Map<string, Line<C, L>>();
  /** Lines that may send, in the order in which they came to it, linked by themselves. Whether they really may is found out when their turn comes. */
  #firstReady: Line<C, L> | null = null;
  #lastReady: Line<C, L> | null = null;
  /** Lines whose first command is to be repeated later. */
  readonly #delayed = new Set<Line<C, L>>();
  /** First one that must go alone, and what was asked for after it. */
  readonly #behind = new CommandList<C>();
  /** Commands in lines. */
  #lined = 0;
  /** While it is set, nothing but it may be sent. */
  #alone: C | null = null;
  #retryAt = Infinity;

  /** Nobody waits. @param pipelined a line's commands are sent at once, into one queue */
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
  *waiting(): Generator<C> {
    for (const line of this.#lines.values()) yield* line.waiting;
    yield* this.#behind;
  }

  /** A command was asked for. */
  add(command: C): void {
    if (command.alone || this.#alone !== null || this.#behind.first !== null) this.#behind.push(command);
    else this.#lineUp(command);
  }

  /** A command that was returned is to be sent again, at `notBefore`. */
  repeat(command: C): void {
    const line = this.#line(command.line);
    line.waiting.putBack(command);
    command.lined = true;
    this.#lined++;
    this.#delay(line, command.notBefore);
  }

  /**
   * The next command that may be sent; it is in no line any more. One that wants quiet has it.
   * @returns undefined when nobody may, or there is no room
   */
  next(now: number): C | undefined {
    if (now >= this.#retryAt) this.#endDelays(now);
    const quiet = this.#admit();
    if (quiet !== undefined) return quiet;
    for (let line = this.#firstReady, after; line !== null; line = after) {
      after = line.after;
      const command = line.waiting.first;
      if (command === null) {
        this.#unready(line);
        this.#tidy(line);
      } else if (command.notBefore > now) {
        this.#delay(line, command.notBefore);
      } else if (this.#laneOf(line) !== undefined) {
        line.waiting.shift();
        this.#left(command);
        return command;
      } else if (!this.#hasRoom()) return undefined;
    }
    return undefined;
  }

  /** A line's commands are in one queue, or one at a time. Among queues, the one with the fewest commands. @param command of `next` */
  laneFor(command: C): L {
    return this.#laneOf(this.#line(command.line))!;
  }

  #laneOf(line: Line<C, L>): L | undefined {
    if (line.lane !== null) return this.#pipelined && line.lane.room > 0 ? line.lane : undefined;
    let best: L | undefined;
    for (let at = 0; at < this.#lanes.length; at++) {
      const lane = this.#lanes[at]!;
      if (lane.room > 0 && (best === undefined || lane.outstanding < best.outstanding)) best = lane;
    }
    return best;
  }

  #hasRoom(): boolean {
    for (let at = 0; at < this.#lanes.length; at++) if (this.#lanes[at]!.room > 0) return true;
    return false;
  }

  /** Last among those that may send, unless it is among them. */
  #makeReady(line: Line<C, L>): void {
    if (line.ready) return;
    line.ready = true;
    line.before = this.#lastReady;
    if (this.#lastReady === null) this.#firstReady = line;
    else this.#lastReady.after = line;
    this.#lastReady = line;
  }

  #unready(line: Line<C, L>): void {
    if (!line.ready) return;
    const { before, after } = line;
    if (before === null) this.#firstReady = after;
    else before.after = after;
    if (after === null) this.#lastReady = before;
    else after.before = before;
    line.ready = false;
    line.before = line.after = null;
  }

  /** What `next` gave is with the device. */
  sent(command: C, lane: L): void {
    const line = this.#line(command.line);
    line.lane = lane;
    line.atDevice++;
    this.#unready(line);
    if (this.#pipelined) this.#makeReady(line);
  }

  /** The device has given a command back. */
  returned(command: C): void {
    const line = this.#line(command.line);
    if (--line.atDevice > 0) return;
    line.lane = null;
    if (line.waiting.first === null) this.#tidy(line);
    else this.#makeReady(line);
  }

  /** A command has its result, and `done` is set. */
  ended(command: C): void {
    this.#left(command);
  }

  /** What went alone is over. */
  release(command: C): void {
    if (this.#alone === command) this.#alone = null;
  }

  /** All that waited have ended. Lines keep their places at the device. */
  clear(): void {
    while (this.#firstReady !== null) this.#unready(this.#firstReady);
    this.#delayed.clear();
    this.#retryAt = Infinity;
    for (const line of this.#lines.values()) if (line.waiting.first === null) this.#tidy(line);
  }

  #line(name: string): Line<C, L> {
    let line = this.#lines.get(name);
    if (line === undefined) {
      line = {
        name,
        waiting: new CommandList<C>(),
        lane: null,
        atDevice: 0,
        ready: false,
        before: null,
        after: null,
      };
      this.#lines.set(name, line);
    }
    return line;
  }

  #lineUp(command: C): void {
    const line = this.#line(command.line);
    line.waiting.push(command);
    command.lined = true;
    this.#lined++;
    if (this.#pipelined || line.atDevice === 0) this.#makeReady(line);
  }

  #left(command: C): void {
    if (!command.lined) return;
    command.lined = false;
    this.#lined--;
  }

  #tidy(line: Line<C, L>): void {
    if (line.atDevice > 0) return;
    this.#unready(line);
    this.#delayed.delete(line);
    if (this.#lines.size > KEPT_LINES) this.#lines.delete(line.name);
  }

  #delay(line: Line<C, L>, notBefore: number): void {
    this.#unready(line);
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
      this.#makeReady(line);
    }
  }

  /** Sorts those behind into lines, up to the next that must go alone; its turn comes when nobody is before it, here or at the device. */
  #admit(): C | undefined {
    for (let first; this.#alone === null && (first = this.#behind.first) !== null;) {
      if (first.alone) {
        if (this.#lined > 0 || this.outstanding > 0) return undefined;
        this.#alone = first;
      }
      this.#behind.shift();
      if (first.quiet) return first;
      this.#lineUp(first);
    }
    return undefined;
  }
}
