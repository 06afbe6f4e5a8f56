/**
 * Messages that interrupts of devices are which are given their messages by their driver (managed devices, virtio-mmio): an address, and what is
 * written there, which arrives as an eventfd.
 *
 * @module
 */
import { EventFd } from "../../ffi/mod.ts";
import { requireType, typedErrors } from "../errors/doors.ts";
import { ExhaustedError, UnsupportedError, UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import { IRQ, type VfioDevice } from "./device.ts";

/**
 * Where a device of an embedded host writes a number for that vector of its function to be raised. What messages are is left to the platform, and on
 * x86 interrupt controllers begin here.
 */
export const VECTOR_MESSAGE_ADDRESS = 0xfee0_0000n;

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
 * Vectors of a function itself, of one that a vfio-user server serves: a device that writes a vector's number at 0xfee00000 has it raised. Kernel VFIO
 * programs messages itself, and gives no address.
 */
export class FunctionMsi implements MsiAddresses {
  static {
    typedErrors(this);
  }

  readonly #device: VfioDevice;
  readonly #first: number;
  readonly #index: number;
  readonly #taken = new Set<number>();
  /** Those that were given back, and behind them the first that nobody had yet: a thousand devices are not searched through for each vector. */
  readonly #free: number[] = [];
  #fresh: number;

  /**
   * Allots none yet.
   * @param device the function; stays the caller's @param first vectors below are the function's own @param index the interrupt index whose vectors they are
   */
  constructor(device: VfioDevice, first: number, index: number = IRQ.msix) {
    requireType(device, "object", "new FunctionMsi: device", "name", "info", "irqInfo", "setIrqs");
    if (!Number.isInteger(first) || first < 0) throw new UsageError(`new FunctionMsi: first ${shown(first)}`);
    this.#device = device;
    this.#index = index;
    this.#first = this.#fresh = first;
  }

  get available(): number {
    return this.lack === undefined ? Math.max(0, this.#count - this.#first - this.#taken.size) : 0;
  }

  get lack(): string | undefined {
    return this.#device.path === "vfio-user"
      ? undefined
      : `${this.#device.name}: kernel VFIO gives no address that a device's MSI could be written to; poll instead, or use the line where there is one`;
  }

  allot(eventFd: EventFd = new EventFd()): MsiMessage {
    requireType(eventFd, "object", "allot: eventFd", "fd", "close");
    try {
      const vector = this.#next();
      this.#device.setIrqs({ index: this.#index, action: "trigger", start: vector, eventFds: [eventFd] });
      this.#taken.add(vector);
      if (vector === this.#fresh) this.#fresh++;
      else this.#free.pop();
      return {
        eventFd,
        address: VECTOR_MESSAGE_ADDRESS,
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
    return this.#index < this.#device.info.numIrqs ? this.#device.irqInfo(this.#index).count : 0;
  }

  /** It is free until it is taken. */
  #next(): number {
    if (this.lack !== undefined) throw new UnsupportedError(this.lack);
    const count = this.#count, vector = this.#free.at(-1) ?? this.#fresh;
    if (vector < count) return vector;
    throw new ExhaustedError(
      `${this.#device.name}: all ${count} vectors are in use; the first ${this.#first} are its own`,
      { hint: "open devices with fewer vectors, or poll" },
    );
  }

  #release(vector: number): void {
    if (!this.#taken.delete(vector)) return;
    this.#free.push(vector);
    try {
      this.#device.setIrqs({ index: this.#index, action: "trigger", start: vector, eventFds: [null] });
    } catch {
      // The function is closed, its server gone, or its interrupts were turned off as a whole: it is raised no more.
    }
  }
}

/** Messages that are a device's vectors, in the order of their numbers: allotted together, and given back together. */
export class MessageVectors {
  static {
    typedErrors(this);
  }

  readonly #addresses: MsiAddresses;
  readonly #name: string;
  #messages: readonly MsiMessage[] = [];

  /** Allots none yet. @param name of the device, for messages */
  constructor(addresses: MsiAddresses, name: string) {
    this.#addresses = addresses;
    this.#name = name;
  }

  /** By vector; empty while there are none. */
  get messages(): readonly MsiMessage[] {
    return this.#messages;
  }

  /** How many vectors the device can have, those that it has among them. */
  get available(): number {
    return this.#addresses.available + this.#messages.length;
  }

  /**
   * Allots `count`, all or none. @param given eventfds for them; theirs from now on, also when it throws. Default: new ones
   * @throws UsageError (there are some already; another number of eventfds), and as `MsiAddresses.allot`
   */
  allot(count: number, given: readonly EventFd[] = []): readonly EventFd[] {
    const messages: MsiMessage[] = [];
    const eventFds: EventFd[] = [];
    let taken = 0;
    try {
      if (this.#messages.length > 0) throw new UsageError(`${this.#name}: its vectors are on already`);
      if (!Number.isInteger(count) || count < 1) {
        throw new UsageError(`${this.#name}: ${shown(count)} vectors`);
      }
      if (given.length > 0 && given.length !== count) {
        throw new UsageError(`${this.#name}: ${given.length} eventfds for ${count} vectors`);
      }
      while (messages.length < count) messages.push(this.#addresses.allot(given[taken++]));
      // Addresses may be the caller's: what cannot be read is given back.
      for (const { eventFd } of messages) eventFds.push(eventFd);
    } catch (error) {
      for (const one of messages) one[Symbol.dispose]();
      for (const one of given.slice(taken)) one.close();
      throw error;
    }
    this.#messages = messages;
    return eventFds;
  }

  /** Gives all back, and closes their eventfds. */
  giveBack(): void {
    for (const one of this.#messages) one[Symbol.dispose]();
    this.#messages = [];
  }
}
