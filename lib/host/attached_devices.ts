/**
 * Which network interfaces and block devices hang on which PCI function.
 *
 * @module
 */
import type { FunctionAttributes } from "./attributes.ts";
import { PCI_DEVICES } from "./sysfs.ts";

/** Devices of one function. */
export interface AttachedDevices {
  /** Names in `/sys/class/net`. */
  readonly netInterfaces: readonly string[];
  /** Whole disks and namespaces, without their partitions. */
  readonly blockDevices: readonly string[];
}

const NONE: AttachedDevices = { netInterfaces: [], blockDevices: [] };
const FUNCTION_IN_PATH = /\/([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=\/)/g;

/** What hangs on every function that anything hangs on, by full address. */
export function attachedDevices(attributes: FunctionAttributes): Map<string, AttachedDevices> {
  const found = new Map<string, { netInterfaces: string[]; blockDevices: string[] }>();
  const add = (address: string, kind: "netInterfaces" | "blockDevices", name: string): void => {
    const devices = found.get(address) ?? { netInterfaces: [], blockDevices: [] };
    if (!devices[kind].includes(name)) devices[kind].push(name);
    found.set(address, devices);
  };
  for (const name of attributes.optionalList("/sys/class/net")) {
    const owner = ownerOf(attributes, `/sys/class/net/${name}`);
    if (owner !== undefined) add(owner, "netInterfaces", name);
  }
  for (const name of attributes.optionalList("/sys/class/block")) {
    if (attributes.sysfs.exists(`/sys/class/block/${name}/partition`)) continue;
    const owner = ownerOf(attributes, `/sys/class/block/${name}`);
    if (owner === undefined) continue;
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
  return attachedDevices(attributes).get(address) ?? NONE;
}

/**
 * The nearest PCI function above a class device. The class entry is a link to the device's place in the tree, such as
 * `../../devices/pci0000:00/0000:00:01.0/0000:01:00.0/virtio3/net/eth0`; a device that has no function above it is virtual.
 */
function ownerOf(attributes: FunctionAttributes, path: string): string | undefined {
  const target = attributes.optionalLink(path);
  const functions = [...(target ?? "").matchAll(FUNCTION_IN_PATH)].map((match) => match[1]!);
  const owner = functions.at(-1);
  return owner !== undefined && attributes.sysfs.exists(`${PCI_DEVICES}/${owner}`) ? owner : undefined;
}
