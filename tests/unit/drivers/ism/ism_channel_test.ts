import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { IsmChannel } from "../../../../drivers/ism/ism_channel.ts";
import { CHANNEL_HEADER, RING_CONTROL, RING_CONTROL_AT } from "../../../../drivers/ism/channel/layout.ts";
import {
  ClosedError,
  PeerGoneError,
  ProtocolError,
  RefusedError,
  TimeoutError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import { Random } from "../../../random.ts";
import { pattern, withChannel, withDevices } from "./ism_channels.ts";

/** Moves bytes in pieces of random size, as one call after another finds room. */
function exchange(from: IsmChannel, to: IsmChannel, total: number, random: Random): void {
  const all = pattern(total, random.below(256));
  const into = new Uint8Array(10_000);
  let written = 0, read = 0;
  while (read < total) {
    const most = 1 + random.below(random.below(4) === 0 ? 6000 : 60);
    written += from.write(all, written, Math.min(total, written + most));
    const start = random.below(10);
    const count = to.read(into, start, start + random.below(random.below(4) === 0 ? 6000 : 60));
    for (let i = 0; i < count; i++) {
      if (into[start + i] !== all[read + i]) throw new Error(`byte ${read + i}`);
    }
    read += count;
    assert(written - read <= from.capacityBytes);
  }
}

Deno.test("bytes arrive as they were written, both ways, in whatever pieces, around the ring many times", async () => {
  for (const capacityBytes of [64, 256, 4096]) {
    await withChannel(({ a, b }) => {
      const random = new Random(capacityBytes);
      exchange(a, b, 200_000, random);
      exchange(b, a, 200_000, random);
      assertEquals([a.statistics.bytesWritten, b.statistics.bytesRead], [200_000, 200_000]);
      // Nobody slept, so nobody was notified.
      assertEquals([a.statistics.notifications, b.statistics.notifications], [0, 1]);
    }, { capacityBytes });
  }
});

Deno.test("a region of scattered chunks carries a channel, too", async () => {
  await withChannel(({ a, b }) => {
    assertEquals([a.region.contiguous, b.region.contiguous], [false, false]);
    exchange(a, b, 100_000, new Random(1));
    exchange(b, a, 100_000, new Random(2));
  }, { chunks: [9, 3, 4, 20, 1] });
});

Deno.test("layout: magic, version, capacity, state and both devids at their offsets", async () => {
  await withChannel(({ a, b }) => {
    const header = new DataView(a.region.bytes(0, 64).slice().buffer);
    const words = [0, 4, 8, 12].map((at) => header.getUint32(at, true));
    assertEquals(words, [0x4e435352, 1, 4096, 3]);
    assertEquals([header.getBigUint64(16, true), header.getBigUint64(24, true)], [7n, 8n]);
    assertEquals(a.region.sizeBytes, 2048 + 2 * 4096);
    assertEquals([a.connected, b.connected, a.created, b.created], [true, true, true, false]);
    a.write(Uint8Array.of(1, 2, 3));
    b.write(Uint8Array.of(9));
    b.read(new Uint8Array(2));
    // Ring 0 at 512: head 3, tail 2; ring 1 at 1024: head 1. Bytes at 2048 and behind ring 0.
    assertEquals([512, 640, 1024, 1152].map((at) => a.region.getUint32(at)), [3, 2, 1, 0]);
    assertEquals([2048, 2049, 2050, 2048 + 4096].map((at) => a.region.getUint8(at)), [1, 2, 3, 9]);
  });
});

Deno.test("backpressure: a full ring takes nothing; what is read makes room", async () => {
  await withChannel(async ({ a, b }) => {
    const bytes = pattern(5000, 1);
    assertEquals([a.writableBytes, a.write(bytes), a.write(bytes), a.writableBytes], [4096, 4096, 0, 0]);
    assertEquals([b.readableBytes, b.read(new Uint8Array(100)), a.writableBytes], [4096, 100, 100]);
    assertEquals(await a.waitWritable(0), true);
    assertEquals([a.write(bytes), await a.waitWritable(5)], [100, false]);
    await assertRejects(() => a.writeAll(bytes, 5), TimeoutError, "0 of 5000 bytes are written");
  }, { wait: "poll" });
});

for (const wait of ["poll", "event", "adaptive"] as const) {
  Deno.test(`waiting (${wait}): a megabyte through 4 KiB, with both sides asleep in turn; the end is seen`, async () => {
    await withChannel(async ({ a, b }) => {
      const all = pattern(1_000_000, 3);
      const writing = a.writeAll(all).then(() => a.closeWrite());
      const into = new Uint8Array(3000);
      let read = 0;
      for (let count = await b.readSome(into); count > 0; count = await b.readSome(into)) {
        for (let i = 0; i < count; i++) if (into[i] !== all[read + i]) throw new Error(`byte ${read + i}`);
        read += count;
      }
      await writing;
      assertEquals([read, b.ended, await b.readSome(into)], [1_000_000, true, 0]);
      const sleeps = a.statistics.sleeps + b.statistics.sleeps;
      // Within one process somebody always has to wait for the other's turn.
      if (wait === "event") assert(sleeps > 100, `${sleeps} sleeps`);
      if (wait === "poll") assertEquals([sleeps, a.statistics.notifications], [0, 0]);
      await assertRejects(() => b.readSome(into.subarray(0, 0)), UsageError);
    }, { wait, connect: { wait } });
  });
}

Deno.test("a notification is sent only to a side that sleeps, and once for each sleep", async () => {
  await withChannel(async ({ a, b, first }) => {
    const byte = Uint8Array.of(1);
    a.write(byte);
    a.write(byte);
    assertEquals(first.notify.kicks, []);
    b.read(new Uint8Array(2));
    const waiting = b.waitReadable(5000);
    await new Promise((resolve) => setTimeout(resolve, 5));
    a.write(byte);
    a.write(byte);
    assertEquals(first.notify.kicks.length, 1);
    assertEquals(await waiting, true);
    a.write(byte);
    assertEquals([first.notify.kicks.length, b.readableBytes], [1, 3]);
    // A writer that waits for room is not woken for every byte.
    b.read(new Uint8Array(3));
    a.write(new Uint8Array(4096));
    const room = a.waitWritable(5000);
    await new Promise((resolve) => setTimeout(resolve, 5));
    b.read(new Uint8Array(1000));
    assertEquals(b.statistics.notifications, 1);
    b.read(new Uint8Array(100));
    assertEquals([await room, b.statistics.notifications], [true, 2]);
  }, { wait: "event", connect: { wait: "event" } });
});

Deno.test("close: what was written can be read, then comes the end; writes are refused", async () => {
  await withChannel(async ({ a, b, one, first }) => {
    await a.waitPeer(1000);
    a.write(pattern(100, 5));
    await a.close();
    assertEquals([a.closed, one.regions, first.area.open], [true, [], 0]);
    assertThrows(() => a.write(new Uint8Array(1)), ClosedError);
    assertThrows(() => a.readableBytes, ClosedError);
    await a.close();
    const into = new Uint8Array(200);
    assertEquals([b.read(into, 0, 60), b.ended, b.read(into, 60), b.ended], [60, false, 40, false]);
    assertEquals([...into.subarray(0, 100)], [...pattern(100, 5)]);
    assertEquals([b.read(into), b.ended, await b.readSome(into)], [0, true, 0]);
    assertThrows(() => b.write(into), PeerGoneError, "gone");
    await b.close();
  });
});

Deno.test("half closes: closeWrite ends one direction, closeRead refuses the other side's writes", async () => {
  await withChannel(async ({ a, b }) => {
    a.closeWrite();
    a.closeWrite();
    assertThrows(() => a.write(new Uint8Array(1)), UsageError, "closed for writing");
    assertEquals([b.read(new Uint8Array(1)), b.ended, b.write(Uint8Array.of(7))], [0, true, 1]);
    a.closeRead();
    assertThrows(() => b.write(new Uint8Array(1)), PeerGoneError, "no longer reads");
    await assertRejects(() => b.writeAll(new Uint8Array(1)), PeerGoneError);
  });
  // One that waits for room hears of it.
  await withChannel(async ({ a, b }) => {
    const writing = assertRejects(() => b.writeAll(new Uint8Array(5000)), PeerGoneError, "no longer reads");
    await new Promise((resolve) => setTimeout(resolve, 2));
    a.closeRead();
    await writing;
  });
});

Deno.test("a peer that dies: what it wrote is read first, then PeerGoneError; waits end", async () => {
  await withChannel(async ({ a, b, two }) => {
    b.write(pattern(10, 1));
    const reading = (async () => {
      assertEquals(await a.readSome(new Uint8Array(6)), 6);
      assertEquals(await a.readSome(new Uint8Array(6)), 4);
      return await assertRejects(() => a.readSome(new Uint8Array(6)), PeerGoneError, "without closing");
    })();
    await new Promise((resolve) => setTimeout(resolve, 2));
    // What the device does for one that was killed.
    await two.detach(b.region);
    await reading;
    assertEquals(b.closed, true);
    assertThrows(() => a.read(new Uint8Array(1)), PeerGoneError);
    await assertRejects(() => a.writeAll(new Uint8Array(5000)), PeerGoneError, "is gone");
  });
  // A stranger that comes and goes is not the peer.
  await withChannel(({ a, b, first }) => {
    first.event(4n, BigInt(a.region.chunks[0]!), 99n, 1n);
    assertEquals(a.read(new Uint8Array(1)), 0);
    b.write(Uint8Array.of(3));
    assertEquals(a.read(new Uint8Array(1)), 1);
    first.event(4n, BigInt(a.region.chunks[0]!), 8n, 1n);
    assertThrows(() => a.read(new Uint8Array(1)), PeerGoneError);
  });
});

Deno.test("abort: the peer reads what is there and then hears of it", async () => {
  await withChannel(async ({ a, b }) => {
    a.write(pattern(10, 1));
    const waiting = assertRejects(() => a.readSome(new Uint8Array(1)), ClosedError);
    a.abort();
    await waiting;
    assertEquals(await b.readSome(new Uint8Array(100)), 10);
    await assertRejects(() => b.readSome(new Uint8Array(100)), PeerGoneError, "gave up");
    assertThrows(() => b.write(new Uint8Array(1)), PeerGoneError);
  });
});

Deno.test("hostile peer: positions that cannot be are a ProtocolError, and the channel is of no use from then on", async () => {
  const { head, tail } = RING_CONTROL.fields;
  const [ring0, ring1] = RING_CONTROL_AT;
  const cases: [string, number, number, (a: IsmChannel) => unknown][] = [
    ["more than the ring holds", ring1 + head.offset, 4097, (a) => a.read(new Uint8Array(20))],
    ["behind what was there", ring1 + head.offset, 5, (a) => a.read(new Uint8Array(20))],
    ["far behind", ring1 + head.offset, 0xffff_fff0, (a) => a.readableBytes],
    ["read more than was written", ring0 + tail.offset, 11, (a) => a.write(new Uint8Array(5000))],
    ["gave back what it had read", ring0 + tail.offset, 4, (a) => a.writableBytes],
  ];
  for (const [what, at, value, call] of cases) {
    await withChannel(async ({ a, b }) => {
      b.write(pattern(10, 1));
      a.write(pattern(10, 1));
      b.read(new Uint8Array(6));
      assertEquals([a.readableBytes, a.writableBytes], [10, 4092], what);
      b.region.setUint32(at, value);
      const error = assertThrows(() => call(a), ProtocolError, undefined, what);
      assert(!(error instanceof PeerGoneError), what);
      for (const again of [() => a.read(new Uint8Array(1)), () => a.write(new Uint8Array(1))]) {
        assert(assertThrows(again, ProtocolError) === error, what);
      }
      await assertRejects(() => a.waitReadable(), ProtocolError);
      await a.close();
    });
  }
  // While somebody waits.
  await withChannel(async ({ a, b }) => {
    const waiting = assertRejects(() => a.readSome(new Uint8Array(1)), ProtocolError);
    b.region.setUint32(ring1 + head.offset, 70_000);
    b.region.notify();
    await waiting;
  });
});

Deno.test("connect: only to a channel, only once, only while its creator is there", async () => {
  await withDevices(async (one, two) => {
    const { state, version, magic, capacity } = CHANNEL_HEADER.fields;
    const channel = await IsmChannel.create(one, { capacityBytes: 4096 });
    const spoil = async (at: number, value: number, message: string) => {
      const before = channel.region.getUint32(at);
      channel.region.setUint32(at, value);
      await assertRejects(() => IsmChannel.connect(two, channel.token), ProtocolError, message);
      channel.region.setUint32(at, before);
      assertEquals(two.regions, []);
    };
    await spoil(magic.offset, 0, "no channel");
    await spoil(version.offset, 2, "version 2");
    for (const wrong of [0, 63, 4095, 8192, 0xffff_ffff]) await spoil(capacity.offset, wrong, "rings of");
    channel.region.setUint32(state.offset, 0);
    await assertRejects(() => IsmChannel.connect(two, channel.token), RefusedError);
    channel.region.setUint32(state.offset, 1);
    const waiting = channel.waitPeer(5000);
    const other = await IsmChannel.connect(two, channel.token);
    await waiting;
    await other.close();
    await assertRejects(() => IsmChannel.connect(two, channel.token), RefusedError, "has its two ends");
    const plain = await one.alloc(10_000);
    await assertRejects(() => IsmChannel.connect(two, plain.token), ProtocolError, "it begins with 0x0");
    const small = await one.alloc(100);
    await assertRejects(() => IsmChannel.connect(two, small.token), ProtocolError, "it has 100 bytes");
  });
  for (const looks of [false, true]) {
    await withDevices(async (one, two, _first, second) => {
      const channel = await IsmChannel.create(one, { capacityBytes: 4096 });
      // The creator dies between the attach and the first look; somebody else may have taken the event.
      second.answer = ({ command }) => {
        if (command === "2.0") second.event(4n, BigInt(channel.region.chunks[0]!), 7n, 0n);
        if (looks) two.pollEvents();
        return undefined;
      };
      await assertRejects(() => IsmChannel.connect(two, channel.token), PeerGoneError, "creator is gone");
      assertEquals(two.regions, []);
    });
  }
});

Deno.test("bytes that come between the look at the ring and the look at the peer are not lost", async () => {
  await withChannel(({ a, b, one }) => {
    one.service = () => {
      b.write(Uint8Array.of(1, 2, 3));
      b.closeWrite();
      one.service = () => {};
    };
    const into = new Uint8Array(8);
    assertEquals([a.read(into), a.ended, a.read(into), a.ended, a.read(into), a.ended], [
      0,
      false,
      3,
      false,
      0,
      true,
    ]);
  });
});

Deno.test("create: for one device only; wrong options leave nothing behind", async () => {
  await withDevices(async (one, _two, first) => {
    for (const capacityBytes of [0, 63, 100, 2 ** 31]) {
      await assertRejects(() => IsmChannel.create(one, { capacityBytes }), UsageError);
    }
    assertEquals(first.heard, []);
    await IsmChannel.create(one, { capacityBytes: 64, peer: 8n });
    const grant = first.heard.find(({ command }) => command === "4.1")!;
    assertEquals([grant.data.getBigUint64(8, true), grant.data.getBigUint64(16, true)], [7n | 16n, 8n]);
    await assertRejects(() => IsmChannel.create(one, { capacityBytes: 64, vector: 9 }), UsageError);
    first.area.mappable = false;
    await assertRejects(() => IsmChannel.create(one, { capacityBytes: 64 }), UsageError, "not mapped");
    first.area.mappable = true;
    assertEquals(one.regions.length, 1);
  });
  // A driver that polls cannot sleep.
  await withDevices(async (one) => {
    await assertRejects(
      () => IsmChannel.create(one, { capacityBytes: 64, wait: "event" }),
      UsageError,
      "polls",
    );
    const channel = await IsmChannel.create(one, { capacityBytes: 64 });
    assertEquals(await channel.waitReadable(2), false);
  }, { interrupts: "none" });
});

Deno.test("drained and the blocking waits; a vector wakes as well as an event", async () => {
  await withChannel(async ({ a, b, first }) => {
    await a.drained(0);
    a.write(pattern(10, 1));
    await assertRejects(() => a.drained(3), TimeoutError);
    const drained = a.drained(5000);
    await new Promise((resolve) => setTimeout(resolve, 2));
    b.read(new Uint8Array(9));
    b.read(new Uint8Array(9));
    await drained;
    assertEquals([b.waitReadableBlocking(3), a.waitWritableBlocking(3)], [false, true]);
    const waiting = a.waitReadable(5000);
    await new Promise((resolve) => setTimeout(resolve, 2));
    b.region.setUint32(RING_CONTROL_AT[1], 1);
    first.transport.interrupts[3]!.signal();
    assertEquals(await waiting, true);
  }, { vector: 3, driver: { regionVectors: 1 }, wait: "event" });
});

Deno.test("Web Streams: piped through, ended by close, cancelled and aborted", async () => {
  await withChannel(async ({ a, b }) => {
    const all = pattern(300_000, 9);
    const source = new Blob([all]).stream();
    const sent = source.pipeTo(a.writable);
    const got = new Uint8Array(await new Response(b.readable).arrayBuffer());
    await sent;
    assertEquals(got.length, all.length);
    assert(got.every((byte, i) => byte === all[i]));
    await a.readable.cancel();
    await assertRejects(() => b.writeAll(new Uint8Array(1)), PeerGoneError);
  });
  await withChannel(async ({ a, b }) => {
    await a.writable.abort();
    const reader = b.readable.getReader();
    await assertRejects(() => reader.read(), PeerGoneError);
    assertEquals(a.closed, true);
  });
});

Deno.test("when the driver is closed or reset, the channel is", async () => {
  await withChannel(async ({ a, b, one, two }) => {
    const lost = assertRejects(() => a.readSome(new Uint8Array(1)), ClosedError);
    one.close();
    await lost;
    assertEquals(a.closed, true);
    assertThrows(() => a.write(new Uint8Array(1)), ClosedError);
    await a.close();
    await two.reset();
    assertThrows(() => b.read(new Uint8Array(1)), ClosedError);
    await b.close();
    b.abort();
  });
});
