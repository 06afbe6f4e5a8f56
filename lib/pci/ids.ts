/**
 * Names of vendors, devices, subsystems and classes: a parser for the text of the public `pci.ids` file, and
 * lookups on its outcome. Reading the file is the caller's business.
 *
 * @module
 */

import type { ClassCode, SubsystemId } from "./config_space.ts";

/** A device with its subsystems. */
export interface DeviceNames {
  /** Name of the device. */
  readonly name: string;
  /** Names by `subsystemKey(vendor, device)`. */
  readonly subsystems: ReadonlyMap<number, string>;
}

/** A vendor with its devices. */
export interface VendorNames {
  /** Name of the vendor. */
  readonly name: string;
  /** Devices by device ID. */
  readonly devices: ReadonlyMap<number, DeviceNames>;
}

/** A subclass with its programming interfaces. */
export interface SubclassNames {
  /** Name of the subclass. */
  readonly name: string;
  /** Names by programming interface. */
  readonly interfaces: ReadonlyMap<number, string>;
}

/** A base class with its subclasses. */
export interface BaseClassNames {
  /** Name of the base class. */
  readonly name: string;
  /** Subclasses by number. */
  readonly subclasses: ReadonlyMap<number, SubclassNames>;
}

/** All names of one source. */
export interface PciNames {
  /** Vendors by vendor ID. */
  readonly vendors: ReadonlyMap<number, VendorNames>;
  /** Base classes by number. */
  readonly classes: ReadonlyMap<number, BaseClassNames>;
}

/** Outcome of {@linkcode lookup}: a name is absent when the source has none. */
export interface FunctionNames {
  /** Vendor name. */
  readonly vendor?: string;
  /** Device name. */
  readonly device?: string;
}

const VENDOR_LINE = /^([0-9a-f]{4})\s+(.+)$/i;
const DEVICE_LINE = /^\t([0-9a-f]{4})\s+(.+)$/i;
const SUBSYSTEM_LINE = /^\t\t([0-9a-f]{4})\s+([0-9a-f]{4})\s+(.+)$/i;
const CLASS_LINE = /^C\s+([0-9a-f]{2})\s+(.+)$/i;
const SUBCLASS_LINE = /^\t([0-9a-f]{2})\s+(.+)$/i;
const INTERFACE_LINE = /^\t\t([0-9a-f]{2})\s+(.+)$/i;

/**
 * Reads the text of a `pci.ids` file. Lines that fit neither a vendor nor a class block are skipped, because the
 * file also holds other lists and gains new ones.
 */
export function parsePciIds(text: string): PciNames {
  const vendors = new Map<number, VendorNames & { devices: Map<number, DeviceNames> }>();
  const classes = new Map<number, BaseClassNames & { subclasses: Map<number, SubclassNames> }>();
  let devices: Map<number, DeviceNames> | undefined;
  let subsystems: Map<number, string> | undefined;
  let subclasses: Map<number, SubclassNames> | undefined;
  let interfaces: Map<number, string> | undefined;
  for (const line of text.split(/\r?\n/)) {
    if (line === "" || line.startsWith("#")) continue;
    let match: RegExpExecArray | null;
    if (!line.startsWith("\t")) {
      devices =
        subsystems =
        subclasses =
        interfaces =
          undefined;
      if ((match = CLASS_LINE.exec(line)) !== null) {
        subclasses = new Map();
        classes.set(hex(match[1]), { name: match[2] ?? "", subclasses });
      } else if ((match = VENDOR_LINE.exec(line)) !== null) {
        devices = new Map();
        vendors.set(hex(match[1]), { name: match[2] ?? "", devices });
      }
    } else if (devices !== undefined) {
      if ((match = SUBSYSTEM_LINE.exec(line)) !== null) {
        subsystems?.set(subsystemKey(hex(match[1]), hex(match[2])), match[3] ?? "");
      } else if ((match = DEVICE_LINE.exec(line)) !== null) {
        subsystems = new Map();
        devices.set(hex(match[1]), { name: match[2] ?? "", subsystems });
      }
    } else if (subclasses !== undefined) {
      if ((match = INTERFACE_LINE.exec(line)) !== null) {
        interfaces?.set(hex(match[1]), match[2] ?? "");
      } else if ((match = SUBCLASS_LINE.exec(line)) !== null) {
        interfaces = new Map();
        subclasses.set(hex(match[1]), { name: match[2] ?? "", interfaces });
      }
    }
  }
  return { vendors, classes };
}

/** Key of a subsystem in {@linkcode DeviceNames.subsystems}. */
export function subsystemKey(vendorId: number, deviceId: number): number {
  return vendorId * 0x10000 + deviceId;
}

/** Names of a vendor and one of its devices. */
export function lookup(names: PciNames, vendorId: number, deviceId: number): FunctionNames {
  const vendor = names.vendors.get(vendorId);
  const device = vendor?.devices.get(deviceId)?.name;
  return {
    ...(vendor === undefined ? {} : { vendor: vendor.name }),
    ...(device === undefined ? {} : { device }),
  };
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
  const vendor = names.vendors.get(subsystem.vendorId)?.name;
  const chip = names.vendors.get(vendorId)?.devices.get(deviceId);
  const device = chip?.subsystems.get(subsystemKey(subsystem.vendorId, subsystem.deviceId)) ??
    (subsystem.vendorId === vendorId && subsystem.deviceId === deviceId ? chip?.name : undefined);
  return {
    ...(vendor === undefined ? {} : { vendor }),
    ...(device === undefined ? {} : { device }),
  };
}

/** Names of a class code. */
export interface ClassNames {
  /** Most exact name of the class: that of the subclass, or else of the base class. */
  readonly name?: string;
  /** The name is only the base class's. */
  readonly isBaseOnly: boolean;
  /** Name of the programming interface. */
  readonly programmingInterface?: string;
}

/** Names of a class code. */
export function lookupClass(names: PciNames, classCode: ClassCode): ClassNames {
  const base = names.classes.get(classCode.base);
  const sub = base?.subclasses.get(classCode.sub);
  const programmingInterface = sub?.interfaces.get(classCode.programmingInterface);
  const name = sub?.name ?? base?.name;
  return {
    ...(name === undefined ? {} : { name }),
    isBaseOnly: sub === undefined,
    ...(programmingInterface === undefined ? {} : { programmingInterface }),
  };
}

function hex(digits: string | undefined): number {
  return parseInt(digits ?? "0", 16);
}
