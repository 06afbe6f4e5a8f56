/** Frames of several flows that come together: one burst for each receive queue. */
import { assertEquals } from "@std/assert";
import type { Burst } from "../../../../../lib/emulation/virtio/queue/burst.ts";
import { SplitDeviceQueue } from "../../../../../lib/emulation/virtio/queue/split.ts";
import { NetSwitch } from "../../../../../lib/emulation/virtio/net/switch.ts";
import { NET_FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { FakeNic, FEATURES, mac, udp } from "../fake_nic.ts";

/** A queue that writes down how many chains it returned by each burst. */
class BurstLog extends SplitDeviceQueue {
  readonly pushed: number[] = [];

  override pushBurst(from: Burst, count: number): void {
    this.pushed.push(count);
    super.pushBurst(from, count);
  }
}

/** A frame of one of four flows, told by its number. */
function numbered(number: number, flow = number % 4, length = 60): Uint8Array {
  const bytes = udp(mac(2), mac(1), [1, flow], [2, 9], length);
  bytes[50] = number;
  return bytes;
}

/** Two ports with two pairs each; frames go from the first to the second. */
function pair(mergeable: boolean) {
  const net = new NetSwitch("s0", { now: () => 0 });
  const logs = new Map<string, BurstLog>();
  const nics = [1, 2].map((last) =>
    new FakeNic(net, last, {}, undefined, {
      makeQueue: (setup, device) => {
        const queue = new BurstLog(setup, device);
        logs.set(`${last}.${setup.index}`, queue);
        return queue;
      },
    })
  ) as [FakeNic, FakeNic];
  const features = mergeable ? FEATURES : FEATURES & ~NET_FEATURE.MRG_RXBUF;
  for (const nic of nics) {
    nic.start(features | NET_FEATURE.MQ);
    nic.control(4, 0, [2, 0]);
  }
  const [a, b] = nics;
  const send = (numbers: readonly number[], length?: number) => {
    for (const number of numbers) a.send(numbered(number, number % 4, length), 1, []);
    a.fn.behaviour.poll(256);
  };
  const arrived = () => [0, 2].map((queue) => b.received(queue).map((bytes) => bytes[50]!));
  return { a, b, logs, send, arrived, [Symbol.dispose]: () => nics.forEach((nic) => nic[Symbol.dispose]()) };
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

Deno.test("flows that alternate between two receive queues are one burst for each, each flow in its order", () => {
  using net = pair(true);
  for (const queue of [0, 2]) net.b.post(30, [2048], queue);
  net.send(range(0, 24));
  const found = net.arrived();
  assertEquals(found.flat().sort((x, y) => x - y), range(0, 24));
  const queues = [0, 2].map((queue) => net.logs.get(`2.${queue}`)!);
  assertEquals(queues.map(({ pushed }) => pushed), found.map((numbers) => [numbers.length]));
  for (const numbers of found) {
    assertEquals(numbers.length > 0, true, "the four flows are on both pairs");
    for (const flow of range(0, 4)) {
      const ofFlow = numbers.filter((number) => number % 4 === flow);
      assertEquals(ofFlow, ofFlow.length === 0 ? [] : range(0, 6).map((round) => 4 * round + flow));
    }
  }
  assertEquals(net.logs.get("1.1")!.pushed, [24]);
});

Deno.test("flows that alternate: where one queue has too few buffers, nothing that comes behind goes first", () => {
  using net = pair(true);
  net.b.post(30, [2048], 0).post(30, [2048], 2);
  net.send(range(0, 4));
  const [first] = net.arrived();
  // A flow of the first pair, and one of the second.
  const one = first![0]!, other = range(0, 4).find((flow) => !first!.includes(flow))!;
  using full = pair(true);
  full.b.post(30, [2048], 0).post(2, [2048], 2);
  const order = range(0, 10).flatMap((round) => [4 * round + one, 4 * round + other]);
  full.send(order);
  const sorted = (flow: number, rounds: number) => range(0, rounds).map((round) => 4 * round + flow);
  // The third frame for the second queue waits, and so do those behind it.
  assertEquals(full.arrived(), [sorted(one, 3), sorted(other, 2)]);
  assertEquals(full.a.ring(1).takeUsed().length, 5);
  assertEquals([0, 2].map((queue) => full.b.front.core.queue(queue)!.inFlight), [0, 0]);
  full.b.post(30, [2048], 2);
  full.b.fn.behaviour.poll(256);
  assertEquals(full.arrived(), [sorted(one, 10).slice(3), sorted(other, 10).slice(2)]);
  assertEquals(full.a.ring(1).takeUsed().length, 15);
});

Deno.test("flows that alternate: a frame that is too long for its queue's next buffer is dropped, and the others arrive", () => {
  using net = pair(false);
  net.b.post(4, [2048], 0).post(4, [2048], 2);
  net.send([0, 1, 2, 3]);
  const [first] = net.arrived();
  const one = first![0]!, other = range(0, 4).find((flow) => !first!.includes(flow))!;
  using short = pair(false);
  short.b.post(9, [2048], 0).post(9, [40], 2);
  short.send([one, other, 4 + one, 4 + other]);
  assertEquals(short.arrived(), [[one, 4 + one], []]);
  assertEquals(short.b.model.stats().tooLong, 2);
  assertEquals(short.b.front.core.queue(2)!.inFlight, 0);
});
