import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import {
  exchangeByInterrupt,
  exchangePolled,
  type FrameStream,
} from "../../../../drivers/net/virtio/exchange.ts";
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

Deno.test("open: features, MAC, MTU, link, queues in place and buffers given before the first frame", async () => {
  using model = new ModelNet({ mtu: 1400 });
  await using net = await VirtioNet.open(model.transport, { queueSize: 16 });
  assertEquals(net.macText, "52:54:00:01:02:03");
  assertEquals([net.mtu, net.maxFrameBytes, net.linkUp, net.maxQueuePairs], [1400, 1414, true, 1]);
  assertEquals(net.features, model.transport.offered);
  assert(net.featureNames.includes("VIRTIO_NET_F_MRG_RXBUF"));
  assertEquals(model.transport.status, 15);
  assertEquals([...model.transport.rings.keys()], [0, 1, 2]);
  assertEquals(model.transport.ring(0).availableIndex, 16);
  assertEquals(model.transport.ring(1).availableIndex, 0);
});

Deno.test("offloads are never accepted, refused features neither, dependencies are kept", async () => {
  const { version1, guestCsum, guestTso4, ctrlRx, mac, mq } = NET;
  using model = new ModelNet({ features: version1 | guestCsum | guestTso4 | ctrlRx | mq | mac });
  {
    await using net = await VirtioNet.open(model.transport, {});
    assertEquals(net.features, version1 | mac, "CTRL_RX and MQ need CTRL_VQ");
    assertEquals(net.mtu, 1500);
  }
  await using plain = await VirtioNet.open(model.transport, { refusedFeatures: mac });
  assertEquals(plain.features, version1);
  assertEquals(plain.mac[0]! & 3, 2, "made up: unicast and locally administered");
});

Deno.test("frames out: a zero header of 12 bytes, then the frame, byte for byte", async () => {
  using model = new ModelNet();
  await using net = await VirtioNet.open(model.transport);
  for (const length of [14, 60, 1514]) {
    assertEquals(net.send(testFrame(length, length)), true);
    const { queue, bytes } = model.sent.at(-1)!;
    assertEquals(queue, 1);
    assertEquals(bytes.subarray(0, 12), new Uint8Array(12));
    assertEquals(bytes.subarray(12), testFrame(length, length));
  }
  assertEquals(net.statistics().transmitted, {
    frames: 3,
    bytes: 14 + 60 + 1514,
    dropped: 0,
    notifications: 3,
  });
});

Deno.test("frames that are too short or too long are UsageErrors and leave nothing behind", async () => {
  using model = new ModelNet({ mtu: 100 });
  await using net = await VirtioNet.open(model.transport);
  for (const length of [0, 13, 115, 1514]) {
    assertThrows(() => net.send(new Uint8Array(length)), UsageError, `${length} bytes`);
  }
  const queue = net.tx[0]!;
  const slot = queue.reserve();
  for (const length of [13, 115, NaN, 20.5]) assertThrows(() => queue.send(slot, length), UsageError);
  queue.cancel(slot);
  assertEquals(queue.freeSlots, queue.slotCount);
  assertEquals(model.sent.length, 0);
});

Deno.test("transmit slots: reserved, sent, back after the device is done; wrong use is a UsageError", async () => {
  using model = new ModelNet({ queueSize: 8 });
  await using net = await VirtioNet.open(model.transport);
  model.takeSent = false;
  const queue = net.tx[0]!;
  const slots = new Uint16Array(8);
  const lengths = new Uint32Array(8);
  for (let i = 0; i < 8; i++) {
    const slot = slots[i] = queue.reserve();
    queue.frame(slot).set(testFrame(64, i));
    lengths[i] = 64;
  }
  assertEquals(new Set(slots).size, 8);
  assertEquals(queue.reserve(), -1);
  assertEquals(net.transmitBurst(slots, lengths, 8), 8);
  assertEquals(
    model.sent.map((one) => one.bytes.subarray(12)),
    slots.reduce<Uint8Array[]>((all, _, i) => [...all, testFrame(64, i)], []),
  );
  assertThrows(() => queue.send(slots[0]!, 64), UsageError, "not reserved");
  assertThrows(() => queue.frame(slots[0]!), UsageError, "not reserved");
  assertThrows(() => queue.cancel(99), UsageError);
  assertThrows(() => net.transmitBurst(slots, lengths, 9), UsageError);
  assertEquals(net.send(testFrame(64)), false);
  assertEquals(net.statistics().transmitted.dropped, 1);
  assertEquals(await net.waitTransmit(5), false);
  model.release();
  assertEquals(await net.waitTransmit(1000), true);
  assertEquals(queue.reclaim(), 8);
  assertEquals(queue.freeSlots, 8);
  assertEquals(net.send(testFrame(64)), true);
});

Deno.test("slots are reserved by the burst, as many as there are; what is wrong in a burst ends it, and what came before is sent", async () => {
  using model = new ModelNet({ queueSize: 8 });
  await using net = await VirtioNet.open(model.transport);
  const queue = net.tx[0]!;
  const slots = new Uint16Array(12);
  assertEquals([queue.reserveBurst(slots, 3), queue.freeSlots], [3, 5]);
  const one = queue.reserve();
  queue.frame(one).set(testFrame(60, 9));
  slots.subarray(0, 3).forEach((slot, at) => queue.frame(slot).set(testFrame(64, at)));
  // One by one and by the burst: in the order of the calls.
  queue.send(one, 60);
  const lengths = Uint32Array.of(64, 64, 13);
  assertThrows(() => queue.transmitBurst(slots, lengths, 3), UsageError, "13 bytes");
  assertEquals(model.sent.map(({ bytes }) => bytes.subarray(12)), [
    testFrame(60, 9),
    testFrame(64, 0),
    testFrame(64, 1),
  ]);
  const { frames, bytes } = net.statistics().transmitted;
  assertEquals([frames, bytes], [3, 60 + 2 * 64]);
  lengths[2] = 64;
  assertThrows(() => queue.transmitBurst(slots, lengths, 3), UsageError, `slot ${slots[0]} is not reserved`);
  queue.cancel(slots[2]!);
  // The device is done with all: they are taken back when there are too few.
  assertEquals([queue.reserveBurst(slots), queue.reserveBurst(slots)], [8, 0]);
  assertEquals(new Set(slots.subarray(0, 8)).size, 8);
  for (const count of [13, -1, NaN]) assertThrows(() => queue.reserveBurst(slots, count), UsageError);
  assertThrows(() => queue.reserveBurst([0] as never), UsageError);
});

Deno.test("reserve takes slots back by itself when it runs dry", async () => {
  using model = new ModelNet({ queueSize: 8 });
  await using net = await VirtioNet.open(model.transport);
  for (let i = 0; i < 50; i++) assertEquals(net.send(testFrame(60, i)), true, `frame ${i}`);
  assertEquals(model.sent.length, 50);
});

Deno.test("frames in: without a copy, from the slots that the burst names, and given back by recycle", async () => {
  using model = new ModelNet({ queueSize: 8 });
  await using net = await VirtioNet.open(model.transport);
  const burst = new FrameBurst(4);
  const queue = net.rx[0]!;
  let serial = 0;
  let taken = 0;
  for (let round = 0; round < 40; round++) {
    for (let i = 0; i < 6; i++) model.deliver(testFrame(60 + serial, serial++));
    for (let n = queue.receiveBurst(burst); n > 0; n = queue.receiveBurst(burst)) {
      for (let i = 0; i < n; i++) {
        const [slot, offset, length] = [burst.slots[i]!, burst.offsets[i]!, burst.lengths[i]!];
        assertEquals(burst.first[i], i);
        assertEquals(queue.views[slot]!.slice(offset, offset + length), testFrame(60 + taken, taken));
        taken++;
      }
      queue.recycle(burst);
    }
  }
  assertEquals(taken, serial);
  const { received } = net.statistics();
  assertEquals([received.frames, received.bytes], [240, 240 * 60 + (240 * 239) / 2]);
  assertEquals(model.transport.ring(0).availableIndex, 8 + 240, "every buffer went back");
});

Deno.test("an exchange whose frame cannot be made or is too long leaves its slot free", async () => {
  using model = new ModelNet({ queueSize: 16 });
  await using net = await VirtioNet.open(model.transport);
  const mine = new Error("mine");
  const fills = [
    () => {
      throw mine;
    },
    () => 1,
  ];
  for (const fill of fills) {
    const before = net.tx[0]!.freeSlots;
    const frames: FrameStream = { fill, lengthOf: () => 60, isOurs: () => true, mismatch: () => -1 };
    for (const exchange of [exchangePolled, exchangeByInterrupt]) {
      const error = await assertRejects(() => exchange(net, net, frames, 1));
      assert(error === mine || error instanceof UsageError);
      assertEquals(net.tx[0]!.freeSlots, before);
    }
  }
});

Deno.test("MRG_RXBUF: a frame over several buffers comes in parts, and in one piece when copied", async () => {
  using model = new ModelNet({ queueSize: 16 });
  await using net = await VirtioNet.open(model.transport, { bufferBytes: 128 });
  const queue = net.rx[0]!;
  const burst = new FrameBurst(8);
  const lengths = [60, 116, 117, 500, 1514 - 700];
  lengths.forEach((length, i) => i < 4 && model.deliver(testFrame(length, i)));
  assertEquals(queue.receiveBurst(burst), 4);
  assertEquals([...burst.first.subarray(0, 5)], [0, 1, 2, 4, 8]);
  assertEquals([...burst.offsets.subarray(0, 8)], [12, 12, 12, 0, 12, 0, 0, 0]);
  assertEquals([...burst.lengths.subarray(0, 8)], [60, 116, 116, 1, 116, 128, 128, 128]);
  const into = new Uint8Array(1514);
  for (let i = 0; i < 4; i++) {
    assertEquals(burst.frameBytes(i), lengths[i]);
    assertEquals(queue.copyFrame(burst, i, into), lengths[i]);
    assertEquals(into.subarray(0, lengths[i]), testFrame(lengths[i]!, i));
  }
  assertThrows(() => queue.copyFrame(burst, 3, new Uint8Array(499)), UsageError);
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  assertThrows(() => queue.copyFrame(revoked.proxy as FrameBurst, 0, into), UsageError);
  assertThrows(() => queue.copyFrame(burst, 0, revoked.proxy as Uint8Array), UsageError);
  assertThrows(() => burst.frameBytes(4), UsageError);
  for (const no of [-1, 0.5, NaN, "0", Symbol("0"), Object.create(null), undefined, 1n]) {
    assertThrows(() => burst.frameBytes(no as number), UsageError, "of a burst of 4");
    assertThrows(() => new FrameBurst(no as number), UsageError, "a burst of");
    if (no !== undefined) assertThrows(() => new FrameBurst(4, no as number), UsageError, "4 frames in");
  }
  queue.recycle(burst);
  model.deliver(testFrame(lengths[4]!, 4));
  assertEquals(await net.receive(0), testFrame(lengths[4]!, 4));
});

Deno.test("a burst is forwarded: frames of any length, from one buffer or several, in their order, as many as there are slots", async () => {
  for (const bufferBytes of [undefined, 128]) {
    using model = new ModelNet({ queueSize: 64 });
    await using net = await VirtioNet.open(model.transport, { bufferBytes });
    const rx = net.rx[0]!, tx = net.tx[0]!;
    const burst = new FrameBurst(8);
    const frames = [14, 60, 61, 62, 63, 64, 115, 116, 117, 128, 129, 500, 1514].map((bytes, at) =>
      testFrame(bytes, at)
    );
    for (const part of [frames.slice(0, 7), frames.slice(7)]) {
      for (const frame of part) model.deliver(frame);
      assertEquals(rx.receiveBurst(burst), part.length);
      assertEquals(tx.forward(rx, burst), part.length);
      assertEquals(burst.frames, part.length, "the burst is the caller's");
      rx.recycle(burst);
    }
    const zeroes = new Uint8Array(12);
    assertEquals(
      model.sent.map(({ bytes }) => bytes),
      frames.map((frame) => Uint8Array.of(...zeroes, ...frame)),
    );
    const { transmitted } = net.statistics();
    assertEquals([transmitted.frames, transmitted.bytes], [
      13,
      frames.reduce((sum, one) => sum + one.length, 0),
    ]);
    // The device keeps all but three slots.
    model.takeSent = false;
    tx.reclaim();
    while (tx.freeSlots > 3) net.send(testFrame(60));
    for (let at = 0; at < 5; at++) model.deliver(testFrame(70, at));
    assertEquals([rx.receiveBurst(burst), tx.forward(rx, burst), tx.freeSlots], [5, 3, 0]);
    assertEquals(
      model.sent.slice(-3).map(({ bytes }) => bytes.subarray(12)),
      [0, 1, 2].map((at) => testFrame(70, at)),
    );
    assertEquals(tx.forward(rx, burst), 0);
  }
});

Deno.test("forwarding ends at a frame that cannot be sent: those before it were, no slot is lost, and nothing is read after close", async () => {
  using from = new ModelNet({ queueSize: 8 });
  using model = new ModelNet({ queueSize: 8, mtu: 100 });
  await using near = await VirtioNet.open(from.transport);
  await using net = await VirtioNet.open(model.transport);
  const rx = near.rx[0]!, tx = net.tx[0]!;
  const burst = new FrameBurst(4);
  for (const bytes of [64, 114, 115, 64]) from.deliver(testFrame(bytes, bytes));
  assertEquals(rx.receiveBurst(burst), 4);
  assertThrows(() => tx.forward(rx, burst), UsageError, "115 bytes");
  assertEquals(model.sent.map(({ bytes }) => bytes.subarray(12)), [testFrame(64, 64), testFrame(114, 114)]);
  tx.reclaim();
  assertEquals(tx.freeSlots, 8);
  rx.recycle(burst);
  from.deliver(testFrame(13));
  assertEquals(rx.receiveBurst(burst), 1);
  assertThrows(() => tx.forward(rx, burst), UsageError, "13 bytes");
  assertEquals(tx.freeSlots, 8);
  for (
    const wrong of [[undefined, burst], [rx, undefined], [{}, burst], [rx, { frames: 1 }], [rx, {
      frames: NaN,
    }]]
  ) {
    assertThrows(() => tx.forward(...wrong as [never, never]), UsageError);
    assertEquals(tx.freeSlots, 8);
  }
  await near.close();
  assertThrows(() => tx.forward(rx, burst), ClosedError);
  assertEquals(tx.freeSlots, 8);
});

Deno.test("a burst too small for the next frame leaves it; one too small for any is a UsageError", async () => {
  using model = new ModelNet({ queueSize: 16 });
  await using net = await VirtioNet.open(model.transport, { bufferBytes: 128 });
  const queue = net.rx[0]!;
  const burst = new FrameBurst(2, 3);
  model.deliver(testFrame(200, 1));
  model.deliver(testFrame(300, 2));
  model.deliver(testFrame(500, 3));
  assertEquals(queue.receiveBurst(burst), 1);
  assertEquals(burst.parts, 2);
  queue.recycle(burst);
  assertEquals(queue.receiveBurst(burst), 1);
  assertThrows(() => queue.receiveBurst(burst), UsageError, "still holds 1 frames");
  queue.recycle(burst);
  assertThrows(() => queue.receiveBurst(burst), UsageError, "4 parts");
  assertEquals(await net.receive(0), testFrame(500, 3));
});

Deno.test("a receive slot is given back once, and only while the caller has it", async () => {
  using model = new ModelNet({ queueSize: 8 });
  await using net = await VirtioNet.open(model.transport);
  const queue = net.rx[0]!;
  const burst = new FrameBurst(4);
  model.deliver(testFrame(60));
  queue.receiveBurst(burst);
  const slot = burst.slots[0]!;
  assertThrows(() => queue.recycleSlot(slot === 0 ? 1 : 0), UsageError, "not held");
  assertThrows(() => queue.recycleSlot(99), UsageError);
  burst.clear();
  queue.recycleSlot(slot);
  assertThrows(() => queue.recycleSlot(slot), UsageError, "not held");
});

Deno.test("without MRG_RXBUF every buffer holds a whole frame, whatever the MTU", async () => {
  using model = new ModelNet({ mtu: 9000 });
  await assertRejects(
    () => VirtioNet.open(model.transport, { mergeable: false, bufferBytes: 2048 }),
    UsageError,
    "receive buffers of 2048",
  );
  assertEquals(model.transport.dma.usage.allocations, 0);
  await using net = await VirtioNet.open(model.transport, { mergeable: false });
  assertEquals(net.features & NET.mrgRxbuf, 0n);
  assertEquals(net.rx[0]!.views[0]!.length, 12 + 14 + 4 + 9000);
  // num_buffers is not looked at without the feature.
  model.deliver(testFrame(9014), 0, { numBuffers: 77 });
  assertEquals((await net.receive(0))?.length, 9014);
  await assertRejects(() => VirtioNet.open(model.transport, { bufferBytes: 12 }), UsageError);
});

Deno.test("an empty frame is dropped and counted, and its buffer goes back", async () => {
  using model = new ModelNet({ queueSize: 8 });
  await using net = await VirtioNet.open(model.transport);
  model.deliver(new Uint8Array(0));
  model.deliver(testFrame(60));
  assertEquals(await net.receive(0), testFrame(60));
  assertEquals(net.statistics().received.dropped, 1);
  assertEquals(model.transport.ring(0).availableIndex, 10);
});

Deno.test("receive waits for a frame: by MSI-X, by INTx, by polling; and gives up in time", async () => {
  for (const [vectors, pin, kind] of [[8, false, "msix"], [0, true, "intx"], [0, false, "none"]] as const) {
    using model = new ModelNet({ vectors, pin });
    await using net = await VirtioNet.open(model.transport);
    assertEquals(net.interruptKind, kind);
    assertEquals(await net.receive(5), undefined);
    setTimeout(() => model.deliver(testFrame(100, 1)), 10);
    assertEquals(await net.receive(60_000), testFrame(100, 1));
    if (kind !== "none") assert(net.statistics().interrupts > 0);
    assertEquals(net.waitReceiveBlocking(5), false);
    model.deliver(testFrame(100, 2));
    assertEquals(net.waitReceiveBlocking(60_000), true);
  }
});

Deno.test("frames() yields what comes, and ends when it falls silent", async () => {
  using model = new ModelNet({ vectors: 8 });
  await using net = await VirtioNet.open(model.transport);
  for (let i = 0; i < 5; i++) model.deliver(testFrame(60 + i, i));
  const seen: number[] = [];
  for await (const frame of net.frames(5)) seen.push(frame.length);
  assertEquals(seen, [60, 61, 62, 63, 64]);
  model.deliver(testFrame(99));
  for await (const frame of net) {
    assertEquals(frame.length, 99);
    break;
  }
});

Deno.test("two queue pairs: switched on by command, each with its queues, received from both", async () => {
  using model = new ModelNet({ maxPairs: 4, vectors: 16 });
  await using net = await VirtioNet.open(model.transport, { queuePairs: 2 });
  assertEquals(model.commands, [[4, 0, 2, 0]]);
  assertEquals(
    [...model.transport.rings.keys()],
    [0, 1, 2, 3, 8],
    "the control queue follows the last pair of the maximum",
  );
  assertEquals([...model.transport.queueVectors], [[0, 1], [1, 2], [2, 3], [3, 4], [8, 5]]);
  setTimeout(() => model.deliver(testFrame(70, 5), 2), 5);
  assertEquals(await net.receive(60_000), testFrame(70, 5));
  const slot = net.tx[1]!.reserve();
  net.tx[1]!.send(slot, 64);
  net.tx[1]!.flush();
  assertEquals(model.sent.at(-1)?.queue, 3);
  await net.setQueuePairs(1);
  assertEquals(model.commands.at(-1), [4, 0, 1, 0]);
  await assertRejects(() => net.setQueuePairs(3), UsageError);
  await assertRejects(() => net.waitReceive(1, 2), UsageError);
  // Another driver of the same device is refused, and does not disturb this one.
  await assertRejects(() => VirtioNet.open(model.transport), UsageError, "is driven already");
  await net.setQueuePairs(2);
  net.close();
  await assertRejects(
    () => VirtioNet.open(model.transport, { queuePairs: 5 }),
    UnsupportedError,
    "4 queue pairs",
  );
});

Deno.test("control commands: class, command and data as the standard has them", async () => {
  using model = new ModelNet({ vectors: 8 });
  await using net = await VirtioNet.open(model.transport);
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 9);
  const group = Uint8Array.of(1, 0, 0x5e, 0, 0, 1);
  model.slowControl = true;
  // Called at once, they are still sent one after the other, since they share their memory.
  await Promise.all([
    net.setPromiscuous(true),
    net.setAllMulticast(false),
    net.setFilter("nobcast", true),
    net.setMacTable([mac], [group, group]),
    net.setMac(mac),
  ]);
  assertEquals(model.commands, [
    [0, 0, 1],
    [0, 1, 0],
    [0, 5, 1],
    [1, 0, 1, 0, 0, 0, ...mac, 2, 0, 0, 0, ...group, ...group],
    [1, 1, ...mac],
  ]);
  assertEquals(net.mac, mac);
  model.slowControl = false;
  await assertRejects(() => net.setMac(new Uint8Array(5)), UsageError);
  await assertRejects(() => net.setMacTable(Array.from({ length: 700 }, () => mac)), UsageError);
  await net.setPromiscuous(false);
});

Deno.test("control commands: refused, not acknowledged, nonsense, not answered, not negotiated", async () => {
  using model = new ModelNet({ vectors: 8 });
  await using net = await VirtioNet.open(model.transport, { controlTimeoutMs: 20 });
  for (const [ack, text] of [[1, "refused"], [255, "without acknowledging"], [9, "with 9"]] as const) {
    model.ack = ack;
    const error = await assertRejects(() => net.setPromiscuous(true), DeviceError, text);
    assertEquals(error.location, { function: "fake 0", queue: 2, field: "ack" });
  }
  assertEquals(net.macText, "52:54:00:01:02:03");
  model.ack = undefined;
  const timeout = await assertRejects(() => net.setPromiscuous(true), TimeoutError, "queue 2");
  model.ack = 0;
  // The device still has the command's memory: nothing else is put there before a reset.
  assertStrictEquals(await assertRejects(() => net.setPromiscuous(true), TimeoutError), timeout);
  await net.reset();
  await net.setPromiscuous(true);
  using bare = new ModelNet({ features: NET.version1 });
  await using simple = await VirtioNet.open(bare.transport);
  await assertRejects(() => simple.setPromiscuous(true), UnsupportedError, "VIRTIO_NET_F_CTRL_RX");
});

Deno.test("link changes are told: by config interrupt while somebody waits, by service otherwise", async () => {
  using model = new ModelNet({ vectors: 8 });
  await using net = await VirtioNet.open(model.transport);
  const seen: boolean[] = [];
  const off = net.onLinkChange((up) => {
    seen.push(up);
    // Ends the wait.
    if (!up) model.deliver(testFrame(60));
  });
  setTimeout(() => model.setLink(false), 0);
  assertEquals(await net.receive(60_000), testFrame(60));
  assertEquals([seen, net.linkUp], [[false], false]);
  model.setLink(true);
  net.service();
  assertEquals(seen, [false, true]);
  off();
  model.setLink(false);
  net.service();
  assertEquals([seen.length, net.linkUp], [2, false]);
});

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
