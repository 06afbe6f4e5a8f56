import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { RngModel } from "../../../../../lib/emulation/virtio/rng/model.ts";
import { PciView } from "../../../../../lib/emulation/virtio/views/pci/view.ts";
import { FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { FakeFunction } from "../fake_machine.ts";
import { capabilityBytes } from "../capability_bytes.ts";

const RULES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;

function rng(): { model: RngModel; fn: FakeFunction } & Disposable {
  const model = new RngModel({ queueSize: 8 });
  const fn = new FakeFunction(new PciView(model));
  return { model, fn, [Symbol.dispose]: () => fn[Symbol.dispose]() };
}

Deno.test("5.4 identity: device 0x1044, one queue, no config structure", () => {
  using t = rng();
  assertEquals(t.fn.behaviour.identity.deviceId, 0x1044);
  assertEquals(t.fn.read(18, 2), 1);
  assertEquals(capabilityBytes(t.fn.behaviour.vendorCapabilities).map((one) => one[3]), [1, 3, 2, 5]);
});

Deno.test("5.4.6 buffers are filled with different bytes each time, over all segments, and nothing else is touched", () => {
  using t = rng();
  t.fn.bringUp(RULES, [0], 8);
  const ring = t.fn.rings.get(0)!;
  const { client } = t.fn;
  const at = client.allocate(4096);
  const seen = new Set<string>();
  for (let i = 0; i < 50; i++) {
    client.bytes.fill(0, at, at + 4096);
    ring.add([
      { iova: client.at(at + 8), length: 100, write: true },
      { iova: client.at(at + 200), length: 1000, write: true },
    ]);
    ring.publish();
    assertEquals(t.fn.run(), 1);
    assertEquals(ring.takeUsed()[0]!.length, 1100);
    const first = client.bytes.slice(at + 8, at + 108), second = client.bytes.slice(at + 200, at + 1200);
    assert(new Set(second).size > 200, "looks random");
    seen.add(first.join());
    for (
      const edge of [
        ...client.bytes.slice(at, at + 8),
        ...client.bytes.slice(at + 108, at + 200),
        client.bytes[at + 1200]!,
      ]
    ) {
      assertEquals(edge, 0);
    }
  }
  assertEquals(seen.size, 50);
});

Deno.test("5.4.6 a request above 64 KiB is filled in part", () => {
  using t = rng();
  t.fn.bringUp(RULES, [0], 8);
  const ring = t.fn.rings.get(0)!;
  const at = t.fn.client.allocate(70_000);
  ring.add([{ iova: t.fn.client.at(at), length: 70_000, write: true }]);
  ring.publish();
  t.fn.run();
  assertEquals(ring.takeUsed()[0]!.length, 65536);
});

Deno.test("5.4.6.1 a device-readable buffer stops the device", () => {
  using t = rng();
  t.fn.bringUp(RULES, [0], 8);
  const ring = t.fn.rings.get(0)!;
  ring.add([{ iova: t.fn.client.at(0), length: 16 }]);
  ring.publish();
  assertEquals(t.fn.run(), 0);
  assertStringIncludes(t.fn.port.take()[0]!, "device-readable");
  assertEquals(t.fn.status, 15 | 64);
});

Deno.test("poll keeps its budget, arm sees what is left", () => {
  using t = rng();
  t.fn.bringUp(RULES, [0], 8);
  const ring = t.fn.rings.get(0)!;
  for (let i = 0; i < 5; i++) ring.add([{ iova: t.fn.client.at(0), length: 4, write: true }]);
  ring.publish();
  assertEquals(t.fn.behaviour.poll(3), 3);
  assertEquals(t.fn.behaviour.arm(), true);
  assertEquals(t.fn.behaviour.poll(3), 2);
  assertEquals(t.fn.behaviour.arm(), false);
});
