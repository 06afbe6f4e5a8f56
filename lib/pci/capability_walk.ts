/**
 * Walks the two capability lists of a function and decodes what is on them.
 *
 * The lists are linked by offsets that the device supplies, so they are hostile input: a walk visits every offset
 * at most once, reads only inside configuration space, and turns whatever is wrong into a finding. Which capabilities are decoded is the caller's
 * choice: all of them are many files to load.
 *
 * @module
 */

import { typedCall } from "../errors/doors.ts";
import { DeviceError } from "../errors/mod.ts";
import type { CAPABILITIES, Capability, CapabilityOf } from "./capability/all.ts";
import { type CapabilityDeclaration, decodeCapability } from "./capability/declaration.ts";
import { type CapabilityListName, capabilityName } from "./capability/names.ts";
import { EXPRESS } from "./capability/express.ts";
import { type CapabilityHeader, CapabilityWindow, WindowCut, WindowOverrun } from "./capability/window.ts";
import type { ConfigSpace } from "./config_space.ts";
import { CONVENTIONAL_BYTES, HEADER_BYTES } from "./header.ts";

const PCIX_ID = 0x07;
/** PCI-X Status: 266 and 533 MHz Capable (PCI-X 2.0 §7.2.4), at the same place for functions and bridges. */
const PCIX_2_SPEEDS = 0xc0000000;

/** Something wrong with a list. */
export interface CapabilityFinding {
  /** Which list. */
  readonly list: CapabilityListName;
  /** Byte offset of the capability, or of the pointer, that is wrong. */
  readonly offset: number;
  /**
   * `cycle`: the list comes back to an offset already visited. `out-of-range`: a pointer leads into the header,
   * out of configuration space, or to where nothing answers. `unaligned`: the two low bits of a pointer are set (they are ignored). `overlap`:
   * two capabilities share bytes. `malformed`: a capability's contents contradict its ID. `unavailable`: the list
   * goes on where the snapshot has no bytes. `cut`: a capability does.
   */
  readonly problem: "cycle" | "out-of-range" | "unaligned" | "overlap" | "malformed" | "unavailable" | "cut";
  /** A sentence for people. */
  readonly message: string;
}

/** Outcome of a walk over both lists. */
export interface CapabilityList {
  /** All capabilities, standard ones first, each list in its own order. */
  readonly capabilities: readonly Capability[];
  /** What was wrong, in the order it was met; empty for a sound device. */
  readonly findings: readonly CapabilityFinding[];
}

/** The first capability of a kind, narrowed to its type. */
export function findCapability<K extends Capability["kind"]>(
  list: CapabilityList | Iterable<Capability>,
  kind: K,
): CapabilityOf<K> | undefined {
  return findCapabilities(list, kind)[0];
}

/** All capabilities of a kind, narrowed to their type. */
export function findCapabilities<K extends Capability["kind"]>(
  list: CapabilityList | Iterable<Capability>,
  kind: K,
): CapabilityOf<K>[] {
  return typedCall("findCapabilities", [list, kind], () => {
    const all = Symbol.iterator in list ? [...list] : list.capabilities;
    return all.filter((one): one is CapabilityOf<K> => one.kind === kind);
  });
}

/** A capability that has a declaration. */
export type Declared = typeof CAPABILITIES[number];

/** A walk over both lists, which decodes the capabilities of `declarations`, and names the others. */
export function walk(
  config: ConfigSpace,
  strict: boolean,
  declarations: readonly Declared[],
): CapabilityList {
  const walk = new Walk(config, strict, declarations);
  // A function that is gone reads as all ones: every pointer would be 0xff.
  if (config.isPresent) {
    walk.standard();
    if (walk.hasExtendedList()) walk.extended();
  }
  return { capabilities: walk.capabilities, findings: walk.findings };
}

/** State of one walk. */
class Walk {
  readonly capabilities: Capability[] = [];
  readonly findings: CapabilityFinding[] = [];
  readonly #config: ConfigSpace;
  readonly #strict: boolean;
  readonly #declarations: readonly Declared[];
  /** Start offset of the capability that owns each byte, so that overlaps show. */
  readonly #owner: Map<number, number> = new Map();

  constructor(config: ConfigSpace, strict: boolean, declarations: readonly Declared[]) {
    this.#config = config;
    this.#strict = strict;
    this.#declarations = declarations;
  }

  standard(): void {
    const visited = new Set<number>();
    let from = 0x34;
    let pointer = this.#config.capabilitiesPointer;
    while (pointer !== 0) {
      // Software must ignore the two low bits of a pointer (PCIe 6.0 §7.5.1.1.11).
      const offset = pointer & ~3;
      if (offset !== pointer) this.#note("standard", from, "unaligned", `pointer ${hex(pointer)}`);
      if (offset === 0) return;
      if (offset < HEADER_BYTES) {
        return this.#note("standard", from, "out-of-range", `pointer ${hex(offset)} is inside the header`);
      }
      if (visited.has(offset)) {
        return this.#note("standard", from, "cycle", `the list comes back to ${hex(offset)}`);
      }
      visited.add(offset);
      if (!this.#isAtHand("standard", offset, 2)) return;
      const id = this.#config.read8(offset), next = this.#config.read8(offset + 1);
      if (id === 0xff) {
        return this.#note(
          "standard",
          from,
          "out-of-range",
          `nothing answers at ${hex(offset)}: its ID is 0xff`,
        );
      }
      this.#add({ list: "standard", id, version: 0, offset, next });
      from = offset + 1;
      pointer = next;
    }
  }

  /**
   * Express functions have an extended list, and those of PCI-X 2, which say that they can do 266 or 533 MHz. Another function may show anything
   * from 0x100 on: nothing, or the first 256 bytes again, as does what is behind a conventional bridge.
   */
  hasExtendedList(): boolean {
    const config = this.#config, { capabilities } = this;
    if (config.sizeBytes <= CONVENTIONAL_BYTES) return false;
    const isPcix2 = ({ list, id, offset }: Capability): boolean =>
      list === "standard" && id === PCIX_ID && offset + 8 <= config.sizeBytes &&
      (config.read32(offset + 4) & PCIX_2_SPEEDS) !== 0;
    return capabilities.some((one) => (one.list === "standard" && one.id === EXPRESS.id) || isPcix2(one)) &&
      !this.#isMirrored();
  }

  /** Every 256 bytes begin as the first ones do. */
  #isMirrored(): boolean {
    const { sizeBytes } = this.#config, ids = this.#config.read32(0);
    for (let at = CONVENTIONAL_BYTES; at + 4 <= sizeBytes; at += CONVENTIONAL_BYTES) {
      if (this.#config.read32(at) !== ids) return false;
    }
    return sizeBytes >= CONVENTIONAL_BYTES + 4;
  }

  extended(): void {
    const visited = new Set<number>();
    let offset = CONVENTIONAL_BYTES;
    while (offset !== 0) {
      if (visited.has(offset)) {
        return this.#note("extended", offset, "cycle", `the list comes back to ${hex(offset)}`);
      }
      visited.add(offset);
      if (!this.#isAtHand("extended", offset, 4)) return;
      const raw = this.#config.read32(offset);
      // All zeros or all ones is how a function reads where it has no more capabilities: at 0x100 none at all, and some link on to it.
      if (raw === 0 || raw === 0xffffffff) return;
      const id = raw & 0xffff, version = (raw >>> 16) & 0xf, pointer = raw >>> 20;
      this.#add({ list: "extended", id, version, offset, next: pointer });
      const next = pointer & ~3;
      if (next !== pointer) this.#note("extended", offset, "unaligned", `pointer ${hex(pointer)}`);
      if (next !== 0 && next < CONVENTIONAL_BYTES) {
        const message = `pointer ${hex(next)} is below 0x100, where extended capabilities start`;
        return this.#note("extended", offset, "out-of-range", message);
      }
      offset = next;
    }
  }

  /** Whether a list goes on within the bytes at hand; it is noted when not. */
  #isAtHand(list: CapabilityListName, offset: number, bytes: number): boolean {
    const { sizeBytes } = this.#config;
    if (offset + bytes <= sizeBytes) return true;
    this.#note(list, offset, "unavailable", `only the first ${sizeBytes} bytes are readable`);
    return false;
  }

  #add(found: Omit<CapabilityHeader, "name">): void {
    const declaration = this.#declarations.find(({ list, id, vendorId }: CapabilityDeclaration) =>
      list === found.list && id === found.id && (vendorId ?? this.#config.vendorId) === this.#config.vendorId
    );
    const name = declaration?.title ?? capabilityName(found.list, found.id) ??
      `Capability ID ${hex(found.id)}`;
    const capability = this.#decode({ ...found, name }, declaration);
    this.capabilities.push(capability);
    this.#claim(capability);
  }

  #decode(header: CapabilityHeader, declaration: Declared | undefined): Capability {
    if (header.id === 0 || (header.list === "extended" && header.id === 0xffff)) {
      return { ...header, kind: "null" };
    }
    if (declaration === undefined) return { ...header, kind: "other" };
    const express = findCapability(this.capabilities, "express");
    const hasPrefixes = express?.device2?.capabilities.endToEndTlpPrefix ?? false;
    const window = new CapabilityWindow(this.#config, header, hasPrefixes);
    try {
      return decodeCapability(declaration, window);
    } catch (error) {
      if (!(error instanceof WindowOverrun)) throw error;
      if (error instanceof WindowCut) {
        this.#note(header.list, header.offset, "cut", `${header.name}: ${error.message}`);
        return { ...header, kind: "cut", neededBytes: error.needed, data: window.copy(0, error.available) };
      }
      this.#note(header.list, header.offset, "malformed", `${header.name}: ${error.message}`);
      return { ...header, kind: "malformed", reason: error.message };
    }
  }

  #claim(capability: Capability): void {
    const length = "lengthBytes" in capability
      ? capability.lengthBytes
      : capability.list === "standard"
      ? 2
      : 4;
    for (let at = capability.offset; at < capability.offset + length; at += 4) {
      const owner = this.#owner.get(at & ~3);
      if (owner !== undefined && owner !== capability.offset) {
        const message = `${capability.name} shares bytes with the capability at ${hex(owner)}`;
        this.#note(capability.list, capability.offset, "overlap", message);
        return;
      }
    }
    for (let at = capability.offset; at < capability.offset + length; at += 4) {
      this.#owner.set(at & ~3, capability.offset);
    }
  }

  #note(
    list: CapabilityListName,
    offset: number,
    problem: CapabilityFinding["problem"],
    message: string,
  ): void {
    const finding: CapabilityFinding = { list, offset, problem, message };
    if (this.#strict && problem !== "unavailable" && problem !== "cut") {
      throw new DeviceError(
        `${list} capability list, offset ${hex(offset)}: ${problem}: ${message}`,
        { field: "capabilities" },
      );
    }
    this.findings.push(finding);
  }
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
