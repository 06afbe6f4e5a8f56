/** QEMU's entropy device, by each kind of interrupt. */
import { assert, assertEquals, assertGreater, assertNotEquals } from "@std/assert";
import { VirtioRng } from "../../drivers/virtio_rng.ts";
import { PciModernTransport } from "../../lib/virtio/mod.ts";
import { pathTest, rng } from "./guest_host.ts";

for (const kind of ["msix", "intx", "none"] as const) {
  pathTest(
    `virtio-rng: bytes with interrupts ${kind}, before and after a function reset`,
    async (host, path) => {
      const address = rng(kind === "intx" ? "intx" : "msix");
      host.bind(address);
      using device = host.open(address, { path });
      using transport = PciModernTransport.open(device);
      await using entropy = VirtioRng.open(transport, {
        interrupts: kind,
        ...(kind === "none" ? {} : { wait: "eventfd" as const }),
      });
      assertEquals(entropy.interruptKind, kind);
      const first = await entropy.read(10_000);
      assertRandom(first);
      // Three buffers of 4096 bytes, each waited for asleep.
      if (kind === "none") assertEquals(entropy.interrupts, 0);
      else assertGreater(entropy.interrupts, 2);
      device.reset();
      await entropy.reset();
      const second = await entropy.read(1000);
      assertRandom(second);
      assertNotEquals(second, first.subarray(0, 1000));
    },
  );
}

/** Bytes that were never written would be zero, or all the same. */
function assertRandom(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += 500) {
    const part = bytes.subarray(at, at + 500);
    assert(new Set(part).size > 100, `bytes ${at} to ${at + part.length} are hardly random`);
  }
}
