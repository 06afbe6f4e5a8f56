/**
 * The emulated host's kernel: which driver has which function, IOMMU groups, VFs coming and going; all of it through a sysfs tree
 * with Linux's semantics (drivers/base/{bus,dd,platform}.c; drivers/pci/{pci-driver,iov}.c; drivers/vfio/{pci,platform}; drivers/virtio/virtio_mmio.c).
 *
 * @module
 */
import { ExhaustedError } from "../errors/mod.ts";
import { PciAddress } from "../pci/address.ts";
import { type Bus, busOf, PCI, PLATFORM } from "../vfio/bus.ts";
import { FreeNumbers } from "./free_numbers.ts";
import { addFunctionAttributes } from "./kernel_attributes.ts";
import { DriverIds, DRIVERS, driversOf, matchesPlatform } from "./kernel_drivers.ts";
import type { FunctionState, KernelPlatformDevice } from "./kernel_function.ts";
import type { MachineFunction } from "./machine_function.ts";
import { addPlatformAttributes, removeDeviceTreeNode } from "./platform_attributes.ts";
import { type Fail, sysfsError, SysfsTree } from "./sysfs_tree.ts";
import { admitWithoutToken, VfToken } from "./vf_token.ts";
import { VirtioChildren } from "./virtio_children.ts";
import type { ServedTokens } from "../sockets/vfio_user/server/served_device.ts";
import type { KernelDriverName } from "./function_topology.ts";

const GROUPS = "/sys/kernel/iommu_groups";

interface Bound extends FunctionState {
  readonly fn: MachineFunction | KernelPlatformDevice;
  /** The same on PCI, else undefined. */
  readonly pci: MachineFunction | undefined;
  readonly bus: Bus;
  readonly path: string;
  offered: boolean;
  /** Of a PF that vfio-pci has. */
  token: VfToken | null;
}

/**
 * The kernel. Functions are added and removed by the machine; everything else happens through `tree`.
 *
 * Where Linux would block until a user lets go of a function (unbinding vfio-pci, removing a VF), this kernel asks the user to release it
 * and answers EBUSY.
 */
export class VirtualKernel {
  /** Its sysfs, and whatever else is put beside it. */
  readonly tree: SysfsTree = new SysfsTree();
  readonly #functions = new Map<string, Bound>();
  /** Members of each IOMMU group that has any. */
  readonly #groups = new Map<number, Set<Bound>>();
  readonly #groupNumbers = new FreeNumbers();
  readonly #children = new VirtioChildren(this.tree);
  readonly #ids = new DriverIds();
  /** `drivers_autoprobe` of each bus. */
  readonly #autoprobe = new Map<Bus, boolean>();

  /** Makes a kernel with its drivers and no functions. */
  constructor() {
    this.tree.directory(GROUPS);
    this.tree.directory("/sys/class/net");
    // With this off, vfio-pci refuses to enable VFs of a PF that it has.
    this.tree.constant("/sys/module/vfio_pci/parameters/enable_sriov", "Y\n");
    // With this on, vfio-platform takes only devices that the kernel has a reset function for.
    this.tree.constant("/sys/module/vfio_platform/parameters/reset_required", "N\n");
    for (const bus of [PCI, PLATFORM]) this.#addBus(bus);
  }

  /** Addresses of all functions, sorted. */
  get addresses(): string[] {
    return [...this.#functions.keys()].sort();
  }

  /** Number of an IOMMU group that no function is in. */
  freeGroup(): number {
    return this.#groupNumbers.lowest;
  }

  /**
   * A function appeared. It is probed as the kernel does on hot-plug, unless `driver` says which one (null: none) it gets.
   * @throws SyscallError when a given driver does not take it
   */
  addFunction(fn: MachineFunction | KernelPlatformDevice, driver?: KernelDriverName | null): void {
    const { address, options: { iommuGroup } } = fn;
    const bus = busOf(address);
    const pci = bus === PCI ? fn as MachineFunction : undefined;
    const pf = this.#pfOf(pci);
    const place = pci === undefined
      ? `devices/platform/${address}`
      : `devices/${rootOf(pf?.fn.address ?? address)}/${address}`;
    const one: Bound = {
      fn,
      pci,
      bus,
      path: `/sys/${place}`,
      driver: null,
      // A PF on vfio-pci captures its VFs, so that no host driver gets at a device that a user controls (vfio_pci_core.c).
      override: pf?.driver === "vfio-pci" ? "vfio-pci" : null,
      autoprobe: true,
      enables: 0,
      offered: false,
      token: null,
    };
    this.#functions.set(address, one);
    this.#groupNumbers.hold(iommuGroup);
    const members = this.#groups.get(iommuGroup) ?? new Set();
    this.#groups.set(iommuGroup, members.add(one));
    if (pci !== undefined) {
      addFunctionAttributes(this.tree, one.path, pci, one, (fail) => this.#disableVfs(pci, fail));
    } else addPlatformAttributes(this.tree, one.path, fn as KernelPlatformDevice, one);
    this.tree.link(`${bus.devices}/${address}`, `../../../${place}`);
    this.tree.link(
      `${one.path}/subsystem`,
      `../../..${bus.devices.slice("/sys".length, -"/devices".length)}`,
    );
    this.tree.link(`${one.path}/iommu_group`, `../../../kernel/iommu_groups/${iommuGroup}`);
    const group = `${GROUPS}/${iommuGroup}`;
    this.tree.link(`${group}/devices/${address}`, `../../../../${place}`);
    this.tree.constant(`${group}/type`, "DMA-FQ\n");
    this.tree.constant(`${group}/reserved_regions`, "0x00000000fee00000 0x00000000feefffff msi\n");
    const vfIndex = pci?.options.vfIndex;
    if (pf !== undefined) {
      this.tree.link(`${one.path}/physfn`, `../${pf.fn.address}`);
      if (vfIndex !== undefined) this.tree.link(`${pf.path}/virtfn${vfIndex}`, `../${address}`);
    }
    if (driver === undefined) {
      if (this.#autoprobe.get(bus)) this.#probe(one);
    } else if (driver !== null) this.#attach(one, driver, "bind");
  }

  /** A function is gone, whoever has it. */
  removeFunction(address: string): void {
    const one = this.#functions.get(address);
    if (one === undefined) return;
    this.#letGo(one);
    this.#functions.delete(address);
    const group = one.fn.options.iommuGroup;
    const pf = this.#pfOf(one.pci);
    const vfIndex = one.pci?.options.vfIndex;
    if (pf !== undefined && vfIndex !== undefined) this.tree.remove(`${pf.path}/virtfn${vfIndex}`);
    if (one.bus === PLATFORM) removeDeviceTreeNode(this.tree, address);
    this.tree.remove(`${one.bus.devices}/${address}`);
    this.tree.remove(one.path);
    this.tree.remove(`${GROUPS}/${group}/devices/${address}`);
    this.#groupNumbers.release(group);
    const members = this.#groups.get(group)!;
    members.delete(one);
    if (members.size === 0) {
      this.#groups.delete(group);
      this.tree.remove(`${GROUPS}/${group}`);
    } else this.#updateGroup(group);
  }

  /** What a PCI function's server asks of VF tokens. @param address full */
  vfTokens(address: string): ServedTokens {
    const find = () => this.#functions.get(address);
    return {
      admit: (shown) => {
        const one = find();
        const pf = this.#pfOf(one?.pci)?.token;
        if (pf !== undefined && pf !== null) return pf.admitToVf(address, shown);
        if (one === undefined || one.token === null) return admitWithoutToken(address, shown);
        one.token.admitToPf(shown, one.pci!.vfs.some((vf) => this.#functions.get(vf)?.fn.device.inUse));
      },
      get settable() {
        return (find()?.token ?? null) !== null;
      },
      set: (token) => find()?.token?.set(token),
    };
  }

  #addBus(bus: Bus): void {
    this.tree.directory(bus.devices);
    this.#autoprobe.set(bus, true);
    this.tree.attribute(bus.devices.replace(/devices$/, "drivers_autoprobe"), {
      read: () => `${this.#autoprobe.get(bus) ? 1 : 0}\n`,
      write: (text) => {
        this.#autoprobe.set(bus, !text.startsWith("0"));
      },
    });
    this.tree.attribute(bus.probe, {
      write: (text, fail) => {
        this.#probe(this.#named(bus, text, fail));
      },
    });
    for (const driver of driversOf(bus)) this.#addDriver(bus, driver);
  }

  #addDriver(bus: Bus, name: KernelDriverName): void {
    const path = `${bus.drivers}/${name}`;
    this.tree.attribute(`${path}/bind`, {
      write: (text, fail) => {
        const one = this.#named(bus, text, fail);
        if (!this.#matches(one, name)) fail("ENODEV", `${name} does not match ${line(text)}`);
        this.#attach(one, name, "write");
      },
    });
    this.tree.attribute(`${path}/unbind`, {
      write: (text, fail) => {
        const one = this.#functions.get(line(text));
        if (one === undefined || one.driver !== name) fail("ENODEV", `${name} does not have ${line(text)}`);
        this.#detach(one!, fail);
      },
    });
    if (bus !== PCI) return;
    this.tree.attribute(`${path}/new_id`, {
      write: (text, fail) => {
        this.#ids.add(name, line(text), fail);
        for (const one of this.#functions.values()) {
          if (one.bus === bus && one.driver === null && this.#matches(one, name)) this.#tryAttach(one, name);
        }
      },
    });
    this.tree.attribute(`${path}/remove_id`, {
      write: (text, fail) => this.#ids.remove(name, line(text), fail),
    });
  }

  #pfOf(fn: MachineFunction | undefined): Bound | undefined {
    const pf = fn?.options.pf;
    return pf && this.#functions.get(pf.address);
  }

  /** The function of a bus whose address was written. */
  #named(bus: Bus, text: string, fail: Fail): Bound {
    const one = this.#functions.get(line(text));
    return one?.bus === bus ? one : fail("ENODEV", `there is no ${bus.kind} ${line(text)}`);
  }

  /** pci_match_device, platform_match: an override alone decides, and needs no id. */
  #matches(one: Bound, driver: KernelDriverName): boolean {
    if (DRIVERS[driver].bus !== one.bus) return false;
    if (one.override !== null) return one.override === driver;
    if (one.pci !== undefined) return this.#ids.match(driver, one.pci.identity);
    return matchesPlatform(driver, (one.fn as KernelPlatformDevice).device.behaviour.compatible);
  }

  #probe(one: Bound): void {
    if (one.driver !== null) return;
    for (const driver of driversOf(one.bus)) {
      if (this.#matches(one, driver) && this.#tryAttach(one, driver)) return;
    }
  }

  /**
   * A probe that fails is only logged by Linux: the function stays without a driver.
   * @throws ExhaustedError where this machine, not the one that it stands for, has come to its end
   */
  #tryAttach(one: Bound, driver: KernelDriverName): boolean {
    try {
      this.#attach(one, driver, "probe");
      return true;
    } catch (error) {
      if (error instanceof ExhaustedError) throw error;
      return false;
    }
  }

  #attach(one: Bound, driver: KernelDriverName, call: string): void {
    const { fn } = one;
    const { bus, role } = DRIVERS[driver];
    const refuse = (errno: "EBUSY" | "ENODEV", why: string) => {
      throw sysfsError(errno, call, `${bus.drivers}/${driver}/bind`, why);
    };
    if (one.driver !== null) refuse("EBUSY", `${one.driver} has ${fn.address}`);
    const { iommuGroup } = fn.options;
    const pf = this.#pfOf(one.pci);
    if (pf !== undefined && !pf.autoprobe && one.override === null) {
      refuse(
        "ENODEV",
        `sriov_drivers_autoprobe of ${pf.fn.address} is 0, and ${fn.address} has no driver_override`,
      );
    }
    if (driver === "virtio-mmio" && (fn as KernelPlatformDevice).device.behaviour.deviceId === 0) {
      refuse("ENODEV", `${fn.address} is a placeholder: no virtio device is there`);
    }
    if (role === "virtio" && this.#members(iommuGroup).some((other) => other.fn.device.inUse)) {
      refuse("EBUSY", `a user holds a function of IOMMU group ${iommuGroup}`);
    }
    one.driver = driver;
    if (driver === "vfio-pci" && one.pci?.options.sriov !== undefined) one.token = new VfToken(fn.address);
    try {
      this.#updateGroup(iommuGroup);
    } catch (error) {
      one.driver = null;
      one.token = null;
      this.#updateGroup(iommuGroup);
      throw error;
    }
    this.tree.link(`${one.path}/driver`, `../../..${bus.drivers.slice("/sys".length)}/${driver}`);
    this.tree.link(`${bus.drivers}/${driver}/${fn.address}`, `../../../..${one.path.slice("/sys".length)}`);
    if (role === "virtio") {
      fn.device.setHostDriver(true);
      this.#children.add(fn, one.path);
    }
  }

  #detach(one: Bound, fail: Fail): void {
    if (one.fn.device.inUse) {
      // vfio-platform has no interrupt that asks for it.
      one.pci?.device.interrupts.requestRelease();
      fail("EBUSY", `a user holds ${one.fn.address}: close it first`);
    }
    // virtio-pci and vfio-pci disable SR-IOV when they are removed; pci-stub leaves it as it is.
    if (one.driver !== "pci-stub" && one.pci !== undefined && one.pci.vfs.length > 0) {
      this.#disableVfs(one.pci, fail);
    }
    this.#letGo(one);
  }

  #letGo(one: Bound): void {
    if (one.driver === null) return;
    const driver = one.driver;
    one.driver = null;
    one.token = null;
    this.tree.remove(`${one.path}/driver`);
    this.tree.remove(`${one.bus.drivers}/${driver}/${one.fn.address}`);
    this.#children.remove(one.fn, one.path);
    if (DRIVERS[driver].role === "virtio") one.fn.device.setHostDriver(one.enables > 0);
    this.#updateGroup(one.fn.options.iommuGroup);
  }

  #disableVfs(pf: MachineFunction, fail: Fail): void {
    for (const address of pf.vfs) {
      const vf = this.#functions.get(address)?.pci;
      if (vf?.device.inUse) {
        vf.device.interrupts.requestRelease();
        fail("EBUSY", `a user holds ${address}: close it first`);
      }
    }
    pf.device.config.writeSriov(0);
  }

  #members(group: number): Bound[] {
    return [...this.#groups.get(group) ?? []];
  }

  /** A function can be opened while VFIO has it and no member of its group is in the hands of a host driver. */
  #updateGroup(group: number): void {
    const members = this.#members(group);
    const roleOf = ({ driver }: Bound) => driver === null ? undefined : DRIVERS[driver].role;
    const viable = !members.some((one) => roleOf(one) === "virtio");
    for (const one of members) {
      const offer = viable && roleOf(one) === "vfio";
      if (offer === one.offered) continue;
      if (offer) one.fn.offer();
      else one.fn.withdraw();
      one.offered = offer;
    }
  }
}

/** Directory of the root bus that a PCI function is under. */
function rootOf(address: string): string {
  const { domain, bus } = PciAddress.parse(address);
  return `pci${domain.toString(16).padStart(4, "0")}:${bus.toString(16).padStart(2, "0")}`;
}

function line(text: string): string {
  return text.endsWith("\n") ? text.slice(0, -1) : text;
}
