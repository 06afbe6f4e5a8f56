import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioAdmin, type VirtioAdminOptions } from "../../../../drivers/admin/virtio_admin.ts";
import { DeviceError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { AdminCommandError } from "../../../../lib/virtio/admin/error.ts";
import { opcodesToUse } from "../../../../lib/virtio/admin/group.ts";
import { type FakeAnswer, FakeOwner, type SeenCommand, words } from "./fake_owner.ts";

async function opened(answer?: (command: SeenCommand) => FakeAnswer, options: VirtioAdminOptions = {}) {
  const device = new FakeOwner(answer);
  const pf = await VirtioAdmin.open(device.transport, options);
  return {
    device,
    pf,
    [Symbol.asyncDispose]: async () => {
      pf.close();
      await pf.settled;
      device.transport.close();
    },
  };
}

function lists(list: Uint8Array) {
  return ({ opcode }: SeenCommand): FakeAnswer => opcode === 0 ? { result: list } : {};
}

function bits(bytes: Uint8Array): number[] {
  return [...Array(bytes.length * 8).keys()].filter((bit) => bytes[bit >> 3]! >> (bit & 7) & 1);
}

Deno.test("N-3.1 by hand: no command before LIST_USE of its group; nothing is sent", async () => {
  await using fixture = await opened(undefined, { lists: "manual" });
  const { device, pf } = fixture;
  assertEquals(device.seen, []);
  await assertRejects(() => pf.member(0).setMode(true), UsageError, "before LIST_USE (N-3.1)");
  await assertRejects(() => pf.capabilities.list(), UsageError, "N-3.1");
  assertThrows(() => pf.member(0).legacy.readCommon(0, 4), UsageError, "N-3.1");
  await pf.self.listUse();
  await assertRejects(() => pf.member(0).setMode(true), UsageError, "sriov group before LIST_USE");
  assertEquals(device.opcodes, [0, 1]);
  await pf.sriov.listUse();
  await pf.member(0).setMode(true);
  assertEquals(device.opcodes, [0, 1, 0, 1, 0x11]);
});

Deno.test("N-3.1 lazily: LIST_QUERY and LIST_USE come before the first command, once, also for many at a time", async () => {
  await using fixture = await opened(undefined, { lists: "lazy" });
  const { device, pf } = fixture;
  assertEquals(device.seen, []);
  await Promise.all(Array.from({ length: 20 }, (_, vf) => pf.member(vf).setMode(true)));
  assertEquals(device.opcodes, [0, 1, ...new Array(20).fill(0x11)]);
  pf.member(3).legacy.writeCommon(18, 1, 0);
  assertEquals(device.opcodes.filter((one) => one <= 1).length, 2);
});

Deno.test("N-3.1 lazily, synchronously", async () => {
  await using fixture = await opened(undefined, { lists: "lazy" });
  const { device, pf } = fixture;
  pf.member(0).legacy.readDevice(0, 2);
  assertEquals(device.opcodes, [0, 1, 5]);
  assertEquals(pf.member(1).legacy.notifyAreas(), []);
  assertEquals(device.opcodes, [0, 1, 5, 6]);
});

Deno.test("N-3.1 notify addresses are asked for under the same rules: not before LIST_USE by hand, and with its list after a reset", async () => {
  {
    await using fixture = await opened(undefined, { lists: "manual" });
    const { legacy, legacyAsync } = fixture.pf.member(0);
    assertThrows(() => legacy.notifyAreas(), UsageError, "before LIST_USE (N-3.1)");
    await assertRejects(() => legacyAsync.notifyAreas(), UsageError, "before LIST_USE (N-3.1)");
    assertEquals(fixture.device.seen, []);
  }
  await using fixture = await opened(undefined, { lists: "lazy" });
  const { device, pf } = fixture;
  await pf.sriov.listUse([0, 1, 6, 0x11]);
  for (const ask of [() => pf.member(0).legacy.notifyAreas(), () => pf.member(0).legacyAsync.notifyAreas()]) {
    await pf.reset();
    await ask();
    assertEquals([...pf.sriov.used!], [0, 1, 6, 0x11]);
    assertEquals(device.opcodes.at(-1), 6);
  }
});

Deno.test("N-3.1 a LIST_USE that fails leaves nothing in use", async () => {
  await using fixture = await opened(
    ({ opcode }) => opcode === 0 ? { result: words(0x3ffffn) } : { status: 22, qualifier: 3 },
    { lists: "lazy" },
  );
  const { device, pf } = fixture;
  const error = await assertRejects(() => pf.member(0).setMode(true), AdminCommandError, "LIST_USE");
  assertEquals(error.field, "device_admin_cmd_opcodes");
  assertEquals(pf.sriov.used, null);
  assertThrows(() => pf.member(0).legacy.readCommon(0, 4), AdminCommandError, "LIST_USE");
  assert(!device.opcodes.includes(0x11) && !device.opcodes.includes(3));
});

Deno.test("N-3.2 LIST_USE has only what LIST_QUERY listed and this library knows", async () => {
  await using fixture = await opened(lists(words(0xffff_ffff_ffff_ffffn, 0x1n)));
  const { device, pf } = fixture;
  assertEquals(pf.sriov.supported?.has(64), true);
  const use = device.seen.find(({ opcode, groupType }) => opcode === 1 && groupType === 1)!;
  assertEquals(bits(use.data), Array.from({ length: 18 }, (_, opcode) => opcode));
  assertEquals(use.data.length, 8);
  // Others by request.
  await pf.sriov.listUse([0, 1, 0x30, 64]);
  assertEquals(bits(device.seen.at(-1)!.data), [0, 1, 0x30, 64]);
  assertEquals(device.seen.at(-1)!.data.length, 16);
  await pf.sriov.raw({ opcode: 64, memberId: 1n });
  assertEquals(device.opcodes.at(-1), 64);
});

Deno.test("N-3.2 a subset beyond what is supported is refused before anything is sent", async () => {
  await using fixture = await opened(lists(words(0b11n | 1n << 17n)));
  const { device, pf } = fixture;
  const sent = device.seen.length;
  await assertRejects(() => pf.sriov.listUse([0, 1, 2, 17]), UnsupportedError, "LEGACY_COMMON_CFG_WRITE");
  assertThrows(() => pf.sriov.listUseNow([0, 1, 65]), UnsupportedError, "0x0041");
  assertEquals(device.seen.length, sent);
  assertEquals([...pf.sriov.used!], [0, 1, 17]);
});

Deno.test("N-3.1 opcodes outside the list in use are refused: unsupported, or not asked for", async () => {
  await using fixture = await opened(lists(words(0b11n | 1n << 17n | 0xfn << 2n)));
  const { device, pf } = fixture;
  await assertRejects(() => pf.member(0).createPartsObject("get"), UnsupportedError, "CAP_ID_LIST_QUERY");
  await pf.sriov.listUse([0, 1, 17]);
  const sent = device.seen.length;
  await assertRejects(() => pf.member(0).legacyAsync.readCommon(0, 4), UsageError, "did not include it");
  assertThrows(() => pf.member(0).legacy.readCommon(0, 4), UsageError, "did not include it");
  await assertRejects(() => pf.sriov.raw({ opcode: 1 }), UsageError, "as any other command");
  assertEquals(device.seen.length, sent);
});

Deno.test("LIST_QUERY and LIST_USE that were excluded are not sent again", async () => {
  await using fixture = await opened();
  const { device, pf } = fixture;
  await pf.sriov.listUse([0x11]);
  const sent = device.seen.length;
  await assertRejects(() => pf.sriov.listUse(), UsageError, "excluded");
  await assertRejects(() => pf.sriov.listQuery(), UsageError, "excluded");
  assertEquals(device.seen.length, sent);
  await pf.member(0).setMode(true);
});

Deno.test("A-3.7 a list of any length is read whole: longer than the first buffer, shorter, with a zero tail", async () => {
  const long = new Uint8Array(4096);
  long[0] = 3;
  long[4095] = 0x80;
  await using fixture = await opened(lists(long));
  const { device, pf } = fixture;
  assertEquals([...pf.sriov.supported!], [0, 1, 0x7fff]);
  const rooms = device.seen.filter(({ opcode, groupType }) => opcode === 0 && groupType === 1)
    .map(({ writable }) => writable - 8);
  assertEquals(rooms, [64, 128, 256, 512, 1024, 2048, 4096, 8192]);
  for (const list of [Uint8Array.of(3), words(3n), words(3n, 0n, 0n), new Uint8Array(8000).fill(3, 0, 1)]) {
    device.answer = lists(list);
    assertEquals([...await pf.sriov.listQuery()], [0, 1]);
    assertEquals([...pf.sriov.listQueryNow()], [0, 1]);
  }
});

Deno.test("a list without LIST_QUERY and LIST_USE is a lie, and no endless one either", async () => {
  for (const list of [new Uint8Array(0), words(0n), words(1n), words(2n), words(0n, 3n)]) {
    const device = new FakeOwner(lists(list));
    const error = await assertRejects(
      () => VirtioAdmin.open(device.transport),
      DeviceError,
      "without LIST_QUERY",
    );
    assertEquals(error.location.field, "device_admin_cmd_opcodes");
    device.transport.close();
  }
  const device = new FakeOwner(lists(new Uint8Array(100_000).fill(0xff)));
  await using pf = await VirtioAdmin.open(device.transport);
  assertEquals(pf.sriov.supported!.size, 65536);
  assertEquals(pf.sriov.used!.size, 18);
  pf.close();
  await pf.settled;
  device.transport.close();
});

Deno.test("an incomplete set of legacy commands is not used; LEGACY_NOTIFY_INFO needs all four", () => {
  const known = (...opcodes: number[]) => [...opcodesToUse(new Set(opcodes))];
  assertEquals(known(0, 1, 2, 3, 4, 5), [0, 1, 2, 3, 4, 5]);
  assertEquals(known(0, 1, 2, 3, 4, 5, 6, 0x12, 99), [0, 1, 2, 3, 4, 5, 6]);
  for (const missing of [2, 3, 4, 5]) {
    assertEquals(known(...[0, 1, 2, 3, 4, 5, 6, 7].filter((opcode) => opcode !== missing)), [0, 1, 7]);
  }
});

Deno.test("a device with one of the groups only is driven", async () => {
  for (const group of [0, 1]) {
    await using fixture = await opened((command) =>
      command.groupType === group ? lists(words(0x3ffffn))(command) : { status: 22, qualifier: 4 }
    );
    const { pf } = fixture;
    assertEquals([pf.self.used !== null, pf.sriov.used !== null], [group === 0, group === 1]);
    if (group === 0) await pf.capabilities.get(0);
    else await pf.member(0).setMode(true);
  }
});

Deno.test("another failure of LIST_QUERY at open is an error, and leaves nothing behind", async () => {
  const device = new FakeOwner(() => ({ status: 28, qualifier: 6 }));
  await assertRejects(() => VirtioAdmin.open(device.transport), AdminCommandError, "ENOSPC");
  assertEquals(device.transport.iommu.mapped.length, 0);
  assertEquals(device.transport.status, 0);
  device.transport.close();
});

Deno.test("legacy registers: opcodes, group, member, offsets, widths, little-endian values, both ways", async () => {
  await using fixture = await opened(undefined, { memberName: (vf) => `0000:01:00.${vf + 1}` });
  const { device, pf } = fixture;
  const { legacy, legacyAsync } = pf.member(2);
  assertEquals(legacy.name, "0000:01:00.3 by way of fake 0");
  device.answer = ({ writable }) => ({ result: Uint8Array.of(1, 2, 3, 4).slice(0, writable - 8) });
  device.seen.length = 0;
  assertEquals([legacy.readCommon(0, 4), legacy.readCommon(12, 2), legacy.readCommon(18, 1)], [
    0x04030201,
    0x0201,
    1,
  ]);
  assertEquals(await legacyAsync.readDevice(6, 2), 0x0201);
  legacy.writeCommon(8, 4, 0xfffffffe);
  await legacyAsync.writeDevice(0, 1, 0xff);
  assertEquals(device.seen.map(({ opcode, groupType, memberId }) => [opcode, groupType, memberId]), [
    [3, 1, 3n],
    [3, 1, 3n],
    [3, 1, 3n],
    [5, 1, 3n],
    [2, 1, 3n],
    [4, 1, 3n],
  ]);
  assertEquals(device.seen.map(({ readable, writable }) => [readable.length, writable]), [
    [25, 12],
    [25, 10],
    [25, 9],
    [25, 10],
    [36, 8],
    [33, 8],
  ], "A-3.1 exact lengths");
  assertEquals([...device.seen[4]!.data], [8, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]);
  // N-3.4: what the device leaves out is zero.
  device.answer = () => ({ result: Uint8Array.of(0xff), used: 9 });
  assertEquals(legacy.readCommon(0, 4), 0xff);
});

Deno.test("A-3.1 padding of the readable part of reads is an option", async () => {
  await using fixture = await opened(undefined, { padReads: true });
  const { device, pf } = fixture;
  pf.member(0).legacy.readCommon(18, 1);
  assertEquals([device.seen.at(-1)!.readable.length, device.seen.at(-1)!.writable], [32, 9]);
  pf.member(0).legacy.writeCommon(18, 1, 0);
  assertEquals(device.seen.at(-1)!.readable.length, 33);
});

Deno.test("LEGACY_NOTIFY_INFO is asked only when it is in use (N-3.17)", async () => {
  const entry = Uint8Array.of(2, 4, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0);
  await using fixture = await opened(({ opcode }) =>
    opcode === 0 ? { result: words(0x3fn) } : opcode === 6 ? { result: entry } : {}
  );
  const { device, pf } = fixture;
  assertEquals(pf.member(0).legacy.notifyAreas(), []);
  assertEquals(await pf.member(0).legacyAsync.notifyAreas(), []);
  assert(!device.opcodes.includes(6));
  device.answer = ({ opcode }) =>
    opcode === 0 ? { result: words(0x7fn) } : opcode === 6 ? { result: entry } : {};
  await pf.reset();
  const expected = [{ whose: "member", bar: 4, offset: 0x1000 }] as const;
  assertEquals(pf.member(0).legacy.notifyAreas(), expected);
  assertEquals(await pf.member(0).legacyAsync.notifyAreas(), expected);
  assertEquals(device.seen.at(-1)!.writable, 8 + 64);
});
