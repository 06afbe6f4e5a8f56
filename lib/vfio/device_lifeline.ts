/**
 * How whoever uses an opened function learns that it has to be given back, that it broke, or that it is closed.
 *
 * @module
 */
import { Epoll, EventFd, type OwnedFd } from "../../ffi/mod.ts";
import { ClosedError, DeviceError, RemovalRequestedError, RingsideError } from "../errors/mod.ts";
import { EndHandlers } from "../wait/end_handlers.ts";
import type { Lifeline } from "../wait/lifeline.ts";
import { DEVICE_FLAG, IRQ, type VfioDevice } from "./device.ts";

/** How often a function is looked at that nobody sleeps for: who asks for it back waits so long at most. */
const LOOK_MS = 50;
const TAG = { link: 0, error: 1, request: 2 } as const;

/** What a lifeline needs of its function. */
export type SignallingDevice = Pick<VfioDevice, "name" | "path" | "info" | "closed" | "irqInfo" | "setIrqs">;

/**
 * Wires the error and the request interrupt of a PCI function (VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX). Without the latter the kernel waits for
 * the function in silence when it is removed or unbound; with it, it asks, and again every ten seconds.
 *
 * The lifeline has ended from when the function is wanted back, broken or closed. A reset of the function mends what was broken, and nothing else.
 */
export class DeviceLifeline implements Lifeline {
  readonly #device: SignallingDevice;
  readonly #link: Lifeline | undefined;
  readonly #epoll = new Epoll();
  readonly #error: EventFd | null;
  readonly #request: EventFd | null;
  readonly #ends = new EndHandlers();
  readonly #removals = new EndHandlers();
  readonly #errors = new EndHandlers();
  #looking: ReturnType<typeof setInterval> | undefined;
  #end: Error | null = null;
  #wanted = false;

  /** Asks the function to signal what it has interrupts for. @param link the connection to the process that serves it, if one does */
  constructor(device: SignallingDevice, link?: Lifeline) {
    this.#device = device;
    this.#link = link;
    if (link !== undefined && !isClosed(link)) {
      using opened = new DisposableStack();
      // Nobody would close it.
      opened.use(this.#epoll);
      for (const fd of link.fds) this.#epoll.add(fd, TAG.link);
      link.onEnd(() => this.#finish(link.reason()));
      opened.move();
    }
    this.#error = this.#wire(IRQ.error, TAG.error);
    this.#request = this.#wire(IRQ.request, TAG.request);
    if (device.closed) this.close();
    else if (link !== undefined && isClosed(link)) this.#finish(link.reason());
  }

  #wire(index: number, tag: number): EventFd | null {
    const device = this.#device;
    if (device.closed || (device.info.flags & DEVICE_FLAG.pci) === 0 || index >= device.info.numIrqs) {
      return null;
    }
    using opened = new DisposableStack();
    try {
      if (device.irqInfo(index).count === 0) return null;
      const eventFd = opened.use(new EventFd());
      device.setIrqs({ index, action: "trigger", start: 0, eventFds: [eventFd] });
      this.#epoll.add(eventFd.fd, tag);
      opened.move();
      return eventFd;
    } catch (error) {
      // A server that refuses tells of nothing; one that is gone is told of by its connection.
      if (error instanceof RingsideError) return null;
      throw error;
    }
  }

  /** See `Lifeline`. Of a function that is closed, one that is closed. */
  get fds(): readonly OwnedFd[] {
    if (this.#epoll.fd.closed) return [this.#epoll.fd];
    const own = [this.#error?.fd, this.#request?.fd].filter((fd) => fd !== undefined);
    return [...this.#link?.fds ?? [], ...own];
  }

  /** See `Lifeline`. */
  get ended(): boolean {
    return this.#end !== null;
  }

  /** See `Lifeline`. */
  answer(): void {
    if (this.#epoll.fd.closed) return;
    const ready = this.#epoll.waitBlocking(0);
    for (let i = 0; i < ready; i++) {
      const tag = this.#epoll.tags[i];
      if (tag === TAG.link) this.#link!.answer();
      else if (tag === TAG.error) this.#failed();
      else this.#wantedBack();
      // A handler may have closed the function, or looked itself.
      if (this.#epoll.fd.closed) return;
    }
  }

  /** See `Lifeline`. */
  check(): void {
    this.answer();
    if (this.#end !== null) throw this.#end;
  }

  /** See `Lifeline`. */
  reason(): Error {
    return this.#end ?? this.#link?.reason() ?? new ClosedError(this.#what);
  }

  /** See `Lifeline`. */
  onEnd(handler: () => void): () => void {
    return this.#listen(this.#ends, handler, "onEnd: handler");
  }

  /** See `VfioPciDevice`. */
  onRemovalRequested(handler: () => void): () => void {
    return this.#listen(this.#removals, handler, "onRemovalRequested: handler");
  }

  /** See `VfioPciDevice`. */
  onDeviceError(handler: () => void): () => void {
    return this.#listen(this.#errors, handler, "onDeviceError: handler");
  }

  /** The function was reset: what was broken is not any more. */
  wasReset(): void {
    if (!(this.#end instanceof DeviceError)) return;
    this.#error?.take();
    this.#end = null;
  }

  /** The function is closed. */
  close(): void {
    clearInterval(this.#looking);
    this.#looking = undefined;
    this.#removals.clear();
    this.#errors.clear();
    this.#epoll.close();
    this.#error?.close();
    this.#request?.close();
    // Whoever closes it because it is wanted back has others who want to know why.
    if (!this.#wanted) this.#end = new ClosedError(this.#what);
    this.#ends.tell();
  }

  #listen(handlers: EndHandlers, handler: () => void, what: string): () => void {
    const forget = handlers.add(handler, what);
    if (this.#looking === undefined && !this.#epoll.fd.closed) {
      this.#looking = setInterval(() => this.#look(), LOOK_MS);
      // It is no reason for the process to go on.
      Deno.unrefTimer(this.#looking);
    }
    return forget;
  }

  #look(): void {
    this.answer();
    // Who came after the end hears of it, too.
    if (this.#wanted) this.#removals.tell();
    if (this.#end !== null) this.#ends.tell();
  }

  #wantedBack(): void {
    if (this.#request!.take() === 0) return;
    this.#wanted = true;
    const { name, path } = this.#device;
    const who = path === "vfio-user" ? "the host that serves it asks" : "the kernel asks";
    // Whatever ended it before, this is what its user has to do something about.
    this.#end = new RemovalRequestedError(
      `${name}: ${who} for the function back: it is being removed, or unbound from its driver`,
      { hint: "close it; whoever asks waits until then" },
    );
    this.#removals.tell();
    if (!this.#epoll.fd.closed) this.#ends.tell();
  }

  #failed(): void {
    if (this.#error!.take() === 0) return;
    const { name, path } = this.#device;
    const where = path === "vfio-user" ? "by its server" : "by the kernel, whose log has its status (AER)";
    this.#end ??= new DeviceError(`an uncorrectable error is reported ${where}`, { function: name }, {
      hint: "reset the function (VfioDevice.reset), then the driver; or close it",
    });
    this.#errors.tellAgain();
    // A handler may have reset the function, which mends it, or closed it.
    if (this.#end !== null && !this.#epoll.fd.closed) this.#ends.tell();
  }

  #finish(reason: Error): void {
    this.#end ??= reason;
    this.#ends.tell();
  }

  get #what(): string {
    return this.#device.path === "vfio-user" ? this.#device.name : `function ${this.#device.name}`;
  }
}

function isClosed({ fds }: Lifeline): boolean {
  return fds.some((fd) => fd.closed);
}
