/**
 * Buses whose functions VFIO hands out: how a function is named on each, and where sysfs has it.
 *
 * @module
 */
import { PciAddress } from "../pci/address.ts";

/** A bus. */
export interface Bus {
  /** Its name in sysfs. */
  readonly name: "pci" | "platform";
  /** What a function of it is called. */
  readonly kind: string;
  /** Directory of its functions. */
  readonly devices: string;
  /** Directory of its drivers. */
  readonly drivers: string;
  /** Attribute that lets the kernel look for a function's driver. */
  readonly probe: string;
  /** Driver that hands its functions to userspace. */
  readonly vfioDriver: string;
}

/** PCI: `0000:01:00.0`. */
export const PCI: Bus = busAt("pci", "PCI function", "vfio-pci");
/**
 * Devices that firmware describes: `a003e00.virtio_mmio` (unit address and name, from a device tree), `LNRO0005:00` (ACPI); and `virtio-mmio.0`, which
 * the kernel's command line describes in firmware's place (virtio_mmio.device=, on machines with neither). Other names of the bus are no places of
 * hardware (`pcspkr`, `serial8250`, `coretemp.0`): no driver of ours takes those, and they are not taken for addresses where a path is searched for one.
 */
export const PLATFORM: Bus = busAt("platform", "platform device", "vfio-platform");

const PCI_NAME = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;
const PLATFORM_NAME =
  /^([0-9a-f]{1,16}\.[a-zA-Z][\w,+-]*|([A-Z]{3}|[0-9A-Z]{4})[0-9A-F]{4}:[0-9a-f]{2,}|virtio-mmio\.\d+)$/;

function busAt(name: Bus["name"], kind: string, vfioDriver: string): Bus {
  const directory = `/sys/bus/${name}`;
  return {
    name,
    kind,
    devices: `${directory}/devices`,
    drivers: `${directory}/drivers`,
    probe: `${directory}/drivers_probe`,
    vfioDriver,
  };
}

/**
 * The full address of a function, of whatever bus, as people write it.
 * @throws UsageError when it is none
 */
export function parseAddress(text: string): string {
  return PLATFORM_NAME.test(text) ? text : PciAddress.parse(text).toString();
}

/** Whether a text is a function's full address. */
export function isAddress(text: string): boolean {
  return PLATFORM_NAME.test(text) || PciAddress.tryParse(text)?.toString() === text;
}

/** Where the registers of a platform device begin, as its name has it; undefined for a name without a unit address. */
export function unitAddress(address: string): bigint | undefined {
  const [unit, name] = address.split(".");
  return name !== undefined && /^[0-9a-f]+$/.test(unit!) ? BigInt(`0x${unit}`) : undefined;
}

/** The bus that a function is on, by its full address. */
export function busOf(address: string): Bus {
  return PCI_NAME.test(address) ? PCI : PLATFORM;
}

/** Directory of a function in sysfs. */
export function sysfsDirectory(address: string): string {
  return `${busOf(address).devices}/${address}`;
}
