import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { ClosedError, NotFoundError, UnsupportedError, UsageError } from "../../../../../lib/errors/mod.ts";
import type { IrqInfo, IrqRequest, RegionInfo, VfioDevice } from "../../../../../lib/vfio/device.ts";
import { inspect } from "../../../../../lib/virtio/inspect.ts";
import { bindInterrupts } from "../../../../../lib/virtio/interrupts.ts";
import { platformWindow } from "../../../../../lib/virtio/transport/mmio/window.ts";
import { openTransport } from "../../../../../lib/virtio/transport/open.ts";
import { FakeFunction } from "../../fake_function.ts";
import { FakeMmio, type FakeMmioOptions } from "./fake_mmio.ts";

/** A platform device whose region 0 is a register file of the tests. */
class FakePlatform extends FakeFunction {
  override readonly name = "a003e00.virtio_mmio";
  override readonly info = { flags: 5, numRegions: 1, numIrqs: 2 };
  readonly mmio: FakeMmio;
  readonly requests: IrqRequest[] = [];
  messages = 8;

  constructor(options: FakeMmioOptions = {}) {
    super();
    this.mmio = new FakeMmio(options);
  }

  override regionInfo(index: number): RegionInfo {
    const sizeBytes = index === 0 ? this.mmio.sizeBytes : 0;

    return { index, flags: 3, sizeBytes, mmapAreas: [], msixMappable: false };
  }
  override irqInfo(index: number): IrqInfo {
    return { index, flags: index === 0 ? 7 : 1, count: index === 0 ? 1 : this.messages };
  }
  override readRegion(_index: number, offset: number, into: Uint8Array<ArrayBuffer>): void {
    const value = this.mmio.read(offset, into.length as 4);
    for (let i = 0; i < into.length; i++) into[i] = value >>> (8 * i) & 0xff;
  }
  override writeRegion(_index: number, offset: number, from: Uint8Array<ArrayBuffer>): void {
    let value = 0;
    for (let i = from.length - 1; i >= 0; i--) value = value * 256 + from[i]!;
    if (offset === 0x50) return void this.mmio.rung.push(`${from.length}@50=${value}`);
    this.mmio.write(offset, from.length as 4, value);
  }
  override setIrqs(request: IrqRequest): void {
    this.requests.push(request);
  }
}

Deno.test("7.1 openTransport opens a platform device by its region 0, and leaves it open when it is closed", () => {
  for (const form of ["modern", "legacy"] as const) {
    using device = new FakePlatform({ form, deviceId: 4 });
    const transport = openTransport(device);
    assertEquals([transport.kind, transport.legacy, transport.name, transport.dma], [
      "mmio",
      form === "legacy",
      device.name,
      device.dma,
    ]);
    transport.writeStatus(3);
    assertEquals([transport.readStatus(), device.mmio.status], [3, 3]);
    transport.doorbell(1).ring(0, 0);
    assertEquals(device.mmio.rung, ["4@50=1"]);
    transport.close();
    assertEquals([device.mmio.status, device.closed], [0, false]);
    assertThrows(() => transport.readStatus(), ClosedError);
    using again = openTransport(device);
    device.close();
    assertEquals(again.closed, true);
  }
});

Deno.test("7.1 a platform device's line is VFIO's index 0; its messages are index 1 of a vfio-user server, and the kernel has none", () => {
  using device = new FakePlatform({ form: "v3", deviceId: 4 });
  using transport = openTransport(device, { profile: "mmio-v3" });
  assertEquals([transport.interruptCount("msi"), transport.interruptCount("intx")], [4, 1]);
  const bound = bindInterrupts(transport, "auto", [0]);
  assertEquals(bound.kind, "msi");
  assertEquals(
    device.requests.map((one) => [one.index, one.action, "start" in one ? one.start : -1]),
    [[1, "trigger", 0], [1, "trigger", 1]],
  );
  assertEquals([device.mmio.vectors[0]!.address, device.mmio.vectors[0]!.data], [0xfee0_0000n, 0]);
  transport.disableInterrupts();
  device.requests.length = 0;
  bindInterrupts(transport, "intx", [0]);
  transport.disableInterrupts();
  assertEquals(device.requests.map((one) => [one.index, one.action]), [[0, "trigger"], [0, "disable"]]);
  const kernel: VfioDevice = Object.assign(new FakePlatform({ form: "v3", deviceId: 4 }), {
    path: "group" as "vfio-user",
  });
  using other = openTransport(kernel, { profile: "mmio-v3" });
  assertEquals([other.interruptCount("msi"), bindInterrupts(other, "auto", [0]).kind], [0, "intx"]);
  assertStringIncludes(other.interruptLack!, "kernel VFIO gives no address");
  other.disableInterrupts();
  kernel.close();
});

Deno.test("1.7 shared memory is found inside region 0 by the unit address of the device's name", () => {
  using device = new FakePlatform({ deviceId: 44, sizeBytes: 0x4000 });
  const mmio = platformWindow(device);
  assertEquals(mmio.sharedMemory!(0xa00_3e00n + 0x1000n, 0x3000, 1)!.sizeBytes, 0x3000);
  assertEquals(mmio.sharedMemory!(0xa00_3e00n + 0x1000n, 0x3001, 1), undefined, "past the end");
  assertEquals(mmio.sharedMemory!(0xa00_3dffn, 0x1000, 1), undefined, "before it");
  const unnamed = Object.assign(new FakePlatform({ sizeBytes: 0x4000 }), { name: "LNRO0005:00" });
  assertEquals(
    platformWindow(unnamed).sharedMemory!(0x1000n, 0x1000, 1),
    undefined,
    "no address in its name",
  );
  unnamed.close();
});

Deno.test("7.1 what is no virtio-mmio device, or a placeholder, is shown without one; profiles belong to their buses", () => {
  using device = new FakePlatform();
  device.mmio.deviceId = 0;
  assertThrows(() => openTransport(device), NotFoundError, "placeholder");
  assertEquals(inspect(device).virtio, undefined);
  assertStringIncludes(inspect(device).virtioLack!, "is a placeholder");
  device.mmio.deviceId = 4;
  device.mmio.magic = 0;
  assertThrows(() => openTransport(device), UnsupportedError, "MagicValue");
  const facts = inspect(device);
  assertEquals([facts.virtio, facts.regions.map(({ index }) => index)], [undefined, [0]]);
  device.mmio.magic = 0x7472_6976;
  const found = inspect(device);
  assertEquals([found.virtio!.deviceType, "virtioLack" in found], ["entropy source", false]);
  assertThrows(() => openTransport(device, { profile: "queue-state" }), UsageError, "not virtio-mmio's");
  using pci = new FakeFunction();
  for (const profile of ["mmio-v3", "mmio-msi-v2"] as const) {
    assertThrows(() => openTransport(pci, { profile }), UsageError, "is a PCI function");
  }
  assert(!device.closed);
});

Deno.test("7.1 a PCI function has no register window, whatever its BAR 0 is", () => {
  using device = new FakePlatform();
  Object.defineProperty(device, "info", { value: { flags: 2, numRegions: 9, numIrqs: 5 } });
  assertThrows(() => platformWindow(device), UsageError, "is a PCI function");
  assertEquals(device.mmio.log, []);
});
