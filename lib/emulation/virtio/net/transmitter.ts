/**
 * Takes frames out of transmit queues, and gives them to the switch (virtio 1.2 §5.1.6.2).
 *
 * @module
 */
import { ETHERNET_HEADER_BYTES, NET_HDR_BYTES } from "../../../virtio/spec/net.ts";
import type { DeviceCore } from "../../device_model.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";
import type { LegacyFraming } from "../queue/legacy_framing.ts";
import type { FlowTable } from "./flow.ts";
import { NetFrame } from "./frame.ts";
import { FrameBurst } from "./frame_burst.ts";
import { FRAMES_TOGETHER } from "./receiver.ts";
import type { NetSettings } from "./settings.ts";
import type { NetSwitch } from "./switch.ts";
import { COUNTER, type SwitchPort } from "./switch_port.ts";

/** The standard leaves it out of the MTU: it is part of the low-level header. */
export const VLAN_TAG_BYTES = 4;
const RULE = "virtio 1.2 §5.1.6.2";
/** Frames after which both drivers see what has been sent, while there is more: they go on with these while the next are copied. */
const SHOWN_TOGETHER = 32;

/** What one device needs to send, made once. */
export class NetTransmitter {
  /** Its link is up. */
  linkUp = true;
  readonly #port: SwitchPort;
  readonly #net: NetSwitch;
  readonly #settings: NetSettings;
  readonly #flows: FlowTable;
  readonly #framing: LegacyFraming;
  readonly #frame: NetFrame;
  readonly #frames = new FrameBurst(FRAMES_TOGETHER);

  // Of the running driver.
  #core: DeviceCore | null = null;
  #mtu: number | undefined;
  #headerBytes = NET_HDR_BYTES;

  /** Of one device. @param queueSize entries of the largest transmit queue */
  constructor(
    port: SwitchPort,
    net: NetSwitch,
    settings: NetSettings,
    flows: FlowTable,
    framing: LegacyFraming,
    queueSize: number,
  ) {
    this.#port = port;
    this.#net = net;
    this.#settings = settings;
    this.#flows = flows;
    this.#framing = framing;
    this.#frame = new NetFrame(queueSize);
  }

  /** A driver is ready. @param headerBytes of its virtio header @param mtu that it agreed to */
  start(core: DeviceCore, headerBytes: number, mtu: number | undefined): void {
    this.#core = core;
    this.#headerBytes = this.#frames.headerBytes = headerBytes;
    this.#mtu = mtu;
  }

  /** Goes on with the transmit queue of a pair. @returns frames taken */
  transmit(queue: DeviceQueue, pair: number, budget: number): number {
    const { burst } = this.#frames;
    let moved = 0, unpublished = 0;
    while (moved < budget) {
      const count = queue.popBurst(burst, Math.min(budget - moved, SHOWN_TOGETHER - unpublished), false);
      let sent = 1;
      if (count > 0) {
        this.#frames.loaded();
        if (moved === 0) queue.suppress();
        sent = this.#sendBurst(queue, pair, count);
        if (sent > 0) queue.pushBurst(burst, sent);
      } else if (!this.#sendChain(queue, pair)) break;
      moved += sent;
      unpublished += sent;
      if (sent < count) break;
      if (unpublished < SHOWN_TOGETHER) continue;
      this.#publish(queue);
      unpublished = 0;
    }
    if (unpublished > 0) this.#publish(queue);
    return moved;
  }

  /** A sender must not learn that a frame was sent before its receiver can find it: what is seen of the rings at any instant, a frame is with the sender, with the receiver, or with both. */
  #publish(queue: DeviceQueue): void {
    this.#net.flush();
    queue.publish();
  }

  /** The next chain, whatever it is made of. @returns false when there is none, or it must stay, or the device was stopped for it */
  #sendChain(queue: DeviceQueue, pair: number): boolean {
    const { chain } = this.#frame;
    const id = queue.pop(chain);
    if (id < 0) return false;
    queue.suppress();
    switch (this.#send(queue.index, pair)) {
      case SENT:
        queue.pushUsed(id, 0);
        return true;
      case STAYS:
        queue.unpop();
        return false;
      default:
        return false;
    }
  }

  /** Chains that were popped together. @returns how many were sent; those behind are in the queue again, but for one that the device was stopped for */
  #sendBurst(queue: DeviceQueue, pair: number, count: number): number {
    const frames = this.#frames, { burst } = frames;
    const mostBytes = this.#mtu === undefined ? Infinity : this.#mtu + ETHERNET_HEADER_BYTES;
    const plain = this.linkUp && !this.#framing.watches;
    let sent = 0;
    while (sent < count) {
      let run = plain ? frames.run(sent, count, mostBytes) : 0;
      let alone = run === 0;
      while (run > 0 && !alone) {
        const went = this.#sendRun(pair, sent, run);
        // Whose first does not go the plain way, the others mostly do not either.
        alone = went === 0;
        sent += went;
        run -= went;
      }
      for (let left = alone ? Math.max(run, 1) : 0; left > 0; left--) {
        this.#frame.chain.single(
          burst.ids[sent]!,
          burst.regions[sent]!,
          burst.offsets[sent]!,
          burst.lengths[sent]!,
          false,
        );
        const outcome = this.#send(queue.index, pair);
        if (outcome === SENT) {
          sent++;
          continue;
        }
        const kept = outcome === STAYS ? sent : sent + 1;
        for (let left = count; left > kept; left--) queue.unpop();
        return sent;
      }
    }
    return sent;
  }

  #sendRun(pair: number, from: number, count: number): number {
    const frames = this.#frames;
    const went = this.#net.forwardBurst(this.#port, pair, frames, from, count);
    if (went > 0 && this.#settings.activePairs > 1) {
      for (let i = from; i < from + went; i++) this.#flows.note(frames.flow(i), pair);
    }
    return went;
  }

  /** Sends the frame in `#frame.chain`. @returns one of `SENT`, `STAYS`, `STOPPED` */
  #send(queue: number, pair: number): number {
    const frame = this.#frame;
    frame.load(this.#headerBytes);
    if (!this.#check(frame, queue)) return STOPPED;
    this.#framing.transmit(frame.chain, queue, this.#headerBytes);
    if (frame.lengthBytes < ETHERNET_HEADER_BYTES) this.#count(COUNTER.runt);
    else if (!this.linkUp) this.#count(COUNTER.linkDown);
    else {
      if (this.#settings.activePairs > 1) this.#flows.note(frame.flow, pair);
      if (!this.#net.forward(this.#port, pair, frame)) return STAYS;
    }
    return SENT;
  }

  /** What a driver must not send. @returns false when the device was stopped for it */
  #check(frame: NetFrame, queue: number): boolean {
    const { chain } = frame;
    const mtu = this.#mtu;
    let problem: string | undefined;
    if (chain.writableBytes > 0) problem = "a transmit buffer is device-writable";
    else if (frame.lengthBytes < 0) problem = `${chain.readableBytes} bytes hold no virtio_net_hdr`;
    else if (frame.flags !== 0) problem = `flags 0x${frame.flags.toString(16)} without CSUM`;
    else if (frame.gsoType !== 0) {
      problem = `gso_type 0x${frame.gsoType.toString(16)} without segmentation offload`;
    } else if (mtu !== undefined) {
      const most = mtu + ETHERNET_HEADER_BYTES + (frame.tagged ? VLAN_TAG_BYTES : 0);
      if (frame.lengthBytes > most) problem = `a frame of ${frame.lengthBytes} bytes, the MTU allows ${most}`;
    }
    if (problem === undefined) return true;
    this.#core?.violation(RULE, problem, queue);
    return false;
  }

  #count(counter: number): void {
    const { counters } = this.#port;
    counters[counter] = counters[counter]! + 1;
  }
}

// What became of a chain.
const SENT = 0;
/** Its receiver has no buffers. */
const STAYS = 1;
/** It breaks a rule. */
const STOPPED = 2;
