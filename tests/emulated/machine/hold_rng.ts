/** Drives a virtio-rng function (second argument) of an emulated host (first argument) until it is killed; says so once it has bytes. */
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";

const [directory = "", address = ""] = Deno.args;
using host = EmulatedHost.connect(directory);
using device = host.open(address);
const rng = VirtioRng.open(PciModernTransport.open(device), { interrupts: "msix" });
await rng.read(64);
console.log("driving");
while (true) await rng.read(64);
