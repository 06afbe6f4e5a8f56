/**
 * Uses of network interfaces and disks on a Linux host, from `/proc` and sysfs.
 *
 * Only the caller's network and mount namespace can be seen: an interface that was moved into a container is not in sysfs either.
 *
 * @module
 */
import { requireType, typedErrors } from "../../errors/doors.ts";
import { interfaceIpv4Address, readTextIfAny } from "../../../ffi/mod.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";
import { baseName } from "../sysfs/attributes.ts";
import type { HostUsage } from "./host_usage.ts";

/** Where the facts come from; the defaults read the running kernel. */
export interface UsageSources {
  /** Text of a file; undefined when it is not there. */
  readonly readProc?: (path: string) => string | undefined;
  /** Primary IPv4 address of a network interface. */
  readonly ipv4Address?: (name: string) => string | undefined;
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

  /** Reads sysfs through `attributes`, the rest from `sources`. */
  constructor(attributes: FunctionAttributes, sources: UsageSources = {}) {
    requireType(sources, "object", "new KernelUsage: sources");
    this.#attributes = attributes;
    const read = sources.readProc ?? readTextIfAny;
    this.#read = (path) => read(path) ?? "";
    this.#ipv4Address = sources.ipv4Address ?? interfaceIpv4Address;
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
    // A port of a bridge, bond or VRF carries the host's traffic without an address of its own.
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
      if (more.length > 0) uses.push(`is below ${upper}, which ${more.join(" and ")}`);
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

  /** Mounts and swap areas on the disk, its partitions, and what device mapper or md stack on them. */
  blockDevice(name: string): string[] {
    const uses: string[] = [];
    for (const layer of this.#layersOn(name)) {
      const where = layer === name ? "" : `${this.#label(layer)} on it `;
      for (const point of this.#mountPoints(layer)) uses.push(`${where}is mounted on ${point}`);
      if (this.#isSwap(layer)) uses.push(`${where}is swapped on`);
    }
    return uses;
  }

  /** A disk, its partitions, and what device mapper or md stack on them. */
  #layersOn(name: string): string[] {
    const layers: string[] = [];
    const visit = (layer: string): void => {
      if (layers.includes(layer)) return;
      layers.push(layer);
      const directory = `/sys/class/block/${layer}`;
      for (const entry of this.#attributes.optionalList(directory)) {
        if (this.#attributes.sysfs.exists(`${directory}/${entry}/partition`)) visit(entry);
      }
      for (const holder of this.#attributes.optionalList(`${directory}/holders`)) visit(holder);
    };
    visit(name);
    return layers;
  }

  #label(name: string): string {
    const mapped = this.#mapperName(name);
    return mapped === undefined ? name : `${name} (${mapped})`;
  }

  #mapperName(name: string): string | undefined {
    return this.#attributes.optional(`/sys/class/block/${name}/dm/name`);
  }

  /** `/proc/self/mountinfo`: id, parent, major:minor, root, mount point, options, optional fields, `-`, type, source, options. */
  #mountPoints(name: string): string[] {
    const number = this.#attributes.optional(`/sys/class/block/${name}/dev`);
    const points = new Set<string>();
    for (const line of this.#read("/proc/self/mountinfo").split("\n")) {
      const [before = "", after = ""] = line.split(" - ");
      const fields = before.split(" ");
      const source = unescape(after.split(" ")[1] ?? "");
      // btrfs and others mount under a number of their own, so the source counts too.
      if (fields[2] === number || this.#isNode(source, name)) points.add(unescape(fields[4] ?? ""));
    }
    return [...points];
  }

  #isSwap(name: string): boolean {
    return this.#read("/proc/swaps").split("\n").slice(1).some((line) =>
      this.#isNode(unescape(line.split(/\s/)[0] ?? ""), name)
    );
  }

  /** Whether a path of `/dev` names the block device. */
  #isNode(path: string, name: string): boolean {
    if (!path.startsWith("/dev/")) return false;
    // In sysfs a slash in a device's name is written as an exclamation mark.
    if (path.slice("/dev/".length).replaceAll("/", "!") === name) return true;
    return path.startsWith("/dev/mapper/") && baseName(path) === this.#mapperName(name);
  }
}

/** `\040` and the like in tables of `/proc`. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}
