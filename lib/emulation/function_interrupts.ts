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
import { LineInterrupt } from "./line_interrupt.ts";
import { closeEventFds, requestEnd, VectorEventFds } from "./vector_eventfds.ts";

const NO_IRQ = (index: number): IrqInfo => ({ index, flags: 0, count: 0 });
const VECTOR_CONTROL = 12;

/**
 * Who is told about which interrupt, and what is still to be told.
 *
 * MSI-X goes where SET_IRQS said, as with the kernel: there the table belongs to the host, and what a user writes into it masks nothing. The
 * table is kept so that it reads back as written; the PBA shows vectors that were raised while nobody listened.
 */
export class FunctionInterrupts {
  /** INTx. */
  readonly line: LineInterrupt;
  readonly #vectors: VectorEventFds;
  readonly #pin: 0 | 1;
  readonly #table: Uint8Array<ArrayBuffer>;
  readonly #pba: Uint8Array<ArrayBuffer>;
  #msixEnableBit = false;
  #busMaster = false;

  readonly #single: (EventFd | null)[] = [null, null];

  /**
   * Everything off, nothing pending.
   * @param msix the function's MSI-X capability, if it has one
   * @param pin 1 when it has an INTx pin
   * @param onResampleChange the eventfd that unmasks INTx changed: watch the new one and call `line.resampled` when it is signalled
   */
  constructor(
    msix: MsixShape | undefined,
    pin: 0 | 1,
    onResampleChange: (before: EventFd | null, now: EventFd | null) => void = () => {},
  ) {
    const vectors = msix?.vectors ?? 0;
    this.line = new LineInterrupt(onResampleChange);
    this.#vectors = new VectorEventFds(vectors, "MSI-X vectors");
    this.#pin = pin;
    this.#table = new Uint8Array(vectors * MSIX_ENTRY_BYTES);
    this.#pba = new Uint8Array(pbaBytes(vectors));
    this.reset();
  }

  /** MSI-X is in use: INTx must not be. */
  get msixEnabled(): boolean {
    return this.#vectors.enabled || this.#msixEnableBit;
  }

  /** How often each vector was signalled. */
  get signals(): ArrayLike<number> {
    return this.#vectors.signals;
  }

  /** The vectors were set up by SET_IRQS: the Enable bit then reads 1, as the kernel sets it. */
  get msixTriggersSet(): boolean {
    return this.#vectors.enabled;
  }

  /** Table entry or PBA bit: true when the vector was raised and nobody was told. */
  pending(vector: number): boolean {
    return ((this.#pba[vector >> 3] ?? 0) & (1 << (vector & 7))) !== 0;
  }

  /** `vfio_irq_info`. */
  info(index: number): IrqInfo {
    if (index === IRQ.intx && this.#pin === 1) return this.line.info(index);
    if (index === IRQ.msix && this.#vectors.count > 0) {
      return { index, flags: IRQ_FLAG.eventfd, count: this.#vectors.count };
    }
    if (index === IRQ.error || index === IRQ.request) {
      return { index, flags: IRQ_FLAG.eventfd | IRQ_FLAG.noResize, count: 1 };
    }
    return NO_IRQ(index);
  }

  /** SET_IRQS; takes ownership of the eventfds, also when it fails. @throws UsageError */
  set(index: number, request: ServedIrqRequest): void {
    const end = requestEnd(request);
    if (end > this.info(index).count) {
      closeEventFds(request);
      throw new UsageError(`interrupt index ${index} has no vector ${end - 1}`);
    }
    switch (index) {
      case IRQ.intx:
        return this.line.set(request);
      case IRQ.msix:
        return this.#setMsix(request);
      case IRQ.error:
        return this.#setSingle(0, request);
      case IRQ.request:
        return this.#setSingle(1, request);
      default:
        // No vectors: turning the index off is all that can be asked.
        closeEventFds(request);
    }
  }

  /** Command and MSI-X control changed. What was held back is sent when it may be. */
  setControls(controls: { busMaster: boolean; intxDisable: boolean; msixEnable: boolean }): void {
    this.#busMaster = controls.busMaster;
    this.#msixEnableBit = controls.msixEnable;
    this.#sendPending();
    this.line.hold(controls.intxDisable);
  }

  /** Sends a vector, or marks it pending. @returns true when it was delivered now. */
  raiseMsix(vector: number): boolean {
    if (vector < 0 || vector >= this.#vectors.count || !this.msixEnabled) return false;
    if (this.#busMaster && this.#vectors.heard(vector)) {
      this.#vectors.signal(vector);
      return true;
    }
    this.#pba[vector >> 3]! |= 1 << (vector & 7);
    return false;
  }

  /** Drives the INTx line. */
  setIntxLevel(asserted: boolean): void {
    if (this.#pin === 1) this.line.setLevel(asserted);
  }

  /** Asks the user to give the function back, as the kernel does before it unbinds vfio-pci. */
  requestRelease(): void {
    this.#single[1]?.signal();
  }

  /** Tells the user of an uncorrectable error, as the kernel does when AER reports one. */
  reportError(): void {
    this.#single[0]?.signal();
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
    for (let vector = 0; vector < this.#vectors.count; vector++) {
      this.#table[vector * MSIX_ENTRY_BYTES + VECTOR_CONTROL] = 1;
    }
    this.line.reset();
  }

  /** The client is gone: closes every eventfd. */
  detach(): void {
    this.#vectors.detach();
    this.line.detach();
    this.#single.forEach((fd, i) => {
      fd?.close();
      this.#single[i] = null;
    });
    this.reset();
  }

  #setMsix(request: ServedIrqRequest): void {
    this.#vectors.set(request);
    if (request.action === "disable") this.#pba.fill(0);
    else this.#sendPending();
  }

  #setSingle(slot: 0 | 1, request: ServedIrqRequest): void {
    if (request.action === "fire") {
      this.#single[slot]?.signal();
      return;
    }
    if (request.action !== "trigger" && request.action !== "disable") {
      closeEventFds(request);
      throw new UsageError("this interrupt cannot be masked");
    }
    if (request.action === "trigger" && request.eventFds.length === 0) return;
    this.#single[slot]?.close();
    this.#single[slot] = request.action === "trigger" ? request.eventFds[0] ?? null : null;
  }

  #sendPending(): void {
    if (!this.#busMaster || !this.msixEnabled) return;
    for (let vector = 0; vector < this.#vectors.count; vector++) {
      if (!this.#vectors.heard(vector) || !this.pending(vector)) continue;
      this.#pba[vector >> 3]! &= ~(1 << (vector & 7));
      this.#vectors.signal(vector);
    }
  }
}

/** Size of the PBA for this many vectors, in bytes: whole 64-bit words. */
export function pbaBytes(vectors: number): number {
  return Math.ceil(vectors / 64) * 8;
}
