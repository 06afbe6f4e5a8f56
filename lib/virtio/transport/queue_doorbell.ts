/**
 * The doorbell of a queue, wherever it lies.
 *
 * @module
 */
import { ClosedError } from "../../errors/mod.ts";
import type { BarDoorbell } from "../../vfio/doorbell.ts";
import type { Doorbell } from "./transport.ts";

/** What a queue's doorbell is given: its identifier, or with NOTIFICATION_DATA 32 bits (reference 1.6). */
export class QueueDoorbell implements Doorbell {
  readonly #register: Pick<BarDoorbell, "write">;
  readonly #identifier: number;
  readonly #withData: boolean;
  readonly #holder: { readonly closed: boolean; readonly name: string };

  /** @param identifier queue index, or what the device gave with NOTIF_CONFIG_DATA */
  constructor(
    register: Pick<BarDoorbell, "write">,
    identifier: number,
    withData: boolean,
    holder: { readonly closed: boolean; readonly name: string },
  ) {
    this.#register = register;
    this.#identifier = identifier;
    this.#withData = withData;
    this.#holder = holder;
  }

  /** One write. @throws ClosedError */
  ring(nextOffset: number, nextWrap: number): void {
    if (this.#holder.closed) throw new ClosedError(this.#holder.name);
    this.#register.write(
      this.#withData
        ? (this.#identifier | ((nextOffset & 0x7fff) << 16) | (nextWrap << 31)) >>> 0
        : this.#identifier,
    );
  }
}
