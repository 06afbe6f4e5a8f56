/** The server, message by message, with a client that sends exactly what it is told to. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  createMemfd,
  errnoNumber,
  EventFd,
  fileSizeBytes,
  MappedMemory,
  mappingCount,
  O,
  openFdCount,
  OwnedFd,
  removeFile,
  UnixSocket,
  writeAll,
} from "../../../ffi/mod.ts";
import { ClosedError, ProtocolError, UsageError } from "../../../lib/errors/mod.ts";
import { IRQ_SET } from "../../../lib/vfio/device.ts";
import { decodeVersion } from "../../../lib/vfio/vfio_user/capabilities.ts";
import {
  COMMAND,
  deviceFeature,
  dmaMap,
  dmaUnmap,
  messageHeader,
  regionAccess,
  regionIoFds,
  userDeviceInfo,
  userIrqInfo,
  userIrqSet,
  versionMessage,
  writeMulti,
  writeMultiEntry,
} from "../../../lib/vfio/vfio_user/protocol.ts";
import { decodeRegionInfo } from "../../../lib/vfio/region_answer.ts";
import { regionInfo } from "../../../lib/vfio/kernel/abi.ts";
import { VfioUserServer, type VfioUserServerOptions } from "../../../lib/vfio/vfio_user/mod.ts";
import { BAR0_BYTES, FakeDevice, REGISTER } from "./fake_device.ts";
import { message, RawClient, testSocketPath, versionPayload } from "./raw_client.ts";

const { EINVAL, ENOTSUP, EEXIST, ENOENT, ENOSPC, ENOTTY, EBUSY, EMSGSIZE, EIO } = errnoNumber;
const { dataNone, dataBool, dataEventfd, actionMask, actionUnmask, actionTrigger } = IRQ_SET;

interface Bench extends Disposable {
  device: FakeDevice;
  server: VfioUserServer;
  client: RawClient;
}

/** A server with a client, and a check that neither leaks anything. */
function bench(options: VfioUserServerOptions = {}, maxMessageFds?: number): Bench {
  const before = [openFdCount(), mappingCount().mappings];
  const device = new FakeDevice();
  const server = VfioUserServer.listen(testSocketPath(), device, options);
  const client = new RawClient(server, maxMessageFds === undefined ? {} : { maxMessageFds });
  const dispose = () => {
    client[Symbol.dispose]();
    server.close();
    device[Symbol.dispose]();
    assertEquals([openFdCount(), mappingCount().mappings], before, "descriptors and mappings leak");
  };
  return { device, server, client, [Symbol.dispose]: dispose };
}

Deno.test("server VERSION: major and minor, capabilities within the offer; QEMU's 0.0 is answered with 0.0", () => {
  using b = bench();
  for (const [minor, answered] of [[0, 0], [1, 1], [7, 1]] as const) {
    b.client.socket.close();
    b.server.handleReadable();
    const client = new RawClient(b.server, { negotiate: false });
    const reply = client.call(COMMAND.version, versionPayload(minor), [], { id: 77 });
    const { major, minor: got, capabilities, named } = decodeVersion(reply.payload, "server");
    assertEquals([reply.id, reply.flags, reply.error, major, got], [77, 1, 0, 0, answered]);
    assertEquals(capabilities.maxMessageFds, 16);
    assert(capabilities.writeMultiple);
    assertEquals(named.size, 5);
    client.socket.close();
    b.server.handleReadable();
  }
  using bare = new RawClient(b.server, { negotiate: false });
  const reply = bare.call(COMMAND.version, versionMessage.encode({}));
  assertEquals(new TextDecoder().decode(reply.payload.subarray(4)), '{"capabilities":{}}\0');
});

Deno.test("server VERSION: a bad one is refused with EINVAL and ends the connection", () => {
  using b = bench();
  b.client.socket.close();
  for (
    const payload of [
      new Uint8Array(2),
      versionMessage.encode({ major: 1 }),
      new Uint8Array([0, 0, 0, 0, 65]),
    ]
  ) {
    using client = new RawClient(b.server, { negotiate: false });
    assertEquals(client.call(COMMAND.version, payload).error, EINVAL);
    assert(client.ended);
    assertEquals(b.server.connectionFd, null);
  }
  using early = new RawClient(b.server, { negotiate: false });
  assertEquals(early.call(COMMAND.deviceReset).error, EINVAL);
  assert(early.ended);
  assertEquals(b.device.log.filter((line) => line !== "attached" && line !== "detached"), []);
});

Deno.test("server VERSION: a second one is refused, the connection goes on", () => {
  using b = bench();
  assertEquals(b.client.call(COMMAND.version, versionPayload()).error, EINVAL);
  assertEquals(b.client.call(COMMAND.deviceReset).error, 0);
});

Deno.test("server DEVICE_GET_INFO, GET_IRQ_INFO: answers, and refusals of a short argsz or a wrong index", () => {
  using b = bench();
  const info = b.client.call(COMMAND.deviceGetInfo, userDeviceInfo.encode({ argsz: 16 }));
  assertEquals(userDeviceInfo.decode(info.payload), { argsz: 16, flags: 3, numRegions: 9, numIrqs: 5 });
  assertEquals(b.client.call(COMMAND.deviceGetInfo, userDeviceInfo.encode({ argsz: 15 })).error, EINVAL);
  assertEquals(b.client.call(COMMAND.deviceGetInfo, new Uint8Array(15)).error, EINVAL);
  const irq = b.client.call(COMMAND.deviceGetIrqInfo, userIrqInfo.encode({ argsz: 16, index: 2 }));
  assertEquals(userIrqInfo.decode(irq.payload), { argsz: 16, flags: 9, index: 2, count: 8 });
  assertEquals(
    b.client.call(COMMAND.deviceGetIrqInfo, userIrqInfo.encode({ argsz: 16, index: 5 })).error,
    EINVAL,
  );
  assertEquals(
    b.client.call(COMMAND.deviceGetIrqInfo, userIrqInfo.encode({ argsz: 0, index: 1 })).error,
    EINVAL,
  );
});

Deno.test("server GET_REGION_INFO: capabilities and one file, which is the region's", () => {
  using b = bench();
  const ask = (index: number, argsz: number) =>
    b.client.call(COMMAND.deviceGetRegionInfo, regionInfo.encode({ argsz, index }));
  const reply = ask(2, 4096);
  assertEquals(decodeRegionInfo(reply.payload, 2, "server").info.mmapAreas, b.device.region(2).mmapAreas);
  assertEquals(reply.fds.length, 1);
  const [file] = reply.fds;
  assertEquals(fileSizeBytes(file!), 0x10000);
  file!.close();
  const short = ask(2, 32);
  assertEquals([short.payload.byteLength, short.fds.length], [32, 0]);
  assertEquals(ask(0, 32).fds.length, 0);
  assertEquals([ask(9, 32).error, ask(0xffff_ffff, 32).error, ask(0, 31).error], [EINVAL, EINVAL, EINVAL]);
});

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

function access(offset: bigint, region: number, count: number, data: number[] = []): Uint8Array<ArrayBuffer> {
  const bytes = regionAccess.encode({ offset, region, count }, data.length);
  bytes.set(data, regionAccess.sizeBytes);
  return bytes;
}

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

function irqs(
  flags: number,
  index: number,
  start: number,
  count: number,
  data: number[] = [],
): Uint8Array<ArrayBuffer> {
  const argsz = userIrqSet.sizeBytes + data.length;
  const bytes = userIrqSet.encode({ argsz, flags, index, start, count }, data.length);
  bytes.set(data, userIrqSet.sizeBytes);
  return bytes;
}

Deno.test("server SET_IRQS: what libvfio-user's rules allow reaches the device", () => {
  using b = bench();
  using one = new EventFd();
  using two = new EventFd();
  const set = (payload: Uint8Array, fds: EventFd[] = []) =>
    assertEquals(b.client.call(COMMAND.deviceSetIrqs, payload, fds.map(({ fd }) => fd)).error, 0);
  set(irqs(dataEventfd | actionTrigger, 2, 1, 2), [one, two]);
  assertEquals(b.device.eventFdCount, 2);
  set(irqs(dataNone | actionTrigger, 2, 1, 2));
  assertEquals([one.take(), two.take()], [1, 1]);
  set(irqs(dataBool | actionTrigger, 2, 1, 2, [0, 1]));
  assertEquals([one.take(), two.take()], [0, 1]);
  set(irqs(dataEventfd | actionTrigger, 2, 1, 1));
  assertEquals(b.device.eventFdCount, 1);
  set(irqs(dataNone | actionTrigger, 2, 0, 0));
  assertEquals(b.device.eventFdCount, 0);
  set(irqs(dataNone | actionMask, 0, 0, 1));
  set(irqs(dataBool | actionUnmask, 0, 0, 1, [1]));
  set(irqs(dataEventfd | actionUnmask, 0, 0, 1), [one]);
  assertEquals(b.device.log.slice(1), [
    "irq 2 trigger 1 1,1",
    "irq 2 fire 1 2",
    "irq 2 fire 2 1",
    "irq 2 trigger 1 0",
    "irq 2 disable",
    "irq 0 mask 0 1",
    "irq 0 unmask 0 1",
    "irq 0 unmask-on 0",
  ]);
});

Deno.test("server SET_IRQS: everything else is refused, and the descriptors are closed", () => {
  using b = bench();
  using event = new EventFd();
  using file = createMemfd("no eventfd", 4096);
  const before = openFdCount();
  const bad: [number | undefined, Uint8Array, number][] = [
    [EINVAL, irqs(dataNone, 2, 0, 1), 0],
    [EINVAL, irqs(actionTrigger, 2, 0, 1), 0],
    [EINVAL, irqs(dataNone | dataBool | actionTrigger, 2, 0, 1), 0],
    [EINVAL, irqs(dataNone | actionMask | actionTrigger, 2, 0, 1), 0],
    [EINVAL, irqs(dataNone | actionTrigger | 0x40, 2, 0, 1), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 5, 0, 1), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 8, 1), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 7, 2), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 1, 0xffff_ffff), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 1, 0), 0],
    [EINVAL, irqs(dataBool | actionTrigger, 2, 0, 0), 0],
    [EINVAL, irqs(dataNone | actionMask, 0, 0, 0), 0],
    [EINVAL, irqs(dataBool | actionTrigger, 2, 0, 2, [1]), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 0, 2, [1, 1]), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 0, 1), 1],
    [EINVAL, irqs(dataEventfd | actionTrigger, 2, 0, 2), 1],
    [EINVAL, irqs(dataEventfd | actionTrigger, 2, 0, 1), 2],
    [EINVAL, irqs(dataEventfd | actionTrigger, 2, 0, 0), 0],
    [ENOTTY, irqs(dataNone | actionMask, 2, 0, 1), 0],
    [ENOTSUP, irqs(dataEventfd | actionMask, 0, 0, 1), 1],
    [ENOTSUP, irqs(dataEventfd | actionUnmask, 0, 0, 1), 0],
    [EINVAL, userIrqSet.encode({ argsz: 19, flags: dataNone | actionTrigger, index: 2 }), 0],
    [EINVAL, new Uint8Array(19), 0],
  ];
  for (const [error, payload, fds] of bad) {
    const reply = b.client.call(COMMAND.deviceSetIrqs, payload, new Array(fds).fill(event.fd));
    assertEquals(reply.error, error, `${payload}`);
  }
  const noEventFd = b.client.call(COMMAND.deviceSetIrqs, irqs(dataEventfd | actionTrigger, 2, 0, 2), [
    event.fd,
    file,
  ]);
  assertEquals(noEventFd.error, EINVAL);
  assertEquals(b.device.log, ["attached"]);
  b.client.call(COMMAND.deviceReset);
  assertEquals(openFdCount(), before);
});

function map(
  values: Partial<{ argsz: number; flags: number; offset: bigint; address: bigint; size: bigint }>,
) {
  return dmaMap.encode({ argsz: 32, flags: 3, address: 0x10000n, size: 0x4000n, ...values });
}

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

Deno.test("server DMA_MAP: without a file the range is taken but not reachable", () => {
  using b = bench();
  assertEquals(b.client.call(COMMAND.dmaMap, map({})).error, 0);
  assertEquals([b.server.dma.count, b.server.dma.regions.length], [1, 0]);
  assert(!b.server.dma.find(0x10000, 0, 4, false));
  assertEquals(b.client.call(COMMAND.dmaMap, map({ address: 0x13000n })).error, EEXIST);
  assertEquals(b.client.call(COMMAND.dmaMap, map({ address: 0x20000n, flags: 3 | 4 })).error, EINVAL);
  const unmap = dmaUnmap.encode({ argsz: 24, address: 0x10000n, size: 0x4000n });
  assertEquals(b.client.call(COMMAND.dmaUnmap, unmap).error, 0);
  assertEquals(b.device.log, ["attached"], "the device never saw it");
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
  using b = bench({ requireSealed: true });
  using sealed = createMemfd("sealed", 0x4000);
  assertEquals(b.client.call(COMMAND.dmaMap, map({}), [sealed]).error, 0);
  const path = `${testSocketPath()}.file`;
  using unsealed = OwnedFd.open(path, O.RDWR | O.CREAT | O.EXCL);
  removeFile(path);
  writeAll(unsealed, new Uint8Array(0x4000));
  assertEquals(b.client.call(COMMAND.dmaMap, map({ address: 0x80000n }), [unsealed]).error, EINVAL);
  using lax = bench();
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
  assertEquals(b.device.log.slice(-2), ["unmap 10000 16384", "unmap 30000 16384"]);
  assertEquals(b.server.dma.count, 0, "but the memory is gone");
});

Deno.test("server: reset, feature, unknown commands, flags and stray descriptors", () => {
  using b = bench();
  using event = new EventFd();
  const before = openFdCount();
  assertEquals(b.client.call(COMMAND.deviceReset).error, 0);
  assertEquals(b.device.log.at(-1), "reset");
  assertEquals(b.client.call(COMMAND.deviceReset, new Uint8Array(1)).error, EINVAL);
  const probe = deviceFeature.encode({ argsz: 8, flags: (1 << 18) | 11 });
  assertEquals(b.client.call(COMMAND.deviceFeature, probe).error, ENOTTY);
  assertEquals(b.client.call(COMMAND.deviceFeature, new Uint8Array(7)).error, EINVAL);
  for (const command of [0, 14, 17, 18, 19, 0xffff, COMMAND.dmaRead, COMMAND.dmaWrite]) {
    const reply = b.client.call(command);
    assertEquals([reply.command, reply.error, reply.flags], [command, ENOTSUP, 0x21]);
  }
  assertEquals(b.client.call(COMMAND.deviceReset, undefined, [], { flags: 0x40 }).error, EINVAL);
  assertEquals(b.client.call(COMMAND.deviceReset, undefined, [], { flags: 0x20 }).error, EINVAL);
  assertEquals(b.client.call(COMMAND.deviceReset, undefined, [event.fd]).error, EINVAL);
  b.client.call(COMMAND.deviceReset);
  assertEquals(openFdCount(), before);
});

Deno.test("server: a message that cannot be ends the connection; the next client is served", () => {
  using b = bench();
  b.client.socket.close();
  b.server.handleReadable();
  const breaches: [Uint8Array<ArrayBuffer>, number | undefined][] = [
    [message(COMMAND.deviceReset, undefined, { size: 15 }), EINVAL],
    [message(COMMAND.deviceReset, undefined, { size: 0 }), EINVAL],
    [message(COMMAND.regionWrite, undefined, { size: (1 << 20) + 64 }), EMSGSIZE],
    [message(COMMAND.deviceReset, undefined, { flags: 3 }), EINVAL],
    [message(COMMAND.deviceReset, undefined, { flags: 1 }), undefined],
  ];
  for (const [bytes, error] of breaches) {
    using client = new RawClient(b.server);
    const reply = client.send(bytes);
    assertEquals(reply?.error, error);
    assert(client.ended);
    assert(b.server.lastReason instanceof ProtocolError);
    assertEquals([b.server.connectionFd, b.device.log.at(-1)], [null, "detached"]);
  }
  using next = new RawClient(b.server);
  assertEquals(next.call(COMMAND.deviceReset).error, 0);
});

Deno.test("server: a client that dies in the middle of a message leaves nothing behind", () => {
  const before = [openFdCount(), mappingCount().mappings];
  {
    using b = bench();
    using file = createMemfd("memory", 0x4000);
    using event = new EventFd();
    b.client.call(COMMAND.dmaMap, map({}), [file]);
    b.client.call(COMMAND.deviceSetIrqs, irqs(dataEventfd | actionTrigger, 2, 0, 1), [event.fd]);
    const open = openFdCount();
    b.client.socket.send(message(COMMAND.dmaMap, map({ address: 0x80000n })).slice(0, 30), [file]);
    b.client.socket.close();
    b.server.handleReadable();
    assert(b.server.lastReason?.message.includes("30 bytes into a message"));
    assertEquals([b.server.connected, b.server.dma.count, b.device.eventFdCount], [false, 0, 0]);
    assertEquals(openFdCount(), open - 3, "its socket at both ends, and the eventfd");
  }
  assertEquals([openFdCount(), mappingCount().mappings], before);
});

Deno.test("server: an orderly end has no reason; the same device serves the next client", () => {
  using b = bench();
  b.client.socket.close();
  b.server.handleReadable();
  assertEquals([b.server.lastReason, b.server.connectionFd], [null, null]);
  using next = new RawClient(b.server);
  assert(b.server.connected);
  assertEquals(b.device.log, ["attached", "detached", "attached"]);
  assertEquals(next.call(COMMAND.deviceReset).error, 0);
});

Deno.test("server: a second client is refused with EBUSY, the first goes on", () => {
  using b = bench();
  const eager = UnixSocket.connect(b.server.path);
  eager.send(message(COMMAND.version, versionPayload(), { id: 321 }));
  const slow = UnixSocket.connect(b.server.path);
  b.server.handleReadable();
  for (const [socket, id] of [[eager, 321], [slow, 0]] as const) {
    const bytes = new Uint8Array(64);
    assertEquals(socket.receive(bytes)!.length, 16);
    assertEquals([...bytes.subarray(0, 16)], [
      ...message(COMMAND.version, undefined, { id, flags: 0x21, error: EBUSY! }),
    ]);
    socket.close();
  }
  assertEquals(b.client.call(COMMAND.deviceReset).error, 0);
});

Deno.test("server: the place of a client that died is free for one that connects at the same time", () => {
  using b = bench();
  b.client.socket.close();
  const next = UnixSocket.connect(b.server.path);
  next.send(message(COMMAND.version, versionPayload(), { id: 9 }));
  b.server.handleListener();
  const answer = new Uint8Array(1024);
  next.receive(answer);
  assertEquals(messageHeader.decode(answer).errorNumber, 0);
  assertEquals(b.device.log, ["attached", "detached", "attached"]);
  next.close();
});

Deno.test("server: watchers hear of each connection, before its descriptor is closed", () => {
  const heard: string[] = [];
  const watcher = {
    connected: (fd: { number: number }) => void heard.push(`+${fd.number > 0}`),
    disconnecting: (fd: { number: number }, reason: Error | null) =>
      void heard.push(`-${fd.number > 0} ${reason}`),
  };
  using b = bench({ watcher });
  assertEquals(b.server.fds().length, 2);
  b.client.socket.close();
  b.server.handleReadable();
  assertEquals(heard, ["+true", "-true null"]);
  assertEquals(b.server.fds().length, 1);
});

Deno.test("server: errors of the device become error replies; a bug of it ends the connection and comes out", () => {
  using b = bench();
  b.client.call(COMMAND.regionWrite, access(BigInt(REGISTER.length), 0, 4, [4, 0, 0, 0]));
  const fault = b.client.call(COMMAND.regionWrite, access(BigInt(REGISTER.fill), 0, 4, [1, 0, 0, 0]));
  assertEquals(fault.error, EINVAL, "a DmaFault");
  b.client.socket.send(message(COMMAND.regionWrite, access(BigInt(REGISTER.bug), 0, 4, [0, 0, 0, 0])));
  assertThrows(() => b.server.handleReadable(), TypeError, "a bug of the device");
  assertEquals(b.client.receive()!.error, EIO);
  assertEquals([b.server.connectionFd, b.device.log.at(-1)], [null, "detached"]);
});

Deno.test("server: a client that never reads its replies is let go", () => {
  using b = bench({ sendTimeoutMs: 20 });
  const read = message(COMMAND.regionRead, access(0n, 2, 0x10000));
  for (let i = 0; i < 50 && b.server.connected; i++) {
    b.client.socket.send(read);
    b.server.handleReadable();
  }
  assertEquals([b.server.connected, b.server.lastReason?.name], [false, "TimeoutError"]);
});

Deno.test("server: after close everything is a ClosedError, and the socket is gone", () => {
  const device = new FakeDevice();
  const server = VfioUserServer.listen(testSocketPath(), device);
  const client = new RawClient(server);
  server.close();
  server.close();
  assertEquals(device.log, ["attached", "detached"]);
  assertThrows(() => server.handleReadable(), ClosedError);
  assertThrows(() => server.fds(), ClosedError);
  assertThrows(() => UnixSocket.connect(server.path), Error, "ENOENT");
  client[Symbol.dispose]();
  device[Symbol.dispose]();
});

Deno.test("server: options that cannot be are UsageErrors", () => {
  using device = new FakeDevice();
  const before = openFdCount();
  for (
    const options of [{ maxMessageFds: 0 }, { maxMessageFds: 65 }, { maxDataTransferBytes: 7 }, {
      maxDmaMaps: -1,
    }]
  ) {
    assertThrows(() => VfioUserServer.listen(testSocketPath(), device, options), UsageError);
  }
  assertEquals(openFdCount(), before);
});
