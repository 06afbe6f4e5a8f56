import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import { FrameBurst, VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { DeviceError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { LegacyAdminTransport } from "../../../lib/virtio/transport/pci_legacy_admin.ts";
import { LegacyModel } from "../virtio/transport/legacy_model.ts";
import { testFrame } from "../virtio/model_net.ts";
import type { Chain, Part } from "../virtio/queue/model_ring.ts";

const bit = (n: number) => (1 << n) >>> 0;
const MTU = bit(3), MAC = bit(5), MRG = bit(15), STATUS = bit(16), CTRL_VQ = bit(17), CTRL_RX = bit(18);
const MQ = bit(22), CTRL_MAC = bit(23), ANY_LAYOUT = bit(27), INDIRECT = bit(28), EVENT_IDX = bit(29);

/** A legacy network device that sends everything back, and insists on the framing of §5.1 without ANY_LAYOUT. */
function network(features: number, options: { queueSize?: number; pairs?: number; vectors?: number } = {}) {
  const { queueSize = 16, pairs = 1, vectors = 4 } = options;
  const config = new Uint8Array(12);
  config.set([0x52, 0x54, 0, 1, 2, 3, 1, 0, pairs, 0, 0xdc, 5]);
  const model = new LegacyModel({
    features: features >>> 0,
    config,
    configFields: [[0, 6], [6, 2], [8, 2], [10, 2]],
    queueSizes: [...Array.from({ length: 2 * pairs }, () => queueSize), 16],
    vectors,
  });
  const sent: Uint8Array[] = [];
  const commands: { lengths: number[]; bytes: number[] }[] = [];
  const apart = () => (model.driverFeatures & ANY_LAYOUT) === 0;
  const headerBytes = () => (model.driverFeatures & MRG) !== 0 ? 12 : 10;
  const bytesOf = (parts: readonly Part[]) =>
    parts.flatMap(({ iova, length }) => {
      const view = model.vf.iommu.at(iova, length, false);
      return Array.from({ length }, (_, i) => view.getUint8(i));
    });
  const put = (parts: readonly Part[], from: Uint8Array): number => {
    let at = 0;
    for (const { iova, length } of parts) {
      const view = model.vf.iommu.at(iova, length, true);
      for (let i = 0; i < length && at < from.length; i++) view.setUint8(i, from[at++]!);
    }
    return at;
  };
  const checkHeader = ({ parts }: Chain) => {
    if (apart()) assertEquals([parts.length, parts[0]!.length], [2, headerBytes()], "a header of its own");
    else assertEquals(parts.length, 1);
  };
  const state = { echo: true, numBuffers: 0 };
  const deliver = (frame: Uint8Array, queue: number) => {
    const ring = model.ring(queue);
    const data = new Uint8Array(headerBytes() + frame.length);
    data.set(frame, headerBytes());
    // num_buffers is there with MRG_RXBUF alone: else bytes 10 and 11 are the frame's.
    const pieces: [Chain, number][] = [];
    for (let at = 0; at < data.length;) {
      const chain = ring.pop();
      if (chain === undefined) throw new Error(`queue ${queue}: no receive buffer`);
      checkHeader(chain);
      const done = put(chain.parts, data.subarray(at));
      pieces.push([chain, done]);
      at += done;
    }
    if (headerBytes() === 12) {
      const [first] = pieces[0]!;
      model.vf.iommu.at(first.parts[0]!.iova, 12, true).setUint16(10, pieces.length, true);
    } else assertEquals(pieces.length, 1);
    state.numBuffers = pieces.length;
    for (const [chain, length] of pieces) ring.fill(chain.head, length);
    ring.usedIndex = ring.usedNext;
    model.interrupt(queue);
  };
  model.onNotify = (queue) => {
    const ring = model.rings.get(queue);
    if (ring === undefined) return;
    const control = (model.driverFeatures & MQ) !== 0 ? 2 * pairs : 2;
    if (queue === control) {
      for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
        const readable = chain.parts.filter((part) => !part.write);
        commands.push({ lengths: readable.map((part) => part.length), bytes: bytesOf(readable) });
        const ack = chain.parts.at(-1)!;
        assertEquals([ack.write, ack.length], [true, 1]);
        model.vf.iommu.at(ack.iova, 1, true).setUint8(0, 0);
        // As some did: the length of the whole chain.
        ring.push(chain.head, chain.parts.reduce((sum, part) => sum + part.length, 0));
      }
      model.interrupt(queue);
    } else if (queue % 2 === 1) {
      for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
        checkHeader(chain);
        const bytes = Uint8Array.from(bytesOf(chain.parts));
        assertEquals(bytes.subarray(0, headerBytes()), new Uint8Array(headerBytes()), "a header of zeroes");
        sent.push(bytes.slice(headerBytes()));
        ring.push(chain.head, bytes.length);
        if (state.echo) deliver(sent.at(-1)!, queue - 1);
      }
      model.interrupt(queue);
    }
    ring.availableEvent = ring.next;
  };
  const transport = LegacyAdminTransport.open(model.vf, model);
  return {
    model,
    transport,
    sent,
    commands,
    state,
    deliver,
    [Symbol.dispose]() {
      transport.close();
      model[Symbol.dispose]();
    },
  };
}

for (
  const [what, features, headerBytes, slots] of [
    ["neither: a header of 10 bytes in a descriptor of its own, two descriptors a frame", 0, 10, 8],
    ["INDIRECT_DESC: the same in a table", INDIRECT, 10, 16],
    ["ANY_LAYOUT: 10 bytes before the frame", ANY_LAYOUT, 10, 16],
    ["MRG_RXBUF: 12 bytes with num_buffers, of their own", MRG, 12, 8],
    ["MRG_RXBUF and INDIRECT_DESC", MRG | INDIRECT | EVENT_IDX, 12, 16],
    ["MRG_RXBUF and ANY_LAYOUT: 12 bytes before the frame", MRG | ANY_LAYOUT | EVENT_IDX, 12, 16],
  ] as const
) {
  for (const interrupts of ["msix", "none"] as const) {
    Deno.test(`legacy net with ${what} (interrupts ${interrupts})`, async () => {
      const before = [openFdCount(), mappingCount().mappings];
      {
        using device = network(features | MAC | MTU | STATUS);
        await using net = await VirtioNet.open(device.transport, {
          interrupts,
          wait: interrupts === "none" ? "poll" : "eventfd",
        });
        assertEquals([net.macText, net.mtu, net.linkUp], ["52:54:00:01:02:03", 1500, true]);
        assertEquals(net.features, BigInt((features | MAC | MTU | STATUS) >>> 0));
        assertEquals([net.tx[0]!.slotCount, device.model.ring(0).availableIndex], [slots, slots]);
        assertEquals(net.tx[0]!.frame(net.tx[0]!.reserve()).length, 1514);
        for (let n = 0; n < 300; n++) {
          const frame = testFrame(14 + (n * 53) % 1501, n);
          assert(net.send(frame));
          assertEquals(device.sent.at(-1), frame);
          assertEquals(await net.receive(1000), frame, `frame ${n}`);
        }
        assertEquals(headerBytes, (features & MRG) === 0 ? 10 : 12);
        assertEquals(net.statistics().received.frames, 300);
        const late = net.receive(5000);
        setTimeout(() => device.deliver(testFrame(77), 0), 1);
        assertEquals(await late, testFrame(77));
        assertEquals(net.statistics().interrupts > 0, interrupts === "msix");
        const frame = testFrame(60);
        await net.reset();
        assert(net.send(frame));
        assertEquals(await net.receive(1000), frame, "after a reset");
      }
      assertEquals([openFdCount(), mappingCount().mappings], before);
    });
  }
}

Deno.test("legacy net: a frame over several mergeable buffers whose first descriptor is a header's", async () => {
  using device = network(MRG | MAC);
  await using net = await VirtioNet.open(device.transport, { bufferBytes: 200, interrupts: "none" });
  for (const length of [14, 188, 189, 388, 389, 1514]) {
    const frame = testFrame(length, length);
    net.send(frame);
    assertEquals(device.state.numBuffers, Math.ceil((12 + length) / 200));
    assertEquals(await net.receive(1000), frame);
  }
});

Deno.test("legacy net: the ring has the device's size; buffers are as many as asked for", async () => {
  using device = network(MAC | ANY_LAYOUT, { queueSize: 1024 });
  await using net = await VirtioNet.open(device.transport, { queueSize: 64, interrupts: "none" });
  assertEquals([device.model.ring(0).size, device.model.ring(0).availableIndex], [1024, 64]);
  for (let n = 0; n < 3000; n++) {
    const frame = testFrame(60 + n % 100, n);
    assert(net.send(frame), `frame ${n}`);
    assertEquals(await net.receive(0), frame);
  }
});

Deno.test("legacy net: without num_buffers nothing is read from where it would be", async () => {
  using device = network(MAC | ANY_LAYOUT);
  await using net = await VirtioNet.open(device.transport, { interrupts: "none" });
  // The frame's first bytes lie at 10 and 11 of the buffer; read as num_buffers they would be a lie.
  const frame = new Uint8Array(60).fill(0xff);
  net.send(frame);
  assertEquals(await net.receive(1000), frame);
});

Deno.test("legacy net: the MAC is written into the config space, first to last byte, when there is no CTRL_MAC_ADDR", async () => {
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 9);
  {
    using device = network(MAC);
    await using net = await VirtioNet.open(device.transport, { interrupts: "none" });
    device.model.log.length = 0;
    await net.setMac(mac);
    assertEquals(device.model.log, [0, 1, 2, 3, 4, 5].map((at) => `w config ${at}+1 ${mac[at]}`));
    assertEquals([net.mac, device.model.config.slice(0, 6)], [mac, mac]);
    await assertRejects(() => net.setMac(new Uint8Array(5)), UsageError);
    await assertRejects(() => net.setPromiscuous(true), UnsupportedError, "CTRL_RX");
  }
  using device = network(MAC | CTRL_VQ | CTRL_MAC | ANY_LAYOUT);
  await using net = await VirtioNet.open(device.transport, { interrupts: "none" });
  await net.setMac(mac);
  assertEquals(device.commands, [{ lengths: [8], bytes: [1, 1, ...mac] }]);
  assertEquals(device.model.config[5], 3);
});

for (
  const [what, layout, lengths] of [
    ["in one descriptor with ANY_LAYOUT", ANY_LAYOUT, [[3], [2 + 10 + 16], [2 + 4 + 4]]],
    ["class and command, data, and each table apart without it", 0, [[2, 1], [2, 10, 16], [2, 4, 4]]],
    ["the same in indirect tables", INDIRECT, [[2, 1], [2, 10, 16], [2, 4, 4]]],
  ] as const
) {
  Deno.test(`legacy net: control commands: ${what}; the used length is ignored`, async () => {
    using device = network(MAC | CTRL_VQ | CTRL_RX | layout);
    await using net = await VirtioNet.open(device.transport);
    const macs = [1, 2, 3].map((n) => Uint8Array.of(2, 0, 0, 0, 0, n));
    await net.setPromiscuous(true);
    await net.setMacTable(macs.slice(0, 1), macs.slice(1));
    await net.setMacTable([]);
    assertEquals(device.commands.map((one) => one.lengths), lengths as unknown as number[][]);
    assertEquals(device.commands[1]!.bytes, [
      ...[1, 0, 1, 0, 0, 0, ...macs[0]!],
      ...[2, 0, 0, 0, ...macs[1]!, ...macs[2]!],
    ]);
  });
}

Deno.test("legacy net: several pairs with MQ", async () => {
  using device = network(MAC | CTRL_VQ | MQ | ANY_LAYOUT, { pairs: 3, vectors: 8 });
  await using net = await VirtioNet.open(device.transport, { queuePairs: 2 });
  assertEquals(net.maxQueuePairs, 3);
  assertEquals(device.commands, [{ lengths: [4], bytes: [4, 0, 2, 0] }]);
  assertEquals([...device.model.rings.keys()].sort(), [0, 1, 2, 3, 6]);
  assertEquals([...device.model.queueVectors], [[0, 1], [1, 2], [2, 3], [3, 4], [6, 5]]);
  device.state.echo = false;
  const tx = net.tx[1]!;
  const slot = tx.reserve();
  tx.frame(slot).set(testFrame(60));
  tx.send(slot, 60);
  tx.flush();
  assertEquals(device.sent, [testFrame(60)]);
  device.deliver(testFrame(99), 2);
  assertEquals(await net.receive(1000), testFrame(99));
});

Deno.test("legacy net: what it lies about on receive is still found", async () => {
  using device = network(MAC);
  await using net = await VirtioNet.open(device.transport, { interrupts: "none" });
  const ring = device.model.ring(0);
  ring.push(ring.pop()!.head, 9);
  const error = assertThrows(() => net.receiveBurst(new FrameBurst(4)), DeviceError, "9 bytes");
  assertEquals([error.location.queue, error.location.field], [0, "used.len"]);
  await net.reset();
  device.model.ring(0).push(15, 20);
  assertThrows(() => net.receiveBurst(new FrameBurst(4)), DeviceError, "15");
});

Deno.test("legacy net: suspended and resumed on a modern transport's like, frames in both directions kept", async () => {
  using from = network(MAC);
  from.state.echo = false;
  const frames = [testFrame(60, 1), testFrame(70, 2)];
  const net = await VirtioNet.open(from.transport, { interrupts: "none" });
  const notify = from.model.onNotify;
  from.model.onNotify = () => {};
  for (const frame of frames) net.send(frame);
  from.deliver(testFrame(80, 3), 0);
  const saved = await net.suspend();
  from.model.onNotify = notify;
  assertEquals([from.sent.length, saved.pairs[0]!.transmit.frames.length], [0, 2]);

  using to = network(MAC | MRG | ANY_LAYOUT);
  to.state.echo = false;
  await using there = await VirtioNet.resume(to.transport, saved, { interrupts: "none" });
  assertEquals(to.sent, frames);
  assertEquals(await there.receive(0), testFrame(80, 3));
  assertEquals(there.rings, "fresh");
});

/** A legacy disk that says in used lengths what it likes. */
function disk(features: number, lengthOf: (chain: Chain) => number, options: { status?: number } = {}) {
  const sectors = 64;
  const config = new Uint8Array(60);
  const view = new DataView(config.buffer);
  view.setUint32(0, sectors, true);
  view.setUint8(32, 1);
  view.setUint16(34, 1, true);
  const model = new LegacyModel({
    deviceId: 2,
    features: features >>> 0,
    config,
    configFields: [[0, 8], [8, 4], [12, 4], [20, 4], [32, 1], [34, 2]],
    queueSizes: [64],
    vectors: 2,
  });
  const data = new Uint8Array(512 * sectors);
  const seen: number[][] = [];
  model.onNotify = (queue) => {
    const ring = model.ring(queue);
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
      const { parts } = chain;
      seen.push(parts.map((part) => part.length));
      assertEquals([parts[0]!.length, parts[0]!.write, parts.at(-1)!.length, parts.at(-1)!.write], [
        16,
        false,
        1,
        true,
      ]);
      const header = model.vf.iommu.at(parts[0]!.iova, 16, false);
      let at = Number(header.getBigUint64(8, true)) * 512;
      for (const { iova, length, write } of parts.slice(1, -1)) {
        const memory = model.vf.iommu.at(iova, length, write);
        for (let i = 0; i < length; i++, at++) {
          if (write) memory.setUint8(i, data[at]!);
          else data[at] = memory.getUint8(i);
        }
      }
      if (options.status !== 0xff) {
        model.vf.iommu.at(parts.at(-1)!.iova, 1, true).setUint8(0, options.status ?? 0);
      }
      ring.push(chain.head, lengthOf(chain));
    }
    ring.availableEvent = ring.next;
    model.interrupt(queue);
  };
  const transport = LegacyAdminTransport.open(model.vf, model);
  return {
    model,
    transport,
    data,
    seen,
    [Symbol.dispose]() {
      transport.close();
      model[Symbol.dispose]();
    },
  };
}

const FLUSH = bit(9), CONFIG_WCE = bit(11);
const total = (chain: Chain) => chain.parts.reduce((sum, part) => sum + part.length, 0);

for (
  const [what, lengthOf] of [
    ["nothing", () => 0],
    ["the whole chain", total],
    ["2^32 − 1", () => 0xffff_ffff],
    [
      "what was written",
      (chain: Chain) => chain.parts.reduce((sum, one) => sum + (one.write ? one.length : 0), 0),
    ],
  ] as const
) {
  for (const features of [0, INDIRECT, ANY_LAYOUT | INDIRECT | EVENT_IDX]) {
    Deno.test(`legacy blk (features 0x${features.toString(16)}): used lengths say ${what}, and only the status counts`, async () => {
      using device = disk(features | FLUSH, lengthOf);
      await using blk = await VirtioBlk.open(device.transport, { requestBytes: 4096 });
      assertEquals([blk.capacitySectors, device.model.driverFeatures], [64, (features | FLUSH) >>> 0]);
      const bytes = Uint8Array.from({ length: 40 * 512 }, (_, i) => (i * 7) >> 3);
      await blk.write(8, bytes);
      await blk.flush();
      assertEquals(device.data.slice(8 * 512, 48 * 512), bytes);
      assertEquals(await blk.read(8, 40), bytes);
      assertEquals(device.seen[0], [16, 4096, 1], "header, data, status: a descriptor each");
    });
  }
}

Deno.test("legacy blk: a status that says so is an error, and one that was never written is a lie", async () => {
  for (
    const [status, message] of [[1, "IOERR"], [2, "UNSUPP"], [0xff, "without a status"], [
      9,
      "no status",
    ]] as const
  ) {
    using device = disk(0, total, { status });
    await using blk = await VirtioBlk.open(device.transport);
    const error = await assertRejects(() => blk.read(0, 1), DeviceError);
    assertEquals(error.location.field, "status", message);
  }
});

Deno.test("legacy blk: the capacity is read until two readings agree; the cache is switched in the config space", async () => {
  using device = disk(FLUSH | CONFIG_WCE, total);
  let reads = 0;
  device.model.onConfigRead = () => {
    // The device grows between the two halves of the first reading.
    if (++reads === 2) device.model.config.set([0, 0, 0, 0, 1, 0, 0, 0]);
  };
  await using blk = await VirtioBlk.open(device.transport, { interrupts: "none" });
  assertEquals(blk.capacitySectors, 2 ** 32);
  assertEquals(blk.writeback, true);
  blk.setWriteback(false);
  assertEquals([device.model.config[32], blk.writeback], [0, false]);
});

Deno.test("drivers that rely on used lengths refuse a legacy device", async () => {
  for (const [deviceId, open] of [[4, VirtioRng.open], [3, VirtioConsole.open]] as const) {
    using model = new LegacyModel({ deviceId });
    using transport = LegacyAdminTransport.open(model.vf, model);
    await assertRejects(async () => await open(transport), UnsupportedError, "legacy");
    assertEquals(model.log, []);
  }
});
