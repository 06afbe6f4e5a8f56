/**
 * What the modern structures of a virtio function lie in: its BARs, and the doorbells in them.
 *
 * @module
 */
import { ClosedError } from "../../errors/mod.ts";
import { Bar } from "../../vfio/bar.ts";
import type { VfioDevice } from "../../vfio/device.ts";
import type { BarDoorbell } from "../../vfio/doorbell.ts";
import { COMMON_CFG, QUEUE_STATE_CFG } from "../spec/pci.ts";
import type { Doorbell } from "./transport.ts";

/** The BARs that hold the structures; one object for each. */
export class BarSet implements Disposable {
  readonly #device: VfioDevice;
  readonly #bars = new Map<number, Bar>();

  /** @param device an open function; stays the caller's */
  constructor(device: VfioDevice) {
    this.#device = device;
  }

  /** The BAR, made at first use. @throws UsageError when there is none */
  bar(index: number): Bar {
    let bar = this.#bars.get(index);
    if (bar === undefined) this.#bars.set(index, bar = new Bar(this.#device, index));
    return bar;
  }

  /** Unmaps all. */
  close(): void {
    for (const bar of this.#bars.values()) bar.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** `virtio_pci_common_cfg`, with the registers of profile `queue-state`. */
export const COMMON_REGISTERS = { ...COMMON_CFG, ...QUEUE_STATE_CFG } as const;

/** Doorbell of one queue: 16 bits of identifier, or 32 bits with NOTIFICATION_DATA (reference 1.6). */
export class QueueDoorbell implements Doorbell {
  readonly #register: BarDoorbell;
  readonly #identifier: number;
  readonly #withData: boolean;
  readonly #holder: { readonly closed: boolean; readonly name: string };

  /** @param identifier queue index, or what the device gave with NOTIF_CONFIG_DATA */
  constructor(
    register: BarDoorbell,
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
