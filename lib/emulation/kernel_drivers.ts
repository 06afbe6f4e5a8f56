/**
 * The emulated kernel's drivers, and which functions they match (Linux: pci_match_device, new_id_store and remove_id_store of pci-driver.c;
 * platform_match of drivers/base/platform.c).
 *
 * @module
 */
import { VIRTIO_VENDOR_ID } from "../pci/virtio_ids.ts";
import type { PciIdentity } from "./pci_function.ts";
import type { Fail } from "./sysfs_tree.ts";
import type { KernelDriverName } from "./function_topology.ts";
import { type Bus, PCI, PLATFORM } from "../vfio/bus.ts";

/** A driver of the emulated kernel. */
export interface KernelDriver {
  /** Bus that it is registered on. */
  readonly bus: Bus;
  /**
   * `virtio`: it drives the function for the host, with DMA, so that no function of its group can be given to a user; `vfio`: it hands the
   * function to users; `stub`: it only keeps others away.
   */
  readonly role: "virtio" | "vfio" | "stub";
}

/** The drivers by name, in the order in which the kernel asks them. */
export const DRIVERS: Readonly<Record<KernelDriverName, KernelDriver>> = {
  "virtio-pci": { bus: PCI, role: "virtio" },
  "vfio-pci": { bus: PCI, role: "vfio" },
  "pci-stub": { bus: PCI, role: "stub" },
  "virtio-mmio": { bus: PLATFORM, role: "virtio" },
  "vfio-platform": { bus: PLATFORM, role: "vfio" },
};

/** Names of the drivers of a bus. */
export function driversOf(bus: Bus): KernelDriverName[] {
  return (Object.keys(DRIVERS) as KernelDriverName[]).filter((name) => DRIVERS[name].bus === bus);
}

/** Whether a platform driver's own table covers a device: virtio-mmio has one, vfio-platform takes only what `driver_override` names it for. */
export function matchesPlatform(driver: KernelDriverName, compatible: string): boolean {
  return driver === "virtio-mmio" && compatible === "virtio,mmio";
}

const ANY = 0xffff_ffff;

/** As `new_id` takes it. */
type DynamicId = readonly [
  vendor: number,
  device: number,
  subvendor: number,
  subdevice: number,
  classCode: number,
  classMask: number,
];

/** What is not written of one. */
const DEFAULTS: DynamicId = [ANY, ANY, ANY, ANY, 0, 0];

/** Id tables of all drivers: virtio-pci has one of its own, vfio-pci and pci-stub only what `new_id` gave them. */
export class DriverIds {
  readonly #dynamic = new Map<KernelDriverName, DynamicId[]>();

  /** Whether the driver's ids cover a function; a `driver_override` is not looked at. */
  match(driver: KernelDriverName, identity: PciIdentity): boolean {
    if (this.#of(driver).some((id) => covers(id, identity))) return true;
    // virtio-pci's probe takes the transitional ids and those of virtio 1.0 and later.
    return driver === "virtio-pci" && identity.vendorId === VIRTIO_VENDOR_ID && identity.deviceId >= 0x1000 &&
      identity.deviceId <= 0x107f;
  }

  /** A write of `new_id`: vendor, device and optionally subvendor, subdevice, class and class mask, in hexadecimal. */
  add(driver: KernelDriverName, text: string, fail: Fail): void {
    const id = parse(text, fail);
    if (this.#of(driver).some((other) => same(other, id))) fail("EEXIST");
    this.#of(driver).push(id);
  }

  /** A write of `remove_id`. */
  remove(driver: KernelDriverName, text: string, fail: Fail): void {
    const id = parse(text, fail);
    const ids = this.#of(driver);
    const at = ids.findIndex((other) => same(other, id));
    if (at < 0) fail("ENODEV", `${driver} has no such id`);
    ids.splice(at, 1);
  }

  #of(driver: KernelDriverName): DynamicId[] {
    const ids = this.#dynamic.get(driver) ?? [];
    this.#dynamic.set(driver, ids);
    return ids;
  }
}

function parse(text: string, fail: Fail): DynamicId {
  const words = text.trim().split(/\s+/);
  if (words.length < 2 || !words.every((word) => /^(0x)?[0-9a-f]{1,8}$/i.test(word))) {
    fail("EINVAL", "write vendor and device id in hexadecimal: 1af4 1041");
  }
  return DEFAULTS.map((other, i) =>
    i < words.length ? parseInt(words[i]!, 16) : other
  ) as unknown as DynamicId;
}

function covers(id: DynamicId, identity: PciIdentity): boolean {
  const [vendor, device, subvendor, subdevice, classCode, classMask] = id;
  const is = (wanted: number, actual: number) => wanted === ANY || wanted === actual;
  return is(vendor, identity.vendorId) && is(device, identity.deviceId) &&
    is(subvendor, identity.subsystemVendorId) && is(subdevice, identity.subsystemId) &&
    ((classCode ^ identity.classCode) & classMask) === 0;
}

function same(a: DynamicId, b: DynamicId): boolean {
  return a.every((number, i) => number === b[i]);
}
