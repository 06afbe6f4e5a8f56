import { assert, assertEquals, assertThrows } from "@std/assert";
import { mappingCount, openFdCount, pageSizeBytes } from "../../../ffi/mod.ts";
import { type DmaMapper, DmaSpace, IovaAllocator, SharedDmaSpace } from "../../../lib/memory/mod.ts";
import {
  ClosedError,
  DeviceError,
  ExhaustedError,
  UnsupportedError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { Random } from "../../random.ts";

const PAGE = pageSizeBytes;
/** An IOVA in pages. */
const at = (page: number): bigint => BigInt(page * PAGE);

/** An IOMMU that notes what is mapped, and fails when it shall. */
class Iommu implements DmaMapper {
  readonly name: string;
  readonly iovaRanges = [{ start: 0n, last: 0xff_ffffn }];
  readonly pageSizes: bigint;
  readonly needsFile: boolean;
  readonly live = new Map<bigint, number>();
  /** Mappings until the next one fails. */
  left = Infinity;

  constructor(name: string, needsFile = false, pageSizes = BigInt(PAGE)) {
    this.name = name;
    this.needsFile = needsFile;
    this.pageSizes = pageSizes;
  }

  mapDma(memory: { sizeBytes: number }, file: unknown, iova: bigint, sizeBytes: number): void {
    if (this.left-- <= 0) throw new DeviceError("no more");
    assert(!this.needsFile || file !== null);
    assertEquals(memory.sizeBytes, sizeBytes);
    assert(!this.live.has(iova));
    this.live.set(iova, sizeBytes);
  }

  unmapDma(iova: bigint, sizeBytes: number): void {
    assertEquals(this.live.get(iova), sizeBytes, "unmapped what was not mapped");
    this.live.delete(iova);
  }
}

function two(): { a: Iommu; b: Iommu; spaceA: DmaSpace; spaceB: DmaSpace; shared: SharedDmaSpace } {
  const a = new Iommu("a"), b = new Iommu("b");
  const spaceA = new DmaSpace(a), spaceB = new DmaSpace(b);
  return { a, b, spaceA, spaceB, shared: new SharedDmaSpace(spaceA) };
}

Deno.test("shared DMA memory: at the same addresses for all that are attached, and for nobody else", () => {
  const [fds, maps] = [openFdCount(), mappingCount()];
  const { a, b, spaceA, spaceB, shared } = two();
  const first = shared.allocate(PAGE + 1, { label: "rings" });
  assertEquals([...a.live], [[first.iova, 2 * PAGE]]);
  first.bytes(0, 1)[0] = 7;
  shared.attach(spaceB);
  assertEquals([...b.live], [...a.live]);
  const second = shared.allocate(PAGE);
  assertEquals([...b.live], [...a.live]);
  assertEquals(b.live.size, 2);
  shared.detach(spaceA);
  assertEquals([a.live.size, b.live.size], [0, 2]);
  assertEquals(shared.attached, [spaceB]);
  const third = shared.allocate(PAGE);
  assertEquals([a.live.size, b.live.size], [0, 3]);
  assertEquals(first.bytes(0, 1)[0], 7);
  second.close();
  assertEquals(b.live.size, 2);
  // What is shared is counted once, and where it was allocated.
  assertEquals([shared.usage.allocations, spaceA.usage.allocations, spaceB.usage.allocations], [2, 0, 0]);
  // The functions' own memory has other addresses.
  const own = spaceB.allocate(PAGE);
  assert(![first.iova, first.iova + BigInt(PAGE), third.iova].includes(own.iova));
  // The first function may go: nothing of this is its any more.
  spaceA.close();
  assertEquals(first.bytes(0, 1)[0], 7);
  shared.close();
  assertEquals([...b.live.keys()], [own.iova]);
  assertThrows(() => first.bytes(), ClosedError);
  assertThrows(() => shared.allocate(1), ClosedError);
  // Addresses came back.
  assertEquals(spaceB.allocate(PAGE).iova, at(1) === own.iova ? at(2) : at(1));
  spaceB.close();
  assertEquals([openFdCount(), mappingCount()], [fds, maps]);
});

Deno.test("shared DMA memory: an attach that fails at any place leaves nothing attached", () => {
  const { a, b, spaceB, shared } = two();
  for (let i = 0; i < 5; i++) shared.allocate(PAGE * (i + 1));
  for (let good = 0; good < 5; good++) {
    b.left = good;
    assertThrows(() => shared.attach(spaceB), DeviceError, "no more");
    assertEquals([b.live.size, shared.attached.length], [0, 1]);
  }
  b.left = Infinity;
  // An address in use there.
  const own = spaceB.allocate(PAGE);
  assertThrows(() => shared.attach(spaceB), ExhaustedError);
  assertEquals([...b.live.keys()], [own.iova]);
  own.close();
  shared.attach(spaceB);
  assertEquals([...b.live], [...a.live]);
  assertThrows(() => shared.attach(spaceB), UsageError, "attached already");
  shared.close();
  assertEquals([a.live.size, b.live.size], [0, 0]);
});

Deno.test("shared DMA memory: an allocation that one of two refuses is nobody's", () => {
  const { a, b, spaceA, spaceB, shared } = two();
  shared.attach(spaceB);
  const [fds, maps] = [openFdCount(), mappingCount()];
  for (const one of [a, b]) {
    one.left = 0;
    assertThrows(() => shared.allocate(PAGE), DeviceError);
    one.left = Infinity;
    assertEquals([a.live.size, b.live.size, shared.usage.allocations], [0, 0, 0]);
  }
  assertEquals([openFdCount(), mappingCount()], [fds, maps]);
  // Each has an address that the other is without: a third is found.
  const inA = spaceA.allocate(PAGE), inB = [spaceB.allocate(PAGE), spaceB.allocate(PAGE)];
  const both = shared.allocate(PAGE);
  assertEquals([inA.iova, ...inB.map((one) => one.iova), both.iova], [at(1), at(1), at(2), at(3)]);
  shared.close();
  spaceA.close();
  spaceB.close();
});

Deno.test("shared DMA memory: an address is given back when another function was closed without being detached", () => {
  const { spaceA, spaceB, shared } = two();
  shared.attach(spaceB);
  spaceB.close();
  assertThrows(() => shared.allocate(PAGE), ClosedError);
  shared.detach(spaceB);
  assertEquals(shared.allocate(PAGE).iova, at(1));
  shared.close();
  spaceA.close();
});

Deno.test("shared DMA memory: who cannot be attached, and who must stay", () => {
  const { spaceA, spaceB, shared } = two();
  shared.allocate(PAGE);
  const needy = new DmaSpace(new Iommu("socket", true)),
    coarse = new DmaSpace(new Iommu("coarse", false, at(4)));
  assertThrows(() => shared.attach(needy), UnsupportedError, "file behind it");
  assertThrows(() => shared.attach(coarse), UsageError, `pages have ${4 * PAGE} bytes`);
  assertThrows(() => shared.detach(spaceA), UsageError, "the last function");
  assertThrows(() => shared.detach(spaceB), UsageError, "not attached");
  spaceB.close();
  assertThrows(() => shared.attach(spaceB), ClosedError);
  assertEquals(shared.attached, [spaceA]);
  // With nothing allocated there is nothing that could not be taken over; what comes later has a file for those who need it.
  const files = new SharedDmaSpace(needy);
  files.allocate(PAGE);
  const [plain, iommu] = [new Iommu("plain"), needy.mapper as Iommu];
  files.attach(new DmaSpace(plain));
  assertEquals([...plain.live], [...iommu.live]);
  for (const space of [shared, files, needy, coarse, spaceA]) space.close();
});

Deno.test("IOVA: exactly this range, when it is free", () => {
  const random = new Random(5);
  const iova = new IovaAllocator([{ start: 0n, last: 0xffffn }], 0x1000n);
  assertThrows(() => iova.reserve(0n, 4096), ExhaustedError);
  assertThrows(() => iova.reserve(0x1800n, 4096), UsageError);
  assertThrows(() => iova.reserve(0xf000n, 8192), ExhaustedError);
  assertThrows(() => iova.reserve(0x1000n, 0), UsageError);
  const used = new Map<number, number>();
  for (let n = 0; n < 2000; n++) {
    const page = random.below(18), pages = 1 + random.below(3);
    const free = page > 0 && page + pages <= 16 &&
      [...used].every(([at, count]) => at + count <= page || page + pages <= at);
    if (random.below(3) === 0 && used.size > 0) {
      const [at] = [...used.keys()];
      iova.free(BigInt(at!) << 12n);
      used.delete(at!);
    } else if (free) {
      iova.reserve(BigInt(page) << 12n, pages * 4096);
      used.set(page, pages);
    } else assertThrows(() => iova.reserve(BigInt(page) << 12n, pages * 4096), ExhaustedError);
    assertEquals(iova.usedBytes, BigInt([...used.values()].reduce((sum, one) => sum + one, 0)) << 12n);
  }
  for (const at of used.keys()) iova.free(BigInt(at) << 12n);
  assertEquals(iova.allocate(0xf000), 0x1000n);
});
