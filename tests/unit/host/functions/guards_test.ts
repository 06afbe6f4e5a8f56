import { assertEquals, assertThrows } from "@std/assert";
import { RefusedError } from "../../../../lib/errors/mod.ts";
import { FunctionAttributes } from "../../../../lib/host/sysfs/attributes.ts";
import { KernelUsage } from "../../../../lib/host/functions/kernel_usage.ts";
import { TreeUsage } from "../../../../lib/host/functions/tree_usage.ts";
import { DISK, DRIVERS, fixture, FUNCTIONS, NET, PF } from "../fixture.ts";
import { MemorySysfs } from "../sysfs/memory_sysfs.ts";

const HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
const route = (iface: string, destination: string, mask: string, flags = "0003") =>
  `${iface}\t${destination}\t0102000A\t${flags}\t0\t0\t100\t${mask}\t0\t0\t0\n`;

function usage(
  proc: Readonly<Record<string, string>>,
  links: Readonly<Record<string, string>> = {},
  files: Readonly<Record<string, string>> = {},
  ipv4: Readonly<Record<string, string>> = {},
): KernelUsage {
  const sysfs = new MemorySysfs(FUNCTIONS, DRIVERS);
  for (const [path, target] of Object.entries(links)) sysfs.extraLinks.set(path, target);
  for (const [path, text] of Object.entries(files)) sysfs.extra.set(path, text);
  return new KernelUsage(new FunctionAttributes(sysfs), {
    readProc: (path) => proc[path],
    ipv4Address: (name) => ipv4[name],
  });
}

Deno.test("guards: an IPv4 default route, and what only looks like one", () => {
  const found = usage({
    "/proc/net/route": HEAD + route("eth1", "0002000A", "00FFFFFF", "0001") +
      route("eth0", "00000000", "00000000") +
      route("eth9", "00000000", "00000000", "0203") + route("eth8", "00000000", "00000080", "0001"),
  });
  assertEquals(found.netInterface("eth0"), ["carries the default route"]);
  assertEquals(found.netInterface("eth1"), ["carries a route"]);
  assertEquals(found.netInterface("eth8"), ["carries a route"]);
  assertEquals(found.netInterface("eth9"), [], "a reject route leads nowhere");
  assertEquals(found.netInterface("eth"), []);
});

Deno.test("guards: an IPv4 address, also on an interface that is down", () => {
  assertEquals(usage({}, {}, {}, { eth0: "192.0.2.7" }).netInterface("eth0"), ["has the address 192.0.2.7"]);
  assertEquals(usage({}, {}, {}, { eth0: "192.0.2.7" }).netInterface("eth1"), []);
});

Deno.test("guards: IPv6 addresses, but not the link-local one that every interface has", () => {
  const found = usage({
    "/proc/net/if_inet6": "fe800000000000005054000000000001 02 40 20 80     eth0\n" +
      "fd000000000000000000000000000002 03 40 00 82     eth1\n" +
      "20010db8000000010000000000ab0001 04 40 00 82 eth2\n",
  });
  assertEquals(found.netInterface("eth0"), []);
  assertEquals(found.netInterface("eth1"), ["has the address fd00::2"]);
  assertEquals(found.netInterface("eth2"), ["has the address 2001:db8:0:1::ab:1"]);
});

Deno.test("guards: an IPv6 default route, not the one of rejects", () => {
  const zero = "0".repeat(32);
  const line = (flags: string, name: string, length = "00") =>
    `${zero} ${length} ${zero} 00 fe80000000000000000000000000000a 00000400 00000001 00000000 ${flags} ${name}\n`;
  const found = usage({
    "/proc/net/ipv6_route": line("00000003", "eth0") + line("00200200", "lo") +
      line("00000001", "eth1", "40"),
  });
  assertEquals(found.netInterface("eth0"), ["carries the default route"]);
  assertEquals([found.netInterface("lo"), found.netInterface("eth1")], [[], []]);
});

Deno.test("guards: a port of a bridge or bond, and an interface below a VLAN", () => {
  const net = "/sys/class/net";
  const found = usage(
    { "/proc/net/route": HEAD + route("br0", "00000000", "00000000") },
    {
      [`/sys/devices/pci0000:00/${PF}/virtio0/net/eth1/master`]: "../../../virtual/net/br0",
      [`${net}/br0/lower_eth1`]: "../../eth1",
      [`/sys/devices/pci0000:00/${NET}/virtio0/net/eth0/upper_vlan7`]: "../../../virtual/net/vlan7",
      [`${net}/eth2/master`]: "../../../virtual/net/bond0",
      [`${net}/bond0/master`]: "../eth2",
    },
    { [`${net}/vlan7/mtu`]: "1500\n", [`${net}/br0/mtu`]: "1500\n" },
    { vlan7: "192.0.2.1" },
  );
  assertEquals(found.netInterface("eth1"), ["is a port of br0, which carries the default route"]);
  assertEquals(found.netInterface("eth0"), ["is below vlan7, which has the address 192.0.2.1"]);
  assertEquals(found.netInterface("eth2").length, 1, "a circle ends");
});

const MOUNTS = "22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/root rw\n" +
  "30 22 0:44 / /data\\040disk rw - btrfs /dev/sdb rw\n" +
  "31 22 254:0 / /home rw - ext4 /dev/mapper/vg-home rw\n" +
  "32 22 0:5 / /dev rw - devtmpfs udev rw\n";

Deno.test("guards: a disk is in use through its partitions", () => {
  assertEquals(usage({ "/proc/self/mountinfo": MOUNTS }).blockDevice("sda"), ["sda2 on it is mounted on /"]);
  assertEquals(usage({ "/proc/self/mountinfo": "" }).blockDevice("sda"), []);
});

Deno.test("guards: a file system with a device number of its own is found by its source", () => {
  const files = { "/sys/class/block/sdb/dev": "8:16\n" };
  assertEquals(usage({ "/proc/self/mountinfo": MOUNTS }, {}, files).blockDevice("sdb"), [
    "is mounted on /data disk",
  ]);
});

Deno.test("guards: what device mapper stacks on a disk counts as the disk", () => {
  const at = "/sys/class/block";
  const files = {
    [`${at}/sdc/dev`]: "8:32\n",
    [`${at}/sdc/holders/dm-0/x`]: "",
    [`${at}/dm-0/dev`]: "254:0\n",
    [`${at}/dm-0/dm/name`]: "vg-home\n",
    [`${at}/dm-1/dev`]: "254:1\n",
    [`${at}/dm-1/dm/name`]: "vg-swap\n",
    [`${at}/sdc/holders/dm-1/x`]: "",
  };
  const proc = {
    "/proc/self/mountinfo": MOUNTS,
    "/proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/dev/mapper/vg-swap partition 1 0 -2\n",
  };
  assertEquals(usage(proc, {}, files).blockDevice("sdc"), [
    "dm-0 (vg-home) on it is mounted on /home",
    "dm-1 (vg-swap) on it is swapped on",
  ]);
});

Deno.test("guards: swap, and a name that only begins alike", () => {
  const proc = {
    "/proc/swaps":
      "Filename Type Size Used Priority\n/dev/sda1 partition 1 0 -2\n/dev/sdab partition 1 0 -2\n",
  };
  assertEquals(usage(proc).blockDevice("sda"), ["sda1 on it is swapped on"]);
});

Deno.test("guards: bind refuses, changes nothing, and does it when forced", () => {
  const cases = [
    {
      address: NET,
      uses: { eth0: ["carries the default route"] },
      text: "network interface eth0 of 0000:02:00.0",
    },
    { address: DISK, uses: { sda: ["is mounted on /"] }, text: "disk sda of 0000:03:00.0 is mounted on /" },
  ];
  for (const { address, uses, text } of cases) {
    using made = fixture({ uses: uses as unknown as Record<string, string[]> });
    const before = made.sysfs.snapshot();
    const error = assertThrows(() => made.host.bind(address), RefusedError, text);
    assertEquals(error.hint, "--force does it nevertheless");
    assertEquals([made.sysfs.snapshot(), made.store.text, made.sysfs.writes], [before, "", []]);
    made.host.bind(address, { force: true });
    assertEquals(made.sysfs.driverOf(address), "vfio-pci");
    made.host.restore();
    assertEquals(made.sysfs.snapshot(), before);
  }
});

Deno.test("guards: the VFs of a PF are guarded with it, and when only the count changes", () => {
  using made = fixture({ uses: { eth1v1: ["has the address 192.0.2.1"] } });
  made.host.setVfCount(PF, 2);
  const before = [made.sysfs.snapshot(), made.store.text, made.sysfs.writes.length];
  for (
    const call of [
      () => made.host.bind(PF),
      () => made.host.setVfCount(PF, 0),
      () => made.host.setVfCount(PF, 5),
    ]
  ) {
    assertThrows(call, RefusedError, "eth1v1 of 0000:01:10.1 has the address");
  }
  assertEquals([made.sysfs.snapshot(), made.store.text, made.sysfs.writes.length], before);
  assertEquals(made.host.setVfCount(PF, 0, { force: true }), []);
});

Deno.test("guards: more VFs do not touch the PF's own interface", () => {
  using made = fixture({ uses: { eth1: ["carries the default route"] } });
  assertEquals(made.host.setVfCount(PF, 1).length, 1);
});

Deno.test("guards: on an emulated host the tree says what is in use", () => {
  const sysfs = new MemorySysfs(FUNCTIONS, DRIVERS);
  sysfs.extra.set(
    `/sys/devices/pci0000:00/${NET}/virtio0/net/eth0/host_use`,
    "carries the default route\nhas an address\n",
  );
  const found = new TreeUsage(new FunctionAttributes(sysfs));
  assertEquals(found.netInterface("eth0"), ["carries the default route", "has an address"]);
  assertEquals([found.netInterface("eth1"), found.blockDevice("sda")], [[], []]);
});
