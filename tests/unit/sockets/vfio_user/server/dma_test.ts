/** The vfio-user server: the client's memory. */
import { assertEquals, assertThrows } from "@std/assert";
import {
  createMemfd,
  errnoNumber,
  MappedMemory,
  mappingCount,
  O,
  openFdCount,
  OwnedFd,
  removeFile,
  UnixSocket,
  writeAll,
} from "../../../../../ffi/mod.ts";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { DmaFault } from "../../../../../lib/sockets/vfio_user/mod.ts";
import { COMMAND, dmaUnmap } from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { testSocketPath } from "../raw_client.ts";
import { bench, EEXIST, EINVAL, ENOENT, ENOSPC, ENOTSUP, map } from "./bench.ts";

Deno.test("server DMA_MAP and DMA_UNMAP: memory is shared, and gone after the device was told", () => {
  using b = bench();
  using file = createMemfd("memory", 0x8000);
  using mine = MappedMemory.map(file, 0x8000);
  assertEquals(b.client.call(COMMAND.dmaMap, map({ offset: 0x2000n }), [file]).error, 0);
  const { region, offset } = b.server.dma.resolve(0x10010n, 4, true);
  region.bytes[offset] = 42;
  assertEquals(mine.bytes()[0x2010], 42);
  const unmap = dmaUnmap.encode({ argsz: 24, address: 0x10000n, size: 0x4000n });
  const reply = b.client.call(COMMAND.dmaUnmap, unmap);
  assertEquals([reply.error, ...reply.payload], [0, ...unmap]);
  assertEquals([b.device.log.at(-1), region.bytes.byteLength, b.server.dma.count], [
    "unmap 10000 16384",
    0,
    0,
  ]);
  assertEquals(b.client.call(COMMAND.dmaUnmap, unmap).error, ENOENT);
});

Deno.test("server DMA_MAP: memory of 2, 4, 6 and 64 GiB, above 4 GiB and 128 TiB, to its last word", () => {
  using b = bench();
  for (const gib of [2, 4, 6, 64]) {
    const sizeBytes = gib * 2 ** 30;
    // Sparse: only pages that are touched cost memory.
    using file = createMemfd("memory", sizeBytes);
    using mine = MappedMemory.map(file, sizeBytes);
    for (const address of [2n ** 32n, 2n ** 47n + 0x1000n, 2n ** 64n - BigInt(sizeBytes)]) {
      const size = BigInt(sizeBytes);
      assertEquals(b.client.call(COMMAND.dmaMap, map({ address, size }), [file]).error, 0);
      for (const at of [0, 2 ** 31 - 4, sizeBytes / 2, sizeBytes - 4]) {
        const { region, offset } = b.server.dma.resolve(address + BigInt(at), 4, true);
        assertEquals(offset, at);
        region.words32[at / 4] = 0x1234_5678;
        assertEquals([region.words16[at / 2], region.bytes[at + 3]], [0x5678, 0x12], `${gib} GiB, ${at}`);
        assertEquals([...mine.bytes(at, 4)], [0x78, 0x56, 0x34, 0x12]);
        mine.bytes(at, 4).fill(0);
      }
      assertThrows(() => b.server.dma.resolve(address + size - 3n, 4, true), DmaFault);
      const unmap = dmaUnmap.encode({ argsz: 24, address, size });
      assertEquals(b.client.call(COMMAND.dmaUnmap, unmap).error, 0);
    }
  }
});

Deno.test("server DMA_MAP: without a file the range is taken", () => {
  using b = bench();
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  assertEquals([b.server.dma.count, b.server.dma.regions.length], [1, 0]);
  assertEquals(b.client.call(COMMAND.dmaMap, map({ address: 0x13000n })).error, EEXIST);
  assertEquals(b.client.call(COMMAND.dmaMap, map({ address: 0x20000n, flags: 3 | 4 })).error, EINVAL);
  const unmap = dmaUnmap.encode({ argsz: 24, address: 0x10000n, size: 0x4000n });
  assertEquals(b.client.call(COMMAND.dmaUnmap, unmap).error, 0);
  assertEquals(b.device.log, ["attached", "unmap 10000 16384"]);
});

Deno.test("server DMA_MAP: what cannot be is refused, and nothing stays mapped or open", () => {
  using b = bench({ maxDmaMaps: 1 });
  using file = createMemfd("memory", 0x4000);
  const [pipe, other] = UnixSocket.pair();
  const before = [openFdCount(), mappingCount().mappings];
  const refused = (error: number | undefined, payload: Uint8Array, fds = [file]) =>
    assertEquals(b.client.call(COMMAND.dmaMap, payload, fds).error, error, `${payload}`);
  refused(EINVAL, map({ argsz: 31 }));
  refused(EINVAL, map({ flags: 0 }));
  refused(EINVAL, map({ flags: 0x13 }));
  refused(EINVAL, map({ size: 0n }));
  refused(EINVAL, map({ size: 0x800n }));
  refused(EINVAL, map({ address: 0x10800n }));
  refused(EINVAL, map({ offset: 0x10n }));
  refused(EINVAL, map({ offset: 0x1000n }));
  refused(EINVAL, map({ size: 0x5000n }));
  refused(EINVAL, map({ address: 0xffff_ffff_ffff_e000n }));
  refused(EINVAL, map({ size: 0xffff_ffff_fffe_0000n }));
  refused(EINVAL, map({ offset: 0xffff_ffff_ffff_f000n }));
  refused(EINVAL, map({}), [file, file]);
  refused(EINVAL, map({}).subarray(0, 31));
  refused(errnoNumber.ESPIPE, map({}), [pipe.fd]);
  b.client.call(COMMAND.deviceReset);
  assertEquals([openFdCount(), mappingCount().mappings], before);
  refused(0, map({}));
  refused(ENOSPC, map({ address: 0x90000n }));
  for (const socket of [pipe, other]) socket.close();
});

Deno.test("server DMA_MAP: overlaps are EEXIST", () => {
  using b = bench();
  using file = createMemfd("memory", 0x4000);
  assertEquals(b.client.call(COMMAND.dmaMap, map({}), [file]).error, 0);
  for (const address of [0x10000n, 0xd000n, 0x13000n]) {
    assertEquals(b.client.call(COMMAND.dmaMap, map({ address }), [file]).error, EEXIST);
  }
  assertEquals(b.client.call(COMMAND.dmaMap, map({ address: 0x14000n }), [file]).error, 0);
});

Deno.test("server DMA_MAP: an unsealed file is refused when the server was told to", () => {
  const told: string[] = [];
  using b = bench({ unsealed: "refuse", watcher: { refused: ({ message }) => void told.push(message) } });
  using sealed = createMemfd("sealed", 0x4000);
  assertEquals(b.client.call(COMMAND.dmaMap, map({}), [sealed]).error, 0);
  const path = `${testSocketPath()}.file`;
  using unsealed = OwnedFd.open(path, O.RDWR | O.CREAT | O.EXCL);
  removeFile(path);
  writeAll(unsealed, new Uint8Array(0x4000));
  for (let i = 0; i < 3; i++) {
    assertEquals(b.client.call(COMMAND.dmaMap, map({ address: 0x80000n }), [unsealed]).error, EINVAL);
  }
  assertEquals(told, ["client of 0000:00:01.0: the file passed is not sealed against shrinking"]);
  using lax = bench({ unsealed: "map" });
  assertEquals(lax.client.call(COMMAND.dmaMap, map({ address: 0x80000n }), [unsealed]).error, 0);
});

Deno.test("server DMA_UNMAP: all, and what cannot be", () => {
  using b = bench();
  using file = createMemfd("memory", 0x4000);
  const unmap = (values: Partial<{ argsz: number; flags: number; address: bigint; size: bigint }>) =>
    b.client.call(COMMAND.dmaUnmap, dmaUnmap.encode({ argsz: 24, ...values })).error;
  for (const address of [0x10000n, 0x20000n, 0x30000n]) {
    assertEquals(
      b.client.call(COMMAND.dmaMap, map({ address }), address === 0x20000n ? [] : [file]).error,
      0,
    );
  }
  assertEquals(unmap({ address: 0x10000n, size: 0x1000n }), ENOENT);
  assertEquals(unmap({ address: 0x11000n, size: 0x3000n }), ENOENT);
  assertEquals(unmap({ address: 0x10000n, size: 0x4000n, argsz: 23 }), EINVAL);
  assertEquals(unmap({ address: 0x10000n, size: 0x4000n, flags: 1 }), ENOTSUP);
  assertEquals(unmap({ address: 0x10000n, size: 0x4000n, flags: 3 }), EINVAL);
  assertEquals(unmap({ address: 0x10000n, size: 0x4000n, flags: 2 }), EINVAL);
  assertEquals(b.client.call(COMMAND.dmaUnmap, new Uint8Array(23)).error, EINVAL);
  assertEquals(b.server.dma.count, 3);
  b.device.objection = new UsageError("busy");
  assertEquals(unmap({ flags: 2 }), EINVAL, "the device objects to each");
  assertEquals(b.device.log.slice(-3).sort(), [
    "unmap 10000 16384",
    "unmap 20000 16384",
    "unmap 30000 16384",
  ]);
  assertEquals(b.server.dma.count, 0, "but the memory is gone");
});
