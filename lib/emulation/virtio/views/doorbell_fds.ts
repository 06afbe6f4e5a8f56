/**
 * Eventfds that stand for notifications.
 *
 * @module
 */
import { EventFd } from "../../../../ffi/mod.ts";
import type { ServedDoorbell } from "../../../sockets/vfio_user/server/served_device.ts";

/** Where an eventfd stands for a write, and of what value if it is not any. */
export type DoorbellPlace = Omit<ServedDoorbell, "fd">;

/** Eventfds that stand for writes to places in one region, made when a client asks for them. */
export class DoorbellFds {
  readonly #places: readonly (readonly DoorbellPlace[])[];
  readonly #legacyAt: number | undefined;
  #list: ServedDoorbell[] = [];

  /**
   * None yet. @param places one eventfd for each list of them
   * @param legacyAt notify address of the legacy interface, if the function has one: the same again, told apart by what is written
   */
  constructor(places: readonly (readonly DoorbellPlace[])[], legacyAt?: number) {
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
      for (const place of shared) this.#list.push({ ...place, fd });
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
