import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { Random } from "../../random.ts";
import { testFrame } from "../../unit/virtio/model_net.ts";
import { ManagementHost, NET } from "./management_host.ts";

const MODES = [
  { interrupts: "none", wait: "poll" },
  { interrupts: "msix", wait: "eventfd" },
] as const;

for (const mode of MODES) {
  for (const layout of ["aligned", "packed"] as const) {
    const how = `${mode.interrupts === "none" ? "by polling" : "by MSI"}, payloads ${layout}`;
    Deno.test(`rng: random bytes of a managed device ${how}`, async () => {
      const before = [openFdCount(), mappingCount().mappings];
      await using host = await ManagementHost.start({ layout }, { layout });
      const device = await host.rng();
      for (const packed of [false, true]) {
        using transport = host.management.openTransport(device.id);
        await using rng = await VirtioRng.open(transport, { ...mode, packed });
        // Many requests: the last few may be answered before the driver has taken an interrupt.
        const bytes = await rng.read(200_000);
        assertEquals(new Set(bytes).size, 256);
        assertEquals(rng.featureNames.includes("VIRTIO_F_RING_PACKED"), packed);
        if (mode.interrupts === "msix") assert(rng.interrupts > 0);
      }
      assertEquals(await host.stop(), []);
      assertEquals([openFdCount(), mappingCount().mappings], before);
    });
  }

  Deno.test(`blk: what is written is read back from a managed device ${mode.interrupts}`, async () => {
    await using host = await ManagementHost.start();
    const transport = host.transport(await host.blk(2048));
    const bytes = new Random(5).bytes(300 * 512);
    await using blk = await VirtioBlk.open(transport, mode);
    assertEquals(blk.capacitySectors, 2048);
    await blk.write(17, bytes);
    await blk.flush();
    assertEquals(await blk.read(17, 300), bytes);
    // Many requests: the last few may be answered before the driver has taken an interrupt.
    for (let sector = 0; sector < 50; sector++) {
      assertEquals(await blk.read(17 + sector, 1), bytes.subarray(512 * sector, 512 * (sector + 1)));
    }
    if (mode.interrupts === "msix") assert(blk.interrupts > 0);
    blk.close();
    await blk.settled;
    assertEquals(await host.stop(), []);
  });

  Deno.test(`net: frames between two managed devices ${mode.interrupts}`, async () => {
    await using host = await ManagementHost.start();
    const [one, two] = [host.transport(await host.net()), host.transport(await host.net())];
    await using a = await VirtioNet.open(one, mode);
    await using b = await VirtioNet.open(two, mode);
    assert(a.macText !== b.macText);
    for (let serial = 0; serial < 50; serial++) {
      const frame = testFrame(60 + serial, serial);
      frame.set(b.mac);
      frame.set(a.mac, 6);
      assert(a.send(frame));
      assertEquals(await b.receive(10_000), frame);
    }
    assertEquals(a.features, NET);
    if (mode.interrupts === "msix") assert(b.interrupts > 0);
    a.close();
    b.close();
    assertEquals(await host.stop(), []);
  });
}
