import { assert, assertEquals } from "@std/assert";
import { campaign, rounds } from "../../random.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { PROFILE_OF } from "../transports/matrix.ts";
import { Storm, STORM_QUEUES } from "./storm.ts";

const DEVICE = "a000000.virtio_mmio";
const OPERATIONS = rounds(50_000);

for (
  const [name, mmio, seed] of [
    ["mmio-v3", { form: "v3" }, 1],
    ["mmio-msi-v2, fixed vectors", { form: "msi-v2" }, 2],
    ["mmio-msi-v2, shared vectors", { form: "msi-v2", sharing: true, vectors: STORM_QUEUES + 1 }, 3],
  ] as const
) {
  Deno.test(
    campaign(
      `${name}: vectors programmed, masked and unmasked under ${OPERATIONS} operations lose no interrupt, misdirect none, and bring what was kept once (N-7.4, A-7.12)`,
      async () => {
        await using served = await TopologyHost.start([{
          address: DEVICE,
          kind: "virtio-blk",
          sizeBytes: 1 << 16,
          queues: STORM_QUEUES,
          mmio,
        }]);
        {
          using reached = served.open(DEVICE, { profile: PROFILE_OF[mmio.form] });
          using storm = new Storm(reached, seed);
          await storm.run(OPERATIONS);
          const { fire, settle, program, mask, unmask, kept } = storm.done;
          assertEquals(settle, fire);
          assert(fire > OPERATIONS / 4 && program > OPERATIONS / 20, `${fire} requests, ${program} vectors`);
          assertEquals(
            mask > OPERATIONS / 50 && unmask > OPERATIONS / 50 && kept > 0,
            mmio.form === "msi-v2",
          );
        }
        assertEquals(await served.stop(), []);
      },
    ),
  );
}
