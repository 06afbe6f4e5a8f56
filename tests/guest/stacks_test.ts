/** What keeps a function on its host, really built: file systems, arrays, volumes and swap on its disk, networks on its interface. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { main } from "../../cli/main.ts";
import { LinuxHost } from "../../lib/host/linux_host.ts";
import { functions, guestTest, ID, netInterface, snapshot } from "./guest_host.ts";
import { inGuest } from "./rig/in_guest.ts";
import { loadOrder, type ModuleIndex, type ModuleLoad } from "./rig/modules.ts";
import { exists, PATHS } from "./rig/paths.ts";

/** Words of shell commands; `$1` and `$2` are the two disks, or the two interfaces. */
interface Stack {
  readonly name: string;
  readonly on: "disks" | "interfaces";
  readonly modules: readonly ModuleLoad[];
  /** A program, or a file of `/proc` that the kernel has or has not. */
  readonly needs?: string;
  readonly up: string;
  /** What the refusal says of each function that is asked for, behind the name of its disk or interface. */
  readonly says: readonly [first: RegExp, second?: RegExp];
  readonly down: string;
}

const LVM =
  "export LVM_SYSTEM_DIR=; lvm_() { word=$1; shift; lvm $word --config 'devices{use_devicesfile=0} activation{udev_sync=0 udev_rules=0 verify_udev_operations=0}' \"$@\"; }";
const MD = "export MDADM_NO_UDEV=1; mdadm --create /dev/md0 --run --level=1 --raid-devices=2 " +
  "--assume-clean --bitmap=none $1 $2";
const NO_MD = "mdadm --stop /dev/md0; mdadm --zero-superblock $1 $2";

/** Loaded as it is it makes a bond of its own. */
const BONDING: ModuleLoad = { name: "bonding", parameters: "max_bonds=0" };

const STACKS: readonly Stack[] = [
  {
    name: "btrfs over two disks, mounted",
    on: "disks",
    // btrfs asks for its checksum by name, so its file says nothing of it.
    modules: [{ name: "crc32c_generic", optional: true }, { name: "btrfs" }],
    needs: "mkfs.btrfs",
    up:
      "mkfs.btrfs -q -f -M -d single $1 $2; mkdir -p /tmp/btrfs; mount -t btrfs -o device=$1,device=$2 $1 /tmp/btrfs",
    says: [/is mounted on \/tmp\/btrfs/, /belongs to the btrfs \S+, which is mounted on \/tmp\/btrfs/],
    down: "umount /tmp/btrfs; wipe $1; wipe $2",
  },
  {
    name: "md over two disks, assembled only",
    on: "disks",
    modules: [{ name: "raid1" }],
    needs: "mdadm",
    up: MD,
    says: [/is held by md0/, /is held by md0/],
    down: NO_MD,
  },
  {
    name: "md over two disks, swap",
    on: "disks",
    modules: [{ name: "raid1" }],
    needs: "mdadm",
    up: `${MD}; mkswap /dev/md0; swapon /dev/md0`,
    says: [/md0 on it is swapped on/, /md0 on it is swapped on/],
    down: `swapoff /dev/md0; ${NO_MD}`,
  },
  {
    name: "LVM over two disks, a volume active and unused",
    on: "disks",
    modules: [{ name: "dm_mod" }],
    needs: "lvm",
    up: `${LVM}; lvm_ vgcreate -y house $1 $2; lvm_ lvcreate -y -Zn -Wn -l 100%FREE -n spare house`,
    says: [/is held by dm-0 \(house-spare\)/, /is held by dm-0 \(house-spare\)/],
    down: `${LVM}; lvm_ vgremove -y -f house; lvm_ pvremove -y $1 $2`,
  },
  {
    name: "a disk swapped on",
    on: "disks",
    modules: [],
    needs: "/proc/swaps",
    up: "mkswap $1; swapon $1",
    says: [/is swapped on/],
    down: "swapoff $1; wipe $1",
  },
  {
    name: "a VLAN with an address",
    on: "interfaces",
    modules: [{ name: "8021q" }],
    up: "ip link add link $1 name house5 type vlan id 5; ip addr add 192.0.2.5/24 dev house5",
    says: [/is below house5, which has the address 192\.0\.2\.5/],
    down: "ip link del house5",
  },
  {
    name: "a bond of two interfaces",
    on: "interfaces",
    modules: [BONDING],
    up: "ip link add housebond type bond; ip link set $1 master housebond; ip link set $2 master housebond",
    says: [/is a port of housebond/, /is a port of housebond/],
    down: "ip link del housebond",
  },
  {
    name: "a bridge, with an address",
    on: "interfaces",
    modules: [{ name: "bridge" }],
    up:
      "ip link add housebr type bridge; ip link set $1 master housebr; ip addr add 192.0.2.6/24 dev housebr",
    says: [/is a port of housebr, which has the address 192\.0\.2\.6/],
    down: "ip link del housebr",
  },
  {
    name: "a macvtap",
    on: "interfaces",
    modules: [{ name: "macvtap" }],
    up: "ip link add link $1 name housetap type macvtap",
    says: [/is below housetap/],
    down: "ip link del housetap",
  },
  {
    name: "a VLAN on a bond that is a port of a bridge",
    on: "interfaces",
    modules: [{ name: "8021q" }, BONDING, { name: "bridge" }],
    up: "ip link add housebond type bond; ip link set $1 master housebond; " +
      "ip link add link housebond name house5 type vlan id 5; " +
      "ip link add housebr type bridge; ip link set house5 master housebr",
    says: [/is a port of housebond, which is below house5, which is a port of housebr/],
    down: "ip link del house5; ip link del housebond; ip link del housebr",
  },
];

/** What the kernel of this guest has, as the set-up prepared it. */
function kernel(): ModuleIndex & { readonly release: string } {
  return JSON.parse(Deno.readTextFileSync(`${Deno.env.get("RINGSIDE_GUEST_MODULES")}/../kernel.json`));
}

/** Why a stack cannot be built in this guest. */
function whyNot({ modules, needs = "" }: Stack): string | undefined {
  if (!inGuest()) return undefined;
  const { builtin, modules: prepared, release } = kernel();
  const missing = modules.find(({ name, optional }) =>
    !optional && !builtin.includes(name) && prepared[name] === undefined
  );
  if (missing !== undefined) {
    return `the kernel ${release} has no ${missing.name}; Debian's has: guest:setup --kernel both`;
  }
  if (needs.startsWith("/")) {
    return exists(needs)
      ? undefined
      : `the kernel ${release} has no ${needs}; Debian's has: guest:setup --kernel both`;
  }
  return needs === "" || exists(`${PATHS.bin}/${needs}`) ? undefined : `no ${needs}: deno task guest:setup`;
}

async function shell(text: string, ...args: readonly string[]): Promise<void> {
  const wipe = 'wipe() { dd if=/dev/zero of="$1" bs=1M count=1 conv=fsync; }';
  const output = await new Deno.Command("sh", {
    args: ["-ec", `${wipe}; ${text}`, "sh", ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const decoder = new TextDecoder();
  assert(output.success, `${text}: ${decoder.decode(output.stdout)}${decoder.decode(output.stderr)}`);
}

async function load(modules: readonly ModuleLoad[]): Promise<void> {
  const lines = Deno.readTextFileSync("/proc/modules").split("\n");
  const loaded = new Set(lines.map((line) => line.split(" ")[0]));
  for (const { name, file, parameters } of loadOrder(kernel(), modules)) {
    if (loaded.has(name)) continue;
    await shell(`insmod ${Deno.env.get("RINGSIDE_GUEST_MODULES")}/${file} ${parameters}`);
  }
}

/** Runs a command in this process. @returns its exit status, and all that it says */
async function ringside(...args: string[]): Promise<[code: number, said: string]> {
  let said = "";
  const output = { out: (text: string) => void (said += text), err: (text: string) => void (said += text) };
  return [await main(args, output), said];
}

for (const stack of STACKS) {
  const why = whyNot(stack);
  guestTest(`bind is refused while it is used: ${stack.name}`, async () => {
    const before = snapshot();
    using host = new LinuxHost();
    const owners = stack.on === "disks" ? functions(ID.blk).slice(0, 2) : functions(ID.net).slice(-2);
    const names = owners.map((address) =>
      stack.on === "disks" ? host.describe(address).blockDevices[0]! : netInterface(address)
    );
    const args = stack.on === "disks" ? names.map((name) => `/dev/${name}`) : names;
    await load(stack.modules);
    const asked = owners.slice(0, stack.says.length);
    try {
      await shell(stack.up, ...args);
      for (const [index, address] of asked.entries()) {
        const [code, said] = await ringside("bind", address);
        assertEquals([code, said.trimEnd().split("\n").length], [1, 1], said);
        const kind = stack.on === "disks" ? "disk" : "network interface";
        assertMatch(said, new RegExp(`^ringside: will not bind .*${kind} ${names[index]} of ${address} `));
        assertMatch(said, stack.says[index]!);
      }
      assertEquals(snapshot(), before, "a refusal changes nothing");
    } finally {
      await shell(stack.down, ...args);
    }
    const [code, said] = await ringside("bind", ...asked);
    assertEquals(code, 0, said);
    assertEquals(host.restore().failed, []);
    assertEquals(snapshot(), before, "sysfs is not as it was");
  }, why === undefined ? {} : { unless: why });
}
