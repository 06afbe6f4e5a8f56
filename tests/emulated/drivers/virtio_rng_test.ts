import { assert, assertEquals, assertRejects } from "@std/assert";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { ClosedError, DeviceError } from "../../../lib/errors/mod.ts";
import { TopologyHost } from "./topology_host.ts";

const RNG = "0000:02:00.0";

Deno.test("random bytes by polling, MSI-X and INTx: as many as asked for, different each time", async () => {
  await using served = await TopologyHost.start([{ address: RNG, kind: "virtio-rng" }]);
  {
    using reached = served.reach(RNG);
    const seen = new Set<string>();
    for (const interrupts of ["none", "msix", "intx"] as const) {
      if (interrupts !== "none" && reached.transport.interruptCount(interrupts) === 0) continue;
      const wait = interrupts === "none" ? "poll" : "eventfd";
      await using rng = VirtioRng.open(reached.transport, { interrupts, wait });
      assertEquals(rng.interruptKind, interrupts);
      for (let i = 0; i < 5; i++) {
        const bytes = await rng.read(10_000);
        assertEquals(bytes.length, 10_000);
        // 10,000 bytes without one of the 256 values have odds of 10^-15.
        assertEquals(new Set(bytes).size, 256);
        seen.add(bytes.subarray(0, 16).join());
      }
      if (interrupts !== "none") assert(rng.interrupts > 0);
    }
    assert(seen.size >= 10 && seen.size % 5 === 0);
  }
  assertEquals(await served.stop(), []);
});

for (
  const [lie, field] of [
    ["used-id-out-of-range", "used.id"],
    ["used-length-over", "used.len"],
    ["used-not-in-flight", "used.id"],
    ["used-index-jump", "used.idx"],
  ] as const
) {
  Deno.test(`lie ${lie}: a DeviceError naming queue and field, and reset goes on`, async () => {
    await using served = await TopologyHost.start([{ address: RNG, kind: "virtio-rng", lie: `${lie}:2` }]);
    using reached = served.reach(RNG);
    // Only a split ring has an index to lie with.
    const packed = field !== "used.idx";
    await using rng = VirtioRng.open(reached.transport, { timeoutMs: 10_000, packed });
    const error = await assertRejects(async () => {
      for (let i = 0; i < 10; i++) await rng.read(64);
    }, DeviceError);
    assertEquals(error.location, { function: RNG, queue: 0, field });
    await rng.reset();
    for (let i = 0; i < 10; i++) assertEquals((await rng.read(64)).length, 64);
  });
}

Deno.test("the function closed beneath a read: an error, no crash", async () => {
  await using served = await TopologyHost.start([{ address: RNG, kind: "virtio-rng" }]);
  using reached = served.reach(RNG);
  const rng = VirtioRng.open(reached.transport);
  reached.device.close();
  await assertRejects(() => rng.read(4), ClosedError);
  rng.close();
  await rng.settled;
});
