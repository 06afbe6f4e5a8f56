/**
 * Registers of a virtio function's structures, each accessed with its own width.
 *
 * @module
 */
import { ClosedError, UsageError } from "../../errors/mod.ts";
import { Bar } from "../../vfio/bar.ts";
import type { VfioDevice } from "../../vfio/device.ts";
import type { BarDoorbell } from "../../vfio/doorbell.ts";
import {
  COMMON_CFG,
  type CommonRegisterName,
  QUEUE_STATE_CFG,
  type QueueStateRegisterName,
} from "../constants/pci.ts";
import type { Doorbell } from "./transport.ts";
import type { StructurePlace } from "./pci_layout.ts";

/** The BARs that hold the structures; one object for each. */
export class BarSet implements Disposable {
  readonly #device: VfioDevice;
  readonly #bars = new Map<number, Bar>();

  /** @param device an open function; stays the caller's */
  constructor(device: VfioDevice) {
    this.#device = device;
  }

  /** The BAR, made at first use. @throws UsageError when there is none */
  bar(index: number): Bar {
    let bar = this.#bars.get(index);
    if (bar === undefined) this.#bars.set(index, bar = new Bar(this.#device, index));
    return bar;
  }

  /** Unmaps all. */
  close(): void {
    for (const bar of this.#bars.values()) bar.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Registers of `virtio_pci_common_cfg`, those of profile `queue-state` included. */
export type RegisterName = CommonRegisterName | QueueStateRegisterName;

const REGISTERS = { ...COMMON_CFG, ...QUEUE_STATE_CFG } as const;

/** `virtio_pci_common_cfg`. Errors are those of `Bar`. */
export class CommonRegisters {
  readonly #bar: Bar;
  readonly #offset: number;
  /** Bytes that the capability gives it. */
  readonly lengthBytes: number;

  /** @param place as checked by `findVirtioLayout` */
  constructor(bars: BarSet, place: StructurePlace) {
    this.#bar = bars.bar(place.bar);
    this.#offset = place.offset;
    this.lengthBytes = place.lengthBytes;
  }

  /** True when the register lies wholly inside the structure. */
  has(name: RegisterName): boolean {
    const { offset, width } = REGISTERS[name];
    return offset + width <= this.lengthBytes;
  }

  /** Reads a register of up to 32 bits. */
  read(name: RegisterName): number {
    const { offset, width } = REGISTERS[name];
    return readWidth(this.#bar, this.#offset + offset, width === 8 ? 4 : width);
  }

  /** Writes a register of up to 32 bits. */
  write(name: RegisterName, value: number): void {
    const { offset, width } = REGISTERS[name];
    writeWidth(this.#bar, this.#offset + offset, width === 8 ? 4 : width, value);
  }

  /** Reads a 64-bit register as two accesses of 32 bits, low half first. */
  read64(name: RegisterName): bigint {
    const { offset } = REGISTERS[name];
    const low = this.#bar.read32(this.#offset + offset);
    return (BigInt(this.#bar.read32(this.#offset + offset + 4)) << 32n) | BigInt(low);
  }

  /** Writes a 64-bit register as two accesses of 32 bits, low half first. */
  write64(name: RegisterName, value: bigint): void {
    const { offset } = REGISTERS[name];
    this.#bar.write32(this.#offset + offset, Number(value & 0xffff_ffffn));
    this.#bar.write32(this.#offset + offset + 4, Number(value >> 32n));
  }
}

/** One access of that width. */
export function readWidth(bar: Bar, offset: number, width: 1 | 2 | 4): number {
  return width === 1 ? bar.read8(offset) : width === 2 ? bar.read16(offset) : bar.read32(offset);
}

/** One access of that width. @throws UsageError when the value does not fit it */
export function writeWidth(bar: Bar, offset: number, width: 1 | 2 | 4, value: number): void {
  if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * width)) {
    throw new UsageError(`${value} does not fit a register of ${8 * width} bits`);
  }
  if (width === 1) bar.write8(offset, value);
  else if (width === 2) bar.write16(offset, value);
  else bar.write32(offset, value);
}

/** Doorbell of one queue: 16 bits of identifier, or 32 bits with NOTIFICATION_DATA (reference 1.6). */
export class QueueDoorbell implements Doorbell {
  readonly #register: BarDoorbell;
  readonly #identifier: number;
  readonly #withData: boolean;
  readonly #owner: { readonly closed: boolean; readonly name: string };

  /** @param identifier queue index, or what the device gave with NOTIF_CONFIG_DATA */
  constructor(
    register: BarDoorbell,
    identifier: number,
    withData: boolean,
    owner: { readonly closed: boolean; readonly name: string },
  ) {
    this.#register = register;
    this.#identifier = identifier;
    this.#withData = withData;
    this.#owner = owner;
  }

  /** One write. @throws ClosedError */
  ring(nextOffset: number, nextWrap: number): void {
    if (this.#owner.closed) throw new ClosedError(this.#owner.name);
    this.#register.write(
      this.#withData
        ? (this.#identifier | ((nextOffset & 0x7fff) << 16) | (nextWrap << 31)) >>> 0
        : this.#identifier,
    );
  }
}
