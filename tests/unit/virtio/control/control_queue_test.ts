import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { ClosedError, DeviceError, TimeoutError } from "../../../../lib/errors/mod.ts";
import { ACK_NOT_WRITTEN, ControlQueue } from "../../../../lib/virtio/control/control_queue.ts";
import { VirtioDevice } from "../../../../lib/virtio/device.ts";
import { Waiter } from "../../../../lib/wait/waiter.ts";
import { FakeTransport } from "../transport/fake_transport.ts";

const HEAD = Uint8Array.of(7, 9);

/** A device that notes what it reads, part by part, and writes what `answer` says (undefined: nothing comes back). */
function controlled(
  partsApart: boolean,
  timeoutMs = 1000,
  absence?: { away: boolean; returns: number },
) {
  const transport = new FakeTransport({ features: 1n << 32n, queueSizes: [16] });
  const device = new VirtioDevice(transport);
  device.negotiate();
  const queue = device.createQueue(0, { size: 16 });
  device.driverOk();
  const waiter = new Waiter({ mode: "poll" });
  const { name, dma } = transport;
  const site = { name, dma, waiter, absence, alive: () => device.checkAlive() };
  const control = new ControlQueue(site, queue, timeoutMs, partsApart);
  const seen: number[][][] = [];
  const writable: number[][] = [];
  const state = { answer: (): number[] | undefined => [0] };
  transport.onNotify = () => {
    const ring = transport.ring(0);
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
      const bytesOf = ({ iova, length }: { iova: bigint; length: number }) =>
        Array.from({ length }, (_, i) => transport.iommu.at(iova, length, false).getUint8(i));
      seen.push(chain.parts.filter(({ write }) => !write).map(bytesOf));
      const into = chain.parts.filter(({ write }) => write);
      writable.push(into.map(({ length }) => length));
      for (const { iova } of into.slice(1)) assertEquals(iova % 8n, 0n, "64-bit members are aligned");
      const answer = state.answer();
      if (answer === undefined) continue;
      let at = 0;
      for (const { iova, length } of into) {
        const view = transport.iommu.at(iova, length, true);
        for (let i = 0; i < length && at < answer.length; i++, at++) view.setUint8(i, answer[at]!);
      }
      ring.push(chain.head, answer.length);
    }
  };
  return {
    ...{ transport, device, control, seen, writable, state },
    [Symbol.asyncDispose]: async () => {
      device.close();
      control[Symbol.dispose]();
      waiter.close();
      await waiter.settled;
      assertEquals(transport.dma.usage.allocations, 0);
      transport.close();
    },
  };
}

const DATA = [Uint8Array.of(1, 2, 3), Uint8Array.of(4)];

Deno.test("a command is one part, or each piece its own; the answer is a byte and what follows it", async () => {
  for (const [apart, parts] of [[false, [[7, 9, 1, 2, 3, 4]]], [true, [[7, 9], [1, 2, 3], [4]]]] as const) {
    await using rig = controlled(apart);
    rig.state.answer = () => [5, 10, 11, 12];
    const { ack, reply, writtenBytes } = await rig.control.send("a", HEAD, DATA, 100);
    assertEquals([ack, [...reply], writtenBytes], [5, [10, 11, 12], 4]);
    rig.state.answer = () => [];
    const none = await rig.control.send("b", HEAD, DATA);
    assertEquals([none.ack, [...none.reply], none.writtenBytes], [ACK_NOT_WRITTEN, [], 0]);
    assertEquals(rig.seen, [parts, parts] as unknown as number[][][]);
    assertEquals(rig.writable, [[1, 100], [1]]);
  }
});

Deno.test("a long command or reply gets memory of its own, which goes when it is answered", async () => {
  await using rig = controlled(true);
  const { allocations } = rig.transport.dma.usage;
  const long = new Uint8Array(10_000).fill(3);
  rig.state.answer = () => {
    assertEquals(rig.transport.dma.usage.allocations, allocations + 1);
    return [0, ...long];
  };
  const { reply } = await rig.control.send("long", HEAD, [long], long.length);
  assertEquals(reply, long);
  assertEquals(rig.seen[0], [[...HEAD], [...long]]);
  assertEquals(rig.transport.dma.usage.allocations, allocations);
});

Deno.test("one at a time, in their order; idle waits for all", async () => {
  await using rig = controlled(false);
  const order: number[] = [];
  const all = [1, 2, 3].map(async (number) => {
    await rig.control.send(`${number}`, Uint8Array.of(number, 0), []);
    order.push(number);
  });
  assertEquals(rig.seen.length, 1);
  await rig.control.idle();
  assertEquals([order, rig.seen.map((parts) => parts[0]![0])], [[1, 2, 3], [1, 2, 3]]);
  await Promise.all(all);
  await rig.control.idle();
});

Deno.test("no answer: that command and all after it end with one error; its memory stays until the end", async () => {
  await using rig = controlled(false, 20);
  rig.state.answer = () => undefined;
  const { allocations } = rig.transport.dma.usage;
  const first = rig.control.send("the first", HEAD, [new Uint8Array(10_000)]);
  const second = rig.control.send("the second", HEAD, []);
  const error = await assertRejects(
    () => first,
    TimeoutError,
    "queue 0: the first was not answered in 20 ms",
  );
  assertStrictEquals(await assertRejects(() => second, TimeoutError), error);
  assertStrictEquals(await assertRejects(() => rig.control.send("x", HEAD, []), TimeoutError), error);
  assertEquals([rig.seen.length, rig.control.stuck], [1, true]);
  assertEquals(rig.transport.dma.usage.allocations, allocations + 1);
  await rig.control.idle();
});

Deno.test("the time of a command begins when it is sent, however long it waited", async () => {
  const LIMIT_MS = 60_000;
  await using rig = controlled(false, LIMIT_MS);
  const { now } = performance;
  let late = 0;
  performance.now = () => now.call(performance) + late * LIMIT_MS * 0.7;
  try {
    rig.state.answer = () => {
      const { transport } = rig;
      setTimeout(() => transport.ring(0).push(0, 1), 0);
      late++;
      return undefined;
    };
    const all = [1, 2, 3].map((number) => rig.control.send(`${number}`, HEAD, []));
    for (const { ack } of await Promise.all(all)) assertEquals(ack, ACK_NOT_WRITTEN);
    assertEquals(late, 3);
  } finally {
    performance.now = now;
  }
});

Deno.test("a device that stopped, a ring that broke, an end in between", async () => {
  {
    await using rig = controlled(false, 20);
    rig.state.answer = () => undefined;
    rig.transport.status |= 0x40;
    await assertRejects(() => rig.control.send("a", HEAD, []), DeviceError, "the device stopped");
    assert(rig.control.stuck);
  }
  {
    await using rig = controlled(false);
    rig.state.answer = () => {
      rig.transport.ring(0).push(9, 1);
      return undefined;
    };
    const error = await assertRejects(() => rig.control.send("a", HEAD, []), DeviceError);
    assertEquals(error.location.field, "used.id");
    assert(rig.control.stuck);
  }
  {
    await using rig = controlled(false);
    rig.state.answer = () => undefined;
    const sent = rig.control.send("a", HEAD, []);
    rig.device.close();
    rig.control[Symbol.dispose]();
    await assertRejects(() => sent, ClosedError, "control queue of fake 0");
    await assertRejects(() => rig.control.send("b", HEAD, []), ClosedError);
  }
});

Deno.test("a command that the device had when it was lost has all its time again once the device is back, and then no more", async () => {
  const LIMIT_MS = 60_000;
  const absence = { away: false, returns: 0 };
  await using rig = controlled(false, LIMIT_MS, absence);
  const { now } = performance;
  let limits = 0;
  performance.now = () => now.call(performance) + limits * LIMIT_MS;
  const turn = () => new Promise((resolve) => setTimeout(resolve, 5));
  try {
    rig.state.answer = () => undefined;
    let over = false;
    const sent = rig.control.send("it", HEAD, []).then(() => {}, (error) => error);
    sent.then(() => over = true);
    await turn();
    absence.away = true;
    for (limits = 1; limits < 5; limits++) await turn();
    assertEquals(over, false, "lost for many times its time");
    absence.away = false;
    absence.returns++;
    limits++;
    await turn();
    assertEquals(over, false, "it is back");
    limits += 2;
    const error = await sent;
    assert(error instanceof TimeoutError);
    assertEquals(rig.control.stuck, true);
  } finally {
    performance.now = now;
  }
});
