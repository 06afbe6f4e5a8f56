/**
 * Which network interfaces and block devices hang on which function.
 *
 * @module
 */
import { type Bus, busOf, isAddress, PLATFORM } from "../../vfio/bus.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";

/** Devices of one function. */
export interface AttachedDevices {
  /** Names in `/sys/class/net`. */
  readonly netInterfaces: readonly string[];
  /** Whole disks and namespaces, without their partitions. */
  readonly blockDevices: readonly string[];
}

const NONE: AttachedDevices = { netInterfaces: [], blockDevices: [] };

/** Which functions a device counts for: the one that it hangs on (and a platform device above, which takes it along), or all up to the root. */
export type Reach = "nearest" | "all above";

/**
 * What hangs on functions, by full address; functions that nothing hangs on are left out.
 * @param of only these functions; default all
 */
export function attachedDevices(
  attributes: FunctionAttributes,
  of?: readonly string[],
  reach: Reach = "nearest",
): Map<string, AttachedDevices> {
  const found = new Map<string, { netInterfaces: string[]; blockDevices: string[] }>();
  const wanted = of === undefined ? undefined : new Set(of);
  const functions = new Map<Bus, Set<string>>();
  const isThere = (owner: string): boolean => {
    const bus = busOf(owner);
    let known = functions.get(bus);
    if (known === undefined) functions.set(bus, known = new Set(attributes.optionalList(bus.devices)));
    return known.has(owner);
  };
  const ownersOf = (target: string): string[] =>
    functionsAbove(target, reach).filter((owner) =>
      (wanted === undefined || wanted.has(owner)) && isThere(owner)
    );
  const add = (address: string, kind: "netInterfaces" | "blockDevices", name: string): void => {
    const devices = found.get(address) ?? { netInterfaces: [], blockDevices: [] };
    if (!devices[kind].includes(name)) devices[kind].push(name);
    found.set(address, devices);
  };
  for (const [name, target] of attributes.optionalLinks("/sys/class/net")) {
    for (const owner of ownersOf(target)) add(owner, "netInterfaces", name);
  }
  for (const [name, target] of attributes.optionalLinks("/sys/class/block")) {
    const owners = ownersOf(target);
    if (owners.length === 0 || attributes.sysfs.exists(`/sys/class/block/${name}/partition`)) continue;
    // With native multipath the controller holds a hidden path (nvme0c1n1); what is mounted is the head (nvme0n1),
    // which hangs on no function.
    const path = /^(nvme\d+)c\d+(n\d+)$/.exec(name);
    for (const owner of owners) {
      add(owner, "blockDevices", name);
      if (path !== null) add(owner, "blockDevices", `${path[1]}${path[2]}`);
    }
  }
  return found;
}

/** What hangs on one function. */
export function attachedTo(attributes: FunctionAttributes, address: string): AttachedDevices {
  return attachedDevices(attributes, [address]).get(address) ?? NONE;
}

/**
 * The functions that a class device hangs on, from its place in the tree, such as `../../devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio3/net/eth0`;
 * none for a virtual one. `nearest`: and each platform device above it, which may be a bridge (`4010000000.pcie`) that takes all below it along. `all
 * above`: a controller with PCI domains of its own (`0000:e0:05.5` above `10000:01:00.0`) takes them along, too.
 */
function functionsAbove(target: string, reach: Reach): string[] {
  const above = target.split("/").slice(0, -1).filter(isAddress);
  return reach === "all above"
    ? above
    : above.filter((one, i) => i === above.length - 1 || busOf(one) === PLATFORM);
}
