/**
 * The emulated host's kernel: which driver has which function, IOMMU groups, VFs coming and going; all of it through a sysfs tree
 * with Linux's semantics (drivers/base/bus.c, dd.c; drivers/pci/pci-driver.c, iov.c; drivers/vfio/pci).
 *
 * @module
 */
import { ExhaustedError } from "../errors/mod.ts";
import { PciAddress } from "../pci/address.ts";
import { FreeNumbers } from "./free_numbers.ts";
import { addFunctionAttributes, type FunctionState } from "./kernel_attributes.ts";
import { DriverIds } from "./kernel_drivers.ts";
import type { MachineFunction } from "./machine_function.ts";
import { type Fail, sysfsError, SysfsTree } from "./sysfs_tree.ts";
import { virtioTypeOf } from "../pci/virtio_ids.ts";
import { KERNEL_DRIVERS, type KernelDriverName } from "./function_topology.ts";

const DEVICES = "/sys/bus/pci/devices";
const DRIVERS = "/sys/bus/pci/drivers";
const GROUPS = "/sys/kernel/iommu_groups";

/** Drivers that use DMA on the host's behalf: with one of them in a group, no member can be given to a user. */
const HOST_DMA_DRIVERS: readonly KernelDriverName[] = ["virtio-pci"];

interface Bound extends FunctionState {
  readonly fn: MachineFunction;
  readonly path: string;
  /** Network interface and virtio device, while the default driver has it. */
  children: { virtio: number; net?: number } | null;
  offered: boolean;
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
  readonly #virtioNumbers = new FreeNumbers();
  readonly #netNumbers = new FreeNumbers();
  readonly #ids = new DriverIds();
  #autoprobe = true;

  /** Makes a kernel with its drivers and no functions. */
  constructor() {
    this.tree.directory(DEVICES);
    this.tree.directory(GROUPS);
    this.tree.directory("/sys/class/net");
    // With this off, vfio-pci refuses to enable VFs of a PF that it has.
    this.tree.constant("/sys/module/vfio_pci/parameters/enable_sriov", "Y\n");
    this.tree.attribute("/sys/bus/pci/drivers_autoprobe", {
      read: () => `${this.#autoprobe ? 1 : 0}\n`,
      write: (text) => {
        this.#autoprobe = !text.startsWith("0");
      },
    });
    this.tree.attribute("/sys/bus/pci/drivers_probe", {
      write: (text, fail) => {
        this.#probe(this.#named(text, fail));
      },
    });
    for (const driver of KERNEL_DRIVERS) this.#addDriver(driver);
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
  addFunction(fn: MachineFunction, driver?: KernelDriverName | null): void {
    const { iommuGroup, vfIndex } = fn.options;
    const pf = this.#pfOf(fn);
    const { domain, bus } = PciAddress.parse(pf?.fn.address ?? fn.address);
    const root = `pci${domain.toString(16).padStart(4, "0")}:${bus.toString(16).padStart(2, "0")}`;
    const one: Bound = {
      fn,
      path: `/sys/devices/${root}/${fn.address}`,
      driver: null,
      // A PF on vfio-pci captures its VFs, so that no host driver gets at a device that a user controls (vfio_pci_core.c).
      override: pf?.driver === "vfio-pci" ? "vfio-pci" : null,
      autoprobe: true,
      enables: 0,
      children: null,
      offered: false,
    };
    this.#functions.set(fn.address, one);
    this.#groupNumbers.hold(iommuGroup);
    const members = this.#groups.get(iommuGroup) ?? new Set();
    this.#groups.set(iommuGroup, members.add(one));
    addFunctionAttributes(this.tree, one.path, fn, one, (fail) => this.#disableVfs(one, fail));
    this.tree.link(`${DEVICES}/${fn.address}`, `../../../devices/${root}/${fn.address}`);
    this.tree.link(`${one.path}/subsystem`, "../../../bus/pci");
    this.tree.link(`${one.path}/iommu_group`, `../../../kernel/iommu_groups/${iommuGroup}`);
    const group = `${GROUPS}/${iommuGroup}`;
    this.tree.link(`${group}/devices/${fn.address}`, `../../../../devices/${root}/${fn.address}`);
    this.tree.constant(`${group}/type`, "DMA-FQ\n");
    this.tree.constant(`${group}/reserved_regions`, "0x00000000fee00000 0x00000000feefffff msi\n");
    if (pf !== undefined) {
      this.tree.link(`${one.path}/physfn`, `../${pf.fn.address}`);
      if (vfIndex !== undefined) this.tree.link(`${pf.path}/virtfn${vfIndex}`, `../${fn.address}`);
    }
    if (driver === undefined) {
      if (this.#autoprobe) this.#probe(one);
    } else if (driver !== null) this.#attach(one, driver, "bind");
  }

  /** A function is gone, whoever has it. */
  removeFunction(address: string): void {
    const one = this.#functions.get(address);
    if (one === undefined) return;
    this.#letGo(one);
    this.#functions.delete(address);
    const { vfIndex, iommuGroup: group } = one.fn.options;
    const pf = this.#pfOf(one.fn);
    if (pf !== undefined && vfIndex !== undefined) this.tree.remove(`${pf.path}/virtfn${vfIndex}`);
    this.tree.remove(`${DEVICES}/${address}`);
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

  #addDriver(name: KernelDriverName): void {
    const path = `${DRIVERS}/${name}`;
    this.tree.attribute(`${path}/bind`, {
      write: (text, fail) => {
        const one = this.#named(text, fail);
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
    this.tree.attribute(`${path}/new_id`, {
      write: (text, fail) => {
        this.#ids.add(name, line(text), fail);
        for (const one of this.#functions.values()) {
          if (one.driver === null && this.#matches(one, name)) this.#tryAttach(one, name);
        }
      },
    });
    this.tree.attribute(`${path}/remove_id`, {
      write: (text, fail) => this.#ids.remove(name, line(text), fail),
    });
  }

  #pfOf({ options: { pf } }: MachineFunction): Bound | undefined {
    return pf && this.#functions.get(pf.address);
  }

  /** The function whose address was written. */
  #named(text: string, fail: Fail): Bound {
    return this.#functions.get(line(text)) ?? fail("ENODEV", `there is no function ${line(text)}`);
  }

  /** pci_match_device: an override alone decides, and needs no id. */
  #matches(one: Bound, driver: KernelDriverName): boolean {
    if (one.override !== null) return one.override === driver;
    return this.#ids.match(driver, one.fn.identity);
  }

  #probe(one: Bound): void {
    if (one.driver !== null) return;
    for (const driver of KERNEL_DRIVERS) {
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
    const refuse = (errno: "EBUSY" | "ENODEV", why: string) => {
      throw sysfsError(errno, call, `${DRIVERS}/${driver}/bind`, why);
    };
    if (one.driver !== null) refuse("EBUSY", `${one.driver} has ${fn.address}`);
    const { iommuGroup } = fn.options;
    const pf = this.#pfOf(fn);
    if (pf !== undefined && !pf.autoprobe && one.override === null) {
      refuse(
        "ENODEV",
        `sriov_drivers_autoprobe of ${pf.fn.address} is 0, and ${fn.address} has no driver_override`,
      );
    }
    if (
      HOST_DMA_DRIVERS.includes(driver) && this.#members(iommuGroup).some((other) => other.fn.device.inUse)
    ) {
      refuse("EBUSY", `a user holds a function of IOMMU group ${iommuGroup}`);
    }
    one.driver = driver;
    try {
      this.#updateGroup(iommuGroup);
    } catch (error) {
      one.driver = null;
      this.#updateGroup(iommuGroup);
      throw error;
    }
    this.tree.link(`${one.path}/driver`, `../../../bus/pci/drivers/${driver}`);
    this.tree.link(`${DRIVERS}/${driver}/${fn.address}`, `../../../..${one.path.slice("/sys".length)}`);
    if (driver === "virtio-pci") {
      fn.device.setHostDriver(true);
      this.#addChildren(one);
    }
  }

  #detach(one: Bound, fail: Fail): void {
    if (one.fn.device.inUse) {
      one.fn.device.interrupts.requestRelease();
      fail("EBUSY", `a user holds ${one.fn.address}: close it first`);
    }
    // virtio-pci and vfio-pci disable SR-IOV when they are removed; pci-stub leaves it as it is.
    if (one.driver !== "pci-stub" && one.fn.vfs.length > 0) this.#disableVfs(one, fail);
    this.#letGo(one);
  }

  #letGo(one: Bound): void {
    if (one.driver === null) return;
    const driver = one.driver;
    one.driver = null;
    this.tree.remove(`${one.path}/driver`);
    this.tree.remove(`${DRIVERS}/${driver}/${one.fn.address}`);
    this.#removeChildren(one);
    if (driver === "virtio-pci") one.fn.device.setHostDriver(one.enables > 0);
    this.#updateGroup(one.fn.options.iommuGroup);
  }

  #disableVfs(one: Bound, fail: Fail): void {
    for (const address of one.fn.vfs) {
      const vf = this.#functions.get(address);
      if (vf?.fn.device.inUse) {
        vf.fn.device.interrupts.requestRelease();
        fail("EBUSY", `a user holds ${address}: close it first`);
      }
    }
    one.fn.device.config.writeSriov(0);
  }

  #members(group: number): Bound[] {
    return [...this.#groups.get(group) ?? []];
  }

  /** A function can be opened while vfio-pci has it and no member of its group is in the hands of a host driver. */
  #updateGroup(group: number): void {
    const members = this.#members(group);
    const viable = !members.some((one) => one.driver !== null && HOST_DMA_DRIVERS.includes(one.driver));
    for (const one of members) {
      const offer = viable && one.driver === "vfio-pci";
      if (offer === one.offered) continue;
      if (offer) one.fn.offer();
      else one.fn.withdraw();
      one.offered = offer;
    }
  }

  /** What virtio-pci makes of a function: a virtio device, and a network interface when it is one. */
  #addChildren(one: Bound): void {
    const { identity, netInterface } = one.fn.device.behaviour;
    const virtio = this.#virtioNumbers.take();
    one.children = { virtio };
    const device = `${one.path}/virtio${virtio}`;
    this.tree.constant(`${device}/vendor`, `0x${identity.vendorId.toString(16)}\n`);
    this.tree.constant(
      `${device}/device`,
      `0x${(virtioTypeOf(identity) ?? identity.subsystemId).toString(16).padStart(4, "0")}\n`,
    );
    if (netInterface === undefined) return;
    const net = this.#netNumbers.take();
    one.children = { virtio, net };
    const path = `${device}/net/eth${net}`;
    this.tree.constant(`${path}/address`, `${netInterface.mac}\n`);
    this.tree.constant(`${path}/mtu`, `${netInterface.mtu}\n`);
    this.tree.constant(`${path}/operstate`, "down\n");
    this.tree.constant(`${path}/flags`, "0x1002\n");
    this.tree.constant(`${path}/type`, "1\n");
    this.tree.constant(`${path}/ifindex`, `${net + 2}\n`);
    const { hostUse = [] } = netInterface;
    if (hostUse.length > 0) this.tree.constant(`${path}/host_use`, `${hostUse.join("\n")}\n`);
    this.tree.link(`${path}/device`, `../../../virtio${virtio}`);
    this.tree.link(`/sys/class/net/eth${net}`, `../..${path.slice("/sys".length)}`);
  }

  #removeChildren(one: Bound): void {
    if (one.children === null) return;
    const { virtio, net } = one.children;
    this.tree.remove(`${one.path}/virtio${virtio}`);
    this.#virtioNumbers.release(virtio);
    if (net !== undefined) {
      this.tree.remove(`/sys/class/net/eth${net}`);
      this.#netNumbers.release(net);
    }
    one.children = null;
  }
}

function line(text: string): string {
  return text.endsWith("\n") ? text.slice(0, -1) : text;
}
