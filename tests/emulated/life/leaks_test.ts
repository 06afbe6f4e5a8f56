import { assert, assertEquals } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { mappingCount, openFdCount, readDirectory, readText } from "../../../ffi/mod.ts";
import { campaign, rounds } from "../../random.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";

const RNG = "0000:02:00.0";
const CYCLES = rounds(10_000);

/** What a process holds, as the kernel counts it. */
function held(pid: number | "self"): { fds: number; mappings: number } {
  return {
    fds: readDirectory(`/proc/${pid}/fd`).length,
    mappings:
      readText(`/proc/${pid}/maps`).split("\n").filter((line) => /memfd|anon_inode/.test(line)).length,
  };
}

/** What a process holds once it holds the same for a while: a server lets go of a client a little after the client has closed. */
async function settled(pid: number): Promise<{ fds: number; mappings: number }> {
  const QUIET = 10;
  let last = held(pid);
  for (let same = 0, looks = 0; same < QUIET && looks < 500; looks++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const now = held(pid);
    same = now.fds === last.fds && now.mappings === last.mappings ? same + 1 : 0;
    last = now;
  }
  return last;
}

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
    const self = held("self");
    const server = await settled(emulated.pid);
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
    assertEquals(held("self"), self);
    const after = await settled(emulated.pid);
    assert(
      after.fds <= server.fds && after.mappings <= server.mappings,
      `${JSON.stringify({ server, after })}`,
    );
    assertEquals(emulated.violations(), []);
  } finally {
    await emulated.stop();
  }
}));
