/**
 * What keeps a function on its host: stacks of storage and of networks as Linux shows them, each with what the guards say of a function at its foot.
 */
import { assertEquals } from "@std/assert";
import { FunctionAttributes } from "../../../../lib/host/sysfs/attributes.ts";
import { attachedDevices } from "../../../../lib/host/functions/attached_devices.ts";
import { Guards } from "../../../../lib/host/functions/guards.ts";
import { KernelUsage } from "../../../../lib/host/functions/kernel_usage.ts";
import { DISK, DRIVERS, FUNCTIONS, NET, PF } from "../fixture.ts";
import { type FakeFunction, MemorySysfs } from "../sysfs/memory_sysfs.ts";

const BLOCK = "/sys/class/block", NETS = "/sys/class/net";
const SECOND = "0000:05:00.0", VMD = "0000:e0:05.5", ROOT_PORT = "10000:00:02.0", BEHIND = "10000:01:00.0";
const NVME_A = "0000:06:00.0", NVME_B = "0000:07:00.0", FREE: readonly string[] = [];

const MORE: readonly FakeFunction[] = [
  {
    address: SECOND,
    device: 0x2922,
    driver: "ahci",
    block: { below: "ata2/host1/target1:0:0/1:0:0:0/block", name: "sdb", partitions: ["sdb1"] },
  },
  { address: VMD, device: 0x467f, driver: "vmd", classCode: 0x010400, under: "pci0000:e0" },
  {
    address: ROOT_PORT,
    device: 0x0e0b,
    driver: "pcieport",
    headerType: 1,
    under: `pci0000:e0/${VMD}/pci10000:00`,
  },
  {
    address: BEHIND,
    device: 0x2922,
    driver: "ahci",
    under: `pci0000:e0/${VMD}/pci10000:00/${ROOT_PORT}`,
    block: { below: "nvme/nvme3", name: "nvme3n1", partitions: ["nvme3n1p1"] },
  },
  { address: NVME_A, device: 0x2922, driver: "ahci", block: { below: "nvme/nvme0", name: "nvme0c0n1" } },
  { address: NVME_B, device: 0x2922, driver: "ahci", block: { below: "nvme/nvme1", name: "nvme0c1n1" } },
];

interface Stack {
  readonly name: string;
  /** The function that is asked for, and what keeps it here. */
  readonly of: string;
  readonly says: readonly string[];
  /** Lines of mountinfo: number, mount point, type, source, options. */
  readonly mounts?:
    readonly (readonly [number: string, point: string, type: string, source: string, options?: string])[];
  readonly swaps?: readonly string[];
  readonly files?: Readonly<Record<string, string>>;
  readonly links?: Readonly<Record<string, string>>;
  /** Block devices that somebody has to himself. */
  readonly claimed?: readonly string[];
  readonly ipv4?: Readonly<Record<string, string>>;
  /** Interfaces that the default route goes through. */
  readonly routes?: readonly string[];
}

/** A block device on top of others: a directory, so that it is there, and an entry among the holders of each. */
function on(holder: string, number: string, ...below: readonly string[]): Record<string, string> {
  const files: Record<string, string> = { [`${BLOCK}/${holder}/dev`]: `${number}\n` };
  for (const one of below) files[`${BLOCK}/${one}/holders/${holder}/x`] = "";
  return files;
}
/** A volume of device mapper. */
function mapped(
  dm: string,
  number: string,
  name: string,
  ...below: readonly string[]
): Record<string, string> {
  return { ...on(dm, number, ...below), [`${BLOCK}/${dm}/dm/name`]: `${name}\n` };
}
/** `upper` stands on `lower`, as its master when it is one. */
function over(lower: string, upper: string, isMaster = false): Record<string, string> {
  return {
    [`${NETS}/${lower}/upper_${upper}`]: `../${upper}`,
    ...(isMaster && { [`${NETS}/${lower}/master`]: `../${upper}` }),
  };
}
const there = (...names: readonly string[]) =>
  Object.fromEntries(names.map((name) => [`${NETS}/${name}/mtu`, "1500\n"]));
const sda = (use: string) => [`disk sda of ${DISK} ${use}`];
const sdb = (use: string) => [`disk sdb of ${SECOND} ${use}`];
const eth0 = (use: string) => [`network interface eth0 of ${NET} ${use}`];
const BTRFS = "/sys/fs/btrfs/6c1d";
const VMD_MOUNT = [["259:4", "/", "ext4", "/dev/nvme3n1p1"]] as const;

const STORAGE: readonly Stack[] = [
  { name: "nothing", of: DISK, says: FREE },
  {
    name: "file systems without a disk",
    of: DISK,
    says: FREE,
    mounts: [["0:5", "/dev", "devtmpfs", "udev"], ["0:30", "/run", "tmpfs", "tmpfs"]],
  },
  {
    name: "a partition mounted",
    of: DISK,
    says: sda("sda2 on it is mounted on /"),
    mounts: [["8:2", "/", "ext4", "/dev/root"]],
  },
  {
    name: "the whole disk mounted",
    of: DISK,
    says: sda("is mounted on /data"),
    mounts: [["8:0", "/data", "xfs", "/dev/sda"]],
  },
  {
    name: "a mount point with a blank",
    of: DISK,
    says: sda("is mounted on /my data"),
    mounts: [["8:0", "/my\\040data", "xfs", "/dev/sda"]],
  },
  {
    name: "mounted in two places",
    of: DISK,
    says: [...sda("is mounted on /a"), ...sda("is mounted on /b")],
    mounts: [["8:0", "/a", "xfs", "/dev/sda"], ["8:0", "/b", "xfs", "/dev/sda"]],
  },
  {
    name: "another disk whose name begins alike",
    of: DISK,
    says: FREE,
    swaps: ["/dev/sdab1"],
    mounts: [["65:176", "/", "ext4", "/dev/sdab"]],
  },
  { name: "swap on a partition", of: DISK, says: sda("sda1 on it is swapped on"), swaps: ["/dev/sda1"] },
  { name: "swap on the whole disk", of: DISK, says: sda("is swapped on"), swaps: ["/dev/sda"] },
  {
    name: "LVM, a volume mounted",
    of: DISK,
    says: sda("dm-0 (vg-home) on it is mounted on /home"),
    files: mapped("dm-0", "254:0", "vg-home", "sda1"),
    mounts: [["254:0", "/home", "ext4", "/dev/mapper/vg-home"]],
  },
  {
    name: "LVM, swap by the kernel's name",
    of: DISK,
    says: sda("dm-1 (vg-swap) on it is swapped on"),
    files: mapped("dm-1", "254:1", "vg-swap", "sda1"),
    swaps: ["/dev/dm-1"],
  },
  {
    name: "LVM, swap by the volume's name",
    of: DISK,
    says: sda("dm-1 (vg-swap) on it is swapped on"),
    files: mapped("dm-1", "254:1", "vg-swap", "sda1"),
    swaps: ["/dev/mapper/vg-swap"],
  },
  {
    name: "LVM, active and unused",
    of: DISK,
    says: sda("sda1 on it is held by dm-0 (vg-spare)"),
    files: mapped("dm-0", "254:0", "vg-spare", "sda1"),
    claimed: ["sda1", "sda"],
  },
  { name: "LVM that is not active", of: DISK, says: FREE },
  {
    name: "md, mounted",
    of: SECOND,
    says: sdb("md0 on it is mounted on /srv"),
    files: on("md0", "9:0", "sda1", "sdb1"),
    mounts: [["9:0", "/srv", "ext4", "/dev/md0"]],
  },
  {
    name: "md, assembled only",
    of: SECOND,
    says: sdb("sdb1 on it is held by md0"),
    files: on("md0", "9:0", "sda1", "sdb1"),
    claimed: ["sdb", "sdb1"],
  },
  {
    name: "md, swap",
    of: SECOND,
    says: sdb("md0 on it is swapped on"),
    files: on("md0", "9:0", "sda1", "sdb1"),
    swaps: ["/dev/md0"],
  },
  {
    name: "LVM on md, swap",
    of: SECOND,
    says: sdb("dm-2 (vg-swap) on it is swapped on"),
    files: { ...on("md0", "9:0", "sda1", "sdb1"), ...mapped("dm-2", "254:2", "vg-swap", "md0") },
    swaps: ["/dev/dm-2"],
  },
  {
    name: "LVM on dm-crypt on a partition",
    of: DISK,
    says: sda("dm-1 (vg-root) on it is mounted on /"),
    files: { ...mapped("dm-0", "254:0", "luks", "sda2"), ...mapped("dm-1", "254:1", "vg-root", "dm-0") },
    mounts: [["254:1", "/", "ext4", "/dev/mapper/vg-root"]],
  },
  {
    name: "multipath of device mapper",
    of: SECOND,
    says: sdb("dm-0 (mpatha) on it is mounted on /san"),
    files: mapped("dm-0", "254:0", "mpatha", "sda", "sdb"),
    mounts: [["254:0", "/san", "xfs", "/dev/mapper/mpatha"]],
  },
  {
    name: "bcache",
    of: SECOND,
    says: sdb("bcache0 on it is mounted on /"),
    files: on("bcache0", "252:0", "sda", "sdb"),
    mounts: [["252:0", "/", "ext4", "/dev/bcache0"]],
  },
  {
    name: "btrfs, the member that mountinfo names",
    of: DISK,
    says: sda("is mounted on /"),
    files: { [`${BTRFS}/devices/sda/x`]: "", [`${BTRFS}/devices/sdb/x`]: "" },
    mounts: [["0:44", "/", "btrfs", "/dev/sda"]],
  },
  {
    name: "btrfs, another member",
    of: SECOND,
    says: sdb("belongs to the btrfs 6c1d, which is mounted on /"),
    files: { [`${BTRFS}/devices/sda/x`]: "", [`${BTRFS}/devices/sdb/x`]: "" },
    mounts: [["0:44", "/", "btrfs", "/dev/sda"]],
  },
  {
    name: "btrfs with a label",
    of: SECOND,
    says: sdb("sdb1 on it belongs to the btrfs pool, which is mounted on /p"),
    files: { [`${BTRFS}/label`]: "pool\n", [`${BTRFS}/devices/sda1/x`]: "", [`${BTRFS}/devices/sdb1/x`]: "" },
    mounts: [["0:44", "/p", "btrfs", "/dev/sda1"]],
  },
  {
    name: "btrfs over dm-crypt, another member",
    of: SECOND,
    says: sdb("dm-1 (cryptb) on it belongs to the btrfs 6c1d, which is mounted on /"),
    files: {
      ...mapped("dm-0", "254:0", "crypta", "sda"),
      ...mapped("dm-1", "254:1", "cryptb", "sdb"),
      [`${BTRFS}/devices/dm-0/x`]: "",
      [`${BTRFS}/devices/dm-1/x`]: "",
    },
    mounts: [["0:44", "/", "btrfs", "/dev/mapper/crypta"]],
  },
  {
    name: "btrfs that another mount namespace has mounted",
    of: SECOND,
    says: sdb("belongs to the btrfs 6c1d, which is mounted"),
    files: { [`${BTRFS}/devices/sdb/x`]: "" },
  },
  {
    name: "btrfs of other disks",
    of: DISK,
    says: FREE,
    files: { [`${BTRFS}/devices/sdb/x`]: "", "/sys/fs/btrfs/features/raid56": "0\n" },
    mounts: [["0:44", "/", "btrfs", "/dev/sdb"]],
  },
  {
    name: "bcachefs, by its list",
    of: SECOND,
    says: sdb("belongs to the bcachefs 77aa, which is mounted"),
    links: { "/sys/fs/bcachefs/77aa/dev-1/block": "../../../../block/sdb" },
  },
  {
    name: "bcachefs, by the mount's sources",
    of: SECOND,
    says: sdb("is mounted on /b"),
    mounts: [["0:50", "/b", "bcachefs", "/dev/sda:/dev/sdb"]],
  },
  {
    name: "xfs with its log elsewhere",
    of: SECOND,
    says: sdb("sdb1 on it is mounted on /x"),
    mounts: [["259:9", "/x", "xfs", "/dev/sda", "rw,attr2,logdev=/dev/sdb1,noquota"]],
  },
  {
    name: "xfs with a realtime device",
    of: SECOND,
    says: sdb("is mounted on /x"),
    mounts: [["259:9", "/x", "xfs", "/dev/sda", "rw,rtdev=/dev/sdb"]],
  },
  {
    name: "a member of ZFS",
    of: SECOND,
    says: sdb(
      "sdb1 on it is claimed by the kernel or by a program (opening it for oneself alone fails with EBUSY)",
    ),
    claimed: ["sdb", "sdb1"],
  },
  {
    name: "an exported disk",
    of: SECOND,
    says: sdb("is claimed by the kernel or by a program (opening it for oneself alone fails with EBUSY)"),
    claimed: ["sdb"],
  },
  {
    name: "a loop device over the raw disk",
    of: SECOND,
    says: sdb("loop0 on it is mounted on /l"),
    files: { [`${BLOCK}/loop0/loop/backing_file`]: "/dev/sdb\n", [`${BLOCK}/loop0/dev`]: "7:0\n" },
    mounts: [["7:0", "/l", "ext4", "/dev/loop0"]],
  },
  {
    name: "a loop device over a file",
    of: SECOND,
    says: FREE,
    files: { [`${BLOCK}/loop0/loop/backing_file`]: "/var/sdb\n", [`${BLOCK}/loop0/dev`]: "7:0\n" },
    mounts: [["7:0", "/l", "ext4", "/dev/loop0"]],
  },
  {
    name: "NVMe multipath, through one controller",
    of: NVME_A,
    says: [`disk nvme0n1 of ${NVME_A} is mounted on /n`],
    files: { [`${BLOCK}/nvme0n1/dev`]: "259:0\n" },
    mounts: [["259:0", "/n", "xfs", "/dev/nvme0n1"]],
  },
  {
    name: "NVMe multipath, through the other",
    of: NVME_B,
    says: [`disk nvme0n1 of ${NVME_B} is mounted on /n`],
    files: { [`${BLOCK}/nvme0n1/dev`]: "259:0\n" },
    mounts: [["259:0", "/n", "xfs", "/dev/nvme0n1"]],
  },
  {
    name: "a disk in a domain of a controller's own",
    of: BEHIND,
    says: [`disk nvme3n1 of ${BEHIND} nvme3n1p1 on it is mounted on /`],
    mounts: VMD_MOUNT,
  },
  {
    name: "the controller that makes that domain (VMD)",
    of: VMD,
    says: [`disk nvme3n1 of ${VMD} nvme3n1p1 on it is mounted on /`],
    mounts: VMD_MOUNT,
  },
  {
    name: "a bridge between",
    of: ROOT_PORT,
    says: [`disk nvme3n1 of ${ROOT_PORT} nvme3n1p1 on it is mounted on /`],
    mounts: VMD_MOUNT,
  },
];

const NETWORK: readonly Stack[] = [
  { name: "nothing, though it may be up", of: NET, says: FREE },
  { name: "a default route", of: NET, says: eth0("carries the default route"), routes: ["eth0"] },
  { name: "an address", of: NET, says: eth0("has the address 192.0.2.1"), ipv4: { eth0: "192.0.2.1" } },
  {
    name: "a VLAN with an address",
    of: NET,
    says: eth0("is below eth0.7, which has the address 192.0.2.1"),
    links: over("eth0", "eth0.7"),
    files: there("eth0.7"),
    ipv4: { "eth0.7": "192.0.2.1" },
  },
  {
    name: "a VLAN without one",
    of: NET,
    says: eth0("is below eth0.7"),
    links: over("eth0", "eth0.7"),
    files: there("eth0.7"),
  },
  {
    name: "a VLAN of another interface",
    of: NET,
    says: FREE,
    links: over("eth1", "eth1.7"),
    files: there("eth1.7"),
  },
  {
    name: "a macvtap of a virtual machine",
    of: NET,
    says: eth0("is below macvtap0"),
    links: over("eth0", "macvtap0"),
    files: there("macvtap0"),
  },
  {
    name: "a macvlan",
    of: NET,
    says: eth0("is below macvlan0"),
    links: over("eth0", "macvlan0"),
    files: there("macvlan0"),
  },
  {
    name: "an ipvlan",
    of: NET,
    says: eth0("is below ipvl0, which has the address 192.0.2.9"),
    links: over("eth0", "ipvl0"),
    files: there("ipvl0"),
    ipv4: { ipvl0: "192.0.2.9" },
  },
  {
    name: "a bridge without an address",
    of: NET,
    says: eth0("is a port of br0"),
    links: over("eth0", "br0", true),
    files: there("br0"),
  },
  {
    name: "a bridge with the default route",
    of: NET,
    says: eth0("is a port of br0, which carries the default route"),
    links: over("eth0", "br0", true),
    files: there("br0"),
    routes: ["br0"],
  },
  {
    name: "a bond",
    of: NET,
    says: eth0("is a port of bond0, which has the address 192.0.2.3"),
    links: { ...over("eth0", "bond0", true), ...over("eth1", "bond0", true) },
    files: there("bond0"),
    ipv4: { bond0: "192.0.2.3" },
  },
  {
    name: "the bond's other port",
    of: PF,
    says: [`network interface eth1 of ${PF} is a port of bond0, which has the address 192.0.2.3`],
    links: { ...over("eth0", "bond0", true), ...over("eth1", "bond0", true) },
    files: there("bond0"),
    ipv4: { bond0: "192.0.2.3" },
  },
  {
    name: "a team",
    of: NET,
    says: eth0("is a port of team0"),
    links: over("eth0", "team0", true),
    files: there("team0"),
  },
  {
    name: "a port of Open vSwitch",
    of: NET,
    says: eth0("is a port of ovs-system"),
    links: over("eth0", "ovs-system", true),
    files: there("ovs-system"),
  },
  {
    name: "a VRF",
    of: NET,
    says: eth0("is a port of vrf0"),
    links: over("eth0", "vrf0", true),
    files: there("vrf0"),
  },
  {
    name: "a VLAN on a bond",
    of: NET,
    says: eth0("is a port of bond0, which is below bond0.5, which has the address 192.0.2.4"),
    links: { ...over("eth0", "bond0", true), ...over("bond0", "bond0.5") },
    files: there("bond0", "bond0.5"),
    ipv4: { "bond0.5": "192.0.2.4" },
  },
  {
    name: "a bridge on a VLAN",
    of: NET,
    says: eth0("is below eth0.7, which is a port of br7"),
    links: { ...over("eth0", "eth0.7"), ...over("eth0.7", "br7", true) },
    files: there("eth0.7", "br7"),
  },
];

function guards(stack: Stack): Guards {
  const sysfs = new MemorySysfs([...FUNCTIONS, ...MORE], [...DRIVERS, { name: "vmd" }]);
  for (const [path, text] of Object.entries(stack.files ?? {})) sysfs.extra.set(path, text);
  for (const [path, link] of Object.entries(stack.links ?? {})) sysfs.extraLinks.set(path, link);
  const proc: Record<string, string> = {
    "/proc/self/mountinfo": (stack.mounts ?? []).map(([number, point, type, source, options = "rw"], i) =>
      `${30 + i} 1 ${number} / ${point} rw,relatime shared:1 - ${type} ${source} ${options}`
    ).join("\n"),
    "/proc/swaps": [
      "Filename Type Size Used Priority",
      ...(stack.swaps ?? []).map((path) => `${path} partition 1 0 -2`),
    ].join("\n"),
    "/proc/net/route": [
      "Iface Destination Gateway",
      ...(stack.routes ?? []).map((name) => `${name} 00000000 0102000A 0003 0 0 0 00000000`),
    ].join("\n"),
  };
  const attributes = new FunctionAttributes(sysfs);
  const usage = new KernelUsage(attributes, {
    readProc: (path) => proc[path],
    ipv4Address: (name) => stack.ipv4?.[name],
    claimed: (name) => stack.claimed?.includes(name) ?? false,
  });
  return new Guards(attributes, usage);
}

for (const [kind, stacks] of Object.entries({ storage: STORAGE, network: NETWORK })) {
  Deno.test(`guards: ${stacks.length} stacks of ${kind}`, async (t) => {
    for (const stack of stacks) {
      await t.step(stack.name, () => assertEquals(guards(stack).usesOf([stack.of]), [...stack.says]));
    }
  });
}

Deno.test("guards: a list of what hangs where names the nearest function, and a guard all above it", () => {
  const attributes = new FunctionAttributes(new MemorySysfs([...FUNCTIONS, ...MORE], DRIVERS));
  const behind = { netInterfaces: [], blockDevices: ["nvme3n1"] };
  assertEquals([...attachedDevices(attributes, [VMD, BEHIND])], [[BEHIND, behind]]);
  assertEquals([...attachedDevices(attributes, [VMD, BEHIND], "all above")], [[VMD, behind], [
    BEHIND,
    behind,
  ]]);
});
