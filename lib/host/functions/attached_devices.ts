/**
 * Which network interfaces and block devices hang on which function.
 *
 * @module
 */
import { type Bus, busOf, isAddress } from "../../vfio/bus.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";

/** Devices of one function. */
export interface AttachedDevices {
  /** Names in `/sys/class/net`. */
  readonly netInterfaces: readonly string[];
  /** Whole disks and namespaces, without their partitions. */
  readonly blockDevices: readonly string[];
}

const NONE: AttachedDevices = { netInterfaces: [], blockDevices: [] };

/**
 * What hangs on functions, by full address; functions that nothing hangs on are left out.
 * @param of only these functions; default all
 */
export function attachedDevices(
  attributes: FunctionAttributes,
  of?: readonly string[],
): Map<string, AttachedDevices> {
  const found = new Map<string, { netInterfaces: string[]; blockDevices: string[] }>();
  const wanted = of === undefined ? undefined : new Set(of);
  const functions = new Map<Bus, Set<string>>();
  const ownerOf = (target: string): string | undefined => {
    const owner = functionAbove(target);
    if (owner === undefined || (wanted !== undefined && !wanted.has(owner))) return undefined;
    const bus = busOf(owner);
    let known = functions.get(bus);
    if (known === undefined) functions.set(bus, known = new Set(attributes.optionalList(bus.devices)));
    return known.has(owner) ? owner : undefined;
  };
  const add = (address: string, kind: "netInterfaces" | "blockDevices", name: string): void => {
    const devices = found.get(address) ?? { netInterfaces: [], blockDevices: [] };
    if (!devices[kind].includes(name)) devices[kind].push(name);
    found.set(address, devices);
  };
  for (const [name, target] of attributes.optionalLinks("/sys/class/net")) {
    const owner = ownerOf(target);
    if (owner !== undefined) add(owner, "netInterfaces", name);
  }
  for (const [name, target] of attributes.optionalLinks("/sys/class/block")) {
    const owner = ownerOf(target);
    if (owner === undefined || attributes.sysfs.exists(`/sys/class/block/${name}/partition`)) continue;
    add(owner, "blockDevices", name);
    // With native multipath the controller holds a hidden path (nvme0c1n1); what is mounted is the head (nvme0n1),
    // which hangs on no function.
    const path = /^(nvme\d+)c\d+(n\d+)$/.exec(name);
    if (path !== null) add(owner, "blockDevices", `${path[1]}${path[2]}`);
  }
  return found;
}

/** What hangs on one function. */
export function attachedTo(attributes: FunctionAttributes, address: string): AttachedDevices {
  return attachedDevices(attributes, [address]).get(address) ?? NONE;
}

/**
 * The nearest function above a class device. The class entry is a link to the device's place in the tree, such as
 * `../../devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio3/net/eth0`; a device that has no function above it is virtual.
 */
function functionAbove(target: string): string | undefined {
  return target.split("/").slice(0, -1).findLast(isAddress);
}
