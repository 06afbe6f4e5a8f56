import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type {
  DeviceQueueSetup,
  QueueDevice,
} from "../../../../../lib/emulation/virtio/queue/device_queue.ts";
import { SplitDeviceQueue } from "../../../../../lib/emulation/virtio/queue/split.ts";
import { NetSwitch } from "../../../../../lib/emulation/virtio/net/switch.ts";
import { FEATURE, NET_FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { Random } from "../../../../random.ts";
import { BROADCAST, FakeNic, FEATURES, frame, mac } from "../fake_nic.ts";

/** Three functions on one switch, with receive buffers, and a clock of the test's. */
function three(holdMs = 1000): { nics: [FakeNic, FakeNic, FakeNic]; clock: { ms: number } } & Disposable {
  const clock = { ms: 0 };
  const net = new NetSwitch("s0", { holdMs, now: () => clock.ms });
  const nics: [FakeNic, FakeNic, FakeNic] = [new FakeNic(net, 1), new FakeNic(net, 2), new FakeNic(net, 3)];
  for (const nic of nics) nic.start().post(4);
  return {
    nics,
    clock,
    [Symbol.dispose]: () => nics.forEach((nic) => nic[Symbol.dispose]()),
  };
}

function counts(nic: FakeNic): Record<string, number> {
  const stats = nic.model.stats();
  return Object.fromEntries(Object.entries(stats).filter(([, value]) => value !== 0));
}

Deno.test("switch: a unicast frame reaches its owner alone, byte for byte", () => {
  using t = three();
  const [a, b, c] = t.nics;
  const sent = frame(mac(2), mac(1), 1514, 3);
  a.send(sent);
  assertEquals(a.fn.run(), 1);
  assertEquals(b.received(), [sent]);
  assertEquals([a.received(), c.received()], [[], []]);
  assertEquals(
    a.ring(1).takeUsed().map((one) => one.length),
    [0],
    "a transmit buffer comes back with length 0",
  );
  assertEquals(counts(a), { framesIn: 1, bytesIn: 1514 });
  assertEquals(counts(b), { framesOut: 1, bytesOut: 1514 });
  assertEquals(counts(c), {});
});

Deno.test("switch: a broadcast reaches all others", () => {
  using t = three();
  const [a, b, c] = t.nics;
  const sent = frame(BROADCAST, mac(1), 60);
  a.send(sent);
  a.fn.run();
  assertEquals([a.received(), b.received(), c.received()], [[], [sent], [sent]]);
});

Deno.test("switch: an unknown unicast reaches promiscuous ports only, and nobody is a counted drop", () => {
  using t = three();
  const [a, b, c] = t.nics;
  const sent = frame(mac(9), mac(1), 60);
  a.send(sent);
  a.fn.run();
  assertEquals(counts(a), { framesIn: 1, bytesIn: 60, noPort: 1 });
  assertEquals(c.control(0, 0, [1]), 0);
  a.send(sent);
  a.fn.run();
  assertEquals([b.received(), c.received()], [[], [sent]]);
  // Promiscuity does not tap the traffic of others.
  const private_ = frame(mac(2), mac(1), 60);
  a.send(private_);
  a.fn.run();
  assertEquals([b.received(), c.received()], [[private_], []]);
});

Deno.test("switch: a frame to its own sender goes nowhere", () => {
  using t = three();
  const [a, b] = t.nics;
  a.send(frame(mac(1), mac(1), 60));
  a.fn.run();
  assertEquals([a.received(), b.received()], [[], []]);
  assertEquals(counts(a).noPort, 1);
});

Deno.test("switch: multicast goes by table, all-multicast and NOMULTI; unicast tables make owners", () => {
  using t = three();
  const [a, b, c] = t.nics;
  const group = [0x33, 0x33, 0, 0, 0, 1];
  const sent = frame("33:33:00:00:00:01", mac(1), 60);
  const offer = () => {
    a.send(sent);
    a.fn.run();
    return [b.received().length, c.received().length];
  };
  assertEquals(offer(), [0, 0]);
  // No unicast entries, one multicast entry.
  assertEquals(b.control(1, 0, [0, 0, 0, 0, 1, 0, 0, 0, ...group]), 0);
  assertEquals(offer(), [1, 0]);
  assertEquals(c.control(0, 1, [1]), 0);
  assertEquals(offer(), [1, 1]);
  assertEquals(c.control(0, 3, [1]), 0);
  assertEquals(offer(), [1, 0], "NOMULTI wins over ALLMULTI");
  // A unicast entry: frames for it come here, and to nobody else.
  assertEquals(b.control(1, 0, [1, 0, 0, 0, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0]), 0);
  assertEquals(offer(), [0, 0], "the table was replaced");
  const other = frame("02:00:00:00:00:07", mac(1), 60);
  a.send(other);
  a.fn.run();
  assertEquals(b.received(), [other]);
});

Deno.test("switch: NOBCAST and NOUNI", () => {
  using t = three();
  const [a, b] = t.nics;
  b.control(0, 5, [1]);
  b.control(0, 4, [1]);
  a.send(frame(BROADCAST, mac(1), 60));
  a.send(frame(mac(2), mac(1), 60));
  a.fn.run();
  assertEquals(b.received(), []);
  b.control(0, 0, [1]);
  a.send(frame(BROADCAST, mac(1), 60));
  a.send(frame(mac(2), mac(1), 60));
  a.fn.run();
  assertEquals(b.received().length, 2, "promiscuous mode wins over both");
});

Deno.test("switch: headers and frames may be cut anywhere, buffers too", () => {
  const random = new Random(7);
  const net = new NetSwitch("s0");
  using a = new FakeNic(net, 1);
  using b = new FakeNic(net, 2);
  for (let round = 0; round < 300; round++) {
    if (round % 12 === 0) {
      a.start();
      b.start();
    }
    const length = 14 + random.below(1501);
    const cuts = [...new Set([1 + random.below(12), 1 + random.below(40), 1 + random.below(length)])].sort((
      x,
      y,
    ) => x - y);
    const sizes = [1 + random.below(14), 12 + random.below(50), 1600];
    b.post(1, sizes);
    const sent = frame(mac(2), mac(1), length, round);
    a.send(sent, 1, cuts);
    a.fn.run();
    assertEquals(b.received(), [sent], `round ${round}: ${cuts} into ${sizes}`);
    a.ring(1).takeUsed();
  }
});

Deno.test("MRG_RXBUF: a frame takes as many buffers as it needs, num_buffers says how many", () => {
  using t = three();
  const [a, b] = t.nics;
  b.start();
  b.post(10, [200]);
  const sent = frame(mac(2), mac(1), 1500, 1);
  a.send(sent);
  a.fn.run();
  // 12 + 1500 bytes in buffers of 200.
  const used = b.ring(0).usedIdx;
  assertEquals(used, 8);
  assertEquals(b.received(), [sent]);
  assertEquals(b.ring(0).takeUsed(), []);
});

Deno.test("MRG_RXBUF: more than 255 buffers for one frame", () => {
  const net = new NetSwitch("s0");
  using a = new FakeNic(net, 1, { mtu: 65535 });
  using b = new FakeNic(net, 2, { queueSize: 512 });
  a.start();
  b.fn.bringUp(FEATURES, [0, 1], 512);
  b.post(400, [200]);
  const sent = frame(mac(2), mac(1), 60_000, 5);
  a.send(sent);
  a.fn.run();
  assertEquals(b.ring(0).usedIdx, 301);
  const [got] = b.received();
  assert(got!.length === sent.length && got!.every((byte, i) => byte === sent[i]));
});

Deno.test("without MRG_RXBUF a frame that does not fit is dropped, its buffer kept, num_buffers is 1", () => {
  using t = three();
  const [a, b] = t.nics;
  b.start(FEATURES & ~NET_FEATURE.MRG_RXBUF);
  b.post(2, [100]);
  a.send(frame(mac(2), mac(1), 89));
  a.fn.run();
  assertEquals(b.received(), []);
  assertEquals(counts(b).tooLong, 1);
  assertEquals(b.front.core.queue(0)!.available(), 2);
  const fits = frame(mac(2), mac(1), 88);
  a.send(fits);
  a.fn.run();
  assertEquals(b.received(), [fits]);
});

Deno.test("back-pressure: a frame without buffers waits in the sender's queue, and nothing is lost or reordered", () => {
  using t = three();
  const [a, b] = t.nics;
  const sent = Array.from({ length: 10 }, (_, i) => frame(mac(2), mac(1), 60 + i, i));
  for (const one of sent) a.send(one);
  a.fn.run();
  assertEquals(b.received(), sent.slice(0, 4));
  assertEquals(a.ring(1).takeUsed().length, 4);
  assertEquals([a.fn.run(), b.fn.run()], [0, 0]);
  assertEquals(a.front.arm(), false, "the sender sleeps");
  assertEquals(a.front.wakeAfterMs, 1000);
  t.clock.ms = 400;
  assertEquals(a.front.wakeAfterMs, 600);
  // The receiver's driver is asked to ring when it has buffers again, and its poll drives the sender.
  assertEquals(b.front.arm(), false);
  b.post(3);
  assertEquals(b.front.arm(), true);
  assertEquals(b.fn.run(), 3);
  assertEquals(b.received(), sent.slice(4, 7));
  b.post(8);
  assertEquals(a.fn.run(), 3);
  assertEquals(b.received(), sent.slice(7));
  assertEquals(a.front.wakeAfterMs, undefined);
  assertEquals(counts(b), { framesOut: 10, bytesOut: sent.reduce((sum, one) => sum + one.length, 0) });
});

Deno.test("back-pressure with EVENT_IDX: avail_event stands behind the buffers that were too few", () => {
  const net = new NetSwitch("s0", { now: () => 0 });
  using a = new FakeNic(net, 1);
  using b = new FakeNic(net, 2);
  a.start().post(1);
  b.start(FEATURES | FEATURE.EVENT_IDX);
  b.post(3, [100]);
  a.send(frame(mac(2), mac(1), 1000));
  assertEquals(a.fn.run(), 0);
  assertEquals(b.front.arm(), false, "three buffers are known to be too few");
  assertEquals(b.ring(0).availEvent, 3);
  b.post(1, [100]);
  assertEquals(b.front.arm(), true);
  assertEquals(b.fn.run(), 0, "four are too few as well");
  assertEquals(b.front.arm(), false);
  b.post(7, [100]);
  assertEquals(b.fn.run(), 1);
  assertEquals(b.received().map((one) => one.length), [1000]);
});

Deno.test("back-pressure is bounded: a receiver that stalls loses frames, and gets them again when it has buffers", () => {
  using t = three();
  const [a, b, c] = t.nics;
  for (let i = 0; i < 4; i++) a.send(frame(mac(2), mac(1), 60));
  a.fn.run();
  b.received();
  a.send(frame(mac(2), mac(1), 60));
  const other = frame(mac(3), mac(1), 60);
  a.send(other);
  assertEquals(a.fn.run(), 0);
  assertEquals(c.received(), [], "head of line");
  t.clock.ms = 999;
  assertEquals(a.fn.run(), 0);
  t.clock.ms = 1000;
  assertEquals(a.fn.run(), 2);
  assertEquals(c.received(), [other]);
  assertEquals(counts(b).noRoom, 1);
  a.send(frame(mac(2), mac(1), 60));
  assertEquals(a.fn.run(), 1, "stalled: no second wait");
  assertEquals(counts(b).noRoom, 2);
  b.post(1);
  const last = frame(mac(2), mac(1), 60, 9);
  a.send(last);
  a.send(last);
  assertEquals(a.fn.run(), 1, "it waits again");
  assertEquals(b.received(), [last]);
});

Deno.test("back-pressure: a receiver that takes one sender's frames is not stalled for another", () => {
  using t = three();
  const [a, b, c] = t.nics;
  b.start();
  a.send(frame(mac(2), mac(1), 60));
  assertEquals(a.fn.run(), 0);
  t.clock.ms = 900;
  c.send(frame(mac(2), mac(3), 60));
  assertEquals(c.fn.run(), 0);
  b.post(1);
  assertEquals(c.fn.run(), 1);
  t.clock.ms = 1100;
  assertEquals(a.fn.run(), 0, "the wait began anew at 900 at the earliest");
  t.clock.ms = 2100;
  assertEquals(a.fn.run(), 1);
  assertEquals(counts(b).noRoom, 1);
});

Deno.test("back-pressure: the clock of a wait starts afresh when nobody waited in between", () => {
  using t = three();
  const [a, b] = t.nics;
  for (let i = 0; i < 5; i++) a.send(frame(mac(2), mac(1), 60));
  a.fn.run();
  assertEquals(a.front.wakeAfterMs, 1000);
  // The sender's driver goes away with its waiting frame, and comes back much later.
  a.fn.status = 0;
  t.clock.ms = 50_000;
  a.start();
  a.send(frame(mac(2), mac(1), 60));
  assertEquals(a.fn.run(), 0);
  assertEquals([a.front.wakeAfterMs, counts(b).noRoom], [1000, undefined]);
});

Deno.test("back-pressure: a receiver that goes away frees its senders", () => {
  for (const how of ["reset", "closed", "link"] as const) {
    using t = three();
    const [a, b] = t.nics;
    for (let i = 0; i < 5; i++) a.send(frame(mac(2), mac(1), 60));
    assertEquals(a.fn.run(), 4);
    if (how === "reset") b.fn.status = 0;
    else if (how === "closed") b.fn.behaviour.close();
    else b.model.setLink(false);
    assertEquals(a.fn.run(), 1, how);
    assertEquals(counts(how === "closed" ? a : b)[how === "closed" ? "noPort" : "notReceiving"], 1, how);
  }
});

Deno.test("back-pressure holds one transmit queue, not the others", () => {
  const net = new NetSwitch("s0", { now: () => 0 });
  using a = new FakeNic(net, 1);
  using b = new FakeNic(net, 2);
  using c = new FakeNic(net, 3);
  a.start(FEATURES | NET_FEATURE.MQ);
  b.start();
  c.start().post(4);
  assertEquals(a.control(4, 0, [2, 0]), 0);
  a.send(frame(mac(2), mac(1), 60), 1);
  a.send(frame(mac(3), mac(1), 60), 3);
  assertEquals(a.fn.run(), 1);
  assertEquals(c.received().length, 1);
  assertEquals(a.front.arm(), false);
  a.send(frame(mac(3), mac(1), 60), 3);
  assertEquals(a.front.arm(), true, "the other queue is armed");
  a.fn.run();
  assertEquals([net.waiting(a.model, 0), net.waiting(a.model, 1)], [true, false]);
});

Deno.test("a flooded frame is dropped at a port without buffers, and holds nobody up", () => {
  using t = three();
  const [a, b, c] = t.nics;
  b.start();
  a.send(frame(BROADCAST, mac(1), 60));
  assertEquals(a.fn.run(), 1);
  assertEquals([b.received().length, c.received().length], [0, 1]);
  assertEquals(counts(b), { noRoom: 1 });
});

Deno.test("frames for a function without a driver are dropped and counted", () => {
  using t = three();
  const [a, b] = t.nics;
  b.fn.status = 0;
  a.send(frame(mac(2), mac(1), 60));
  assertEquals(a.fn.run(), 1);
  assertEquals(counts(b), { notReceiving: 1 });
  b.start();
  b.post(1);
  b.fn.port.busMaster = false;
  a.send(frame(mac(2), mac(1), 60));
  assertEquals(a.fn.run(), 1);
  assertEquals(b.ring(0).usedIdx, 0, "no DMA without bus mastering");
});

Deno.test("link: down drops both ways, and is told by config interrupt and status", () => {
  using t = three();
  const [a, b] = t.nics;
  assertEquals(a.fn.read(0x2006, 2), 1);
  a.model.setLink(false);
  assertEquals([a.fn.read(0x2006, 2), a.fn.read(21, 1)], [0, 1]);
  assertEquals(a.fn.port.intx, true);
  a.send(frame(mac(2), mac(1), 60));
  b.send(frame(mac(1), mac(2), 60));
  assertEquals([a.fn.run(), b.fn.run()], [1, 1]);
  assertEquals(counts(a), { linkDown: 1, notReceiving: 1 });
});

Deno.test("5.1.6.2 what must not be sent stops the device", () => {
  const cases: [problem: string, send: (nic: FakeNic) => void][] = [
    ["flags 0x1 without CSUM", (nic) => nic.send(frame(mac(2), mac(1), 60), 1, [12], [1])],
    ["gso_type 0x1", (nic) => nic.send(frame(mac(2), mac(1), 60), 1, [12], [0, 1])],
    ["the MTU allows 1514", (nic) => nic.send(frame(mac(2), mac(1), 1515))],
    ["the MTU allows 1518", (nic) => nic.send(frame(mac(2), mac(1), 1519, 0, 0x8100))],
    ["device-writable", (nic) => {
      nic.ring(1).add([{ iova: nic.fn.client.at(0), length: 80, write: true }]);
      nic.ring(1).publish();
    }],
    ["hold no virtio_net_hdr", (nic) => {
      nic.ring(1).add([{ iova: nic.fn.client.at(0), length: 11 }]);
      nic.ring(1).publish();
    }],
  ];
  for (const [problem, send] of cases) {
    const net = new NetSwitch("s0");
    using a = new FakeNic(net, 1);
    using b = new FakeNic(net, 2);
    a.start(FEATURES | NET_FEATURE.MTU);
    b.start().post(1);
    send(a);
    a.fn.run();
    const reports = a.fn.port.take();
    assertEquals(reports.length, 1);
    assertStringIncludes(reports[0]!, "virtio 1.2 §5.1.6.2: ");
    assertStringIncludes(reports[0]!, problem);
    assertEquals(a.fn.status, 15 | 64);
    assertEquals(b.received(), []);
  }
});

Deno.test("frames of exactly the MTU pass, with a VLAN tag 4 bytes more; runts are dropped", () => {
  const net = new NetSwitch("s0");
  using a = new FakeNic(net, 1);
  using b = new FakeNic(net, 2);
  a.start(FEATURES | NET_FEATURE.MTU);
  b.start(FEATURES | NET_FEATURE.MTU).post(2);
  const frames = [frame(mac(2), mac(1), 1514), frame(mac(2), mac(1), 1518, 0, 0x8100)];
  for (const one of frames) a.send(one);
  a.send(frame(mac(2), mac(1), 14).subarray(0, 13));
  assertEquals(a.fn.run(), 3);
  assertEquals(b.received(), frames);
  assertEquals(counts(a).runt, 1);
});

Deno.test("5.1.4 a frame above the receiver's MTU does not reach it", () => {
  const net = new NetSwitch("s0");
  using a = new FakeNic(net, 1, { mtu: 9000 });
  using b = new FakeNic(net, 2);
  a.start(FEATURES | NET_FEATURE.MTU);
  b.start(FEATURES | NET_FEATURE.MTU).post(8);
  a.send(frame(mac(2), mac(1), 1515));
  a.fn.run();
  assertEquals([b.received(), counts(b)], [[], { tooLong: 1 }]);
});

Deno.test("jumbo frames cross, over the bulk copy", () => {
  const net = new NetSwitch("s0");
  using a = new FakeNic(net, 1, { mtu: 65535 });
  using b = new FakeNic(net, 2, { mtu: 65535 });
  a.start(FEATURES | NET_FEATURE.MTU);
  b.start(FEATURES | NET_FEATURE.MTU).post(9, [8192]);
  const sent = frame(mac(2), mac(1), 65549, 5);
  a.send(sent);
  a.fn.run();
  const [got] = b.received();
  assert(got !== undefined && got.every((byte, i) => byte === sent[i]) && got.length === sent.length);
});

Deno.test("5.1.6.3 bad receive buffers stop the receiver, not the sender", () => {
  for (
    const [part, problem] of [
      [{ length: 11, write: true }, "no room for virtio_net_hdr"],
      [{ length: 100 }, "device-readable"],
    ] as const
  ) {
    using t = three();
    const [a, b] = t.nics;
    b.start();
    b.ring(0).add([{ iova: b.fn.client.at(0), ...part }]);
    b.ring(0).publish();
    a.send(frame(mac(2), mac(1), 60));
    assertEquals(a.fn.run(), 1);
    assertStringIncludes(b.fn.port.take()[0]!, problem);
    assertEquals([a.fn.status, b.fn.status], [15, 15 | 64]);
    assertEquals(counts(b), { notReceiving: 1 });
  }
});

Deno.test("switch: two switches do not meet", () => {
  const one = new NetSwitch("s0"), two = new NetSwitch("s1");
  using a = new FakeNic(one, 1);
  using b = new FakeNic(two, 2);
  a.start();
  b.start().post(1);
  a.send(frame(BROADCAST, mac(1), 60));
  a.fn.run();
  assertEquals(b.received(), []);
});

Deno.test("switch: frames published by one poll cost one interrupt", () => {
  using t = three();
  const [a, b] = t.nics;
  b.fn.port.msixEnabled = true;
  b.fn.write(22, 2, 0);
  b.fn.write(26, 2, 1);
  for (let i = 0; i < 4; i++) a.send(frame(mac(2), mac(1), 60));
  assertEquals(a.front.poll(64), 4);
  assertEquals(b.fn.port.vectors, [1]);
});

Deno.test("switch: at any instant a frame is with its sender, with its receiver, or with both, also when many go together", () => {
  const net = new NetSwitch("s0");
  const order: string[] = [];
  /** Tells when what it returned becomes visible. */
  class Told extends SplitDeviceQueue {
    readonly #name: string;
    constructor(setup: DeviceQueueSetup, device: QueueDevice, name: string) {
      super(setup, device);
      this.#name = name;
    }
    override publish(): boolean {
      order.push(`${this.#name}.${this.index}: ${this.inFlight}`);
      return super.publish();
    }
  }
  const nic = (last: number, name: string) =>
    new FakeNic(net, last, {}, undefined, { makeQueue: (setup, device) => new Told(setup, device, name) });
  using a = nic(1, "sender");
  using b = nic(2, "receiver");
  a.start();
  b.start().post(20);
  for (let i = 0; i < 20; i++) a.send(frame(mac(2), mac(1), 60 + i), 1, []);
  assertEquals(a.front.poll(64), 20);
  assertEquals(order, ["receiver.0: 0", "sender.1: 0"]);
  assertEquals([b.received().length, a.ring(1).takeUsed().length], [20, 20]);
});
