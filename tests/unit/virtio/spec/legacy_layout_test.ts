/** Where the parts of a legacy ring lie, at PCI's alignment and at one that a driver chose. */
import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../lib/errors/mod.ts";
import { legacyRingLayout } from "../../../../lib/virtio/spec/legacy.ts";

Deno.test("2.3 and virtio 1.2 §2.7.2: the used ring begins at the next multiple of the alignment", () => {
  assertEquals(legacyRingLayout(256), { availableOffset: 4096, usedOffset: 8192, totalBytes: 12288 });
  // 16 · 8 + 6 + 2 · 8 = 150 bytes, then 6 + 8 · 8 = 70.
  assertEquals(legacyRingLayout(8, 64), { availableOffset: 128, usedOffset: 192, totalBytes: 320 });
  assertEquals(legacyRingLayout(8, 1), { availableOffset: 128, usedOffset: 150, totalBytes: 220 });
  assertEquals(legacyRingLayout(8, 2 ** 31).usedOffset, 2 ** 31);
});

Deno.test("a legacy ring whose size or alignment is no power of two is refused", () => {
  for (const size of [0, 3, 65536, 1.5]) assertThrows(() => legacyRingLayout(size), UsageError, `${size}`);
  for (const align of [0, 3, 4095, -4, 0.5]) {
    assertThrows(() => legacyRingLayout(8, align), UsageError, `aligned to ${align} bytes`);
  }
});
