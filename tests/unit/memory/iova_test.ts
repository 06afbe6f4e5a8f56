import { assertEquals, assertThrows } from "@std/assert";
import { IovaAllocator } from "../../../lib/memory/mod.ts";
import { ExhaustedError, UsageError } from "../../../lib/errors/mod.ts";
import { Random } from "../../random.ts";

const PAGE = 4096n;

Deno.test("low addresses first, never 0, reserved windows left out", () => {
  const iova = new IovaAllocator([{ start: 0x1_0000_0000n, last: 0x1_ffff_ffffn }, {
    start: 0n,
    last: 0x5fffn,
  }], PAGE);
  assertEquals(iova.allocate(1), 0x1000n);
  assertEquals(iova.allocate(0x2000), 0x2000n);
  assertEquals(iova.allocate(0x3000), 0x1_0000_0000n);
  assertEquals(iova.allocate(0x2000), 0x4000n);
  assertEquals(iova.usedBytes, 0x8000n);
});

Deno.test("addressBits: a limit does not spill over, alignment is kept", () => {
  const iova = new IovaAllocator([{ start: 0xffff_e000n, last: 0x2_0000_0000n }], PAGE);
  assertEquals(iova.allocate(0x2000, { addressBits: 32 }), 0xffff_e000n);
  assertThrows(() => iova.allocate(0x1000, { addressBits: 32 }), ExhaustedError, "below 2^32");
  assertEquals(iova.allocate(0x1000), 0x1_0000_0000n);
  assertEquals(iova.allocate(0x1000, { alignment: 0x20_0000n }), 0x1_0020_0000n);
  for (const addressBits of [0, 65, 1.5, "32"]) {
    assertThrows(
      () => iova.allocate(0x1000, { addressBits: addressBits as number }),
      UsageError,
      "addressBits",
    );
  }
});

Deno.test("partial pages at a range's ends are not used", () => {
  const iova = new IovaAllocator([{ start: 0x1800n, last: 0x37ffn }], PAGE);
  assertEquals(iova.allocate(0x1000), 0x2000n);
  assertThrows(() => iova.allocate(1), ExhaustedError);
});

Deno.test("wrong frees and sizes are refused", () => {
  const iova = new IovaAllocator([{ start: 0n, last: 0xffffn }], PAGE);
  const at = iova.allocate(0x2000);
  assertThrows(() => iova.free(at + PAGE), UsageError);
  iova.free(at);
  assertThrows(() => iova.free(at), UsageError, "freed before");
  assertThrows(() => iova.allocate(0), UsageError);
  assertThrows(() => iova.allocate(1, { alignment: 3n }), UsageError);
  assertThrows(() => new IovaAllocator([], 3000n), UsageError);
});

Deno.test("random use: no overlap, everything comes back, holes merge", () => {
  const random = new Random(12345);
  const iova = new IovaAllocator(
    [{ start: 0n, last: 0xffffffn }, { start: 0x2000000n, last: 0x2ffffffn }],
    PAGE,
  );
  const live: { start: bigint; size: bigint }[] = [];
  let refused = 0;
  for (let step = 0; step < 20_000; step++) {
    if (random.below(16) < 9 || live.length === 0) {
      const size = BigInt(1 + random.below(64)) * PAGE;
      try {
        const start = iova.allocate(size);
        for (const other of live) {
          if (start < other.start + other.size && other.start < start + size) throw new Error("overlap");
        }
        live.push({ start, size });
      } catch (error) {
        if (!(error instanceof ExhaustedError)) throw error;
        refused++;
      }
    } else {
      const [one] = live.splice(random.below(live.length), 1);
      iova.free(one!.start);
    }
  }
  assertEquals(refused > 0, true, "the space was never full, so exhaustion was not tried");
  for (const one of live) iova.free(one.start);
  assertEquals([iova.count, iova.usedBytes], [0, 0n]);
  assertEquals(iova.allocate(0xfff000), 0x1000n, "the first range is whole again");
  assertEquals(iova.allocate(0x1000000), 0x2000000n, "the second range is whole again");
});
