import { assert, assertEquals, assertThrows } from "@std/assert";
import { SyscallError } from "../../../ffi/mod.ts";
import type { EmulatedFunction } from "../../../lib/emulation/emulated_function.ts";
import { ConfigSpace, findCapability, walkCapabilities } from "../../../lib/pci/mod.ts";
import { REGION } from "../../../lib/vfio/device.ts";
import { DmaTable } from "../../../lib/sockets/dma_table.ts";
import { DOORBELL_OFFSET, scratchMachine, WINDOW_CAPABILITY } from "./machine_scratch.ts";

const PF = "0000:01:00.0";
const VF = "0000:01:00.1";
const COMMAND = 0x04;
const POWER = 0x40;
const MSIX = 0x48;
const EXPRESS = 0x54;

function read(device: EmulatedFunction, offset: number, length: number): number {
  const bytes = new Uint8Array(4);
  device.readRegion(REGION.config, offset, bytes.subarray(0, length));
  return new DataView(bytes.buffer).getUint32(0, true);
}

function write(device: EmulatedFunction, offset: number, value: number, length: number): void {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  device.writeRegion(REGION.config, offset, bytes.subarray(0, length));
}

function assertEio(run: () => void): void {
  assertEquals(assertThrows(run, SyscallError).code, "EIO");
}

Deno.test("a PF decodes as a PCIe endpoint with FLR, PM, MSI-X, vendor, AER, ARI, ATS and SR-IOV", () => {
  const { machine } = scratchMachine();
  using _ = machine;
  const bytes = new Uint8Array(4096);
  machine.device(PF).readRegion(REGION.config, 0, bytes);
  const list = walkCapabilities(new ConfigSpace(bytes));
  assertEquals(list.capabilities.map((one) => [one.id, one.offset]), [
    [0x01, POWER],
    [0x11, MSIX],
    [0x10, EXPRESS],
    [0x09, WINDOW_CAPABILITY],
    [0x0001, 0x100],
    [0x000e, 0x138],
    [0x000f, 0x140],
    [0x0010, 0x148],
  ]);
  assertEquals(list.findings, []);
  assert(findCapability(list, "express")!.functionLevelReset);
  const sriov = findCapability(list, "sr-iov")!;
  assertEquals([sriov.totalVfs, sriov.initialVfs, sriov.numVfs], [4, 4, 0]);
  assertEquals([sriov.firstVfOffset, sriov.vfStride, sriov.vfDeviceId], [1, 1, 0x1041]);
  assertEquals(sriov.vfBars.map((bar) => [bar.index, bar.addressBits]), [[0, 32], [2, 64]]);
});

Deno.test("PCIe 7.5.1: ids and class are read-only, Command takes its own bits only, Status none", () => {
  const { machine } = scratchMachine();
  using _ = machine;
  const device = machine.device(PF);
  const before = read(device, 0, 4);
  write(device, 0, 0xffff_ffff, 4);
  assertEquals(read(device, 0, 4), before);
  write(device, COMMAND, 0xffff_ffff, 4);
  // Memory, Bus Master, Parity, SERR, Interrupt Disable; no I/O, since there is no I/O BAR. Status: capability list.
  assertEquals(read(device, COMMAND, 4), 0x0010_0546);
  write(device, 0x08, 0, 4);
  assertEquals(read(device, 0x08, 4), 0x0200_0001);
  write(device, 0x3c, 0xffff, 2);
  assertEquals(read(device, 0x3c, 2), 0x01ff);
});

Deno.test("PCIe 7.5.1.2.1: all ones sizes a BAR, the upper half of a 64-bit BAR too; unused BARs stay 0", () => {
  const { machine } = scratchMachine();
  using _ = machine;
  const device = machine.device(PF);
  for (let bar = 0; bar < 6; bar++) write(device, 0x10 + 4 * bar, 0xffff_ffff, 4);
  assertEquals([0, 1, 2, 3, 4, 5].map((bar) => read(device, 0x10 + 4 * bar, 4)), [
    0xffff_f000,
    0,
    0xffff_e00c,
    0xffff_ffff,
    0,
    0,
  ]);
});

Deno.test("a write of one byte changes that byte only", () => {
  const { machine } = scratchMachine();
  using _ = machine;
  const device = machine.device(PF);
  write(device, COMMAND, 0x0406, 2);
  write(device, COMMAND + 1, 0, 1);
  assertEquals(read(device, COMMAND, 2), 0x0006);
});

Deno.test("Bus Master Enable reaches the behaviour once a change, and D3hot takes it away", () => {
  const { machine, models } = scratchMachine([{ address: PF, kind: "virtio-net", driver: "vfio-pci" }]);
  using _ = machine;
  const device = machine.device(PF);
  const { log } = models.made.get(PF)!;
  write(device, COMMAND, 0x0004, 2);
  write(device, COMMAND, 0x0004, 2);
  write(device, POWER + 4, 3, 2);
  assertEquals(device.busMaster, false);
  write(device, POWER + 4, 1, 2);
  assertEquals(read(device, POWER + 4, 2) & 3, 3, "D1 is not supported, so its write is discarded");
  write(device, POWER + 4, 0, 2);
  assertEquals(device.busMaster, true);
  assertEquals(log.filter((line) => line.startsWith("bus master")), [
    "bus master true",
    "bus master false",
    "bus master true",
  ]);
});

Deno.test("No_Soft_Reset is clear: the function is reset on its way from D3hot to D0, once, and keeps what the kernel restores", () => {
  const { machine, models } = scratchMachine([{ address: PF, kind: "virtio-net", driver: "vfio-pci" }]);
  using _ = machine;
  const device = machine.device(PF);
  const { log } = models.made.get(PF)!;
  const resets = () => log.filter((line) => line.startsWith("reset")).length;
  assertEquals(read(device, POWER + 4, 2) & 8, 0);
  write(device, COMMAND, 6, 2);
  const before = resets();
  write(device, POWER + 4, 0, 2);
  write(device, POWER + 4, 3, 2);
  assertEquals(resets(), before);
  write(device, POWER + 4, 0, 2);
  write(device, POWER + 4, 0, 2);
  assertEquals([resets(), read(device, COMMAND, 2) & 6], [before + 1, 6]);
});

Deno.test("BARs answer while Memory Space Enable is set and the function is in D0, else EIO", () => {
  const { machine } = scratchMachine([{ address: PF, kind: "virtio-net", driver: "vfio-pci" }]);
  using _ = machine;
  const device = machine.device(PF);
  const bytes = Uint8Array.of(1, 2, 3, 4);
  assertEio(() => device.readRegion(0, 0, bytes));
  write(device, COMMAND, 2, 2);
  device.writeRegion(0, 8, bytes);
  const back = new Uint8Array(4);
  device.readRegion(0, 8, back);
  assertEquals(back, bytes);
  write(device, POWER + 4, 3, 2);
  assertEio(() => device.writeRegion(0, 8, bytes));
});

Deno.test("a user finds memory decoding on, and power-on config space after the user before it", () => {
  const { machine, models } = scratchMachine([{ address: PF, kind: "virtio-net", driver: "vfio-pci" }]);
  using _ = machine;
  const device = machine.device(PF);
  using dma = new DmaTableScope();
  device.attached(dma.table);
  assertEquals(read(device, COMMAND, 2), 2);
  write(device, COMMAND, 0x0406, 2);
  const bar = read(device, 0x10, 4);
  write(device, 0x10, 0xffff_ffff, 4);
  device.detached();
  assertEquals([read(device, COMMAND, 2), read(device, 0x10, 4)], [0, bar]);
  assertEquals(models.made.get(PF)!.log, [
    "connect",
    "attached dma=true",
    "bus master true",
    "reset detached",
    "bus master false",
    "detached dma=false",
  ]);
});

Deno.test("PCIe 6.6.2: FLR by Device Control bit 15, which reads 0; Command and BARs are kept as the kernel restores them", () => {
  const { machine, models } = scratchMachine([{ address: PF, kind: "virtio-net", driver: "vfio-pci" }]);
  using _ = machine;
  const device = machine.device(PF);
  write(device, COMMAND, 6, 2);
  const control = read(device, EXPRESS + 8, 2);
  write(device, EXPRESS + 8, control | 0x8000, 2);
  assertEquals(read(device, EXPRESS + 8, 2), control);
  assertEquals(read(device, COMMAND, 2), 6);
  assertEquals(models.made.get(PF)!.log.at(-1), "reset flr");
  device.reset();
  assertEquals(models.made.get(PF)!.log.at(-1), "reset device");
});

Deno.test("4.1.4.9 pci_cfg_data reads and writes the BAR that the window is aimed at, and nothing when it is aimed wrong", () => {
  const { machine, models } = scratchMachine([{ address: PF, kind: "virtio-net", driver: "vfio-pci" }]);
  using _ = machine;
  const device = machine.device(PF);
  const behaviour = models.made.get(PF)!;
  write(device, COMMAND, 2, 2);
  const aim = (bar: number, offset: number, length: number) => {
    write(device, WINDOW_CAPABILITY + 4, bar, 1);
    write(device, WINDOW_CAPABILITY + 8, offset, 4);
    write(device, WINDOW_CAPABILITY + 12, length, 4);
  };
  aim(0, 0x40, 4);
  write(device, WINDOW_CAPABILITY + 16, 0x12345678, 4);
  assertEquals([...behaviour.registers[0]!.subarray(0x40, 0x44)], [0x78, 0x56, 0x34, 0x12]);
  behaviour.registers[0]!.set([9, 8, 7, 6], 0x40);
  assertEquals(read(device, WINDOW_CAPABILITY + 16, 4), 0x06070809);
  aim(0, DOORBELL_OFFSET, 2);
  write(device, WINDOW_CAPABILITY + 16, 5, 2);
  assertEquals(behaviour.log.at(-1), `rang 0:${DOORBELL_OFFSET}`);
  const before = behaviour.registers[0]!.slice();
  for (
    const [bar, offset, length] of [[1, 0, 4], [0, 4096, 4], [0, 4094, 4], [0, 0, 3], [0, 0, 8], [0, 2, 4]]
  ) {
    aim(bar!, offset!, length!);
    write(device, WINDOW_CAPABILITY + 16, 0xffff_ffff, 4);
  }
  assertEquals(behaviour.registers[0], before);
});

Deno.test("MSI-X table and PBA answer in their BAR, and an access may straddle their edges", () => {
  const { machine, models } = scratchMachine([{ address: PF, kind: "virtio-net", driver: "vfio-pci" }]);
  using _ = machine;
  const device = machine.device(PF);
  const behaviour = models.made.get(PF)!;
  write(device, COMMAND, 2, 2);
  const table = new Uint8Array(0x10 + 64 + 8);
  device.readRegion(2, 0, table);
  assertEquals(
    [0, 1, 2, 3].map((vector) => table[0x10 + 16 * vector + 12]),
    [1, 1, 1, 1],
    "masked after reset",
  );
  device.writeRegion(2, 0, new Uint8Array(table.byteLength).fill(0xff));
  device.readRegion(2, 0, table);
  const entry = [0xfc, ...new Array(11).fill(0xff), 1, 0, 0, 0];
  assertEquals([...table.subarray(0x10, 0x50)], [...entry, ...entry, ...entry, ...entry]);
  assertEquals([...behaviour.registers[2]!.subarray(0, 0x58)], [
    ...new Array(0x10).fill(0xff),
    ...new Array(64).fill(0),
    ...new Array(8).fill(0xff),
  ]);
  device.writeRegion(2, 0x800, Uint8Array.of(0xff));
  const pba = new Uint8Array(9);
  device.readRegion(2, 0x800, pba);
  assertEquals([...pba], new Array(9).fill(0), "the PBA is read-only, and ends after one word");
});

Deno.test("PCIe 9.3.4: a VF shows its user what kernel VFIO fills in, and the host what the hardware has", () => {
  const { machine } = scratchMachine();
  using _ = machine;
  machine.kernel.tree.writeText(`/sys/bus/pci/devices/${PF}/sriov_numvfs`, "1");
  const device = machine.device(VF);
  assertEquals(read(device, 0, 4), 0x1041_1af4);
  assertEquals(read(device, 0x3c, 2), 0, "no interrupt pin");
  write(device, 0x10, 0xffff_ffff, 4);
  assertEquals(read(device, 0x10, 4), 0xffff_f000);
  const hardware = machine.kernel.tree.readBytes(`/sys/bus/pci/devices/${VF}/config`);
  assertEquals([...hardware.subarray(0, 4)], [0xff, 0xff, 0xff, 0xff]);
  assertEquals([...hardware.subarray(0x10, 0x28)], new Array(24).fill(0));
  assertEquals(device.irq(0).count, 0);
});

/** An empty table of the client's memory. */
class DmaTableScope implements Disposable {
  readonly table = new DmaTable();
  [Symbol.dispose](): void {
    this.table.clear();
  }
}
