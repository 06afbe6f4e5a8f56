/**
 * What the modern structures of a virtio function lie in: its BARs.
 *
 * @module
 */
import { Bar } from "../../vfio/bar.ts";
import type { VfioDevice } from "../../vfio/device.ts";
import { COMMON_CFG, QUEUE_STATE_CFG } from "../spec/pci.ts";

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
