/** Platform devices of an emulated host, through `Host`: listed, given away, opened, put back. The host is another process. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { SyscallError } from "../../../ffi/mod.ts";
import { NotFoundError, RefusedError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { DEVICE_FLAG, IRQ_FLAG } from "../../../lib/vfio/device.ts";
import { ConfigAccess, InterruptSet, isPciDevice } from "../../../lib/vfio/mod.ts";
import { VfioUserDevice } from "../../../lib/sockets/vfio_user/client/device.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const RNG = "a003e00.virtio_mmio";
const NET = "a003c00.virtio_mmio";
const PCI = "0000:01:00.0";
const MAGIC = 0x7472_6976;

const FUNCTIONS = [
  { address: PCI, kind: "virtio-rng" },
  { address: RNG, kind: "virtio-rng" },
  { address: NET, kind: "virtio-net", hostUse: ["carries the default route"] },
];

Deno.test("an attribute that is not there is the kernel's error, for bytes as for text, and the connection goes on", async () => {
  await using served = await TopologyHost.start([FUNCTIONS[0]!]);
  using sysfs = new SocketSysfs(`${served.directory}/host.sock`);
  const missing = `/sys/bus/pci/devices/${PCI}/of_node/reg`;
  for (const read of [() => sysfs.readText(missing), () => sysfs.readBytes(missing)]) {
    assertEquals(assertThrows(read, SyscallError).code, "ENOENT");
  }
  assertEquals(sysfs.readText(`/sys/bus/pci/devices/${PCI}/vendor`), "0x1af4");
});

Deno.test("platform devices are listed behind the PCI functions, and described by firmware and their driver", async () => {
  await using served = await TopologyHost.start(FUNCTIONS);
  const { host } = served;
  assertEquals(host.list().map((one) => [one.bus, one.address, one.driver, one.netInterfaces.length]), [
    ["pci", PCI, "virtio-pci", 0],
    ["platform", NET, "virtio-mmio", 1],
    ["platform", RNG, "virtio-mmio", 0],
  ]);
  const info = host.describe(RNG);
  if (info.bus !== "platform") throw new Error(info.bus);
  assertEquals([info.compatible, info.virtioType, info.registers], [["virtio,mmio"], 4, {
    address: 0xa00_3e00,
    sizeBytes: 0x200,
  }]);
  assertEquals(host.examine().filter((one) => one.state === "problem"), []);
  assert(host.examine().some(({ what, detail }) => what === "vfio-platform" && detail === "loaded"));
  assertThrows(() => host.describe("a003a00.virtio_mmio"), NotFoundError, "no platform device");
});

Deno.test("a platform device is bound, opened by its socket, locked, and put back; nothing of PCI's is asked of it", async () => {
  await using served = await TopologyHost.start(FUNCTIONS);
  const { host } = served;
  assertThrows(() => host.open(RNG), UsageError, "only a function that is bound to vfio-platform");
  host.bind(RNG);
  assertEquals([host.describe(RNG).driver, host.describe(RNG).driverOverride], [
    "vfio-platform",
    "vfio-platform",
  ]);
  {
    using device = host.open(RNG);
    assertEquals([device.name, device.path, isPciDevice(device)], [RNG, "vfio-user", false]);
    assertEquals(device.info.flags & (DEVICE_FLAG.pci | DEVICE_FLAG.platform), DEVICE_FLAG.platform);
    assertThrows(() => new ConfigAccess(device), UnsupportedError, "is a platform device, which has no");
    if (!(device instanceof VfioUserDevice)) throw new Error("another kind of device");
    assertThrows(() => device.hotResetInfo(), UnsupportedError, "platform device, which has no hot reset");
    assertThrows(() => device.hotReset(), UnsupportedError, "platform device, which has no hot reset");
    assertThrows(() => device.setVfToken(crypto.randomUUID()), UnsupportedError, "has no VF token");
    const word = new Uint8Array(4);
    device.readRegion(0, 0, word);
    assertEquals(new DataView(word.buffer).getUint32(0, true), MAGIC);
    assertThrows(() => device.regionInfo(7), UsageError);
    // A line by level, as VFIO has it.
    const { count, flags } = device.irqInfo(0);
    assertEquals([count, flags], [1, IRQ_FLAG.eventfd | IRQ_FLAG.maskable | IRQ_FLAG.automasked]);
    using line = new InterruptSet(device);
    const [eventFd] = line.enable("intx");
    line.fire();
    assertEquals(eventFd!.take(), 1);
    assertThrows(() => host.open(RNG), RefusedError, `${RNG} is in use by`);
    assertThrows(() => host.bind(RNG, { driver: "virtio-mmio" }), RefusedError, `${RNG} is in use by`);
  }
  const { done, failed } = host.restore();
  assertEquals([done.length, failed], [2, []]);
  assertEquals([host.describe(RNG).driver, host.describe(RNG).driverOverride], ["virtio-mmio", undefined]);
  assertEquals(await served.stop(), []);
});

Deno.test("a platform device that the host uses is guarded as a PCI function is", async () => {
  await using served = await TopologyHost.start(FUNCTIONS);
  const { host } = served;
  const [name] = host.describe(NET).netInterfaces;
  assertThrows(
    () => host.bind(NET),
    RefusedError,
    `will not bind ${NET} to vfio-platform: network interface ${name} of ${NET} carries the default route`,
  );
  host.bind(NET, { force: true });
  assertEquals(host.describe(NET).netInterfaces, []);
  assertThrows(() => host.setVfCount(NET, 1), UnsupportedError, "is a platform device, which has no VFs");
  assertThrows(() => host.readConfig(NET), UnsupportedError, "has no configuration space");
  assertThrows(() => host.barSizes(NET), UnsupportedError, "has no base address registers");
  assertEquals(host.restore(NET).failed, []);
});
