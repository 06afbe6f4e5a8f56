/**
 * Doorbells: device registers that are written once a notification, looked up beforehand.
 *
 * @module
 */
import type { EventFd, MappedArea, MappedMemory, Parcel, PassedFd } from "../../ffi/mod.ts";
import { requireType, typedErrors } from "../errors/doors.ts";
import { ClosedError } from "../errors/mod.ts";
import type { VfioDevice } from "./device.ts";

/** Bytes of a register access. */
export type DoorbellWidth = 1 | 2 | 4;

/** A doorbell as another thread of this process gets it: plain data. */
export type LentRegister =
  /** A signal that stands for each write. */
  | { readonly kind: "eventfd"; readonly fd: PassedFd }
  /** A register in a mapping of the borrower's own. @param at in units of `width` */
  | {
    readonly kind: "mapped";
    readonly area: MappedArea;
    readonly width: DoorbellWidth;
    readonly at: number;
  };

/** A register of one place and width. */
export interface BarDoorbell {
  /** How a write travels: `mapped` (a store), `eventfd` (a signal), `access` (a call to the server). */
  readonly kind: "mapped" | "eventfd" | "access";
  /** Writes; bits above the width are dropped. Allocates nothing. @throws ClosedError, SyscallError, ProtocolError */
  write(value: number): void;
  /**
   * The same for another thread of this process. Absent, or undefined, where a write needs this one.
   * @param value the only one that will be written; undefined: others, too @throws SyscallError
   * @internal
   */
  lend?(parcel: Parcel, value: number | undefined): LentRegister | undefined;
}

/** A store into mapped memory. */
export class MappedDoorbell implements BarDoorbell {
  readonly kind = "mapped";
  readonly #view: Uint8Array | Uint16Array | Uint32Array;
  readonly #at: number;
  readonly #what: string;
  readonly #mapAgain: (() => { readonly memory: MappedMemory; readonly offset: number }) | undefined;

  /**
   * Takes the place. @param view of the register's width. @param at index in it. @param what for messages
   * @param mapAgain maps what the register is in once more, and says where in it; undefined: there is no second mapping
   */
  constructor(
    view: Uint8Array | Uint16Array | Uint32Array,
    at: number,
    what: string,
    mapAgain?: () => { readonly memory: MappedMemory; readonly offset: number },
  ) {
    this.#view = view;
    this.#at = at;
    this.#what = what;
    this.#mapAgain = mapAgain;
  }

  lend(parcel: Parcel): LentRegister | undefined {
    if (this.#mapAgain === undefined) return undefined;
    const { memory, offset } = this.#mapAgain();
    const width = this.#view.BYTES_PER_ELEMENT as DoorbellWidth;
    return { kind: "mapped", area: parcel.addMapping(memory), width, at: offset / width };
  }

  write(value: number): void {
    // A store past the end of a detached view would vanish without a word.
    if (this.#view.length === 0) throw new ClosedError(this.#what);
    this.#view[this.#at] = value;
  }
}

/** A region write through the server, from a buffer made once. */
export class AccessDoorbell implements BarDoorbell {
  static {
    typedErrors(this);
  }

  readonly kind = "access";
  readonly #device: VfioDevice;
  readonly #index: number;
  readonly #offset: number;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: Uint8Array | Uint16Array | Uint32Array;

  /** Makes the buffer. @param index region. @param offset in it, checked by the caller. @param width bytes */
  constructor(device: VfioDevice, index: number, offset: number, width: DoorbellWidth) {
    const buffer = new ArrayBuffer(width);
    this.#device = device;
    this.#index = index;
    this.#offset = offset;
    this.#bytes = new Uint8Array(buffer);
    this.#view = width === 1 ? this.#bytes : width === 2 ? new Uint16Array(buffer) : new Uint32Array(buffer);
  }

  write(value: number): void {
    this.#view[0] = value;
    this.#device.writeRegion(this.#index, this.#offset, this.#bytes);
  }

  /** The connection is this thread's. */
  lend(): undefined {
    return undefined;
  }
}

/** A signal that stands for a write of any value. */
export class EventFdDoorbell implements BarDoorbell {
  readonly kind = "eventfd";
  readonly #fd: EventFd;

  /** Takes the signal. @param fd the device's; not closed here */
  constructor(fd: EventFd) {
    this.#fd = fd;
  }

  write(_value: number): void {
    this.#fd.signal();
  }

  lend(parcel: Parcel): LentRegister {
    requireType(parcel, "object", "lend: parcel", "addFd");
    return { kind: "eventfd", fd: parcel.addFd(this.#fd.fd) };
  }
}

/** A signal for one value, a region write for any other. */
export class MatchingDoorbell implements BarDoorbell {
  readonly kind = "eventfd";
  readonly #fd: EventFd;
  readonly #value: number;
  readonly #otherwise: BarDoorbell;

  /** Puts both ways together. @param value the one that the signal stands for. @param otherwise what takes the others */
  constructor(fd: EventFd, value: number, otherwise: BarDoorbell) {
    this.#fd = fd;
    this.#value = value;
    this.#otherwise = otherwise;
  }

  write(value: number): void {
    if (value === this.#value) this.#fd.signal();
    else this.#otherwise.write(value);
  }

  lend(parcel: Parcel, value: number | undefined): LentRegister | undefined {
    return value === this.#value ? { kind: "eventfd", fd: parcel.addFd(this.#fd.fd) } : undefined;
  }
}
