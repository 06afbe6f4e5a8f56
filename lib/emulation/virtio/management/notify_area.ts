/**
 * Where queues of managed devices are notified: one place each in a BAR of their management function (N-4.17, A-4.28).
 *
 * @module
 */
import type { RegionArea } from "../../../vfio/device.ts";
import type { ModelNotifyArea } from "../../device_model.ts";
import type { CoreQueue } from "../core/queue.ts";
import { notificationProblem } from "../views/pci/doorbells.ts";
import type { ManagedDevice } from "./managed_device.ts";

/** Bytes of a place: 16 bits are written, with NOTIFICATION_DATA 32. */
export const PLACE_BYTES = 4;
/** Eventfds of all places together: a client takes 64 descriptors in one message, of which the transport virtqueue has one. */
const EVENTFDS = 60;
/** Places that have one, with others: the client is told of each, in one message. The others are written to as registers. */
const PLACES_WITH_EVENTFD = 1024;

interface Holder {
  readonly device: ManagedDevice;
  readonly queue: CoreQueue;
}

/** See the module. */
export class NotifyArea implements ModelNotifyArea {
  readonly sizeBytes: number;
  readonly doorbells: readonly (readonly RegionArea[])[];
  readonly #holders: (Holder | undefined)[];
  readonly #stray: (message: string) => void;

  /** Nobody's. @param places how many @param stray told of a notification that is for nobody */
  constructor(places: number, stray: (message: string) => void) {
    this.sizeBytes = PLACE_BYTES * places;
    this.#holders = new Array(places).fill(undefined);
    this.#stray = stray;
    this.doorbells = Array.from(
      { length: Math.min(places, EVENTFDS) },
      (_, first) => this.#sharing(first).map((place) => ({ offset: PLACE_BYTES * place, sizeBytes: 2 })),
    );
  }

  /** Places that share an eventfd. @param first the lowest of them */
  #sharing(first: number): number[] {
    const places: number[] = [];
    const end = Math.min(this.#holders.length, PLACES_WITH_EVENTFD);
    for (let place = first; place < end; place += EVENTFDS) places.push(place);
    return places;
  }

  /** From now on the places of its share are for its queues. */
  hold(device: ManagedDevice): void {
    device.share.places.forEach((place, i) => {
      this.#holders[place] = { device, queue: device.core.queues[i]! };
    });
  }

  /** They are nobody's again. */
  release({ share }: ManagedDevice): void {
    for (const place of share.places) this.#holders[place] = undefined;
  }

  written(offset: number, from: Uint8Array): void {
    const holder = this.#holders[Math.floor(offset / PLACE_BYTES)];
    if (holder === undefined) {
      this.#stray(`a notify address was written, ${offset} bytes from the first, that is no queue's`);
      return;
    }
    const { device: { core }, queue } = holder;
    const wrong = notificationProblem(queue, offset % PLACE_BYTES, from, core.negotiatedFeatures);
    if (wrong !== undefined) queue.report(wrong.rule, wrong.message);
    else core.notify(queue.index, from.length === 4 ? from[2]! | from[3]! << 8 : undefined);
  }

  /** Whichever of those that share the eventfd was meant: a notification too many does no harm. */
  rang(offset: number): void {
    for (const place of this.#sharing(offset / PLACE_BYTES)) this.#holders[place]?.device.wake();
  }
}
