/** The vfio-user server: accesses to regions, doorbells, order of answers. */
import { assertEquals } from "@std/assert";
import { EventFd } from "../../../../../ffi/mod.ts";
import {
  COMMAND,
  regionIoFds,
  writeMulti,
  writeMultiEntry,
} from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { BAR0_BYTES } from "../fake_device.ts";
import { message, type RawClient } from "../raw_client.ts";
import { access, bench, EINVAL } from "./bench.ts";

Deno.test("server GET_REGION_IO_FDS: a shared descriptor goes once, the client's limit leaves doorbells out", () => {
  const ask = (client: RawClient, values: Parameters<typeof regionIoFds.encode>[0]) =>
    client.call(COMMAND.deviceGetRegionIoFds, regionIoFds.encode(values));
  {
    using b = bench();
    const reply = ask(b.client, { argsz: 4096 });
    assertEquals([reply.payload.byteLength, reply.fds.length], [16 + 3 * 40, 2]);
    const [first] = reply.fds;
    const doorbell = new EventFd(first);
    doorbell.signal();
    assertEquals(b.device.doorbell.take(), 1, "it is the device's eventfd");
    for (const fd of reply.fds) fd.close();
    assertEquals(regionIoFds.decode(ask(b.client, { argsz: 16 }).payload), {
      argsz: 136,
      flags: 0,
      index: 0,
      count: 3,
    });
    assertEquals(ask(b.client, { argsz: 15 }).error, EINVAL);
    assertEquals(ask(b.client, { argsz: 64, flags: 1 }).error, EINVAL);
    assertEquals(ask(b.client, { argsz: 64, count: 1 }).error, EINVAL);
    assertEquals(ask(b.client, { argsz: 64, index: 9 }).error, EINVAL);
  }
  using b = bench({}, 1);
  const reply = ask(b.client, { argsz: 4096 });
  assertEquals([regionIoFds.decode(reply.payload).count, reply.fds.length], [2, 1]);
  reply.fds[0]!.close();
});

Deno.test("server REGION_READ and REGION_WRITE: data, echo, widths as one access", () => {
  using b = bench();
  for (const width of [1, 2, 4, 8, 3, 100]) {
    const data = Array.from({ length: width }, (_, i) => i + width);
    const wrote = b.client.call(COMMAND.regionWrite, access(0x100n, 0, width, data));
    assertEquals([wrote.error, ...wrote.payload], [0, ...access(0x100n, 0, width)]);
    const read = b.client.call(COMMAND.regionRead, access(0x100n, 0, width));
    assertEquals([...read.payload], [...access(0x100n, 0, width, data)]);
  }
  assertEquals(b.device.log.slice(1, 3), ["write 0 256 1", "read 0 256 1"]);
  assertEquals([...b.client.call(COMMAND.regionRead, access(0n, 7, 4)).payload.subarray(16)], [
    0xf4,
    0x1a,
    0x41,
    0x10,
  ]);
});

Deno.test("server: region accesses out of range, against flags or with a wrong size are refused, and the device sees none", () => {
  using b = bench();
  const before = b.device.log.length;
  const size = BigInt(BAR0_BYTES);
  const bad: [number, Uint8Array<ArrayBuffer>][] = [
    [COMMAND.regionRead, access(size, 0, 1)],
    [COMMAND.regionRead, access(size - 3n, 0, 4)],
    [COMMAND.regionRead, access(0xffff_ffff_ffff_ffffn, 0, 1)],
    [COMMAND.regionRead, access(0xffff_ffff_0000_0000n, 0, 4)],
    [COMMAND.regionRead, access(0n, 1, 1)],
    [COMMAND.regionRead, access(0n, 9, 1)],
    [COMMAND.regionRead, access(0n, 0, (1 << 20) + 1)],
    [COMMAND.regionRead, access(0n, 0, 0xffff_ffff)],
    [COMMAND.regionRead, access(0n, 0, 4, [1])],
    [COMMAND.regionRead, new Uint8Array(15)],
    [COMMAND.regionWrite, access(size - 3n, 0, 4, [1, 2, 3, 4])],
    [COMMAND.regionWrite, access(0n, 6, 1, [1])],
    [COMMAND.regionWrite, access(0n, 0, 4, [1, 2, 3])],
    [COMMAND.regionWrite, access(0n, 0, 4, [1, 2, 3, 4, 5])],
    [COMMAND.regionWrite, access(0n, 0, 4)],
  ];
  for (const [command, payload] of bad) {
    assertEquals(b.client.call(command, payload).error, EINVAL, `${payload}`);
  }
  assertEquals(b.device.log.length, before);
  assertEquals(b.client.call(COMMAND.regionRead, access(size - 4n, 0, 4)).error, 0);
});

Deno.test("server REGION_READ: what the device leaves out is zero, not what an earlier reply held", () => {
  using b = bench();
  b.client.call(COMMAND.regionRead, access(0n, 7, 4));
  b.device.readRegion = () => {};
  for (const width of [4, 100]) {
    assertEquals([...b.client.call(COMMAND.regionRead, access(0n, 7, width)).payload], [
      ...access(0n, 7, width, new Array(width).fill(0)),
    ]);
  }
});

Deno.test("server REGION_WRITE_MULTI: all are checked before one is done", () => {
  using b = bench();
  const multi = (count: bigint, entries: [bigint, number, number, bigint][]): Uint8Array<ArrayBuffer> => {
    const bytes = writeMulti.encode({ writeCount: count }, entries.length * writeMultiEntry.sizeBytes);
    entries.forEach(([offset, region, bytesWritten, data], i) => {
      const at = writeMulti.sizeBytes + i * writeMultiEntry.sizeBytes;
      writeMultiEntry.encodeInto(bytes, at, { offset, region, count: bytesWritten, data });
    });
    return bytes;
  };
  const reply = b.client.call(
    COMMAND.regionWriteMulti,
    multi(3n, [[0x40n, 0, 2, 0x1122n], [0x48n, 0, 8, 0x0102030405060708n], [4n, 7, 1, 6n]]),
  );
  assertEquals([reply.error, writeMulti.decode(reply.payload).writeCount], [0, 3n]);
  assertEquals(b.device.log.slice(1), ["write 0 64 34,17", "write 0 72 8,7,6,5,4,3,2,1", "write 7 4 6"]);
  for (
    const bad of [
      multi(2n, [[0x40n, 0, 2, 1n]]),
      multi(1n, [[0x40n, 0, 9, 1n]]),
      multi(2n, [[0x40n, 0, 2, 1n], [0x4000n, 0, 1, 1n]]),
      multi(201n, new Array(201).fill([0n, 0, 1, 0n])),
      multi(0xffff_ffff_ffff_ffffn, []),
      new Uint8Array(7),
    ]
  ) {
    assertEquals(b.client.call(COMMAND.regionWriteMulti, bad).error, EINVAL);
  }
  assertEquals(b.device.log.length, 4);
});

Deno.test("server: a posted command is carried out and not answered, also when it is wrong", () => {
  using b = bench();
  const posted = { flags: 0x10 };
  assertEquals(b.client.send(message(COMMAND.regionWrite, access(0x80n, 0, 1, [9]), posted)), undefined);
  assertEquals(b.device.bar0[0x80], 9);
  assertEquals(b.client.send(message(COMMAND.regionWrite, access(0x8000n, 0, 1, [9]), posted)), undefined);
  assertEquals(b.client.send(message(99, undefined, posted)), undefined);
  assertEquals(b.client.call(COMMAND.deviceReset, undefined, [], { id: 5 }).id, 5);
});

Deno.test("server: pipelined messages are answered in order", () => {
  using b = bench();
  const parts = Array.from({ length: 200 }, (_, id) => message(COMMAND.regionRead, access(0n, 7, 4), { id }));
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.byteLength), 0);
  const ids = [b.client.send(all)!.id];
  for (let reply = b.client.receive(); reply !== undefined; reply = b.client.receive()) ids.push(reply.id);
  assertEquals(ids, Array.from({ length: 200 }, (_, id) => id));
});
