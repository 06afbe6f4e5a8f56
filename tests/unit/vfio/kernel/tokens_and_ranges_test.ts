import { assertEquals, assertThrows } from "@std/assert";
import { RingsideError, UsageError } from "../../../../lib/errors/mod.ts";
import {
  DEFAULT_LAST_IOVA,
  defaultIovaRanges,
  parseReservedRegions,
} from "../../../../lib/vfio/iova_defaults.ts";
import { checkDmaRange, checkUnmapped } from "../../../../lib/vfio/kernel/dma_range.ts";
import { formatVfToken, parseVfToken } from "../../../../lib/vfio/uuid.ts";

Deno.test("a VF token's bytes are in the order of its text, and come back as it in lower case", () => {
  const text = "BD8D9D2B-5A5F-4F5A-A211-F591514BA1F3";
  const bytes = parseVfToken(text);
  assertEquals([bytes[0], bytes[1], bytes[7], bytes[15], bytes.length], [0xbd, 0x8d, 0x5a, 0xf3, 16]);
  assertEquals(formatVfToken(bytes), text.toLowerCase());
});

Deno.test("what is no UUID is a UsageError that does not repeat it", () => {
  for (
    const text of [
      "",
      "bd8d9d2b5a5f4f5aa211f591514ba1f3",
      "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f",
      "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3 ",
      "gd8d9d2b-5a5f-4f5a-a211-f591514ba1f3",
      "{bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3}",
    ]
  ) {
    const error = assertThrows(() => parseVfToken(text), UsageError) as UsageError;
    assertEquals(text !== "" && error.message.includes(text), false);
  }
  assertThrows(() => formatVfToken(new Uint8Array(15)), UsageError);
});

Deno.test("8.3 without ranges from the kernel: the whole space less the reserved windows", () => {
  assertEquals(defaultIovaRanges(), [
    { start: 0n, last: 0x07ff_ffffn },
    { start: 0x0810_0000n, last: 0xfedf_ffffn },
    { start: 0xfef0_0000n, last: DEFAULT_LAST_IOVA },
  ]);
  assertEquals(defaultIovaRanges([], 0xffn), [{ start: 0n, last: 0xffn }]);
  // Overlapping, nested, adjacent, at both ends, past the end, and out of order.
  const reserved = [[0x50n, 0x5fn], [0x0n, 0xfn], [0x58n, 0x6fn], [0x52n, 0x53n], [0xf0n, 0x200n], [
    0x70n,
    0x7fn,
  ], [
    0x300n,
    0x400n,
  ]].map(([start, last]) => ({ start: start!, last: last! }));
  assertEquals(defaultIovaRanges(reserved, 0xffn), [
    { start: 0x10n, last: 0x4fn },
    { start: 0x80n, last: 0xefn },
  ]);
});

Deno.test("reserved regions as sysfs writes them; those that may be relaxed are free", () => {
  const text = [
    "0x0000000000000000 0x0000000000ffffff direct-relaxable",
    "0x00000000be000000 0x00000000bfffffff direct",
    "0x00000000fee00000 0x00000000feefffff msi",
    "nonsense",
    "",
  ].join("\n");
  assertEquals(parseReservedRegions(text), [
    { start: 0xbe00_0000n, last: 0xbfff_ffffn },
    { start: 0xfee0_0000n, last: 0xfeef_ffffn },
  ]);
});

Deno.test("8.3 DMA ranges: whole IOMMU pages, inside the memory, not past 2^64", () => {
  const pages = 0x1000n | 0x20_0000n;
  checkDmaRange("g", 0x1000n, 0x2000, 0x2000, pages);
  checkDmaRange("g", (1n << 64n) - 0x1000n, 0x1000, 0x1000, pages);
  for (
    const [iova, size] of [
      [0x1000n, 0x3000],
      [0x1000n, 0],
      [0x1000n, -4096],
      [0x1000n, 0.5],
      [0x800n, 0x1000],
      [0x1000n, 0x800],
      [-0x1000n, 0x1000],
      [(1n << 64n) - 0x1000n, 0x2000],
      [1n << 64n, 0x1000],
    ] as const
  ) assertThrows(() => checkDmaRange("g", iova, size, 0x2000, pages), UsageError, "g: DMA range");
  checkUnmapped("g", 0n, 4096, 4096n);
  assertThrows(() => checkUnmapped("g", 0n, 4096, 0n), RingsideError, "unmapped 0 of 4096 bytes");
});
