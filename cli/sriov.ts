/**
 * `ringside sriov`
 *
 * @module
 */
import type { Host } from "../lib/host/mod.ts";
import { print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";

/** Sets the number of VFs of a PF. */
export function sriov(host: Host, options: Of<"sriov">): void {
  const { address } = host.describe(options.function);
  const vfs = host.setVfCount(address, options.count, {
    force: options.force,
    ...(options.autoprobe === undefined ? {} : { driversAutoprobe: options.autoprobe === "on" }),
  });
  if (options.vfToken !== undefined) {
    // The kernel keeps the token after the PF is closed, until the PF leaves vfio-pci.
    using pf = host.open(address, { vfToken: options.vfToken });
    if (pf.path !== "vfio-user") pf.setVfToken(options.vfToken);
  }
  const found = vfs.map((vf) => host.describe(vf));
  if (options.json) {
    printJson({
      function: address,
      numVfs: found.length,
      vfs: found.map((vf) => ({
        function: vf.address,
        driver: vf.driver ?? null,
        group: vf.iommuGroup ?? null,
      })),
    });
    return;
  }
  print(`${address}: ${found.length} VF${found.length === 1 ? "" : "s"}`);
  for (const vf of found) {
    print(`  ${vf.address}  driver ${vf.driver ?? "-"}  IOMMU group ${vf.iommuGroup ?? "-"}`);
  }
}
