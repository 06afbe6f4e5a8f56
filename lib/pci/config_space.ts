/**
 * A snapshot of one function's configuration space, read by field name.
 *
 * @module
 */

import { requireType, typedErrors } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import {
  type BaseAddress,
  decodeBaseAddresses,
  decodeExpansionRom,
  type ExpansionRom,
} from "./base_address.ts";
import { BRIDGE, CARD_BUS, EXTENDED_BYTES, HEADER, HEADER_BYTES } from "./header.ts";
import {
  type AccessWidth,
  decodeRegister,
  type RegisterDeclaration,
  type RegisterTable,
  type RegisterValue,
  type RegisterValues,
  type ValueOf,
} from "../registers/declaration.ts";

/** The three bytes that say what a function is (PCIe 6.0 §7.5.1.1.6). */
export interface ClassCode {
  /** Base class, such as 0x02 for network controllers. */
  readonly base: number;
  /** Subclass, such as 0x00 for Ethernet. */
  readonly sub: number;
  /** Programming interface, such as 0x02 for NVM Express. */
  readonly programmingInterface: number;
  /** All three as one 24-bit number. */
  readonly value: number;
}

/** Subsystem vendor and device, which tell boards with the same chip apart. */
export interface SubsystemId {
  /** Subsystem vendor ID. */
  readonly vendorId: number;
  /** Subsystem device ID. */
  readonly deviceId: number;
}

/** An address window that a bridge forwards, both ends inclusive. It is closed when `limit < base`. */
export interface BridgeWindow {
  /** First address. */
  readonly base: bigint;
  /** Last address. */
  readonly limit: bigint;
  /** Width of the window's address registers in bits. */
  readonly addressBits: 16 | 32 | 64;
  /** The two registers as they read, where the type bits in them are reserved or contradict each other: both ends are a guess then. */
  readonly badTypes?: readonly [base: number, limit: number];
}

/** Fields of header type 1: its registers, and the windows that several of them make. */
export interface BridgeHeader extends RegisterValues<typeof BRIDGE> {
  /** I/O ports forwarded downstream. */
  readonly io: BridgeWindow;
  /** Non-prefetchable memory forwarded downstream. */
  readonly memory: BridgeWindow;
  /** Prefetchable memory forwarded downstream. */
  readonly prefetchable: BridgeWindow;
}

/** A memory window of a CardBus bridge. */
export interface CardBusMemoryWindow extends BridgeWindow {
  /** Reads from it may be prefetched. */
  readonly prefetchable: boolean;
}

/** Fields of header type 2, a CardBus bridge: its registers, and the windows that several of them make. */
export interface CardBusHeader extends RegisterValues<typeof CARD_BUS> {
  /** Memory windows 0 and 1. */
  readonly memoryWindows: readonly CardBusMemoryWindow[];
  /** I/O windows 0 and 1. */
  readonly ioWindows: readonly BridgeWindow[];
  /** I/O base of the 16-bit PC Card interface, 0 for none. It is behind the first 64 bytes, which may be all that there is. */
  readonly legacyBase?: number;
}

/** Offset of the legacy base of a CardBus bridge. */
const LEGACY_BASE = 0x44;
const BARS_BY_HEADER_TYPE: Readonly<Record<number, number>> = { 0: 6, 1: 2, 2: 1 };

/**
 * One function's configuration space over caller-owned bytes: 64 (what Linux shows an unprivileged reader), 256
 * (conventional PCI), 4096 (PCI Express), or any length between: some functions end earlier than their kind, and some
 * readers show no more. The bytes are not copied, so a later write shows.
 *
 * All reads are little-endian, and offsets count bytes.
 */
export class ConfigSpace {
  static {
    typedErrors(this);
  }

  /** The bytes themselves. */
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  /**
   * Looks at `bytes` as a configuration space.
   *
   * @throws {UsageError} when there are fewer than 64 or more than 4096
   */
  constructor(bytes: Uint8Array) {
    requireType(bytes, "bytes", "new ConfigSpace: bytes");
    if (bytes.length < HEADER_BYTES || bytes.length > EXTENDED_BYTES) {
      throw new UsageError(`a configuration space cannot be ${bytes.length} bytes long`, {
        hint:
          "give 64 bytes (header only), 256 (conventional), up to 4096 (PCI Express), or what there is between",
      });
    }
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Number of bytes at hand. */
  get sizeBytes(): number {
    return this.bytes.length;
  }

  /** Reads a byte. @throws {UsageError} when `offset` is outside the bytes at hand */
  read8(offset: number): number {
    this.#check(offset, 1);
    return this.#view.getUint8(offset);
  }

  /** Reads 16 bits. @throws {UsageError} when they are not wholly inside the bytes at hand */
  read16(offset: number): number {
    this.#check(offset, 2);
    return this.#view.getUint16(offset, true);
  }

  /** Reads 32 bits, unsigned. @throws {UsageError} when they are not wholly inside the bytes at hand */
  read32(offset: number): number {
    this.#check(offset, 4);
    return this.#view.getUint32(offset, true);
  }

  /** Reads 8, 16 or 32 bits. @throws {UsageError} when they are not wholly inside the bytes at hand */
  read(offset: number, width: AccessWidth): number {
    return width === 1 ? this.read8(offset) : width === 2 ? this.read16(offset) : this.read32(offset);
  }

  /** Reads 64 bits. @throws {UsageError} when they are not wholly inside the bytes at hand */
  read64(offset: number): bigint {
    this.#check(offset, 8);
    return this.#view.getBigUint64(offset, true);
  }

  /** Reads a declared register at `base + register.offset`. @throws {UsageError} when it is not wholly inside the bytes at hand */
  register<const R extends RegisterDeclaration>(register: R, base: number = 0): ValueOf<R> {
    const { width } = register, at = base + register.offset;
    const value = width === 8
      ? this.read64(at)
      : register.fields === undefined
      ? this.read(at, width)
      : decodeRegister(register, this.read(at, width));
    return value as ValueOf<R>;
  }

  /** Reads all registers of a table, in its order. @throws {UsageError} when one is not wholly inside the bytes at hand */
  registers<const T extends RegisterTable>(table: T, base: number = 0): RegisterValues<T> {
    return Object.fromEntries(
      Object.entries(table).map(([name, register]) => [name, this.register(register, base)]),
    ) as RegisterValues<T>;
  }

  /** Vendor ID; 0xffff where no function answers, and in a VF's own configuration space. */
  get vendorId(): number {
    return this.register(HEADER.vendorId);
  }

  /** Device ID. */
  get deviceId(): number {
    return this.register(HEADER.deviceId);
  }

  /**
   * Whether anything answered: a read of an absent or powered-down function gives all ones. The first three dwords say it: IDs (which are ones
   * in a VF too), command and status, class code.
   */
  get isPresent(): boolean {
    return [HEADER.vendorId, HEADER.command, HEADER.revisionId].some(({ offset }) =>
      this.read32(offset) !== 0xffffffff
    );
  }

  /** Command register. */
  get command(): RegisterValue<typeof HEADER.command> {
    return this.register(HEADER.command);
  }

  /** Status register. */
  get status(): RegisterValue<typeof HEADER.status> {
    return this.register(HEADER.status);
  }

  /** Revision ID. */
  get revisionId(): number {
    return this.register(HEADER.revisionId).revisionId;
  }

  /** Class code. */
  get classCode(): ClassCode {
    const value = this.register(HEADER.revisionId).classCode;
    return { base: value >>> 16, sub: (value >>> 8) & 0xff, programmingInterface: value & 0xff, value };
  }

  /** Cache line size in bytes (the register counts dwords). Without effect on PCIe. */
  get cacheLineSizeBytes(): number {
    return this.register(HEADER.cacheLineSize) * 4;
  }

  /** Latency timer; 0 on PCIe. */
  get latencyTimer(): number {
    return this.register(HEADER.latencyTimer);
  }

  /** Header layout: 0 endpoint, 1 bridge, 2 CardBus bridge; other values are reserved. */
  get headerType(): number {
    return this.register(HEADER.headerType).layout;
  }

  /** The device has functions other than function 0. */
  get isMultiFunction(): boolean {
    return this.register(HEADER.headerType).multiFunction;
  }

  /** Built-in self test register. */
  get bist(): number {
    return this.register(HEADER.bist);
  }

  /** Number of base address registers that the header type has. */
  get barCount(): number {
    return BARS_BY_HEADER_TYPE[this.headerType] ?? 0;
  }

  /**
   * Decodes the base address registers.
   *
   * @param sizes size in bytes of each BAR by index, where known
   */
  bars(sizes: readonly (number | undefined)[] = []): BaseAddress[] {
    return decodeBaseAddresses((offset) => this.read32(offset), HEADER.bars.offset, this.barCount, sizes);
  }

  /** Expansion ROM register; `undefined` when it reads 0 or the header type has none. */
  get expansionRom(): ExpansionRom | undefined {
    if (this.headerType === 0) return decodeExpansionRom(this.register(HEADER.expansionRom));
    if (this.headerType === 1) return decodeExpansionRom(this.register(HEADER.bridgeExpansionRom));
    return undefined;
  }

  /**
   * Subsystem IDs of header types 0 and 2. A bridge (type 1) has a capability for them instead; a type 2 header
   * keeps them at 0x40, which a 64-byte snapshot lacks.
   */
  get subsystem(): SubsystemId | undefined {
    const at = this.headerType === 0
      ? HEADER.subsystemVendorId.offset
      : this.headerType === 2
      ? 0x40
      : undefined;
    if (at === undefined || at + 4 > this.sizeBytes) return undefined;
    return { vendorId: this.read16(at), deviceId: this.read16(at + 2) };
  }

  /** Byte offset of the first capability, 0 when there is none; the two reserved low bits are kept. */
  get capabilitiesPointer(): number {
    if (!this.status.capabilitiesList) return 0;
    return this.read8(this.headerType === 2 ? 0x14 : HEADER.capabilitiesPointer.offset);
  }

  /** Interrupt line: whatever firmware noted there. */
  get interruptLine(): number {
    return this.register(HEADER.interruptLine);
  }

  /** Which INTx wire the function pulls; `undefined` when it uses none or the value is reserved. */
  get interruptPin(): "A" | "B" | "C" | "D" | undefined {
    return ([undefined, "A", "B", "C", "D"] as const)[this.register(HEADER.interruptPin)];
  }

  /** Fields that only a bridge has; `undefined` for other header types. */
  get bridge(): BridgeHeader | undefined {
    if (this.headerType !== 1) return undefined;
    return {
      ...this.registers(BRIDGE),
      io: this.#window(0x1c, 1, 0x30),
      memory: this.#window(0x20, 2),
      prefetchable: this.#window(0x24, 2, 0x28),
    };
  }

  /** Fields that only a CardBus bridge has; `undefined` for other header types. */
  get cardBus(): CardBusHeader | undefined {
    if (this.headerType !== 2) return undefined;
    const header = this.registers(CARD_BUS), { control } = header;
    return {
      ...header,
      memoryWindows: [control.prefetchMemory0, control.prefetchMemory1].map((prefetchable, i) => ({
        base: BigInt(this.read32(0x1c + 8 * i)),
        limit: BigInt(this.read32(0x20 + 8 * i)) + 0xfffn & 0xffffffffn,
        addressBits: 32,
        prefetchable,
      })),
      ioWindows: [0x2c, 0x34].map((at) => {
        // The upper halves count where bit 0 of the base says so.
        const addressBits = this.read32(at) & 1 ? 32 : 16, mask = addressBits === 32 ? ~3 : 0xfffc;
        return {
          base: BigInt((this.read32(at) & mask) >>> 0),
          limit: BigInt((this.read32(at + 4) & mask) >>> 0) + 3n,
          addressBits,
        };
      }),
      ...(this.sizeBytes < LEGACY_BASE + 2 ? {} : { legacyBase: this.read16(LEGACY_BASE) }),
    };
  }

  /**
   * Base and limit of a window, registers of one byte for I/O ports and of two for memory. The lowest four bits of both say whether the upper
   * halves, which are twice as wide, exist.
   */
  #window(at: number, width: 1 | 2, upperAt?: number): BridgeWindow {
    const raw = [this.read(at, width), this.read(at + width, width)] as const;
    const type = raw[0] & 0xf, wide = upperAt !== undefined && type === 1;
    const isSound = type === (raw[1] & 0xf) && (wide || type === 0);
    const upperWidth = width === 1 ? 2 : 4;
    const address = (index: 0 | 1): bigint => {
      const lower = this.read(at + index * width, width) & ~0xf;
      const upper = wide ? this.read(upperAt + index * upperWidth, upperWidth) : 0;
      return (BigInt(upper) << BigInt(16 * width)) | (BigInt(lower) << BigInt(8 * width));
    };
    const granularity = 1n << BigInt(8 * width + 4);
    return {
      base: address(0),
      limit: address(1) | (granularity - 1n),
      addressBits: width === 1 ? (wide ? 32 : 16) : wide ? 64 : 32,
      ...(isSound ? {} : { badTypes: raw }),
    };
  }

  #check(offset: number, bytes: number): void {
    if (!Number.isInteger(offset) || offset < 0 || offset + bytes > this.bytes.length) {
      throw new UsageError(
        `configuration space holds ${this.bytes.length} bytes; ${bytes} at offset ${offset} are not inside it`,
      );
    }
  }
}
