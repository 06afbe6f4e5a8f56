import { assert, assertEquals } from "@std/assert";
import { readLegacyVfIdentity } from "../../../drivers/net/virtio/legacy_vf_identity.ts";
import { NET_CONFIG } from "../../../lib/virtio/spec/net.ts";
import { onlyInFull } from "../../random.ts";
import { GroupHost, PF, vfAddress } from "./group_host.ts";

const COUNT = 1000;
const SAMPLE = [0, 254, 255, 256, COUNT - 1];

/** Of the PF, with the VF's number added to all six bytes as one number. */
function macOf(vf: number): string {
  const value = (0x5254_0001_0000 + vf + 1).toString(16).padStart(12, "0");
  return value.match(/../g)!.join(":");
}

Deno.test(
  onlyInFull(
    "a thousand VFs: who each is, by commands through 1 and 4 queues, at once and one by one",
    async () => {
      await using group = await GroupHost.start(COUNT, { adminQueues: 4, mtu: 1450, queueSize: 128 });
      for (const adminQueues of [1, 4]) {
        const admin = await group.admin({ adminQueues, timeoutMs: 60_000 });
        assertEquals(admin.queueNumbers.length, adminQueues);
        const { sent } = admin.admin.statistics;
        const found = await Promise.all(
          Array.from({ length: COUNT }, (_, vf) => readLegacyVfIdentity(admin.member(vf).legacyAsync)),
        );
        assertEquals(new Set(found.map(({ mac }) => mac)).size, COUNT);
        const { features } = found[0]!;
        assert(features !== 0n);
        assertEquals(
          found,
          found.map((_, vf) => ({
            features,
            mac: macOf(vf),
            mtu: 1450,
            maxQueuePairs: 1,
            queueSizes: [128, 128, 128],
          })),
        );
        const asynchronous = admin.admin.statistics.sent - sent;
        assert(asynchronous >= 10 * COUNT, `${asynchronous} commands`);
        // One by one and synchronously it is the same, by as many commands.
        for (const vf of SAMPLE) {
          const before = admin.admin.statistics.sent;
          assertEquals(await readLegacyVfIdentity(admin.member(vf).legacy), found[vf]!);
          assertEquals(admin.admin.statistics.sent - before, asynchronous / COUNT);
        }
        assertEquals(admin.admin.statistics.failed, 0);
        admin.close();
        await admin.settled;
      }
      // The modern registers of a VF say the same.
      for (const vf of SAMPLE) {
        const { transport } = group.vf(vf);
        const bytes = Array.from(
          { length: 6 },
          (_, i) => transport.readConfig(NET_CONFIG.fields.mac0.offset + i, 1),
        );
        assertEquals(bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":"), macOf(vf));
        assertEquals([transport.readConfig(NET_CONFIG.fields.mtu.offset, 2), transport.queueMaxSize(0)], [
          1450,
          128,
        ]);
        assertEquals(transport.name, vfAddress(vf));
      }
      assertEquals(group.host.describe(PF).sriov!.numVfs, COUNT);
      assertEquals(await group.stop(), []);
    },
  ),
);
