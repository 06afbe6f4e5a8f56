/**
 * A process that drives managed devices of every kind until it is killed: creates them, drives them, destroys them again, over and over.
 * Argument: the host's directory. It says `driving` when the first ones are at work.
 */
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioManagement } from "../../../drivers/management/virtio_management.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { BLK_CONFIG } from "../../../lib/virtio/spec/blk.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { BLK, MANAGEMENT, NET, RINGS } from "./managed_types.ts";

const [directory = ""] = Deno.args;
using host = EmulatedHost.connect(directory);
using device = host.open(MANAGEMENT);
using transport = PciModernTransport.open(device, { profile: "transport-vq" });
await using management = await VirtioManagement.open(transport, { function: device });

for (let round = 0;; round++) {
  const options = { packed: round % 2 === 0, interrupts: round % 4 < 2 ? "msix" : "none" } as const;
  await using owned = new AsyncDisposableStack();
  const open = async (type: number, features: bigint, config?: Uint8Array) =>
    owned.use(management.openTransport((await management.create({ type, features, config })).id));
  const one = owned.use(await VirtioNet.open(await open(1, NET), options));
  const two = owned.use(await VirtioNet.open(await open(1, NET), options));
  const capacity = BLK_CONFIG.encode({ capacity: 64n });
  const blk = owned.use(await VirtioBlk.open(await open(2, BLK, capacity), options));
  const rng = owned.use(await VirtioRng.open(await open(4, RINGS), options));
  if (round === 0) console.log("driving");
  const frame = Uint8Array.of(...two.mac, ...one.mac, ...new Uint8Array(100));
  for (let i = 0; i < 20; i++) {
    const bytes = new Uint8Array(4096).fill(i);
    one.send(frame);
    await Promise.all([blk.write(8 * (i % 8), bytes), rng.read(1000), two.receive(1000)]);
  }
  for (const { id } of management.devices) await management.destroy(id);
}
