import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { EventFd, mappingCount, pageSizeBytes } from "../../../ffi/mod.ts";
import { ClosedError, UsageError } from "../../../lib/errors/mod.ts";
import { REGION_FLAG } from "../../../lib/vfio/device.ts";
import { Bar } from "../../../lib/vfio/mod.ts";
import { FakeDevice } from "./fake_device.ts";

const PAGE = pageSizeBytes;
const whole = (sizeBytes: number) => ({ sizeBytes, mmapAreas: [{ offset: 0, sizeBytes }] });

Deno.test("a mapped register is a load or store of its width, little-endian, and no region access", () => {
  using device = new FakeDevice({ 2: whole(PAGE) });
  using bar = new Bar(device, 2);
  bar.write32(0, 0x1122_3344);
  bar.write16(8, 0x5566);
  bar.write8(13, 0x77);
  const bytes = device.bytes(2);
  assertEquals([...bytes.subarray(0, 14)], [0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 0x66, 0x55, 0, 0, 0, 0x77]);
  bytes.set([0xff, 0xfe, 0xfd, 0xfc], 16);
  assertEquals([bar.read8(16), bar.read16(16), bar.read32(16)], [0xff, 0xfeff, 0xfcfd_feff]);
  assertEquals(device.accesses, []);
});

Deno.test("a register of 64 bits is one access, mapped and not", () => {
  using device = new FakeDevice({
    0: { sizeBytes: 2 * PAGE, mmapAreas: [{ offset: PAGE, sizeBytes: PAGE }] },
  });
  using bar = new Bar(device, 0);
  const value = 0x8877_6655_4433_2211n;
  for (const offset of [8, PAGE + 8]) {
    bar.write64(offset, value);
    assertEquals(bar.read64(offset), value);
    assertEquals([bar.read32(offset), bar.read32(offset + 4)], [0x4433_2211, 0x8877_6655]);
    assertThrows(() => bar.read64(offset + 4), UsageError, "no 64-bit register");
  }
  assertEquals([bar.isMapped(8, 8), bar.isMapped(PAGE + 8, 8)], [false, true]);
  assertEquals(device.accesses.map(({ kind, offset, length }) => [kind, offset, length]), [
    ["write", 8, 8],
    ["read", 8, 8],
    ["read", 8, 4],
    ["read", 12, 4],
  ]);
});

Deno.test("a BAR of 2, 4, 6 and 64 GiB is registers to its end", () => {
  for (const gib of [2, 4, 6, 64]) {
    // Sparse: only pages that are touched cost memory.
    const sizeBytes = gib * 2 ** 30;
    using device = new FakeDevice({ 2: whole(sizeBytes) });
    using bar = new Bar(device, 2);
    for (const offset of [2 ** 31 - 8, sizeBytes / 2, sizeBytes - 8]) {
      bar.write64(offset, 0x8877_6655_4433_2211n);
      assertEquals(device.bytes(2)[offset + 7], 0x88, `${gib} GiB, offset ${offset}`);
      assertEquals(bar.read64(offset), 0x8877_6655_4433_2211n);
      assertEquals([bar.read32(offset + 4), bar.read16(offset + 4), bar.read8(offset + 4)], [
        0x8877_6655,
        0x6655,
        0x55,
      ]);
      const doorbell = bar.doorbell(offset, 4);
      doorbell.write(7);
      assertEquals([doorbell.kind, bar.read32(offset)], ["mapped", 7]);
      bar.write64(offset, 0n);
    }
    assertThrows(() => bar.read8(sizeBytes), UsageError);
    assertEquals(device.accesses, []);
  }
});

Deno.test("nothing is mapped before the first access, and each area once", () => {
  using device = new FakeDevice({
    0: {
      sizeBytes: 4 * PAGE,
      mmapAreas: [{ offset: 0, sizeBytes: PAGE }, { offset: 2 * PAGE, sizeBytes: 2 * PAGE }],
    },
  });
  using bar = new Bar(device, 0);
  assertEquals(device.mapped, []);
  bar.read32(0);
  bar.read32(4);
  bar.write8(3 * PAGE, 1);
  bar.read8(0);
  assertEquals(device.mapped.map((one) => one.area), [
    { offset: 0, sizeBytes: PAGE },
    { offset: 2 * PAGE, sizeBytes: 2 * PAGE },
  ]);
});

Deno.test("a register outside the mappable areas is one region access of its width", () => {
  using device = new FakeDevice({
    0: {
      sizeBytes: 3 * PAGE,
      mmapAreas: [{ offset: 0, sizeBytes: PAGE }, { offset: 2 * PAGE, sizeBytes: PAGE }],
    },
  });
  using bar = new Bar(device, 0);
  bar.write32(PAGE, 0xa1b2_c3d4);
  bar.write16(PAGE + 4, 0x1234);
  bar.write8(PAGE + 6, 0x56);
  assertEquals([bar.read32(PAGE), bar.read16(PAGE + 4), bar.read8(PAGE + 6)], [0xa1b2_c3d4, 0x1234, 0x56]);
  assertEquals(device.accesses.map((one) => `${one.kind} ${one.offset - PAGE} ${one.length}`), [
    "write 0 4",
    "write 4 2",
    "write 6 1",
    "read 0 4",
    "read 4 2",
    "read 6 1",
  ]);
  assertEquals(bar.isMapped(0, 4), true);
  assertEquals(bar.isMapped(PAGE, 4), false);
});

Deno.test("an area that starts within a page is used from the next page on", () => {
  using device = new FakeDevice({
    0: { sizeBytes: 2 * PAGE, mmapAreas: [{ offset: 64, sizeBytes: 2 * PAGE - 64 }] },
  });
  using bar = new Bar(device, 0);
  assertEquals([bar.isMapped(64, 4), bar.isMapped(PAGE, 4)], [false, true]);
  assertEquals(device.mapped.map((one) => one.area.offset), [PAGE]);
});

Deno.test("a region that cannot be read as well as written is not mapped", () => {
  using device = new FakeDevice({
    0: { ...whole(PAGE), flags: REGION_FLAG.read | REGION_FLAG.mmap },
  });
  using bar = new Bar(device, 0);
  assertEquals(bar.isMapped(0), false);
});

Deno.test("an access outside or not aligned is a UsageError naming function, BAR and offset", () => {
  using device = new FakeDevice({ 4: whole(PAGE) });
  using bar = new Bar(device, 4);
  for (const offset of [-4, PAGE, PAGE - 2, 2, 1.5, NaN]) {
    const error = assertThrows(() => bar.read32(offset), UsageError) as UsageError;
    assertEquals(error.message.startsWith(`0000:0f:00.0 BAR 4 offset ${offset}`), true, error.message);
    assertThrows(() => bar.write32(offset, 1), UsageError);
    assertThrows(() => bar.doorbell(offset, 4), UsageError);
  }
  assertThrows(() => bar.read16(1), UsageError);
  assertThrows(() => bar.read8(PAGE), UsageError);
  assertThrows(() => bar.write16(PAGE - 1, 0), UsageError);
  assertThrows(() => bar.doorbell(0, 3 as unknown as 1), UsageError);
  assertThrows(() => new Bar(device, 3), UsageError, "has no BAR 3");
  assertThrows(() => new Bar(device, 7), UsageError, "no BAR 7");
});

Deno.test("after close of the BAR or its device every access is a ClosedError and views are detached", () => {
  for (const what of ["bar", "device"] as const) {
    const before = mappingCount();
    const device = new FakeDevice({
      0: { sizeBytes: 2 * PAGE, mmapAreas: [{ offset: 0, sizeBytes: PAGE }] },
    });
    const bar = new Bar(device, 0);
    bar.write32(0, 1);
    const mapped = bar.doorbell(4, 4);
    const access = bar.doorbell(PAGE, 4);
    if (what === "bar") bar.close();
    else device.close();
    assertEquals(bar.closed, true);
    for (
      const call of [
        () => bar.read8(0),
        () => bar.read16(0),
        () => bar.read32(0),
        () => bar.write8(0, 1),
        () => bar.write16(0, 1),
        () => bar.write32(0, 1),
        () => bar.read32(PAGE),
        () => bar.write32(PAGE, 1),
        () => bar.doorbell(0, 4),
        () => mapped.write(1),
      ]
    ) assertThrows(call, ClosedError, undefined, `${what}: ${call}`);
    if (what === "device") assertThrows(() => access.write(1), ClosedError);
    bar.close();
    device.close();
    assertEquals(mappingCount(), before);
  }
});

Deno.test("a BAR whose mapping the device took away is mapped again at the next access; old doorbells say so", () => {
  using device = new FakeDevice({ 0: whole(PAGE) });
  using bar = new Bar(device, 0);
  const doorbell = bar.doorbell(0, 2);
  doorbell.write(7);
  device.unmapAll();
  assertThrows(() => doorbell.write(8), ClosedError);
  assertEquals(bar.read16(0), 7);
  assertEquals(device.mapped.length, 2);
});

Deno.test("doorbells: a store when mapped, of each width", () => {
  using device = new FakeDevice({ 0: whole(PAGE) });
  using bar = new Bar(device, 0);
  for (const [offset, width] of [[0, 1], [2, 2], [4, 4]] as const) {
    const doorbell = bar.doorbell(offset, width);
    assertEquals(doorbell.kind, "mapped");
    doorbell.write(0xaabb_ccdd);
  }
  assertEquals([...device.bytes(0).subarray(0, 8)], [0xdd, 0, 0xdd, 0xcc, 0xdd, 0xcc, 0xbb, 0xaa]);
  assertEquals(device.accesses, []);
});

Deno.test("doorbells: a region write from the same buffer each time when there is no mapping", () => {
  using device = new FakeDevice({ 0: { sizeBytes: 64 } });
  const buffers: Uint8Array[] = [];
  const write = device.writeRegion.bind(device);
  device.writeRegion = (index, offset, from) => {
    buffers.push(from);
    write(index, offset, from);
  };
  using bar = new Bar(device, 0);
  const doorbell = bar.doorbell(10, 2);
  assertEquals(doorbell.kind, "access");
  doorbell.write(0x1_0203);
  assertEquals([...device.bytes(0).subarray(10, 12)], [3, 2]);
  doorbell.write(0x0405);
  assertEquals([...device.bytes(0).subarray(10, 12)], [5, 4]);
  assertEquals(device.accesses.map((one) => one.length), [2, 2]);
  assertStrictEquals(buffers[0], buffers[1]);
});

Deno.test("doorbells: an eventfd when one is offered; for one value only, other values are written", () => {
  using device = new FakeDevice({ 0: { sizeBytes: 64 } });
  using fd = new EventFd();
  using bar = new Bar(device, 0);
  device.offered = { fd };
  const any = bar.doorbell(0, 4);
  assertEquals(any.kind, "eventfd");
  any.write(1);
  any.write(2);
  assertEquals(fd.take(), 2);
  assertEquals(device.accesses, []);
  device.offered = { fd, value: 3 };
  const one = bar.doorbell(0, 4);
  one.write(3);
  assertEquals(fd.take(), 1);
  assertEquals(device.accesses, []);
  one.write(4);
  assertEquals(fd.take(), 0);
  assertEquals(device.bytes(0)[0], 4);
  assert(device.accesses.length === 1);
});
