/**
 * Uses of network interfaces and disks on a Linux host, from `/proc` and sysfs.
 *
 * Only the caller's network and mount namespace can be seen: an interface that was moved into a container is not in sysfs either.
 *
 * @module
 */
import { requireType, typedErrors } from "../../errors/doors.ts";
import { blockDeviceClaimed, interfaceIpv4Address, readTextIfAny } from "../../../ffi/mod.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";
import { DiskUsage } from "./disk_usage.ts";
import type { HostUsage } from "./host_usage.ts";

/** Where the facts come from; the defaults read the running kernel. */
export interface UsageSources {
  /** Text of a file; undefined when it is not there. */
  readonly readProc?: (path: string) => string | undefined;
  /** Primary IPv4 address of a network interface. */
  readonly ipv4Address?: (name: string) => string | undefined;
  /** Whether the kernel, or a program that asked for it, has a block device to itself. */
  readonly claimed?: (name: string) => boolean;
}

// linux/route.h: RTF_REJECT, on routes that lead nowhere.
const RTF_REJECT = 0x200;
// linux/if_inet6: address scope "link"; the kernel gives such an address to every interface that is up.
const SCOPE_LINK = 0x20;

/** `HostUsage` of the running kernel. */
export class KernelUsage implements HostUsage {
  static {
    typedErrors(this);
  }

  readonly #attributes: FunctionAttributes;
  readonly #read: (path: string) => string;
  readonly #ipv4Address: (name: string) => string | undefined;
  readonly #disks: DiskUsage;

  /** Reads sysfs through `attributes`, the rest from `sources`. */
  constructor(attributes: FunctionAttributes, sources: UsageSources = {}) {
    requireType(sources, "object", "new KernelUsage: sources");
    this.#attributes = attributes;
    const read = sources.readProc ?? readTextIfAny;
    this.#read = (path) => read(path) ?? "";
    this.#ipv4Address = sources.ipv4Address ?? interfaceIpv4Address;
    this.#disks = new DiskUsage(attributes, {
      read: this.#read,
      claimed: sources.claimed ?? ((disk) => blockDeviceClaimed(`/dev/${disk.replaceAll("!", "/")}`)),
    });
  }

  /** Default route, addresses (not link-local IPv6 ones), routes; of the interface and of what is stacked on it. */
  netInterface(name: string): string[] {
    return this.#interfaceUses(name, new Set());
  }

  #interfaceUses(name: string, seen: Set<string>): string[] {
    if (seen.has(name)) return [];
    seen.add(name);
    const uses: string[] = [];
    const ipv4 = this.#ipv4Routes(name);
    const ipv6 = this.#ipv6Default(name);
    if (ipv4.default || ipv6) uses.push("carries the default route");
    const address = this.#ipv4Address(name);
    if (address !== undefined) uses.push(`has the address ${address}`);
    for (const ipv6Address of this.#ipv6Addresses(name)) uses.push(`has the address ${ipv6Address}`);
    if (uses.length === 0 && ipv4.any) uses.push("carries a route");
    // A port of a bridge, bond, team, OVS bridge or VRF carries traffic without an address of its own; so does what a VLAN, macvlan, macvtap or ipvlan
    // stands on, also when that is a virtual machine's or a container's alone. Nobody sets one up without a use for it.
    const master = this.#attributes.linkName(`/sys/class/net/${name}/master`);
    if (master !== undefined) {
      const more = this.#interfaceUses(master, seen);
      uses.push(
        more.length === 0 ? `is a port of ${master}` : `is a port of ${master}, which ${more.join(" and ")}`,
      );
    }
    for (const entry of this.#attributes.optionalList(`/sys/class/net/${name}`)) {
      if (!entry.startsWith("upper_")) continue;
      const upper = entry.slice("upper_".length);
      const more = this.#interfaceUses(upper, seen);
      if (upper === master) continue;
      uses.push(more.length === 0 ? `is below ${upper}` : `is below ${upper}, which ${more.join(" and ")}`);
    }
    return uses;
  }

  /** `/proc/net/route`: Iface Destination Gateway Flags RefCnt Use Metric Mask …, numbers in hexadecimal. */
  #ipv4Routes(name: string): { default: boolean; any: boolean } {
    const found = { default: false, any: false };
    for (const line of this.#read("/proc/net/route").split("\n").slice(1)) {
      const [iface, destination, , flags = "0", , , , mask] = line.trim().split(/\s+/);
      if (iface !== name || (parseInt(flags, 16) & RTF_REJECT) !== 0) continue;
      found.any = true;
      if (destination === "00000000" && mask === "00000000") found.default = true;
    }
    return found;
  }

  /** `/proc/net/ipv6_route`: destination, prefix length, source, its length, next hop, metric, reference count, use, flags, device. */
  #ipv6Default(name: string): boolean {
    return this.#read("/proc/net/ipv6_route").split("\n").some((line) => {
      const fields = line.trim().split(/\s+/);
      if (fields[9] !== name || (parseInt(fields[8] ?? "0", 16) & RTF_REJECT) !== 0) return false;
      return /^0{32}$/.test(fields[0] ?? "") && fields[1] === "00";
    });
  }

  /** `/proc/net/if_inet6`: address, interface index, prefix length, scope, flags, device. Without link-local ones. */
  #ipv6Addresses(name: string): string[] {
    return this.#read("/proc/net/if_inet6").split("\n").flatMap((line) => {
      const [address = "", , , scope = "0", , device] = line.trim().split(/\s+/);
      if (device !== name || address.length !== 32 || parseInt(scope, 16) === SCOPE_LINK) return [];
      const groups = address.match(/.{4}/g) ?? [];
      return [
        groups.map((group) => parseInt(group, 16).toString(16)).join(":").replace(/(^|:)0(:0)+(:|$)/, "::"),
      ];
    });
  }

  /** Mounts, swap areas and members of file systems on the disk, its partitions, and what is stacked on them; else whether somebody claims it. */
  blockDevice(name: string): string[] {
    return this.#disks.uses(name);
  }
}
