/**
 * A ring as a front end set it up, and the queue of the device while it runs.
 *
 * @module
 */
import type { EventFd } from "../../../../../ffi/mod.ts";
import { ProtocolError, RingsideError } from "../../../../errors/mod.ts";
import type { ServedVring, VringAddresses } from "../../../../sockets/vhost_user/server/served_device.ts";
import { PACKED_BASE } from "../../../../sockets/vhost_user/protocol.ts";
import {
  type QueueState,
  queueStateFromWords,
  queueStateToWords,
} from "../../../../virtio/spec/queue_state.ts";
import { QUEUE_SIZE_MAX } from "../../../../virtio/spec/ring.ts";
import { ringBytes } from "../../../../virtio/view/ring_image.ts";
import { FEATURE } from "../../../../virtio/spec/features.ts";
import type { CoreQueue } from "../../core/queue.ts";
import type { DeviceQueue } from "../../queue/device_queue.ts";
import { Dropping } from "./dropping.ts";

/** Rule of what a front end must not do. */
export const VHOST_USER_RULE = "vhost-user";

/** What a ring asks of its device. */
export interface VringDevice {
  /** Features in force; 0 while there are none. */
  readonly negotiatedFeatures: bigint;
  /** Guest address of a user address; undefined where the front end has no such memory. */
  guestAddress(userAddress: bigint, length: number): bigint | undefined;
  /** It was started, stopped, enabled or disabled: whether it runs is the device's to say. */
  changed(): void;
  /** Watches a kick. */
  watchKick(kick: EventFd, queue: number): void;
  /** Watches it no more. */
  unwatchKick(kick: EventFd): void;
}

/** See the module. */
export class Vring implements ServedVring {
  readonly #queue: CoreQueue;
  readonly #device: VringDevice;
  #size = 0;
  #base = 0;
  #addresses: VringAddresses | null = null;
  #kick: EventFd | null = null;
  #call: EventFd | null = null;
  #err: EventFd | null = null;
  /** Its kick was set, and it was not stopped since. */
  started = false;
  /** It may run. */
  enabled = false;
  /** Its front end has turned it off, and not only not turned it on yet. */
  disabled = false;
  /** It is the view's, which drops what comes, and not the device's. */
  #dropping: Dropping | null = null;

  /** As a front end finds it. */
  constructor(queue: CoreQueue, device: VringDevice) {
    this.#queue = queue;
    this.#device = device;
  }

  /** Nobody will say when there are chains: they have to be looked for. */
  get polled(): boolean {
    return this.#kick === null && this.#ring !== undefined;
  }

  /** That of the queue while it is in use, by the device or by this object. */
  get #ring(): DeviceQueue | undefined {
    return this.#dropping?.ring ?? this.#queue.ring;
  }

  // ---- ServedVring ----

  setSize(entries: number): void {
    this.#mustRest("its size");
    if (entries < 1 || entries > QUEUE_SIZE_MAX) {
      throw this.#wrong(`${entries} entries: 1 to ${QUEUE_SIZE_MAX} can be`);
    }
    this.#size = entries;
  }

  setAddresses(addresses: VringAddresses): void {
    this.#addresses = addresses;
    this.moved();
  }

  setBase(base: number): void {
    this.#mustRest("its base");
    this.#base = base;
  }

  setKick(kick: EventFd | null): void {
    this.#dropKick();
    this.#kick = kick;
    if (kick !== null) this.#device.watchKick(kick, this.#queue.index);
    this.started = true;
    this.#device.changed();
  }

  setCall(call: EventFd | null): void {
    this.#call?.close();
    this.#call = call;
  }

  setErr(err: EventFd | null): void {
    this.#err?.close();
    this.#err = err;
  }

  setEnabled(enabled: boolean): void {
    this.enabled = enabled;
    this.disabled = !enabled;
    this.#device.changed();
  }

  stop(): number {
    this.started = false;
    this.rest();
    this.#dropKick();
    this.#device.changed();
    return this.#base;
  }

  // ---- the device's side ----

  /** Makes the queue run, unless it does. @throws ProtocolError when what the front end said describes no ring */
  run(): void {
    const queue = this.#queue;
    if (this.#dropping !== null) this.rest();
    if (queue.ring !== undefined) return;
    const size = this.#size;
    const problem = queue.sizeProblem(size);
    if (problem !== undefined) throw this.#wrong(`a size of ${size} is ${problem}`);
    const state = this.#state(size);
    this.#places(size).forEach((address, area) => queue.place(area as 0 | 1 | 2, address));
    queue.size = size;
    // A split ring goes on where its used index says: devices here hold no chain between two turns. The base says the same, but for front ends that
    // say 0 to a back end that takes the place of one that is gone (DPDK's, which listens); DPDK's and QEMU's back ends go by the used index, too.
    const left = state.layout === "split";
    if (left) queue.forgetState();
    else queue.restoreState(state);
    queue.makeRing(this.#device.negotiatedFeatures, left);
  }

  /** Takes the running queue away from the device: what comes is dropped from now on. @throws as `run` */
  drop(): void {
    if (this.#dropping !== null) return;
    this.run();
    const { ring } = this.#queue;
    if (ring === undefined) return;
    this.#dropping = new Dropping(ring);
    this.#queue.ring = undefined;
  }

  /** Drops at most `budget` chains. @returns how many */
  dropSome(budget: number): number {
    return this.#dropping?.drop(budget) ?? 0;
  }

  /** Asks for notifications of what is to be dropped. @returns true when there is something already */
  armDropping(): boolean {
    return this.#dropping?.ring.arm() ?? false;
  }

  /** What comes is dropped. */
  get drops(): boolean {
    return this.#dropping !== null;
  }

  /** Makes the queue rest, which keeps its place. */
  rest(): void {
    const ring = this.#ring;
    if (ring === undefined) return;
    this.#queue.ring = ring;
    this.#dropping = null;
    const { available, used } = queueStateToWords(ring.state());
    this.#base = ring.layout === "split" ? available : available + used * 2 ** PACKED_BASE.usedIndexShift;
    this.#queue.disable();
  }

  /** Its areas may be elsewhere now: it goes on there. @throws ProtocolError when they are nowhere; then it rests */
  moved(): void {
    const queue = this.#queue;
    if (this.#ring === undefined) return;
    const before = [queue.descriptorArea, queue.driverArea, queue.deviceArea];
    try {
      if (this.#places(queue.size).every((address, area) => address === before[area])) return;
    } catch (error) {
      this.rest();
      throw error;
    }
    const { drops } = this;
    this.rest();
    if (drops) this.drop();
    else this.run();
  }

  /** Signals used buffers. */
  interrupt(): void {
    this.#call?.signal();
  }

  /** Signals that the device stopped. */
  fail(): void {
    if (this.started) this.#err?.signal();
  }

  /** To the state of a device that was reset: what its front end listens to stays. */
  reset(): void {
    this.#dropKick();
    this.started = this.enabled = this.disabled = false;
    this.#dropping = null;
    this.#size = this.#base = 0;
    this.#addresses = null;
  }

  /** The front end is gone. */
  forget(): void {
    this.reset();
    this.setCall(null);
    this.setErr(null);
  }

  #dropKick(): void {
    if (this.#kick === null) return;
    this.#device.unwatchKick(this.#kick);
    this.#kick.close();
    this.#kick = null;
  }

  #mustRest(what: string): void {
    if (this.#ring !== undefined) throw this.#wrong(`${what} was set while it runs`);
  }

  /** Where it goes on. */
  #state(size: number): QueueState {
    const layout = this.#packed ? "packed" : "split";
    const [available, said] = [this.#base & 0xffff, Math.floor(this.#base / 2 ** PACKED_BASE.usedIndexShift)];
    // DPDK says the available half alone. Nothing is in flight when a ring stops, so the halves are alike.
    const used = layout === "packed" && said === 0 ? available : said;
    if (layout === "split" && used !== 0) throw this.#wrong(`a base of ${this.#base} is no index of 16 bits`);
    try {
      return queueStateFromWords(layout, size, { available, used });
    } catch (error) {
      if (!(error instanceof RingsideError)) throw error;
      throw this.#wrong(`base 0x${this.#base.toString(16)}: ${error.message}`);
    }
  }

  /** Guest addresses of descriptor, driver and device area. */
  #places(size: number): bigint[] {
    const addresses = this.#addresses;
    if (addresses === null) throw this.#wrong("it was started without addresses");
    const eventIndex = (this.#device.negotiatedFeatures & FEATURE.EVENT_IDX) !== 0n;
    const bytes = ringBytes({ layout: this.#packed ? "packed" : "split", size, eventIndex });
    const areas = [
      ["descriptor", bytes.descriptorArea],
      ["available", bytes.driverArea],
      ["used", bytes.deviceArea],
    ] as const;
    return areas.map(([name, length]) => {
      const found = this.#device.guestAddress(addresses[name], length);
      if (found !== undefined) return found;
      throw this.#wrong(
        `its ${name} area, ${length} bytes at user address 0x${
          addresses[name].toString(16)
        }, lies in no region of memory`,
      );
    });
  }

  get #packed(): boolean {
    return (this.#device.negotiatedFeatures & FEATURE.RING_PACKED) !== 0n;
  }

  #wrong(text: string): ProtocolError {
    return new ProtocolError(`ring ${this.#queue.index}: ${text}`);
  }
}
