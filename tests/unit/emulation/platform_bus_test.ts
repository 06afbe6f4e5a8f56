/** The emulated kernel's platform bus, as Linux's own behaves (drivers/base/platform.c, drivers/vfio/platform, drivers/virtio/virtio_mmio.c). */
import { assertEquals, assertThrows } from "@std/assert";
import { SyscallError } from "../../../ffi/mod.ts";
import type { KernelPlatformDevice } from "../../../lib/emulation/kernel_function.ts";
import { VirtualKernel } from "../../../lib/emulation/virtual_kernel.ts";
import type { NetInterface } from "../../../lib/emulation/device_model.ts";

const MMIO = "a003e00.virtio_mmio";
const PLACEHOLDER = "a000000.virtio_mmio";
const DEVICES = "/sys/bus/platform/devices";
const DRIVERS = "/sys/bus/platform/drivers";

/** A device that remembers what the kernel does with it. */
class FakePlatformDevice implements KernelPlatformDevice {
  readonly log: string[] = [];
  readonly options;
  readonly device;

  constructor(
    readonly address: string,
    about: {
      deviceId?: number;
      iommuGroup?: number;
      numaNode?: number;
      compatible?: string;
      netInterface?: NetInterface;
    } = {},
  ) {
    const { deviceId = 4, iommuGroup = 7, numaNode = -1, compatible = "virtio,mmio", netInterface } = about;
    this.options = { iommuGroup, numaNode };
    this.device = {
      inUse: false,
      windowAddress: BigInt(`0x${address.split(/[.:]/)[0]}`.replace(/^0x[^0-9a-f].*/, "0")),
      behaviour: { compatible, deviceId, windowBytes: 0x200, ...(netInterface && { netInterface }) },
      setHostDriver: (active: boolean) => this.log.push(`host driver ${active}`),
    };
  }

  offer(): void {
    this.log.push("offer");
  }

  withdraw(): void {
    this.log.push("withdraw");
  }
}

/** One kernel, with shorthands. */
class Bus {
  readonly kernel = new VirtualKernel();
  add(fn: FakePlatformDevice): FakePlatformDevice {
    this.kernel.addFunction(fn);
    return fn;
  }
  read(path: string): string {
    return this.kernel.tree.readText(path);
  }
  write(path: string, text: string): void {
    this.kernel.tree.writeText(path, text);
  }
  errno(path: string, text: string): string {
    return assertThrows(() => this.write(path, text), SyscallError).code;
  }
  driver(address: string): string {
    const path = `${DEVICES}/${address}/driver`;
    return this.kernel.tree.exists(path) ? this.kernel.tree.readLink(path) : "";
  }
}

Deno.test("platform bus: a device's directory reads as on a machine with a device tree", () => {
  const bus = new Bus();
  bus.add(new FakePlatformDevice(MMIO, { numaNode: 1 }));
  const at = `/sys/devices/platform/${MMIO}`;
  const { tree } = bus.kernel;
  assertEquals(tree.list(at), [
    "driver",
    "driver_override",
    "iommu_group",
    "modalias",
    "numa_node",
    "of_node",
    "subsystem",
    "uevent",
    "virtio0",
  ]);
  assertEquals(tree.readLink(`${DEVICES}/${MMIO}`), `../../../devices/platform/${MMIO}`);
  assertEquals(tree.readLink(`${at}/subsystem`), "../../../bus/platform");
  assertEquals(bus.driver(MMIO), "../../../bus/platform/drivers/virtio-mmio");
  assertEquals(tree.readLink(`${DRIVERS}/virtio-mmio/${MMIO}`), `../../../../devices/platform/${MMIO}`);
  assertEquals(
    tree.readLink(`/sys/kernel/iommu_groups/7/devices/${MMIO}`),
    `../../../../devices/platform/${MMIO}`,
  );
  assertEquals(bus.read(`${at}/modalias`), "of:Nvirtio_mmioT(null)Cvirtio,mmio\n");
  assertEquals(bus.read(`${at}/driver_override`), "(null)\n");
  assertEquals(bus.read(`${at}/virtio0/device`), "0x0004\n");
  assertEquals(
    bus.read(`${at}/uevent`),
    "DRIVER=virtio-mmio\nOF_NAME=virtio_mmio\nOF_FULLNAME=/virtio_mmio@a003e00\n" +
      "OF_COMPATIBLE_0=virtio,mmio\nOF_COMPATIBLE_N=1\nMODALIAS=of:Nvirtio_mmioT(null)Cvirtio,mmio\n",
  );
  assertEquals(bus.read(`${at}/of_node/compatible`), "virtio,mmio\0");
  assertEquals(
    tree.readBytes(`${at}/of_node/reg`),
    new Uint8Array([0, 0, 0, 0, 0x0a, 0, 0x3e, 0, 0, 0, 0, 0, 0, 0, 2, 0]),
  );
  assertEquals(tree.readBytes(`${at}/of_node/../#size-cells`), new Uint8Array([0, 0, 0, 2]));
  bus.kernel.removeFunction(MMIO);
  assertEquals(tree.exists(at), false);
  assertEquals(tree.list("/sys/firmware/devicetree/base"), ["#address-cells", "#size-cells"]);
  assertEquals([tree.list(DEVICES), tree.list("/sys/kernel/iommu_groups")], [[], []]);
});

Deno.test("platform bus: devices that ACPI or the command line names have no node", () => {
  const bus = new Bus();
  for (
    const [address, alias] of [["LNRO0005:00", "acpi:LNRO0005:"], [
      "virtio-mmio.0",
      "platform:virtio-mmio",
    ]] as const
  ) {
    bus.add(new FakePlatformDevice(address));
    const at = `${DEVICES}/${address}`;
    assertEquals(bus.read(`${at}/modalias`), `${alias}\n`);
    assertEquals(bus.read(`${at}/uevent`), `DRIVER=virtio-mmio\nMODALIAS=${alias}\n`);
    assertEquals([bus.kernel.tree.exists(`${at}/of_node`), bus.kernel.tree.exists(`${at}/numa_node`)], [
      false,
      false,
    ]);
  }
});

Deno.test("platform bus: bind: ENODEV without a match or for a placeholder, EBUSY when bound; unbind: ENODEV for another's", () => {
  const bus = new Bus();
  const fn = bus.add(new FakePlatformDevice(MMIO));
  bus.add(new FakePlatformDevice(PLACEHOLDER, { deviceId: 0, iommuGroup: 8 }));
  bus.add(new FakePlatformDevice("9020000.fw-cfg", { compatible: "qemu,fw-cfg-mmio", iommuGroup: 9 }));
  assertEquals([MMIO, PLACEHOLDER, "9020000.fw-cfg"].map((one) => bus.driver(one).split("/").at(-1)), [
    "virtio-mmio",
    "",
    "",
  ]);
  assertEquals(bus.errno(`${DRIVERS}/virtio-mmio/bind`, MMIO), "EBUSY");
  assertEquals(bus.errno(`${DRIVERS}/virtio-mmio/bind`, PLACEHOLDER), "ENODEV");
  assertEquals(bus.errno(`${DRIVERS}/virtio-mmio/bind`, "9020000.fw-cfg"), "ENODEV");
  assertEquals(bus.errno(`${DRIVERS}/vfio-platform/bind`, PLACEHOLDER), "ENODEV");
  assertEquals(bus.errno(`${DRIVERS}/vfio-platform/unbind`, MMIO), "ENODEV");
  assertEquals(bus.errno("/sys/bus/platform/drivers_probe", "0000:01:00.0"), "ENODEV");
  assertEquals(bus.errno(`${DEVICES}/${MMIO}/driver_override`, "x".repeat(4095)), "EINVAL");
  bus.write(`${DRIVERS}/virtio-mmio/unbind`, `${MMIO}\n`);
  assertEquals(bus.driver(MMIO), "");
  assertEquals(bus.kernel.tree.exists(`${DEVICES}/${MMIO}/virtio0`), false);
  assertEquals(fn.log, ["host driver true", "host driver false"]);
});

Deno.test("platform bus: driver_override alone gives a device to vfio-platform; it can be opened then, and only then", () => {
  const bus = new Bus();
  const fn = bus.add(new FakePlatformDevice(MMIO));
  bus.write(`${DRIVERS}/virtio-mmio/unbind`, MMIO);
  bus.write(`${DEVICES}/${MMIO}/driver_override`, "vfio-platform\n");
  assertEquals(bus.errno(`${DRIVERS}/virtio-mmio/bind`, MMIO), "ENODEV");
  fn.log.length = 0;
  bus.write("/sys/bus/platform/drivers_probe", MMIO);
  assertEquals([bus.driver(MMIO).split("/").at(-1), fn.log], ["vfio-platform", ["offer"]]);
  fn.device.inUse = true;
  assertEquals(bus.errno(`${DRIVERS}/vfio-platform/unbind`, MMIO), "EBUSY");
  fn.device.inUse = false;
  bus.write(`${DRIVERS}/vfio-platform/unbind`, MMIO);
  bus.write(`${DEVICES}/${MMIO}/driver_override`, "\n");
  bus.write("/sys/bus/platform/drivers_probe", MMIO);
  assertEquals(bus.driver(MMIO).split("/").at(-1), "virtio-mmio");
  assertEquals(fn.log, ["offer", "withdraw", "host driver true"]);
});

Deno.test("platform bus: a group is viable only when no host driver has a member of it", () => {
  const bus = new Bus();
  const fn = bus.add(new FakePlatformDevice(MMIO));
  const other = bus.add(new FakePlatformDevice("a003c00.virtio_mmio"));
  for (const one of [fn, other]) {
    bus.write(`${DRIVERS}/virtio-mmio/unbind`, one.address);
    bus.write(`${DEVICES}/${one.address}/driver_override`, "vfio-platform");
    bus.write("/sys/bus/platform/drivers_probe", one.address);
    assertEquals(fn.log.includes("offer"), one === other);
  }
  bus.write(`${DRIVERS}/vfio-platform/unbind`, other.address);
  bus.write(`${DEVICES}/${other.address}/driver_override`, "\n");
  fn.device.inUse = true;
  assertEquals(bus.errno(`${DRIVERS}/virtio-mmio/bind`, other.address), "EBUSY");
  fn.device.inUse = false;
  bus.write(`${DRIVERS}/virtio-mmio/bind`, other.address);
  assertEquals(fn.log.at(-1), "withdraw");
});

Deno.test("platform bus: a network device has an interface, numbered with those of PCI functions", () => {
  const bus = new Bus();
  const netInterface = { mac: "02:00:00:00:00:01", mtu: 1500, hostUse: ["carries the default route"] };
  bus.add(new FakePlatformDevice(MMIO, { deviceId: 1, netInterface }));
  bus.add(new FakePlatformDevice("a003c00.virtio_mmio", { deviceId: 1, netInterface, iommuGroup: 8 }));
  const { tree } = bus.kernel;
  assertEquals(tree.links("/sys/class/net"), [
    ["eth0", `../../devices/platform/${MMIO}/virtio0/net/eth0`],
    ["eth1", "../../devices/platform/a003c00.virtio_mmio/virtio1/net/eth1"],
  ]);
  assertEquals(bus.read("/sys/class/net/eth0/host_use"), "carries the default route\n");
  bus.write(`${DRIVERS}/virtio-mmio/unbind`, MMIO);
  assertEquals(tree.list("/sys/class/net"), ["eth1"]);
});

Deno.test("platform bus: drivers_autoprobe is each bus's own", () => {
  const bus = new Bus();
  bus.write("/sys/bus/platform/drivers_autoprobe", "0");
  assertEquals(bus.read("/sys/bus/pci/drivers_autoprobe"), "1\n");
  bus.add(new FakePlatformDevice(MMIO));
  assertEquals(bus.driver(MMIO), "");
  assertEquals(bus.kernel.addresses, [MMIO]);
});
