/** SPACE_MAP and SPACE_UNMAP: the extension by which a client fills address spaces other than 0, from both sides. */
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import {
  createMemfd,
  errnoNumber,
  isErrno,
  MappedMemory,
  mappingCount,
  openFdCount,
} from "../../../../ffi/mod.ts";
import {
  ClosedError,
  ExhaustedError,
  ProtocolError,
  UnsupportedError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import { decodeVersion, encodeVersion } from "../../../../lib/sockets/vfio_user/capabilities.ts";
import { VfioUserServer } from "../../../../lib/sockets/vfio_user/mod.ts";
import {
  addressSpaceTail,
  COMMAND,
  commandName,
  dmaMap,
  dmaUnmap,
  OWN_COMMAND,
} from "../../../../lib/sockets/vfio_user/protocol.ts";
import { SpacesDevice } from "./fake_device.ts";
import { message, RawClient, testSocketPath, versionPayload } from "./raw_client.ts";
import { capabilities, goodVersion, reply, session } from "./client/session.ts";
import { unsealedFile } from "./server/bench.ts";

const { EINVAL, ENOTSUP, ENOENT, EEXIST, ENOSPC } = errnoNumber;
const IOVA = 0x10000n, BYTES = 0x4000;

const range = { address: IOVA, size: BigInt(BYTES) };
const tail = (id: number, reserved = 0) => addressSpaceTail.encode({ id, reserved });
const map = (
  id: number,
  more: Partial<{ argsz: number; flags: number; address: bigint; size: bigint }> = {},
) => dmaMap.encode({ argsz: 40, flags: 3, ...range, ...more }, tail(id));
const unmap = (
  id: number,
  more: Partial<{ argsz: number; flags: number; address: bigint; size: bigint }> = {},
) => dmaUnmap.encode({ argsz: 32, ...range, ...more }, tail(id));

/** A server whose client offers so many address spaces, and a check that nothing leaks. */
function bench(addressSpaces: number | undefined, options: { maxDmaMaps?: number } = {}) {
  const before = [openFdCount(), mappingCount().mappings];
  const device = new SpacesDevice();
  const server = VfioUserServer.listen(testSocketPath(), device, options);
  const client = new RawClient(server, addressSpaces === undefined ? {} : { addressSpaces });
  const dispose = () => {
    client[Symbol.dispose]();
    server.close();
    assertEquals(device.addressSpaces.map(({ count }) => count), [0, 0]);
    device[Symbol.dispose]();
    assertEquals([openFdCount(), mappingCount().mappings], before, "descriptors and mappings leak");
  };
  return { device, server, client, spaces: device.addressSpaces, [Symbol.dispose]: dispose };
}

Deno.test("the numbers and bytes of the extension", () => {
  assertEquals([OWN_COMMAND.spaceMap, OWN_COMMAND.spaceUnmap], [0xf5a2, 0xf5a3]);
  assertEquals([commandName(0xf5a2), commandName(0xf5a3)], ["SPACE_MAP", "SPACE_UNMAP"]);
  const bytes = map(3);
  const view = new DataView(bytes.buffer);
  assertEquals([
    bytes.byteLength,
    view.getUint32(0, true),
    view.getUint32(32, true),
    view.getUint32(36, true),
  ], [
    40,
    40,
    3,
    0,
  ]);
  assertEquals([unmap(3).byteLength, new DataView(unmap(3).buffer).getUint32(24, true)], [32, 3]);
});

Deno.test("VERSION: ringside_address_spaces is the lower count, and named to no client that did not name it", () => {
  const text = (payload: Uint8Array) => new TextDecoder().decode(payload);
  assert(text(versionPayload(1, 16, 7)).includes('"ringside_address_spaces":7'));
  for (
    const [offered, answered] of [[1, 1], [2, 2], [7, 2], [1e9, 2], [0, undefined], [undefined, undefined]]
  ) {
    const device = new SpacesDevice();
    using server = VfioUserServer.listen(testSocketPath(), device);
    using client = new RawClient(server, { negotiate: false });
    const { payload } = client.call(COMMAND.version, versionPayload(1, 16, offered));
    assertEquals(decodeVersion(payload, "server").capabilities.addressSpaces, answered);
    assertEquals(text(payload).includes("ringside_address_spaces"), answered !== undefined);
    device[Symbol.dispose]();
  }
  for (const value of ["-1", "1.5", '"2"', "true", "null"]) {
    const json = `{"capabilities":{"ringside_address_spaces":${value}}}\0`;
    const bytes = new Uint8Array([0, 0, 1, 0, ...new TextEncoder().encode(json)]);
    assertThrows(() => decodeVersion(bytes, "peer"), ProtocolError, "ringside_address_spaces");
  }
});

Deno.test("server: the same IOVA is other memory in each address space", () => {
  using b = bench(2);
  const files = [0, 1, 2].map((at) => createMemfd(`memory ${at}`, BYTES));
  const mine = files.map((file) => MappedMemory.map(file, BYTES));
  const own = dmaMap.encode({ argsz: 32, flags: 3, ...range });
  assertEquals(b.client.call(COMMAND.dmaMap, own, [files[0]!]).error, 0);
  for (const id of [1, 2]) {
    const { error, payload } = b.client.call(OWN_COMMAND.spaceMap, map(id), [files[id]!]);
    assertEquals([error, payload.byteLength], [0, 0]);
  }
  for (const [at, table] of [b.server.dma, ...b.spaces].entries()) {
    const { region, offset } = table.resolve(IOVA + 8n, 1, true);
    region.bytes[offset] = 40 + at;
  }
  assertEquals(mine.map((memory) => memory.bytes()[8]), [40, 41, 42]);
  const { generation } = b.spaces[0];
  const request = unmap(1);
  const answer = b.client.call(OWN_COMMAND.spaceUnmap, request);
  assertEquals([answer.error, answer.payload], [0, request]);
  assertEquals([b.server.dma.count, b.spaces[0].count, b.spaces[1].count], [1, 0, 1]);
  assert(b.spaces[0].generation !== generation);
  assertEquals(b.client.call(OWN_COMMAND.spaceUnmap, request).error, ENOENT);
  assertEquals(b.device.log, ["attached"], "only the range in address space 0 would be announced");
  for (const one of [...files, ...mine]) one.close();
});

Deno.test("server: address spaces end with a reset of the device, with an unmap of all in 0, and one alone with its own", () => {
  using b = bench(2);
  using file = createMemfd("memory", BYTES);
  const fill = () => {
    for (const id of [1, 2]) assertEquals(b.client.call(OWN_COMMAND.spaceMap, map(id), [file]).error, 0);
  };
  const counts = () => [b.server.dma.count, ...b.spaces.map(({ count }) => count)];
  const own = dmaMap.encode({ argsz: 32, flags: 3, ...range });
  assertEquals(b.client.call(COMMAND.dmaMap, own, [file]).error, 0);
  fill();
  const all = { flags: 2, address: 0n, size: 0n };
  assertEquals(b.client.call(OWN_COMMAND.spaceUnmap, unmap(2, all)).error, 0);
  assertEquals(counts(), [1, 1, 0]);
  assertEquals(b.client.call(COMMAND.deviceReset).error, 0);
  assertEquals(counts(), [1, 0, 0]);
  fill();
  assertEquals(b.client.call(COMMAND.dmaUnmap, dmaUnmap.encode({ argsz: 24, ...all })).error, 0);
  assertEquals(counts(), [0, 0, 0]);
  fill();
  // With the client they end, too: `bench` looks.
});

Deno.test("server: what cannot be in an address space is refused, and nothing stays mapped or open", () => {
  using b = bench(1, { maxDmaMaps: 2 });
  using file = createMemfd("memory", 2 * BYTES);
  using unsealed = unsealedFile(BYTES);
  const before = [openFdCount(), mappingCount().mappings];
  const refused = (
    error: number | undefined,
    payload: Uint8Array,
    fds = [file],
    command: number = OWN_COMMAND.spaceMap,
  ) => assertEquals(b.client.call(command, payload, fds).error, error, `${payload}`);
  for (const id of [0, 2, 3, 0xffff_ffff]) {
    refused(EINVAL, map(id));
    refused(EINVAL, unmap(id), [], OWN_COMMAND.spaceUnmap);
  }
  refused(EINVAL, dmaMap.encode({ argsz: 40, flags: 3, ...range }, tail(1, 1)));
  refused(EINVAL, new Uint8Array(0));
  refused(EINVAL, tail(1));
  refused(EINVAL, tail(1), [], OWN_COMMAND.spaceUnmap);
  refused(EINVAL, map(1).subarray(4));
  refused(EINVAL, new Uint8Array([...map(1), ...tail(1)]));
  refused(EINVAL, map(1, { argsz: 31 }));
  refused(EINVAL, map(1, { flags: 0 }));
  refused(EINVAL, map(1, { flags: 0x10 | 3 }));
  refused(EINVAL, map(1, { size: 0x800n }));
  refused(EINVAL, map(1, { size: BigInt(3 * BYTES) }));
  refused(EINVAL, map(1), [file, file]);
  // DMA_READ could not say whose memory it wants.
  refused(ENOTSUP, map(1), []);
  refused(EINVAL, unmap(1, { flags: 2 }), [], OWN_COMMAND.spaceUnmap);
  refused(ENOTSUP, unmap(1, { flags: 1 }), [], OWN_COMMAND.spaceUnmap);
  refused(ENOENT, unmap(1), [], OWN_COMMAND.spaceUnmap);
  assertEquals([openFdCount(), mappingCount().mappings], before);
  refused(0, map(1));
  refused(EEXIST, map(1, { address: IOVA + 0x1000n }));
  // The limit is that of all address spaces together; a file that may shrink is copied there, too.
  assertEquals(b.client.call(OWN_COMMAND.spaceMap, map(1, { address: 0n }), [unsealed]).error, 0);
  assertEquals([b.spaces[0].count, b.spaces[0].regions.length], [2, 1]);
  refused(ENOSPC, map(1, { address: 0x80000n }));
  refused(
    ENOSPC,
    dmaMap.encode({ argsz: 32, flags: 3, address: 0x80000n, size: 0x1000n }),
    [file],
    COMMAND.dmaMap,
  );
  assertEquals(b.client.ended, false);
});

Deno.test("server: a client that did not negotiate it finds no such command, and no address space", () => {
  for (const offered of [undefined, 0]) {
    using b = bench(offered);
    using file = createMemfd("memory", BYTES);
    assertEquals(b.client.call(OWN_COMMAND.spaceMap, map(1), [file]).error, ENOTSUP);
    assertEquals(b.client.call(OWN_COMMAND.spaceUnmap, unmap(1)).error, ENOTSUP);
    // As DMA_MAP alone it is refused, too: never does memory land in address space 0 by mistake.
    assertEquals(b.client.call(COMMAND.dmaMap, map(1), [file]).error, EINVAL);
    assertEquals([b.server.dma.count, ...b.spaces.map(({ count }) => count)], [0, 0, 0]);
    assertEquals(b.client.call(COMMAND.deviceReset).error, 0);
  }
});

Deno.test("client: its requests, the limit of all address spaces together, and what its reset ends", () => {
  const version = reply(
    COMMAND.version,
    0,
    encodeVersion(1, { ...capabilities, maxDmaMaps: 2, addressSpaces: 3 }),
  );
  const done = (command: number, id: number, payload?: Uint8Array) => reply(command, id, payload);
  using s = session(
    [
      done(OWN_COMMAND.spaceMap, 2),
      done(COMMAND.dmaMap, 3),
      done(OWN_COMMAND.spaceUnmap, 4),
      done(OWN_COMMAND.spaceMap, 5),
      done(COMMAND.deviceReset, 6),
    ],
    {},
    version,
  );
  s.requests();
  const space = s.device.addressSpace(3);
  assertStrictEquals(s.device.addressSpace(3), space);
  const memory = space.allocate(4096);
  const own = s.device.dma.allocate(4096);
  assertEquals(memory.iova, own.iova);
  assertEquals(space.mapper.name, "fake, address space 3");
  assertThrows(() => s.device.addressSpace(1).allocate(4096), ExhaustedError, "2 DMA mappings at a time");
  memory.close();
  const second = space.allocate(4096);
  s.device.reset();
  assertEquals([second.closed, space.closed, own.closed], [true, true, false]);
  assertThrows(() => space.allocate(4096), ClosedError);
  const sent = { address: memory.iova, size: 4096n };
  const own1 = dmaMap.encode({ argsz: 32, flags: 3, ...sent });
  assertEquals(s.requests(), [
    message(OWN_COMMAND.spaceMap, map(3, sent), { id: 2 }),
    message(COMMAND.dmaMap, own1, { id: 3 }),
    message(OWN_COMMAND.spaceUnmap, unmap(3, sent), { id: 4 }),
    message(OWN_COMMAND.spaceMap, map(3, sent), { id: 5 }),
    message(COMMAND.deviceReset, undefined, { id: 6 }),
  ]);
  for (const id of [0, 4, -1, 1.5]) {
    assertThrows(
      () => s.device.addressSpace(id),
      UsageError,
      `fake: address space ${id} is not one of the server's`,
    );
  }
});

Deno.test("client: no such capability, a server that refuses, and one that is closed", () => {
  {
    using s = session([], {}, goodVersion);
    assertThrows(() => s.device.addressSpace(1), UnsupportedError, "fake has no address space 1 beside 0");
    s.device.close();
    assertThrows(() => s.device.addressSpace(1), ClosedError);
  }
  const version = reply(COMMAND.version, 0, encodeVersion(1, { ...capabilities, addressSpaces: 1 }));
  using s = session([reply(OWN_COMMAND.spaceMap, 2, undefined, 0x21, ENOSPC)], {}, version);
  const error = assertThrows(() => s.device.addressSpace(1).allocate(4096));
  assert(isErrno(error, "ENOSPC"));
  assertEquals(s.device.addressSpace(1).usage.allocations, 0);
});
