/** A host over the fake tree: one igb-like PF, a virtio-net function, a disk, a bridge. */
import { makeDirectory } from "../../../ffi/mod.ts";
import { UnsupportedError } from "../../../lib/errors/mod.ts";
import type { FunctionAttributes } from "../../../lib/host/sysfs/attributes.ts";
import type { HostUsage } from "../../../lib/host/functions/host_usage.ts";
import { SysfsHost, type SysfsHostParts } from "../../../lib/host/sysfs_host.ts";
import { MemoryJournalStore } from "./journal/memory_store.ts";
import { SCRATCH } from "./temporary.ts";
import { type FakeDriver, type FakeFunction, MemorySysfs } from "./sysfs/memory_sysfs.ts";

export const PF = "0000:01:00.0";
export const VF0 = "0000:01:10.0";
export const VF1 = "0000:01:10.1";
export const NET = "0000:02:00.0";
export const DISK = "0000:03:00.0";
export const BRIDGE = "0000:00:1c.0";
export const BARE = "0000:04:00.0";

export const DRIVERS: readonly FakeDriver[] = [
  { name: "igb", ids: [0x10c9], sriov: true, isHostDriver: true },
  { name: "igbvf", ids: [0x10ca], isHostDriver: true },
  { name: "virtio-pci", ids: [0x1041], isHostDriver: true },
  { name: "ahci", ids: [0x2922], isHostDriver: true },
  { name: "pcieport", ids: [0x0e0b] },
  { name: "vfio-pci", sriov: true },
  { name: "virtio_vfio_pci" },
  { name: "pci-stub" },
  { name: "refuses", takes: () => false },
];

export const FUNCTIONS: readonly FakeFunction[] = [
  { address: BRIDGE, device: 0x0e0b, driver: "pcieport", headerType: 0x81, classCode: 0x060400 },
  {
    address: PF,
    device: 0x10c9,
    driver: "igb",
    net: "eth1",
    numaNode: 1,
    sriov: { totalVfs: 7, vfDevice: 0x10ca },
  },
  { address: NET, device: 0x1041, vendor: 0x1af4, driver: "virtio-pci", net: "eth0" },
  {
    address: DISK,
    device: 0x2922,
    driver: "ahci",
    classCode: 0x010601,
    block: { below: "ata1/host0/target0:0:0/0:0:0:0/block", name: "sda", partitions: ["sda1", "sda2"] },
  },
  { address: BARE, device: 0x9999 },
];

/** Directory of the lock files. */
export const LOCKS = `${SCRATCH}/locks`;

export interface Fixture extends Disposable {
  readonly sysfs: MemorySysfs;
  readonly store: MemoryJournalStore;
  readonly host: SysfsHost;
  /** Another process's view of the same host. */
  another(options?: Partial<SysfsHostParts>): SysfsHost;
}

export interface FixtureOptions {
  readonly functions?: readonly FakeFunction[];
  readonly drivers?: readonly FakeDriver[];
  /** Uses by name of interface or disk. */
  readonly uses?: Readonly<Record<string, readonly string[]>>;
  readonly parts?: Partial<SysfsHostParts>;
}

export function fixture(options: FixtureOptions = {}): Fixture {
  makeDirectory(LOCKS);
  const sysfs = new MemorySysfs(options.functions ?? FUNCTIONS, options.drivers ?? DRIVERS);
  const store = new MemoryJournalStore();
  const uses = (name: string): string[] => [...(options.uses?.[name] ?? [])];
  const usage = (_: FunctionAttributes): HostUsage => ({ netInterface: uses, blockDevice: uses });
  const make = (parts: Partial<SysfsHostParts> = {}): SysfsHost =>
    new SysfsHost({
      name: "memory",
      sysfs,
      stateDirectory: "/nonexistent",
      lockDirectory: LOCKS,
      journalStore: store,
      opener: ({ address }) => {
        throw new UnsupportedError(`${address}: this host opens nothing`);
      },
      usage,
      examine: () => [],
      names: { namesOf: () => ({ vendorName: "vendor", deviceName: "device", className: "class" }) },
      ...options.parts,
      ...parts,
    });
  const host = make();
  return {
    sysfs,
    store,
    host,
    another: make,
    [Symbol.dispose]: () => host[Symbol.dispose](),
  };
}
