/** A platform device of the emulated machine: what VFIO says of it, its interrupts, its doorbells, its life. */
import { assertEquals, assertThrows } from "@std/assert";
import { EventFd } from "../../../ffi/mod.ts";
import { UsageError } from "../../../lib/errors/mod.ts";
import { readTopology } from "../../../lib/emulation/mod.ts";
import { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { DmaTable } from "../../../lib/sockets/vfio_user/server/dma_table.ts";
import { NotFoundError } from "../../../lib/errors/mod.ts";

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
