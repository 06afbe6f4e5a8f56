import { assert, assertEquals, assertThrows } from "@std/assert";
import { ClosedError, NotFoundError, UsageError } from "../../../../lib/errors/mod.ts";
import { BARE, BRIDGE, DISK, fixture, FUNCTIONS, NET, PF, VF0, VF1 } from "../fixture.ts";

Deno.test("list: every function once, by address, a VF with its PF", () => {
  using made = fixture();
  made.host.setVfCount(PF, 2);
  const list = made.host.list();
  assertEquals(list.map((one) => one.address), [BRIDGE, PF, VF0, VF1, NET, DISK, BARE]);
  const pf = list[1]!;
  assertEquals(pf.sriov, { totalVfs: 7, numVfs: 2, driversAutoprobe: true, vfs: [VF0, VF1] });
  assertEquals(pf.physicalFunction, undefined);
  assertEquals(list[2]!.physicalFunction, PF);
  assertEquals(list[2]!.sriov, undefined);
  assertEquals(list[2]!.driver, "igbvf");
});

Deno.test("describe: ids, class, group, node, driver; short addresses too", () => {
  using made = fixture({
    functions: [...FUNCTIONS, { address: "0000:01:00.1", device: 0x10c9, group: 0x100, driver: "igb" }],
  });
  const info = made.host.describe("01:00.0");
  if (info.bus !== "pci") throw new Error(info.bus);
  assertEquals(info, made.host.describe(PF));
  assertEquals([info.vendorId, info.deviceId, info.revision, info.classCode], [0x8086, 0x10c9, 1, 0x020000]);
  assertEquals([info.subsystemVendorId, info.subsystemId], [0x1af4, 0x1100]);
  assertEquals([info.iommuGroup, info.groupMembers, info.numaNode], [0x100, ["0000:01:00.1"], 1]);
  assertEquals([info.driver, info.driverOverride], ["igb", undefined]);
  const bare = made.host.describe(BARE);
  assertEquals([bare.driver, bare.heldBy, bare.vfioCdev, bare.numaNode], [
    undefined,
    undefined,
    undefined,
    -1,
  ]);
  assert(!("driver" in bare));
});

Deno.test("describe: network interfaces and whole disks below the function, wherever they hang", () => {
  using made = fixture();
  assertEquals(made.host.describe(NET).netInterfaces, ["eth0"]);
  assertEquals(made.host.describe(NET).blockDevices, []);
  assertEquals(made.host.describe(DISK).blockDevices, ["sda"]);
  assertEquals(made.host.describe(BRIDGE).netInterfaces, []);
});

Deno.test("describe: the nearest function owns a device, not the bridge above it; a virtual device has no owner", () => {
  using made = fixture();
  made.sysfs.extraLinks.set("/sys/class/net/eth9", `../../devices/pci0000:00/${BRIDGE}/${PF}/net/eth9`);
  made.sysfs.extraLinks.set("/sys/class/net/lo", "../../devices/virtual/net/lo");
  assertEquals(made.host.describe(BRIDGE).netInterfaces, []);
  assertEquals(made.host.describe(PF).netInterfaces, ["eth1", "eth9"]);
});

Deno.test("describe: a hidden NVMe path also stands for the head that is mounted", () => {
  using made = fixture();
  made.sysfs.extraLinks.set(
    "/sys/class/block/nvme0c1n1",
    `../../devices/pci0000:00/${BARE}/nvme/nvme1/nvme0c1n1`,
  );
  assertEquals(made.host.describe(BARE).blockDevices, ["nvme0c1n1", "nvme0n1"]);
});

Deno.test("describe: a cdev counts only with its node", () => {
  using made = fixture();
  made.sysfs.extra.set(`/sys/devices/pci0000:00/${NET}/vfio-dev/vfio3/dev`, "511:3\n");
  assertEquals(made.host.describe(NET).vfioCdev, undefined);
  made.sysfs.extra.set("/dev/vfio/devices/vfio3", "");
  using fresh = fixture();
  fresh.sysfs.extra.set(`/sys/devices/pci0000:00/${NET}/vfio-dev/vfio3/dev`, "511:3\n");
  fresh.sysfs.extra.set("/dev/vfio/devices/vfio3", "");
  assertEquals(fresh.host.describe(NET).vfioCdev, "vfio3");
});

Deno.test("driver_override: the kernel's (null) is none", () => {
  using made = fixture();
  assertEquals(made.host.describe(NET).driverOverride, undefined);
  made.sysfs.set(NET, { override: "vfio-pci" });
  assertEquals(made.host.describe(NET).driverOverride, "vfio-pci");
});

Deno.test("config space and BAR sizes", () => {
  using made = fixture();
  assertEquals(made.host.readConfig(BRIDGE).length, 256);
  assertEquals(made.host.readConfig(BRIDGE)[0x0e], 0x81);
  assertEquals(made.host.barSizes(PF), [0x20000, 0, 0x20, 0, 0x4000, 0, 0x40000]);
});

Deno.test("1.8 an address that is none, or is nobody's, is one clear error", () => {
  using made = fixture();
  assertThrows(() => made.host.describe("eth9"), UsageError, '"eth9" is not a PCI address');
  const error = assertThrows(
    () => made.host.describe("07:00.0"),
    NotFoundError,
    "there is no PCI function 0000:07:00.0",
  );
  assert(error.hint.includes("ringside list"));
  for (const call of ["readConfig", "barSizes", "bind", "open"] as const) {
    assertThrows(() => made.host[call]("07:00.0"), NotFoundError);
  }
  assertThrows(() => made.host.restore("07:00.0"), NotFoundError);
});

Deno.test("1.4 after it is disposed of, a host only says that it is closed", () => {
  const made = fixture();
  made.host[Symbol.dispose]();
  made.host[Symbol.dispose]();
  const { host } = made;
  const calls = [
    () => host.list(),
    () => host.describe(PF),
    () => host.readConfig(PF),
    () => host.barSizes(PF),
    () => host.bind(PF),
    () => host.setVfCount(PF, 1),
    () => host.restore(),
    () => host.journal(),
    () => host.open(PF),
    () => host.examine(),
  ];
  for (const call of calls) assertThrows(call, ClosedError);
});
