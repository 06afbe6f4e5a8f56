/**
 * A function's interrupts on eventfds.
 *
 * @module
 */
import { EventFd } from "../../ffi/mod.ts";
import { typedErrors } from "../errors/doors.ts";
import { ClosedError, UnsupportedError, UsageError } from "../errors/mod.ts";
import { Signals } from "../wait/signals.ts";
import { ConfigAccess } from "./config_access.ts";
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
 *
 * Wait by `wait`, `waitBlocking` or `each`, or take the eventfds to a waiter of one's own; not both, since each takes from the other.
 *
 * ```ts
 * using interrupts = new InterruptSet(device);
 * interrupts.enable("msix", 2);
 * const count = await interrupts.wait(1, 1000); // 0: none came in a second
 * for await (const count of interrupts.each(0)) console.log(count, interrupts.counts);
 * ```
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
  /** Made by the first wait. */
  #signals: Signals | null = null;

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

  /** By vector: how many interrupts have come, as far as waits have looked; empty before the first. */
  get counts(): readonly number[] {
    return this.#signals?.counts ?? [];
  }

  /**
   * Resolves to how many interrupts of a vector have come since the last wait for it, at least one; to 0 after `timeoutMs` (default: no limit).
   * @throws UsageError when nothing is on, or when it is messages and the function may not write to memory (Bus Master Enable is 0): then none can come.
   * What ends the function ends the wait: `ClosedError` (closed, interrupts turned off), `RemovalRequestedError`, `DeviceError`, `PeerGoneError`
   */
  async wait(vector = 0, timeoutMs = Infinity): Promise<number> {
    const signals = this.#waiting();
    const count = await signals.wait(vector, timeoutMs);
    if (count === 0) this.#checkCanCome();
    return count;
  }

  /** As `wait`, blocking this thread: for a Worker. @throws as `wait`; UsageError also while an asynchronous wait is under way */
  waitBlocking(vector = 0, timeoutMs = Infinity): number {
    const count = this.#waiting().waitBlocking(vector, timeoutMs);
    if (count === 0) this.#checkCanCome();
    return count;
  }

  /** `for await`: as `wait` without a limit, again and again. @throws as `wait` */
  async *each(vector = 0): AsyncGenerator<number, never, void> {
    for (;;) yield await this.wait(vector);
  }

  #waiting(): Signals {
    this.#enabledIndex();
    if (this.#signals !== null) return this.#signals;
    this.#checkCanCome();
    const { name, lifeline } = this.#device;
    return this.#signals = new Signals(this.#eventFds, { name: `${name}, ${this.#kind}`, lifeline });
  }

  /** A message is a write of the function to memory, which it may not do without Bus Master Enable. */
  #checkCanCome(): void {
    const device = this.#device;
    if ((this.#kind !== "msi" && this.#kind !== "msix") || !isPciDevice(device)) return;
    if (new ConfigAccess(device).busMaster) return;
    throw new UsageError(`${device.name}: no ${this.#kind} interrupt can come, Bus Master Enable is 0`, {
      hint: "new ConfigAccess(device).setCommand({ busMaster: true })",
    });
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
    const signals = this.#signals;
    this.#signals = null;
    signals?.end(new ClosedError(`${kind} interrupts of ${this.#device.name}`));
    signals?.close();
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
