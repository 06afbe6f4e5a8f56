import { assertEquals, assertThrows } from "@std/assert";
import { pageSizeBytes } from "../../../ffi/mod.ts";
import { ClosedError, UsageError } from "../../../lib/errors/mod.ts";
import { dmaReadBarrier, dmaWriteBarrier, makeFence } from "../../../lib/memory/barriers.ts";
import { DmaSpace } from "../../../lib/memory/mod.ts";
import { scatterList } from "../../../lib/memory/scatter.ts";

const PAGE = pageSizeBytes;

function space(): DmaSpace {
  return new DmaSpace({
    name: "0000:00:00.0",
    iovaRanges: [{ start: 0n, last: 0xff_ffffn }],
    pageSizes: BigInt(PAGE),
    needsFile: false,
    mapDma: () => {},
    unmapDma: () => {},
  });
}

Deno.test("a scatter list: parts in order, joined where they touch, cut where they may not cross", () => {
  using dma = space();
  const [one, two] = [dma.allocate(3 * PAGE, { label: "one" }), dma.allocate(PAGE, { label: "two" })];
  assertEquals(two.iova, one.iova + BigInt(3 * PAGE), "the lowest free address");
  const at = (offset: number) => one.iova + BigInt(offset);
  assertEquals(scatterList([{ memory: one }, { memory: two }]), [{ iova: at(0), lengthBytes: 4 * PAGE }]);
  assertEquals(scatterList([{ memory: two }, { memory: one, offset: 8 }]), [
    { iova: at(3 * PAGE), lengthBytes: PAGE },
    { iova: at(8), lengthBytes: 3 * PAGE - 8 },
  ]);
  assertEquals(
    scatterList([{ memory: one, offset: 4000, lengthBytes: 100 }, {
      memory: one,
      offset: 4100,
      lengthBytes: 4092,
    }], 4096),
    [{ iova: at(4000), lengthBytes: 96 }, { iova: at(4096), lengthBytes: 4096 }],
  );
  assertEquals(scatterList([{ memory: one, lengthBytes: 0 }], 512), []);
  assertEquals(scatterList([]), []);
});

Deno.test("a scatter list of what is not there is refused", () => {
  using dma = space();
  const memory = dma.allocate(PAGE, { label: "rings" });
  const wrong = (offset: number, lengthBytes?: number) =>
    assertThrows(
      () => scatterList([{ memory, offset, ...(lengthBytes === undefined ? {} : { lengthBytes }) }]),
      UsageError,
      "rings has no",
    );
  wrong(PAGE + 1);
  wrong(-1, 2);
  wrong(1, PAGE);
  wrong(0.5);
  wrong(0, NaN);
  for (const boundary of [0, 3, -4096, 1.5, NaN, Infinity]) {
    assertThrows(() => scatterList([{ memory }], boundary), UsageError, "a boundary of");
  }
  memory.close();
  assertThrows(() => scatterList([{ memory }]), ClosedError, "rings");
});

Deno.test("the fence of AArch64 is a module that this engine takes, and barriers return nothing", () => {
  assertEquals([makeFence()(), dmaWriteBarrier(), dmaReadBarrier()], [undefined, undefined, undefined]);
});
