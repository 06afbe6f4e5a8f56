/**
 * Independent judges of the embedded vhost-user devices: QEMU as the front end, and in its guest an unmodified Linux kernel with its own virtio
 * drivers. Runs on the host's side of the rig.
 */
import { assert, assertEquals, assertGreater, assertGreaterOrEqual } from "@std/assert";
import { type EmulatedProcess, startEmulatedHost } from "../../../cli/emulated_process.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { sha256 } from "../disk_writes.ts";
import { bootGuest } from "../rig/guest.ts";
import { inGuest } from "../rig/in_guest.ts";
import { exists, SYSROOT_LOADER } from "../rig/paths.ts";
import { IcmpPeer } from "./icmp_peer.ts";
import { assertNothingLeft, settledHoldings } from "../../holdings.ts";
import { Random } from "../../random.ts";

/** Ringside's own, on the switch of the guest's. */
const RINGSIDE = "0000:01:00.0";
const ENDS = { from: "192.0.2.1", to: "192.0.2.2" } as const;
const PINGS = 100;
const GUEST_PINGS = { small: 50, large: 20 } as const;
const DISK_BYTES = 4 << 20;
/** The guest copies the first MiB to here. */
const COPY_MIB = 2;

const SCRIPT = `
part() { echo "=== $1"; }
ip addr add ${ENDS.to}/24 dev eth0; ip link set eth0 up
part ping
ping -c ${GUEST_PINGS.small} -i 0.02 -W 3 ${ENDS.from} | tail -3
ping -c ${GUEST_PINGS.large} -i 0.02 -W 3 -s 1472 ${ENDS.from} | tail -3
# Column 9 of the line "Icmp:" counts echo requests.
for i in $(seq 100); do
  [ "$(grep ^Icmp: /proc/net/snmp | tail -1 | cut -d' ' -f10)" -ge ${PINGS} ] && break; usleep 100000
done
part icmp; grep ^Icmp: /proc/net/snmp
part rng; cat /sys/class/misc/hw_random/rng_current; dd if=/dev/hwrng bs=64 count=16 2>/dev/null | hexdump -v -e '1/1 "%02x"'; echo
part disk; sha256sum < /dev/vda
dd if=/dev/vda of=/dev/vda bs=64k count=16 seek=${COPY_MIB * 16} conv=notrunc,fsync 2>/dev/null
echo 3 > /proc/sys/vm/drop_caches; sha256sum < /dev/vda
part features; for d in /sys/bus/virtio/devices/*; do echo "$(cat $d/device) $(cat $d/features)"; done
part dmesg; dmesg | grep -i -E 'virtio|vhost|bug:|warning:|call trace'
part end
`;

/** QEMU's arguments for a front end of each device. @param packed with packed rings */
function frontEnds(folder: string, packed: boolean): string[] {
  const ring = packed ? ",packed=on" : "";
  const channel = (name: string) => ["-chardev", `socket,id=${name},path=${folder}/${name}.sock`];
  return [
    ...channel("net"),
    ...["-netdev", "vhost-user,id=link,chardev=net,queues=2"],
    ...[
      "-device",
      `virtio-net-pci,netdev=link,mq=on,vectors=6,mac=52:54:00:00:00:02,disable-legacy=on${ring}`,
    ],
    ...channel("blk"),
    ...["-device", `vhost-user-blk-pci,chardev=blk,num-queues=2,disable-legacy=on${ring}`],
    ...channel("rng"),
    ...["-device", "vhost-user-rng-pci,chardev=rng"],
  ];
}

/** Boots a guest and serves its link from Ringside's side until it ends. */
async function exchange(served: EmulatedProcess, folder: string, packed: boolean): Promise<string> {
  using host = EmulatedHost.connect(served.directory);
  using device = host.open(RINGSIDE);
  using transport = PciModernTransport.open(device);
  await using net = await VirtioNet.open(transport, { wait: "eventfd" });
  const payloads = Array.from({ length: PINGS }, (_, n) => new Random(n).bytes(n * 73 % 1473));
  const peer = new IcmpPeer(net, [{ ...ENDS, payloads }], GUEST_PINGS.small + GUEST_PINGS.large);
  const stop = new AbortController();
  const kill = new AbortController();
  let console = "";
  const guest = bootGuest({
    script: SCRIPT,
    devices: [],
    qemuArgs: frontEnds(folder, packed),
    sharedMemory: true,
    iommu: false,
    modules: [
      { name: "af_packet", optional: true },
      { name: "virtio_net" },
      { name: "virtio_blk" },
      { name: "virtio_rng" },
    ],
    memoryMiB: 512,
    cpus: 2,
    hugepages: 0,
    timeoutMs: 400_000,
    signal: kill.signal,
    onConsole: (text) => void (console += text),
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
  assertEquals(peer.answered.echo, GUEST_PINGS.small + GUEST_PINGS.large);
  return console;
}

/** The parts of the script's output by name. */
function partsOf(console: string): Record<string, string> {
  const parts = Object.fromEntries(
    [...console.matchAll(/^=== (\S+)\n([^]*?)(?=^=== |$(?![^]))/gm)].map(([, name, text]) => [name, text]),
  );
  assert("end" in parts, `the guest's script did not end:\n${console}`);
  return parts as Record<string, string>;
}

/** Bits that Linux accepted, as sysfs shows them: bit 0 first. */
const BIT = { eventIndex: 29, version1: 32, packed: 34, mergeable: 15 } as const;

function check(console: string, packed: boolean): void {
  const { icmp = "", rng = "", features = "", dmesg = "" } = partsOf(console);
  const [names = [], values = []] = icmp.trim().split("\n").map((line) => line.split(" "));
  const counted = Object.fromEntries(names.map((name, index) => [name, Number(values[index])]));
  assertEquals([counted.InErrors, counted.InCsumErrors], [0, 0], icmp);
  assertGreaterOrEqual(counted.InEchos ?? 0, PINGS, icmp);
  const [, random = ""] = rng.trim().split("\n");
  assertEquals(random.length, 2 * 1024, rng);
  assertGreater(new Set(random.match(/../g)).size, 200);
  const accepted = new Map(features.trim().split("\n").map((line) => line.split(" ") as [string, string]));
  for (const [id, bits] of accepted) {
    assertEquals(bits[BIT.version1], "1", `device ${id}`);
    assertEquals(bits[BIT.eventIndex], "1", `device ${id}`);
    // QEMU's front end of an entropy device has split rings only.
    if (id !== "0x0004") assertEquals(bits[BIT.packed], packed ? "1" : "0", `device ${id}`);
  }
  assertEquals([...accepted.keys()].sort(), ["0x0001", "0x0002", "0x0004"]);
  assertEquals(accepted.get("0x0001")![BIT.mergeable], "1");
  assert(!/\b(fail(ed|ure)?|errors?|faults?|bug|warning|call trace)\b/i.test(dmesg), dmesg);
}

const why = inGuest()
  ? "runs on the host"
  : exists(SYSROOT_LOADER)
  ? undefined
  : "the guest rig is not set up: deno task guest:setup";

Deno.test({
  name: `QEMU's vhost-user front ends on the embedded host${why === undefined ? "" : ` (skipped: ${why})`}`,
  ignore: why !== undefined,
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async (t) => {
    const folder = await Deno.makeTempDir();
    const [topology, image] = [`${folder}/topology.json`, `${folder}/disk.img`];
    const before = new Random(5).bytes(DISK_BYTES);
    const after = before.slice();
    after.copyWithin(COPY_MIB << 20, 0, 1 << 20);
    await Deno.writeFile(image, before);
    const socket = (name: string) => `${folder}/${name}.sock`;
    await Deno.writeTextFile(
      topology,
      JSON.stringify({
        functions: [{ address: RINGSIDE, kind: "virtio-net", totalVfs: 0 }],
        vhostUser: [
          { socket: socket("net"), kind: "virtio-net", queuePairs: 2 },
          { socket: socket("blk"), kind: "virtio-blk", file: image, queues: 2 },
          { socket: socket("rng"), kind: "virtio-rng" },
        ],
      }),
    );
    const served = await startEmulatedHost({ topology });
    try {
      {
        using host = EmulatedHost.connect(served.directory);
        host.bind(RINGSIDE);
      }
      const idle = await settledHoldings(served.pid);
      for (const packed of [false, true]) {
        await t.step(
          `Linux drives them with ${packed ? "packed" : "split"} rings; its end leaves nothing`,
          async () => {
            await Deno.writeFile(image, before);
            const console = await exchange(served, folder, packed);
            check(console, packed);
            const hashes = await Promise.all([before, after].map(sha256));
            const { disk = "" } = partsOf(console);
            assertEquals([...disk.matchAll(/^[0-9a-f]{64}/gm)].map(([hash]) => hash), hashes, disk);
            assertEquals(await sha256(await Deno.readFile(image)), hashes[1], "the disk's file");
            assertEquals(served.violations(), []);
            assertNothingLeft(
              await settledHoldings(served.pid),
              idle,
              "the embedded host keeps what a front end left",
            );
          },
        );
      }
    } finally {
      await served.stop();
      await Deno.remove(folder, { recursive: true });
    }
  },
});
