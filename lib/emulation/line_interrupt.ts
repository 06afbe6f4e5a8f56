/**
 * A level-triggered interrupt line, as a VFIO user has it: an eventfd, and automasking.
 *
 * @module
 */
import type { EventFd } from "../../ffi/mod.ts";
import { IRQ_FLAG, type IrqInfo } from "../vfio/device.ts";
import type { ServedIrqRequest } from "../sockets/vfio_user/server/served_device.ts";

/** Who hears of the line, and whether it is told again. */
export class LineInterrupt {
  /** How often somebody was told. */
  signals = 0;
  #eventFd: EventFd | null = null;
  #enabled = false;
  #asserted = false;
  #masked = false;
  #held = false;
  #resample: EventFd | null = null;
  readonly #onResampleChange: (before: EventFd | null, now: EventFd | null) => void;

  /**
   * Off, and deasserted.
   * @param onResampleChange the eventfd that unmasks it changed: watch the new one and call `resampled` when it is signalled
   */
  constructor(onResampleChange: (before: EventFd | null, now: EventFd | null) => void) {
    this.#onResampleChange = onResampleChange;
  }

  /** Its level. */
  get asserted(): boolean {
    return this.#asserted;
  }

  /** `vfio_irq_info`. */
  info(index: number): IrqInfo {
    return { index, flags: IRQ_FLAG.eventfd | IRQ_FLAG.maskable | IRQ_FLAG.automasked, count: 1 };
  }

  /** Drives it. */
  setLevel(asserted: boolean): void {
    this.#asserted = asserted;
    if (asserted) this.#tell();
  }

  /** Nobody is told while it is held back (PCI: Interrupt Disable). */
  hold(held: boolean): void {
    this.#held = held;
    this.#tell();
  }

  /** SET_IRQS of its index; takes ownership of the eventfds. */
  set(request: ServedIrqRequest): void {
    switch (request.action) {
      case "trigger": {
        const before = this.#eventFd;
        this.#eventFd = request.eventFds[0] ?? null;
        before?.close();
        // An exchange of the eventfd keeps the mask, a first one starts unmasked (vfio_pci_intrs.c).
        if (!this.#enabled) this.#masked = false;
        this.#enabled = true;
        this.#tell();
        return;
      }
      case "disable":
        return this.#disable();
      case "fire":
        if (this.#eventFd !== null) this.#signal(this.#eventFd);
        return;
      case "mask":
        this.#masked = true;
        return;
      case "unmask":
        return this.unmask();
      case "unmask-on": {
        const before = this.#resample;
        this.#resample = request.eventFd;
        this.#onResampleChange(before, this.#resample);
        before?.close();
      }
    }
  }

  /** The user handled it: if it is still asserted, it is told again. */
  unmask(): void {
    this.#masked = false;
    this.#tell();
  }

  /** The eventfd that unmasks it was signalled. */
  resampled(): void {
    if (this.#resample === null || this.#resample.closed) return;
    if (this.#resample.take() > 0) this.unmask();
  }

  /** Deasserted and unmasked. Eventfds stay, as with the kernel. */
  reset(): void {
    this.#asserted = false;
    this.#masked = false;
  }

  /** The client is gone: closes its eventfds. */
  detach(): void {
    this.#disable();
    this.reset();
  }

  #disable(): void {
    const resample = this.#resample;
    this.#resample = null;
    if (resample !== null) {
      this.#onResampleChange(resample, null);
      resample.close();
    }
    this.#eventFd?.close();
    this.#eventFd = null;
    this.#enabled = false;
    this.#masked = false;
  }

  #tell(): void {
    if (!this.#asserted || this.#masked || this.#held || this.#eventFd === null) return;
    // Masked until the user says that it looked: a level that stays up must not signal without end.
    this.#masked = true;
    this.#signal(this.#eventFd);
  }

  #signal(eventFd: EventFd): void {
    this.signals++;
    eventFd.signal();
  }
}
