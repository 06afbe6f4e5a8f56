/** A platform device of the emulated machine: what VFIO says of it, its interrupts, its doorbells, its life. */
import { assertEquals, assertThrows } from "@std/assert";
import { EventFd } from "../../../ffi/mod.ts";
import { NotFoundError, UsageError } from "../../../lib/errors/mod.ts";
import { readTopology } from "../../../lib/emulation/mod.ts";
import { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { DmaTable } from "../../../lib/sockets/dma_table.ts";

import type { EmulatedPlatformDevice } from "../../../lib/emulation/platform_device.ts";
import { FakeClient, FakeRing } from "./virtio/fake_client.ts";

const NAME = "a003e00.virtio_mmio";

function machineOf(fields: object): EmulatedMachine {
  const topology = readTopology({ functions: [{ address: NAME, kind: "virtio-rng", ...fields }] });
  return new EmulatedMachine({ topology, models: createVirtioModels() });
}

function word(bytes: Uint8Array): number {
  return new DataView(bytes.buffer).getUint32(0, true);
}

Deno.test("a platform device: one region, a line, and messages where its form has them", () => {
  using machine = machineOf({});
  const device = machine.platformDevice(NAME);
  assertEquals(device.info, { flags: 1 | 4, numRegions: 1, numIrqs: 1 });
  const { sizeBytes, flags, mmapAreas } = device.region(0);
  assertEquals([sizeBytes, flags, mmapAreas], [0x200, 3, []]);
  assertEquals(device.region(1).sizeBytes, 0);
  assertEquals(device.irq(0), { index: 0, flags: 7, count: 1 });
  assertEquals(device.irq(1), { index: 1, flags: 0, count: 0 });
  const bytes = new Uint8Array(4);
  device.readRegion(0, 0, bytes);
  assertEquals(word(bytes), 0x74726976);
  assertThrows(() => machine.device(NAME), NotFoundError, NAME);
  assertThrows(() => machine.platformDevice("a.b"), NotFoundError, "no platform device a.b");
});

Deno.test("messages of a platform device: each its eventfd; one that nobody listens to is lost; masking is refused", () => {
  using machine = machineOf({ mmio: { form: "v3" } });
  const device = machine.platformDevice(NAME);
  device.attached(new DmaTable());
  assertEquals([device.info.numIrqs, device.irq(1)], [2, { index: 1, flags: 1, count: 2 }]);
  // The device's from now on; it stays open till the index is turned off.
  const mine = new EventFd();
  device.setIrqs(1, { action: "trigger", start: 1, eventFds: [mine] });
  device.raiseMessage(0);
  device.raiseMessage(1);
  assertEquals(mine.take(), 1);
  assertThrows(
    () => device.setIrqs(1, { action: "mask", start: 0, count: 1 }),
    UsageError,
    "cannot be masked",
  );
  assertThrows(() => device.setIrqs(1, { action: "fire", start: 2, count: 1 }), UsageError, "no vector 2");
  device.setIrqs(1, { action: "disable" });
  device.raiseMessage(1);
  assertEquals(mine.closed, true);
  device.detached();
});

/** Registers by their offsets, through the region. */
function registers(device: EmulatedPlatformDevice) {
  return {
    read(offset: number): number {
      const bytes = new Uint8Array(4);
      device.readRegion(0, offset, bytes);
      return word(bytes);
    },
    write(offset: number, value: number): void {
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, value, true);
      device.writeRegion(0, offset, bytes);
    },
  };
}

/** Up to DRIVER_OK with queue 0. */
function bringUp(device: EmulatedPlatformDevice, client: FakeClient): FakeRing {
  const { write } = registers(device);
  for (const status of [0, 1, 3]) write(0x070, status);
  write(0x024, 1);
  write(0x020, 3);
  write(0x070, 11);
  const ring = new FakeRing(client, 8);
  const { descriptorArea, driverArea, deviceArea } = ring.setup();
  write(0x030, 0);
  write(0x038, 8);
  [descriptorArea, driverArea, deviceArea].forEach((iova, area) => {
    write(0x080 + 0x10 * area, Number(iova & 0xffff_ffffn));
    write(0x084 + 0x10 * area, Number(iova >> 32n));
  });
  write(0x044, 1);
  write(0x070, 15);
  return ring;
}

Deno.test("a driver through the machine: its doorbell is an eventfd, its line is told once till it is unmasked", () => {
  using machine = machineOf({});
  using client = new FakeClient();
  const device = machine.platformDevice(NAME);
  const { read, write } = registers(device);
  assertEquals(device.doorbells(0), [], "nobody is there");
  device.attached(client.dma);
  const ring = bringUp(device, client);
  const [doorbell, ...others] = device.doorbells(0);
  assertEquals([doorbell!.offset, doorbell!.sizeBytes, doorbell!.value, others.length], [0x050, 4, 0, 0]);
  const line = new EventFd(), unmask = new EventFd();
  device.setIrqs(0, { action: "trigger", start: 0, eventFds: [line] });
  device.setIrqs(0, { action: "unmask-on", start: 0, eventFd: unmask });
  const request = () => {
    ring.add([{ iova: client.at(0x8000), length: 16, write: true }]);
    ring.publish();
    doorbell!.fd.signal();
    while (machine.step() > 0);
    return ring.takeUsed().length;
  };
  assertEquals([request(), line.take(), read(0x060)], [1, 1, 1]);
  assertEquals([request(), line.take()], [1, 0], "masked since it was told, and still up");
  unmask.signal();
  machine.step();
  assertEquals(line.take(), 1, "it is up");
  write(0x064, 1);
  unmask.signal();
  machine.step();
  assertEquals([line.take(), read(0x060)], [0, 0]);
  assertEquals([request(), line.take()], [1, 1]);
  write(0x064, 1);
  device.setIrqs(0, { action: "unmask", start: 0, count: 1 });
  device.reset();
  assertEquals([read(0x070), read(0x044), device.interrupts.line.asserted], [0, 0, false]);
  device.detached();
  assertEquals([device.inUse, line.closed, unmask.closed, doorbell!.fd.closed], [false, true, true, true]);
  assertEquals(machine.violations.toText(), "");
});

Deno.test("a platform device is offered while vfio-platform has it, and its user loses it with the machine", () => {
  using machine = machineOf({ driver: "vfio-platform" });
  assertEquals([machine.offered(NAME), machine.addresses], [true, [NAME]]);
  const { tree } = machine.kernel;
  const device = machine.platformDevice(NAME);
  tree.writeText("/sys/bus/platform/drivers/vfio-platform/unbind", NAME);
  assertEquals(machine.offered(NAME), false);
  device.attached(new DmaTable());
  machine.close();
  assertEquals(device.inUse, false);
});
