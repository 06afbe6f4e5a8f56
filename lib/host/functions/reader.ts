/**
 * What sysfs says of a function.
 *
 * @module
 */
import { NotFoundError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import { PciAddress } from "../../pci/address.ts";
import { busOf, isAddress, parseAddress, PCI, PLATFORM, sysfsDirectory } from "../../vfio/bus.ts";
import { type AttachedDevices, attachedDevices, attachedTo } from "./attached_devices.ts";
import { baseName, type FunctionAttributes } from "../sysfs/attributes.ts";
import type { AnyFunctionInfo, FunctionInfo, PciFunctionInfo } from "../host.ts";
import type { FunctionLocks } from "./lock.ts";
import type { NameSource } from "./names.ts";
import { comparePlatformNames, isOfUse, readPlatform } from "./platform.ts";

/** Number of base address registers and the ROM, the first lines of `resource`. */
const RESOURCES = 7;
const NO_DEVICES: AttachedDevices = { netInterfaces: [], blockDevices: [] };

/** Reads functions. Only reads: nothing here changes the host. */
export class FunctionReader {
  readonly #attributes: FunctionAttributes;
  readonly #names: NameSource;
  readonly #locks: FunctionLocks;

  /** Puts the parts together; nothing is read yet. */
  constructor(attributes: FunctionAttributes, names: NameSource, locks: FunctionLocks) {
    this.#attributes = attributes;
    this.#names = names;
    this.#locks = locks;
  }

  /**
   * The full address that a text stands for, whether or not the function is there.
   * @param text full or short address, or the name of an interface or a disk
   * @throws UsageError when it is none
   */
  addressOf(text: string): string {
    try {
      return parseAddress(text);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      const owners = [...attachedDevices(this.#attributes)]
        .filter(([, { netInterfaces, blockDevices }]) => [...netInterfaces, ...blockDevices].includes(text))
        .map(([address]) => address);
      if (owners.length === 1) return owners[0]!;
      if (owners.length > 1) {
        throw new UsageError(`${text} hangs on ${owners.join(" and ")}`, { hint: "name one of them" });
      }
      throw new UsageError(`${error.message}, and no interface or disk of this host is called so`, {
        hint: error.hint,
        cause: error,
      });
    }
  }

  /**
   * The full address of a function that is there.
   * @param text as `addressOf` takes it
   * @throws UsageError when it is no address, NotFoundError when no function has it.
   */
  locate(text: string): string {
    const address = this.addressOf(text);
    if (!this.#attributes.exists(address)) {
      throw new NotFoundError(`there is no ${busOf(address).kind} ${address}`, {
        hint: "ringside list shows the functions of this host",
      });
    }
    return address;
  }

  /**
   * All PCI functions, by address, and platform devices.
   * @param all also those platform devices that `isOfUse` leaves out
   */
  list(all = false): FunctionInfo[] {
    const attached = attachedDevices(this.#attributes);
    const read = (address: string): FunctionInfo[] => {
      try {
        return [this.#read(address, attached.get(address) ?? NO_DEVICES)];
      } catch (error) {
        // A VF may go while the list is made.
        if (!this.#attributes.exists(address)) return [];
        throw error;
      }
    };
    const pci = this.#attributes.optionalList(PCI.devices)
      .map((name) => PciAddress.tryParse(name))
      .filter((address) => address !== undefined)
      .sort(PciAddress.compare)
      .flatMap((address) => read(address.toString()));
    const platform = this.#attributes.optionalList(PLATFORM.devices)
      .filter(isAddress)
      .sort(comparePlatformNames)
      .flatMap(read);
    return [...pci, ...platform.filter((one) => all || isOfUse(one))];
  }

  /** One function, by full address. @throws SyscallError */
  describe(address: string): FunctionInfo {
    return this.#read(address, attachedTo(this.#attributes, address));
  }

  #read(address: string, attached: AttachedDevices): FunctionInfo {
    const driver = this.#attributes.driver(address);
    const driverOverride = this.#attributes.driverOverride(address);
    const group = this.#attributes.linkName(`${sysfsDirectory(address)}/iommu_group`);
    const vfioCdev = this.#vfioCdev(address);
    const heldBy = this.#locks.holder(address);
    const common = {
      address,
      ...(driver === "" ? {} : { driver }),
      ...(driverOverride === "" ? {} : { driverOverride }),
      ...(group === undefined ? {} : { iommuGroup: Number(group) }),
      groupMembers: group === undefined ? [] : this.#groupMembers(group, address),
      numaNode: Number(this.#attributes.optional(`${sysfsDirectory(address)}/numa_node`) ?? "-1"),
      netInterfaces: attached.netInterfaces,
      blockDevices: attached.blockDevices,
      ...(vfioCdev === undefined ? {} : { vfioCdev }),
      ...(heldBy === undefined ? {} : { heldBy }),
    };
    return busOf(address) === PCI
      ? { ...common, ...this.#readPci(address) }
      : { ...common, ...readPlatform(this.#attributes, address) };
  }

  #readPci(address: string): Omit<PciFunctionInfo, Exclude<keyof AnyFunctionInfo, "deviceName">> {
    const vendorId = this.#number(address, "vendor");
    const deviceId = this.#number(address, "device");
    const classCode = this.#number(address, "class");
    const physicalFunction = this.#attributes.physicalFunction(address);
    const sriov = this.#sriov(address);
    return {
      bus: "pci",
      vendorId,
      deviceId,
      subsystemVendorId: this.#number(address, "subsystem_vendor"),
      subsystemId: this.#number(address, "subsystem_device"),
      revision: this.#number(address, "revision"),
      classCode,
      ...this.#names.namesOf(vendorId, deviceId, classCode),
      ...(sriov === undefined ? {} : { sriov }),
      ...(physicalFunction === undefined ? {} : { physicalFunction }),
    };
  }

  #number(address: string, attribute: string): number {
    return Number(this.#attributes.optional(`${sysfsDirectory(address)}/${attribute}`) ?? "0");
  }

  #sriov(address: string): PciFunctionInfo["sriov"] {
    const totalVfs = this.#attributes.totalVfs(address);
    if (totalVfs === undefined) return undefined;
    return {
      totalVfs,
      numVfs: this.#attributes.numVfs(address),
      driversAutoprobe: this.#attributes.read(address, "sriov_drivers_autoprobe") !== "0",
      vfs: this.#attributes.vfs(address),
    };
  }

  #groupMembers(group: string, address: string): string[] {
    return this.#attributes.optionalList(`/sys/kernel/iommu_groups/${group}/devices`)
      .filter((name) => name !== address);
  }

  /** The kernel names a cdev in sysfs even where it was built without cdevs, so only a device node counts. */
  #vfioCdev(address: string): string | undefined {
    return this.#attributes.optionalList(`${sysfsDirectory(address)}/vfio-dev`)
      .map(baseName)
      .find((name) => this.#attributes.sysfs.exists(`/dev/vfio/devices/${name}`));
  }

  /** Bytes of configuration space that this user may see. @throws UnsupportedError when it is no PCI function, SyscallError */
  readConfig(address: string): Uint8Array<ArrayBuffer> {
    requirePci(address, "configuration space");
    return this.#attributes.sysfs.readBytes(`${sysfsDirectory(address)}/config`);
  }

  /**
   * Sizes of BAR 0–5 and ROM in bytes, from `resource`: a line each with first and last address and flags, all zero for none.
   * @throws UnsupportedError when it is no PCI function, SyscallError
   */
  barSizes(address: string): number[] {
    requirePci(address, "base address registers");
    const lines = this.#attributes.sysfs.readText(`${sysfsDirectory(address)}/resource`).split("\n");
    return Array.from({ length: RESOURCES }, (_, index) => {
      const [first, last] = (lines[index] ?? "").trim().split(/\s+/);
      if (first === undefined || last === undefined || !/^0x[0-9a-f]+$/i.test(first)) return 0;
      const size = BigInt(last) - BigInt(first) + 1n;
      return BigInt(last) === 0n || size < 0n ? 0 : Number(size);
    });
  }
}

/** @throws UnsupportedError saying what a function of another bus has not */
function requirePci(address: string, what: string): void {
  const bus = busOf(address);
  if (bus !== PCI) {
    throw new UnsupportedError(`${address} is a ${bus.kind}, which has no ${what}`);
  }
}
