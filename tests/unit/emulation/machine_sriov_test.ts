import { assert, assertEquals, assertThrows } from "@std/assert";
import { openFdCount, SyscallError } from "../../../ffi/mod.ts";
import type { EmulatedFunction } from "../../../lib/emulation/emulated_function.ts";
import { REGION } from "../../../lib/vfio/device.ts";
import { scratchMachine } from "./machine_scratch.ts";

const PF = "0000:01:00.0";
const RNG = "0000:02:00.0";
const VFS = ["0000:01:00.1", "0000:01:00.2", "0000:01:00.3", "0000:01:00.4"];
const SRIOV = 0x148;
const CONTROL = SRIOV + 8;
const NUM_VFS = SRIOV + 0x10;
const DEVICE_CONTROL = 0x54 + 8;

function read16(device: EmulatedFunction, offset: number): number {
  const bytes = new Uint8Array(2);
  device.readRegion(REGION.config, offset, bytes);
  return bytes[0]! | (bytes[1]! << 8);
}

function write16(device: EmulatedFunction, offset: number, value: number): void {
  device.writeRegion(REGION.config, offset, Uint8Array.of(value & 0xff, value >> 8));
}

Deno.test("PCIe 9.3.3.3.1: VF Enable makes NumVFs VFs appear by First VF Offset and Stride, and clearing it removes them", () => {
  const before = openFdCount();
  const { machine, models } = scratchMachine();
  {
    using _ = machine;
    const pf = machine.device(PF);
    write16(pf, NUM_VFS, 3);
    assertEquals(machine.addresses, [PF, RNG], "NumVFs alone does nothing");
    write16(pf, CONTROL, 0x9);
    assertEquals(machine.addresses, [PF, ...VFS.slice(0, 3), RNG]);
    assertEquals(models.made.get(VFS[2]!)!.options.vfIndex, 2);
    assert(models.made.get(VFS[2]!)!.options.physicalFunction === models.made.get(PF));
    assertEquals(models.made.get(PF)!.log.at(-1), "vfs 3");
    write16(pf, CONTROL, 0);
    assertEquals(machine.addresses, [PF, RNG]);
    assertEquals(models.made.get(VFS[0]!)!.log.at(-1), "close");
    assertEquals(models.made.get(PF)!.log.at(-1), "vfs 0");
  }
  assertEquals(openFdCount(), before);
});

Deno.test("NumVFs, System Page Size and ARI Capable Hierarchy are locked while VF Enable is set", () => {
  const { machine } = scratchMachine();
  using _ = machine;
  const pf = machine.device(PF);
  write16(pf, NUM_VFS, 2);
  write16(pf, CONTROL, 0x9);
  write16(pf, NUM_VFS, 4);
  write16(pf, SRIOV + 0x20, 2);
  write16(pf, CONTROL, 0x19);
  assertEquals([read16(pf, NUM_VFS), read16(pf, SRIOV + 0x20), read16(pf, CONTROL)], [2, 1, 0x9]);
  assertEquals(machine.addresses.length, 4);
});

Deno.test("one write over NumVFs' and VF Enable's dwords takes them in order", () => {
  const { machine } = scratchMachine();
  using _ = machine;
  const pf = machine.device(PF);
  // Control (8), status, InitialVFs, TotalVFs, NumVFs (0x10) of one write: VF Enable comes first, with NumVFs still 0.
  pf.writeRegion(REGION.config, CONTROL, Uint8Array.of(0x9, 0, 0, 0, 0, 0, 0, 0, 4, 0));
  assertEquals(read16(pf, NUM_VFS), 0, "locked by then");
  assertEquals(machine.addresses.length, 2);
});

Deno.test("NumVFs above TotalVFs: refused, VF Enable reads 0, and a violation says so", () => {
  const { machine } = scratchMachine();
  using _ = machine;
  const pf = machine.device(PF);
  write16(pf, NUM_VFS, 5);
  write16(pf, CONTROL, 0x9);
  assertEquals(read16(pf, CONTROL), 0x8);
  assertEquals(machine.addresses.length, 2);
  assertEquals(machine.violations.list.map((one) => [one.function, one.rule]), [[PF, "PCIe 9.3.3.3.1"]]);
});

Deno.test("a reset of the PF by its user, by VFIO or as PCIe 6.6.2 has it, keeps the VFs, as the kernel restores SR-IOV, and resets them", () => {
  const { machine, models } = scratchMachine();
  using _ = machine;
  const pf = machine.device(PF);
  write16(pf, NUM_VFS, 2);
  write16(pf, CONTROL, 0x9);
  const there = machine.addresses;
  const logs = () => VFS.slice(0, 2).map((vf) => models.made.get(vf)!.log);
  const reset = [() => pf.reset(), () => write16(pf, DEVICE_CONTROL, 0x8000)];
  for (const [index, act] of reset.entries()) {
    const before = logs().map((log) => log.length);
    act();
    assertEquals(logs().map((log, vf) => log.slice(before[vf])), [["reset flr"], ["reset flr"]]);
    assertEquals(models.made.get(PF)!.log.at(-1), index === 0 ? "reset device" : "reset flr");
    assertEquals(machine.addresses, there);
    assertEquals([read16(pf, CONTROL), read16(pf, NUM_VFS)], [0x9, 2]);
  }
  const tree = machine.kernel.tree;
  assertEquals(tree.readText(`/sys/bus/pci/devices/${PF}/sriov_numvfs`), "2\n");
});

Deno.test("a VF answers to memory accesses only while its PF's VF MSE is set", () => {
  const { machine } = scratchMachine();
  using _ = machine;
  const pf = machine.device(PF);
  write16(pf, NUM_VFS, 1);
  write16(pf, CONTROL, 0x1);
  const vf = machine.device(VFS[0]!);
  write16(vf, 4, 2);
  const error = assertThrows(() => vf.readRegion(0, 0, new Uint8Array(4)), SyscallError);
  assertEquals(error.code, "EIO");
  write16(pf, CONTROL, 0x9);
  vf.readRegion(0, 0, new Uint8Array(4));
});

Deno.test("a function without SR-IOV has no such capability, and a VF none either", () => {
  const { machine } = scratchMachine();
  using _ = machine;
  write16(machine.device(PF), NUM_VFS, 1);
  write16(machine.device(PF), CONTROL, 0x9);
  for (const address of [RNG, VFS[0]!]) {
    const bytes = new Uint8Array(4096);
    machine.device(address).readRegion(REGION.config, 0, bytes);
    assertEquals(bytes.subarray(SRIOV, SRIOV + 4), new Uint8Array(4), address);
  }
});

Deno.test("VFs that cannot be made leave VF Enable clear and nothing behind", () => {
  const { machine, models } = scratchMachine();
  using _ = machine;
  const make = models.createBehaviour.bind(models);
  models.createBehaviour = (kind, options) => {
    if (options.vfIndex === 2) throw new RangeError("no third one");
    return make(kind, options);
  };
  const pf = machine.device(PF);
  write16(pf, NUM_VFS, 3);
  assertThrows(() => write16(pf, CONTROL, 0x9), RangeError);
  assertEquals(machine.addresses, [PF, RNG]);
  assertEquals(read16(pf, CONTROL) & 1, 0);
  assertEquals(models.made.get(VFS[1]!)!.log.at(-1), "close");
});
