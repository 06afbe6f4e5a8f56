/**
 * A register window that says where its doorbells were looked up, and can be told to leave eventfds alone.
 *
 * @module
 */
import type { DmaSpace } from "../../../lib/memory/mod.ts";
import type { RegisterSpace } from "../../../lib/registers/registers.ts";
import { AccessDoorbell, type BarDoorbell } from "../../../lib/vfio/doorbell.ts";
import type { VfioDevice } from "../../../lib/vfio/mod.ts";
import type { MsiAddresses } from "../../../lib/vfio/msi_addresses.ts";
import { type MmioWindow, platformWindow } from "../../../lib/virtio/mod.ts";
import type { Lifeline } from "../../../lib/wait/lifeline.ts";

/** One that was looked up. */
export interface WatchedDoorbell {
  readonly offset: number;
  readonly width: 2 | 4;
  readonly kind: BarDoorbell["kind"];
  /** What was written, in order. */
  readonly written: number[];
}

/** Everything else is the platform's window. */
export class WatchedWindow implements MmioWindow {
  readonly doorbells: WatchedDoorbell[] = [];
  readonly #device: VfioDevice;
  readonly #window: MmioWindow;
  readonly #eventFds: boolean;

  constructor(device: VfioDevice, eventFds: boolean) {
    this.#device = device;
    this.#window = platformWindow(device);
    this.#eventFds = eventFds;
  }

  get name(): string {
    return this.#window.name;
  }

  get dma(): DmaSpace {
    return this.#window.dma;
  }

  get closed(): boolean {
    return this.#window.closed;
  }

  get lifeline(): Lifeline | undefined {
    return this.#window.lifeline;
  }

  get space(): RegisterSpace {
    return this.#window.space;
  }

  get sizeBytes(): number {
    return this.#window.sizeBytes;
  }

  get interrupts(): MmioWindow["interrupts"] {
    return this.#window.interrupts;
  }

  get messages(): MsiAddresses | undefined {
    return this.#window.messages;
  }

  doorbell(
    offset: number,
    width: 2 | 4,
    options: { readonly value?: number } = {},
  ): Pick<BarDoorbell, "write"> {
    const made = this.#eventFds
      ? this.#window.doorbell(offset, width, options) as BarDoorbell
      : new AccessDoorbell(this.#device, 0, offset, width);
    const seen: WatchedDoorbell = { offset, width, kind: made.kind, written: [] };
    this.doorbells.push(seen);
    return {
      write: (value) => {
        seen.written.push(value);
        made.write(value);
      },
    };
  }

  close(): void {
    this.#window.close();
  }
}
