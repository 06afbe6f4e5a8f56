/**
 * Messages that interrupts of managed devices are: an address, and what is written there, which arrives as an eventfd.
 *
 * @module
 */
import { EventFd } from "../../../ffi/mod.ts";
import { requireType, typedErrors } from "../../errors/doors.ts";
import { ExhaustedError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import { IRQ, type VfioDevice } from "../../vfio/device.ts";
import { TVQ_VECTOR_ADDRESS } from "../spec/transport_vq.ts";

/** A message that was allotted. */
export interface MsiMessage extends Disposable {
  /** Signalled when the message arrives. The message's. */
  readonly eventFd: EventFd;
  /** Where it is written. */
  readonly address: bigint;
  /** What is written. */
  readonly data: number;
}

/** Who has such messages. */
export interface MsiAddresses {
  /** How many can be allotted now. */
  readonly available: number;
  /** Why there are none, where there can be none at all. */
  readonly lack?: string | undefined;
  /**
   * Allots one; disposing of it gives it back, and closes its eventfd.
   * @param eventFd to be signalled; the message's from now on, also when this throws. Default: a new one
   * @throws UnsupportedError (there can be none), ExhaustedError, ClosedError, SyscallError
   */
  allot(eventFd?: EventFd): MsiMessage;
}

/**
 * MSI-X vectors of the management function itself, of one that a vfio-user server serves: a managed device that writes a vector's number at 0xfee00000 has
 * it raised. Kernel VFIO programs messages itself, and gives no address.
 */
export class FunctionMsi implements MsiAddresses {
  static {
    typedErrors(this);
  }

  readonly #device: VfioDevice;
  readonly #first: number;
  readonly #taken = new Set<number>();
  /** Those that were given back, and behind them the first that nobody had yet: a thousand devices are not searched through for each vector. */
  readonly #free: number[] = [];
  #fresh: number;

  /** Allots none yet. @param device the management function @param first vectors below are the function's own */
  constructor(device: VfioDevice, first: number) {
    requireType(device, "object", "new FunctionMsi: device", "name", "irqInfo", "setIrqs");
    if (!Number.isInteger(first) || first < 0) throw new UsageError(`new FunctionMsi: first ${shown(first)}`);
    this.#device = device;
    this.#first = this.#fresh = first;
  }

  get available(): number {
    return this.lack === undefined ? Math.max(0, this.#count - this.#first - this.#taken.size) : 0;
  }

  get lack(): string | undefined {
    return this.#device.path === "vfio-user"
      ? undefined
      : `${this.#device.name}: kernel VFIO gives no address that a managed device's MSI could be written to; poll instead`;
  }

  allot(eventFd: EventFd = new EventFd()): MsiMessage {
    try {
      const vector = this.#next();
      this.#device.setIrqs({ index: IRQ.msix, action: "trigger", start: vector, eventFds: [eventFd] });
      this.#taken.add(vector);
      if (vector === this.#fresh) this.#fresh++;
      else this.#free.pop();
      return {
        eventFd,
        address: TVQ_VECTOR_ADDRESS,
        data: vector,
        [Symbol.dispose]: () => {
          this.#release(vector);
          eventFd.close();
        },
      };
    } catch (error) {
      eventFd.close();
      throw error;
    }
  }

  get #count(): number {
    return this.#device.irqInfo(IRQ.msix).count;
  }

  /** It is free until it is taken. */
  #next(): number {
    if (this.lack !== undefined) throw new UnsupportedError(this.lack);
    const count = this.#count, vector = this.#free.at(-1) ?? this.#fresh;
    if (vector < count) return vector;
    throw new ExhaustedError(
      `${this.#device.name}: all ${count} MSI-X vectors are in use; the first ${this.#first} are its own`,
      { hint: "open devices with fewer vectors, or poll" },
    );
  }

  #release(vector: number): void {
    if (!this.#taken.delete(vector)) return;
    this.#free.push(vector);
    try {
      this.#device.setIrqs({ index: IRQ.msix, action: "trigger", start: vector, eventFds: [null] });
    } catch {
      // The function is closed, its server gone, or its interrupts were turned off as a whole: it is raised no more.
    }
  }
}
