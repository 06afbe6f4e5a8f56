import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioAdmin, type VirtioAdminOptions } from "../../../../drivers/admin/virtio_admin.ts";
import { UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { AdminCommandError, AdminTimeoutError } from "../../../../lib/virtio/admin/error.ts";
import {
  type FakeAnswer,
  FakeOwner,
  FIRST,
  IN_ORDER,
  INDIRECT,
  type SeenCommand,
  standardAnswer,
} from "./fake_owner.ts";
import { LISTS, opened, RAW, turns } from "./held_owner.ts";

Deno.test("open: ADMIN_VQ is negotiated, both groups are listed and used (N-3.1), nothing else is sent", async () => {
  const device = new FakeOwner();
  await using pf = await VirtioAdmin.open(device.transport);
  assertEquals(device.opcodes, LISTS);
  assertEquals(device.seen.map(({ groupType }) => groupType), [0, 0, 1, 1]);
  assertEquals(device.seen.map(({ memberId }) => memberId), [0n, 0n, 0n, 0n]);
  assert((device.transport.driverFeatures & 1n << 41n) !== 0n);
  assertEquals(pf.queueNumbers, [FIRST]);
  assertEquals(pf.sriov.used?.size, 18);
  pf.close();
  await pf.settled;
  device.transport.close();
});

Deno.test("a function without administration queue is an UnsupportedError that says what to look at", async () => {
  const device = new FakeOwner(standardAnswer, { lanes: 0 });
  const error = await assertRejects(() => VirtioAdmin.open(device.transport), UnsupportedError, "ADMIN_VQ");
  assert(error.hint.includes("inspect"));
  device.transport.close();
});

Deno.test("several commands in flight: each gets its own answer, in whatever order they come", async () => {
  await using fixture = await opened({ vectors: 4 });
  const { device, pf } = fixture;
  const answers = Array.from({ length: 8 }, (_, vf) => pf.member(vf).legacyAsync.readCommon(18, 1));
  await turns();
  assertEquals(fixture.members(), [1, 2, 3, 4, 5, 6, 7, 8]);
  for (const at of [7, 0, 3, 2, 2, 0, 1, 0]) {
    const member = Number(device.held[at]!.command.memberId);
    device.release({ result: Uint8Array.of(10 * member) }, at);
  }
  assertEquals(await Promise.all(answers), [10, 20, 30, 40, 50, 60, 70, 80]);
  assertEquals(pf.admin.statistics.succeeded, 4 + 8);
});

Deno.test("N-3.6 serial: a member's next command is sent when the one before is answered; other members go on", async () => {
  await using fixture = await opened({ lanes: 3 });
  const { device, pf } = fixture;
  const order: string[] = [];
  const send = (vf: number, value: number) =>
    pf.member(vf).legacyAsync.writeCommon(14, 2, value).then(() => order.push(`${vf}:${value}`));
  const all = [send(0, 1), send(0, 2), send(1, 1), send(0, 3), send(1, 2)];
  await turns();
  assertEquals(fixture.members(), [1, 2]);
  const lanes = device.held.map(({ command }) => command.lane);
  assert(lanes[0] !== lanes[1], "members are spread over queues");
  device.release({}, 0);
  while (device.held.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  assertEquals(fixture.members(), [2, 1]);
  while (device.held.length > 0) {
    device.release();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await Promise.all(all);
  assertEquals(order.filter((one) => one.startsWith("0")), ["0:1", "0:2", "0:3"]);
  assertEquals(order.filter((one) => one.startsWith("1")), ["1:1", "1:2"]);
});

Deno.test("N-3.6 pipelined: a member's commands go at once, all into one queue, in order", async () => {
  await using fixture = await opened({ lanes: 4, memberOrder: "pipelined" });
  const { device, pf } = fixture;
  const all = [5, 5, 6, 5, 6, 5].map((vf, at) => pf.member(vf).legacyAsync.writeCommon(14, 2, at));
  await turns();
  assertEquals(fixture.members(), [6, 6, 7, 6, 7, 6]);
  const lanesOf = (member: bigint) =>
    new Set(
      device.held.filter(({ command }) => command.memberId === member).map(({ command }) => command.lane),
    );
  assertEquals([lanesOf(6n).size, lanesOf(7n).size], [1, 1]);
  assert([...lanesOf(6n)][0] !== [...lanesOf(7n)][0]);
  const values = device.held.filter(({ command }) => command.memberId === 6n).map(({ command }) =>
    command.data[8]
  );
  assertEquals(values, [0, 1, 3, 5]);
  while (device.held.length > 0) device.release();
  await Promise.all(all);
});

Deno.test("N-3.5 EAGAIN is retried with a bound; a member's later commands wait behind the repetition", async () => {
  await using fixture = await opened({ retries: 2, backoffMs: 0.5 });
  const { device, pf } = fixture;
  let again = 2;
  device.answer = (command) => command.data[0] === 14 && again-- > 0 ? { status: 11, qualifier: 7 } : {};
  await Promise.all([
    pf.member(0).legacyAsync.writeCommon(14, 2, 1),
    pf.member(0).legacyAsync.writeCommon(8, 4, 2),
  ]);
  assertEquals(device.seen.map(({ data }) => data[0]), [14, 14, 14, 8]);
  assertEquals(pf.admin.statistics.retried, 2);

  device.seen.length = 0;
  device.answer = () => ({ status: 11, qualifier: 7 });
  const error = await assertRejects(() => pf.member(3).legacyAsync.readCommon(0, 4), AdminCommandError);
  assertEquals([error.statusName, error.qualifierName, error.attempts], ["EAGAIN", "TRYAGAIN", 3]);
  assertEquals(device.seen.length, 3);
  assertThrows(() => pf.member(3).legacy.readCommon(0, 4), AdminCommandError, "EAGAIN");
  assertEquals(device.seen.length, 6);
});

Deno.test("N-3.5 repetitions of pipelined commands keep their order, too", async () => {
  await using fixture = await opened({ memberOrder: "pipelined", backoffMs: 1 });
  const { device, pf } = fixture;
  const all = [1, 2, 3].map((value) => pf.member(0).legacyAsync.writeCommon(14, 2, value));
  await turns();
  for (let i = 0; i < 3; i++) device.release({ status: 11 });
  device.answer = () => ({});
  await Promise.all(all);
  assertEquals(device.seen.map(({ data }) => data[8]), [1, 2, 3, 1, 2, 3]);
});

Deno.test("other errors are not retried", async () => {
  await using fixture = await opened();
  const { device, pf } = fixture;
  for (const status of [6, 12, 16, 17, 22, 28, 99]) {
    device.answer = () => ({ status, qualifier: 6 });
    device.seen.length = 0;
    await assertRejects(() => pf.member(0).setMode(true), AdminCommandError);
    assertEquals(device.seen.length, 1);
  }
});

Deno.test("N-3.2 LIST_USE waits until nothing is outstanding, of any group, and holds the others back", async () => {
  await using fixture = await opened({ lanes: 2 });
  const { device, pf } = fixture;
  const before = [pf.member(0).setMode(true), pf.capabilities.get(0)];
  const use = pf.sriov.listUse([0, 1, 17]);
  const after = pf.self.raw({ opcode: 7, resultBytes: 8 });
  await turns();
  assertEquals(device.opcodes, [0x11, 8]);
  device.answer = (command) => command.opcode === 1 ? undefined : standardAnswer(command);
  device.release();
  await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(device.opcodes, [0x11, 8]);
  device.release({ result: new Uint8Array(8) });
  while (device.held.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(device.opcodes, [0x11, 8, 1], "alone");
  device.release();
  await Promise.all([...before, use, after]);
  assertEquals(device.opcodes, [0x11, 8, 1, 7]);
  assertEquals([...pf.sriov.used!], [0, 1, 17]);
});

Deno.test("N-3.2 LIST_USE that must be repeated stays alone; given up, it holds others back until it is returned", async () => {
  await using fixture = await opened({ backoffMs: 5 });
  const { device, pf } = fixture;
  let tries = 0;
  device.answer = (command) => command.opcode === 1 && tries++ === 0 ? { status: 11 } : {};
  const use = pf.sriov.listUse();
  const after = pf.member(0).setMode(true);
  await Promise.all([use, after]);
  assertEquals(device.opcodes, [1, 1, 0x11]);

  device.answer = (command) => command.opcode === 1 ? undefined : {};
  await assertRejects(() => pf.sriov.listUse(undefined, { timeoutMs: 100 }), AdminTimeoutError, "LIST_USE");
  await assertRejects(() => pf.admin.execute({ ...RAW, memberId: 1n }, { timeoutMs: 5 }), AdminTimeoutError);
  assertEquals(device.opcodes, [1, 1, 0x11, 1]);
  device.release();
  await pf.admin.execute({ ...RAW, memberId: 1n });
});

Deno.test("quiet: nothing is outstanding in it, and commands wait until it is over (N-3.7)", async () => {
  await using fixture = await opened({ lanes: 2 });
  const { device, pf } = fixture;
  const before = pf.member(0).setMode(true);
  const steps: string[] = [];
  let open = () => {};
  const quiet = pf.admin.quiet(async () => {
    assertEquals(pf.admin.queues.outstanding, 0);
    steps.push("quiet");
    assertThrows(() => pf.member(0).legacy.readCommon(0, 4), UsageError, "quiet");
    await new Promise<void>((resolve) => open = resolve);
    steps.push("over");
    return 7;
  });
  const after = pf.member(1).setMode(true).then(() => steps.push("after"));
  await turns();
  assertEquals([steps.length, device.seen.length], [0, 1]);
  device.release();
  await before;
  while (steps.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assertEquals(device.seen.length, 1);
  device.answer = () => ({});
  open();
  assertEquals(await quiet, 7);
  await after;
  assertEquals(steps, ["quiet", "over", "after"]);
  const failing = pf.admin.quiet(() => {
    throw new UsageError("mine");
  });
  await assertRejects(() => failing, UsageError, "mine");
  await pf.member(0).setMode(false);
});

Deno.test("quiet never comes while a command is not returned: an error, and the rest goes on", async () => {
  await using fixture = await opened();
  const { device, pf } = fixture;
  const lost = assertRejects(
    () => pf.admin.execute({ ...RAW, memberId: 1n }, { timeoutMs: 100 }),
    AdminTimeoutError,
  );
  await assertRejects(() => pf.admin.quiet(() => 1, { timeoutMs: 5 }), AdminTimeoutError, "quiet");
  await lost;
  device.answer = () => ({});
  await pf.member(4).setMode(true);
});

Deno.test("a synchronous command among asynchronous ones loses none of their answers", async () => {
  for (const vectors of [undefined, 3]) {
    await using fixture = await opened({ lanes: 2, ...(vectors === undefined ? {} : { vectors }) });
    const { device, pf } = fixture;
    const waiting = [1, 2, 3].map((vf) => pf.member(vf).legacyAsync.readCommon(18, 1));
    await turns();
    // The device returns the others first; only the synchronous caller is looking.
    device.answer = (command) => {
      while (device.held.length > 0) device.release({ result: Uint8Array.of(Number(command.memberId)) });
      return { result: Uint8Array.of(99) };
    };
    assertEquals(pf.member(9).legacy.readCommon(18, 1), 99);
    assertEquals(await Promise.all(waiting), [10, 10, 10]);
  }
});

Deno.test("a synchronous command waits its turn behind asynchronous ones of its member", async () => {
  await using fixture = await opened();
  const { device, pf } = fixture;
  const first = pf.member(0).legacyAsync.writeCommon(14, 2, 5);
  await turns();
  let pumped = 0;
  const value = pf.sriov.rawNow({ opcode: 3, memberId: 1n, data: Uint8Array.of(18), resultBytes: 1 }, {
    pump: () => {
      if (++pumped === 10) device.release();
      if (pumped === 20) device.release({ result: Uint8Array.of(4) });
    },
  });
  assertEquals(value.result, Uint8Array.of(4));
  assertEquals(device.opcodes, [2, 3]);
  await first;
});

Deno.test("what the device wrote is copied before its memory is used again", async () => {
  await using fixture = await opened();
  const { device, pf } = fixture;
  device.answer = (command) => ({ result: new Uint8Array(16).fill(Number(command.memberId)) });
  const first = await pf.admin.execute({ ...RAW, memberId: 1n, resultBytes: 16 });
  const second = await pf.admin.execute({ ...RAW, memberId: 2n, resultBytes: 16 });
  assertEquals([first.result[0], second.result[0]], [1, 2]);
});

Deno.test("N-3.4 a shorter answer than the one before it in the same memory ends in zeros", async () => {
  await using fixture = await opened({ depth: 1 });
  const { device, pf } = fixture;
  device.answer = () => ({ result: new Uint8Array(16).fill(0xee) });
  await pf.admin.execute({ ...RAW, memberId: 1n, resultBytes: 16 });
  device.answer = () => ({ result: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), used: 12 });
  const { result, writtenBytes } = await pf.admin.execute({ ...RAW, memberId: 1n, resultBytes: 16 });
  assertEquals([...result], [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(writtenBytes, 4);
});

Deno.test("N-3.4 with IN_ORDER a batch says nothing of each length: what was not written is zero all the same", async () => {
  await using fixture = await opened({ features: IN_ORDER | INDIRECT });
  const { device, pf } = fixture;
  const all = [1n, 2n, 3n].map((memberId) => pf.admin.execute({ ...RAW, memberId, resultBytes: 8 }));
  await turns();
  const ring = device.transport.ring(FIRST);
  for (const { chain } of device.held) {
    const view = device.transport.iommu.at(chain.parts[1]!.iova, 16, true);
    view.setUint16(0, 0, true);
    view.setUint8(8, 7);
  }
  ring.fillBatch(device.held[2]!.chain.head, 9, 3);
  ring.usedIndex = ring.usedNext;
  for (const { result } of await Promise.all(all)) assertEquals([...result], [7, 0, 0, 0, 0, 0, 0, 0]);
});

Deno.test("more commands than memory and descriptors: all are answered", async () => {
  for (const size of [2, 4, 64]) {
    for (const features of [0n, INDIRECT]) {
      await using fixture = await opened({ lanes: 2, size, features });
      const { device, pf } = fixture;
      device.answer = () => ({});
      await Promise.all(Array.from({ length: 300 }, (_, vf) => pf.member(vf).setMode(true)));
      assertEquals(device.seen.length, 300);
    }
  }
});

Deno.test("large commands have memory of their own, which is used again, and given back", async () => {
  await using fixture = await opened({ depth: 8 });
  const { device, pf } = fixture;
  const data = Uint8Array.from({ length: 30_000 }, (_, at) => at * 7);
  for (let round = 1; round <= 3; round++) {
    const length = 9_999 * round;
    const sent = Array.from({ length: 8 }, (_, at) => {
      const memberId = BigInt(1 + at);
      return pf.admin.execute({ ...RAW, memberId, data: data.subarray(0, length), resultBytes: length });
    });
    await turns();
    assertEquals(device.held.length, 8);
    while (device.held.length > 0) device.release({ result: device.held[0]!.command.data });
    for (const { result } of await Promise.all(sent)) assertEquals(result, data.slice(0, length));
    // Rings, places, and two that are kept for the next large command.
    assertEquals(device.transport.iommu.mapped.length, 4);
  }
});

Deno.test("the caller's data may change once the call is made", async () => {
  await using fixture = await opened({ depth: 1 });
  const { device, pf } = fixture;
  const data = Uint8Array.of(1);
  const all = [1n, 2n].map((memberId) => pf.admin.execute({ ...RAW, memberId, data }));
  await turns();
  data[0] = 9;
  device.release();
  while (device.held.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assertEquals(device.seen.map((command) => command.data[0]), [1, 1]);
  device.release();
  await Promise.all(all);
});

Deno.test("N-3.7 vfCount is asked before each SR-IOV command: nothing is sent while VF Enable is clear, or beyond NumVFs", async () => {
  let vfs = 4;
  await using fixture = await opened({ vfCount: () => vfs });
  const { device, pf } = fixture;
  device.answer = () => ({});
  await pf.member(3).setMode(true);
  const beyond = await assertRejects(() => pf.member(4).setMode(true), UsageError, "NumVFs is 4");
  assert(beyond.hint.includes("sriov"));
  vfs = 0;
  device.seen.length = 0;
  await assertRejects(() => pf.member(0).setMode(true), UsageError, "VF Enable is clear (N-3.7)");
  assertThrows(() => pf.member(0).legacy.readCommon(0, 4), UsageError, "N-3.7");
  await assertRejects(() => pf.sriov.listUse(), UsageError, "N-3.7");
  assertEquals(device.seen, []);
  await pf.capabilities.get(0).catch(() => {});
  assertEquals(device.opcodes, [8], "the self group does not mind");
});

Deno.test("N-3.7 nothing is sent to the SR-IOV group of a PF with VF Migration Capable", async () => {
  const device = new FakeOwner();
  device.transport.vfMigrationCapable = true;
  const pf = await VirtioAdmin.open(device.transport);
  try {
    assertEquals([pf.self.used !== null, pf.sriov.used], [true, null]);
    await assertRejects(() => pf.sriov.listUse(), UnsupportedError, "VF Migration Capable is set (N-3.7)");
    await assertRejects(() => pf.member(0).setMode(true), UnsupportedError, "N-3.7");
    assertThrows(() => pf.member(0).legacy.readCommon(0, 4), UnsupportedError, "N-3.7");
    await assertRejects(() => pf.admin.execute({ ...RAW, memberId: 1n }), UnsupportedError, "N-3.7");
    assertEquals(device.seen.filter(({ groupType }) => groupType === 1), []);
    assertEquals((await pf.capabilities.get(0)).length >= 0, true);
  } finally {
    pf.close();
    await pf.settled;
    device.transport.close();
  }
});

Deno.test("N-3.7 members that go away under commands end in clear errors, and no queue is stuck", async () => {
  await using fixture = await opened({ lanes: 2, memberOrder: "pipelined" });
  const { device, pf } = fixture;
  const outcomes = Array.from(
    { length: 60 },
    (_, at) => pf.member(at % 10).legacyAsync.readCommon(0, 4).then(() => "ok", (error) => error),
  );
  await turns();
  let released = 0;
  let vfs = 10;
  while (device.held.length > 0) {
    if (++released === 20) vfs = 5;
    if (released === 40) vfs = 0;
    const { memberId } = device.held[0]!.command;
    const gone: FakeAnswer = vfs === 0
      ? { status: 22, qualifier: 4 }
      : memberId > BigInt(vfs)
      ? { status: 22, qualifier: 5 }
      : {};
    device.release(gone);
  }
  const results = await Promise.all(outcomes);
  assertEquals(results.filter((one) => one === "ok").length > 20, true);
  const failures = results.filter((one) => one instanceof AdminCommandError);
  assertEquals(failures.length, results.filter((one) => one !== "ok").length);
  assertEquals(new Set(failures.map(({ field }) => field)), new Set(["group_member_id", "group_type"]));
  for (const { hint } of failures) assert(hint.includes("NumVFs") || hint.includes("VF Enable"));
  assertEquals(pf.admin.queues.outstanding, 0);
  device.answer = () => ({});
  await pf.member(0).setMode(true);
});

Deno.test("wrong options and calls are UsageErrors", async () => {
  const wrong: VirtioAdminOptions[] = [{ timeoutMs: -1 }, { retries: -1 }, { retries: 1.5 }, {
    backoffMs: NaN,
  }, {
    depth: 0,
  }, { depth: 2.5 }];
  for (const options of wrong) {
    const device = new FakeOwner();
    await assertRejects(() => VirtioAdmin.open(device.transport, options), UsageError);
    assertEquals(device.transport.iommu.mapped.length, 0);
    device.transport.close();
  }
  await using fixture = await opened();
  const { pf } = fixture;
  await assertRejects(() => pf.admin.execute(RAW, { timeoutMs: NaN }), UsageError);
  for (const vf of [-1, 1.5, 70000, NaN]) assertThrows(() => pf.member(vf), UsageError);
  const tooNew: SeenCommand["opcode"] = 0x8000;
  await assertRejects(() => pf.admin.execute({ ...RAW, opcode: tooNew }), UsageError);
});

Deno.test("N-3.2 LIST_USE does not overtake a command that waits to be repeated", async () => {
  await using fixture = await opened({ backoffMs: 5 });
  const { device, pf } = fixture;
  let again = true;
  device.answer = ({ opcode }) => {
    const status = opcode === 0x11 && again ? 11 : 0;
    again = false;
    return { status };
  };
  await Promise.all([pf.member(0).setMode(true), pf.sriov.listUse([0, 1])]);
  assertEquals(device.opcodes, [0x11, 0x11, 1]);
});

Deno.test("a command is what it was when it was asked for, whatever becomes of the caller's object while it waits for its turn", async () => {
  await using fixture = await opened();
  const { device, pf } = fixture;
  const reused = { ...RAW, memberId: 3n };
  const all = [pf.admin.execute(reused), pf.admin.execute(reused)];
  Object.assign(reused, { opcode: 0x7000, memberId: 9n });
  await turns();
  device.release();
  while (device.held.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  device.release();
  await Promise.all(all);
  assertEquals(device.seen.slice(-2).map(({ opcode, memberId }) => [opcode, memberId]), [
    [RAW.opcode, 3n],
    [RAW.opcode, 3n],
  ]);
});
