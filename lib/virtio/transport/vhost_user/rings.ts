/**
 * The rings of a device behind vhost-user: what its driver has set up, and how far the back end was told of it.
 *
 * They are started with DRIVER_OK and stopped by a reset. A back end that is back is told of them where their drivers stand; what the one before had
 * taken and not returned is done again, by the file that it kept (INFLIGHT_SHMFD), or because it is offered again.
 *
 * @module
 */
import { EventFd } from "../../../../ffi/mod.ts";
import { ClosedError, DeviceError, UnsupportedError } from "../../../errors/mod.ts";
import type { FrontEndChannel } from "../../../sockets/vhost_user/client/channel.ts";
import type { VhostUserDevice } from "../../../sockets/vhost_user/client/device.ts";
import { PROTOCOL_FEATURE, VHOST_FEATURE } from "../../../sockets/vhost_user/protocol.ts";
import { initialQueueState, type QueueState } from "../../spec/queue_state.ts";
import { InflightFile } from "./inflight.ts";
import type { VhostUserRing } from "./ring.ts";
import type { VhostUserVectors } from "./vectors.ts";

/** See the module's text. */
export class VhostUserRings {
  readonly #device: VhostUserDevice;
  readonly #vectors: VhostUserVectors;
  readonly #rings = new Map<number, VhostUserRing>();
  /** Signalled by the back end for a ring that it cannot go on with. */
  readonly #error: EventFd;
  /**
   * Called for queues without a vector; nobody looks. A back end may be told that there is nobody to call (SET_VRING_CALL without a descriptor), but
   * libvhost-user calls all the same when the ring asks for it, and takes the failure for the end.
   */
  readonly #unheard: EventFd;
  #layout: QueueState["layout"] = "split";
  #failed = false;
  #inflight: InflightFile | undefined;

  /** None yet. Device and vectors stay their owner's. */
  constructor(device: VhostUserDevice, vectors: VhostUserVectors) {
    this.#device = device;
    this.#vectors = vectors;
    this.#error = new EventFd();
    this.#unheard = new EventFd();
  }

  /** One that was set up. */
  get(queue: number): VhostUserRing | undefined {
    return this.#rings.get(queue);
  }

  /** Sets one up; the back end does not hear of it yet. */
  add(ring: VhostUserRing): void {
    this.#rings.set(ring.index, ring);
  }

  /** Stops it, unless the back end has never heard of it, and forgets it. */
  remove(ring: VhostUserRing): void {
    const before = this.#device.returns;
    this.#rings.delete(ring.index);
    this.#vectors.bind(ring.index, null);
    this.#device.use((channel) => {
      if (ring.started && this.#device.returns === before) ring.stop(channel);
    });
    ring.kick.close();
  }

  /** Whether the back end has signalled an error of one since they were forgotten last. */
  get failed(): boolean {
    return this.#failed ||= this.#error.take() > 0;
  }

  /** Those that the back end serves. */
  get #served(): VhostUserRing[] {
    return [...this.#rings.values()].filter(({ own }) => own === undefined);
  }

  /** Rings begin disabled, and are enabled by message. */
  get #enables(): boolean {
    return (this.#device.features & VHOST_FEATURE.PROTOCOL_FEATURES) !== 0n;
  }

  /** Starts what is set up and not started. */
  start(layout: QueueState["layout"]): void {
    this.#layout = layout;
    const rings = this.#served.filter((ring) => !ring.started);
    this.#device.use((channel) => {
      this.#putInflight(channel);
      for (const ring of rings) this.#tell(channel, ring, initialQueueState(layout));
      channel.settle();
    });
    for (const ring of rings) ring.started = true;
  }

  /** A back end is back: it goes on where the one before stopped. @throws UnsupportedError for a queue whose driver cannot go on */
  startAgain(): void {
    const kept = this.#inflight !== undefined;
    const started = this.#served.filter((ring) => ring.started);
    this.#device.use((channel) => {
      this.#putInflight(channel);
      for (const ring of started) {
        // The one before left it untaken: a queue that is to be quiet yet would be served for it. `kickAll` notifies all that may be.
        ring.kick.take();
        const base = takeOver(this.#device.name, ring, !kept);
        if (base !== undefined) this.#tell(channel, ring, base);
      }
    });
  }

  /**
   * What one back end was told and could not do, another may do: notifies all that runs.
   * @param later those that nobody may notify before `until` is over: then they are, once, whoever wanted it meanwhile
   */
  kickAll(later: (queue: number) => boolean, until: Promise<unknown>): void {
    const { returns } = this.#device;
    const held = this.#served.filter(({ started, index }) => started && later(index));
    for (const ring of this.#served) {
      ring.held = held.includes(ring);
      if (ring.started && !ring.held) ring.kick.signal();
    }
    if (held.length === 0) return;
    until.then(() => {
      if (this.#device.returns !== returns + 1) return;
      for (const ring of held) {
        ring.held = false;
        if (!ring.kick.closed) ring.kick.signal();
      }
    });
  }

  /**
   * Forgets all. What a back end that is lost had is gone with it.
   * @returns stops those that were started: to be called once, unless another back end is there by then; each has an answer
   */
  forget(): (channel: FrontEndChannel) => void {
    const started = this.#served.filter((ring) => ring.started);
    for (const ring of this.#rings.values()) ring.kick.close();
    this.#rings.clear();
    this.#inflight?.[Symbol.dispose]();
    this.#inflight = undefined;
    this.#error.take();
    this.#failed = false;
    return (channel) => {
      for (const ring of started) ring.stop(channel);
    };
  }

  /** Turns so many queue pairs on, and the others off. Rings that the driver has not set up stay off. */
  setPairs(pairs: number): void {
    const rings = this.#served;
    for (const ring of rings) ring.on = ring.index < 2 * pairs;
    if (!this.#enables) return;
    this.#device.use((channel) => {
      for (const ring of rings) if (ring.started) ring.enable(channel);
      channel.settle();
    });
  }

  /** The queue has another vector, or none: the back end is told when it runs. */
  putCall(queue: number): void {
    const ring = this.#rings.get(queue);
    if (!ring?.started || this.#device.lost) return;
    this.#device.use((channel) => ring.setCall(channel, this.#callOf(ring)));
  }

  #callOf({ index }: VhostUserRing): EventFd {
    return this.#vectors.call(index) ?? this.#unheard;
  }

  #tell(channel: FrontEndChannel, ring: VhostUserRing, base: QueueState): void {
    ring.start(channel, base, this.#callOf(ring), this.#error, this.#enables);
  }

  /** That of packed rings is left alone: they are offered again. */
  #putInflight(channel: FrontEndChannel): void {
    const rings = this.#served;
    if (!this.#device.has(PROTOCOL_FEATURE.INFLIGHT_SHMFD) || this.#layout === "packed") return;
    if (rings.length === 0) return;
    const count = Math.max(...rings.map(({ index }) => index)) + 1;
    const size = Math.max(...rings.map(({ addresses }) => addresses.size));
    this.#inflight ??= InflightFile.ask(channel, count, size);
    this.#inflight?.put(channel);
  }

  /** Closes what they hold; nobody is told. */
  close(): void {
    for (const ring of this.#rings.values()) ring.kick.close();
    this.#inflight?.[Symbol.dispose]();
    this.#error.close();
    this.#unheard.close();
  }
}

/** @returns where the back end begins; undefined for a queue that is closed or broken, which stays stopped @throws UnsupportedError */
function takeOver(name: string, ring: VhostUserRing, offersAgain: boolean): QueueState | undefined {
  const { index, takeover } = ring;
  if (takeover === undefined) {
    throw new UnsupportedError(
      `${name}, queue ${index}: its driver cannot go on with a back end that came back`,
    );
  }
  try {
    return takeover(offersAgain);
  } catch (error) {
    if (error instanceof DeviceError || error instanceof ClosedError) return undefined;
    throw error;
  }
}
