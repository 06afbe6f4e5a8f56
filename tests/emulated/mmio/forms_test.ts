/** Forms of virtio-mmio on the embedded host, driven by the library's transport: no rule is broken on either side. */
import { assertEquals } from "@std/assert";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { openTransport, type TransportOptions } from "../../../lib/virtio/mod.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const NAME = "a003e00.virtio_mmio";

const FORMS:
  readonly (readonly [{ readonly form: string; readonly [field: string]: unknown }, TransportOptions])[] = [
    [{ form: "modern" }, {}],
    [{ form: "v3" }, { profile: "mmio-v3" }],
    [{ form: "v3", notify: { base: 0x204, multiplier: 6 } }, { profile: "mmio-v3", msiEnableByStatus: true }],
    [{ form: "msi-v2" }, { profile: "mmio-msi-v2" }],
    [{ form: "msi-v2", sharing: true, notify: { base: 0x300, multiplier: 8 } }, { profile: "mmio-msi-v2" }],
    [{ form: "msi-v2", sharing: true, vectors: 2, stateBits: "linux" }, {
      profile: "mmio-msi-v2",
      msiStateBits: "linux",
    }],
  ];

for (const [mmio, options] of FORMS) {
  Deno.test(`virtio-rng by ${JSON.stringify(mmio)}: polled, by the line, and by MSI where there is one; split and packed`, async () => {
    await using served = await TopologyHost.start([{ address: NAME, kind: "virtio-rng", mmio }]);
    served.host.bind(NAME);
    {
      using device = served.host.open(NAME);
      using transport = openTransport(device, options);
      for (const interrupts of ["none", "intx", "msi"] as const) {
        if (interrupts === "msi" && mmio.form === "modern") {
          assertEquals(transport.interruptCount("msi"), 0);
          continue;
        }
        for (const packed of [false, true]) {
          const wait = interrupts === "none" ? "poll" : "eventfd";
          await using rng = VirtioRng.open(transport, { interrupts, wait, packed });
          assertEquals(rng.interruptKind, interrupts);
          for (let i = 0; i < 20; i++) assertEquals((await rng.read(1000)).length, 1000);
        }
      }
    }
    assertEquals(await served.stop(), []);
  });
}
