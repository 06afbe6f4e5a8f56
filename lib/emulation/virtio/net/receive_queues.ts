/**
 * The receive queues of a network device: which of them gets a frame, and what is to be published or was too short.
 *
 * @module
 */
import { ETHERNET_HEADER_BYTES, NET_HDR_BYTES, netQueues } from "../../../virtio/spec/net.ts";
import type { DeviceCore } from "../../device_model.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";
import type { LegacyFraming } from "../queue/legacy_framing.ts";
import type { FlowTable } from "./flow.ts";
import type { NetFrame } from "./frame.ts";
import type { FrameBurst } from "./frame_burst.ts";
import { FRAMES_TOGETHER, NetReceiver } from "./receiver.ts";
import type { NetSettings } from "./settings.ts";
import { DELIVERY } from "./switch_port.ts";
import { VLAN_TAG_BYTES } from "./transmitter.ts";

const RULE = "virtio 1.2 §5.1.6.3";

/** Of one device. */
export class ReceiveQueues {
  readonly #settings: NetSettings;
  readonly #flows: FlowTable;
  readonly #framing: LegacyFraming;
  readonly #receiver: NetReceiver;
  /** Receive queues with elements that are not published. */
  readonly #unpublished: Uint8Array;
  /** Buffers that a receive queue had when they were too few; −1: it was not short since. */
  readonly #short: Int32Array;
  // Of a burst: the pair of each frame; by pair, frames for it, buffers taken for them, and buffers filled.
  readonly #pairOf = new Uint16Array(FRAMES_TOGETHER);
  readonly #wanted: Uint16Array;
  readonly #taken: Uint16Array;
  readonly #filled: Uint16Array;
  #core: DeviceCore | null = null;

  // Of the running driver.
  #mergeable = false;
  #headerBytes = NET_HDR_BYTES;
  /** Bytes of the longest frame that it takes, VLAN tag apart. */
  #longestBytes = Infinity;

  /** @param queueSize entries of the largest one */
  constructor(settings: NetSettings, flows: FlowTable, framing: LegacyFraming, queueSize: number) {
    this.#settings = settings;
    this.#flows = flows;
    this.#framing = framing;
    this.#receiver = new NetReceiver(queueSize);
    this.#unpublished = new Uint8Array(settings.maxPairs);
    this.#wanted = new Uint16Array(settings.maxPairs);
    this.#taken = new Uint16Array(settings.maxPairs);
    this.#filled = new Uint16Array(settings.maxPairs);
    this.#short = new Int32Array(settings.maxPairs).fill(-1);
  }

  /** The device has its place. */
  connect(core: DeviceCore): void {
    this.#core = core;
  }

  /** Lets go of it. */
  close(): void {
    this.#core = null;
  }

  /** A driver is ready. @param headerBytes of its virtio header @param mtu that it agreed to @param mergeable MRG_RXBUF was negotiated */
  start(headerBytes: number, mtu: number | undefined, mergeable: boolean): void {
    this.#headerBytes = headerBytes;
    this.#longestBytes = mtu === undefined ? Infinity : mtu + ETHERNET_HEADER_BYTES;
    this.#mergeable = mergeable;
  }

  /** Nothing was delivered, and none was too short. */
  forget(): void {
    this.#unpublished.fill(0);
    this.#short.fill(-1);
  }

  /** A driver has made some available. */
  get haveBuffers(): boolean {
    for (let pair = 0; pair < this.#short.length; pair++) {
      if ((this.#core?.queue(netQueues(pair).receive)?.available(1) ?? 0) > 0) return true;
    }
    return false;
  }

  /** There are more receive buffers than when they last were too few. */
  get hasRoom(): boolean {
    const core = this.#core;
    if (core === null) return false;
    let short = false;
    for (let pair = 0; pair < this.#short.length; pair++) {
      const had = this.#short[pair]!;
      if (had < 0) continue;
      short = true;
      const queue = core.queue(2 * pair);
      if (queue === undefined ? !core.paused?.(2 * pair) : queue.available(had + 1) > had) return true;
    }
    return !short;
  }

  /** Asks for notifications of more buffers where they were too few. @returns true when there are some already */
  arm(): boolean {
    let work = false;
    for (let pair = 0; pair < this.#short.length; pair++) {
      const short = this.#short[pair]!;
      if (short >= 0 && this.#core?.queue(2 * pair)?.arm(short)) work = true;
    }
    return work;
  }

  /**
   * Puts a frame into a receive queue. @returns one of `DELIVERY`
   * Steering: the pair that the driver last sent the same flow on; a flow that it never sent on goes to pair `flow mod pairs`. A pair whose
   * receive queue is being reset or disabled gives way to the next one that is not. With all of them disabled the device is one without buffers.
   */
  deliver(frame: NetFrame): number {
    const core = this.#core;
    if (core === null) return DELIVERY.notReceiving;
    // The standard leaves out a VLAN tag, which is part of the low-level header.
    const tag = frame.tagged ? VLAN_TAG_BYTES : 0;
    if (frame.lengthBytes > this.#longestBytes + tag) return DELIVERY.tooLong;
    const pairs = this.#settings.activePairs;
    let pair = pairs > 1 ? this.#flows.pairOf(frame.flow, pairs) : 0;
    let paused = false;
    for (let tries = 0; tries < pairs; tries++) {
      const queue = core.queue(2 * pair);
      if (queue !== undefined) return this.#deliverTo(queue, pair, frame);
      if (core.paused?.(2 * pair)) {
        paused = true;
        this.#short[pair] = 0;
      }
      pair = (pair + 1) % pairs;
    }
    return paused ? DELIVERY.noRoom : DELIVERY.notReceiving;
  }

  #deliverTo(queue: DeviceQueue, pair: number, frame: NetFrame): number {
    const receiver = this.#receiver;
    const outcome = receiver.deliver(queue, frame, this.#mergeable, this.#headerBytes, this.#framing);
    if (outcome === DELIVERY.delivered) this.#received(queue, pair);
    else if (outcome === DELIVERY.noRoom) this.#short[pair] = receiver.buffersFound;
    else if (receiver.problem !== undefined) {
      this.#core?.violation(RULE, receiver.problem, queue.index);
    }
    return outcome;
  }

  /** Puts frames that go together into receive queues, as far as each goes its plain way. @returns how many */
  deliverBurst(frames: FrameBurst, from: number, count: number): number {
    const core = this.#core;
    if (core === null || frames.headerBytes !== this.#headerBytes || this.#framing.watches) return 0;
    if (frames.longestBytes > this.#longestBytes) return 0;
    const pairs = this.#settings.activePairs;
    if (pairs > 1) return this.#deliverByPair(core, frames, from, count, pairs);
    const queue = core.queue(0);
    if (queue === undefined) return 0;
    const taken = this.#receiver.take(queue, 0, count);
    const filled = this.#receiver.fill(0, 0, frames, from, taken);
    this.#receiver.give(queue, 0, taken, filled);
    if (filled > 0) this.#received(queue, 0);
    return filled;
  }

  /** The same with several pairs: flows that alternate are still one burst for each queue. */
  #deliverByPair(core: DeviceCore, frames: FrameBurst, from: number, count: number, pairs: number): number {
    const receiver = this.#receiver, wanted = this.#wanted, taken = this.#taken, filled = this.#filled;
    const pairOf = this.#pairOf;
    wanted.fill(0, 0, pairs);
    for (let i = 0; i < count; i++) {
      const pair = this.#flows.pairOf(frames.flow(from + i), pairs);
      pairOf[i] = pair;
      wanted[pair]!++;
    }
    for (let pair = 0; pair < pairs; pair++) {
      filled[pair] = taken[pair] = 0;
      const queue = wanted[pair] === 0 ? undefined : core.queue(2 * pair);
      if (queue !== undefined) taken[pair] = receiver.take(queue, pair, wanted[pair]!);
    }
    // One of the queues was found broken, and the device was stopped for it.
    if (!core.live) return 0;
    let done = 0;
    while (done < count) {
      const pair = pairOf[done]!;
      let together = 1;
      while (done + together < count && pairOf[done + together] === pair) together++;
      const most = Math.min(together, taken[pair]! - filled[pair]!);
      const went = receiver.fill(pair, filled[pair]!, frames, from + done, most);
      filled[pair]! += went;
      done += went;
      // Of those behind none may go first: they stay in their queue, in their order.
      if (went < together) break;
    }
    for (let pair = 0; pair < pairs; pair++) {
      const queue = taken[pair] === 0 ? undefined : core.queue(2 * pair);
      if (queue === undefined) continue;
      receiver.give(queue, pair, taken[pair]!, filled[pair]!);
      if (filled[pair]! > 0) this.#received(queue, pair);
    }
    return done;
  }

  #received(queue: DeviceQueue, pair: number): void {
    this.#unpublished[pair] = 1;
    this.#short[pair] = -1;
    // New buffers are looked for when a frame comes; only a sender that waits needs to be told of them.
    queue.suppress();
  }

  /** Publishes what was delivered. */
  flush(): void {
    for (let pair = 0; pair < this.#short.length; pair++) {
      if (this.#unpublished[pair] === 0) continue;
      this.#unpublished[pair] = 0;
      this.#core?.queue(netQueues(pair).receive)?.publish();
    }
  }
}
