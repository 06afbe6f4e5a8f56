/**
 * A sysfs in memory with the semantics of Linux's PCI core (drivers/base/dd.c, drivers/pci/{pci-driver,iov}.c, vfio_pci_core.c):
 * the fake under the host's unit tests. It is independent of the emulated host's kernel in lib/emulation.
 */
import { errnoNumber, SyscallError } from "../../../../ffi/mod.ts";
import type { Sysfs } from "../../../../lib/host/sysfs/sysfs.ts";
import { PciAddress } from "../../../../lib/pci/address.ts";

type BusName = "pci" | "platform";

export interface FakeDriver {
  readonly name: string;
  /** Default PCI. */
  readonly bus?: "platform";
  /** Device ids that it matches without an override. */
  readonly ids?: readonly number[];
  /** Lets the VF count be set. */
  readonly sriov?: boolean;
  /** Whether its probe takes a function; default yes. */
  readonly takes?: (address: string) => boolean;
  /** A function that it has shows its `net` and `block` devices. */
  readonly isHostDriver?: boolean;
  /** Enables fewer VFs than asked. */
  readonly maxVfs?: number;
}

export interface FakeSriov {
  readonly totalVfs: number;
  readonly vfDevice: number;
  readonly offset?: number;
  readonly stride?: number;
  readonly numVfs?: number;
  readonly autoprobe?: boolean;
}

export interface FakeFunction {
  readonly address: string;
  /** Default PCI. */
  readonly bus?: "platform";
  readonly device: number;
  readonly vendor?: number;
  readonly classCode?: number;
  readonly driver?: string;
  readonly override?: string;
  /** Default: one of its own; null: none. */
  readonly group?: number | null;
  /** The group is made when a driver probes the function, as where a device tree describes the IOMMU. */
  readonly lateGroup?: boolean;
  readonly numaNode?: number;
  readonly sriov?: FakeSriov;
  readonly net?: string;
  /** Path below the function and name of a disk, such as `ata1/host0/target0:0:0/0:0:0:0/block` and `sda`. */
  readonly block?: { readonly below: string; readonly name: string; readonly partitions?: readonly string[] };
  readonly headerType?: number;
  /** Its configuration space reads as all ones. */
  readonly isGone?: boolean;
  /** Where it is in the tree of devices; default `pci0000:00`. */
  readonly under?: string;
}

interface Live {
  readonly spec: FakeFunction;
  driver: string;
  override: string;
  autoprobe: boolean;
  probed: boolean;
  vfs: string[];
  readonly pf: string | undefined;
}

type Node = { readonly text: string | Uint8Array<ArrayBuffer> } | { readonly link: string } | "directory";

/** Stands for the death of the process: nothing that comes after it may have an effect. */
export class Crash extends Error {
  override name = "Crash";
}

function fail(code: string, call: string, path: string): never {
  throw new SyscallError(call, path, errnoNumber[code]!);
}

export class MemorySysfs implements Sysfs {
  /** What a careful host never does. */
  readonly violations: string[] = [];
  /** Every write, in order: path and text. */
  readonly writes: string[] = [];
  /** While set, every write fails as in a process that is gone. */
  frozen = false;
  /** Further files: path and text. */
  readonly extra: Map<string, string | Uint8Array<ArrayBuffer>> = new Map();
  readonly extraLinks: Map<string, string> = new Map();
  readonly #drivers: Map<string, FakeDriver>;
  readonly #functions = new Map<string, Live>();
  #tree: Map<string, Node> | undefined;

  constructor(functions: readonly FakeFunction[], drivers: readonly FakeDriver[]) {
    this.#drivers = new Map(drivers.map((driver) => [driver.name, driver]));
    for (const spec of functions) {
      const live = this.#add(spec, undefined);
      live.driver = spec.driver ?? "";
      live.override = spec.override ?? "";
      live.autoprobe = spec.sriov?.autoprobe ?? true;
    }
    for (const spec of functions) {
      if (spec.sriov?.numVfs !== undefined) {
        this.#enableVfs(this.#functions.get(spec.address)!, spec.sriov.numVfs);
      }
    }
  }

  // ---- what a test does to it

  /** Everything that can be read, as text. */
  snapshot(): string {
    return [...this.#nodes()].map(([path, node]) => {
      if (node === "directory") return path;
      return "link" in node ? `${path} -> ${node.link}` : `${path} = ${node.text}`;
    }).sort().join("\n");
  }

  /** As a person with a shell would, without the host's knowledge. */
  set(address: string, state: { driver?: string; override?: string }): void {
    const live = this.#functions.get(address)!;
    live.driver = state.driver ?? live.driver;
    live.override = state.override ?? live.override;
    this.#tree = undefined;
  }

  /** Takes a function out, as hot-unplug does. */
  unplug(address: string): void {
    for (const vf of this.#functions.get(address)?.vfs ?? []) this.#functions.delete(vf);
    this.#functions.delete(address);
    this.#tree = undefined;
  }

  /** Puts one in, which nothing has probed yet. */
  plug(spec: FakeFunction): void {
    this.#add(spec, undefined);
  }

  /** Unloads a driver that has no functions. */
  unload(driver: string): void {
    this.#drivers.delete(driver);
    this.#tree = undefined;
  }

  load(driver: FakeDriver): void {
    this.#drivers.set(driver.name, driver);
    this.#tree = undefined;
  }

  get addresses(): string[] {
    return [...this.#functions.keys()].sort();
  }

  driverOf(address: string): string {
    return this.#functions.get(address)?.driver ?? "";
  }

  // ---- Sysfs

  readText(path: string): string {
    const { text } = this.#file(path);
    return (typeof text === "string" ? text : new TextDecoder().decode(text)).trimEnd();
  }

  readBytes(path: string): Uint8Array<ArrayBuffer> {
    const { text } = this.#file(path);
    return typeof text === "string" ? new TextEncoder().encode(text) as Uint8Array<ArrayBuffer> : text;
  }

  list(path: string): string[] {
    const at = this.#resolve(path, true, "open");
    if (this.#node(at) !== "directory") fail("ENOTDIR", "open", path);
    const below = at === "/" ? "/" : `${at}/`;
    return [...this.#nodes().keys()].filter((key) =>
      key.startsWith(below) && !key.slice(below.length).includes("/")
    )
      .map((key) => key.slice(below.length)).sort();
  }

  readLink(path: string): string {
    const node = this.#node(this.#resolve(path, false, "readlink"));
    if (node === "directory" || !("link" in node)) return fail("EINVAL", "readlink", path);
    return node.link;
  }

  links(path: string): Map<string, string> {
    const found = new Map<string, string>();
    for (const name of this.list(path)) {
      const node = this.#node(`${this.#resolve(path, true, "open")}/${name}`);
      if (node !== "directory" && "link" in node) found.set(name, node.link);
    }
    return found;
  }

  exists(path: string): boolean {
    try {
      this.#resolve(path, true, "access");
      return true;
    } catch {
      return false;
    }
  }

  writeText(path: string, text: string): void {
    if (this.frozen) throw new Crash();
    this.#file(path);
    if (text === "") fail("EINVAL", "write", path);
    this.writes.push(`${path} ${text.trim()}`);
    this.#tree = undefined;
    const value = text.replace(/\n$/, "");
    if (/^\/sys\/bus\/\w+\/drivers_probe$/.test(path)) return this.#probe(this.#live(value, path));
    const driver = /^\/sys\/bus\/\w+\/drivers\/([^/]+)\/unbind$/.exec(path)?.[1];
    if (driver !== undefined) return this.#unbind(this.#live(value, path), driver, path);
    const [, address = "", attribute] = /^\/sys\/bus\/\w+\/devices\/([^/]+)\/(\w+)$/.exec(path) ?? [];
    const live = this.#live(address, path);
    switch (attribute) {
      case "driver_override":
        live.override = value;
        return;
      case "sriov_drivers_autoprobe":
        if (value !== "0" && value !== "1") fail("EINVAL", "write", path);
        live.autoprobe = value === "1";
        return;
      case "sriov_numvfs":
        return this.#setNumVfs(live, Number(value), path);
      default:
        fail("EACCES", "open", path);
    }
  }

  [Symbol.dispose](): void {}

  /** The device is unplugged. */
  remove(address: string): void {
    this.#functions.delete(address);
    this.#tree = undefined;
  }

  // ---- the kernel

  #add(spec: FakeFunction, pf: string | undefined): Live {
    const live: Live = { spec, driver: "", override: "", autoprobe: true, probed: false, vfs: [], pf };
    this.#functions.set(spec.address, live);
    this.#tree = undefined;
    return live;
  }

  #live(address: string, path: string): Live {
    return this.#functions.get(address) ?? fail("ENODEV", "write", path);
  }

  /** drivers_probe: what comes of it is not an error. */
  #probe(live: Live): void {
    if (live.driver !== "") return;
    live.probed = true;
    const pf = live.pf === undefined ? undefined : this.#functions.get(live.pf);
    // pci_device_can_probe
    if (pf !== undefined && !pf.autoprobe && live.override === "") return;
    for (const driver of this.#drivers.values()) {
      const matches = live.override === ""
        ? (driver.ids ?? []).includes(live.spec.device)
        : driver.name === live.override;
      if (driver.bus !== live.spec.bus) continue;
      if (!matches || !(driver.takes?.(live.spec.address) ?? true)) continue;
      // vfio-pci: "Cannot bind to PF with SRIOV enabled", and it needs a group.
      if (driver.name === "vfio-pci" && (live.vfs.length > 0 || live.spec.group === null)) {
        this.violations.push(`vfio-pci was offered ${live.spec.address} which it cannot take`);
        continue;
      }
      live.driver = driver.name;
      return;
    }
  }

  #unbind(live: Live, driver: string, path: string): void {
    if (live.driver !== driver) fail("ENODEV", "write", path);
    if (live.vfs.length > 0) {
      this.violations.push(`${live.spec.address} lost its driver with its VFs enabled`);
    }
    live.driver = "";
  }

  /** sriov_numvfs_store */
  #setNumVfs(live: Live, count: number, path: string): void {
    const sriov = live.spec.sriov!;
    if (!Number.isInteger(count) || count < 0) fail("EINVAL", "write", path);
    if (count > sriov.totalVfs) fail("ERANGE", "write", path);
    if (count === live.vfs.length) return;
    const driver = this.#drivers.get(live.driver);
    if (driver?.sriov !== true) fail("ENOENT", "write", path);
    if (count === 0) {
      for (const vf of live.vfs) this.#functions.delete(vf);
      live.vfs = [];
      return;
    }
    if (live.vfs.length > 0) fail("EBUSY", "write", path);
    this.#enableVfs(live, Math.min(count, driver?.maxVfs ?? count));
  }

  #enableVfs(pf: Live, count: number): void {
    const sriov = pf.spec.sriov!;
    const address = PciAddress.parse(pf.spec.address);
    for (let i = 0; i < count; i++) {
      const name = address.vf(i, { firstVfOffset: sriov.offset ?? 0x80, vfStride: sriov.stride ?? 1 })
        .toString();
      const net = pf.spec.net === undefined ? {} : { net: `${pf.spec.net}v${i}` };
      const live = this.#add({ address: name, device: sriov.vfDevice, ...net }, pf.spec.address);
      pf.vfs.push(name);
      // "Captured SR-IOV VF … driver_override"
      if (pf.driver === "vfio-pci") live.override = "vfio-pci";
      this.#probe(live);
    }
  }

  // ---- the tree

  #file(path: string): { readonly text: string | Uint8Array<ArrayBuffer> } {
    const node = this.#node(this.#resolve(path, true, "open"));
    if (node === "directory") return fail("EISDIR", "read", path);
    return "text" in node ? node : fail("EINVAL", "read", path);
  }

  #node(path: string): Node {
    return path === "/" ? "directory" : this.#nodes().get(path)!;
  }

  #resolve(path: string, followLast: boolean, call: string): string {
    let at = "";
    let rest = path.split("/").filter((part) => part !== "");
    for (let links = 0; rest.length > 0;) {
      const part = rest.shift()!;
      if (part === "..") {
        at = at.slice(0, Math.max(0, at.lastIndexOf("/")));
        continue;
      }
      const next = `${at}/${part}`;
      const node = this.#nodes().get(next);
      if (node === undefined) fail("ENOENT", call, path);
      if (node !== "directory" && "link" in node && (followLast || rest.length > 0)) {
        if (++links > 40) fail("ELOOP", call, path);
        if (node.link.startsWith("/")) at = "";
        rest = [...node.link.split("/").filter((one) => one !== ""), ...rest];
        continue;
      }
      if (rest.length > 0 && node !== "directory") fail("ENOTDIR", call, path);
      at = next;
    }
    return at === "" ? "/" : at;
  }

  #nodes(): Map<string, Node> {
    if (this.#tree !== undefined) return this.#tree;
    const tree = new Map<string, Node>();
    const put = (path: string, node: Node): void => {
      for (let at = path.indexOf("/", 1); at > 0; at = path.indexOf("/", at + 1)) {
        const above = path.slice(0, at);
        if (!tree.has(above)) tree.set(above, "directory");
      }
      tree.set(path, node);
    };
    put("/sys/bus/pci/devices", "directory");
    put("/sys/class/net", "directory");
    put("/sys/class/block", "directory");
    for (const bus of ["pci", "platform"]) put(`/sys/bus/${bus}/drivers_probe`, { text: "" });
    for (const { name, bus = "pci" } of this.#drivers.values()) {
      put(`/sys/bus/${bus}/drivers/${name}/unbind`, { text: "" });
    }
    for (const live of this.#functions.values()) this.#putFunction(live, put);
    for (const [path, text] of this.extra) put(behindLinks(tree, path), { text });
    for (const [path, link] of this.extraLinks) put(behindLinks(tree, path), { link });
    return this.#tree = tree;
  }

  #putPci(
    spec: FakeFunction,
    at: string,
    text: (name: string, value: string) => void,
    put: (path: string, node: Node) => void,
  ): void {
    text("vendor", `0x${(spec.vendor ?? 0x8086).toString(16).padStart(4, "0")}`);
    text("device", `0x${spec.device.toString(16).padStart(4, "0")}`);
    text("subsystem_vendor", "0x1af4");
    text("subsystem_device", "0x1100");
    text("revision", "0x01");
    text("class", `0x${(spec.classCode ?? 0x020000).toString(16).padStart(6, "0")}`);
    text("numa_node", `${spec.numaNode ?? -1}`);
    text("resource", RESOURCE);
    const config = new Uint8Array(256).fill(spec.isGone ? 0xff : 0);
    if (!spec.isGone) config[0x0e] = spec.headerType ?? 0;
    put(`${at}/config`, { text: config });
  }

  #putFunction(live: Live, put: (path: string, node: Node) => void): void {
    const { spec } = live;
    const bus: BusName = spec.bus ?? "pci";
    const place = `devices/${spec.under ?? (bus === "pci" ? "pci0000:00" : "platform")}/${spec.address}`;
    const at = `/sys/${place}`;
    put(`/sys/bus/${bus}/devices/${spec.address}`, { link: `../../../${place}` });
    const text = (name: string, value: string): void => put(`${at}/${name}`, { text: `${value}\n` });
    text("driver_override", live.override === "" ? "(null)" : live.override);
    if (bus === "pci") this.#putPci(spec, at, text, put);
    const group = spec.group ?? (bus === "pci" ? PciAddress.parse(spec.address).routingId : undefined);
    if (group !== undefined && spec.group !== null && (live.probed || !spec.lateGroup)) {
      put(`${at}/iommu_group`, { link: `../../../kernel/iommu_groups/${group}` });
      put(`/sys/kernel/iommu_groups/${group}/devices/${spec.address}`, { link: `../../../../${place}` });
    }
    if (live.driver !== "") {
      put(`${at}/driver`, { link: `../../../bus/${bus}/drivers/${live.driver}` });
      put(`/sys/bus/${bus}/drivers/${live.driver}/${spec.address}`, { link: `../../../../${place}` });
    }
    if (live.pf !== undefined) put(`${at}/physfn`, { link: `../${live.pf}` });
    if (spec.sriov !== undefined) {
      text("sriov_totalvfs", `${spec.sriov.totalVfs}`);
      text("sriov_numvfs", `${live.vfs.length}`);
      text("sriov_offset", `${spec.sriov.offset ?? 0x80}`);
      text("sriov_stride", `${spec.sriov.stride ?? 1}`);
      text("sriov_drivers_autoprobe", live.autoprobe ? "1" : "0");
      live.vfs.forEach((vf, i) => put(`${at}/virtfn${i}`, { link: `../${vf}` }));
    }
    if (this.#drivers.get(live.driver)?.isHostDriver !== true) return;
    const below = `../../${place}`;
    if (spec.net !== undefined) {
      put(`${at}/virtio0/net/${spec.net}/mtu`, { text: "1500\n" });
      put(`/sys/class/net/${spec.net}`, { link: `${below}/virtio0/net/${spec.net}` });
    }
    if (spec.block === undefined) return;
    const disk = `${spec.block.below}/${spec.block.name}`;
    put(`${at}/${disk}/dev`, { text: "8:0\n" });
    put(`/sys/class/block/${spec.block.name}`, { link: `${below}/${disk}` });
    (spec.block.partitions ?? []).forEach((name, i) => {
      put(`${at}/${disk}/${name}/partition`, { text: `${i + 1}\n` });
      put(`${at}/${disk}/${name}/dev`, { text: `8:${i + 1}\n` });
      put(`/sys/class/block/${name}`, { link: `${below}/${disk}/${name}` });
    });
  }
}

/** Where a path of a class leads: what is put below `/sys/class/block/sda1` is put where that link points. */
function behindLinks(tree: ReadonlyMap<string, Node>, path: string): string {
  const [, entry, rest] = /^(\/sys\/class\/\w+\/[^/]+)(\/.*)$/.exec(path) ?? [];
  const node = entry === undefined ? undefined : tree.get(entry);
  if (node === undefined || node === "directory" || !("link" in node)) return path;
  return new URL(node.link, `file://${entry}`).pathname + rest;
}

/** Lines of `resource`: BAR 0 of 128 KiB, BAR 2 of 32 bytes of I/O ports, BAR 4 of 16 KiB, ROM of 256 KiB, then the first window of VFs. */
const RESOURCE = [
  "0x00000000febc0000 0x00000000febdffff 0x0000000000040200",
  "0x0000000000000000 0x0000000000000000 0x0000000000000000",
  "0x000000000000c000 0x000000000000c01f 0x0000000000040101",
  "0x0000000000000000 0x0000000000000000 0x0000000000000000",
  "0x000000fe00000000 0x000000fe00003fff 0x000000000014220c",
  "0x0000000000000000 0x0000000000000000 0x0000000000000000",
  "0x00000000feb80000 0x00000000febbffff 0x000000000004e200",
  "0x00000000fe000000 0x00000000fe007fff 0x0000000000040200",
].join("\n");
