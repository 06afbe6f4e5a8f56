import { assertEquals } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { assertNothingLeft, settledHoldings } from "../../holdings.ts";
import { campaign, rounds } from "../../random.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";

const RNG = "0000:02:00.0";
const CYCLES = rounds(10_000);

const NAME = `${CYCLES} open and close cycles leak no descriptor, no mapping, no IOVA: on either side`;

Deno.test(campaign(NAME, async () => {
  const emulated = await startEmulatedHost();
  try {
    using host = openHost(emulated.directory);
    host.bind(RNG);
    const cycle = async (drive: boolean): Promise<void> => {
      using device = host.open(RNG);
      const memory = device.dma.allocate(8192, { label: "cycle" });
      using transport = PciModernTransport.open(device);
      if (drive) {
        await using rng = VirtioRng.open(transport);
        assertEquals((await rng.read(8)).length, 8);
      }
      memory.close();
      assertEquals(device.dma.usage, { allocations: 0, bytes: 0, labels: [] });
    };
    // Buffers of the runtime and of the server settle in the first rounds.
    for (let i = 0; i < 20; i++) await cycle(i % 2 === 0);
    const fds = openFdCount();
    const mappings = mappingCount();
    const self = await settledHoldings("self");
    const server = await settledHoldings(emulated.pid);
    let firstIova: bigint | undefined;
    for (let i = 0; i < CYCLES; i++) {
      await cycle(i % 20 === 0);
      if (i % (CYCLES / 10) === 0) {
        using device = host.open(RNG);
        using memory = device.dma.allocate(4096);
        firstIova ??= memory.iova;
        assertEquals(memory.iova, firstIova, "the lowest IOVA is free again");
      }
    }
    assertEquals(openFdCount(), fds);
    assertEquals(mappingCount(), mappings);
    assertNothingLeft(await settledHoldings("self"), self, "of the driver");
    assertNothingLeft(await settledHoldings(emulated.pid), server, "of the embedded host");
    assertEquals(emulated.violations(), []);
  } finally {
    await emulated.stop();
  }
}));
