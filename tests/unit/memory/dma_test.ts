import { assertEquals, assertThrows } from "@std/assert";
import { mappingCount, openFdCount, pageSizeBytes } from "../../../ffi/mod.ts";
import { type DmaMapper, DmaSpace } from "../../../lib/memory/mod.ts";
import { ClosedError, DeviceError, ExhaustedError, UsageError } from "../../../lib/errors/mod.ts";

const PAGE = pageSizeBytes;

function mapper(needsFile: boolean, fail = { now: false }) {
  const live = new Map<bigint, number>();
  const one: DmaMapper = {
    name: "0000:00:00.0",
    iovaRanges: [{ start: 0n, last: 0xff_ffffn }],
    pageSizes: BigInt(PAGE),
    needsFile,
    mapDma(memory, file, iova, sizeBytes) {
      if (fail.now) throw new DeviceError("no");
      assertEquals(file !== null, needsFile);
      assertEquals(memory.sizeBytes, sizeBytes);
      live.set(iova, sizeBytes);
    },
    unmapDma(iova, sizeBytes) {
      assertEquals(live.get(iova), sizeBytes, "unmapped what was not mapped");
      live.delete(iova);
    },
  };
  return { one, live, fail };
}

for (const needsFile of [false, true]) {
  Deno.test(`DMA memory ${needsFile ? "on a memfd" : "anonymous"}: mapped while it lives, gone after close`, () => {
    const [fds, maps] = [openFdCount(), mappingCount()];
    const { one, live } = mapper(needsFile);
    const space = new DmaSpace(one);
    const memory = space.allocate(PAGE + 1, { label: "rings" });
    assertEquals(memory.sizeBytes, 2 * PAGE);
    assertEquals(BigInt(memory.iovaHi) * 2n ** 32n + BigInt(memory.iovaLo), memory.iova);
    assertEquals([...live], [[memory.iova, 2 * PAGE]]);
    assertEquals(space.usage, { allocations: 1, bytes: 2 * PAGE, labels: ["rings"] });
    const view = memory.bytes(16, 4);
    view[0] = 1;
    memory.close();
    memory.close();
    assertEquals([live.size, view.length], [0, 0]);
    assertThrows(() => memory.bytes(), ClosedError);
    space.allocate(1);
    space.allocate(1);
    space.close();
    assertEquals(live.size, 0);
    assertThrows(() => space.allocate(1), ClosedError);
    assertEquals(openFdCount(), fds);
    assertEquals(mappingCount(), maps);
  });

  Deno.test(`a mapping that fails half-way leaves nothing (${needsFile ? "memfd" : "anonymous"})`, () => {
    const [fds, maps] = [openFdCount(), mappingCount()];
    const { one, fail } = mapper(needsFile);
    using space = new DmaSpace(one);
    fail.now = true;
    for (let i = 0; i < 300; i++) assertThrows(() => space.allocate(0x10000), DeviceError);
    fail.now = false;
    assertEquals(space.usage.allocations, 0);
    assertEquals(openFdCount(), fds);
    assertEquals(mappingCount(), maps);
    // 300 × 64 KiB would have used the 16 MiB of IOVA space up.
    space.allocate(0xff_0000, { huge: "never" }).close();
  });
}

for (const field of ["label", "huge", "access", "addressBits"]) {
  Deno.test(`an option that cannot be read leaves nothing: ${field}`, () => {
    const [fds, maps] = [openFdCount(), mappingCount()];
    using space = new DmaSpace(mapper(true).one);
    const options = {
      get [field](): never {
        throw new UsageError("unreadable");
      },
    };
    assertThrows(() => space.allocate(4096, options), UsageError, "unreadable");
    assertEquals([openFdCount(), mappingCount()], [fds, maps]);
  });
}

Deno.test("out of IOVA space and nonsense sizes are typed errors", () => {
  using space = new DmaSpace(mapper(false).one);
  assertThrows(() => space.allocate(0x200_0000, { huge: "never" }), ExhaustedError);
  for (const size of [0, -5, 0.5, NaN]) assertThrows(() => space.allocate(size), UsageError);
});

Deno.test("a device's address bits hold for all of its memory: what does not fit is refused before it is mapped", () => {
  const { one, live } = mapper(false);
  // A page below the 20 bits.
  const last = (1n << 20n) - BigInt(PAGE);
  using space = new DmaSpace({ ...one, iovaRanges: [{ start: last, last: 0xff_ffffn }] });
  const low = space.allocate(PAGE, { label: "low" });
  const high = space.allocate(2 * PAGE, { label: "rings" });
  assertThrows(
    () => space.setAddressBits(20),
    UsageError,
    `20 address bits do not reach "rings" at IOVA 0x100000`,
  );
  high.close();
  space.setAddressBits(20);
  assertEquals(space.addressBits, 20);
  for (const addressBits of [undefined, 64, 21, 20]) {
    assertThrows(() => space.allocate(PAGE, { addressBits }), ExhaustedError, "below 2^20");
  }
  assertThrows(() => space.reserveAnyIova(PAGE), ExhaustedError, "below 2^20");
  assertThrows(() => space.reserveIova(1n << 20n, PAGE), ExhaustedError, "it has 20 address bits");
  assertEquals([...live.keys()], [low.iova]);
  low.close();
  assertEquals(space.allocate(PAGE).iova, last);
  for (const bits of [0, 11, 65, 20.5, NaN, "28", undefined]) {
    assertThrows(() => space.setAddressBits(bits as number), UsageError, "address bits");
  }
});

Deno.test("memory lies at multiples of what is asked for, and crosses none of its boundary", () => {
  const { one } = mapper(false);
  using space = new DmaSpace(one);
  space.allocate(4096);
  for (const alignBytes of [1, 4096, 8192, 1 << 16, 1 << 20]) {
    assertEquals(space.allocate(4096, { alignBytes }).iova % BigInt(alignBytes), 0n);
  }
  for (const sizeBytes of [1, 4096, 12288, 40_000, 65536]) {
    // Takes a page first, so that the next free one is not aligned by itself.
    space.allocate(4096);
    const { iova } = space.allocate(sizeBytes, { boundaryBytes: 65536 });
    assertEquals(iova / 65536n, (iova + BigInt(sizeBytes) - 1n) / 65536n, `${sizeBytes} at ${iova}`);
  }
  const both = space.allocate(8192, { alignBytes: 1 << 15, boundaryBytes: 1 << 16 });
  assertEquals(both.iova % (1n << 15n), 0n);
  assertThrows(
    () => space.allocate(65537, { boundaryBytes: 65536 }),
    UsageError,
    "crosses no multiple of 65536",
  );
  for (const wrong of [0, -4096, 3000, 1.5, NaN, 2 ** 60, "4096", null]) {
    assertThrows(() => space.allocate(4096, { alignBytes: wrong as number }), UsageError, "alignBytes");
    assertThrows(() => space.allocate(4096, { boundaryBytes: wrong as number }), UsageError, "boundaryBytes");
  }
});

Deno.test("an IOMMU whose pages are larger than the processor's is given whole ones, and one with smaller ones, too", () => {
  for (
    const pageSizes of [0n, 1n, 1n << 9n, BigInt(PAGE), BigInt(4 * PAGE) | (1n << 30n), BigInt(16 * PAGE)]
  ) {
    const { one, live } = mapper(false);
    const least = Math.max(Number(pageSizes & -pageSizes), PAGE);
    using space = new DmaSpace({ ...one, pageSizes });
    const all = [1, PAGE, least + 1].map((sizeBytes) => space.allocate(sizeBytes, { huge: "never" }));
    assertEquals(all.map(({ sizeBytes }) => sizeBytes), [least, least, 2 * least]);
    for (const { iova } of all) assertEquals(iova % BigInt(least), 0n);
    assertEquals(live.size, 3);
  }
});
