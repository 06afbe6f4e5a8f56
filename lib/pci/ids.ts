/**
 * Names of vendors, devices, subsystems and classes: a parser for the text of the public `pci.ids` file, and
 * lookups on its outcome. Reading the file is the caller's business.
 *
 * @module
 */

import type { ClassCode, SubsystemId } from "./config_space.ts";

/** A name, and what is told apart below it. */
export interface IdNames {
  /** The name. */
  readonly name: string;
  /** Devices of a vendor, subsystems of a device (by 2^16 × vendor + device), subclasses of a class, or interfaces of a subclass. */
  readonly below: ReadonlyMap<number, IdNames>;
}

/** All names of one source. */
export interface PciNames {
  /** Vendors by vendor ID. */
  readonly vendors: ReadonlyMap<number, IdNames>;
  /** Base classes by number. */
  readonly classes: ReadonlyMap<number, IdNames>;
}

/** Outcome of {@linkcode lookup}: a name is undefined when the source has none. */
export interface FunctionNames {
  /** Vendor name. */
  readonly vendor: string | undefined;
  /** Device name. */
  readonly device: string | undefined;
}

/** Lines of each block by their tabs; the numbers come before the name. */
const LINES = {
  vendors: [
    /^([0-9a-f]{4})\s+(.+)$/i,
    /^\t([0-9a-f]{4})\s+(.+)$/i,
    /^\t\t([0-9a-f]{4}\s+[0-9a-f]{4})\s+(.+)$/i,
  ],
  classes: [/^C\s+([0-9a-f]{2})\s+(.+)$/i, /^\t([0-9a-f]{2})\s+(.+)$/i, /^\t\t([0-9a-f]{2})\s+(.+)$/i],
} as const;
const BLOCKS = ["classes", "vendors"] as const;
/** Below the last of three names. */
const NOTHING: Map<number, IdNames> = new Map();

/**
 * Reads the text of a `pci.ids` file. Lines that fit neither a vendor nor a class block are skipped, because the
 * file also holds other lists and gains new ones.
 */
export function parsePciIds(text: string): PciNames {
  const names = { vendors: new Map<number, IdNames>(), classes: new Map<number, IdNames>() };
  let block: keyof typeof names | undefined;
  /** What a line of each depth goes into. */
  let open: Map<number, IdNames>[] = [];
  for (const line of text.split(/\r?\n/)) {
    if (line === "" || line.startsWith("#")) continue;
    const depth = line.startsWith("\t\t") ? 2 : line.startsWith("\t") ? 1 : 0;
    if (depth === 0) {
      block = BLOCKS.find((one) => LINES[one][0].test(line));
      open = block === undefined ? [] : [names[block]];
    }
    const match = block === undefined ? null : LINES[block][depth].exec(line);
    if (match === null) continue;
    const below = depth === 2 ? NOTHING : new Map<number, IdNames>();
    open[depth]?.set(numberOf(match[1]!), { name: match[2]!, below });
    open[depth + 1] = below;
  }
  return names;
}

/** Of one number, or of a subsystem's two. */
function numberOf(digits: string): number {
  const second = digits.length <= 4 ? "" : digits.slice(-4);
  return parseInt(digits.slice(0, 4) + second, 16);
}

/** Names of a vendor and one of its devices. */
export function lookup(names: PciNames, vendorId: number, deviceId: number): FunctionNames {
  const vendor = names.vendors.get(vendorId);
  return { vendor: vendor?.name, device: vendor?.below.get(deviceId)?.name };
}

/**
 * Names of a subsystem. A board that carries the chip vendor's own reference IDs has the chip's name, as in
 * `lspci`.
 */
export function lookupSubsystem(
  names: PciNames,
  vendorId: number,
  deviceId: number,
  subsystem: SubsystemId,
): FunctionNames {
  const chip = names.vendors.get(vendorId)?.below.get(deviceId);
  const isChip = subsystem.vendorId === vendorId && subsystem.deviceId === deviceId;
  return {
    vendor: names.vendors.get(subsystem.vendorId)?.name,
    device: chip?.below.get(subsystem.vendorId * 0x10000 + subsystem.deviceId)?.name ??
      (isChip ? chip?.name : undefined),
  };
}

/** Names of a class code. */
export interface ClassNames {
  /** Most exact name of the class: that of the subclass, or else of the base class. */
  readonly name: string | undefined;
  /** The name is only the base class's. */
  readonly isBaseOnly: boolean;
  /** Name of the programming interface. */
  readonly programmingInterface: string | undefined;
}

/** Names of a class code. */
export function lookupClass(names: PciNames, classCode: ClassCode): ClassNames {
  const base = names.classes.get(classCode.base), sub = base?.below.get(classCode.sub);
  return {
    name: sub?.name ?? base?.name,
    isBaseOnly: sub === undefined,
    programmingInterface: sub?.below.get(classCode.programmingInterface)?.name,
  };
}
