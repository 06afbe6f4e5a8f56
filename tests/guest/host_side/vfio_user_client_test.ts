/**
 * Independent judges of the embedded host: QEMU as the vfio-user client, and in its guest an unmodified Linux kernel with its own
 * virtio drivers. Runs on the host's side of the rig.
 */
import { assert, assertEquals, assertGreater, assertGreaterOrEqual, assertRejects } from "@std/assert";
import { type EmulatedProcess, startEmulatedHost } from "../../../cli/emulated_process.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { type Observer, vfToVf } from "../../../cli/vf_to_vf.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { sha256 } from "../disk_writes.ts";
import { bootGuest, type GuestOptions } from "../rig/guest.ts";
import { inGuest } from "../rig/in_guest.ts";
import { preparedKernel } from "../rig/kernel.ts";
import { exists, SYSROOT_LOADER } from "../rig/paths.ts";
import { vfioUserGuest } from "../rig/vfio_user.ts";
import { type EchoTask, IcmpPeer } from "./icmp_peer.ts";
import { checkLspci, UNNAMED } from "./lspci.ts";
import { assertNothingLeft, settledHoldings } from "../../holdings.ts";
import { Random } from "../../random.ts";

const PF = "0000:01:00.0";
const VF = "0000:01:00.1";
const RNG = "0000:02:00.0";
/** Ringside's own, on the same switch. Not a VF: those go through every reset of their PF, and QEMU resets what it attaches to. */
const RINGSIDE = "0000:03:00.0";
/** Offers the split ring only; the others are driven with packed rings by a Linux that knows them. */
const SPLIT = "0000:04:00.0";
const DISK = "0000:05:00.0";
const FUNCTIONS = [PF, RNG, RINGSIDE, SPLIT, DISK];
const DISK_BYTES = 4 << 20;
/** The guest copies the first MiB to here. */
const COPY_MIB = 2;
const topologyWith = (file: string) => ({
  functions: [
    { address: PF, kind: "virtio-net", totalVfs: 2, switch: "s0" },
    { address: RNG, kind: "virtio-rng" },
    { address: RINGSIDE, kind: "virtio-net", totalVfs: 0, switch: "s0" },
    {
      address: SPLIT,
      kind: "virtio-net",
      totalVfs: 0,
      switch: "s0",
      featuresOff: ["VIRTIO_F_RING_PACKED", "VIRTIO_F_IN_ORDER"],
    },
    { address: DISK, kind: "virtio-blk", file },
  ],
});
const SILENT: Observer = {
  step: () => {},
  frames: () => ({ update: () => {}, [Symbol.dispose]: () => {} }),
};
/** The guest's interfaces: the PF's, that of its VF, and one with split rings. */
const LINKS = [
  { link: "eth0", guest: "192.0.2.2", ringside: "192.0.2.1" },
  { link: "eth1", guest: "198.51.100.2", ringside: "198.51.100.1" },
  { link: "eth2", guest: "203.0.113.2", ringside: "203.0.113.1" },
] as const;

/** Echo requests from Ringside to each of the guest's addresses, and from there to Ringside in small and large frames. */
const PINGS = 200;
const GUEST_PINGS = { small: 100, large: 50 } as const;
const GUEST_PINGS_IN_ALL = LINKS.length * (GUEST_PINGS.small + GUEST_PINGS.large);

/** Times that QEMU is killed with its functions in use. */
const KILLS = Deno.env.get("RINGSIDE_GUEST_FULL") === "1" ? 100 : 2;

/** What the guest does; each part ends with a line of its own that the test looks for. */
const SCRIPT = `
part() { echo "=== $1"; }
part lspci; for bus in 1 2 3 4; do lspci -vvv -s $bus:0; done
part bytes; for bus in 1 2 3 4; do lspci -xxx -s $bus:0; done
part lspci-errors; lspci -vvv 2>&1 >/dev/null | grep -v -i kmod
# All links are on one switch; each answers for its own address only.
echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore
${LINKS.map(({ link, guest }) => `ip addr add ${guest}/24 dev ${link}; ip link set ${link} up`).join("\n")}
part ping
${
  LINKS.map(({ ringside }) =>
    `ping -c ${GUEST_PINGS.small} -i 0.01 -W 3 ${ringside} | tail -3
ping -c ${GUEST_PINGS.large} -i 0.01 -W 3 -s 1472 ${ringside} | tail -3`
  ).join("\n")
}
${LINKS.map(({ link, ringside }) => `arping -f -I ${link} ${ringside} | tail -2`).join("\n")}
part wait
# Column 9 of the line "Icmp:" counts echo requests.
for i in $(seq 100); do
  [ "$(grep ^Icmp: /proc/net/snmp | tail -1 | cut -d' ' -f10)" -ge ${
  LINKS.length * PINGS
} ] && break; usleep 100000
done
part icmp; grep ^Icmp: /proc/net/snmp
part counters
for l in eth0 eth1 eth2; do
  for c in rx_packets tx_packets rx_errors tx_errors rx_length_errors; do
    echo "$l $c $(cat /sys/class/net/$l/statistics/$c)"
  done
  echo "$l mac $(cat /sys/class/net/$l/address)"
done
part rng; cat /sys/class/misc/hw_random/rng_current; dd if=/dev/hwrng bs=64 count=16 2>/dev/null | hexdump -v -e '1/1 "%02x"'; echo
part disk; sha256sum < /dev/vda
dd if=/dev/vda of=/dev/vda bs=64k count=16 seek=${COPY_MIB * 16} conv=notrunc,fsync 2>/dev/null
echo 3 > /proc/sys/vm/drop_caches; sha256sum < /dev/vda
part features; for d in /sys/bus/virtio/devices/*; do cat $d/features; done
part interrupts; grep PCI-MSI /proc/interrupts
part dmesg; dmesg | grep -i -E 'virtio|dmar|iommu|bug:|warning:|call trace'
part end
`;

/** Attaches QEMU to the functions; bus numbers are in the order of the sockets. */
async function guestOptions(host: EmulatedProcess, more: GuestOptions): Promise<GuestOptions> {
  const { script, iommu, ...rest } = more;
  return {
    ...await vfioUserGuest({
      sockets: [PF, VF, RNG, SPLIT, DISK].map((address) => `${host.directory}/${address}.sock`),
      ...(script === undefined ? {} : { script }),
      iommu: iommu ?? false,
    }),
    onConsole: () => {},
    timeoutMs: 400_000,
    ...rest,
  };
}

/** Boots a guest and serves its links from Ringside's side until it ends. */
async function exchange(processHost: EmulatedProcess, more: GuestOptions): Promise<string> {
  using host = EmulatedHost.connect(processHost.directory);
  using device = host.open(RINGSIDE);
  using transport = PciModernTransport.open(device);
  await using net = await VirtioNet.open(transport, { wait: "eventfd" });
  const tasks = LINKS.map(({ guest, ringside }): EchoTask => ({
    from: ringside,
    to: guest,
    payloads: Array.from({ length: PINGS }, (_, number) => payload(number, number * 73 % 1473)),
  }));
  // One after the other: `ping` has a small receive buffer, which all that comes by ICMP goes through.
  const peer = new IcmpPeer(net, tasks, GUEST_PINGS_IN_ALL);
  const stop = new AbortController();
  const kill = new AbortController();
  let console = "";
  const options = await guestOptions(processHost, {
    script: SCRIPT,
    signal: kill.signal,
    onConsole: (text) => void (console += text),
    ...more,
  });
  const guest = bootGuest(options);
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
  assertEquals(peer.echoes, LINKS.map(() => PINGS), `Ringside's echo requests to the guest\n${console}`);
  assertEquals(peer.answered.echo, GUEST_PINGS_IN_ALL);
  // What the guest's kernel asks, and one `arping`, a link.
  assertGreaterOrEqual(peer.answered.arp, LINKS.length * 2);
  assertGreater(net.statistics().interrupts, PINGS);
  return console;
}

function payload(seed: number, sizeBytes: number): Uint8Array {
  return new Random(seed).bytes(sizeBytes);
}

/** The parts of the script's output by name. */
function partsOf(console: string): Record<string, string> {
  const parts = Object.fromEntries(
    [...console.matchAll(/^=== (\S+)\n([^]*?)(?=^=== |$(?![^]))/gm)].map(([, name, text]) => [name, text]),
  );
  assert("end" in parts, `the guest's script did not end:\n${console}`);
  return parts as Record<string, string>;
}

/** What Linux and its tools say of the functions. */
function check(console: string): void {
  const { lspci = "", bytes = "", ping = "", counters = "", rng = "", interrupts = "", dmesg = "", ...rest } =
    partsOf(console);
  const network = "Ethernet controller: Red Hat, Inc. Virtio 1.0 network device";
  const titles = [network, network, "Unclassified device [00ff]: Red Hat, Inc. Virtio 1.0 RNG", network];
  checkLspci(
    { listing: lspci, bytes, errors: rest["lspci-errors"] ?? "" },
    titles.map((title) => ({ title, unnamed: [UNNAMED.pciAccess] })),
  );

  assertEquals(
    ping.match(/(\d+) packets transmitted, /g)?.length,
    2 * LINKS.length,
    ping,
  );
  // What came is counted below: `ping` itself loses answers that come in a burst.
  assertEquals(ping.match(/^Received [1-9]\d* response/gm)?.length, LINKS.length, ping);
  const [names = [], values = []] = (rest.icmp ?? "").trim().split("\n").map((line) => line.split(" "));
  const icmp = Object.fromEntries(names.map((name, index) => [name, Number(values[index])]));
  assertEquals([icmp.InErrors, icmp.InCsumErrors, icmp.InEchoReps], [0, 0, GUEST_PINGS_IN_ALL], rest.icmp);
  for (const { link } of LINKS) {
    const count = (name: string): number =>
      Number(new RegExp(`^${link} ${name} (\\d+)$`, "m").exec(counters)?.[1]);
    assertGreaterOrEqual(count("rx_packets"), GUEST_PINGS.small + GUEST_PINGS.large + PINGS);
    assertGreaterOrEqual(count("tx_packets"), GUEST_PINGS.small + GUEST_PINGS.large + PINGS);
    assertEquals([count("rx_errors"), count("tx_errors"), count("rx_length_errors")], [0, 0, 0]);
  }
  assert(counters.includes("eth0 mac 52:54:00:01:00:00") && counters.includes("eth1 mac 52:54:00:01:00:01"));

  const [source, hex = ""] = rng.trim().split("\n");
  assertEquals([source, hex.length], ["virtio_rng.0", 2 * 16 * 64], rng);
  assertGreater(new Set(hex.match(/../g)).size, 200, "bytes from /dev/hwrng are hardly random");

  // As a string of bits, lowest first: VERSION_1, ACCESS_PLATFORM, RING_PACKED; ADMIN_VQ.
  const features = (rest.features ?? "").trimEnd().split("\n");
  assertEquals(features.map((bits) => bits.slice(32, 35)), ["111", "111", "111", "110", "111"]);
  assertEquals(features.map((bits) => bits[41]), ["1", "0", "0", "0", "0"]);
  for (
    const queue of ["virtio0-input.0", "virtio1-input.0", "virtio2-input", "virtio3-input.0", "virtio4-req.0"]
  ) {
    const line = interrupts.split("\n").find((one) => one.endsWith(queue)) ?? "";
    const raised = line.trim().split(/\s+/).slice(1).map(Number).filter((one) => !Number.isNaN(one));
    assertGreater(raised.reduce((sum, one) => sum + one, 0), 0, `no MSI-X for ${queue}:\n${interrupts}`);
  }
  // Linux asks for the SR-IOV group's commands, says which it uses, and from 6.13 on goes on to capabilities of the PF itself only when both were answered
  // with OK. Those it looks for in the SR-IOV group's list, where they are not (they belong to the group Self): -EOPNOTSUPP, from itself.
  const [major = 0, minor = 0] = preparedKernel().release.split(".").map(Number);
  const wantsCapabilities = major > 6 || (major === 6 && minor >= 13);
  const asked = dmesg.match(/^.*Failed to execute command on admin vq: .*$/gm) ?? [];
  assertEquals(
    asked.map((line) => line.replace(/^.*\] /, "")),
    wantsCapabilities ? ["virtio_net virtio0: Failed to execute command on admin vq: -95"] : [],
  );
  // Of a machine that is too busy for its timers.
  const others = dmesg.replace(asked[0] ?? "", "").replace(/^.*MP-BIOS bug: 8254 timer.*$/m, "");
  assert(!/\b(fail(ed|ure)?|errors?|faults?|bug|warning|call trace)\b/i.test(others), dmesg);
}

const why = inGuest()
  ? "runs on the host"
  : exists(SYSROOT_LOADER)
  ? undefined
  : "the guest rig is not set up: deno task guest:setup";

/** A disk of random bytes, and the same once the guest has copied a part of it. */
const DISK_BEFORE = new Random(5).bytes(DISK_BYTES);
const DISK_AFTER = DISK_BEFORE.slice();
DISK_AFTER.copyWithin(COPY_MIB << 20, 0, 1 << 20);

interface Serving {
  readonly served: EmulatedProcess;
  /** Boots a guest, and looks at what it says, at the disk's file, and at what the host keeps. */
  run(more: GuestOptions): Promise<string>;
  /** No violation was seen, and nothing of a client is left. */
  fine(): Promise<void>;
}

/** Serves functions that are bound for users. */
async function serving(
  clientMemory: "copy" | "map" | "refuse",
  body: (serving: Serving) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const [topology, image] = [`${folder}/topology.json`, `${folder}/disk.img`];
  await Deno.writeFile(image, DISK_BEFORE);
  await Deno.writeTextFile(topology, JSON.stringify(topologyWith(image)));
  const served = await startEmulatedHost({ topology, clientMemory });
  try {
    {
      using host = EmulatedHost.connect(served.directory);
      for (const address of FUNCTIONS) host.bind(address);
      for (const vf of host.setVfCount(PF, 1)) host.bind(vf);
    }
    const idle = await settledHoldings(served.pid);
    const fine = async (): Promise<void> => {
      assertEquals(served.violations(), []);
      assertNothingLeft(
        await settledHoldings(served.pid),
        idle,
        "the embedded host keeps what a client left",
      );
    };
    await body({
      served,
      fine,
      run: async (more) => {
        await Deno.writeFile(image, DISK_BEFORE);
        const console = await exchange(served, more);
        check(console);
        const hashes = await Promise.all([DISK_BEFORE, DISK_AFTER].map(sha256));
        const { disk = "" } = partsOf(console);
        assertEquals([...disk.matchAll(/^[0-9a-f]{64}/gm)].map(([hash]) => hash), hashes, disk);
        assertEquals(await sha256(await Deno.readFile(image)), hashes[1], "the disk's file");
        await fine();
        return console;
      },
    });
  } finally {
    await served.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

function hostTest(name: string, fn: (t: Deno.TestContext) => Promise<void>): void {
  Deno.test({
    name: `${name}${why === undefined ? "" : ` (skipped: ${why})`}`,
    ignore: why !== undefined,
    sanitizeOps: true,
    sanitizeResources: true,
    fn,
  });
}

hostTest(
  "QEMU's vfio-user-pci on the embedded host",
  (t) =>
    serving("copy", async ({ served, run, fine }) => {
      await t.step(
        "Linux lists, drives and uses them, two queue pairs each; its shutdown leaves nothing",
        async () => void await run({ cpus: 2 }),
      );
      await t.step(
        `QEMU is killed ${KILLS} times while frames are under way, and started again`,
        async () => {
          for (let round = 0; round < KILLS; round++) {
            await killed(served);
            await fine();
          }
        },
      );
      await t.step("attached again, behind a virtual IOMMU", async () => {
        const console = await run({ iommu: true });
        assert(console.includes("iommu: Default domain type: Translated"), console);
        assert(/IR-PCI-MSIX/.test(console), "the guest has no interrupt remapping");
      });
      await t.step("afterwards the host is put back, and Ringside drives the same functions", async () => {
        using host = EmulatedHost.connect(served.directory);
        assertEquals(host.restore().failed, []);
        const job = { pf: PF, vfs: 2, frames: 2000, interruptFrames: 100, observer: SILENT };
        assertEquals((await vfToVf(host, job)).polled.frames, 2000);
        assertEquals(host.journal(), []);
        assertEquals(served.violations(), []);
      });
    }),
);

/** Guest RAM that QEMU could truncate, instead of a sealed memfd. */
function ram(backend: string): GuestOptions {
  return {
    qemuArgs: [
      ...["-object", `${backend},id=unsealed,size=512M,share=on`],
      ...["-machine", "memory-backend=unsealed"],
    ],
  };
}
const UNSEALED = "memory-backend-memfd,seal=off";

hostTest(
  "QEMU's guest RAM in files that could shrink, copied",
  (t) =>
    serving("copy", async ({ served, run, fine }) => {
      await t.step("a memfd without seals", async () => void await run(ram(UNSEALED)));
      await t.step("a file", async () => void await run(ram("memory-backend-file,mem-path=/dev/shm")));
      await t.step(
        "a memfd without seals, behind a virtual IOMMU",
        async () => void await run({ ...ram(UNSEALED), iommu: true }),
      );
      await t.step("QEMU is killed while frames are under way", async () => {
        await killed(served, ram(UNSEALED));
        await fine();
      });
    }),
);

hostTest(
  "QEMU's guest RAM in a memfd without seals, mapped all the same",
  () => serving("map", async ({ run }) => void await run(ram(UNSEALED))),
);

hostTest(
  "QEMU's guest RAM in a memfd without seals, refused: the host says why",
  () =>
    serving("refuse", async ({ served }) => {
      const refused = new AbortController();
      const look = setInterval(() => {
        if (served.violations().length >= 5) {
          refused.abort(new DOMException("killed on purpose", "AbortError"));
        }
      }, 100);
      try {
        const options = await guestOptions(served, { ...ram(UNSEALED), signal: refused.signal });
        await assertRejects(() => bootGuest(options), DOMException, "killed on purpose");
      } finally {
        clearInterval(look);
      }
      for (const violation of served.violations()) {
        const { rule, message } = JSON.parse(violation);
        assertEquals(rule, "vfio-user");
        assert(message.includes("is not sealed against shrinking"), violation);
      }
    }),
);

/** Boots a guest that floods its links, and kills it then. */
async function killed(served: EmulatedProcess, more: GuestOptions = {}): Promise<void> {
  const [{ link, guest, ringside }] = LINKS;
  const kill = new AbortController();
  let console = "";
  const options = await guestOptions(served, {
    ...more,
    script: `ip addr add ${guest}/24 dev ${link}; ip link set ${link} up
arp -s ${ringside} 52:54:00:01:00:01
dd if=/dev/hwrng of=/dev/null bs=4096 &
ping -i 0.001 ${ringside} & sleep 1; echo now; sleep 60`,
    signal: kill.signal,
    onConsole: (text) => {
      console += text;
      if (/^now$/m.test(console)) kill.abort(new DOMException("killed on purpose", "AbortError"));
    },
  });
  await assertRejects(() => bootGuest(options), DOMException, "killed on purpose");
}
