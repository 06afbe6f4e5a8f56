/**
 * Names of vendors, devices, subsystems and classes: out of the text of the public `pci.ids` file, and lookups among
 * them. Reading the file is the caller's business.
 *
 * @module
 */

import type { ClassCode, SubsystemId } from "./config_space.ts";

/** A name, and what is told apart below it. */
export interface IdNames {
  /** The name. */
  readonly name: string;
  /** A device of a vendor, a subsystem of a device (by 2^16 × vendor + device), a subclass of a class, or an interface of a subclass. */
  below(id: number): IdNames | undefined;
}

/** All names of one source. Undefined for what it has no name for. */
export interface PciNames {
  /** Names of a vendor, by vendor ID. */
  vendor(id: number): IdNames | undefined;
  /** Names of a base class, by number. */
  baseClass(base: number): IdNames | undefined;
}

/** Outcome of {@linkcode lookup}: a name is undefined when the source has none. */
export interface FunctionNames {
  /** Vendor name. */
  readonly vendor: string | undefined;
  /** Device name. */
  readonly device: string | undefined;
}

/**
 * Names out of the text of a `pci.ids` file. Lines that fit neither a vendor nor a class block are skipped, because the file also holds other
 * lists and gains new ones. The text is a megabyte and a half, of which a host needs a few lines: they are looked for when they are asked for.
 */
export function parsePciIds(text: string): PciNames {
  // The file begins with a comment, and so is searched as it is: a longer text would be copied as a whole.
  const lines = text.startsWith("#") ? text : `\n${text}`;
  return {
    vendor: (id) => namesOf(lines, [(id) => hexDigits(id, 4), (id) => hexDigits(id, 4), subsystemDigits], id),
    baseClass: (base) => namesOf(lines, [(id) => `C ${hexDigits(id, 2)}`, twoDigits, twoDigits], base),
  };
}

/** How the numbers of lines are written, by depth: as many tabs as a line has before it. */
type Digits = readonly ((id: number) => string)[];

const twoDigits = (id: number): string => hexDigits(id, 2);
const subsystemDigits = (id: number): string =>
  `${hexDigits(Math.floor(id / 0x10000), 4)} ${hexDigits(id % 0x10000, 4)}`;

function hexDigits(id: number, digits: number): string {
  return id.toString(16).padStart(digits, "0");
}

/** The name of a number among `lines`, each of which has a line feed before it, and what is below it: as far as the next line with no more tabs. */
function namesOf(lines: string, digits: Digits, id: number, depth = 0): IdNames | undefined {
  const begin = `\n${"\t".repeat(depth)}${digits[depth]?.(id)} `;
  // Searching for a string is ten times as fast as for a pattern.
  const at = lines.indexOf(begin);
  if (at < 0) return undefined;
  const line = / *(\S.*?)\r?$/my;
  line.lastIndex = at + begin.length;
  const name = line.exec(lines)?.[1];
  if (name === undefined) return undefined;
  const rest = lines.slice(line.lastIndex);
  const end = rest.search(END_OF[depth]!);
  const block = end < 0 ? rest : rest.slice(0, end);
  return { name, below: (id) => namesOf(block, digits, id, depth + 1) };
}

/** Where what is below a line ends. */
const END_OF = [/\n[^\t#\r\n]/, /\n(?!\t\t)[^#\r\n]/, /^/];

/** Names of a vendor and one of its devices. */
export function lookup(names: PciNames, vendorId: number, deviceId: number): FunctionNames {
  const vendor = names.vendor(vendorId);
  return { vendor: vendor?.name, device: vendor?.below(deviceId)?.name };
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
  const chip = names.vendor(vendorId)?.below(deviceId);
  const isChip = subsystem.vendorId === vendorId && subsystem.deviceId === deviceId;
  return {
    vendor: names.vendor(subsystem.vendorId)?.name,
    device: chip?.below(subsystem.vendorId * 0x10000 + subsystem.deviceId)?.name ??
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
  const base = names.baseClass(classCode.base), sub = base?.below(classCode.sub);
  return {
    name: sub?.name ?? base?.name,
    isBaseOnly: sub === undefined,
    programmingInterface: sub?.below(classCode.programmingInterface)?.name,
  };
}
