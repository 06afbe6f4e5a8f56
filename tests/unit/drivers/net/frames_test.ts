import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  exchangeByInterrupt,
  exchangePolled,
  type FrameStream,
} from "../../../../drivers/net/virtio/exchange.ts";
import { FrameBurst, VirtioNet } from "../../../../drivers/net/virtio_net.ts";
import { ClosedError, UsageError } from "../../../../lib/errors/mod.ts";
import { ModelNet, NET, testFrame } from "../../virtio/model_net.ts";

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
      assertEquals([burst.frames, burst.parts], [0, 0], "what was sent has left the burst");
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
    // The other two are still the caller's, and can be sent later.
    const rest = new Uint8Array(70);
    assertEquals([burst.frames, rx.copyFrame(burst, 0, rest)], [2, 70]);
    assertEquals(rest, testFrame(70, 3));
    model.release();
    assertEquals([tx.forward(rx, burst), burst.frames], [2, 0]);
    assertEquals(
      model.sent.slice(-2).map(({ bytes }) => bytes.subarray(12)),
      [3, 4].map((at) => testFrame(70, at)),
    );
  }
});

for (const [what, more] of Object.entries({ "": 0n, ", IN_ORDER": 1n << 35n })) {
  Deno.test(`frames of the same device are forwarded from where they lie${what}, with a header of zeroes; their slots go back when they are sent, and no more than half are away`, async () => {
    using model = new ModelNet({ queueSize: 8, more });
    await using net = await VirtioNet.open(model.transport, { inOrder: more !== 0n });
    const rx = net.rx[0]!, tx = net.tx[0]!;
    const burst = new FrameBurst(8);
    model.takeSent = false;
    const zeroes = new Uint8Array(12);
    for (let lap = 0; lap < 9; lap++) {
      model.sent.length = model.filled.length = 0;
      const frames = [0, 1, 2, 3, 4].map((at) => testFrame(60 + at + lap, at));
      for (const frame of frames) model.deliver(frame);
      assertEquals(rx.receiveBurst(burst), 5);
      // What the device says of offloads goes no further.
      for (let part = 0; part < 5; part++) rx.views[burst.slots[part]!]!.fill(0xee, 0, 10);
      assertEquals([tx.forward(rx, burst), burst.frames], [5, 0]);
      assertEquals(
        model.sent.map(({ bytes }) => bytes),
        frames.map((frame) => Uint8Array.of(...zeroes, ...frame)),
      );
      assertEquals(
        model.sent.map(({ iova }, at) => iova === model.filled[at]),
        [true, true, true, true, false],
        "four of eight slots are lent, and the fifth frame is copied",
      );
      // The four are with the device as what is to be sent: the other four are for frames to come.
      model.filled.length = 0;
      for (let at = 0; at < 4; at++) model.deliver(testFrame(64, at));
      assertThrows(() => model.deliver(testFrame(64)), Error, "no receive buffer");
      const lent = model.sent.slice(0, 4).map(({ iova }) => iova);
      assertEquals(model.filled.filter((iova) => lent.includes(iova)), []);
      assertEquals(rx.receiveBurst(burst), 4);
      rx.recycle(burst);
      model.release();
      // A transmit slot that was used so is a slot as before.
      const before = model.sent.length;
      for (let at = 0; at < 8; at++) assertEquals(net.send(testFrame(70, at)), true);
      assertEquals(net.send(testFrame(70)), false);
      const own = model.sent.slice(before);
      assertEquals(own.map(({ bytes }) => bytes.subarray(12)), own.map((_, at) => testFrame(70, at)));
      assertEquals([new Set(own.map(({ iova }) => iova)).size, own.some(({ iova }) => lent.includes(iova))], [
        8,
        false,
      ]);
      model.release();
      tx.reclaim();
      rx.flush();
      assertEquals(tx.freeSlots, 8);
    }
  });
}

Deno.test("slots that were lent and sent go back when others are recycled, also when nothing is forwarded any more", async () => {
  using model = new ModelNet({ queueSize: 8 });
  await using net = await VirtioNet.open(model.transport);
  const rx = net.rx[0]!;
  const burst = new FrameBurst(8);
  for (let at = 0; at < 4; at++) model.deliver(testFrame(60, at));
  rx.receiveBurst(burst);
  assertEquals(net.tx[0]!.forward(rx, burst), 4);
  model.deliver(testFrame(60));
  assertEquals(rx.receiveBurst(burst), 1);
  rx.recycle(burst);
  for (let at = 0; at < 8; at++) model.deliver(testFrame(60, at));
  assertEquals(rx.receiveBurst(burst), 8);
});

Deno.test("a frame of which the caller cut off the beginning is sent from there", async () => {
  using model = new ModelNet({ queueSize: 8 });
  await using net = await VirtioNet.open(model.transport);
  const burst = new FrameBurst(8);
  for (const at of [0, 1]) model.deliver(testFrame(80, at));
  net.rx[0]!.receiveBurst(burst);
  burst.offsets[0]! += 4;
  burst.lengths[0]! -= 4;
  assertEquals(net.tx[0]!.forward(net.rx[0]!, burst), 2);
  assertEquals(
    model.sent.map(({ bytes }) => bytes.subarray(12)),
    [testFrame(80, 0).subarray(4), testFrame(80, 1)],
  );
});

Deno.test("frames that were lent are in what is saved, byte for byte", async () => {
  const model = new ModelNet({ queueSize: 8, profile: "queue-state", more: 1n << 44n });
  await using net = await VirtioNet.open(model.transport);
  const burst = new FrameBurst(8);
  model.takeSent = false;
  for (const at of [0, 1, 2]) model.deliver(testFrame(80, at));
  net.rx[0]!.receiveBurst(burst);
  assertEquals(net.tx[0]!.forward(net.rx[0]!, burst), 3);
  net.send(testFrame(90));
  const { frames } = net.tx[0]!.save(null);
  assertEquals(
    frames.map((frame) => Uint8Array.fromBase64(frame)),
    [testFrame(80, 0), testFrame(80, 1), testFrame(80, 2), testFrame(90)],
  );
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
  assertEquals(burst.frames, 2);
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
