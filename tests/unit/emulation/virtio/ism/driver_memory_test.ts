/** virtio-ism without DEV_MEM: regions in the memory of the driver that allocated them (N-5.6, N-5.10, N-5.11, A-5.3). */
import { assert, assertEquals } from "@std/assert";
import {
  createMemfd,
  MappedMemory,
  mappingCount,
  O,
  openFdCount,
  OwnedFd,
  pageSizeBytes,
  removeFile,
  resizeFile,
} from "../../../../../ffi/mod.ts";
import { IsmDomains } from "../../../../../lib/emulation/virtio/ism/domain.ts";
import { ISM_FEATURE } from "../../../../../lib/virtio/spec/ism.ts";
import { DmaRegion, DmaTable } from "../../../../../lib/sockets/dma_table.ts";
import { mapDma } from "../../../../../lib/sockets/vfio_user/server/dma.ts";
import { DMA_MAP_FLAG, dmaMap } from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { CHUNK, ENOMEM, ENOSPC, ERR, IsmRig, OK, READ, type Rigs, rigs, words, WRITE } from "./rig.ts";

const IOVA = 0x7000_0000n;
const BUFFER_FREE = 8n;

function drivers(count: number): Rigs {
  return rigs(count, { featuresOff: ISM_FEATURE.DEV_MEM, memory: 0 });
}

Deno.test("A-5.3 N-5.4 N-5.6 ALLOC: the driver's own pages are the region, zeroed first; no memory of the domain is needed", () => {
  using list = drivers(2);
  const { a, b } = list;
  const lent = a.lend(IOVA, 3 * CHUNK);
  lent.bytes.fill(0xcc);
  const { token, chunks } = a.region(3 * CHUNK, IOVA);
  assert(lent.bytes.every((byte) => byte === 0), "zeroed");
  lent.bytes[CHUNK + 5] = 42;
  assertEquals(a.read(chunks[1]! * CHUNK + 5, 1)[0], 42);
  b.lend(IOVA, 3 * CHUNK);
  const theirs = b.attached(token, READ | WRITE, IOVA);
  assertEquals(b.read(theirs[1]! * CHUNK + 5, 1)[0], 42);
  b.write(theirs[2]! * CHUNK, [43]);
  assertEquals(lent.bytes[2 * CHUNK], 43, "the same page");
  const mapping = b.front.mapArea(2, theirs[0]! * CHUNK, 3 * CHUNK, true)!;
  using memory = MappedMemory.map(mapping.file, 3 * CHUNK, { offset: BigInt(mapping.fileOffset) });
  memory.bytes()[0] = 99;
  assertEquals(lent.bytes[0], 99);
  assertEquals(a.model.domain!.memoryUsedBytes, 0);
  assertEquals([...a.fn.port.take(), ...b.fn.port.take()], []);
});

Deno.test("N-5.10 A-5.18 BUFFER_FREE: to the allocator, with the address it gave, when the last reference goes and not before", () => {
  using list = drivers(3);
  const { a, b, c } = list;
  a.lend(IOVA, CHUNK);
  const { token } = a.region(CHUNK, IOVA);
  for (const rig of [b, c]) {
    rig.lend(IOVA + 0x10000n, CHUNK);
    rig.giveEvents(8);
    rig.attached(token, READ, IOVA + 0x10000n);
  }
  a.giveEvents(8);
  assertEquals(a.detach(token), OK);
  assertEquals(a.take(), []);
  assertEquals(b.detach(token), OK);
  assertEquals(a.take(), []);
  assertEquals(c.detach(token), OK);
  assertEquals(a.take(), [[BUFFER_FREE, IOVA]]);
  b.take();
  assertEquals([b.take(), c.take().filter(([type]) => type === BUFFER_FREE)], [[], []], "N-5.11 no event");
  a.region(CHUNK, IOVA);
});

Deno.test("N-5.10 the allocator alone: DETACH is the last reference; with DEV_MEM there is no such event", () => {
  using list = drivers(1);
  const { a } = list;
  a.lend(IOVA, CHUNK);
  a.giveEvents();
  assertEquals(a.detach(a.region(CHUNK, IOVA).token), OK);
  assertEquals(a.take(), [[BUFFER_FREE, IOVA]]);
  using with_ = rigs(1);
  with_.a.giveEvents();
  with_.a.detach(with_.a.region(CHUNK).token);
  assertEquals(with_.a.take(), []);
});

Deno.test("A-5.20 an allocator that was reset is not told of buffers of its earlier life, and its memory outlives it", () => {
  using list = drivers(2);
  const { a, b } = list;
  const lent = a.lend(IOVA, CHUNK);
  const { token } = a.region(CHUNK, IOVA);
  b.lend(IOVA, CHUNK);
  const [at] = b.attached(token, READ | WRITE, IOVA);
  lent.bytes[3] = 17;
  a.fn.status = 0;
  a.fn.client.dma.remove(IOVA, BigInt(CHUNK));
  assertEquals(b.read(at! * CHUNK + 3, 1)[0], 17, "the pages live on");
  b.write(at! * CHUNK + 4, [18]);
  assertEquals(b.read(at! * CHUNK + 4, 1)[0], 18);
  a.up(false);
  a.giveEvents();
  b.detach(token);
  assertEquals(a.take(), []);
  // One that waits for an event buffer when the reset comes is of the earlier life, too.
  a.fn.status = 0;
  a.up(false);
  a.lend(IOVA, CHUNK);
  assertEquals(a.detach(a.region(CHUNK, IOVA).token), OK);
  assertEquals(a.model.member!.events.size, 1);
  a.fn.status = 0;
  a.up(false);
  a.giveEvents();
  assertEquals(a.take(), []);
});

Deno.test("N-5.6 ALLOC: buffers that are not mapped, not for writing, across mappings, off a page, or without a file are ENOMEM", () => {
  using list = drivers(1);
  const { a } = list;
  a.lend(IOVA, 2 * CHUNK);
  a.lend(IOVA + BigInt(2 * CHUNK), CHUNK);
  a.lend(IOVA + 0x10000n, CHUNK, { keepFile: false });
  a.lend(IOVA + 0x20000n, CHUNK, { access: false });
  const cases: [bigint, number][] = [
    [0n, CHUNK],
    [IOVA + 0x100000n, CHUNK],
    [IOVA, 3 * CHUNK],
    [IOVA + 8n, CHUNK],
    [IOVA + 0x10000n, CHUNK],
    [IOVA + 0x20000n, CHUNK],
    [(1n << 64n) - 4096n, CHUNK],
  ];
  for (const [buffer, size] of cases) assertEquals(a.alloc(size, 512, buffer).ack, ENOMEM, `${buffer}`);
  assertEquals(a.fn.port.take().length, cases.length);
  assertEquals([a.model.member!.chunks.free, a.model.domain!.regions.size], [64, 0]);
  assertEquals(a.alloc(65 * CHUNK, 512, IOVA).ack, ENOSPC, "chunks come first");
  assertEquals(a.alloc(CHUNK, 512).ack, ERR, "no buffer at all");
  assertEquals(a.alloc(2 * CHUNK, 512, IOVA).ack, OK);
});

Deno.test("N-5.6 ALLOC: a file that could shrink under the peers is refused", () => {
  using list = drivers(1);
  const { a } = list;
  using other = new UnsealedFile();
  a.fn.client.dma.add(other.region(IOVA));
  assertEquals(a.alloc(CHUNK, 512, IOVA).ack, ENOMEM);
  assert(a.fn.port.take()[0]!.includes("sealed"));
});

Deno.test("N-5.6 A-5.5 ALLOC: E2BIG leaves the buffer as it is", () => {
  using list = drivers(1);
  const { a } = list;
  const lent = a.lend(IOVA, 2 * CHUNK);
  lent.bytes.fill(0x77);
  const before = openFdCount();
  assertEquals(a.alloc(2 * CHUNK, 16, IOVA).ack, 7);
  assert(lent.bytes.every((byte) => byte === 0x77));
  assertEquals(openFdCount(), before);
});

Deno.test("N-5.14 a region that ends within a chunk: its pages are there, the chunk's other pages are not", () => {
  using rig = new IsmRig(new IsmDomains(), {
    featuresOff: ISM_FEATURE.DEV_MEM,
    chunkSize: 4 * CHUNK,
    chunks: 8,
  });
  rig.lend(IOVA, 2 * CHUNK);
  const { ack, reply } = rig.alloc(CHUNK + 10, 512, IOVA);
  assertEquals(ack, OK);
  const start = Number(reply.getBigUint64(16, true));
  assertEquals(rig.read(start + CHUNK + 100, 1)[0], 0, "the rest of the page");
  assertEquals(rig.read(start + 2 * CHUNK, 1)[0], 0xff);
  rig.write(start + 3 * CHUNK, [1]);
  assertEquals(rig.fn.port.take().map((text) => text.slice(0, 7)), ["N-5.14:", "N-5.14:"]);
  assert(rig.front.mapArea(2, start, 2 * CHUNK, true) !== undefined);
  assertEquals(rig.front.mapArea(2, start, 4 * CHUNK, true), undefined);
});

Deno.test("a file with more in it than the region is given to nobody but its owner: others go by messages", () => {
  using list = drivers(2);
  const { a, b } = list;
  const lent = a.lend(IOVA, 4 * CHUNK);
  lent.bytes.fill(0x5a);
  const { token, chunks } = a.region(CHUNK, IOVA + BigInt(CHUNK));
  assertEquals([lent.bytes[CHUNK - 1], lent.bytes[CHUNK], lent.bytes[2 * CHUNK]], [0x5a, 0, 0x5a]);
  b.lend(IOVA, CHUNK);
  const [at] = b.attached(token, READ | WRITE, IOVA);
  assertEquals(b.front.mapArea(2, at! * CHUNK, CHUNK, false), undefined);
  assertEquals(a.front.mapArea(2, chunks[0]! * CHUNK, CHUNK, true)!.fileOffset, CHUNK);
  b.write(at! * CHUNK + 1, [3]);
  assertEquals(lent.bytes[CHUNK + 1], 3);
});

Deno.test("N-5.6 N-5.11 ATTACH: a buffer must be there, mapped for the device, on a page and as large as the region; nothing is done to it", () => {
  using list = drivers(2);
  const { a, b } = list;
  a.lend(IOVA, 2 * CHUNK);
  const { token } = a.region(2 * CHUNK, IOVA);
  const lent = b.lend(IOVA, 2 * CHUNK);
  lent.bytes.fill(0x11);
  for (const buffer of [0n, IOVA + 4096n, IOVA + 1n, IOVA - 4096n]) {
    assertEquals(b.attach(token, READ, 512, buffer).ack, ERR);
  }
  assertEquals(b.command([2, 0], words(token, 1n), 512).ack, ERR);
  assertEquals(b.model.member!.chunks.free, 64);
  assertEquals(b.fn.port.take().filter((text) => text.includes("N-5.6")).length, 5);
  assertEquals(b.attach(token, READ, 512, IOVA).ack, OK);
  assert(lent.bytes.every((byte) => byte === 0x11));
  assertEquals(b.detach(token), OK);
});

Deno.test("a driver that frees no event buffers gets no more regions once 4096 BUFFER_FREE wait", () => {
  using list = drivers(1);
  const { a } = list;
  a.lend(IOVA, CHUNK);
  for (let i = 0; i < 4096; i++) a.detach(a.region(CHUNK, IOVA).token);
  assertEquals(a.alloc(CHUNK, 512, IOVA).ack, ENOMEM);
  a.giveEvents(1, 4096);
  assert(a.take().length > 100);
  assertEquals(a.alloc(CHUNK, 512, IOVA).ack, OK);
});

Deno.test("functions with and without DEV_MEM share a domain: each supplies what it must", () => {
  const domains = new IsmDomains();
  using device = new IsmRig(domains, {}, "0000:01:00.0");
  using driver = new IsmRig(domains, { featuresOff: ISM_FEATURE.DEV_MEM }, "0000:02:00.0");
  const { token } = device.region(CHUNK);
  driver.lend(IOVA, CHUNK);
  driver.attached(token, READ, IOVA);
  const own = driver.lend(IOVA + 0x10000n, CHUNK);
  const lent = driver.region(CHUNK, IOVA + 0x10000n);
  own.bytes[9] = 5;
  const [at] = device.attached(lent.token);
  assertEquals(device.read(at! * CHUNK + 9, 1)[0], 5);
});

Deno.test("DMA_MAP: a server keeps a descriptor of each file when its device asks for it, and closes it with the range", () => {
  const before = [openFdCount(), mappingCount().mappings];
  const file = createMemfd("dma", 4 * CHUNK);
  const limits = { maxDmaMaps: 8, pageBytes: pageSizeBytes, unsealed: "map" as const };
  const payload = (address: bigint) =>
    dmaMap.encode({
      argsz: 32,
      flags: DMA_MAP_FLAG.read | DMA_MAP_FLAG.write,
      offset: BigInt(CHUNK),
      address,
      size: BigInt(2 * CHUNK),
    });
  const table = new DmaTable();
  const messages = { dmaRead: () => false, dmaWrite: () => false };
  mapDma(table, payload(IOVA), [file], { limits, what: "client", mappings: 0, keepFiles: false, messages });
  assertEquals(table.regions[0]!.file, undefined);
  assertEquals(openFdCount() - before[0]!, 1);
  mapDma(table, payload(IOVA + 0x10000n), [file], {
    limits,
    what: "client",
    mappings: 1,
    keepFiles: true,
    messages,
  });
  assertEquals(openFdCount() - before[0]!, 2);
  file.close();
  const { file: kept } = table.regions[1]!;
  assertEquals(kept!.offset, CHUNK);
  using memory = MappedMemory.map(kept!.fd, 4 * CHUNK);
  memory.bytes()[CHUNK] = 66;
  assertEquals(table.regions[1]!.bytes[0], 66);
  memory.close();
  table.remove(IOVA + 0x10000n, BigInt(2 * CHUNK));
  table.clear();
  assertEquals([openFdCount(), mappingCount().mappings], before);
});

/** A file that can shrink. */
class UnsealedFile implements Disposable {
  readonly #path = `/tmp/ringside-ism-${crypto.randomUUID()}`;

  region(iova: bigint): DmaRegion {
    const fd = OwnedFd.open(this.#path, O.RDWR | O.CREAT, 0o600);
    resizeFile(fd, CHUNK);
    const memory = MappedMemory.map(fd, CHUNK);
    return new DmaRegion(iova, memory, { deviceReads: true, deviceWrites: true }, { fd, offset: 0 });
  }

  [Symbol.dispose](): void {
    removeFile(this.#path);
  }
}
