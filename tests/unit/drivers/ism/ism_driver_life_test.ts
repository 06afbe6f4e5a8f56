import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { IsmError, VirtioIsm } from "../../../../drivers/ism/virtio_ism.ts";
import { ClosedError, DeviceError, TimeoutError, UsageError } from "../../../../lib/errors/mod.ts";
import { withIsm } from "./ism_driven.ts";
import { ModelIsm } from "./model_ism.ts";

const PAGE = 4096;

Deno.test("waits: events() yields until it is aborted, closed or reset; a time ends", async () => {
  await withIsm(async (ism, model) => {
    const region = await ism.alloc(1);
    assertEquals(await ism.waitEvent(2), false);
    const seen: string[] = [];
    const abort = new AbortController();
    const reading = (async () => {
      for await (const event of ism.events({ signal: abort.signal })) seen.push(event.type);
    })();
    model.event(1n, 0n, 4n);
    const update = region.waitUpdate(5000, 0);
    assertEquals(await update, true);
    model.event(2n, 0n, 4n, 1n);
    while (seen.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    abort.abort();
    await reading;
    assertEquals(seen, ["update", "attach"]);
    const rest = (async () => {
      for await (const event of ism.events()) seen.push(event.type);
    })();
    const lost = assertRejects(() => region.waitUpdate(), ClosedError);
    await ism.reset();
    await Promise.all([rest, lost]);
    const last = (async () => {
      for await (const event of ism.events()) seen.push(event.type);
    })();
    ism.close();
    await last;
    assertEquals(seen.length, 2);
  });
});

Deno.test("the backlog of events is bounded: the oldest go, and are counted", async () => {
  await withIsm(async (ism, model) => {
    await ism.alloc(1);
    for (let i = 1; i <= 9; i++) {
      model.event(1n, 0n, BigInt(i));
      ism.pollEvents();
    }
    assertEquals(ism.takeEvents().map((event) => event.type === "update" && event.devid), [6n, 7n, 8n, 9n]);
    assertEquals(ism.statistics().eventsLost, 5);
  }, { eventBacklog: 4 });
});

Deno.test("no answer: TimeoutError, and nothing more until a reset, which closes all regions (A-5.20)", async () => {
  await withIsm(async (ism, model) => {
    const region = await ism.alloc(PAGE);
    const view = region.bytes();
    model.answer = () => "silent";
    await assertRejects(() => ism.query(1n), TimeoutError, "QUERY_INFO was not answered in 20 ms");
    model.answer = () => undefined;
    await assertRejects(() => ism.alloc(1), TimeoutError, "QUERY_INFO");
    await ism.reset();
    assertEquals([region.closed, view.length, ism.regions, model.area.open], [true, 0, [], 0]);
    assertThrows(() => region.getUint8(0), ClosedError);
    // Nobody is asked to detach what the reset has detached.
    const commands = model.heard.length;
    await region.detach();
    assertEquals(model.heard.length, commands);
    model.chunksFor = () => [0];
    assertEquals((await ism.alloc(1)).chunks, [0]);
    assertEquals(ism.statistics().resets, 1);
  }, { commandTimeoutMs: 20 });
});

Deno.test("closing: views are detached, every call is a ClosedError, nothing stays mapped", async () => {
  await withIsm(async (ism, model) => {
    const one = await ism.alloc(100);
    const two = await ism.alloc(100);
    const view = one.bytes(10, 20);
    view.fill(1);
    await one.detach();
    assertEquals([view.length, one.closed, model.area.open, ism.regions], [0, true, 1, [two]]);
    for (const call of [() => one.bytes(), () => one.read(0, view), () => one.setUint8(0, 1)]) {
      assertThrows(call, ClosedError);
    }
    await one.detach();
    assertEquals(model.heard.filter(({ command }) => command === "3.0").length, 1);
    // The device refuses: the mapping is gone all the same.
    model.answer = () => ({ ack: 2 });
    await assertRejects(() => two.detach(), IsmError, "ENOENT");
    assertEquals([two.closed, model.area.open, ism.regions], [true, 0, []]);
    model.answer = () => undefined;
    const three = await ism.alloc(100);
    ism.close();
    assertEquals([three.closed, model.area.open, ism.closed], [true, 0, true]);
    assertThrows(() => three.getUint8(0), ClosedError);
    assertThrows(() => ism.info, ClosedError);
    assertThrows(() => ism.pollEvents(), ClosedError);
    await assertRejects(() => ism.alloc(1), ClosedError);
    await three.detach();
    ism.close();
  });
  // The function is closed underneath.
  using model = new ModelIsm();
  const ism = await VirtioIsm.open(model.transport);
  const region = await ism.alloc(100);
  model.transport.close();
  model.area.close();
  assertEquals(region.closed, true);
  assertThrows(() => region.getUint8(0), ClosedError);
  assertThrows(() => region.setUint8(0, 1), ClosedError);
  assertThrows(() => region.write(0, new Uint8Array(4)), ClosedError);
  assertThrows(() => region.read(0, new Uint8Array(4)), ClosedError);
  await ism[Symbol.asyncDispose]();
});

Deno.test("A-5.17: a region that is attached already: refused, or by a device that allows it, not taken; the first one stays", async () => {
  await withIsm(async (ism, model) => {
    const region = await ism.alloc(PAGE);
    region.setUint32(0, 7);
    const commands = () => model.heard.map(({ command }) => command);
    model.answer = () => ({ ack: 255 });
    const refused = await assertRejects(() => ism.attach(region.token), IsmError);
    assertEquals([refused.ackName, refused.token], ["ERR", region.token]);
    model.answer = ({ command }) =>
      command === "2.0" ? { ack: 0, reply: [4096n, 1n, 40n * 4096n] } : undefined;
    await assertRejects(() => ism.attach(region.token), DeviceError, "another region of this driver");
    // A DETACH to undo it would be the end of the first one.
    assertEquals([commands(), ism.regions, region.getUint32(0)], [["0.0", "2.0", "2.0"], [region], 7]);
    assertEquals(model.area.open, 1);
  });
});

Deno.test("A-5.2, A-5.19: wrong use is refused before the device is asked", async () => {
  await withIsm(async (ism, model) => {
    for (const size of [0, -1, 1.5, NaN, 2 ** 53]) await assertRejects(() => ism.alloc(size), UsageError);
    await assertRejects(() => ism.query(-1n), UsageError);
    await assertRejects(() => ism.query(1n << 64n), UsageError);
    for (const permissions of [16, -1, 1.5]) {
      await assertRejects(() => ism.grantDefault(1n, permissions), UsageError);
    }
    assertEquals(model.heard, []);
  });
  using model = new ModelIsm();
  for (
    const options of [{ eventBacklog: 0 }, { eventBuffers: 0 }, { eventBufferBytes: 31 }, {
      regionVectors: -1,
    }]
  ) {
    await assertRejects(() => VirtioIsm.open(model.transport, options), UsageError);
  }
});
