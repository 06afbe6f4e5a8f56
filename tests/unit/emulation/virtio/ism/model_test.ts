/** The virtio-ism device against its rules (reference 5): commands, permissions, memory. */
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  errnoNumber,
  MappedMemory,
  mappingCount,
  openFdCount,
  SyscallError,
} from "../../../../../ffi/mod.ts";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { IsmDomains } from "../../../../../lib/emulation/virtio/ism/domain.ts";
import { reportDomain } from "../../../../../lib/emulation/virtio/ism/report.ts";
import {
  ATTACH,
  CHUNK,
  chunksOf,
  CLEAN,
  E2BIG,
  EATTACH,
  ENOENT,
  ENOMEM,
  ENOSPC,
  EREAD,
  ERR,
  EWRITE,
  IsmRig,
  MANAGE,
  OK,
  READ,
  rigs,
  words,
  WRITE,
} from "./rig.ts";
import { capabilityBytes } from "../capability_bytes.ts";

Deno.test("N-5.1 A-5.7 config: 40 bytes, cdid a v4 UUID and the domain's, devid not 0, unique, and the same after a reset", () => {
  const domains = new IsmDomains();
  using a = new IsmRig(domains, { domain: "one" }, "0000:01:00.0");
  using b = new IsmRig(domains, { domain: "one" }, "0000:02:00.0");
  using c = new IsmRig(domains, { domain: "two", notifySize: 16 }, "0000:03:00.0");
  const cdid = (rig: IsmRig) => rig.config().slice(0, 16);
  assertEquals(cdid(a), cdid(b));
  assertNotEquals(cdid(a), cdid(c));
  assertEquals(cdid(a)[6]! >> 4, 4, "version");
  assertEquals(cdid(a)[8]! >> 6, 2, "variant");
  assert(a.devid !== 0n && b.devid !== 0n && a.devid !== b.devid);
  const view = new DataView(c.config().buffer);
  assertEquals(view.getBigUint64(24, true), BigInt(CHUNK));
  assertEquals(view.getBigUint64(32, true), 16n);
  const before = a.config();
  a.fn.status = 0;
  assertEquals(a.config(), before);
  a.up();
  assertEquals(a.config(), before);
  assertEquals(a.front.identity.deviceId, 0x106c);
});

Deno.test("N-5.1 A-5.1 options that cannot be, and functions of a domain that disagree, are UsageErrors", () => {
  const domains = new IsmDomains();
  for (
    const options of [
      { chunkSize: 2048 },
      { chunkSize: 12288 },
      { chunks: 0 },
      { chunks: 65537 },
      {
        notifySize: 0,
      },
      { memory: -1 },
      { lie: "ism-nothing" },
    ]
  ) {
    const place = { address: "0000:01:00.0" };
    assertThrows(
      () => createVirtioModels().createBehaviour("virtio-ism", { ...place, ...options }),
      UsageError,
    );
  }
  using _a = new IsmRig(domains);
  for (
    const settings of [{ chunkSizeBytes: 8192, memoryBytes: 1 << 20 }, {
      chunkSizeBytes: CHUNK,
      memoryBytes: 1,
    }]
  ) {
    assertThrows(() => domains.domain("d0", settings), UsageError, "another of its functions says");
  }
});

Deno.test("N-5.2 1.7 both areas are announced by virtio_pci_cap64, inside one BAR, each chunk with a notify address", () => {
  using list = rigs(1);
  const { front, model } = list.a;
  const caps = capabilityBytes(front.vendorCapabilities).filter((bytes) => bytes[3] === 8);
  const decoded = caps.map((bytes) => {
    const view = new DataView(bytes.buffer);
    return {
      id: bytes[5],
      bar: bytes[4],
      length: bytes[2],
      offset: view.getUint32(8, true) + 2 ** 32 * view.getUint32(16, true),
      size: view.getUint32(12, true) + 2 ** 32 * view.getUint32(20, true),
    };
  });
  assertEquals(decoded, [
    { id: 1, bar: 2, length: 24, offset: 0, size: 64 * CHUNK },
    { id: 2, bar: 2, length: 24, offset: 0x40000, size: 64 * 4 },
  ]);
  const bar = front.bars.find(({ index }) => index === 2)!;
  assertEquals([bar.kind, bar.prefetchable, bar.sizeBytes, bar.mapping], ["mem64", true, 0x80000, undefined]);
  assertEquals(model.sharedMemory.areas.length, 2);
});

Deno.test("1.7 an area past 4 GiB is announced with its upper halves", () => {
  using rig = new IsmRig(new IsmDomains(), { chunkSize: 1 << 20, chunks: 8192 });
  const caps = capabilityBytes(rig.front.vendorCapabilities).filter((bytes) => bytes[3] === 8);
  const [regions, notify] = caps.map((bytes) => new DataView(bytes.buffer));
  assertEquals([regions!.getUint32(12, true), regions!.getUint32(20, true)], [0, 2]);
  assertEquals([notify!.getUint32(8, true), notify!.getUint32(16, true)], [0, 2]);
});

Deno.test("N-5.4 ALLOC: token, chunks in order, memory of zeroes that follows the chunks; less than a chunk takes one", () => {
  using list = rigs(2);
  const { a, b } = list;
  const { ack, reply, used } = a.alloc(3 * CHUNK - 100);
  assertEquals([ack, used], [OK, 1 + 16 + 3 * 8]);
  const token = reply.getBigUint64(0, true);
  assertNotEquals(token, 0n);
  const chunks = chunksOf(reply);
  assertEquals(chunks.length, 3);
  for (const chunk of chunks) assertEquals(a.read(chunk * CHUNK, CHUNK), new Uint8Array(CHUNK));
  const small = a.region(1);
  assertEquals(small.chunks.length, 1);
  assertNotEquals(small.token, token);
  // Written in order of the chunks, read through another function's chunks.
  chunks.forEach((chunk, i) => a.write(chunk * CHUNK + 8, [10 + i]));
  const theirs = b.attached(token);
  assertEquals(theirs.map((chunk) => b.read(chunk * CHUNK + 8, 1)[0]), [10, 11, 12]);
  assertEquals(a.fn.port.take(), []);
});

Deno.test("N-5.4 memory that was another region's before is zero, and reading past one access's chunk follows the region", () => {
  using list = rigs(1);
  const { a } = list;
  const first = a.region(2 * CHUNK);
  a.write(first.chunks[0]! * CHUNK, new Array(2 * CHUNK).fill(0xaa));
  assertEquals(a.read(first.chunks[0]! * CHUNK + CHUNK - 4, 8), new Uint8Array(8).fill(0xaa));
  assertEquals(a.detach(first.token), OK);
  const second = a.region(2 * CHUNK);
  assertEquals(second.chunks, first.chunks, "the same place");
  assertEquals(a.read(second.chunks[0]! * CHUNK, 2 * CHUNK), new Uint8Array(2 * CHUNK));
});

Deno.test("N-5.4 tokens are unique, and tell nothing about each other", () => {
  using list = rigs(1);
  const { a } = list;
  const tokens = Array.from({ length: 64 }, () => a.region(CHUNK).token);
  assertEquals(new Set(tokens).size, 64);
  const steps = new Set(tokens.slice(1).map((token, i) => BigInt.asUintN(64, token - tokens[i]!)));
  assertEquals(steps.size, 63, "no constant step");
  // Of 64 random tokens, every one of the upper 16 bits is set in some and clear in others.
  for (let bit = 48n; bit < 64n; bit++) {
    const set = tokens.filter((token) => (token >> bit & 1n) === 1n).length;
    assert(set > 8 && set < 56, `bit ${bit} is set in ${set} of 64`);
  }
});

Deno.test("N-5.5 ALLOC: ENOSPC without chunks, ENOMEM without memory, in that order; A-5.1 with the defined values", () => {
  using list = rigs(2, { memory: 80 * CHUNK });
  const { a, b } = list;
  assertEquals(a.alloc(65 * CHUNK).ack, ENOSPC);
  assertEquals(a.alloc(1n << 63n).ack, ENOSPC);
  assertEquals(a.alloc((1n << 64n) - 1n).ack, ENOSPC);
  const all = a.region(64 * CHUNK);
  assertEquals(a.alloc(1).ack, ENOSPC);
  assertEquals(b.alloc(17 * CHUNK).ack, ENOMEM, "of 80 chunks of memory 16 are left");
  assertEquals(b.alloc(16 * CHUNK).ack, OK);
  assertEquals(b.alloc(1).ack, ENOMEM);
  assertEquals(a.detach(all.token), OK);
  assertEquals(b.alloc(1).ack, OK);
  assertEquals(a.fn.port.take(), []);
});

Deno.test("N-5.5 A-5.5 A-5.6 ALLOC: E2BIG says num, leaves nothing behind, and with num's room the next try succeeds", () => {
  using list = rigs(1);
  const { a } = list;
  const before = openFdCount();
  for (const room of [16, 16 + 8, 16 + 4 * 8 + 7]) {
    const { ack, reply, used } = a.alloc(5 * CHUNK, room);
    assertEquals([ack, used], [E2BIG, 1 + 16]);
    assertEquals([reply.getBigUint64(0, true), reply.getBigUint64(8, true)], [0n, 5n]);
  }
  for (const room of [0, 8, 15]) {
    assertEquals([a.alloc(5 * CHUNK, room).ack, a.alloc(5 * CHUNK, room).used], [E2BIG, 1]);
  }
  const domain = a.model.domain!;
  assertEquals([domain.regions.size, domain.memoryUsedBytes, a.model.member!.chunks.free], [0, 0, 64]);
  assertEquals(openFdCount(), before);
  assertEquals(a.alloc(5 * CHUNK, 16 + 5 * 8).ack, OK);
  assertEquals(a.alloc(65 * CHUNK, 0).ack, ENOSPC, "ENOSPC comes before E2BIG");
});

Deno.test("A-5.19 ALLOC of 0 bytes is ERR", () => {
  using list = rigs(1);
  assertEquals(list.a.alloc(0).ack, ERR);
  assert(list.a.fn.port.take()[0]!.includes("A-5.19"));
});

Deno.test("N-5.7 QUERY: ENOENT, or size and the asker's own permissions, attached or not", () => {
  using list = rigs(3);
  const { a, b, c } = list;
  const { token } = a.region(5000);
  const ask = (rig: IsmRig) => {
    const { ack, reply } = rig.query(token);
    return [ack, reply.getBigUint64(0, true), reply.getBigUint64(8, true)];
  };
  assertEquals(ask(a), [OK, 5000n, 15n]);
  assertEquals(ask(b), [OK, 5000n, 7n]);
  assertEquals(a.grant(token, READ, b.devid), OK);
  assertEquals(ask(b), [OK, 5000n, 1n]);
  assertEquals(ask(c), [OK, 5000n, 7n]);
  assertEquals([b.query(token + 1n).ack, b.query(0n).ack], [ENOENT, ENOENT]);
});

Deno.test("N-5.8 A-5.21 ATTACH: each refusal, and the first of several that apply", () => {
  using list = rigs(2, { chunks: 4 });
  const { a, b } = list;
  const { token } = a.region(2 * CHUNK);
  assertEquals(a.grantDefault(token, 0), OK);
  const filler = b.region(3 * CHUNK);
  // Everything is wrong: permissions, room for chunks, room in the reply. One after the other is put right.
  const attempt = (rights: number, room = 16) => b.attach(token, rights, room).ack;
  assertEquals(b.attach(token + 1n, READ | WRITE, 16).ack, ENOENT);
  assertEquals(attempt(READ | WRITE), EATTACH);
  assertEquals(a.grantDefault(token, ATTACH), OK);
  assertEquals(attempt(READ | WRITE), EREAD);
  assertEquals(attempt(WRITE), EWRITE);
  assertEquals(a.grantDefault(token, ATTACH | READ), OK);
  assertEquals(attempt(READ | WRITE), EWRITE);
  assertEquals(attempt(READ), ENOSPC);
  assertEquals(b.detach(filler.token), OK);
  assertEquals(attempt(READ, 0), E2BIG);
  const { ack, reply } = b.attach(token, READ, 16 + 8);
  assertEquals([ack, reply.getBigUint64(0, true), reply.getBigUint64(8, true)], [
    E2BIG,
    BigInt(2 * CHUNK),
    2n,
  ]);
  assertEquals(b.model.member!.chunks.free, 4, "E2BIG takes nothing");
  assertEquals(b.attach(token, READ, 16 + 16).ack, OK);
});

Deno.test("N-5.8 A-5.4 ATTACH: size, num and chunks of this function's own area", () => {
  using list = rigs(2);
  const { a, b } = list;
  b.region(CHUNK);
  const { token } = a.region(2 * CHUNK + 1);
  const { ack, reply, used } = b.attach(token);
  assertEquals([ack, used], [OK, 1 + 16 + 24]);
  assertEquals(reply.getBigUint64(0, true), BigInt(2 * CHUNK + 1));
  const chunks = chunksOf(reply);
  assertEquals(chunks.length, 3);
  assert(!chunks.includes(0), "chunk 0 is b's own region");
});

Deno.test("A-5.17 ATTACH of what is attached already, by the allocator or anyone, is ERR", () => {
  using list = rigs(2);
  const { a, b } = list;
  const { token } = a.region(CHUNK);
  assertEquals(a.attach(token).ack, ERR);
  assertEquals(b.attach(token).ack, OK);
  assertEquals(b.attach(token).ack, ERR);
  assertEquals(b.model.member!.chunks.free, 63);
  assertEquals(a.fn.port.take().length + b.fn.port.take().length, 2);
});

Deno.test("N-5.8 A-5.24 ATTACH: rw_perm with other bits is ERR, and changes nothing", () => {
  using list = rigs(2);
  const { a, b } = list;
  const { token } = a.region(CHUNK);
  for (const extra of [ATTACH, MANAGE, CLEAN, 0x100]) {
    assertEquals(b.attach(token, READ | extra).ack, ERR);
  }
  assertEquals(b.command([2, 0], words(token, 1n << 63n | 1n), 64).ack, ERR);
  assertEquals([b.model.member!.attachments.size, b.model.member!.chunks.free], [0, 64]);
  // What there is not comes first.
  assertEquals(b.attach(token + 1n, 0x100).ack, ENOENT);
});

Deno.test("N-5.9 the right that was asked for is all that there is: reads of all ones, writes into nothing, no mapping beyond it", () => {
  using list = rigs(4);
  const { a, b: reader, c: writer, d: neither } = list;
  const { token, chunks } = a.region(CHUNK);
  a.write(chunks[0]! * CHUNK, [1, 2, 3, 4]);
  const place = (rig: IsmRig, rights: number) => rig.attached(token, rights)[0]! * CHUNK;

  const r = place(reader, READ);
  assertEquals([...reader.read(r, 4)], [1, 2, 3, 4]);
  reader.write(r, [9]);
  assertEquals(reader.fn.port.take().map((text) => text.slice(0, 6)), ["N-5.9:"]);
  const w = place(writer, WRITE);
  writer.write(w + 1, [7]);
  assertEquals([...writer.read(w, 2)], [0xff, 0xff]);
  assertEquals(writer.fn.port.take().map((text) => text.slice(0, 6)), ["N-5.9:"]);
  const n = place(neither, 0);
  assertEquals([...neither.read(n, 2)], [0xff, 0xff]);
  neither.write(n, [5]);
  assertEquals(neither.fn.port.take().length, 2);
  assertEquals([...a.read(chunks[0]! * CHUNK, 4)], [1, 7, 3, 4]);

  const map = (rig: IsmRig, at: number, writable: boolean) => rig.front.mapArea(2, at, CHUNK, writable);
  const denied = (rig: IsmRig, at: number, writable: boolean) => {
    const error = assertThrows(() => map(rig, at, writable), SyscallError);
    assertEquals(error.errno, errnoNumber.EACCES);
  };
  denied(reader, r, true);
  denied(writer, w, true);
  denied(writer, w, false);
  denied(neither, n, false);
  const given = map(reader, r, false)!;
  assertEquals(given.writable, false);
  const refused = assertThrows(() => MappedMemory.map(given.file, CHUNK), SyscallError);
  assertEquals(refused.errno, errnoNumber.EACCES);
  using memory = MappedMemory.map(given.file, CHUNK, { writable: false });
  assertEquals([...memory.copy(0, 4)], [1, 7, 3, 4]);
  assertEquals(map(a, chunks[0]! * CHUNK, false)!.writable, false, "for reading only, who asks for no more");
  using own = MappedMemory.map(map(a, chunks[0]! * CHUNK, true)!.file, CHUNK);
  own.bytes()[0] = 88;
  assertEquals([...memory.copy(0, 1)], [88], "the same pages");
});

Deno.test("N-5.3 chunks that no region refers to read all ones, take nothing, cannot be mapped, and are reported", () => {
  using list = rigs(1);
  const { a } = list;
  const { token, chunks } = a.region(CHUNK);
  assertEquals(chunks, [0]);
  assertEquals([...a.read(CHUNK - 2, 4)], [0, 0, 0xff, 0xff]);
  a.write(5 * CHUNK, [1]);
  assertEquals(a.front.mapArea(2, CHUNK, CHUNK, false), undefined);
  assertEquals(a.front.mapArea(2, 0, 2 * CHUNK, false), undefined);
  assertEquals(a.front.mapArea(2, a.notifyAt, CHUNK, false), undefined);
  assertEquals(a.front.mapArea(4, 0, CHUNK, false), undefined);
  assertEquals(a.fn.port.take().map((text) => text.slice(0, 4)), ["N-5.", "N-5."]);
  a.detach(token);
  assertEquals(a.front.mapArea(2, 0, CHUNK, false), undefined);
});

Deno.test("a run of chunks maps in one piece where it is one in the region, and not otherwise", () => {
  using list = rigs(1, { chunks: 8 });
  const { a } = list;
  const singles = Array.from({ length: 8 }, () => a.region(CHUNK));
  for (const i of [1, 2, 5]) a.detach(singles[i]!.token);
  const scattered = a.region(3 * CHUNK);
  assertEquals(scattered.chunks, [1, 2, 5]);
  a.write(1 * CHUNK, [11]);
  a.write(2 * CHUNK, [12]);
  a.write(5 * CHUNK, [13]);
  const two = a.front.mapArea(2, CHUNK, 2 * CHUNK, false)!;
  assertEquals(two.fileOffset, 0);
  assertEquals(a.front.mapArea(2, 5 * CHUNK, CHUNK, false)!.fileOffset, 2 * CHUNK);
  assertEquals(a.front.mapArea(2, 2 * CHUNK, CHUNK, false)!.fileOffset, CHUNK);
  assertEquals(a.front.mapArea(2, 2 * CHUNK, 2 * CHUNK, false), undefined, "the next is another region's");
  assertEquals(a.front.mapArea(2, 0, 2 * CHUNK, false), undefined);
  using memory = MappedMemory.map(two.file, 3 * CHUNK, { writable: false });
  assertEquals([0, 1, 2].map((i) => memory.copy(i * CHUNK, 1)[0]), [11, 12, 13]);
});

Deno.test("a mapping that outlives its attachment shows its own region's pages, never the next one's", () => {
  using list = rigs(2);
  const { a, b } = list;
  const first = a.region(CHUNK);
  const [at] = b.attached(first.token);
  using stale = MappedMemory.map(b.front.mapArea(2, at! * CHUNK, CHUNK, true)!.file, CHUNK);
  b.detach(first.token);
  a.detach(first.token);
  const second = a.region(CHUNK);
  assertEquals(second.chunks, first.chunks);
  stale.bytes()[0] = 0x66;
  assertEquals(a.read(second.chunks[0]! * CHUNK, 1)[0], 0);
  a.write(second.chunks[0]! * CHUNK, [0x55]);
  assertEquals(stale.bytes()[0], 0x66);
});

Deno.test("N-5.10 DETACH: ENOENT when it is not attached; the region lives to its last reference (A-5.18), its memory no longer", () => {
  const before = [openFdCount(), mappingCount().mappings];
  {
    using list = rigs(3);
    const { a, b, c } = list;
    const { token } = a.region(CHUNK);
    assertEquals(b.detach(token), ENOENT);
    const [at] = b.attached(token);
    b.write(at! * CHUNK, [42]);
    assertEquals(a.detach(token), OK);
    assertEquals(a.detach(token), ENOENT);
    const [third] = c.attached(token);
    assertEquals(c.read(third! * CHUNK, 1)[0], 42, "it lives without its allocator");
    assertEquals(b.detach(token), OK);
    assertEquals(a.model.domain!.memoryUsedBytes, CHUNK);
    assertEquals(c.detach(token), OK);
    assertEquals(a.model.domain!.memoryUsedBytes, 0);
    assertEquals([c.query(token).ack, a.attach(token).ack], [ENOENT, ENOENT]);
  }
  assertEquals([openFdCount(), mappingCount().mappings], before);
});

Deno.test("N-5.12 A-5.10 A-5.15 GRANT: not attached ENOENT, no MANAGE ERR, an entry stands in place of the default", () => {
  using list = rigs(3);
  const { a, b, c } = list;
  const { token } = a.region(CHUNK);
  assertEquals(b.grantDefault(token, 0), ENOENT);
  assertEquals(b.grant(token, 0, c.devid), ENOENT);
  assertEquals(a.grantDefault(token + 1n, 0), ENOENT);
  b.attached(token);
  assertEquals(b.grantDefault(token, 0), ERR);
  assertEquals(b.grant(token, 15, b.devid), ERR);
  assertEquals(c.query(token).reply.getBigUint64(8, true), 7n, "nothing has changed");
  // An entry of fewer rights than the default binds, one of more does too.
  assertEquals(a.grant(token, ATTACH | READ, c.devid), OK);
  assertEquals(c.attach(token, READ | WRITE).ack, EWRITE);
  assertEquals(a.grantDefault(token, 0), OK);
  assertEquals(c.attach(token, READ).ack, OK);
  // MANAGE can be handed on.
  assertEquals(a.grant(token, ATTACH | READ | WRITE | MANAGE, b.devid), OK);
  assertEquals(b.grantDefault(token, ATTACH), OK);
});

Deno.test("A-5.2 CLEAN_DEFAULT: only with SET_FOR_DEVICE, where it clears the default in the same step", () => {
  using list = rigs(3);
  const { a, b, c } = list;
  const { token } = a.region(CHUNK);
  const permissions = (rig: IsmRig) => Number(rig.query(token).reply.getBigUint64(8, true));
  assertEquals(a.grantDefault(token, READ | CLEAN), ERR);
  assertEquals([permissions(b), permissions(c)], [7, 7]);
  assertEquals(a.grant(token, ATTACH | READ | WRITE | CLEAN, b.devid), OK);
  assertEquals([permissions(a), permissions(b), permissions(c)], [15, 7, 0]);
  assertEquals(c.attach(token, 0).ack, EATTACH);
});

Deno.test("N-5.12 GRANT: unknown bits, device 0 and less than the allocator must have are ERR", () => {
  using list = rigs(2);
  const { a, b } = list;
  const { token } = a.region(CHUNK);
  assertEquals(a.grantDefault(token, 32), ERR);
  assertEquals(a.grant(token, 32, b.devid), ERR);
  assertEquals(a.command([4, 1], words(token, 1n << 63n, b.devid), 0).ack, ERR);
  assertEquals(a.grant(token, READ, 0n), ERR);
  assertEquals(a.grant(token, READ, a.devid), ERR);
  assertEquals(a.grant(token, 15, a.devid), OK);
  assertEquals(a.query(token).reply.getBigUint64(8, true), 15n);
});

Deno.test("A-5.23 GRANT to a device that is unknown now is OK, and waits for it", () => {
  const domains = new IsmDomains();
  using a = new IsmRig(domains, {}, "0000:01:00.0");
  const { token } = a.region(CHUNK);
  assertEquals(a.grant(token, ATTACH | READ | CLEAN, a.devid + 1n), OK);
  assertEquals(a.grant(token, ATTACH, 1n << 63n), OK);
  using b = new IsmRig(domains, {}, "0000:02:00.0");
  using c = new IsmRig(domains, {}, "0000:03:00.0");
  assertEquals([b.devid, c.devid], [a.devid + 1n, a.devid + 2n]);
  const permissions = (rig: IsmRig) => Number(rig.query(token).reply.getBigUint64(8, true));
  assertEquals([permissions(a), permissions(b), permissions(c)], [15, ATTACH | READ, 0]);
  assertEquals([b.attach(token, READ | WRITE).ack, b.attach(token, READ).ack], [EWRITE, OK]);
  assertEquals(c.attach(token, READ).ack, EATTACH);
  // One driver does not fill the device's memory with devices that never come.
  let granted = 0;
  while (granted < 1 << 20 && a.grant(token, READ, 1n << 32n | BigInt(granted)) === OK) granted++;
  assert(granted >= 1000 && granted < 10000, `${granted} entries`);
  assertEquals(a.grant(token, READ | ATTACH, c.devid), OK, "those that are there are not held up");
  assertEquals(a.grant(token, 0, 1n << 63n), OK, "nor entries that are changed");
  assertEquals(a.fn.port.take().length, 1);
});

Deno.test("domains are strangers: tokens of one are ENOENT in the other, whatever is asked", () => {
  const domains = new IsmDomains();
  using a = new IsmRig(domains, { domain: "one" }, "0000:01:00.0");
  using s = new IsmRig(domains, { domain: "two" }, "0000:02:00.0");
  const { token } = a.region(CHUNK);
  assertEquals(
    [s.query(token).ack, s.attach(token).ack, s.detach(token), s.grantDefault(token, 7), s.bind(token, 1)],
    new Array(5).fill(ENOENT),
  );
});

Deno.test("5.3 A-5.8 framing is free, data of a wrong length and unknown commands are ERR, and the queue goes on", () => {
  using list = rigs(1);
  const { a } = list;
  assertEquals(a.command([0, 0], words(100n), 64, [1, 2, 5, 9]).ack, OK);
  assertEquals(a.command([0, 0], words(100n), 64, []).ack, OK);
  for (
    const [head, data] of [
      [[0, 0], words(100n, 0n)],
      [[0, 0], [1, 2, 3]],
      [[0, 1], words(1n)],
      [[6, 0], words(1n)],
      [[1, 0], []],
      [[2, 0], words(1n)],
      [[3, 0], words(1n, 2n)],
      [[4, 2], words(1n, 2n)],
      [[4, 1], words(1n, 2n)],
      [[5, 1], words(1n, 2n)],
    ] as const
  ) {
    assertEquals([a.command(head, data, 64).ack, a.command(head, data, 64).used], [ERR, 1], `${head}`);
  }
  const { client } = a.fn;
  const ring = a.fn.rings.get(0)!;
  const at = client.allocate(16);
  ring.add([{ iova: client.at(at), length: 10 }]);
  ring.publish();
  a.fn.run();
  assertEquals(ring.takeUsed().map(({ length }) => length), [0], "not even room for ack");
  assertEquals(a.fn.port.take().length, 21);
  assertEquals(a.alloc(CHUNK).ack, OK);
});

Deno.test("A-5.20 reset: references go, the region stays with its peers, and the next driver of the device has nothing of it", () => {
  using list = rigs(2);
  const { a, b } = list;
  const shared = a.region(CHUNK);
  const alone = a.region(CHUNK);
  const [at] = b.attached(shared.token);
  b.write(at! * CHUNK, [3]);
  a.fn.status = 0;
  assertEquals(a.model.member!.chunks.free, 64);
  assertEquals(b.query(alone.token).ack, ENOENT);
  a.up();
  assertEquals([a.detach(shared.token), a.grantDefault(shared.token, 7)], [ENOENT, ENOENT]);
  assertEquals(
    a.query(shared.token).reply.getBigUint64(8, true),
    15n,
    "it is still the device that allocated",
  );
  const [again] = a.attached(shared.token);
  assertEquals(a.read(again! * CHUNK, 1)[0], 3);
});

Deno.test("A-5.20 a client that dies, and a function that goes for good, are resets; what was granted to it goes with it", () => {
  using list = rigs(3);
  const { a, b, c } = list;
  const { token } = a.region(CHUNK);
  b.attached(token);
  c.attached(token);
  assertEquals(a.grant(token, READ | ATTACH, c.devid), OK);
  b.front.reset("detached");
  assertEquals(a.model.domain!.regions.get(token)!.attachments.size, 2);
  const devid = c.devid;
  c.front.close();
  const region = a.model.domain!.regions.get(token)!;
  assertEquals([region.attachments.size, region.dedicated.has(devid)], [1, false]);
  assertEquals(a.model.domain!.members.size, 2);
});

Deno.test("/ringside/ism: domains, functions, regions, rights and chunks; of a token only its first digits", () => {
  using list = rigs(2);
  const { a, b } = list;
  const { token } = a.region(3 * CHUNK);
  b.attached(token, READ);
  a.fn.port.msixEnabled = true;
  assertEquals(a.bind(token, 4), OK);
  a.grant(token, READ | ATTACH, b.devid);
  const state = reportDomain(a.model.domain!);
  assertEquals(state.domain, "d0");
  assertEquals(state.cdid.length, 36);
  assertEquals(state.cdid[14], "4");
  assertEquals([state.chunkSize, state.memory, state.memoryUsed], [CHUNK, 1 << 20, 3 * CHUNK]);
  assertEquals(state.functions.map((one) => [one.function, one.devid, one.chunks, one.chunksUsed]), [
    ["0000:01:00.0", `${a.devid}`, 64, 3],
    ["0000:02:00.0", `${b.devid}`, 64, 3],
  ]);
  const [region] = state.regions;
  const hex = token.toString(16).padStart(16, "0");
  assertEquals(region!.token, `${hex.slice(0, 4)}…`);
  assert(!JSON.stringify(state).includes(hex));
  assertEquals([region!.size, region!.chunks, region!.allocator], [`${3 * CHUNK}`, 3, `${a.devid}`]);
  assertEquals([region!.defaultPermissions, region!.driverMemory], ["rwa", false]);
  assertEquals(region!.permissions, [
    { devid: `${a.devid}`, permissions: "rwam" },
    { devid: `${b.devid}`, permissions: "ra" },
  ]);
  assertEquals(region!.attached, [
    { function: "0000:01:00.0", devid: `${a.devid}`, rights: "rw", chunks: [[0, 3]], vector: 4 },
    { function: "0000:02:00.0", devid: `${b.devid}`, rights: "r", chunks: [[0, 3]] },
  ]);
});
