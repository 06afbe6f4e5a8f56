/**
 * The doorbell of a queue, wherever it lies.
 *
 * @module
 */
import type { Parcel } from "../../../ffi/mod.ts";
import { ClosedError } from "../../errors/mod.ts";
import type { BarDoorbell } from "../../vfio/doorbell.ts";
import type { Doorbell, LentDoorbell } from "./transport.ts";

/** Where a notification is written to; one that can be lent where it can be written to by another thread. */
export type DoorbellRegister = Pick<BarDoorbell, "write" | "lend">;

/** What a queue's doorbell is given: its identifier, or with NOTIFICATION_DATA 32 bits (reference 1.6). */
export class QueueDoorbell implements Doorbell {
  readonly #register: DoorbellRegister;
  readonly #identifier: number;
  readonly #withData: boolean;
  readonly #holder: { readonly closed: boolean; readonly name: string };

  /** @param identifier queue index, or what the device gave with NOTIF_CONFIG_DATA */
  constructor(
    register: DoorbellRegister,
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

  lend(parcel: Parcel): LentDoorbell | undefined {
    const [identifier, withData] = [this.#identifier, this.#withData];
    const register = this.#register.lend?.(parcel, withData ? undefined : identifier);
    return register && { identifier, withData, register };
  }
}
