/**
 * Interrupts of a served function, as a VFIO user has them: vectors delivered to eventfds, INTx with automasking.
 *
 * @module
 */
import type { EventFd } from "../../ffi/mod.ts";
import { UsageError } from "../errors/mod.ts";
import { MSIX_ENTRY_BYTES } from "../pci/capability/msix.ts";
import type { MsixShape } from "../pci/capability_builder.ts";
import { IRQ, IRQ_FLAG, type IrqInfo } from "../vfio/device.ts";
import type { ServedIrqRequest } from "../sockets/vfio_user/server/served_device.ts";

const NO_IRQ = (index: number): IrqInfo => ({ index, flags: 0, count: 0 });
const VECTOR_CONTROL = 12;

/**
 * Who is told about which interrupt, and what is still to be told.
 *
 * MSI-X goes where SET_IRQS said, as with the kernel: there the table belongs to the host, and what a user writes into it masks nothing. The
 * table is kept so that it reads back as written; the PBA shows vectors that were raised while nobody listened.
 */
export class FunctionInterrupts {
  readonly #vectors: number;
  readonly #pin: 0 | 1;
  readonly #table: Uint8Array<ArrayBuffer>;
  readonly #pba: Uint8Array<ArrayBuffer>;
  readonly #triggers: (EventFd | null)[];
  #triggersSet = false;
  #msixEnableBit = false;
  #busMaster = false;

  #intx: EventFd | null = null;
  #intxEnabled = false;
  #intxAsserted = false;
  #intxMasked = false;
  #intxDisableBit = false;
  #resample: EventFd | null = null;

  readonly #single: (EventFd | null)[] = [null, null];
  readonly #onResampleChange: (before: EventFd | null, now: EventFd | null) => void;

  /**
   * Everything off, nothing pending.
   * @param msix the function's MSI-X capability, if it has one
   * @param pin 1 when it has an INTx pin
   * @param onResampleChange the eventfd that unmasks INTx changed: watch the new one and call `unmaskIntx` when it is signalled
   */
  constructor(
    msix: MsixShape | undefined,
    pin: 0 | 1,
    onResampleChange: (before: EventFd | null, now: EventFd | null) => void = () => {},
  ) {
    this.#vectors = msix?.vectors ?? 0;
    this.#pin = pin;
    this.#table = new Uint8Array(this.#vectors * MSIX_ENTRY_BYTES);
    this.#pba = new Uint8Array(pbaBytes(this.#vectors));
    this.#triggers = new Array<EventFd | null>(this.#vectors).fill(null);
    this.#onResampleChange = onResampleChange;
    this.reset();
  }

  /** MSI-X is in use: INTx must not be. */
  get msixEnabled(): boolean {
    return this.#triggersSet || this.#msixEnableBit;
  }

  /** The vectors were set up by SET_IRQS: the Enable bit then reads 1, as the kernel sets it. */
  get msixTriggersSet(): boolean {
    return this.#triggersSet;
  }

  /** Level of the INTx line: bit 3 of the Status register. */
  get intxAsserted(): boolean {
    return this.#intxAsserted;
  }

  /** Table entry or PBA bit: true when the vector was raised and nobody was told. */
  pending(vector: number): boolean {
    return ((this.#pba[vector >> 3] ?? 0) & (1 << (vector & 7))) !== 0;
  }

  /** `vfio_irq_info`. */
  info(index: number): IrqInfo {
    if (index === IRQ.intx && this.#pin === 1) {
      return { index, flags: IRQ_FLAG.eventfd | IRQ_FLAG.maskable | IRQ_FLAG.automasked, count: 1 };
    }
    if (index === IRQ.msix && this.#vectors > 0) {
      return { index, flags: IRQ_FLAG.eventfd, count: this.#vectors };
    }
    if (index === IRQ.error || index === IRQ.request) {
      return { index, flags: IRQ_FLAG.eventfd | IRQ_FLAG.noResize, count: 1 };
    }
    return NO_IRQ(index);
  }

  /** SET_IRQS; takes ownership of the eventfds, also when it fails. @throws UsageError */
  set(index: number, request: ServedIrqRequest): void {
    const last = "eventFds" in request
      ? request.start + request.eventFds.length
      : "count" in request
      ? request.start + request.count
      : request.action === "unmask-on"
      ? request.start + 1
      : 0;
    if (last > this.info(index).count) {
      closeAll(request);
      throw new UsageError(`interrupt index ${index} has no vector ${last - 1}`);
    }
    switch (index) {
      case IRQ.intx:
        return this.#setIntx(request);
      case IRQ.msix:
        return this.#setMsix(request);
      case IRQ.error:
        return this.#setSingle(0, request);
      case IRQ.request:
        return this.#setSingle(1, request);
      default:
        // No vectors: turning the index off is all that can be asked.
        closeAll(request);
    }
  }

  /** Command and MSI-X control changed. What was held back is sent when it may be. */
  setControls(controls: { busMaster: boolean; intxDisable: boolean; msixEnable: boolean }): void {
    this.#busMaster = controls.busMaster;
    this.#msixEnableBit = controls.msixEnable;
    this.#intxDisableBit = controls.intxDisable;
    this.#sendPending();
    this.#tellIntx();
  }

  /** Sends a vector, or marks it pending. @returns true when it was delivered now. */
  raiseMsix(vector: number): boolean {
    if (vector < 0 || vector >= this.#vectors || !this.msixEnabled) return false;
    const trigger = this.#triggers[vector];
    if (trigger && this.#busMaster) {
      trigger.signal();
      return true;
    }
    this.#pba[vector >> 3]! |= 1 << (vector & 7);
    return false;
  }

  /** Drives the INTx line. */
  setIntxLevel(asserted: boolean): void {
    if (this.#pin === 0) return;
    this.#intxAsserted = asserted;
    if (asserted) this.#tellIntx();
  }

  /** The user handled INTx: if the line is still asserted, it is told again. */
  unmaskIntx(): void {
    this.#intxMasked = false;
    this.#tellIntx();
  }

  /** The eventfd that unmasks INTx was signalled. */
  resampled(): void {
    if (this.#resample === null || this.#resample.closed) return;
    if (this.#resample.take() > 0) this.unmaskIntx();
  }

  /** Asks the user to give the function back, as the kernel does before it unbinds vfio-pci. */
  requestRelease(): void {
    this.#single[1]?.signal();
  }

  /** Reads the MSI-X table. */
  readTable(offset: number, into: Uint8Array): void {
    into.set(this.#table.subarray(offset, offset + into.byteLength));
  }

  /** Writes the MSI-X table. Of the vector control word only the mask bit can be written. */
  writeTable(offset: number, from: Uint8Array): void {
    for (let i = 0; i < from.byteLength; i++) {
      const at = offset + i;
      const inEntry = at % MSIX_ENTRY_BYTES;
      if (inEntry > VECTOR_CONTROL) continue;
      // The two lowest bits of the message address are reserved; vector control has bit 0 alone.
      const mask = inEntry === VECTOR_CONTROL ? 1 : inEntry === 0 ? 0xfc : 0xff;
      this.#table[at] = from[i]! & mask;
    }
  }

  /** Reads the PBA; writes to it have no effect. */
  readPba(offset: number, into: Uint8Array): void {
    into.set(this.#pba.subarray(offset, offset + into.byteLength));
  }

  /** Reset of the function: nothing pending, INTx deasserted, table at its initial values. Eventfds stay, as with the kernel. */
  reset(): void {
    this.#pba.fill(0);
    this.#table.fill(0);
    for (let vector = 0; vector < this.#vectors; vector++) {
      this.#table[vector * MSIX_ENTRY_BYTES + VECTOR_CONTROL] = 1;
    }
    this.#intxAsserted = false;
    this.#intxMasked = false;
  }

  /** The client is gone: closes every eventfd. */
  detach(): void {
    this.#disableMsix();
    this.#disableIntx();
    this.#single.forEach((fd, i) => {
      fd?.close();
      this.#single[i] = null;
    });
    this.reset();
  }

  #setMsix(request: ServedIrqRequest): void {
    switch (request.action) {
      case "trigger":
        request.eventFds.forEach((fd, i) => {
          this.#triggers[request.start + i]?.close();
          this.#triggers[request.start + i] = fd;
        });
        this.#triggersSet = true;
        this.#sendPending();
        return;
      case "disable":
        return this.#disableMsix();
      case "fire":
        for (let i = 0; i < request.count; i++) this.#triggers[request.start + i]?.signal();
        return;
      default:
        closeAll(request);
        throw new UsageError("MSI-X vectors cannot be masked by SET_IRQS", {
          hint: "VFIO_IRQ_INFO_MASKABLE is not set",
        });
    }
  }

  #setIntx(request: ServedIrqRequest): void {
    switch (request.action) {
      case "trigger": {
        const before = this.#intx;
        this.#intx = request.eventFds[0] ?? null;
        before?.close();
        // An exchange of the eventfd keeps the mask, a first one starts unmasked (vfio_pci_intrs.c).
        if (!this.#intxEnabled) this.#intxMasked = false;
        this.#intxEnabled = true;
        this.#tellIntx();
        return;
      }
      case "disable":
        return this.#disableIntx();
      case "fire":
        this.#intx?.signal();
        return;
      case "mask":
        this.#intxMasked = true;
        return;
      case "unmask":
        return this.unmaskIntx();
      case "unmask-on": {
        const before = this.#resample;
        this.#resample = request.eventFd;
        this.#onResampleChange(before, this.#resample);
        before?.close();
      }
    }
  }

  #setSingle(slot: 0 | 1, request: ServedIrqRequest): void {
    if (request.action === "fire") {
      this.#single[slot]?.signal();
      return;
    }
    if (request.action !== "trigger" && request.action !== "disable") {
      closeAll(request);
      throw new UsageError("this interrupt cannot be masked");
    }
    if (request.action === "trigger" && request.eventFds.length === 0) return;
    this.#single[slot]?.close();
    this.#single[slot] = request.action === "trigger" ? request.eventFds[0] ?? null : null;
  }

  #disableMsix(): void {
    this.#triggers.forEach((fd, i) => {
      fd?.close();
      this.#triggers[i] = null;
    });
    this.#triggersSet = false;
    this.#pba.fill(0);
  }

  #disableIntx(): void {
    const resample = this.#resample;
    this.#resample = null;
    if (resample !== null) {
      this.#onResampleChange(resample, null);
      resample.close();
    }
    this.#intx?.close();
    this.#intx = null;
    this.#intxEnabled = false;
    this.#intxMasked = false;
  }

  #tellIntx(): void {
    if (!this.#intxAsserted || this.#intxMasked || this.#intxDisableBit || this.#intx === null) return;
    // Masked until the user says that it looked: a level that stays up must not signal without end.
    this.#intxMasked = true;
    this.#intx.signal();
  }

  #sendPending(): void {
    if (!this.#busMaster || !this.msixEnabled) return;
    for (let vector = 0; vector < this.#vectors; vector++) {
      const trigger = this.#triggers[vector];
      if (!trigger || !this.pending(vector)) continue;
      this.#pba[vector >> 3]! &= ~(1 << (vector & 7));
      trigger.signal();
    }
  }
}

/** Size of the PBA for this many vectors, in bytes: whole 64-bit words. */
export function pbaBytes(vectors: number): number {
  return Math.ceil(vectors / 64) * 8;
}

function closeAll(request: ServedIrqRequest): void {
  if (request.action === "trigger") { for (const fd of request.eventFds) fd?.close(); }
  if (request.action === "unmask-on") request.eventFd.close();
}
