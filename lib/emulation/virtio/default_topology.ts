/**
 * The host that is served when nothing else is asked for.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { PciAddress } from "../../pci/address.ts";
import type { Topology } from "../function_topology.ts";
import { readTopology } from "../topology.ts";
import { TopologyError } from "../topology_fields.ts";

/** As the `virt` machine of QEMU names the last of its own. */
const MMIO_DEVICE = "a003e00.virtio_mmio";

/**
 * A virtio-net PF on switch `s0`; and on the first buses that none of the PF's VFs can be on, 02 and 03 with up to 254 VFs, a virtio-rng function, and a
 * management function whose network devices are on the same switch. Beside them a platform device, an entropy source by virtio-mmio.
 * @throws TopologyError for more VFs than the domain has buses for
 */
export function defaultTopology(totalVfs = 4): Topology {
  requireType(totalVfs, "number", "defaultTopology: totalVfs");
  const pf = new PciAddress({ bus: 1, device: 0, function: 0 });
  const free = ((pf.routingId + totalVfs) >>> 8) + 1;
  const bus = (number: number) => new PciAddress({ bus: number, device: 0, function: 0 }).toString();
  if (free + 1 > 0xff) {
    throw new TopologyError("functions[0].totalVfs", `${totalVfs} VFs leave no buses for other functions`);
  }
  return readTopology({
    functions: [
      { address: pf.toString(), kind: "virtio-net", totalVfs, switch: "s0" },
      { address: bus(free), kind: "virtio-rng" },
      { address: bus(free + 1), kind: "virtio-management", switch: "s0" },
      { address: MMIO_DEVICE, kind: "virtio-rng" },
    ],
  });
}
