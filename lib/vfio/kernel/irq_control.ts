/**
 * VFIO_DEVICE_SET_IRQS: requests checked, encoded, and kept track of.
 *
 * @module
 */
import type { EventFd } from "../../../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../../errors/mod.ts";
import { DEVICE_FLAG, IRQ, IRQ_FLAG, IRQ_SET, type IrqInfo, type IrqRequest } from "../device.ts";
import { irqKind, irqName, type IrqOwner, type IrqRange, irqRange } from "../irq_checks.ts";
import { irqSet } from "./abi.ts";

/** Only one of these of a PCI function can be on at a time (PCIe 6.0 §6.1.4). Lines of a platform device know nothing of one another. */
const EXCLUSIVE: readonly number[] = [IRQ.intx, IRQ.msi, IRQ.msix];
/** Gives eventfds to vectors, or takes them out. */
const SET_EVENT_FDS = IRQ_SET.dataEventfd | IRQ_SET.actionTrigger;

/** Encodes `vfio_irq_set`. @param data of the vectors: nothing, a byte or a descriptor each */
export function encodeIrqSet(
  index: number,
  range: IrqRange,
  data: Uint8Array = new Uint8Array(),
): Uint8Array<ArrayBuffer> {
  return irqSet.encode({ argsz: irqSet.sizeBytes + data.byteLength, index, ...range }, data);
}

/** One descriptor a vector; −1 takes a vector out. */
export function descriptors(fds: readonly number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(fds).buffer);
}

/** The interrupts of one open function. */
export class IrqControl {
  readonly #owner: IrqOwner;
  readonly #info: (index: number) => IrqInfo;
  readonly #issue: (argument: Uint8Array<ArrayBuffer>) => void;
  /** What each index that is on delivers to; the array's length is the number of vectors that it was enabled with. */
  readonly #enabled = new Map<number, (EventFd | null)[]>();

  /**
   * Nothing is on yet.
   * @param owner the function. @param info answers for an index. @param issue hands a structure to the kernel.
   */
  constructor(
    owner: IrqOwner,
    info: (index: number) => IrqInfo,
    issue: (argument: Uint8Array<ArrayBuffer>) => void,
  ) {
    this.#owner = owner;
    this.#info = info;
    this.#issue = issue;
  }

  /** Does what `VfioDevice.setIrqs` is asked for. @throws UsageError, UnsupportedError, SyscallError, ClosedError (an eventfd that is closed) */
  apply(request: IrqRequest): void {
    const info = this.#info(request.index);
    if (request.action === "disable") return this.#disable(request.index);
    if (info.count === 0) {
      throw new UnsupportedError(`${irqName(this.#owner, request.index)}: the function has none`);
    }
    const range = irqRange(this.#owner, info, request);
    if (request.action === "trigger") {
      return this.#trigger(request.index, range.start, request.eventFds, info);
    }
    this.#requireEnabled(request.index, range.start + range.count);
    const data = "which" in request
      ? Uint8Array.from(request.which, Number)
      : request.action === "unmask-on"
      ? descriptors([request.eventFd.fd.number])
      : undefined;
    this.#issue(encodeIrqSet(request.index, range, data));
  }

  #disable(index: number): void {
    // The kernel calls it an error to turn off what is not on.
    if (!this.#enabled.has(index)) return;
    this.#issue(encodeIrqSet(index, { flags: IRQ_SET.dataNone | IRQ_SET.actionTrigger, start: 0, count: 0 }));
    this.#enabled.delete(index);
  }

  #trigger(index: number, start: number, eventFds: readonly (EventFd | null)[], info: IrqInfo): void {
    const isPci = (this.#owner.info.flags & DEVICE_FLAG.pci) !== 0;
    const other = isPci && EXCLUSIVE.includes(index)
      ? EXCLUSIVE.find((one) => one !== index && this.#enabled.has(one))
      : undefined;
    if (other !== undefined) {
      throw new UsageError(`${irqName(this.#owner, index)}: ${irqKind(this.#owner, other)} is on`, {
        hint: `a function uses one kind of interrupt at a time: disable ${irqKind(this.#owner, other)} first`,
      });
    }
    const before = this.#enabled.get(index);
    const after = before?.slice() ?? [];
    while (after.length < start) after.push(null);
    for (let i = 0; i < eventFds.length; i++) after[start + i] = eventFds[i]!;
    // A closed eventfd among the new ones is the caller's mistake and is told before anything changes.
    const fds = eventFds.map((one) => one === null ? -1 : one.fd.number);

    const grows = before !== undefined && after.length > before.length;
    if (grows && (info.flags & IRQ_FLAG.noResize) !== 0) return this.#reenable(index, before, after);
    try {
      this.#setEventFds(index, start, fds);
    } catch (error) {
      if (before !== undefined) this.#putBack(index, start, before);
      throw error;
    }
    this.#enabled.set(index, after);
  }

  /** The vector count is fixed while the index is on, so it goes off and on again with all vectors. */
  #reenable(
    index: number,
    before: readonly (EventFd | null)[],
    after: (EventFd | null)[],
  ): void {
    this.#disable(index);
    try {
      this.#enableAll(index, after);
    } catch (error) {
      try {
        this.#enableAll(index, before.slice());
      } catch {
        // The first error says more; the index stays off.
      }
      throw error;
    }
  }

  #enableAll(index: number, eventFds: (EventFd | null)[]): void {
    this.#setEventFds(index, 0, eventFds.map(liveNumber));
    this.#enabled.set(index, eventFds);
  }

  #setEventFds(index: number, start: number, fds: readonly number[]): void {
    this.#issue(encodeIrqSet(index, { flags: SET_EVENT_FDS, start, count: fds.length }, descriptors(fds)));
  }

  /** After a failure in the middle the kernel has taken out the vectors that it had set before the one that failed. */
  #putBack(index: number, start: number, before: readonly (EventFd | null)[]): void {
    const fds = before.slice(start).map(liveNumber);
    if (fds.length === 0) return;
    try {
      this.#setEventFds(index, start, fds);
    } catch {
      // The first error says more.
    }
  }

  #requireEnabled(index: number, end: number): void {
    const vectors = this.#enabled.get(index)?.length ?? 0;
    if (end <= vectors) return;
    throw new UsageError(
      `${irqName(this.#owner, index)}: ${vectors === 0 ? "is off" : `only ${vectors} vectors are on`}`,
      {
        hint: "give its vectors eventfds first (action trigger)",
      },
    );
  }
}

function liveNumber(eventFd: EventFd | null): number {
  return eventFd === null || eventFd.closed ? -1 : eventFd.fd.number;
}
