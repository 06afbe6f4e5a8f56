/**
 * A function's interrupts on eventfds.
 *
 * @module
 */
import { EventFd } from "../../ffi/mod.ts";
import { typedErrors } from "../errors/doors.ts";
import { UnsupportedError, UsageError } from "../errors/mod.ts";
import { IRQ, IRQ_FLAG, PLATFORM_IRQ, type VfioDevice } from "./device.ts";
import { isPciDevice } from "./pci_device.ts";

/**
 * Kinds of interrupt that signal work, and the two that signal trouble and a wish to have the function back. `intx` is the interrupt line: INTx of a PCI
 * function, the first line of a platform device. `msi` of a platform device are its messages, which the kernel does not have.
 */
export type VectorKind = "msix" | "msi" | "intx" | "error" | "request";

/**
 * One kind of interrupt of an opened function: makes an eventfd a vector, owns them, and closes them when it is disabled.
 *
 * A line that is not by edges (INTx, or a platform device's) is masked by the kernel when it fires: handle it, then `rearm()`.
 */
export class InterruptSet implements Disposable {
  static {
    typedErrors(this);
  }

  readonly #device: VfioDevice;
  #kind: VectorKind | null = null;
  /** That of the kind that is on. */
  #index = 0;
  #eventFds: readonly EventFd[] = [];
  #automasked = false;

  /** Nothing is on yet. @param device an open function; stays the caller's */
  constructor(device: VfioDevice) {
    this.#device = device;
  }

  /** Kind that is on; null when none. */
  get kind(): VectorKind | null {
    return this.#kind;
  }

  /** The eventfds by vector; empty when nothing is on. */
  get eventFds(): readonly EventFd[] {
    return this.#eventFds;
  }

  /** How many vectors of a kind the function has. @throws ClosedError, SyscallError */
  available(kind: VectorKind): number {
    const index = this.#indexOf(kind);
    return index < this.#device.info.numIrqs ? this.#device.irqInfo(index).count : 0;
  }

  /** Past all that there are for a kind that the bus has not: the kernel's index 1 of a platform device is its second line, not messages. */
  #indexOf(kind: VectorKind): number {
    if (isPciDevice(this.#device)) return IRQ[kind];
    if (kind === "intx") return PLATFORM_IRQ.line;
    return kind === "msi" && this.#device.path === "vfio-user" ? PLATFORM_IRQ.messages : Infinity;
  }

  /**
   * Turns on `count` vectors, each with an eventfd of its own. The count may be fixed by the first enable: take all that will
   * be needed.
   * @param given eventfds to use, `count` of them; this object's from now on, also when it throws. Default: new ones.
   * @returns the eventfds by vector; they stay this object's.
   * @throws UsageError when some are on already, UnsupportedError when the function has fewer, SyscallError, ClosedError
   */
  enable(kind: VectorKind, count = 1, given?: readonly EventFd[]): readonly EventFd[] {
    using opened = new DisposableStack();
    const eventFds: EventFd[] = [...given ?? []].map((one) => opened.use(one));
    this.#checkEnable(kind, count, given?.length ?? count);
    while (eventFds.length < count) eventFds.push(opened.use(new EventFd()));
    const index = this.#indexOf(kind);
    this.#automasked = (this.#device.irqInfo(index).flags & IRQ_FLAG.automasked) !== 0;
    this.#device.setIrqs({ index, action: "trigger", start: 0, eventFds });
    opened.move();
    this.#index = index;
    this.#kind = kind;
    this.#eventFds = eventFds;
    return eventFds;
  }

  #checkEnable(kind: VectorKind, count: number, given: number): void {
    const { name } = this.#device;
    if (this.#kind !== null) {
      throw new UsageError(`${name}: ${this.#kind} interrupts are on already`, {
        hint: "disable() them first",
      });
    }
    if (!Number.isInteger(count) || count < 1) {
      throw new UsageError(`${name}: ${count} ${kind} vectors`, { hint: "1 or more" });
    }
    const available = this.available(kind);
    if (count > available) {
      throw new UnsupportedError(`${name} has ${available} ${kind} vectors, ${count} are wanted`);
    }
    if (given !== count) throw new UsageError(`${name}: ${given} eventfds for ${count} ${kind} vectors`);
  }

  /** Turns them off and closes the eventfds; nothing happens when none are on. @throws SyscallError, ProtocolError */
  disable(): void {
    const kind = this.#kind;
    if (kind === null) return;
    const eventFds = this.#eventFds;
    this.#kind = null;
    this.#eventFds = [];
    try {
      // Closing the device has turned them off already.
      if (!this.#device.closed) this.#device.setIrqs({ index: this.#index, action: "disable" });
    } finally {
      for (const one of eventFds) one.close();
    }
  }

  /**
   * After an interrupt was handled: unmasks it where the server masks it when it fires (AUTOMASKED). Elsewhere there is nothing to do, and a server may
   * know no masks at all. @throws UsageError
   */
  rearm(vector = 0): void {
    if (this.#automasked) this.unmask(vector);
  }

  /** Lets a masked interrupt through again. @throws UnsupportedError, UsageError */
  unmask(vector = 0): void {
    this.#device.setIrqs({ index: this.#enabledIndex(), action: "unmask", start: vector, count: 1 });
  }

  /** Holds an interrupt back. @throws UnsupportedError for anything but a line on kernel VFIO, UsageError */
  mask(vector = 0): void {
    this.#device.setIrqs({ index: this.#enabledIndex(), action: "mask", start: vector, count: 1 });
  }

  /** Raises a vector by software, as if the device had: a test of everything behind the device. @throws UsageError */
  fire(vector = 0): void {
    this.#device.setIrqs({ index: this.#enabledIndex(), action: "fire", start: vector, count: 1 });
  }

  #enabledIndex(): number {
    if (this.#kind === null) {
      throw new UsageError(`${this.#device.name}: no interrupts are on`, { hint: "enable() some first" });
    }
    return this.#index;
  }

  /** Same as `close`. */
  [Symbol.dispose](): void {
    this.disable();
  }
}
