import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { FrameBurst, VirtioNet } from "../../../../drivers/net/virtio_net.ts";
import { mappingCount, openFdCount } from "../../../../ffi/mod.ts";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import { FakeTransport } from "../../virtio/transport/fake_transport.ts";
import { ModelNet, NET, testFrame } from "../../virtio/model_net.ts";

Deno.test("a device that stops (DEVICE_NEEDS_RESET) ends waits with a DeviceError; reset brings it back", async () => {
  using model = new ModelNet({ vectors: 8 });
  await using net = await VirtioNet.open(model.transport);
  const wait = assertRejects(() => net.receive(60_000), DeviceError, "DEVICE_NEEDS_RESET");
  model.transport.status |= 64;
  model.transport.interrupt(null);
  await wait;
  assertThrows(() => net.service(), DeviceError);
  // Without an interrupt, a wait that ends empty looks.
  await assertRejects(() => net.receive(5), DeviceError, "DEVICE_NEEDS_RESET");
  // Also where other work has used up the time before the wait begins.
  await assertRejects(() => net.receive(1e-9), DeviceError, "DEVICE_NEEDS_RESET");
  await net.reset();
  model.deliver(testFrame(60));
  assertEquals(await net.receive(1000), testFrame(60));
  assertEquals(net.statistics().resets, 1);
});

Deno.test("lies on the receive queue: typed, naming queue and field; reset goes on on the same transport", async () => {
  using model = new ModelNet({ queueSize: 8, vectors: 8 });
  await using net = await VirtioNet.open(model.transport);
  const lies: [field: string, lie: () => void][] = [
    ["used.idx", () => model.transport.ring(0).usedIndex = 9],
    ["used.id", () => model.transport.ring(0).push(8, 60)],
    ["used.len", () => model.transport.ring(0).push(model.transport.ring(0).pop()!.head, 2049)],
    ["used.len", () => model.transport.ring(0).push(model.transport.ring(0).pop()!.head, 11)],
    ["num_buffers", () => model.deliver(testFrame(60), 0, { numBuffers: 0 })],
    ["num_buffers", () => model.deliver(testFrame(60), 0, { numBuffers: 2 })],
    ["num_buffers", () => model.deliver(testFrame(60), 0, { numBuffers: 65535 })],
  ];
  for (const [field, lie] of lies) {
    lie();
    const error = await assertRejects(() => net.receive(1000), DeviceError);
    assertEquals(error.location, { function: "fake 0", queue: 0, field });
    const again = assertThrows(() => net.receiveBurst(new FrameBurst(1)), DeviceError);
    assertEquals(again.location.field, field);
    const old = net.rx[0]!;
    await net.reset();
    assertThrows(() => old.receiveBurst(new FrameBurst(1)), ClosedError);
    model.deliver(testFrame(61, 4));
    assertEquals(await net.receive(1000), testFrame(61, 4));
  }
});

Deno.test("frames before a lie in the same burst are still given out", async () => {
  using model = new ModelNet({ queueSize: 8 });
  await using net = await VirtioNet.open(model.transport);
  model.deliver(testFrame(60, 1));
  model.deliver(testFrame(60, 2));
  model.transport.ring(0).push(8, 60);
  assertEquals(await net.receive(0), testFrame(60, 1));
  assertEquals(await net.receive(0), testFrame(60, 2));
  const error = await assertRejects(() => net.receive(0), DeviceError);
  assertEquals(error.location.field, "used.id");
});

Deno.test("lies on the transmit queue: an id used twice, a length where nothing may be written", async () => {
  using model = new ModelNet({ queueSize: 8 });
  await using net = await VirtioNet.open(model.transport);
  model.takeSent = false;
  for (
    const lie of [
      () => {
        model.transport.ring(1).push(0, 0);
        model.transport.ring(1).push(0, 0);
      },
      () => model.transport.ring(1).push(0, 1),
    ]
  ) {
    net.send(testFrame(60));
    net.send(testFrame(60));
    lie();
    const error = assertThrows(() => {
      net.tx[0]!.reclaim();
      net.tx[0]!.reclaim();
    }, DeviceError);
    assertEquals(error.location.queue, 1);
    await net.reset();
    assertEquals(net.send(testFrame(60)), true);
  }
});

Deno.test("config that cannot be: MTU below 68, no queue pairs; a generation that never settles", async () => {
  using model = new ModelNet({ mtu: 67 });
  const mtu = await assertRejects(() => VirtioNet.open(model.transport), DeviceError);
  assertEquals(mtu.location.field, "mtu");
  using pairs = new ModelNet({ features: NET.version1 | NET.mq | NET.ctrlVq, maxPairs: 1 });
  pairs.transport.config[8] = 0;
  assertEquals(
    (await assertRejects(() => VirtioNet.open(pairs.transport), DeviceError)).location.field,
    "max_virtqueue_pairs",
  );
  using restless = new ModelNet();
  restless.transport.onConfigRead = () => void restless.transport.generation++;
  const error = await assertRejects(() => VirtioNet.open(restless.transport), DeviceError);
  assertEquals(error.location.field, "config_generation");
  assertEquals(restless.transport.dma.usage.allocations, 0);
  restless.transport.onConfigRead = () => {};
  await using net = await VirtioNet.open(restless.transport);
  assertEquals(net.mtu, 1500);
});

Deno.test("a reset that never finishes is a TimeoutError; later the same device can be reset and goes on", async () => {
  using model = new ModelNet({ vectors: 8 });
  await using net = await VirtioNet.open(model.transport);
  const usable = model.transport.onReset;
  model.transport.onReset = () => false;
  await assertRejects(() => net.reset(), TimeoutError);
  assertThrows(() => net.send(testFrame(60)), DeviceError, "failed reset");
  assertEquals(model.transport.dma.usage.allocations, 0);
  model.transport.onReset = usable;
  await net.reset();
  assertEquals(net.send(testFrame(60)), true);
  // Also when only the first of the resets on the way fails: it is said, not swallowed.
  let failures = 1;
  model.transport.onReset = () => failures-- <= 0;
  await assertRejects(() => net.reset(), TimeoutError);
  await net.reset();
  assertEquals(net.send(testFrame(60)), true);
});

Deno.test("resets that are called at once bring the device up once", async () => {
  using model = new ModelNet({ vectors: 8 });
  await using net = await VirtioNet.open(model.transport);
  const allocations = model.transport.dma.usage.allocations;
  await Promise.all([net.reset(), net.reset(), net.reset()]);
  assertEquals(net.statistics().resets, 1);
  assertEquals(model.transport.dma.usage.allocations, allocations);
  assertEquals(net.send(testFrame(60)), true);
});

Deno.test("a failed open leaves nothing: no memory, no eventfd, no interrupt, and the next open works", async () => {
  using model = new ModelNet({ vectors: 8, maxPairs: 2 });
  const before = [openFdCount(), mappingCount().mappings];
  model.ack = 1;
  await assertRejects(() => VirtioNet.open(model.transport, { queuePairs: 2 }), DeviceError, "refused");
  await assertRejects(() => VirtioNet.open(model.transport, { queueSize: 0 }), UsageError);
  await assertRejects(
    () => VirtioNet.open(model.transport, { wait: "eventfd", interrupts: "none" }),
    UsageError,
  );
  assertEquals([openFdCount(), mappingCount().mappings], before);
  assertEquals(model.transport.dma.usage.allocations, 0);
  assertEquals(model.transport.status, 0);
  using other = new FakeTransport({ deviceId: 4 });
  await assertRejects(() => VirtioNet.open(other), UnsupportedError, "no network device");
  model.ack = 0;
  await using net = await VirtioNet.open(model.transport, { queuePairs: 2 });
  assertEquals(net.rx.length, 2);
});

Deno.test("after close every call and every view is dead; waits under way end with ClosedError; nothing leaks", async () => {
  const before = [openFdCount(), mappingCount().mappings];
  {
    using model = new ModelNet({ vectors: 8 });
    const net = await VirtioNet.open(model.transport);
    const { rx: [rx], tx: [tx] } = net;
    const burst = new FrameBurst(1);
    model.deliver(testFrame(60));
    net.receiveBurst(burst);
    const slot = tx!.reserve();
    const views = [tx!.frame(slot), rx!.views[burst.slots[0]!]!];
    const wait = assertRejects(() => net.receive(60_000), ClosedError);
    net.close();
    await wait;
    await net.settled;
    for (const view of views) {
      assertEquals(view.length, 0);
      assertEquals(view[0], undefined);
      view[0] = 1;
    }
    const calls: (() => unknown)[] = [
      () => net.receiveBurst(new FrameBurst(1)),
      () => net.recycle(burst),
      () => net.transmitBurst(new Uint16Array(1), new Uint32Array(1), 1),
      () => net.send(testFrame(60)),
      () => net.waitReceiveBlocking(1),
      () => net.service(),
      () => net.mtu,
      () => net.linkUp,
      () => net.rx,
      () => rx!.receiveBurst(new FrameBurst(1)),
      () => rx!.recycle(burst),
      () => rx!.copyFrame(burst, 0, new Uint8Array(2000)),
      () => rx!.hasUsed(),
      () => rx!.flush(),
      () => rx!.enableInterrupts(),
      () => tx!.reserve(),
      () => tx!.frame(slot),
      () => tx!.send(slot, 60),
      () => tx!.cancel(slot),
      () => tx!.flush(),
      () => tx!.reclaim(),
      () => tx!.hasUsed(),
    ];
    for (const call of calls) assertThrows(call, ClosedError);
    for (
      const call of [
        () => net.receive(1),
        () => net.waitReceive(1),
        () => net.waitTransmit(1),
        () => net.setPromiscuous(true),
        () => net.reset(),
      ]
    ) {
      await assertRejects(async () => await call(), ClosedError);
    }
    net.close();
    assertEquals(model.transport.status, 0);
    assertEquals(model.transport.closed, false);
    assertEquals(model.transport.dma.usage.allocations, 0);
  }
  assertEquals([openFdCount(), mappingCount().mappings], before);
});

Deno.test("closing the transport beneath an open device: ClosedErrors, no crash", async () => {
  using model = new ModelNet();
  const net = await VirtioNet.open(model.transport);
  const { rx: [rx], tx: [tx] } = net;
  model.transport.close();
  assertThrows(() => net.send(testFrame(60)), ClosedError);
  assertThrows(() => rx!.receiveBurst(new FrameBurst(1)), ClosedError);
  assertThrows(() => tx!.reserve(), ClosedError);
  net.close();
});
