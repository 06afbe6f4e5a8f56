/**
 * Notifications of a virtio PCI function: eventfds that stand for them, and what a register write may say (virtio 1.2 §4.1.5.2; reference 1.6, 2.2).
 *
 * @module
 */
import { EventFd } from "../../../../../ffi/mod.ts";
import type { RegionArea } from "../../../../vfio/device.ts";
import type { ServedDoorbell } from "../../../../sockets/vfio_user/server/served_device.ts";
import { FEATURE } from "../../../../virtio/spec/features.ts";
import type { CoreQueue } from "../../core/queue.ts";
import { NOTIFY_AT, NOTIFY_MULTIPLIER } from "./layout.ts";

/** Eventfds that stand for writes to places in one BAR, made when a client asks for them. */
export class PciDoorbells {
  readonly #places: readonly (readonly RegionArea[])[];
  readonly #legacyAt: number | undefined;
  #list: ServedDoorbell[] = [];

  /**
   * None yet. @param places one eventfd for each list of them
   * @param legacyAt notify address of the legacy interface, if the function has one: the same again, told apart by what is written
   */
  constructor(places: readonly (readonly RegionArea[])[], legacyAt?: number) {
    this.#places = places;
    this.#legacyAt = legacyAt;
  }

  /** All of them. @throws SyscallError */
  list(): readonly ServedDoorbell[] {
    if (this.#list.length > 0) return this.#list;
    using opened = new DisposableStack();
    opened.defer(() => this.close());
    for (const shared of this.#places) {
      const fd = new EventFd();
      for (const { offset, sizeBytes } of shared) this.#list.push({ offset, sizeBytes, fd });
    }
    opened.move();
    const offset = this.#legacyAt;
    if (offset !== undefined) {
      this.#list.push(...this.#list.map(({ sizeBytes, fd }, value) => ({ offset, sizeBytes, fd, value })));
    }
    return this.#list;
  }

  /** Closes them; the next `list` makes others. */
  close(): void {
    for (const { fd } of this.#list) fd.close();
    this.#list = [];
  }
}

/** Places of the queues' doorbells: of the 2 bytes that drivers without NOTIFICATION_DATA write, since an eventfd would lose the data of the others. */
export function queueDoorbells(queueCount: number): readonly (readonly RegionArea[])[] {
  return Array.from({ length: queueCount }, (_, i) => [{
    offset: NOTIFY_AT + i * NOTIFY_MULTIPLIER,
    sizeBytes: 2,
  }]);
}

/** What is wrong with a notification of `queue` by register write; undefined when nothing is. @param offset from the queue's doorbell */
export function notificationProblem(
  { index, notifyData }: CoreQueue,
  offset: number,
  from: Uint8Array,
  negotiated: bigint,
): { readonly rule: string; readonly message: string } | undefined {
  const data = (negotiated & FEATURE.NOTIFICATION_DATA) !== 0n;
  const width = data ? 4 : 2;
  if (offset !== 0 || from.length !== width) {
    return { rule: "2.2", message: `notification of ${from.length} bytes: it must be ${width}` };
  }
  const named = from[0]! | from[1]! << 8;
  const own = (negotiated & FEATURE.NOTIF_CONFIG_DATA) !== 0n;
  if (named === (own ? notifyData : index)) return undefined;
  const what = own ? `identifier ${named}, its queue_notif_config_data is ${notifyData}` : `queue ${named}`;
  return {
    rule: data || own ? "1.6" : "2.2",
    message: `the doorbell of queue ${index} was rung for ${what}`,
  };
}
