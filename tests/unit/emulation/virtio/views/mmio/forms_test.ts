/** What the forms of virtio-mmio say of themselves: numbers, bits, and what collides with the standard. */
import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../../lib/errors/mod.ts";
import { MmioView } from "../../../../../../lib/emulation/virtio/views/mmio/view.ts";
import { FakeMmio, mmioRng, REG, RULES, StillModel } from "./rig.ts";

const BITS = (features: bigint) => [features >> 39n & 1n, features >> 40n & 1n];

Deno.test("A-7.1, N-7.8: the version is 1 legacy, 2 as published and with feature bits, 3 in the first draft", () => {
  for (const [form, version] of [["legacy", 1], ["modern", 2], ["msi-v2", 2], ["v3", 3]] as const) {
    using device = mmioRng({ form });
    assertEquals([device.read(REG.magic), device.read(REG.version)], [0x74726976, version], form);
  }
});

Deno.test("A-7.2, A-7.3: bits 39 and 40 mean what the form says", () => {
  for (const [form, bits] of [["modern", [0n, 1n]], ["v3", [0n, 0n]], ["msi-v2", [1n, 1n]]] as const) {
    using device = mmioRng({ form });
    assertEquals(BITS(device.offered), [...bits], form);
  }
});

Deno.test("A-7.3: RING_RESET is refused in version 3, and the report says what collides", () => {
  using device = mmioRng({ form: "v3" });
  for (const status of [0, 1, 3]) device.status = status;
  device.accept(RULES | 1n << 40n);
  device.status = 11;
  assertEquals(device.status, 3, "no FEATURES_OK");
  assertEquals(device.port.take().map((one) => one.split(":")[0]), ["A-7.3", "1.1", "1.2"]);
});

Deno.test("A-7.7: 2047 queues are the most of version 3, whose MsiStatus says how many there are", () => {
  using device = new FakeMmio(new MmioView(new StillModel(2047), { mmio: { form: "v3" } }));
  assertEquals(device.read(0x0c0, 2), 2047);
  assertThrows(
    () => new MmioView(new StillModel(2048), { mmio: { form: "v3" } }),
    UsageError,
    "2048 queues: form v3 can have 2047 (A-7.7)",
  );
  using other = new FakeMmio(new MmioView(new StillModel(2048), { mmio: { form: "msi-v2" } }));
  assertEquals(other.read(0x0c0), 2049);
});

Deno.test("N-7.5: a form with MSI has enough vectors, or cannot be", () => {
  const of = (mmio: ConstructorParameters<typeof MmioView>[1]["mmio"]) => () =>
    new MmioView(new StillModel(3), { mmio });
  assertThrows(of({ form: "msi-v2", vectors: 3 }), UsageError, "at least 4 (N-7.5)");
  assertThrows(of({ form: "msi-v2", vectors: 1, sharing: true }), UsageError, "at least 2 (N-7.5)");
  assertThrows(of({ form: "v3", vectors: 5 }), UsageError, "one a queue and one more, 4");
  for (
    const [mmio, count] of [[{ form: "msi-v2" }, 4], [{ form: "msi-v2", vectors: 9 }, 9], [{
      form: "msi-v2",
      vectors: 2,
      sharing: true,
    }, 2]] as const
  ) {
    using device = new FakeMmio(of(mmio)());
    assertEquals([device.read(0x0c0), device.view.messages], [count, count]);
  }
  using line = new FakeMmio(of({ form: "modern" })());
  assertEquals(line.view.messages, 0);
});

Deno.test("A-7.9: MsiState has its bits at the bottom, or at the top where a device follows Linux", () => {
  for (const [stateBits, sharing, enabled] of [["draft", 2, 1], ["linux", 2 ** 30, 2 ** 31]] as const) {
    using device = mmioRng({ form: "msi-v2", sharing: true, vectors: 2, stateBits });
    device.negotiate(RULES | 1n << 40n);
    assertEquals(device.read(0x0c4), sharing);
    device.write(0x0d0, 0);
    device.write(0x0c8, 3);
    device.write(0x0c8, 1);
    assertEquals(device.read(0x0c4), sharing + enabled);
    device.write(0x0c8, 2);
    assertEquals([device.read(0x0c4), device.port.take()], [sharing, []], "A-7.11: DISABLE turns it off");
  }
});

Deno.test("7.1: shared memory by SHMSel: length and address of a region, all ones where there is none", () => {
  const model = Object.assign(new StillModel(1), {
    sharedMemory: {
      areas: [{ id: 1, sizeBytes: 0x3000 }, { id: 7, sizeBytes: 0x1000 }],
      read: (id: number, offset: number, into: Uint8Array) => into.fill(16 * id + offset),
      write: (id: number, offset: number, from: Uint8Array) => written.push([id, offset, ...from]),
      map: () => undefined,
      doorbells: () => [],
      rang: () => {},
    },
  });
  const written: number[][] = [];
  using device = new FakeMmio(new MmioView(model, { mmio: { form: "modern" } }));
  const region = (id: number) => {
    device.write(REG.shmSel, id);
    return [REG.shmLen, REG.shmLen + 4, REG.shmBase, REG.shmBase + 4].map((offset) => device.read(offset));
  };
  assertEquals(region(1), [0x3000, 0, 0xa003e00 + 0x10000, 0]);
  assertEquals(region(7), [0x1000, 0, 0xa003e00 + 0x20000, 0]);
  for (const none of [0, 2, 256, 0xffff_ffff]) assertEquals(region(none), new Array(4).fill(0xffff_ffff));
  assertEquals(device.view.windowBytes, 0x21000);
  assertEquals([device.read(0x10002, 1), device.read(0x20003, 1), device.read(0x18000, 4)], [18, 115, 0]);
  device.write(0x20010, 0x5a, 1);
  assertEquals([written, device.port.take()], [[[7, 16, 0x5a]], []]);
});
