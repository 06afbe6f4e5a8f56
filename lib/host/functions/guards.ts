/**
 * What must not be taken from the host unless the caller insists.
 *
 * @module
 */
import { RefusedError } from "../../errors/mod.ts";
import { sysfsDirectory } from "../../vfio/bus.ts";
import { attachedDevices } from "./attached_devices.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";
import { isVfioDriver } from "../changes/driver_binding.ts";
import type { HostUsage } from "./host_usage.ts";

/** Another function of an IOMMU group that keeps userspace from using the group. */
export interface GroupBlocker {
  /** Full address. */
  readonly address: string;
  /** Driver of the host that it is bound to. */
  readonly driver: string;
  /** How the host uses it; empty when it does not. */
  readonly uses: readonly string[];
}

// Drivers of the kernel that never start DMA on a function's behalf for others, so that their functions may share a group.
const HARMLESS_DRIVERS: readonly string[] = ["pci-stub", "pcieport", "shpchp", "pci-pf-stub"];

/** Guards over a host's functions. */
export class Guards {
  readonly #attributes: FunctionAttributes;
  readonly #usage: HostUsage;

  /** Looks at functions through `attributes`, and at what they are used for through `usage`. */
  constructor(attributes: FunctionAttributes, usage: HostUsage) {
    this.#attributes = attributes;
    this.#usage = usage;
  }

  /** How the host uses functions, such as `network interface eth0 carries the default route`. */
  usesOf(addresses: readonly string[]): string[] {
    const attached = attachedDevices(this.#attributes, addresses, "all above");
    return addresses.flatMap((address) => {
      const devices = attached.get(address);
      if (devices === undefined) return [];
      return [
        ...devices.netInterfaces.flatMap((name) =>
          this.#usage.netInterface(name).map((use) => `network interface ${name} of ${address} ${use}`)
        ),
        ...devices.blockDevices.flatMap((name) =>
          this.#usage.blockDevice(name).map((use) => `disk ${name} of ${address} ${use}`)
        ),
      ];
    });
  }

  /**
   * Refuses when the host uses one of the functions.
   * @param action what is refused, such as `bind 0000:01:00.0 to vfio-pci`.
   * @throws RefusedError
   */
  refuseIfUsed(addresses: readonly string[], action: string, hint = "--force does it nevertheless"): void {
    const uses = this.usesOf(addresses);
    if (uses.length > 0) throw new RefusedError(`will not ${action}: ${uses.join("; ")}`, { hint });
  }

  /** Functions of the same IOMMU group whose drivers keep userspace out of it. */
  groupBlockers(address: string): GroupBlocker[] {
    const group = this.#attributes.linkName(`${sysfsDirectory(address)}/iommu_group`);
    if (group === undefined) return [];
    return this.#attributes.optionalList(`/sys/kernel/iommu_groups/${group}/devices`).flatMap((member) => {
      const driver = this.#attributes.driver(member);
      if (member === address || driver === "") return [];
      if (isVfioDriver(driver) || HARMLESS_DRIVERS.includes(driver)) return [];
      return [{ address: member, driver, uses: this.usesOf([member]) }];
    });
  }

  /** Refuses a function whose group also serves the host. @throws RefusedError naming the other functions and their drivers */
  refuseIfGroupShared(address: string): void {
    const blockers = this.groupBlockers(address);
    if (blockers.length === 0) return;
    const group = this.#attributes.linkName(`${sysfsDirectory(address)}/iommu_group`);
    const members = blockers.map((one) => `${one.address} is bound to ${one.driver}`).join(", ");
    const uses = blockers.flatMap((one) => one.uses);
    const warning = uses.length === 0 ? "" : ` (careful: ${uses.join("; ")})`;
    throw new RefusedError(`${address}: IOMMU group ${group} is not viable: ${members}${warning}`, {
      hint: `all functions of a group go to userspace together: ringside bind ${blockers[0]!.address}`,
    });
  }
}
