/** Registers of virtio-mmio devices that lie: by the one parser of lies, each about its own register and nothing else. */
import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { readTopology } from "../../../../../lib/emulation/mod.ts";
import { EmulatedMachine } from "../../../../../lib/emulation/machine.ts";
import type { MmioTopology } from "../../../../../lib/emulation/mod.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { FakeMmio, REG, RULES } from "../views/mmio/rig.ts";

const NAME = "a003e00.virtio_mmio";

function liar(
  lie: string | undefined,
  mmio: MmioTopology = { form: "modern" },
  kind = "virtio-rng",
): FakeMmio {
  return new FakeMmio(createVirtioModels().createPlatformBehaviour!(kind, { address: NAME, mmio, lie }));
}

Deno.test("each lie about one register: what it reads, as often as it was told", () => {
  const cases: [string, number, number, number, MmioTopology["form"]?][] = [
    ["mmio-magic", REG.magic, 0x74726976 ^ 0x2000, 0x74726976],
    ["mmio-version", REG.version, 4, 2],
    ["mmio-device-id-zero", REG.deviceId, 0, 4],
    ["mmio-queue-size-large", REG.queueSizeMax, 65535, 64],
    ["queue-size-zero", REG.queueSizeMax, 0, 64],
    ["queue-size-odd", REG.queueSizeMax, 3, 64],
    ["mmio-notify-outside", REG.queueNotify, 0xfffc_fffc, 0x50, "v3"],
  ];
  for (const [lie, offset, told, honest, form = "modern"] of cases) {
    using always = liar(lie, { form });
    assertEquals([always.read(offset), always.read(offset)], [told, told], lie);
    using once = liar(`${lie}:1:1`, { form });
    assertEquals([0, 1, 2].map(() => once.read(offset)), [honest, told, honest], lie);
    for (const other of [REG.magic, REG.version, REG.deviceId, REG.queueSizeMax, REG.status]) {
      using truthful = liar(undefined, { form });
      if (other !== offset) assertEquals(always.read(other), truthful.read(other), `${lie} ${other}`);
    }
  }
});

Deno.test("lies that take a driver's steps: status, generation, features, QueueReady, VERSION_1", () => {
  using stuck = liar("reset-never-finishes");
  stuck.negotiate();
  stuck.status = 0;
  assertEquals([stuck.status, stuck.status], [11, 11]);
  stuck.view.reset("device");
  assertEquals(stuck.status, 0, "a reset by VFIO ends it");

  using drifting = liar("generation-never-settles");
  assertEquals(new Set([0, 1, 2, 3].map(() => drifting.read(REG.generation))).size, 4);

  using refusing = liar("features-ok-refused");
  assertThrows(() => refusing.negotiate(), Error, "FEATURES_OK refused");

  using deaf = liar("queue-enable-ignored");
  deaf.negotiate();
  deaf.enable(0);
  assertEquals(deaf.read(REG.queueReady), 0);

  using old = liar("version-1-missing");
  assertEquals(old.offered & RULES, 1n << 33n);
});

Deno.test("vector-refused: MSI cannot be enabled, in either draft", () => {
  using v3 = liar("vector-refused", { form: "v3" });
  v3.write(0x0c2, 0x2001, 2);
  v3.write(0x0c0, 0x8000, 2);
  assertEquals(v3.read(0x0c0, 2) & 0x8000, 0);
  using v2 = liar("vector-refused", { form: "msi-v2" });
  v2.negotiate(RULES | 1n << 40n);
  v2.write(0x0c8, 1);
  assertEquals([v2.read(0x0c4), v2.port.take()], [0, []]);
});

Deno.test("mmio-shm-base: the address of a region is all ones, its length is not", () => {
  using device = liar("mmio-shm-base", { form: "modern" }, "virtio-ism");
  device.write(REG.shmSel, 1);
  assertEquals([REG.shmBase, REG.shmBase + 4].map((offset) => device.read(offset)), [
    0xffff_ffff,
    0xffff_ffff,
  ]);
  assertEquals(device.read(REG.shmLen + 4), 0);
});

Deno.test("mmio-garbage: every register reads at random, the same for the same seed", () => {
  const reads = (seed: number) => {
    using device = liar(`mmio-garbage:${seed}`);
    return [REG.magic, REG.version, REG.status, REG.queueSizeMax].map((offset) => device.read(offset));
  };
  assertEquals(reads(7), reads(7));
  assertEquals(reads(7).filter((value, i) => value === reads(8)[i]), []);
});

Deno.test("queues of a virtio-mmio device lie as those of a PCI function do", () => {
  using device = liar("used-length-over");
  device.bringUp();
  const ring = device.offer();
  device.write(REG.queueNotify, 0);
  device.run();
  assertEquals(ring.takeUsed().map(({ length }) => length), [17]);
});

Deno.test("a lie that belongs to the other bus, or that nobody tells, is refused by name", () => {
  assertThrows(
    () => liar("doorbell-out-of-bar"),
    UsageError,
    `${NAME}: doorbell-out-of-bar is a lie about BARs`,
  );
  assertThrows(
    () => liar("mmio-nothing"),
    UsageError,
    '"mmio-nothing" is not a lie that a virtio-mmio device can tell',
  );
  assertThrows(() => liar("admin-eagain"), UsageError, "is not a lie that a device can tell");
  const topology = readTopology({
    functions: [{ address: "0000:01:00.0", kind: "virtio-rng", lie: "mmio-magic" }],
  });
  assertThrows(
    () => new EmulatedMachine({ topology, models: createVirtioModels() }),
    UsageError,
    '"mmio-magic" is not a lie that a device can tell',
  );
});
