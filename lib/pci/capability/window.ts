/**
 * The bounded view through which every capability is decoded, so that no declaration can run past the list that
 * holds its capability, whatever length or count the device claims.
 *
 * @module
 */

import type { ConfigSpace } from "../config_space.ts";
import { CONVENTIONAL_BYTES, EXTENDED_BYTES } from "../header.ts";
import type {
  AccessWidth,
  RegisterDeclaration,
  RegisterTable,
  RegisterValues,
  ValueOf,
} from "../../registers/declaration.ts";
import type { CapabilityListName } from "./names.ts";

/** What all decoded capabilities have in common. */
export interface CapabilityHeader {
  /** Which list the capability is on. */
  readonly list: CapabilityListName;
  /** Capability ID: 8 bits on the standard list, 16 on the extended one. */
  readonly id: number;
  /** Name of the ID, `"Capability ID 0x…"` when unknown. */
  readonly name: string;
  /** Structure version of an extended capability (4 bits); 0 on the standard list. */
  readonly version: number;
  /** Byte offset in configuration space. */
  readonly offset: number;
  /** Byte offset of the next capability as the header gives it; 0 at the end. */
  readonly next: number;
}

/** Raised by a decoder that would read past the end of its list's area; the walker turns it into a finding. */
export class WindowOverrun extends Error {
  /** Name of the error class. */
  override name = "WindowOverrun";

  /** Notes that the `needed` bytes of a capability do not fit into the `available` ones. */
  constructor(readonly needed: number, readonly available: number) {
    super(`its ${needed} bytes do not fit: ${available} are left`);
  }
}

/** Raised by a decoder that would read what its list's area has room for, but the bytes at hand do not hold. */
export class WindowCut extends WindowOverrun {
  /** Name of the error class. */
  override name = "WindowCut";
}

/** One capability's bytes, from its header up to the end of its list's part of configuration space. */
export class CapabilityWindow {
  /** The capability's header, already decoded. */
  readonly header: CapabilityHeader;
  /** Vendor ID of the function: it decides what a vendor-specific capability means. */
  readonly vendorId: number;
  /** Header type of the function (0 endpoint, 1 bridge, 2 CardBus bridge). */
  readonly headerType: number;
  /** The function says that it handles End-End TLP prefixes, of which some capabilities keep more. */
  readonly hasEndToEndTlpPrefixes: boolean;
  /** Bytes from the capability's offset to the end of what is at hand of the area that it may occupy. */
  readonly availableBytes: number;
  /** Bytes from the capability's offset to the end of that area. */
  readonly #areaBytes: number;
  readonly #config: ConfigSpace;

  /** Opens a window on a capability of `config`. */
  constructor(config: ConfigSpace, header: CapabilityHeader, hasEndToEndTlpPrefixes: boolean = false) {
    this.#config = config;
    this.header = header;
    this.vendorId = config.vendorId;
    this.headerType = config.headerType;
    this.hasEndToEndTlpPrefixes = hasEndToEndTlpPrefixes;
    const end = header.list === "standard" ? CONVENTIONAL_BYTES : EXTENDED_BYTES;
    this.#areaBytes = end - header.offset;
    this.availableBytes = Math.min(end, config.sizeBytes) - header.offset;
  }

  /** Makes sure that the capability has room for `bytes`. @throws {WindowOverrun} when it has not, {WindowCut} when they are not at hand */
  require(bytes: number): void {
    if (bytes > this.#areaBytes) throw new WindowOverrun(bytes, this.#areaBytes);
    if (bytes > this.availableBytes) throw new WindowCut(bytes, this.availableBytes);
  }

  /** Reads at an offset into the capability. @throws {WindowOverrun} past the end */
  read(offset: number, width: AccessWidth): number {
    this.require(offset + width);
    return this.#config.read(this.header.offset + offset, width);
  }

  /** Copies bytes out of the capability. @throws {WindowOverrun} past the end */
  copy(offset: number, bytes: number): Uint8Array {
    this.require(offset + bytes);
    const start = this.header.offset + offset;
    return this.#config.bytes.slice(start, start + bytes);
  }

  /** Reads a declared register. @param base bytes from the capability to the start of its table @throws {WindowOverrun} past the end */
  register<const R extends RegisterDeclaration>(register: R, base: number = 0): ValueOf<R> {
    this.require(base + register.offset + register.width);
    return this.#config.register(register, this.header.offset + base);
  }

  /** Reads all registers of a table, in its order. @param base bytes from the capability to the start of the table @throws {WindowOverrun} past the end */
  registers<const T extends RegisterTable>(table: T, base: number = 0): RegisterValues<T> {
    return Object.fromEntries(
      Object.entries(table).map(([name, register]) => [name, this.register(register, base)]),
    ) as RegisterValues<T>;
  }
}
