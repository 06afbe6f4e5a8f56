/**
 * Names of functions: from the host's `pci.ids` file when it has one, else from the built-in table.
 *
 * @module
 */
import { requireType, typedErrors } from "../../errors/doors.ts";
import { readTextIfAny } from "../../../ffi/mod.ts";
import { BUILTIN_NAMES } from "../../pci/builtin_names.ts";
import { lookup, lookupClass, parsePciIds, type PciNames } from "../../pci/ids.ts";
import { hex } from "../../pci/hex.ts";

/** Where distributions keep the file. */
const PCI_IDS_PATHS: readonly string[] = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];

/** Names that `FunctionInfo` shows; a number in hexadecimal where no name is known. */
export interface ShownNames {
  /** Of the vendor. */
  readonly vendorName: string;
  /** Of the device. */
  readonly deviceName: string;
  /** Of the subclass, else of the base class. */
  readonly className: string;
}

/** Looks up names. */
export interface NameSource {
  /** `classCode` has 24 bits. */
  namesOf(vendorId: number, deviceId: number, classCode: number): ShownNames;
}

/** `NameSource` that reads the host's file when it is first asked. */
export class PciIdsNames implements NameSource {
  static {
    typedErrors(this);
  }

  readonly #paths: readonly string[];
  #names: readonly PciNames[] | undefined;

  /** The first of the files `paths` that is there is read. */
  constructor(paths: readonly string[] = PCI_IDS_PATHS) {
    this.#paths = paths;
  }

  namesOf(vendorId: number, deviceId: number, classCode: number): ShownNames {
    if (this.#names === undefined) {
      const file = readPciIds(this.#paths);
      this.#names = file === undefined ? [BUILTIN_NAMES] : [file, BUILTIN_NAMES];
    }
    const code = {
      base: classCode >>> 16,
      sub: (classCode >>> 8) & 0xff,
      programmingInterface: classCode & 0xff,
      value: classCode,
    };
    let vendorName: string | undefined;
    let deviceName: string | undefined;
    let className: string | undefined;
    for (const names of this.#names) {
      const found = lookup(names, vendorId, deviceId);
      vendorName ??= found.vendor;
      deviceName ??= found.device;
      className ??= lookupClass(names, code).name;
    }
    return {
      vendorName: vendorName ?? `vendor ${hex(vendorId, 4)}`,
      deviceName: deviceName ?? `device ${hex(deviceId, 4)}`,
      className: className ?? `class ${hex(classCode, 6)}`,
    };
  }
}

/** The host's table of names, or the built-in one where it has none. */
export function readPciNames(paths: readonly string[] = PCI_IDS_PATHS): PciNames {
  requireType(paths, "array", "readPciNames: paths");
  return readPciIds(paths) ?? BUILTIN_NAMES;
}

function readPciIds(paths: readonly string[]): PciNames | undefined {
  for (const path of paths) {
    const text = readTextIfAny(path);
    if (text !== undefined) return parsePciIds(text);
  }
  return undefined;
}
