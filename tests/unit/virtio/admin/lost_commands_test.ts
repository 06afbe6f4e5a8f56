import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { VirtioAdmin } from "../../../../drivers/admin/virtio_admin.ts";
import { ClosedError, DeviceError } from "../../../../lib/errors/mod.ts";
import { AdminCommandError, AdminTimeoutError } from "../../../../lib/virtio/admin/error.ts";
import type { AdminReply } from "../../../../lib/virtio/admin/frame.ts";
import { AdminQueues } from "../../../../lib/virtio/admin/queues.ts";
import { createVirtqueue } from "../../../../lib/virtio/queue/create.ts";
import type { Waiter, WaitTarget } from "../../../../lib/wait/waiter.ts";
import { FakeOwner, FIRST, standardAnswer } from "./fake_owner.ts";
import { LISTS, opened, RAW, turns } from "./held_owner.ts";

/** Only what is not to be answered has so little time: the rest is not quick on a busy machine. */
const SOON = { timeoutMs: 100 } as const;

function stop(pf: VirtioAdmin, vf: number): Promise<AdminReply> {
  return pf.member(vf).raw({ opcode: 0x11, data: Uint8Array.of(1) }, SOON);
}

Deno.test("a command that is not answered: TimeoutError naming opcode, member and queue; its memory stays reserved until it is returned", async () => {
  await using fixture = await opened({ depth: 2 });
  const { device, pf } = fixture;
  const error = await assertRejects(() => stop(pf, 6), AdminTimeoutError);
  assertEquals([error.opcode, error.groupType, error.memberId, error.queue], [0x11, 1, 7n, FIRST]);
  for (const part of ["DEV_MODE_SET", "member 7", `queue ${FIRST}`, `${SOON.timeoutMs} ms`]) {
    assert(error.message.includes(part));
  }
  device.answer = () => ({});
  for (let i = 0; i < 5; i++) await pf.member(1).setMode(true);
  // The same member is held back, others are not.
  const behind = await assertRejects(() => stop(pf, 6), AdminTimeoutError, "could not be sent");
  assertEquals(behind.queue, undefined);
  assert(behind.hint.includes("1 command"));
  assertEquals(pf.admin.queues.outstanding, 1);
  // Late: the memory is free again, and its answer is nobody's.
  device.release({ result: new Uint8Array(8).fill(0xdd) });
  await pf.member(6).setMode(false);
  assertEquals(pf.admin.queues.outstanding, 0);
  assertEquals(pf.admin.statistics.late, 1);
  assertEquals(pf.admin.statistics.timedOut, 2);
});

Deno.test("memory of a lost command is not given to another one", async () => {
  await using fixture = await opened({ depth: 4 });
  const { device, pf } = fixture;
  await assertRejects(() => stop(pf, 0), AdminTimeoutError);
  const lost = device.held[0]!.chain.parts[1]!.iova;
  device.answer = () => undefined;
  const more = [1, 2, 3, 4, 5].map((vf) => stop(pf, vf).catch((error) => error));
  await turns();
  assertEquals(device.held.length, 4, "depth counts the lost one");
  assertEquals(device.held.filter(({ chain }) => chain.parts[1]!.iova === lost).length, 1);
  for (const error of await Promise.all(more)) assert(error instanceof AdminTimeoutError);
});

Deno.test("a synchronous command that is not answered times out the same way, and so do those that wait with it", async () => {
  await using fixture = await opened();
  const { pf } = fixture;
  const waiting = assertRejects(
    () => pf.admin.execute({ ...RAW, memberId: 1n }, { timeoutMs: 2 }),
    AdminTimeoutError,
  );
  const error = assertThrows(
    () => pf.admin.executeNow({ opcode: 3, groupType: 1, memberId: 3n }, SOON),
    AdminTimeoutError,
  );
  assertEquals([error.opcode, error.memberId, error.queue], [3, 3n, FIRST]);
  await waiting;
});

Deno.test("a lost command in one queue does not stop the others", async () => {
  await using fixture = await opened({ lanes: 2, depth: 1 });
  const { device, pf } = fixture;
  await assertRejects(() => stop(pf, 0), AdminTimeoutError);
  const stuck = device.held[0]!.command.lane;
  device.answer = () => ({});
  device.seen.length = 0;
  await Promise.all(Array.from({ length: 20 }, (_, vf) => pf.member(1 + vf).setMode(true)));
  assertEquals(new Set(device.seen.map(({ lane }) => lane)), new Set([1 - stuck]));
});

Deno.test("a device that stopped says so in place of a timeout", async () => {
  await using fixture = await opened();
  const { device, pf } = fixture;
  device.transport.status |= 64;
  const error = await assertRejects(() => stop(pf, 0), DeviceError, "stopped");
  assertEquals(error.location.field, "device_status");
});

Deno.test("a reset ends commands with ClosedError, nothing hangs, and LIST_USE comes first again (N-3.1)", async () => {
  await using fixture = await opened({ lanes: 2 });
  const { device, pf } = fixture;
  await pf.sriov.listUse([0, 1, 0x11]);
  const queues = pf.admin.queues;
  const ends = Array.from(
    { length: 100 },
    (_, vf) => assertRejects(() => pf.member(vf).setMode(true), ClosedError, "administration queues"),
  );
  await turns();
  assert(device.held.length > 0);
  device.held.length = 0;
  device.seen.length = 0;
  await pf.reset();
  await Promise.all(ends);
  assertEquals(device.opcodes, LISTS);
  assertEquals([...pf.sriov.used!], [0, 1, 0x11], "as before");
  assert(queues !== pf.admin.queues && queues.closed);
  await assertRejects(() => queues.execute(RAW), ClosedError);
  device.answer = () => ({});
  await pf.member(0).setMode(true);
});

for (const at of LISTS.keys()) {
  Deno.test(`a reset that overtakes another at any moment of its command ${at + 1} ends it with ClosedError, and is not undone by it`, async () => {
    for (let moment = 0; moment < 30; moment++) {
      const device = new FakeOwner();
      await using pf = await VirtioAdmin.open(device.transport);
      let commands = 0;
      const overtake = async () => {
        await turns(moment);
        await pf.reset();
      };
      let overtaking: Promise<void> | undefined;
      device.answer = (command) => {
        if (commands++ === at) overtaking = Promise.resolve().then(overtake);
        return standardAnswer(command);
      };
      const first = await pf.reset().then(() => undefined, (error) => error);
      if (first !== undefined) assertInstanceOf(first, ClosedError);
      await overtaking;
      assertEquals((await pf.self.listQuery()).size, 18);
      pf.close();
      await pf.settled;
      device.transport.close();
    }
  });
}

Deno.test("close ends everything with ClosedError, asynchronous, waiting, quiet; and may be called again", async () => {
  for (const vectors of [undefined, 4]) {
    const fixture = await opened({ lanes: 2, ...(vectors === undefined ? {} : { vectors }) });
    const { pf } = fixture;
    const { legacy } = pf.member(0);
    const ends = Array.from(
      { length: 50 },
      (_, vf) => assertRejects(() => pf.admin.execute({ ...RAW, memberId: BigInt(vf) }), ClosedError),
    );
    ends.push(assertRejects(() => pf.admin.quiet(() => {}), ClosedError));
    await turns();
    pf.close();
    pf.close();
    await Promise.all(ends);
    await assertRejects(() => pf.member(0).setMode(true), ClosedError);
    await assertRejects(() => pf.admin.quiet(() => {}), ClosedError);
    assertThrows(() => legacy.readCommon(0, 4), ClosedError);
    await assertRejects(() => pf.reset(), ClosedError);
    await fixture[Symbol.asyncDispose]();
  }
});

Deno.test("a device that breaks its ring: every command ends with that error, until a reset", async () => {
  await using fixture = await opened({ lanes: 2 });
  const { device, pf } = fixture;
  const ends = [0, 1, 2].map((vf) => assertRejects(() => pf.member(vf).setMode(true), DeviceError));
  await turns();
  device.transport.ring(FIRST).push(63, 8);
  const errors = await Promise.all(ends);
  for (const error of errors) assertEquals(error.location.field, "used.id");
  assertThrows(() => pf.member(5).legacy.readCommon(0, 4), DeviceError, "63");
  assertStrictEquals(await assertRejects(() => pf.member(5).setMode(true), DeviceError), errors[0]);
  device.held.length = 0;
  device.answer = standardAnswer;
  await pf.reset();
  await pf.member(5).setMode(true);
});

Deno.test("used.len beyond the writable part is a DeviceError that names queue and field", async () => {
  await using fixture = await opened();
  const { device, pf } = fixture;
  device.answer = () => ({ used: 17 });
  const error = await assertRejects(
    () => pf.admin.execute({ ...RAW, memberId: 1n, resultBytes: 8 }),
    DeviceError,
  );
  assertEquals(error.location, { function: "fake 0", queue: FIRST, field: "used.len" });
});

Deno.test("an answer without a whole status fails its own command only", async () => {
  await using fixture = await opened();
  const { device, pf } = fixture;
  for (let used = 0; used < 8; used++) {
    device.answer = () => ({ used });
    const error = await assertRejects(
      () => pf.member(2).setMode(true),
      DeviceError,
      "DEV_MODE_SET of sriov member 3",
    );
    assert(!(error instanceof AdminCommandError));
    assertEquals(error.location.field, "used.len");
  }
  device.answer = () => ({});
  await pf.member(2).setMode(true);
});

Deno.test("interrupts: the queues sleep, wake for an answer, and for a synchronous command that took it", async () => {
  await using fixture = await opened({ vectors: 4, wait: "eventfd", lanes: 2 });
  const { device, pf } = fixture;
  assertEquals(pf.interruptKind, "msix");
  const first = pf.member(0).setMode(true);
  setTimeout(() => device.release(), 5);
  await first;
  assert(pf.interrupts > 0);
  // No interrupt comes for this one: the synchronous command takes its answer, and wakes the sleeper.
  const second = pf.member(0).setMode(false);
  await new Promise((resolve) => setTimeout(resolve, 5));
  device.interrupts = false;
  device.answer = (command) => {
    device.release();
    return standardAnswer(command);
  };
  pf.member(1).legacy.writeCommon(14, 2, 0);
  await second;
  // Nothing sleeps on: closing has nothing to wait for.
});

Deno.test("interrupts: a shorter deadline than that of the sleeper is kept", async () => {
  await using fixture = await opened({ vectors: 4, wait: "eventfd" });
  const { device, pf } = fixture;
  const long = pf.admin.execute({ ...RAW, memberId: 1n }, { timeoutMs: 60_000 });
  await new Promise((resolve) => setTimeout(resolve, 5));
  await assertRejects(() => pf.admin.execute({ ...RAW, memberId: 2n }, { timeoutMs: 5 }), AdminTimeoutError);
  device.release();
  await long;
});

Deno.test("commands without a turn that can come end in time: nothing waits for ever", async () => {
  await using fixture = await opened({ depth: 1 });
  const { pf } = fixture;
  const all = Array.from({ length: 30 }, (_, vf) => stop(pf, vf).catch((error) => error));
  const errors = await Promise.all(all);
  assertEquals(errors.filter((error) => error instanceof AdminTimeoutError).length, 30);
  assertEquals(errors.filter(({ queue }) => queue === FIRST).length, 1);
});

/** A waiter that sleeps until it is woken and the target has something. */
class SleepyWaiter implements Pick<Waiter, "wait" | "wake"> {
  sleeping: WaitTarget | null = null;
  timeouts: number[] = [];
  #resolve = (_ready: boolean) => {};
  wait(target: WaitTarget, timeoutMs: number): Promise<boolean> {
    this.timeouts.push(timeoutMs);
    if (target.hasUsed()) return Promise.resolve(true);
    this.sleeping = target;
    return new Promise((resolve) => this.#resolve = resolve);
  }
  wake(): void {
    if (this.sleeping === null || !this.sleeping.hasUsed()) return;
    this.sleeping = null;
    this.#resolve(true);
  }
}

/** Queues by themselves, with a waiter that nothing wakes by itself. */
function asleep() {
  const device = new FakeOwner(() => undefined);
  const { transport } = device;
  transport.driverFeatures = 1n << 32n;
  const queue = createVirtqueue(transport, FIRST, { size: 16 });
  const waiter = new SleepyWaiter();
  const queues = new AdminQueues(
    { name: "pf", queues: [queue], dma: transport.dma, waiter },
    { timeoutMs: 600_000, backoffMs: 0 },
  );
  return {
    device,
    waiter,
    queues,
    [Symbol.dispose]: () => {
      queues.close();
      queue.close();
      transport.close();
    },
  };
}

Deno.test("a sleeper is woken when a synchronous command took the last answer, for it sleeps for nothing then", async () => {
  using fixture = asleep();
  const { device, waiter, queues } = fixture;
  const first = queues.execute({ ...RAW, memberId: 1n });
  await turns();
  assert(waiter.sleeping !== null);
  device.answer = () => {
    device.release();
    return {};
  };
  queues.executeNow({ ...RAW, memberId: 2n });
  await first;
  await turns();
  assertEquals(waiter.sleeping, null);
});

Deno.test("a sleeper is woken for a deadline before the one that it sleeps to, and by close", async () => {
  using fixture = asleep();
  const { waiter, queues } = fixture;
  const ends = [assertRejects(() => queues.execute({ ...RAW, memberId: 1n }), ClosedError)];
  await turns();
  assert(waiter.timeouts.at(-1)! > 100_000);
  ends.push(
    assertRejects(() => queues.execute({ ...RAW, memberId: 2n }, { timeoutMs: 50_000 }), ClosedError),
  );
  await turns();
  assert(waiter.timeouts.at(-1)! <= 50_000);
  const times = waiter.timeouts.length;
  ends.push(assertRejects(() => queues.execute({ ...RAW, memberId: 3n }), ClosedError));
  await turns();
  assertEquals(waiter.timeouts.length, times, "a later one is no reason");
  queues.close();
  await Promise.all(ends);
  await turns();
  assertEquals(waiter.sleeping, null);
});
