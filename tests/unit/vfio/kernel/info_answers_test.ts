/** Answers with capability chains, from a kernel or server that is not to be trusted. */
import { assertEquals, assertThrows } from "@std/assert";
import { ProtocolError } from "../../../../lib/errors/mod.ts";
import { walkCapabilities } from "../../../../lib/vfio/capability_chain.ts";
import { decodeHotResetInfo } from "../../../../lib/vfio/kernel/hot_reset.ts";
import { decodeType1Info } from "../../../../lib/vfio/kernel/iommu_info.ts";
import { decodeRegionInfo } from "../../../../lib/vfio/region_answer.ts";

/** Bytes from little-endian numbers: `[value, width in bytes]`, `number` for 4, `bigint` for 8. */
function image(...parts: (number | bigint | readonly [number, 1 | 2])[]): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [];
  for (const part of parts) {
    const [value, width] = typeof part === "bigint" ? [part, 8] : typeof part === "number" ? [part, 4] : part;
    for (let i = 0; i < width; i++) bytes.push(Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
  }
  return new Uint8Array(bytes);
}

const CAPS = 8;
const FLAGS = 1 | 2 | 4;
const head = (id: number, next: number) => [[id, 2], [1, 2], next] as const;
/** A region 2 of 64 KiB at file offset 2^41, with these bytes behind the fixed part. */
const region = (flags: number, capOffset: number, tail: Uint8Array = new Uint8Array()) => {
  const fixed = image(32 + tail.length, flags, 2, capOffset, 0x1_0000n, 1n << 41n);
  return new Uint8Array([...fixed, ...tail]);
};

Deno.test("8.3 region info without capabilities: the MMAP flag alone decides", () => {
  assertEquals(decodeRegionInfo(region(FLAGS, 0), 2, "f"), {
    info: {
      index: 2,
      flags: FLAGS,
      sizeBytes: 0x1_0000,
      mmapAreas: [{ offset: 0, sizeBytes: 0x1_0000 }],
      msixMappable: false,
    },
    fileOffset: 1n << 41n,
  });
  assertEquals(decodeRegionInfo(region(3, 0), 2, "f").info.mmapAreas, []);
  // Without the CAPS flag the offset means nothing.
  assertEquals(decodeRegionInfo(region(FLAGS, 0xffff), 2, "f").info.mmapAreas.length, 1);
});

Deno.test("8.3 sparse mmap, type and MSI-X mappable capabilities", () => {
  const tail = image(
    ...head(1, 80),
    ...[2, 0],
    ...[0x8000n, 0x1000n, 0n, 0x2000n],
    ...head(3, 88),
    ...head(2, 0),
    ...[0x8000_1af4, 7],
  );
  const { info } = decodeRegionInfo(region(FLAGS | CAPS, 32, tail), 2, "f");
  assertEquals(info.mmapAreas, [{ offset: 0, sizeBytes: 0x2000 }, { offset: 0x8000, sizeBytes: 0x1000 }]);
  assertEquals(info.msixMappable, true);
  assertEquals(info.type, { type: 0x8000_1af4, subtype: 7 });
  // The MMAP flag is off: nothing is mappable, whatever is listed.
  assertEquals(decodeRegionInfo(region(3 | CAPS, 32, tail), 2, "f").info.mmapAreas, []);
});

Deno.test("an empty sparse list, and an empty area, leave nothing to map", () => {
  const none = image(...head(1, 0), 0, 0);
  assertEquals(decodeRegionInfo(region(FLAGS | CAPS, 32, none), 2, "f").info.mmapAreas, []);
  const empty = image(...head(1, 0), 1, 0, 0x1000n, 0n);
  assertEquals(decodeRegionInfo(region(FLAGS | CAPS, 32, empty), 2, "f").info.mmapAreas, []);
});

Deno.test("hostile region answers are ProtocolErrors that name function and region", () => {
  const bad: [string, Uint8Array][] = [
    ["cap_offset past argsz", region(FLAGS | CAPS, 0x7fff_ffff)],
    ["cap_offset in the fixed part", region(FLAGS | CAPS, 8, image(...head(3, 0)))],
    ["header cut off", region(FLAGS | CAPS, 36, image(...head(3, 0)))],
    ["next past argsz", region(FLAGS | CAPS, 32, image(...head(3, 400)))],
    ["capability pointing at itself", region(FLAGS | CAPS, 32, image(...head(3, 32)))],
    ["cycle of two", region(FLAGS | CAPS, 32, image(...head(3, 40), ...head(3, 32)))],
    ["nr_areas beyond the buffer", region(FLAGS | CAPS, 32, image(...head(1, 0), 2, 0, 0n, 0x1000n))],
    ["nr_areas of 2^32 − 1", region(FLAGS | CAPS, 32, image(...head(1, 0), 0xffff_ffff, 0))],
    ["sparse capability cut off", region(FLAGS | CAPS, 32, image(...head(1, 0)))],
    ["type capability cut off", region(FLAGS | CAPS, 32, image(...head(2, 0), 1))],
    ["area past the region", region(FLAGS | CAPS, 32, image(...head(1, 0), 1, 0, 0xf000n, 0x2000n))],
    ["area that wraps", region(FLAGS | CAPS, 32, image(...head(1, 0), 1, 0, (1n << 64n) - 0x1000n, 0x2000n))],
    ["size past 2^53", image(32, FLAGS, 2, 0, 1n << 54n, 0n)],
    ["another region", image(32, FLAGS, 3, 0, 0x1000n, 0n)],
    ["too short", region(FLAGS, 0).subarray(0, 24)],
  ];
  for (const [what, bytes] of bad) {
    const error = assertThrows(
      () => decodeRegionInfo(bytes, 2, "0000:01:00.0"),
      ProtocolError,
      undefined,
      what,
    ) as ProtocolError;
    assertEquals(error.message.startsWith("0000:01:00.0 region 2"), true, `${what}: ${error.message}`);
  }
});

Deno.test("a chain may jump back and forth as long as it does not come back", () => {
  const bytes = new Uint8Array([
    ...new Uint8Array(16),
    ...image(...head(5, 32), ...head(6, 0), ...head(7, 24)),
  ]);
  assertEquals(walkCapabilities(bytes, 16, 16, "x").map((one) => [one.id, one.offset]), [[5, 16], [7, 32], [
    6,
    24,
  ]]);
  assertEquals(walkCapabilities(bytes, 0, 16, "x"), []);
  // Eight zero bytes of the fixed part would pass for a capability that ends the chain.
  assertThrows(() => walkCapabilities(bytes, 8, 16, "x"), ProtocolError, "outside [16, 40)");
});

const type1 = (flags: number, capOffset: number, tail: Uint8Array = new Uint8Array()) =>
  new Uint8Array([...image(24 + tail.length, flags, 0x4020_1000n, capOffset, 0), ...tail]);

Deno.test("8.2 IOMMU info: page sizes, IOVA ranges; capabilities of another kind are passed over", () => {
  const tail = image(
    ...[...head(1, 72), 2, 0, 0n, 0xfedf_ffffn, 0xfef0_0000n, (1n << 48n) - 1n],
    ...[...head(2, 104), 0, 0, 0x1000n, 0x1000_0000n],
    ...[...head(3, 0), 65535],
  );
  assertEquals(decodeType1Info(type1(3, 24, tail), "c"), {
    pageSizes: 0x4020_1000n,
    iovaRanges: [{ start: 0n, last: 0xfedf_ffffn }, { start: 0xfef0_0000n, last: (1n << 48n) - 1n }],
  });
  assertEquals(decodeType1Info(type1(0, 0), "c"), {});
  assertEquals(decodeType1Info(type1(1, 24), "c"), { pageSizes: 0x4020_1000n });
});

Deno.test("hostile IOMMU answers are ProtocolErrors", () => {
  const bad: [string, Uint8Array][] = [
    ["too short", type1(3, 0).subarray(0, 20)],
    ["cap_offset past argsz", type1(3, 200)],
    ["cycle", type1(3, 24, image(...head(9, 24)))],
    ["nr_iovas beyond the buffer", type1(3, 24, image(...head(1, 0), 1, 0, 0n))],
    ["nr_iovas of 2^32 − 1", type1(3, 24, image(...head(1, 0), 0xffff_ffff, 0))],
    ["range that ends before it starts", type1(3, 24, image(...head(1, 0), 1, 0, 2n, 1n))],
  ];
  for (const [what, bytes] of bad) {
    assertThrows(() => decodeType1Info(bytes, "c"), ProtocolError, undefined, what);
  }
});

Deno.test("8.3 hot reset dependents: groups, device ids, owned and not owned", () => {
  const one = (id: number, bus: number, devfn: number) => [id, [1, 2], [bus, 1], [devfn, 1]] as const;
  const groups = image(28, 0, 2, ...one(4, 1, 0), ...one(5, 1, 0x13));
  assertEquals(decodeHotResetInfo(groups, (group) => group === 4, "f"), {
    dependents: [
      { function: "0001:01:00.0", group: 4, owned: true },
      { function: "0001:01:02.3", group: 5, owned: false },
    ],
    possible: false,
  });
  assertEquals(decodeHotResetInfo(groups, () => true, "f").possible, true);
  const devices = (flags: number) =>
    image(36, flags, 3, ...one(9, 1, 0), ...one(0, 1, 1), ...one(0xffff_ffff, 1, 2));
  assertEquals(decodeHotResetInfo(devices(1), () => true, "f"), {
    dependents: [
      { function: "0001:01:00.0", deviceId: 9, owned: true },
      { function: "0001:01:00.1", owned: true },
      { function: "0001:01:00.2", owned: false },
    ],
    possible: false,
  });
  assertEquals(decodeHotResetInfo(devices(3), () => false, "f").possible, true);
  assertThrows(() => decodeHotResetInfo(image(12, 0, 1), () => true, "f"), ProtocolError);
  assertThrows(() => decodeHotResetInfo(image(12, 0, 0xffff_ffff), () => true, "f"), ProtocolError);
});
