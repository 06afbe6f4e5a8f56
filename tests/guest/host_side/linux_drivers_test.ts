/**
 * Linux's own drivers on the embedded host's functions, through QEMU: a disk with its file systems, networks, a console's ports and random numbers;
 * with what only the host's side can do to them, by its controls.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { type EmulatedProcess, startEmulatedHost } from "../../../cli/emulated_process.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { EmulatedControl } from "../../../lib/host/mod.ts";
import { Random } from "../../random.ts";
import { sha256 } from "../disk_writes.ts";
import { bootGuest } from "../rig/guest.ts";
import { hasDebianKernel, type KernelFlavour } from "../rig/kernel.ts";
import { exists, PATHS } from "../rig/paths.ts";
import { packedTools, vfioUserGuest } from "../rig/vfio_user.ts";
import { whyNoGuest } from "./job_guest.ts";
import { QmpClient } from "./qmp.ts";
import { linuxScript, PORT_BYTES } from "./linux_drivers_script.ts";

/** In the order of the buses that QEMU puts them on. */
const NET = "0000:01:00.0";
const OTHER = "0000:02:00.0";
const DISK = "0000:03:00.0";
const LARGE_BLOCKS = "0000:04:00.0";
const READ_ONLY = "0000:05:00.0";
const CONSOLE = "0000:06:00.0";
const RNG = "0000:07:00.0";
/** Plugged in later. */
const PLUGGED = "0000:08:00.0";
const FUNCTIONS = [NET, OTHER, DISK, LARGE_BLOCKS, READ_ONLY, CONSOLE, RNG];
const MIB = 1 << 20;
/** Larger numbers take minutes. */
const FULL = Deno.env.get("RINGSIDE_GUEST_FULL") === "1";
const COUNTS = FULL ? { toggles: 200, upDowns: 1000, plugs: 100 } : { toggles: 10, upDowns: 30, plugs: 5 };

/** What a kernel says of itself when it is broken, and of the devices here when it does not like them. */
const BROKEN = /\bBUG: |\bWARNING: |Call Trace|Oops/;
const OF_DEVICES = /virtio|vfio|\bvd[abc]|\bbr0|\beth[01]|ext4|jbd2|hvc|vport|hw_random|pci 0000|dmar|iommu/i;
const COMPLAINT =
  /\b(fail(ed|ure)?|cannot|errors?|faults?|bug|warn(ing)?|unable|invalid|corrupt\w*|time(d )?out)\b/i;
/** Lines of that kind that are as they should be, with the reason. */
const KNOWN_LINES: readonly [RegExp, string][] = [
  [/I\/O error, dev vda/, "who reads when the driver is unbound"],
];

/** What these drivers do against the standard, and when. */
const KNOWN_VIOLATIONS: readonly [RegExp, string][] = [
  [/PORT_READY for port [012] without DEVICE_READY/, "after suspend, of the ports that were there before"],
  [
    /transmit queue \d was notified, 1 queue pairs are in use/,
    "after suspend, before the number of pairs is set again",
  ],
];

const why = whyNoGuest() ??
  (exists(`${PATHS.sysroot}/usr/sbin/mke2fs`)
    ? undefined
    : "the rig has no e2fsprogs: deno task guest:setup");

const flavours: readonly (KernelFlavour | undefined)[] = why === undefined && hasDebianKernel()
  ? [undefined, "debian"]
  : [undefined];

for (const flavour of flavours) {
  const kernel = flavour === "debian" ? "Debian's kernel" : "the ready kernel";
  Deno.test({
    name: `Linux's virtio drivers on our disks, networks, ports and random numbers, ${kernel}${
      why === undefined ? "" : ` (skipped: ${why})`
    }`,
    ignore: why !== undefined,
    sanitizeOps: true,
    sanitizeResources: true,
    fn: () => drive(flavour),
  });
}

async function drive(flavour: KernelFlavour | undefined): Promise<void> {
  const folder = await Deno.makeTempDir();
  const [topology, disk, large, readOnly] = ["host.json", "disk.img", "large.img", "ro.img"].map((name) =>
    `${folder}/${name}`
  ) as [string, string, string, string];
  const unwritable = new Random(9).bytes(MIB);
  // What was never written is not zero: or nobody would see a zero that was not written.
  for (const file of [disk, large]) await Deno.writeFile(file, new Uint8Array(32 * MIB).fill(0xa5));
  await Deno.writeFile(readOnly, unwritable);
  const net = { kind: "virtio-net", totalVfs: 0, queuePairs: 2, mtu: 9000 };
  await Deno.writeTextFile(
    topology,
    JSON.stringify({
      functions: [
        { address: NET, ...net },
        { address: OTHER, ...net },
        { address: DISK, kind: "virtio-blk", file: disk, queues: 2 },
        { address: LARGE_BLOCKS, kind: "virtio-blk", file: large, blockSize: 4096 },
        { address: READ_ONLY, kind: "virtio-blk", file: readOnly, readOnly: true },
        {
          address: CONSOLE,
          kind: "virtio-console",
          ports: 3,
          portNames: ["", "data", "spare"],
          peer: "socket",
        },
        { address: RNG, kind: "virtio-rng" },
      ],
    }),
  );
  const served = await startEmulatedHost({ topology });
  try {
    {
      using host = EmulatedHost.connect(served.directory);
      for (const address of FUNCTIONS) host.bind(address);
    }
    const vlan = flavour === "debian";
    const counts = vlan && !FULL ? { toggles: 4, upDowns: 5, plugs: 2 } : COUNTS;
    // A second processor that was away over a suspend can be waited for without an end when the machine is powered off, under TCG.
    const cpus = vlan ? 1 : 2;
    const size = { ...counts, cpus, vlan, suspend: vlan, resetUnderIo: flavour !== "debian" };
    const hash = await sha256(unwritable);
    const script = linuxScript({ net: NET, disk: LARGE_BLOCKS, console: CONSOLE }, size, hash);
    const said = await boot(served, flavour, script, cpus);
    const lines = said.split("\n");
    assertEquals(lines.filter((line) => line.startsWith("!! ")), [], said);
    assertStringIncludes(said, "\nthe end\n");
    const done = lines.filter((line) => line.startsWith("ok "));
    for (const line of done) console.log(`  ${line}`);
    const bad = lines.filter((line) => line.startsWith("kernel: "))
      .filter((line) => BROKEN.test(line) || (OF_DEVICES.test(line) && COMPLAINT.test(line)))
      .filter((line) => !KNOWN_LINES.some(([known]) => known.test(line)));
    assertEquals(bad, [], "the guest's kernel complains");
    const violations = served.violations().filter((one) =>
      !KNOWN_VIOLATIONS.some(([known]) => known.test(one))
    );
    assertEquals(violations, []);
    assertEquals(await sha256(await Deno.readFile(readOnly)), hash, "the disk that cannot be written");
    assertEquals((await Deno.stat(large)).size, 48 * MIB);
  } finally {
    await served.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

async function boot(
  served: EmulatedProcess,
  flavour: KernelFlavour | undefined,
  script: string,
  cpus: number,
): Promise<string> {
  using control = EmulatedControl.connect(served.directory);
  using connection = await Deno.connect({ transport: "unix", path: `${served.directory}/${CONSOLE}.port1` });
  const port = portJudge(connection);
  const folder = await Deno.makeTempDir();
  const monitor = `${folder}/qmp`;
  let waking: Promise<void> | undefined,
    plugging: Promise<void> | undefined,
    ending: Promise<void> | undefined;
  let said = "";
  let seen = 0;
  const guest = await vfioUserGuest({
    sockets: FUNCTIONS.map((address) => `${served.directory}/${address}.sock`),
    script,
    modules: [
      ...["af_packet", "crc32c_generic", "ext4", "bridge", "virtio_console"].map((name) => ({
        name,
        optional: true,
      })),
      ...["virtio_net", "virtio_blk", "virtio_rng", ...(flavour === "debian" ? ["8021q"] : [])].map((
        name,
      ) => ({ name })),
    ],
  });
  const { exitCode } = await bootGuest({
    ...guest,
    ...(flavour === undefined ? {} : { kernel: flavour }),
    files: [
      ...await packedTools({
        mke2fs: "usr/sbin/mke2fs",
        e2fsck: "usr/sbin/e2fsck",
        ethtool: "usr/sbin/ethtool",
      }),
      {
        path: "tools/lib/mke2fs.conf",
        content: { kind: "file", data: Deno.readFileSync(`${PATHS.sysroot}/etc/mke2fs.conf`) },
      },
    ],
    cpus,
    qemuArgs: [
      ...["-qmp", `unix:${monitor},server=on,wait=off`],
      ...["-device", "pcie-root-port,id=hot,chassis=90,slot=90"],
    ],
    timeoutMs: 600_000,
    onConsole: (text) => {
      said += text;
      const end = said.lastIndexOf("\n") + 1;
      for (const line of said.slice(seen, end).split("\n")) {
        const [, address, name, value] = /^>> (\S+) (\S+) (.*)$/.exec(line) ?? [];
        if (address !== undefined) control.set(address, name!, value!);
        if (line === "going to sleep") waking = wakeUp(monitor);
        if (line === "plug in") plugging = plugIn(monitor, served, control);
        // The guest has said how it ended. A machine that its monitor woke does not always go by itself.
        if (waking !== undefined && line.endsWith("reboot: Power down")) ending = quit(monitor);
        if (line === "port again") connection.write(new TextEncoder().encode("hello!"));
      }
      seen = end;
    },
  });
  await Promise.all([waking, plugging, ending]);
  await Deno.remove(folder, { recursive: true });
  assertEquals(exitCode, 0, said);
  const { sent, back } = await port;
  assertStringIncludes(said, `port ${sent}\n`, "what came in at the console's port");
  assertEquals(back, sent, "what came out of it");
  return said;
}

/** Waits until the machine sleeps, and wakes it. */
async function wakeUp(monitor: string): Promise<void> {
  using qmp = await QmpClient.connect(monitor);
  for (;;) {
    const { status } = await qmp.execute("query-status") as { status: string };
    if (status === "suspended") break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await qmp.execute("system_wakeup");
}

/** Plugs a function into the host, and then into the machine. */
async function plugIn(monitor: string, served: EmulatedProcess, control: EmulatedControl): Promise<void> {
  control.plug({ address: PLUGGED, kind: "virtio-rng" });
  {
    using host = EmulatedHost.connect(served.directory);
    host.bind(PLUGGED);
  }
  using qmp = await QmpClient.connect(monitor);
  const socket = { type: "unix", path: `${served.directory}/${PLUGGED}.sock` };
  await qmp.execute("device_add", { driver: "vfio-user-pci", id: "plugged", bus: "hot", socket });
}

/** Ends the machine, if it is there still. */
async function quit(monitor: string): Promise<void> {
  try {
    using qmp = await QmpClient.connect(monitor);
    await qmp.execute("quit");
  } catch {
    // It has ended.
  }
}

/** Sends random bytes into a port, and takes as many out of it. @returns the hashes of both */
async function portJudge(connection: Deno.UnixConn): Promise<{ sent: string; back: string }> {
  const bytes = new Random(77).bytes(PORT_BYTES);
  const sending = (async () => {
    for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
  })();
  const back = new Uint8Array(PORT_BYTES);
  for (let at = 0; at < back.length;) {
    const count = await connection.read(back.subarray(at));
    if (count === null) throw new Error(`the port was closed after ${at} bytes`);
    at += count;
  }
  await sending;
  return { sent: await sha256(bytes), back: await sha256(back) };
}
