import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { FakeTransport } from "../virtio/transport/fake_transport.ts";
import { ECHO_ID, MOST_BYTES, VirtioEcho } from "./echo_driver.ts";

const BYTES = Uint8Array.of(3, 1, 4, 1, 5);

/** An echo device. `used` says what it claims to have written; undefined: nothing comes back. */
function echo(options: { vectors?: number; pin?: boolean; deviceId?: number; legacy?: boolean } = {}) {
  const transport = new FakeTransport({
    deviceId: ECHO_ID,
    features: (1n << 32n) | (1n << 29n),
    queueSizes: [8],
    ...options,
  });
  Object.assign(transport, { legacy: options.legacy ?? false });
  const state = { used: (length: number): number | undefined => length };
  transport.onNotify = () => {
    const ring = transport.ring(0);
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
      const [from, to] = chain.parts;
      assertEquals([from!.write, to!.write, to!.length], [false, true, MOST_BYTES]);
      const used = state.used(from!.length);
      if (used === undefined) continue;
      const source = transport.iommu.at(from!.iova, from!.length, false);
      const target = transport.iommu.at(to!.iova, to!.length, true);
      for (let i = 0; i < from!.length; i++) target.setUint8(i, source.getUint8(i));
      ring.push(chain.head, used);
      transport.interrupt(0);
    }
    ring.availableEvent = ring.next;
  };
  return { transport, state };
}

Deno.test("a driver over the base alone: by MSI-X, INTx and polling, reset and closed like any", async () => {
  for (const [options, kind] of [[{ vectors: 2 }, "msix"], [{ pin: true }, "intx"], [{}, "none"]] as const) {
    const { transport, state } = echo(options);
    {
      await using driver = await VirtioEcho.open(transport);
      assertEquals(driver.interruptKind, kind);
      assertEquals(driver.featureNames, ["VIRTIO_F_EVENT_IDX", "VIRTIO_F_VERSION_1"]);
      assertEquals(await driver.echo(BYTES, 1000), BYTES);
      state.used = () => 7;
      const lie = await assertRejects(() => driver.echo(BYTES, 1000), DeviceError, "7 bytes");
      assertEquals(lie.location, { function: "fake 0", queue: 0, field: "used.len" });
      state.used = () => undefined;
      const silent = assertRejects(() => driver.echo(BYTES, 60_000), ClosedError);
      await driver.reset();
      await silent;
      await assertRejects(() => driver.echo(BYTES, 5), TimeoutError);
      state.used = (length) => length;
      await driver.reset();
      assertEquals(await driver.echo(BYTES, 1000), BYTES);
      assertEquals([driver.resets, driver.closed], [2, false]);
      driver.close();
      driver.close();
      assertEquals(driver.closed, true);
      assertThrows(() => driver.interruptKind, ClosedError, "echo device fake 0");
      await assertRejects(() => driver.reset(), ClosedError);
    }
    assertEquals([transport.dma.usage.allocations, transport.status], [0, 0]);
    transport.close();
  }
});

Deno.test("a driver that does not open leaves nothing: wrong device, legacy, wrong options", async () => {
  const refused = [
    [{ deviceId: 1 }, {}, UnsupportedError, "is no echo device: its virtio id is 1"],
    [{ legacy: true }, {}, UnsupportedError, "does not drive legacy devices: it is younger"],
    [{}, { interrupts: "msix" }, UnsupportedError, "has no MSI-X"],
    [{}, { wait: "eventfd" }, UsageError, 'wait mode "eventfd" without interrupts'],
    [{}, { refusedFeatures: 1n << 32n }, UsageError, "VERSION_1"],
  ] as const;
  for (const [device, options, kind, text] of refused) {
    const { transport } = echo(device);
    await assertRejects(() => VirtioEcho.open(transport, options), kind, text);
    assertEquals(transport.dma.usage.allocations, 0);
    transport.close();
  }
});

Deno.test("silence is explained: a device that stopped, a function that was closed", async () => {
  const { transport, state } = echo();
  const driver = await VirtioEcho.open(transport);
  state.used = () => undefined;
  transport.status |= 0x40;
  await assertRejects(() => driver.echo(BYTES, 5), DeviceError, "the device stopped");
  transport.close();
  await assertRejects(() => driver.echo(BYTES, 5), ClosedError, "echo device");
  assert(!driver.closed);
  await driver[Symbol.asyncDispose]();
});
