/**
 * The embedded switch between the network functions of a machine.
 *
 * Which port has which address is known from the ports' receive filters, so nothing is learned from frames:
 * - a unicast frame goes to the first port, in order of connection, whose own address or unicast table has its destination, and nowhere
 *   else (a promiscuous port sees no traffic of others, as with the embedded switches of real NICs); a port that receives comes before
 *   one that does not, so that an address can move from one function to another;
 * - any other frame is offered to all other ports, and those take it whose filter accepts it;
 * - a frame never goes back to the port that it came from.
 *
 * Back-pressure: a unicast frame whose port has no receive buffers stays in the sender's transmit queue, with what is behind it, until
 * there are buffers. That is lossless as long as the receiver runs, and bounded: a receiver that offers no buffer for `holdMs` counts as
 * stalled, and frames for it are dropped and counted until it offers one again. Flooded frames are dropped at ports without buffers.
 * A port that is suspended (its driver reset it with QUEUE_STATE negotiated or with queues disabled, or its owner stopped it) is treated as one without buffers.
 *
 * @module
 */
import { AddressOwners } from "./address_owners.ts";
import type { NetFrame } from "./frame.ts";
import type { FrameBurst } from "./frame_burst.ts";
import { COUNTER, DELIVERY, type SwitchPort } from "./switch_port.ts";

/** What the switch keeps of a port. */
interface PortState {
  readonly port: SwitchPort;
  /** The more, the later it was connected. */
  readonly order: number;
  /** For each of its transmit queues: the port whose buffers the head of the queue waits for. */
  readonly waits: (PortState | null)[];
  /** Since when somebody has been waiting for this port's buffers (ms of the clock); −1: nobody is. */
  waitedSince: number;
  /** It offered no buffer for too long. */
  stalled: boolean;
  /** Something was delivered that is not published yet. */
  dirty: boolean;
  /** How many transmit queues of other ports wait for this port's buffers. */
  waiters: number;
}

/** How a switch differs from the default. */
export interface SwitchOptions {
  /** How long a sender waits for a receiver without buffers, in milliseconds. Default 3000; 0: frames are dropped at once. */
  readonly holdMs?: number;
  /** Milliseconds of a steady clock. */
  readonly now?: () => number;
}

/** Longest wait for a receiver: well above what a process loses to its scheduler, below the transmit watchdog of kernels (5 s). */
const HOLD_MS = 3000;
/** Destinations whose ports are remembered during a burst; a power of two. */
const REMEMBERED = 64;

/** One embedded switch. */
export class NetSwitch {
  /** Its name in the topology. */
  readonly name: string;
  readonly #holdMs: number;
  readonly #now: () => number;
  /** In order of connection. */
  readonly #states = new Map<SwitchPort, PortState>();
  readonly #owners = new AddressOwners<PortState>();
  #connected = 0;
  /** Ports to which something was delivered that is not published yet: a thousand idle ports are not looked at for every burst. */
  readonly #dirty: PortState[] = [];
  /**
   * Holders of destinations, found by one sender since the last `flush`. Within a burst no filter changes; a port that no longer receives
   * is noticed. Slots by the last byte of the address.
   */
  readonly #holderHigh = new Uint32Array(REMEMBERED);
  readonly #holderLow = new Uint32Array(REMEMBERED);
  readonly #holderBurst = new Float64Array(REMEMBERED).fill(-1);
  readonly #holders = new Array<PortState | null>(REMEMBERED).fill(null);
  #burst = 0;
  #burstOf: PortState | null = null;

  /** A switch without ports. */
  constructor(name: string, options: SwitchOptions = {}) {
    this.name = name;
    this.#holdMs = options.holdMs ?? HOLD_MS;
    this.#now = options.now ?? (() => performance.now());
  }

  /** The ports, in order of connection. */
  get ports(): readonly SwitchPort[] {
    return [...this.#states.keys()];
  }

  /** Adds a port with `lanes` transmit queues; one that is there already stays. */
  add(port: SwitchPort, lanes: number): void {
    if (this.#state(port) !== undefined) return;
    const waits = new Array<PortState | null>(lanes).fill(null);
    const state: PortState = {
      port,
      order: this.#connected++,
      waits,
      waitedSince: -1,
      stalled: false,
      dirty: false,
      waiters: 0,
    };
    this.#states.set(port, state);
    const filters = port.filters ?? [port.filter];
    const note = () => this.#owners.set(state, filters);
    for (const filter of filters) filter.changed = note;
    note();
    this.#burst++;
  }

  /** Takes a port out. Who waited for it goes on. */
  remove(port: SwitchPort): void {
    const state = this.#state(port);
    if (state === undefined) return;
    this.stopped(port);
    this.#states.delete(port);
    this.#owners.delete(state);
    for (const filter of port.filters ?? [port.filter]) filter.changed = () => {};
    this.#burst++;
  }

  /** The port's driver is gone: nobody waits for it any more, and it for nobody. */
  stopped(port: SwitchPort): void {
    const state = this.#state(port);
    if (state === undefined) return;
    for (let lane = 0; lane < state.waits.length; lane++) this.#wait(state, lane, null);
    state.stalled = false;
    state.dirty = false;
    this.#burst++;
    if (state.waiters === 0) return;
    for (const other of this.#states.values()) {
      for (let lane = 0; lane < other.waits.length; lane++) {
        if (other.waits[lane] === state) this.#wait(other, lane, null);
      }
    }
  }

  /** A port took over an address, or stopped or goes on receiving: who waits for a port looks again which one it is. */
  portsChanged(): void {
    this.#burst++;
    for (const { port, waits } of this.#states.values()) if (waits.some((to) => to !== null)) port.wake?.();
  }

  /** Notes whom a transmit queue waits for. The clock of a port that nobody waits for any more starts afresh. */
  #wait(from: PortState, lane: number, to: PortState | null): void {
    const before = from.waits[lane] ?? null;
    if (before === to) return;
    from.waits[lane] = to;
    if (to !== null) {
      to.waiters++;
      // Also with others waiting already: it may be for another of its receive queues.
      to.port.wake?.();
    }
    if (before === null) return;
    if (--before.waiters === 0) before.waitedSince = -1;
    from.port.wake?.();
  }

  /** Takes a frame of transmit queue `lane` in. @returns false when it must stay in the queue and be offered again */
  forward(source: SwitchPort, lane: number, frame: NetFrame): boolean {
    const from = this.#state(source);
    if (from === undefined) return true;
    const high = frame.destinationHigh, low = frame.destinationLow;
    if ((high & 0x100) === 0) {
      const holder = this.#remembered(from, high, low) ?? this.#holder(from, high, low);
      if (holder !== null) return this.#toHolder(from, lane, holder, frame);
    }
    this.#wait(from, lane, null);
    let taken = 0;
    for (const to of this.#states.values()) {
      if (to === from || !to.port.receiving || !to.port.filter.accepts(high, low)) continue;
      taken++;
      const outcome = to.port.deliver(frame);
      if (outcome === DELIVERY.delivered) this.#delivered(to, 1, frame.lengthBytes);
      else this.#dropped(to, outcome);
    }
    this.#entered(from, 1, frame.lengthBytes);
    if (taken === 0) this.#count(from, COUNTER.noPort);
    return true;
  }

  /**
   * Takes frames of one destination in that go together, from `from` on, as far as one port gets them all.
   * @returns how many; the next one is for `forward`
   */
  forwardBurst(source: SwitchPort, lane: number, frames: FrameBurst, from: number, count: number): number {
    const sender = this.#state(source);
    const { destinationHigh: high, destinationLow: low } = frames;
    if (sender === undefined || (high & 0x100) !== 0) return 0;
    const to = this.#remembered(sender, high, low) ?? this.#holder(sender, high, low);
    if (to === null || !to.port.receiving || !to.port.filter.accepts(high, low)) return 0;
    const taken = to.port.deliverBurst(frames, from, count);
    if (taken === 0) return 0;
    this.#wait(sender, lane, null);
    to.waitedSince = -1;
    to.stalled = false;
    const bytes = frames.bytes(from, taken);
    this.#delivered(to, taken, bytes);
    this.#entered(sender, taken, bytes);
    return taken;
  }

  /** The port that a unicast address belongs to: one that receives, else one that is suspended, else any; the first of each. */
  #holder(from: PortState, high: number, low: number): PortState | null {
    let holder: PortState | null = null;
    for (const to of this.#owners.of(high, low)) {
      if (to === from || !to.port.filter.owns(high, low)) continue;
      if (to.port.receiving) {
        this.#remember(from, high, low, to);
        return to;
      }
      if (holder === null || (to.port.suspended === true && holder.port.suspended !== true)) holder = to;
    }
    return holder;
  }

  #remember(from: PortState, high: number, low: number, holder: PortState): void {
    if (this.#burstOf !== from) {
      this.#burstOf = from;
      this.#burst++;
    }
    const slot = low & (REMEMBERED - 1);
    this.#holderHigh[slot] = high;
    this.#holderLow[slot] = low;
    this.#holderBurst[slot] = this.#burst;
    this.#holders[slot] = holder;
  }

  #remembered(from: PortState, high: number, low: number): PortState | null {
    const slot = low & (REMEMBERED - 1);
    if (this.#burstOf !== from || this.#holderBurst[slot] !== this.#burst) return null;
    if (this.#holderHigh[slot] !== high >>> 0 || this.#holderLow[slot] !== low >>> 0) return null;
    const holder = this.#holders[slot]!;
    return holder.port.receiving ? holder : null;
  }

  #toHolder(from: PortState, lane: number, to: PortState, frame: NetFrame): boolean {
    const { port } = to;
    let outcome: number = DELIVERY.notReceiving;
    // A holder may still refuse unicast (NOUNI); then the frame was not meant to arrive anywhere.
    if (port.receiving && port.filter.accepts(frame.destinationHigh, frame.destinationLow)) {
      outcome = port.deliver(frame);
    } else if (port.suspended === true && port.filter.accepts(frame.destinationHigh, frame.destinationLow)) {
      outcome = DELIVERY.noRoom;
    }
    if (outcome === DELIVERY.noRoom && this.#mayWait(to)) {
      this.#wait(from, lane, to);
      return false;
    }
    this.#wait(from, lane, null);
    if (outcome === DELIVERY.delivered) {
      to.waitedSince = -1;
      to.stalled = false;
      this.#delivered(to, 1, frame.lengthBytes);
    } else this.#dropped(to, outcome);
    this.#entered(from, 1, frame.lengthBytes);
    return true;
  }

  /** Whether a frame for a port without buffers is held; starts the clock at the first. */
  #mayWait(to: PortState): boolean {
    if (to.stalled || this.#holdMs === 0) return false;
    const now = this.#now();
    if (to.waitedSince < 0) to.waitedSince = now;
    else if (now - to.waitedSince >= this.#holdMs) {
      to.stalled = true;
      to.waitedSince = -1;
      return false;
    }
    return true;
  }

  #entered(from: PortState, frames: number, bytes: number): void {
    const { counters } = from.port;
    counters[COUNTER.framesIn] = counters[COUNTER.framesIn]! + frames;
    counters[COUNTER.bytesIn] = counters[COUNTER.bytesIn]! + bytes;
  }

  #delivered(to: PortState, frames: number, bytes: number): void {
    const { counters } = to.port;
    counters[COUNTER.framesOut] = counters[COUNTER.framesOut]! + frames;
    counters[COUNTER.bytesOut] = counters[COUNTER.bytesOut]! + bytes;
    if (to.dirty) return;
    to.dirty = true;
    this.#dirty.push(to);
  }

  #dropped(to: PortState, outcome: number): void {
    if (outcome === DELIVERY.noRoom) this.#count(to, COUNTER.noRoom);
    else if (outcome === DELIVERY.tooLong) this.#count(to, COUNTER.tooLong);
    else this.#count(to, COUNTER.notReceiving);
  }

  #count(state: PortState, counter: number): void {
    const { counters } = state.port;
    counters[counter] = counters[counter]! + 1;
  }

  /** Publishes what was delivered to any port since the last call. */
  flush(): void {
    this.#burst++;
    for (let state = this.#dirty.pop(); state !== undefined; state = this.#dirty.pop()) {
      // One that was stopped meanwhile has nothing to publish.
      if (!state.dirty) continue;
      state.dirty = false;
      state.port.flush();
    }
  }

  /** Senders that wait for this port's buffers go on, when it has some (or no longer receives). @returns frames taken */
  resume(port: SwitchPort, budget: number): number {
    if (this.#state(port)?.waiters === 0) return 0;
    let moved = 0;
    for (const state of this.#states.values()) {
      if (moved >= budget) break;
      if (!waitsFor(state, port)) continue;
      if (port.hasRoom || !port.receiving) moved += state.port.transmit(budget - moved);
    }
    return moved;
  }

  /** A sender waits for this port's buffers: it must ask its driver to say when there are some. */
  awaited(port: SwitchPort): boolean {
    return (this.#state(port)?.waiters ?? 0) > 0;
  }

  /** Transmit queue `lane` of this port waits for another port's buffers. */
  waiting(port: SwitchPort, lane: number): boolean {
    return (this.#state(port)?.waits[lane] ?? null) !== null;
  }

  /** Milliseconds until the first receiver that this port waits for counts as stalled; undefined when it waits for none. */
  waitLeftMs(port: SwitchPort): number | undefined {
    let left: number | undefined;
    for (const target of this.#state(port)?.waits ?? []) {
      if (target === null || target.waitedSince < 0) continue;
      const ms = Math.max(0, Math.ceil(target.waitedSince + this.#holdMs - this.#now()));
      if (left === undefined || ms < left) left = ms;
    }
    return left;
  }

  #state(port: SwitchPort): PortState | undefined {
    return this.#states.get(port);
  }
}

function waitsFor(state: PortState, port: SwitchPort): boolean {
  for (let lane = 0; lane < state.waits.length; lane++) {
    if (state.waits[lane]?.port === port) return true;
  }
  return false;
}
