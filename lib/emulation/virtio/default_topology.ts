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

/**
 * A virtio-net PF on switch `s0`, and a virtio-rng function on the first bus that none of the PF's VFs can be on: 02, with up to 254 VFs.
 * @throws TopologyError for more VFs than the domain has buses for
 */
export function defaultTopology(totalVfs = 4): Topology {
  requireType(totalVfs, "number", "defaultTopology: totalVfs");
  const pf = new PciAddress({ bus: 1, device: 0, function: 0 });
  const rngBus = ((pf.routingId + totalVfs) >>> 8) + 1;
  if (rngBus > 0xff) {
    throw new TopologyError("functions[0].totalVfs", `${totalVfs} VFs leave no bus for another function`);
  }
  return readTopology({
    functions: [
      { address: pf.toString(), kind: "virtio-net", totalVfs, switch: "s0" },
      { address: new PciAddress({ bus: rngBus, device: 0, function: 0 }).toString(), kind: "virtio-rng" },
    ],
  });
}
