/**
 * The Linux kernel's own virtio-mmio driver, and its drivers for rng, net and blk, on our devices: each is BAR 0 of a PCI function that QEMU has over
 * vfio-user, and the guest's kernel is told where it lies, as for a machine without a device tree.
 */
import { assert, assertEquals, assertGreater, assertGreaterOrEqual, assertMatch } from "@std/assert";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { openTransport } from "../../../lib/virtio/mod.ts";
import { Random } from "../../random.ts";
import { sha256 } from "../disk_writes.ts";
import { bootGuest } from "../rig/guest.ts";
import { preparedKernel } from "../rig/kernel.ts";
import { exists } from "../rig/paths.ts";
import { vfioUserGuest } from "../rig/vfio_user.ts";
import { IcmpPeer } from "./icmp_peer.ts";
import { whyNoGuest } from "./job_guest.ts";
import type { MmioBarTask } from "./mmio_bar_host.ts";

const HOST = new URL("./mmio_bar_host.ts", import.meta.url).pathname;
const RNG = "0000:01:00.0";
const NET = "0000:02:00.0";
const DISK = "0000:03:00.0";
const IN_BARS = [RNG, NET, DISK];
/** Ours, at the other end of the guest's link. */
const RINGSIDE = "0000:04:00.0";
const ADDRESS = { guest: "192.0.2.2", ringside: "192.0.2.1" } as const;
const DISK_BYTES = 4 << 20;
/** The guest copies the first MiB to here. */
const COPY_MIB = 2;
/** Echo requests from Ringside to the guest, and from there in small and large frames. */
const PINGS = 100;
const GUEST_PINGS = { small: 60, large: 30 } as const;
const GUEST_PINGS_IN_ALL = GUEST_PINGS.small + GUEST_PINGS.large;
const ENTROPY_BYTES = 1024;
const MODULE = "virtio_mmio";

const topologyWith = (file: string) => ({
  functions: [
    { address: RNG, kind: "virtio-rng", driver: "vfio-pci" },
    { address: NET, kind: "virtio-net", totalVfs: 0, switch: "s0", driver: "vfio-pci" },
    { address: DISK, kind: "virtio-blk", file, driver: "vfio-pci" },
    { address: RINGSIDE, kind: "virtio-net", totalVfs: 0, switch: "s0", driver: "vfio-pci" },
  ],
});

/** Which feature bits Linux took, lowest first, as sysfs shows them. */
const BIT = { version1: 32, packed: 34 } as const;

/** Tells the kernel of each function's BAR and line, then uses the devices; each part ends with a line that the test looks for. */
const SCRIPT = `
part() { echo "=== $1"; }
part windows
devices=
for bus in 1 2 3; do
  function=/sys/bus/pci/devices/0000:0$bus:00.0
  # That gives the line its number.
  echo 1 > $function/enable
  setpci -s $bus:0 COMMAND=6:6
  read -r first _ < $function/resource
  devices="$devices device=512@$first:$(cat $function/irq)"
done
echo $devices
insmod /${MODULE}.ko $devices || exit 1
part devices; for d in /sys/bus/virtio/devices/*; do
  echo "$(cat $d/device) $(cat $d/status) $(readlink -f $d | sed 's:/sys/devices/::') $(cat $d/features)"
done
part dmesg; dmesg | grep -i -E 'virtio|bug:|warning:|call trace'
part rng; cat /sys/class/misc/hw_random/rng_current
dd if=/dev/hwrng bs=64 count=${ENTROPY_BYTES / 64} 2>/dev/null | hexdump -v -e '1/1 "%02x"'; echo
part disk; sha256sum < /dev/vda
dd if=/dev/vda of=/dev/vda bs=64k count=16 seek=${COPY_MIB * 16} conv=notrunc,fsync 2>/dev/null
echo 3 > /proc/sys/vm/drop_caches; sha256sum < /dev/vda
part ping
ip addr add ${ADDRESS.guest}/24 dev eth0; ip link set eth0 up
ping -c ${GUEST_PINGS.small} -i 0.01 -W 3 ${ADDRESS.ringside} | tail -3
ping -c ${GUEST_PINGS.large} -i 0.01 -W 3 -s 1472 ${ADDRESS.ringside} | tail -3
# Column 9 of the line "Icmp:" counts echo requests.
for i in $(seq 100); do
  [ "$(grep ^Icmp: /proc/net/snmp | tail -1 | cut -d' ' -f10)" -ge ${PINGS} ] && break; usleep 100000
done
part icmp; grep ^Icmp: /proc/net/snmp
part interrupts; grep virtio /proc/interrupts
part unload; rmmod ${MODULE} && ls /sys/bus/virtio/devices | grep -c .
part end
`;

interface Served {
  readonly directory: string;
  violations(): string[];
}

/** Runs `body` while a process serves the functions. */
async function serving(
  task: Omit<MmioBarTask, "directory">,
  body: (served: Served) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "mmio" });
  const directory = `${folder}/host`;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-check", "--allow-ffi", "--allow-env", HOST],
      JSON.stringify({ ...task, directory } satisfies MmioBarTask),
    ],
    stdin: "piped",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  let ended = false;
  const status = child.status.finally(() => ended = true);
  try {
    while (!exists(`${directory}/ready`)) {
      if (ended) throw new Error(`the host ended at once, with status ${(await status).code}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await body({
      directory,
      violations: () => {
        using sysfs = new SocketSysfs(`${directory}/host.sock`);
        return sysfs.readText("/ringside/violations").split("\n").filter((line) => line !== "");
      },
    });
  } finally {
    await child.stdin.close().catch(() => {});
    assertEquals((await status).code, 0, "the process that served the devices");
    await Deno.remove(folder, { recursive: true });
  }
}

/** Boots the guest and serves its link from Ringside's side until it ends. */
async function exchange(served: Served): Promise<string> {
  const { moduleFolder } = preparedKernel();
  using host = EmulatedHost.connect(served.directory);
  using device = host.open(RINGSIDE);
  using transport = openTransport(device);
  await using net = await VirtioNet.open(transport, { wait: "eventfd" });
  const payloads = Array.from({ length: PINGS }, (_, number) => new Random(number).bytes(number * 73 % 1473));
  const task = { from: ADDRESS.ringside, to: ADDRESS.guest, payloads };
  // One after the other: `ping` has a small receive buffer, which all that comes by ICMP goes through.
  const peer = new IcmpPeer(net, [task], GUEST_PINGS_IN_ALL);
  const stop = new AbortController();
  const kill = new AbortController();
  let console = "";
  const sockets = IN_BARS.map((address) => `${served.directory}/${address}.sock`);
  const options = await vfioUserGuest({
    sockets,
    script: SCRIPT,
    modules: [
      { name: "af_packet", optional: true },
      { name: "virtio_net" },
      { name: "virtio_blk" },
      { name: "virtio_rng" },
    ],
  });
  const module = { kind: "file", data: await Deno.readFile(`${moduleFolder}/${MODULE}.ko`) } as const;
  const guest = bootGuest({
    ...options,
    files: [...options.files ?? [], { path: `${MODULE}.ko`, content: module }],
    signal: kill.signal,
    onConsole: (text) => void (console += text),
    // Posted, the write of InterruptACK could arrive after the device has seen what the guest put into a ring next, and used it: the interrupt of that
    // would be acknowledged with the one before. A bus keeps the order of a write and of what is read from memory later; a socket beside memory does not.
    qemuArgs: ["-global", "vfio-user-pci.x-no-posted-writes=on"],
  });
  const serving = peer.run(stop.signal);
  try {
    // A wrong byte in an answer ends the test at once, not at the guest's end.
    await Promise.race([guest, serving]);
    assertEquals((await guest).exitCode, 0, console);
  } finally {
    stop.abort();
    kill.abort();
    await Promise.allSettled([guest, serving]);
  }
  assertEquals(peer.echoes, [PINGS], `Ringside's echo requests to the guest\n${console}`);
  assertEquals(peer.answered.echo, GUEST_PINGS_IN_ALL);
  return console;
}

function partsOf(console: string): Record<string, string> {
  const parts = Object.fromEntries(
    [...console.matchAll(/^=== (\S+)\n([^]*?)(?=^=== |$(?![^]))/gm)].map(([, name, text]) => [name, text]),
  );
  assert("end" in parts, `the guest's script did not end:\n${console}`);
  return parts as Record<string, string>;
}

/** What Linux says of the devices. */
function check(console: string, version: 1 | 2): void {
  const { devices = "", dmesg = "", rng = "", ping = "", icmp = "", interrupts = "", unload = "" } = partsOf(
    console,
  );
  const lines = devices.trim().split("\n").map((line) => line.split(" "));
  assertEquals(lines.map(([type, , place]) => [type, place]), [
    ["0x0004", "virtio-mmio-cmdline/virtio-mmio.0/virtio0"],
    ["0x0001", "virtio-mmio-cmdline/virtio-mmio.1/virtio1"],
    ["0x0002", "virtio-mmio-cmdline/virtio-mmio.2/virtio2"],
  ]);
  for (const [, status, , features = ""] of lines) {
    // A legacy device has no FEATURES_OK.
    assertEquals(status, version === 1 ? "0x00000007" : "0x0000000f");
    assertEquals(features[BIT.version1], version === 1 ? "0" : "1");
    assertEquals(features[BIT.packed], version === 1 ? "0" : "1");
  }
  assertEquals(dmesg.match(/bug:|warning:|call trace/gi), null, dmesg);
  const [current = "", bytes = ""] = rng.split("\n");
  assertMatch(current, /^virtio_rng/);
  assertEquals(bytes.length, 2 * ENTROPY_BYTES);
  assertGreater(new Set(bytes.match(/../g)).size, 200);
  assertEquals(ping.match(/(\d+) packets transmitted, /g)?.length, 2, ping);
  // What came is counted here: `ping` itself loses answers that come in a burst.
  const [names = [], values = []] = icmp.trim().split("\n").map((line) => line.split(" "));
  const count = (name: string): number => Number(values[names.indexOf(name)]);
  assertEquals(["InErrors", "InCsumErrors", "InEchoReps"].map(count), [0, 0, GUEST_PINGS_IN_ALL], icmp);
  assertGreaterOrEqual(count("InEchos"), PINGS);
  const raised = interrupts.trim().split("\n").map((line) => Number(/:\s+(\d+)/.exec(line)?.[1]));
  assertGreater(raised.reduce((sum, one) => sum + one, 0), PINGS, interrupts);
  assertEquals(unload.trim(), "0");
}

/** Why the guest's kernel cannot be told where a device is. */
function whyNotTold(): string | undefined {
  const path = `${preparedKernel().moduleFolder}/${MODULE}.ko`;
  const has = exists(path) &&
    new TextDecoder("latin1").decode(Deno.readFileSync(path)).includes("vm_cmdline");
  return has ? undefined : "the guest's kernel is without CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES";
}

const why = whyNoGuest() ?? whyNotTold();

for (const version of [1, 2] as const) {
  Deno.test({
    name: `Linux's virtio-mmio driver on our devices, version ${version}: rng, net and blk${
      why === undefined ? "" : ` (skipped: ${why})`
    }`,
    ignore: why !== undefined,
    sanitizeOps: true,
    sanitizeResources: true,
    fn: async () => {
      const before = new Random(version).bytes(DISK_BYTES);
      const after = before.slice();
      after.copyWithin(COPY_MIB << 20, 0, 1 << 20);
      const file = await Deno.makeTempFile({ suffix: ".img" });
      await Deno.writeFile(file, before);
      try {
        const form = version === 1 ? "legacy" : "modern";
        await serving({ topology: topologyWith(file), form, inBars: IN_BARS }, async (served) => {
          const console = await exchange(served);
          assertEquals(served.violations(), [], console);
          check(console, version);
          const hashes = await Promise.all([before, after].map(sha256));
          const { disk = "" } = partsOf(console);
          assertEquals([...disk.matchAll(/^[0-9a-f]{64}/gm)].map(([hash]) => hash), hashes, disk);
          assertEquals(await sha256(await Deno.readFile(file)), hashes[1], "the disk's file");
        });
      } finally {
        await Deno.remove(file);
      }
    },
  });
}
