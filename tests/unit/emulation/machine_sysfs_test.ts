import { assert, assertEquals, assertThrows } from "@std/assert";
import { SyscallError } from "../../../ffi/mod.ts";
import { DmaTable } from "../../../lib/sockets/dma_table.ts";
import type { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import { scratchMachine } from "./machine_scratch.ts";

const PF = "0000:01:00.0";
const VF = "0000:01:00.1";
const RNG = "0000:02:00.0";
const DEVICES = "/sys/bus/pci/devices";
const DRIVERS = "/sys/bus/pci/drivers";

/** Shorthands over one machine's tree. */
class Sysfs {
  constructor(readonly machine: EmulatedMachine) {}
  read(path: string): string {
    return this.machine.kernel.tree.readText(path).trimEnd();
  }
  write(path: string, text: string): void {
    this.machine.kernel.tree.writeText(path, text);
  }
  errno(run: () => void): string {
    return assertThrows(run, SyscallError).code;
  }
  writeErrno(path: string, text: string): string {
    return this.errno(() => this.write(path, text));
  }
  driver(address: string): string {
    const path = `${DEVICES}/${address}/driver`;
    return this.machine.kernel.tree.exists(path)
      ? this.machine.kernel.tree.readLink(path).split("/").at(-1)!
      : "";
  }
  /** Moves a function to another driver as the host logic does. */
  rebind(address: string, driver: string): void {
    this.write(`${DEVICES}/${address}/driver_override`, driver);
    const now = this.driver(address);
    if (now !== "") this.write(`${DRIVERS}/${now}/unbind`, address);
    this.write("/sys/bus/pci/drivers_probe", address);
  }
}

function open(functions?: unknown[]) {
  const { machine, models } = scratchMachine(functions);
  return { machine, models, sysfs: new Sysfs(machine), tree: machine.kernel.tree };
}

Deno.test("attributes of a function read as Linux prints them", () => {
  const { machine, sysfs, tree } = open();
  using _ = machine;
  const at = `${DEVICES}/${PF}`;
  const text = Object.fromEntries(
    ["vendor", "device", "subsystem_vendor", "subsystem_device", "revision", "class", "numa_node"]
      .concat(["driver_override", "sriov_totalvfs", "sriov_numvfs", "sriov_drivers_autoprobe", "enable"])
      .map((name) => [name, tree.readText(`${at}/${name}`)]),
  );
  assertEquals(text, {
    vendor: "0x1af4\n",
    device: "0x1041\n",
    subsystem_vendor: "0x1af4\n",
    subsystem_device: "0x1100\n",
    revision: "0x01\n",
    class: "0x020000\n",
    numa_node: "-1\n",
    driver_override: "(null)\n",
    sriov_totalvfs: "4\n",
    sriov_numvfs: "0\n",
    sriov_drivers_autoprobe: "1\n",
    enable: "1\n",
  });
  assertEquals(tree.readLink(`${at}/driver`), "../../../bus/pci/drivers/virtio-pci");
  assertEquals(tree.readLink(`${at}/iommu_group`), "../../../kernel/iommu_groups/0");
  assertEquals(tree.readLink(at), `../../../devices/pci0000:01/${PF}`);
  assertEquals(sysfs.read(`${at}/uevent`).split("\n"), [
    "DRIVER=virtio-pci",
    "PCI_CLASS=20000",
    "PCI_ID=1AF4:1041",
    "PCI_SUBSYS_ID=1AF4:1100",
    `PCI_SLOT_NAME=${PF}`,
    "MODALIAS=pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00",
  ]);
  const lines = tree.readText(`${at}/resource`).split("\n");
  assertEquals(lines.length, 14);
  assertEquals(lines[0], "0x00000000e0000000 0x00000000e0000fff 0x0000000000040200");
  assertEquals(lines[2], "0x0000003800000000 0x0000003800001fff 0x000000000014220c");
  assertEquals(lines[7], "0x00000000e0001000 0x00000000e0004fff 0x0000000000040200", "four VF BARs of 4096");
  assertEquals(lines[12], `0x${"0".repeat(16)} 0x${"0".repeat(16)} 0x${"0".repeat(16)}`);
  assertEquals(tree.readBytes(`${at}/config`).byteLength, 4096);
});

Deno.test("paths: ENOENT, ENOTDIR, EISDIR, EACCES, EINVAL and links that are followed", () => {
  const { machine, sysfs, tree } = open();
  using _ = machine;
  assertEquals(sysfs.errno(() => tree.readText("/sys/nothing")), "ENOENT");
  assertEquals(sysfs.errno(() => tree.readText("relative")), "ENOENT");
  assertEquals(sysfs.errno(() => tree.readText(`${DEVICES}/${PF}`)), "EISDIR");
  assertEquals(sysfs.errno(() => tree.readText(`${DEVICES}/${PF}/vendor/x`)), "ENOTDIR");
  assertEquals(sysfs.errno(() => tree.list(`${DEVICES}/${PF}/vendor`)), "ENOTDIR");
  assertEquals(sysfs.errno(() => tree.readLink(`${DEVICES}/${PF}/vendor`)), "EINVAL");
  assertEquals(sysfs.writeErrno(`${DEVICES}/${PF}/vendor`, "1"), "EACCES");
  assertEquals(sysfs.errno(() => tree.readText(`${DRIVERS}/vfio-pci/bind`)), "EACCES");
  assertEquals(sysfs.errno(() => tree.readText(`${DEVICES}/${RNG}/sriov_numvfs`)), "ENOENT", "not a PF");
  assertEquals(tree.list(DEVICES), [PF, RNG]);
  assertEquals(sysfs.read(`${DEVICES}/${PF}/driver/${PF}/vendor`), "0x1af4", "through two links");
  assertEquals(sysfs.read(`${DEVICES}/${PF}/../${PF}/device`), "0x1041", "dot-dot after a link");
  assertEquals(tree.list("/sys/kernel/iommu_groups/1/devices"), [RNG]);
  tree.link("/loop", "/loop");
  assertEquals(sysfs.errno(() => tree.readText("/loop")), "ELOOP");
});

Deno.test("bind: ENODEV without a match, EBUSY when bound; unbind: ENODEV when the driver has it not", () => {
  const { machine, sysfs } = open();
  using _ = machine;
  assertEquals(sysfs.writeErrno(`${DRIVERS}/vfio-pci/bind`, PF), "ENODEV", "no id, no override");
  assertEquals(sysfs.writeErrno(`${DRIVERS}/vfio-pci/bind`, "0000:0f:00.0"), "ENODEV");
  assertEquals(sysfs.writeErrno(`${DRIVERS}/vfio-pci/unbind`, PF), "ENODEV");
  sysfs.write(`${DEVICES}/${PF}/driver_override`, "vfio-pci\n");
  assertEquals(sysfs.writeErrno(`${DRIVERS}/vfio-pci/bind`, PF), "EBUSY", "virtio-pci has it");
  assertEquals(sysfs.writeErrno(`${DRIVERS}/virtio-pci/bind`, PF), "ENODEV", "the override says vfio-pci");
  sysfs.write(`${DRIVERS}/virtio-pci/unbind`, PF);
  assertEquals(sysfs.driver(PF), "");
  assertEquals(sysfs.writeErrno(`${DRIVERS}/virtio-pci/unbind`, PF), "ENODEV");
  sysfs.write(`${DRIVERS}/vfio-pci/bind`, PF);
  assertEquals(sysfs.driver(PF), "vfio-pci");
  assert(machine.offered(PF));
  sysfs.write(`${DRIVERS}/vfio-pci/unbind`, PF);
  assert(!machine.offered(PF));
  for (const clear of ["\n", ""]) {
    sysfs.write(`${DEVICES}/${PF}/driver_override`, "pci-stub");
    sysfs.write(`${DEVICES}/${PF}/driver_override`, clear);
    assertEquals(sysfs.read(`${DEVICES}/${PF}/driver_override`), "(null)");
  }
  assertEquals(sysfs.writeErrno(`${DEVICES}/${PF}/driver_override`, "x".repeat(4095)), "EINVAL");
});

Deno.test("drivers_probe: ENODEV for nobody, takes the driver that matches, leaves a bound one and an unmatched one alone", () => {
  const { machine, sysfs } = open();
  using _ = machine;
  assertEquals(sysfs.writeErrno("/sys/bus/pci/drivers_probe", "0000:0f:00.0"), "ENODEV");
  sysfs.write("/sys/bus/pci/drivers_probe", PF);
  assertEquals(sysfs.driver(PF), "virtio-pci");
  sysfs.write(`${DEVICES}/${PF}/driver_override`, "no-such-driver");
  sysfs.write(`${DRIVERS}/virtio-pci/unbind`, PF);
  sysfs.write("/sys/bus/pci/drivers_probe", PF);
  assertEquals(sysfs.driver(PF), "");
  sysfs.rebind(PF, "pci-stub");
  assertEquals(sysfs.driver(PF), "pci-stub");
  sysfs.rebind(PF, "\n");
  assertEquals(sysfs.driver(PF), "virtio-pci");
});

Deno.test("new_id: EINVAL, EEXIST, and unbound functions are taken; remove_id: ENODEV", () => {
  const { machine, sysfs } = open([{ address: RNG, kind: "virtio-rng", driver: null }]);
  using _ = machine;
  const id = `${DRIVERS}/vfio-pci/new_id`;
  assertEquals(sysfs.writeErrno(id, "1af4"), "EINVAL");
  assertEquals(sysfs.writeErrno(id, "1af4 zzzz"), "EINVAL");
  sysfs.write(id, "1af4 1044\n");
  assertEquals(sysfs.driver(RNG), "vfio-pci");
  assertEquals(sysfs.writeErrno(id, "1af4 1044"), "EEXIST");
  sysfs.write(`${DRIVERS}/vfio-pci/remove_id`, "1af4 1044");
  assertEquals(sysfs.writeErrno(`${DRIVERS}/vfio-pci/remove_id`, "1af4 1044"), "ENODEV");
});

Deno.test("sriov_numvfs: EINVAL, ERANGE, EBUSY between two counts, ENOENT without a driver, 0 removes", () => {
  const { machine, sysfs, tree } = open();
  using _ = machine;
  const num = `${DEVICES}/${PF}/sriov_numvfs`;
  for (const bad of ["", "-1", "two", "65536", "1 2"]) {
    assertEquals(sysfs.writeErrno(num, bad), "EINVAL", bad);
  }
  assertEquals(sysfs.writeErrno(num, "5"), "ERANGE");
  sysfs.write(num, "0x2\n");
  assertEquals([sysfs.read(num), tree.readLink(`${DEVICES}/${PF}/virtfn1`)], ["2", "../0000:01:00.2"]);
  assertEquals(tree.readLink(`${DEVICES}/${VF}/physfn`), `../${PF}`);
  assertEquals(sysfs.driver(VF), "virtio-pci", "autoprobe");
  assertEquals(sysfs.read(`${DEVICES}/${VF}/device`), "0x1041");
  assertEquals(sysfs.writeErrno(num, "3"), "EBUSY");
  sysfs.write(num, "2");
  sysfs.write(num, "0");
  assertEquals([sysfs.read(num), tree.exists(`${DEVICES}/${VF}`)], ["0", false]);
  assertEquals(tree.exists(`${DEVICES}/${PF}/virtfn0`), false);
  sysfs.write(`${DRIVERS}/virtio-pci/unbind`, PF);
  assertEquals(sysfs.writeErrno(num, "1"), "ENOENT");
});

Deno.test("sriov_drivers_autoprobe 0: VFs stay without a driver, bind is ENODEV, driver_override overrides", () => {
  const { machine, sysfs } = open();
  using _ = machine;
  const auto = `${DEVICES}/${PF}/sriov_drivers_autoprobe`;
  assertEquals(sysfs.writeErrno(auto, "maybe"), "EINVAL");
  sysfs.write(auto, "0");
  assertEquals(sysfs.read(auto), "0");
  sysfs.write(`${DEVICES}/${PF}/sriov_numvfs`, "1");
  assertEquals(sysfs.driver(VF), "");
  assertEquals(sysfs.writeErrno(`${DRIVERS}/virtio-pci/bind`, VF), "ENODEV");
  sysfs.rebind(VF, "vfio-pci");
  assertEquals(sysfs.driver(VF), "vfio-pci");
});

Deno.test("a PF on vfio-pci captures its VFs: they get a driver_override, and vfio-pci although autoprobe is off", () => {
  const { machine, sysfs } = open();
  using _ = machine;
  sysfs.rebind(PF, "vfio-pci");
  sysfs.write(`${DEVICES}/${PF}/sriov_drivers_autoprobe`, "0");
  sysfs.write(`${DEVICES}/${PF}/sriov_numvfs`, "2");
  assertEquals(sysfs.read(`${DEVICES}/${VF}/driver_override`), "vfio-pci");
  assertEquals(sysfs.driver(VF), "vfio-pci");
  assert(machine.offered(VF));
});

Deno.test("a PF that leaves virtio-pci or vfio-pci loses its VFs, one that leaves pci-stub keeps them", () => {
  for (const driver of ["virtio-pci", "vfio-pci", "pci-stub"]) {
    const { machine, sysfs } = open();
    using _ = machine;
    sysfs.rebind(PF, driver);
    sysfs.write(`${DEVICES}/${PF}/sriov_numvfs`, "2");
    sysfs.write(`${DRIVERS}/${driver}/unbind`, PF);
    assertEquals(sysfs.read(`${DEVICES}/${PF}/sriov_numvfs`), driver === "pci-stub" ? "2" : "0", driver);
  }
});

Deno.test("EBUSY while a user holds the function: unbind, numvfs 0, the PF's unbind; EBUSY for a host driver in its group", () => {
  const { machine, sysfs } = open([
    { address: PF, kind: "virtio-net", iommuGroup: 7 },
    { address: RNG, kind: "virtio-rng", iommuGroup: 7, driver: null },
  ]);
  using _ = machine;
  sysfs.rebind(PF, "vfio-pci");
  sysfs.write(`${DEVICES}/${PF}/sriov_numvfs`, "1");
  const dma = new DmaTable();
  machine.device(VF).attached(dma);
  assertEquals(sysfs.writeErrno(`${DRIVERS}/vfio-pci/unbind`, VF), "EBUSY");
  assertEquals(sysfs.writeErrno(`${DEVICES}/${PF}/sriov_numvfs`, "0"), "EBUSY");
  assertEquals(sysfs.writeErrno(`${DRIVERS}/vfio-pci/unbind`, PF), "EBUSY");
  assertEquals([sysfs.driver(PF), sysfs.read(`${DEVICES}/${PF}/sriov_numvfs`)], ["vfio-pci", "1"]);
  machine.device(VF).detached();
  machine.device(PF).attached(dma);
  assertEquals(sysfs.writeErrno(`${DRIVERS}/virtio-pci/bind`, RNG), "EBUSY", "the group is the user's");
  assertEquals(sysfs.driver(RNG), "");
  machine.device(PF).detached();
  sysfs.write(`${DRIVERS}/vfio-pci/unbind`, PF);
  assertEquals(machine.addresses, [PF, RNG]);
});

Deno.test("a group with a host driver in it is not viable: nothing of it is offered until that driver lets go", () => {
  const { machine, sysfs, tree } = open([
    { address: PF, kind: "virtio-net", iommuGroup: 7 },
    { address: RNG, kind: "virtio-rng", iommuGroup: 7 },
  ]);
  using _ = machine;
  assertEquals(tree.list("/sys/kernel/iommu_groups/7/devices"), [PF, RNG]);
  sysfs.rebind(PF, "vfio-pci");
  assert(!machine.offered(PF));
  sysfs.rebind(RNG, "pci-stub");
  assert(machine.offered(PF), "pci-stub does no DMA");
  sysfs.rebind(RNG, "virtio-pci");
  assert(!machine.offered(PF));
});

Deno.test("virtio-pci makes a network interface, named by the lowest free number, and it goes with the driver", () => {
  const { machine, sysfs, tree } = open([
    { address: PF, kind: "virtio-net", mac: "52:54:00:aa:bb:00", hostUse: ["carries the default route"] },
    { address: RNG, kind: "virtio-rng" },
  ]);
  using _ = machine;
  assertEquals(tree.list("/sys/class/net"), ["eth0"]);
  assertEquals(sysfs.read("/sys/class/net/eth0/address"), "52:54:00:aa:bb:00");
  assertEquals(tree.readLink("/sys/class/net/eth0"), `../../devices/pci0000:01/${PF}/virtio0/net/eth0`);
  assertEquals(sysfs.read("/sys/class/net/eth0/host_use"), "carries the default route");
  sysfs.write(`${DEVICES}/${PF}/sriov_numvfs`, "1");
  assertEquals(sysfs.read("/sys/class/net/eth1/address"), "52:54:00:aa:bb:01");
  assertEquals(tree.exists("/sys/class/net/eth1/host_use"), false);
  sysfs.write(`${DRIVERS}/virtio-pci/unbind`, PF);
  assertEquals(tree.list("/sys/class/net"), []);
  assertEquals(tree.exists(`${DEVICES}/${PF}/virtio0`), false);
});

Deno.test("reset and enable: EINVAL, EBUSY while a driver has it, EIO when it is not enabled", () => {
  const { machine, models, sysfs } = open();
  using _ = machine;
  assertEquals(sysfs.writeErrno(`${DEVICES}/${PF}/reset`, "0"), "EINVAL");
  sysfs.write(`${DEVICES}/${PF}/reset`, "1");
  assertEquals(models.made.get(PF)!.log.at(-1), "reset flr");
  assertEquals(sysfs.writeErrno(`${DEVICES}/${PF}/enable`, "1"), "EBUSY");
  sysfs.write(`${DRIVERS}/virtio-pci/unbind`, PF);
  assertEquals(sysfs.writeErrno(`${DEVICES}/${PF}/enable`, "0"), "EIO");
  sysfs.write(`${DEVICES}/${PF}/enable`, "1");
  assertEquals(sysfs.read(`${DEVICES}/${PF}/enable`), "1");
});

Deno.test("/ringside: version, violations as JSON lines, cleared on request", () => {
  const { machine, sysfs, tree } = open();
  using _ = machine;
  assertEquals(tree.readText("/ringside/version"), "1\n");
  for (const rule of ["1.1", "1.3"]) machine.violations.add({ function: PF, queue: 2, rule, message: "no" });
  const lines = sysfs.read("/ringside/violations").split("\n").map((line) => JSON.parse(line));
  assertEquals(lines[1], { function: PF, queue: 2, rule: "1.3", message: "no" });
  assertEquals(sysfs.writeErrno("/ringside/violations", "x"), "EINVAL");
  sysfs.write("/ringside/violations", "clear");
  assertEquals([tree.readText("/ringside/violations"), machine.violations.count], ["", 0]);
});
