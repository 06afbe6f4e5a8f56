/** Platform devices as real machines have them: QEMU's virt (device tree), a server of ARM with an SMMU (ACPI), and x86 with what clutters its platform bus. */
import { assertEquals, assertThrows } from "@std/assert";
import { NotFoundError } from "../../../../lib/errors/mod.ts";
import { comparePlatformNames } from "../../../../lib/host/functions/platform.ts";
import { SysfsHost } from "../../../../lib/host/sysfs_host.ts";
import type { Host } from "../../../../lib/host/mod.ts";
import { LOCKS } from "../fixture.ts";
import { MemoryJournalStore } from "../journal/memory_store.ts";
import { TreeSysfs } from "../sysfs/tree_sysfs.ts";

const DEVICES = "/sys/bus/platform/devices";

function hostOf(...lines: string[]): Host {
  return new SysfsHost({
    name: "tree",
    sysfs: new TreeSysfs(...lines),
    stateDirectory: "/nonexistent",
    lockDirectory: LOCKS,
    journalStore: new MemoryJournalStore(),
    opener: ({ address }) => {
      throw new NotFoundError(address);
    },
    usage: () => ({ netInterface: () => [], blockDevice: () => [] }),
    examine: () => [],
  });
}

/** A device of the platform bus, at `/sys/devices/platform` or below. */
function device(
  name: string,
  about: { driver?: string; modalias?: string; group?: number; below?: string } = {},
): string[] {
  const at = `/sys/devices/${about.below ?? "platform"}/${name}`;
  return [
    `${DEVICES}/${name} -> ../../../devices/${about.below ?? "platform"}/${name}`,
    `${at}/driver_override = (null)`,
    `${at}/modalias = ${about.modalias ?? `platform:${name}`}`,
    ...(about.driver === undefined ? [] : [`${at}/driver -> ../../../bus/platform/drivers/${about.driver}`]),
    ...(about.group === undefined
      ? []
      : [`${at}/iommu_group -> ../../../kernel/iommu_groups/${about.group}`]),
  ];
}

/** One that comes from a device tree. */
function node(name: string, compatible: string, about: { driver?: string; group?: number } = {}): string[] {
  const [unit, kind] = name.split(".") as [string, string];
  const first = compatible.split("\\0")[0]!;
  return [
    ...device(name, { ...about, modalias: `of:N${kind}T(null)C${first}` }),
    `/sys/devices/platform/${name}/of_node -> ../../../firmware/devicetree/base/${kind}@${unit}`,
    `/sys/firmware/devicetree/base/${kind}@${unit}/compatible = ${compatible}\\0`,
  ];
}

/** Big-endian cells of 32 bits. */
function cells(...values: number[]): string {
  const digits = values.map((value) => value.toString(16).padStart(8, "0")).join("");
  return digits.match(/../g)!.join(" ");
}

/** QEMU's virt with a disk and a network device in the last of its 32 virtio-mmio slots. */
const VIRT = [
  "/sys/firmware/devicetree/base/#address-cells = hex: 00 00 00 02",
  "/sys/firmware/devicetree/base/#size-cells = hex: 00 00 00 02",
  ...Array.from({ length: 32 }, (_, slot) => {
    const unit = (0x0a00_0000 + slot * 0x200).toString(16);
    const driver = slot >= 30 ? "virtio-mmio" : undefined;
    return [
      ...node(`${unit}.virtio_mmio`, "virtio,mmio", { driver }),
      `/sys/firmware/devicetree/base/virtio_mmio@${unit}/reg = hex: ${
        cells(0, parseInt(unit, 16), 0, 0x200)
      }`,
    ];
  }).flat(),
  "/sys/devices/platform/a003e00.virtio_mmio/virtio0/device = 0x0001",
  "/sys/devices/platform/a003e00.virtio_mmio/virtio0/net/eth0/mtu = 1500",
  "/sys/class/net/eth0 -> ../../devices/platform/a003e00.virtio_mmio/virtio0/net/eth0",
  "/sys/devices/platform/a003c00.virtio_mmio/virtio1/device = 0x0002",
  "/sys/devices/platform/a003c00.virtio_mmio/virtio1/block/vda/dev = 254:0",
  "/sys/class/block/vda -> ../../devices/platform/a003c00.virtio_mmio/virtio1/block/vda",
  ...node("9020000.fw-cfg", "qemu,fw-cfg-mmio", { driver: "qemu_fw_cfg" }),
  ...node("4010000000.pcie", "pci-host-ecam-generic", { driver: "pci-host-generic" }),
  ...node("8080000.its", "arm,gic-v3-its"),
  ...["psci", "timer", "pmu", "reg-dummy", "serial8250", "kgdboc", "alarmtimer.0.auto"].flatMap((name) =>
    device(name)
  ),
  "/sys/bus/pci/devices",
  "/sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:01.0/class = 0x020000",
  "/sys/bus/pci/devices/0000:00:01.0 -> ../../../devices/platform/4010000000.pcie/pci0000:00/0000:00:01.0",
  "/sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:01.0/virtio2/net/eth1/mtu = 1500",
  "/sys/class/net/eth1 -> ../../devices/platform/4010000000.pcie/pci0000:00/0000:00:01.0/virtio2/net/eth1",
];

Deno.test("platform: QEMU's virt lists the virtio devices that are there, not its thirty empty slots nor its own parts", () => {
  using host = hostOf(...VIRT);
  assertEquals(host.list().map((one) => [one.bus, one.address, one.deviceName, one.driver]), [
    ["pci", "0000:00:01.0", "device 0000", undefined],
    ["platform", "a003c00.virtio_mmio", "Virtio MMIO block device", "virtio-mmio"],
    ["platform", "a003e00.virtio_mmio", "Virtio MMIO network device", "virtio-mmio"],
  ]);
  const all = host.list({ all: true }).map(({ address }) => address);
  assertEquals([all.length, all[1], all[2], all[3], all.at(-1)], [
    1 + 32 + 3,
    "8080000.its",
    "9020000.fw-cfg",
    "a000000.virtio_mmio",
    "4010000000.pcie",
  ]);
});

Deno.test("platform: a device is described by what firmware says and what its driver made of it", () => {
  using host = hostOf(...VIRT);
  assertEquals(host.describe("a003e00.virtio_mmio"), {
    bus: "platform",
    address: "a003e00.virtio_mmio",
    deviceName: "Virtio MMIO network device",
    compatible: ["virtio,mmio"],
    modalias: "of:Nvirtio_mmioT(null)Cvirtio,mmio",
    registers: { address: 0x0a00_3e00, sizeBytes: 0x200 },
    virtioType: 1,
    driver: "virtio-mmio",
    groupMembers: [],
    numaNode: -1,
    netInterfaces: ["eth0"],
    blockDevices: [],
  });
  assertEquals(host.describe("a003c00.virtio_mmio").blockDevices, ["vda"]);
  const empty = host.describe("a000000.virtio_mmio");
  assertEquals([empty.deviceName, empty.driver, "virtioType" in empty], ["virtio,mmio", undefined, false]);
  assertThrows(
    () => host.describe("b000000.virtio_mmio"),
    NotFoundError,
    "no platform device b000000.virtio_mmio",
  );
});

Deno.test("platform: what hangs on a PCI function hangs on the host bridge above it as well, which is a platform device", () => {
  using host = hostOf(...VIRT);
  assertEquals(host.describe("0000:00:01.0").netInterfaces, ["eth1"]);
  assertEquals(host.describe("4010000000.pcie").netInterfaces, ["eth1"]);
  assertEquals(host.describe("9020000.fw-cfg").netInterfaces, []);
});

Deno.test("platform: behind an SMMU a device is listed whatever its driver, by its ACPI name; without registers that sysfs would show", () => {
  using host = hostOf(
    ...device("HISI00C1:00", { driver: "hns_dsaf", modalias: "acpi:HISI00C1:HISI00C1:", group: 3 }),
    ...device("LNRO0005:00", { driver: "virtio-mmio", modalias: "acpi:LNRO0005:" }),
    ...device("ARMH0011:00", { driver: "sbsa-uart", modalias: "acpi:ARMH0011:" }),
    ...device("ACPI0007:00", { modalias: "acpi:ACPI0007:" }),
    "/sys/kernel/iommu_groups/3/devices/HISI00C1:00 -> ../../../../devices/platform/HISI00C1:00",
    "/sys/devices/platform/HISI00C1:00/numa_node = 1",
  );
  assertEquals(host.list(), [
    {
      bus: "platform",
      address: "HISI00C1:00",
      deviceName: "HISI00C1",
      compatible: [],
      modalias: "acpi:HISI00C1:HISI00C1:",
      driver: "hns_dsaf",
      iommuGroup: 3,
      groupMembers: [],
      numaNode: 1,
      netInterfaces: [],
      blockDevices: [],
    },
    host.describe("LNRO0005:00"),
  ]);
});

Deno.test("platform: of x86's clutter nothing is listed; the virtio devices that ACPI or the command line names are", () => {
  const clutter = [
    ...["PNP0C0C:00", "PNP0C0A:00", "PNP0103:00", "INT33A1:00", "MSFT0101:00", "ACPI0003:00"].flatMap((
      name,
    ) => device(name, { driver: "some-driver", modalias: `acpi:${name.split(":")[0]}:` })),
    ...[
      "serial8250",
      "pcspkr",
      "coretemp.0",
      "i8042",
      "efivars.0",
      "reg-dummy",
      "regulatory.0",
      "Fixed-MDIO-bus.0",
    ]
      .flatMap((name) => device(name, { driver: "some-driver" })),
  ];
  using laptop = hostOf(...clutter);
  assertEquals(laptop.list(), []);
  assertEquals(laptop.list({ all: true }).length, 6);
  using microvm = hostOf(
    ...clutter,
    ...device("virtio-mmio.0", {
      driver: "virtio-mmio",
      modalias: "platform:virtio-mmio",
      below: "virtio-mmio-cmdline",
    }),
    ...device("virtio-mmio.1", { modalias: "platform:virtio-mmio", below: "virtio-mmio-cmdline" }),
    ...device("LNRO0005:01", { driver: "virtio-mmio", modalias: "acpi:LNRO0005:" }),
    "/sys/devices/virtio-mmio-cmdline/virtio-mmio.0/virtio3/device = 0x0002",
    "/sys/devices/virtio-mmio-cmdline/virtio-mmio.0/virtio3/block/vda/dev = 254:0",
    "/sys/class/block/vda -> ../../devices/virtio-mmio-cmdline/virtio-mmio.0/virtio3/block/vda",
  );
  assertEquals(microvm.list().map((one) => [one.address, one.deviceName, one.blockDevices]), [
    ["LNRO0005:01", "LNRO0005", []],
    ["virtio-mmio.0", "Virtio MMIO block device", ["vda"]],
  ]);
  assertEquals(microvm.describe("virtio-mmio.1").deviceName, "virtio-mmio");
});

Deno.test("platform: addresses are ordered as numbers", () => {
  const names = [
    "4010000000.pcie",
    "virtio-mmio.10",
    "virtio-mmio.9",
    "a003e00.virtio_mmio",
    "9020000.fw-cfg",
    "LNRO0005:1f",
    "a000000.virtio_mmio",
    "10000000.mem",
  ];
  assertEquals(names.sort(comparePlatformNames), [
    "9020000.fw-cfg",
    "a000000.virtio_mmio",
    "a003e00.virtio_mmio",
    "10000000.mem",
    "LNRO0005:1f",
    "4010000000.pcie",
    "virtio-mmio.9",
    "virtio-mmio.10",
  ]);
});

Deno.test("platform: what sysfs says wrong or not at all is left out, never guessed", () => {
  const name = "a003e00.virtio_mmio";
  const at = "/sys/firmware/devicetree/base/virtio_mmio@a003e00";
  const described = (...lines: string[]) => {
    using host = hostOf(...node(name, "virtio,mmio\\0virtio,other", { driver: "virtio-mmio" }), ...lines);
    const one = host.describe(name);
    if (one.bus !== "platform") throw new Error(one.bus);
    return { compatible: one.compatible, of: [one.registers, one.virtioType, one.deviceName] };
  };
  assertEquals(described(), {
    compatible: ["virtio,mmio", "virtio,other"],
    of: [undefined, undefined, "virtio,mmio"],
  });
  const window = (bytes: string) => described(`${at}/reg = hex: ${bytes}`).of[0];
  assertEquals(window("00 00 00 00 0a 00 3e 00 00 00 04 00"), { address: 0xa003e00, sizeBytes: 0x400 });
  assertEquals(window("0a 00 3e"), undefined);
  assertEquals(window("00 00 00 00 0a 00 3e 00 00 00 00 00"), undefined);
  const type = (text: string) =>
    described(`/sys/devices/platform/${name}/virtio0/device = ${text}`).of.slice(1);
  assertEquals(type("0x004d"), [77, "Virtio MMIO device of type 77"]);
  assertEquals(type("none"), [undefined, "virtio,mmio"]);
});
