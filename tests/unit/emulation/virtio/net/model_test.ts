import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { NetModel } from "../../../../../lib/emulation/virtio/net/model.ts";
import { FILTER_ENTRIES } from "../../../../../lib/emulation/virtio/net/filter.ts";
import { NetSwitch } from "../../../../../lib/emulation/virtio/net/switch.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { FEATURE, NET_FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { FakeNic, FEATURES, frame, mac, macBytes, udp } from "../fake_nic.ts";

const MQ = FEATURES | NET_FEATURE.MQ;

Deno.test("5.1.4 config space: mac, status, max_virtqueue_pairs, mtu by offset; read-only", () => {
  using nic = new FakeNic(new NetSwitch("s0"), 5, { mtu: 9000, queuePairs: 3 });
  const bytes = new Uint8Array(14);
  nic.fn.behaviour.readBar(4, 0x2000, bytes);
  assertEquals([...bytes], [...macBytes(mac(5)), 1, 0, 3, 0, 9000 & 0xff, 9000 >> 8, 0, 0]);
  assertEquals(nic.fn.read(0x2000 + 10, 2), 9000);
  nic.start();
  nic.fn.write(0x2000, 1, 7);
  assertStringIncludes(nic.fn.port.take()[0]!, "virtio 1.2 §5.1.4: write of 1 bytes at 0");
  assertEquals(nic.fn.read(0x2000, 1), 0x52);
});

Deno.test("5.1.2 queues: two a pair and the control queue; class code of an Ethernet controller", () => {
  using nic = new FakeNic(new NetSwitch("s0"), 1, { queuePairs: 3, queueSize: 32 });
  assertEquals(nic.model.queueSizes, [32, 32, 32, 32, 32, 32, 32]);
  assertEquals(nic.fn.behaviour.identity.deviceId, 0x1041);
  assertEquals(nic.fn.behaviour.identity.classCode, 0x020000);
  assertEquals(nic.fn.behaviour.msix!.vectors, 8);
});

Deno.test("5.1.3 offered features; those that need what is off go too", () => {
  const of = (featuresOff: bigint, queuePairs = 2) =>
    new NetModel(new NetSwitch("s0"), { mac: mac(1), featuresOff, queuePairs }).features;
  const all = NET_FEATURE.MAC | NET_FEATURE.MTU | NET_FEATURE.STATUS | NET_FEATURE.MRG_RXBUF |
    NET_FEATURE.CTRL_VQ | NET_FEATURE.CTRL_RX | NET_FEATURE.CTRL_RX_EXTRA | NET_FEATURE.CTRL_MAC_ADDR |
    NET_FEATURE.MQ;
  assertEquals(of(0n), all);
  assertEquals(of(0n, 1), all & ~NET_FEATURE.MQ);
  assertEquals(
    of(NET_FEATURE.CTRL_VQ),
    NET_FEATURE.MAC | NET_FEATURE.MTU | NET_FEATURE.STATUS | NET_FEATURE.MRG_RXBUF,
  );
});

Deno.test("5.1.3.1 a feature without the one that it needs is refused", () => {
  using nic = new FakeNic(new NetSwitch("s0"), 1);
  const base = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;
  for (const name of ["MQ", "CTRL_RX", "CTRL_MAC_ADDR"] as const) {
    assertEquals(nic.fn.negotiate(base | NET_FEATURE[name]), false);
    assertStringIncludes(nic.fn.port.take()[0]!, `VIRTIO_NET_F_${name} needs CTRL_VQ`);
    assert(nic.fn.negotiate(base | NET_FEATURE[name] | NET_FEATURE.CTRL_VQ));
  }
});

Deno.test("options that cannot be", () => {
  for (
    const bad of [
      { mac: "52:54:00" },
      { mac: "01:00:00:00:00:00" },
      { mac: mac(1), mtu: 67 },
      { mac: mac(1), mtu: 65536 },
      { mac: mac(1), queuePairs: 0 },
      { mac: mac(1), queueSize: 0 },
      { mac: mac(1), queueSize: 65536 },
    ]
  ) {
    const place = { address: "0000:01:00.0" };
    assertThrows(() => createVirtioModels().createBehaviour("virtio-net", { ...place, ...bad }), UsageError);
  }
});

Deno.test("5.1.6.5 a command that the device does not know, or for a feature not negotiated, gets an error", () => {
  using nic = new FakeNic(new NetSwitch("s0"), 1);
  nic.start();
  assertEquals(nic.control(9, 0, []), 1);
  assertEquals(nic.control(2, 0, [1, 0]), 1);
  assertEquals(nic.control(0, 6, [1]), 1);
  assertEquals(nic.fn.port.take(), [], "not knowing a command is nobody's fault");
  assertEquals(nic.control(4, 0, [1, 0]), 1, "MQ");
  nic.start(FEATURES & ~NET_FEATURE.CTRL_RX_EXTRA);
  assertEquals(nic.control(0, 2, [1]), 1, "ALLUNI");
  nic.start(FEATURES & ~NET_FEATURE.CTRL_RX);
  assertEquals(nic.control(0, 0, [1]), 1);
  assertEquals(nic.control(1, 0, [0, 0, 0, 0, 0, 0, 0, 0]), 1);
  nic.start(FEATURES & ~NET_FEATURE.CTRL_MAC_ADDR);
  assertEquals(nic.control(1, 1, macBytes(mac(9))), 1);
  const reports = nic.fn.port.take();
  assertEquals(reports.length, 5);
  for (const one of reports) assertStringIncludes(one, "virtio 1.2 §5.1.6.5: control command");
  assertEquals(nic.fn.status, 15, "reported, not stopped");
});

Deno.test("5.1.6.5 malformed commands get an error and change nothing", () => {
  using nic = new FakeNic(new NetSwitch("s0"), 1);
  nic.start(MQ);
  const bad: [number, number, number[]][] = [
    [0, 0, []],
    [0, 0, [2]],
    [0, 0, [1, 1]],
    [1, 1, [2, 0, 0, 0, 0]],
    [1, 1, [1, 0, 0, 0, 0, 0]],
    [1, 0, [0, 0, 0]],
    [1, 0, [0, 0, 0, 0]],
    [1, 0, [1, 0, 0, 0, 2, 0, 0, 0, 0, 1]],
    [1, 0, [255, 255, 255, 255, 0, 0, 0, 0]],
    [1, 0, [0, 0, 0, 0, 255, 255, 255, 255]],
    [1, 0, [0, 0, 0, 0, 0, 0, 0, 0, 0]],
    [4, 0, [1]],
    [4, 0, [0, 0]],
    [4, 0, [3, 0]],
  ];
  for (const [kind, command, data] of bad) {
    assertEquals(nic.control(kind, command, data), 1, `${kind}.${command} ${data}`);
    assertEquals(nic.fn.port.take().length, 1, `${kind}.${command} ${data}`);
  }
  assertEquals([nic.model.filter.promiscuous, nic.model.activePairs, nic.model.mac], [false, 1, mac(1)]);
});

Deno.test("5.1.6.5 addresses in the wrong table are refused", () => {
  using nic = new FakeNic(new NetSwitch("s0"), 1);
  nic.start();
  assertEquals(nic.control(1, 0, [1, 0, 0, 0, 0x33, 0x33, 0, 0, 0, 1, 0, 0, 0, 0]), 1);
  assertStringIncludes(nic.fn.port.take()[0]!, "1 addresses are in the wrong table");
});

Deno.test("5.1.6.5 a command without room for the ack, or without a header, stops the device", () => {
  for (
    const parts of [[{ length: 4 }], [{ length: 1 }, { length: 1, write: true }], [{
      length: 1,
      write: true,
    }]]
  ) {
    using nic = new FakeNic(new NetSwitch("s0"), 1);
    nic.start();
    nic.ring(2).add(parts.map((part) => ({ iova: nic.fn.client.at(0), ...part })));
    nic.ring(2).publish();
    nic.fn.run();
    assertEquals(nic.fn.status, 15 | 64);
    assertStringIncludes(nic.fn.port.take()[0]!, "virtio 1.2 §5.1.6.5: a control command of");
  }
});

Deno.test("5.1.6.5.2 MAC_ADDR_SET changes address and config, reset restores it", () => {
  const net = new NetSwitch("s0");
  using a = new FakeNic(net, 1);
  using b = new FakeNic(net, 2);
  a.start();
  b.start().post(2);
  assertEquals(b.fn.read(0x2000, 4), 0x00005452);
  assertEquals(b.control(1, 1, macBytes(mac(0x77))), 0);
  assertEquals(b.fn.read(0x2005, 1), 0x77);
  assertEquals(b.fn.read(21, 1), 1, "generation");
  a.send(frame(mac(0x77), mac(1), 60));
  a.send(frame(mac(2), mac(1), 60));
  a.fn.run();
  assertEquals(b.received().map((one) => one[5]), [0x77]);
  b.fn.status = 0;
  assertEquals(b.fn.read(0x2005, 1), 2);
});

Deno.test("5.1.6.5.2 more addresses than the table holds: all of the kind are taken", () => {
  const net = new NetSwitch("s0");
  using a = new FakeNic(net, 1);
  using b = new FakeNic(net, 2);
  a.start();
  b.start().post(4);
  const count = FILTER_ENTRIES + 1;
  const entries = Array.from({ length: count }, (_, i) => [0x33, 0x33, 0, 0, 1, i]).flat();
  const give = (n: number) =>
    assertEquals(b.control(1, 0, [0, 0, 0, 0, n, 0, 0, 0, ...entries.slice(0, 6 * n)]), 0);
  const other = frame("33:33:99:99:99:99", mac(1), 60);
  give(FILTER_ENTRIES);
  a.send(other);
  a.send(frame("33:33:00:00:01:3f", mac(1), 60));
  a.fn.run();
  assertEquals(b.received().map((one) => one[5]), [0x3f], "the last entry that fits");
  give(count);
  a.send(other);
  a.fn.run();
  assertEquals(b.received(), [other]);
  give(1);
  a.send(other);
  a.fn.run();
  assertEquals(b.received(), []);
});

Deno.test("5.1.2 without MQ the control queue is queue 2, however many pairs there are", () => {
  using nic = new FakeNic(new NetSwitch("s0"), 1, { queuePairs: 4 });
  nic.start();
  assertEquals(nic.control(0, 0, [1]), 0);
  assertEquals(nic.ring(2).usedIdx, 1);
  nic.start(MQ);
  assertEquals(nic.control(0, 0, [1]), 0);
  assertEquals([nic.ring(2).usedIdx, nic.ring(8).usedIdx], [0, 1]);
});

Deno.test("5.1.6.5.5 frames arrive on pair 0 before VQ_PAIRS_SET, and where their flow was sent after it", () => {
  const net = new NetSwitch("s0");
  using a = new FakeNic(net, 1, { queuePairs: 4 });
  using b = new FakeNic(net, 2, { queuePairs: 4 });
  a.start();
  b.start(MQ);
  for (const queue of [0, 2, 4, 6]) b.post(8, [2048], queue);
  const inbound = (port: number) => udp(mac(2), mac(1), [1, port], [2, 80]);
  const outbound = (port: number) => udp(mac(1), mac(2), [2, 80], [1, port]);
  for (let port = 0; port < 4; port++) a.send(inbound(port));
  a.fn.run();
  assertEquals(b.received(0).length, 4);

  assertEquals(b.control(4, 0, [4, 0]), 0);
  a.post(8);
  for (let port = 0; port < 4; port++) b.send(outbound(port), 2 * (3 - port) + 1);
  b.fn.run();
  assertEquals(a.received().length, 4);
  for (let port = 0; port < 4; port++) a.send(inbound(port));
  a.fn.run();
  for (let port = 0; port < 4; port++) {
    assertEquals(b.received(2 * (3 - port)), [inbound(port)], `flow of port ${port}`);
  }
  // Fewer pairs: nothing may arrive beyond them.
  assertEquals(b.control(4, 0, [2, 0]), 0);
  for (let port = 0; port < 4; port++) a.send(inbound(port));
  a.fn.run();
  assertEquals(b.received(0).length + b.received(2).length, 4);
  assertEquals([b.received(4), b.received(6)], [[], []]);
});

Deno.test("5.1.6.5.5 flows that were never sent on spread over the pairs, each staying where it is", () => {
  const net = new NetSwitch("s0");
  using a = new FakeNic(net, 1, { queuePairs: 4 });
  using b = new FakeNic(net, 2, { queuePairs: 4, queueSize: 64 });
  a.start();
  b.start(MQ);
  for (const queue of [0, 2, 4, 6]) b.post(60, [256], queue);
  b.control(4, 0, [4, 0]);
  const where = new Map<number, number>();
  for (let round = 0; round < 2; round++) {
    for (let port = 0; port < 24; port++) {
      a.send(udp(mac(2), mac(1), [1, port], [2, 80]));
      a.fn.run();
      const queue = [0, 2, 4, 6].find((one) => b.received(one).length === 1)!;
      if (round === 0) where.set(port, queue);
      else assertEquals(queue, where.get(port), `port ${port}`);
    }
  }
  assertEquals(new Set(where.values()).size, 4);
});

Deno.test("5.1.6.5.5 a pair whose receive queue is not enabled gives way; with none the frame is dropped", () => {
  const net = new NetSwitch("s0");
  using a = new FakeNic(net, 1);
  using b = new FakeNic(net, 2);
  a.start();
  b.start(MQ | FEATURE.RING_RESET);
  b.post(40, [256], 0).post(40, [256], 2);
  b.control(4, 0, [2, 0]);
  const resetQueue = (index: number) => {
    b.fn.write(22, 2, index);
    b.fn.write(58, 2, 1);
  };
  resetQueue(2);
  for (let port = 0; port < 10; port++) a.send(udp(mac(2), mac(1), [1, port], [2, 80]));
  a.fn.run();
  assertEquals(b.received(0).length, 10);
  resetQueue(0);
  a.send(udp(mac(2), mac(1), [1, 1], [2, 80]));
  assertEquals(a.fn.run(), 1);
  assertEquals(b.model.stats().notReceiving, 1);
});

Deno.test("5.1.6.5.5 transmit queues beyond the pairs in use are not served, and notifying one is reported", () => {
  const net = new NetSwitch("s0");
  using a = new FakeNic(net, 1);
  using b = new FakeNic(net, 2);
  a.start(MQ);
  b.start().post(4);
  a.send(frame(mac(2), mac(1), 60), 3);
  a.fn.notify(3);
  assertEquals(a.fn.run(), 0);
  assertStringIncludes(a.fn.port.take()[0]!, "transmit queue 3 was notified, 1 queue pairs are in use");
  // Once the pair is in use its queue is served, and what was queued before fewer pairs were asked for is still sent.
  a.control(4, 0, [2, 0]);
  assertEquals(b.received().length, 1);
  for (let i = 0; i < 4; i++) a.send(frame(mac(2), mac(1), 60), 3);
  a.control(4, 0, [1, 0]);
  assertEquals(b.received().length, 3, "no more buffers");
  b.post(1);
  a.fn.run();
  assertEquals(b.received().length, 1);
  a.fn.notify(1);
  a.fn.notify(4);
  assertEquals(a.fn.port.take(), []);
});

Deno.test("notifications: transmit and control queues are asked for, receive queues are not", () => {
  using nic = new FakeNic(new NetSwitch("s0"), 1);
  nic.start().post(2);
  nic.send(frame(mac(9), mac(1), 60));
  nic.fn.run();
  assertEquals(nic.ring(1).usedFlags, 1, "suppressed while busy");
  assertEquals(nic.front.arm(), false);
  assertEquals([nic.ring(1).usedFlags, nic.ring(2).usedFlags], [0, 0]);
  nic.send(frame(mac(9), mac(1), 60));
  assertEquals(nic.front.arm(), true);
});
