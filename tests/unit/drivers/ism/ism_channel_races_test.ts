import { assert, assertEquals, assertRejects } from "@std/assert";
import { IsmChannel } from "../../../../drivers/ism/ism_channel.ts";
import { CHANNEL_HEADER, CHANNEL_STATE } from "../../../../drivers/ism/channel/layout.ts";
import { ClosedError, PeerGoneError, TimeoutError } from "../../../../lib/errors/mod.ts";
import { pattern, withChannel, withDevices } from "./ism_channels.ts";

const soon = () => new Promise((resolve) => setTimeout(resolve, 5));

/** What never ends would stop the whole run. */
async function ends<T>(what: string, wait: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const never = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nobody woke it`)), 3000);
  });
  try {
    return await Promise.race([wait, never]);
  } finally {
    clearTimeout(timer);
  }
}

Deno.test("no wake-up is lost: whatever the other side does between two looks of one that goes to sleep is seen", async () => {
  for (const direction of ["read", "write"] as const) {
    for (let at = 1; at <= 6; at++) {
      await withChannel(async ({ a, b, one }) => {
        const into = new Uint8Array(4096);
        if (direction === "write") a.write(pattern(4096, 1));
        const service = one.service.bind(one);
        let looks = 0;
        // The driver is serviced in each full look, after the positions were looked at.
        one.service = () => {
          service();
          if (++looks !== at) return;
          if (direction === "read") b.write(Uint8Array.of(9));
          else b.read(into);
        };
        const waiting = direction === "read" ? a.waitReadable() : a.waitWritable();
        // The later looks come with other events.
        const nudges = setInterval(() => looks < at && one.nudge(), 2);
        try {
          assertEquals(await ends(`${direction} at look ${at}`, waiting), true);
        } finally {
          clearInterval(nudges);
          one.service = service;
        }
        assertEquals([looks >= at, direction === "read" ? a.readableBytes : a.writableBytes > 0], [
          true,
          direction === "read" ? 1 : true,
        ]);
      }, { wait: "event", connect: { wait: "event" } });
    }
  }
});

Deno.test("two waits for room at once: the one that ends does not take the other one's wake-up with it", async () => {
  await withChannel(async ({ a, b }) => {
    a.write(pattern(4096, 1));
    const room = a.waitWritable();
    await soon();
    await assertRejects(() => a.drained(5), TimeoutError);
    b.read(new Uint8Array(4096));
    assertEquals(await ends("waitWritable", room), true);
  }, { wait: "event" });
  await withChannel(async ({ a, b }) => {
    const first = a.waitReadable();
    await soon();
    assertEquals(await a.waitReadable(5), false);
    b.write(Uint8Array.of(1));
    assertEquals(await ends("waitReadable", first), true);
    // Nobody sleeps any more, and nobody is told.
    a.read(new Uint8Array(1));
    const before = b.statistics.notifications;
    b.write(Uint8Array.of(2));
    assertEquals(b.statistics.notifications, before);
  }, { wait: "event" });
});

Deno.test("both sides asleep in both directions: each byte wakes the one that waits for it", async () => {
  await withChannel(async ({ a, b }) => {
    const waits = [a.waitReadable(), b.waitReadable()];
    await soon();
    a.write(Uint8Array.of(1));
    b.write(Uint8Array.of(2));
    assertEquals(await ends("both", Promise.all(waits)), [true, true]);
    for (const [from, to] of [[a, b], [b, a]] as const) {
      to.read(new Uint8Array(1));
      from.write(pattern(4096, 1));
      const room = from.waitWritable();
      await soon();
      to.read(new Uint8Array(4096));
      assertEquals(await ends("room", room), true);
    }
  }, { wait: "event", connect: { wait: "event" } });
});

for (const wait of ["poll", "event"] as const) {
  Deno.test(`waitPeer (${wait}): a peer that dies while it connects is not waited for`, async () => {
    await withDevices(async (one, two) => {
      const channel = await IsmChannel.create(one, { capacityBytes: 4096, wait });
      const waiting = assertRejects(() => channel.waitPeer(), PeerGoneError, "while it connected");
      const region = await two.attach(channel.token);
      region.setUint32(CHANNEL_HEADER.fields.state.offset, CHANNEL_STATE.connecting);
      await soon();
      await two.detach(region);
      await ends("waitPeer", waiting);
      assertEquals(channel.connected, false);
      await channel.close();
    });
  });
}

Deno.test("close and detach wake who waits on the channel, also when the device answers no more", async () => {
  for (const silent of [false, true]) {
    for (const how of ["close", "abort", "detach"] as const) {
      await withChannel(async ({ a, one, first }) => {
        if (silent) {
          first.answer = () => "silent";
          await assertRejects(() => one.query(1n), TimeoutError);
        }
        a.write(pattern(4096, 1));
        const waits = [
          assertRejects(() => a.readSome(new Uint8Array(1)), ClosedError),
          assertRejects(() => a.writeAll(new Uint8Array(1)), ClosedError),
          assertRejects(() => a.drained(), ClosedError),
          assertRejects(() => a.region.waitUpdate(), ClosedError),
        ];
        await soon();
        const gone = how === "close" ? a.close() : how === "detach" ? one.detach(a.region) : a.abort();
        if (silent && how !== "abort") await assertRejects(async () => await gone, TimeoutError);
        await ends(`${how}, ${silent ? "silent" : "answered"}`, Promise.all(waits));
        assert(a.closed);
      }, { wait: "event", driver: { commandTimeoutMs: 20 } });
    }
  }
});

Deno.test("A-5.22 BUFFER_FREE of the buffer that a channel's region was attached with ends its waits", async () => {
  await withChannel(async ({ b, two, second }) => {
    b.write(pattern(4096, 1));
    const waits = [
      assertRejects(() => b.readSome(new Uint8Array(1)), ClosedError),
      assertRejects(() => b.writeAll(new Uint8Array(1)), ClosedError),
      assertRejects(() => b.region.waitUpdate(), ClosedError),
    ];
    await soon();
    const attach = second.heard.findLast(({ command }) => command === "2.0")!;
    second.event(8n, attach.data.getBigUint64(16, true));
    await ends("BUFFER_FREE", Promise.all(waits));
    assert(b.closed && b.region.closed);
    assertEquals([two.regions, two.statistics().lentBytes], [[], 0]);
    await b.close();
  }, { wait: "event", driver: { devMem: false } });
});

Deno.test("a reset of either device ends the waits of both sides", async () => {
  for (const side of ["one", "two"] as const) {
    await withChannel(async (ends_) => {
      const { a, b } = ends_;
      const [mine, theirs] = side === "one" ? [a, b] : [b, a];
      const waits = [
        assertRejects(() => mine.readSome(new Uint8Array(1)), ClosedError),
        assertRejects(() => theirs.readSome(new Uint8Array(1)), PeerGoneError),
      ];
      await soon();
      const there = side === "one" ? ends_.second : ends_.first;
      const { devid } = side === "one" ? ends_.first : ends_.second;
      await ends_[side].reset();
      // What the device tells the other one.
      there.event(4n, BigInt(theirs.region.chunks[0]!), devid, 0n);
      await ends("waits", Promise.all(waits));
    }, { wait: "event", connect: { wait: "event" } });
  }
});
