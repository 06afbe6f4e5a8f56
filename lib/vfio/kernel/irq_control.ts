/**
 * VFIO_DEVICE_SET_IRQS: requests checked, encoded, and kept track of.
 *
 * @module
 */
import type { EventFd } from "../../../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../../errors/mod.ts";
import { IRQ, IRQ_FLAG, IRQ_SET, type IrqInfo, type IrqRequest } from "../device.ts";
import { IRQ_NAMES, irqName, requireMaskable, requireVectors } from "../irq_checks.ts";
import { irqSet } from "./abi.ts";

const DESCRIPTOR_BYTES = 4;
/** Only one of these can be on at a time (PCIe 6.0 §6.1.4). */
const EXCLUSIVE: readonly number[] = [IRQ.intx, IRQ.msi, IRQ.msix];

const ACTION = {
  fire: IRQ_SET.actionTrigger,
  mask: IRQ_SET.actionMask,
  unmask: IRQ_SET.actionUnmask,
} as const;

/** Encodes `vfio_irq_set` with no data. */
export function encodeIrqSet(
  flags: number,
  index: number,
  start: number,
  count: number,
): Uint8Array<ArrayBuffer> {
  return irqSet.encode({ argsz: irqSet.sizeBytes, flags, index, start, count });
}

/** Encodes `vfio_irq_set` with one descriptor a vector; −1 takes a vector out. */
export function encodeIrqSetFds(
  flags: number,
  index: number,
  start: number,
  fds: readonly number[],
): Uint8Array<ArrayBuffer> {
  const tail = fds.length * DESCRIPTOR_BYTES;
  const values = { argsz: irqSet.sizeBytes + tail, flags, index, start, count: fds.length };
  const bytes = irqSet.encode(values, tail);
  const view = new DataView(bytes.buffer);
  fds.forEach((fd, i) => view.setInt32(irqSet.sizeBytes + i * DESCRIPTOR_BYTES, fd, true));
  return bytes;
}

/** Encodes `vfio_irq_set` with one byte a vector: 1 for those that it is about. */
export function encodeIrqSetBools(
  flags: number,
  index: number,
  start: number,
  which: readonly boolean[],
): Uint8Array<ArrayBuffer> {
  const values = { argsz: irqSet.sizeBytes + which.length, flags, index, start, count: which.length };
  const bytes = irqSet.encode(values, which.length);
  bytes.set(which.map(Number), irqSet.sizeBytes);
  return bytes;
}

/** The interrupts of one open function. */
export class IrqControl {
  readonly #name: string;
  readonly #info: (index: number) => IrqInfo;
  readonly #issue: (argument: Uint8Array<ArrayBuffer>) => void;
  /** What each index that is on delivers to; the array's length is the number of vectors that it was enabled with. */
  readonly #enabled = new Map<number, (EventFd | null)[]>();

  /**
   * Nothing is on yet.
   * @param name the function, for messages. @param info answers for an index. @param issue hands a structure to the kernel.
   */
  constructor(
    name: string,
    info: (index: number) => IrqInfo,
    issue: (argument: Uint8Array<ArrayBuffer>) => void,
  ) {
    this.#name = name;
    this.#info = info;
    this.#issue = issue;
  }

  /** Does what `VfioDevice.setIrqs` is asked for. @throws UsageError, UnsupportedError, SyscallError, ClosedError (an eventfd that is closed) */
  apply(request: IrqRequest): void {
    const info = this.#info(request.index);
    if (request.action === "disable") return this.#disable(request.index);
    if (info.count === 0) {
      throw new UnsupportedError(`${irqName(this.#name, request.index)}: the function has none`);
    }
    switch (request.action) {
      case "trigger":
        return this.#trigger(info, request.start, request.eventFds);
      case "fire":
      case "mask":
      case "unmask": {
        if (request.action !== "fire") requireMaskable(this.#name, info);
        const { index, start } = request;
        const which = "which" in request ? request.which : undefined;
        const count = "which" in request ? request.which.length : request.count;
        requireVectors(this.#name, info, start, count);
        this.#requireEnabled(index, start + count);
        const action = ACTION[request.action];
        return this.#issue(
          which === undefined
            ? encodeIrqSet(IRQ_SET.dataNone | action, index, start, count)
            : encodeIrqSetBools(IRQ_SET.dataBool | action, index, start, which),
        );
      }
      case "unmask-on":
        requireMaskable(this.#name, info);
        requireVectors(this.#name, info, request.start, 1);
        this.#requireEnabled(request.index, request.start + 1);
        return this.#issue(
          encodeIrqSetFds(IRQ_SET.dataEventfd | IRQ_SET.actionUnmask, request.index, request.start, [
            request.eventFd.fd.number,
          ]),
        );
    }
  }

  #disable(index: number): void {
    // The kernel calls it an error to turn off what is not on.
    if (!this.#enabled.has(index)) return;
    this.#issue(encodeIrqSet(IRQ_SET.dataNone | IRQ_SET.actionTrigger, index, 0, 0));
    this.#enabled.delete(index);
  }

  #trigger(info: IrqInfo, start: number, eventFds: readonly (EventFd | null)[]): void {
    const { index } = info;
    requireVectors(this.#name, info, start, eventFds.length);
    const other = EXCLUSIVE.includes(index)
      ? EXCLUSIVE.find((one) => one !== index && this.#enabled.has(one))
      : undefined;
    if (other !== undefined) {
      throw new UsageError(`${irqName(this.#name, index)}: ${IRQ_NAMES[other]} is on`, {
        hint: `a function uses one kind of interrupt at a time: disable ${IRQ_NAMES[other]} first`,
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
      this.#issue(encodeIrqSetFds(IRQ_SET.dataEventfd | IRQ_SET.actionTrigger, index, start, fds));
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
    const fds = eventFds.map(liveNumber);
    this.#issue(encodeIrqSetFds(IRQ_SET.dataEventfd | IRQ_SET.actionTrigger, index, 0, fds));
    this.#enabled.set(index, eventFds);
  }

  /** After a failure in the middle the kernel has taken out the vectors that it had set before the one that failed. */
  #putBack(index: number, start: number, before: readonly (EventFd | null)[]): void {
    const fds = before.slice(start).map(liveNumber);
    if (fds.length === 0) return;
    try {
      this.#issue(encodeIrqSetFds(IRQ_SET.dataEventfd | IRQ_SET.actionTrigger, index, start, fds));
    } catch {
      // The first error says more.
    }
  }

  #requireEnabled(index: number, end: number): void {
    const vectors = this.#enabled.get(index)?.length ?? 0;
    if (end <= vectors) return;
    throw new UsageError(
      `${irqName(this.#name, index)}: ${vectors === 0 ? "is off" : `only ${vectors} vectors are on`}`,
      {
        hint: "give its vectors eventfds first (action trigger)",
      },
    );
  }
}

function liveNumber(eventFd: EventFd | null): number {
  return eventFd === null || eventFd.closed ? -1 : eventFd.fd.number;
}
