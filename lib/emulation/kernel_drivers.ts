/**
 * Which ids the emulated kernel's PCI drivers match (Linux: pci_match_device, new_id_store and remove_id_store of pci-driver.c).
 *
 * @module
 */
import { VIRTIO_VENDOR_ID } from "../pci/virtio_ids.ts";
import type { PciIdentity } from "./pci_function.ts";
import type { Fail } from "./sysfs_tree.ts";
import type { KernelDriverName } from "./function_topology.ts";

const ANY = 0xffff_ffff;

interface DynamicId {
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  readonly classCode: number;
  readonly classMask: number;
}

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
    const id = parse(text);
    if (id === undefined) fail("EINVAL", "write vendor and device id in hexadecimal: 1af4 1041");
    if (this.#of(driver).some((other) => same(other, id!))) fail("EEXIST");
    this.#of(driver).push(id!);
  }

  /** A write of `remove_id`. */
  remove(driver: KernelDriverName, text: string, fail: Fail): void {
    const id = parse(text);
    if (id === undefined) fail("EINVAL", "write vendor and device id in hexadecimal: 1af4 1041");
    const ids = this.#of(driver);
    const at = ids.findIndex((other) => same(other, id!));
    if (at < 0) fail("ENODEV", `${driver} has no such id`);
    ids.splice(at, 1);
  }

  #of(driver: KernelDriverName): DynamicId[] {
    const ids = this.#dynamic.get(driver) ?? [];
    this.#dynamic.set(driver, ids);
    return ids;
  }
}

function parse(text: string): DynamicId | undefined {
  const words = text.trim().split(/\s+/);
  if (words.length < 2 || !words.every((word) => /^(0x)?[0-9a-f]{1,8}$/i.test(word))) return undefined;
  const numbers = words.map((word) => parseInt(word, 16));
  return {
    vendor: numbers[0]!,
    device: numbers[1]!,
    subvendor: numbers[2] ?? ANY,
    subdevice: numbers[3] ?? ANY,
    classCode: numbers[4] ?? 0,
    classMask: numbers[5] ?? 0,
  };
}

function covers(id: DynamicId, identity: PciIdentity): boolean {
  const is = (wanted: number, actual: number) => wanted === ANY || wanted === actual;
  return is(id.vendor, identity.vendorId) && is(id.device, identity.deviceId) &&
    is(id.subvendor, identity.subsystemVendorId) && is(id.subdevice, identity.subsystemId) &&
    ((id.classCode ^ identity.classCode) & id.classMask) === 0;
}

function same(a: DynamicId, b: DynamicId): boolean {
  return a.vendor === b.vendor && a.device === b.device && a.subvendor === b.subvendor &&
    a.subdevice === b.subdevice && a.classCode === b.classCode && a.classMask === b.classMask;
}
