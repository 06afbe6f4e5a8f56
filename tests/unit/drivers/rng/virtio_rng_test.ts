import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioRng } from "../../../../drivers/rng/virtio_rng.ts";
import { mappingCount, openFdCount } from "../../../../ffi/mod.ts";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import { FakeTransport } from "../../virtio/transport/fake_transport.ts";

/** An entropy device that counts, `most` bytes at a time. */
function entropy(options: { vectors?: number; pin?: boolean } = {}) {
  const transport = new FakeTransport({
    deviceId: 4,
    features: (1n << 32n) | (1n << 29n),
    queueSizes: [8],
    ...options,
  });
  const state = { next: 0, most: Infinity, answers: true, asked: [] as number[] };
  transport.onNotify = () => {
    const ring = transport.ring(0);
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
      const [part] = chain.parts;
      assertEquals([chain.parts.length, part!.write], [1, true]);
      state.asked.push(part!.length);
      if (!state.answers) continue;
      const bytes = Math.min(part!.length, state.most);
      const view = transport.iommu.at(part!.iova, part!.length, true);
      for (let i = 0; i < bytes; i++) view.setUint8(i, state.next++ & 0xff);
      ring.push(chain.head, bytes);
      transport.interrupt(0);
    }
    ring.availableEvent = ring.next;
  };
  return { transport, state };
}

Deno.test("random bytes by MSI-X, INTx and polling, in as many buffers as it takes", async () => {
  for (const [options, kind] of [[{ vectors: 2 }, "msix"], [{ pin: true }, "intx"], [{}, "none"]] as const) {
    const { transport, state } = entropy(options);
    {
      await using rng = VirtioRng.open(transport, { bufferBytes: 100 });
      assertEquals(rng.interruptKind, kind);
      state.most = 64;
      const bytes = await rng.read(250);
      assertEquals(bytes, Uint8Array.from({ length: 250 }, (_, i) => i));
      assertEquals(state.asked, [100, 100, 100, 58]);
      const rest = await rng.fill(new Uint8Array(3));
      assertEquals([...rest], [250, 251, 252]);
      assertEquals((await rng.read(0)).length, 0);
    }
    transport.close();
  }
});

Deno.test("reads that are called at once get bytes of their own", async () => {
  const { transport } = entropy({ vectors: 2 });
  {
    await using rng = VirtioRng.open(transport);
    const all = await Promise.all([rng.read(10), rng.read(20), rng.read(30)]);
    assertEquals(all.flatMap((one) => [...one]), Array.from({ length: 60 }, (_, i) => i));
  }
  transport.close();
});

Deno.test("sleeps until the interrupt, when the device takes its time", async () => {
  const { transport, state } = entropy({ vectors: 2 });
  {
    await using rng = VirtioRng.open(transport, { wait: "eventfd" });
    state.answers = false;
    const read = rng.read(4);
    setTimeout(() => {
      transport.ring(0).push(0, 4);
      transport.interrupt(0);
    }, 10);
    assertEquals((await read).length, 4);
    assert(rng.interrupts > 0);
  }
  transport.close();
});

Deno.test("lies and silence: too long, nothing at all, an id that is none; reset goes on", async () => {
  const { transport, state } = entropy();
  {
    await using rng = VirtioRng.open(transport, { timeoutMs: 20 });
    state.answers = false;
    const lie = (id: number, length: number) => setTimeout(() => transport.ring(0).push(id, length), 0);
    for (
      const [id, length, field] of [[0, 17, "used.len"], [0, 0, "used.len"], [7, 16, "used.id"]] as const
    ) {
      lie(id, length);
      const error = await assertRejects(() => rng.read(16), DeviceError);
      assertEquals(error.location, { function: "fake 0", queue: 0, field });
      await rng.reset();
    }
    await assertRejects(() => rng.read(16), TimeoutError, "queue 0");
    await assertRejects(() => rng.read(16), DeviceError, "never answered");
    await rng.reset();
    state.answers = true;
    assertEquals((await rng.read(16)).length, 16);
  }
  transport.close();
});

Deno.test("wrong use, and a device that is none", async () => {
  using net = new FakeTransport({ deviceId: 1 });
  assertThrows(() => VirtioRng.open(net), UnsupportedError, "no entropy device");
  const { transport } = entropy();
  assertThrows(() => VirtioRng.open(transport, { bufferBytes: 0 }), UsageError);
  assertThrows(() => VirtioRng.open(transport, { interrupts: "msix" }), UnsupportedError);
  assertEquals(transport.dma.usage.allocations, 0);
  assertEquals(transport.status, 0);
  {
    await using rng = VirtioRng.open(transport);
    await assertRejects(() => rng.read(-1), UsageError);
    await assertRejects(() => rng.read(1.5), UsageError);
    // More than an array can have; and nothing that can be shown by a template.
    await assertRejects(() => rng.read(2 ** 40), UsageError, "1099511627776 bytes cannot be had");
    await assertRejects(() => rng.read(Symbol("many") as unknown as number), UsageError, "a symbol");
    assertEquals((await rng.read(3)).length, 3);
  }
  transport.close();
});

Deno.test("after close everything is a ClosedError; a read under way ends with one; nothing leaks", async () => {
  const before = [openFdCount(), mappingCount().mappings];
  const { transport, state } = entropy({ vectors: 2 });
  const rng = VirtioRng.open(transport);
  state.answers = false;
  const read = assertRejects(() => rng.read(4), ClosedError);
  await new Promise((resolve) => setTimeout(resolve, 5));
  rng.close();
  await read;
  await rng.settled;
  await assertRejects(() => rng.read(4), ClosedError);
  await assertRejects(() => rng.reset(), ClosedError);
  assertThrows(() => rng.interruptKind, ClosedError);
  rng.close();
  assertEquals(transport.dma.usage.allocations, 0);
  transport.close();
  assertEquals([openFdCount(), mappingCount().mappings], before);
});
