/**
 * `ringside sriov`
 *
 * @module
 */
import type { Host } from "../lib/host/mod.ts";
import { requirePciDevice } from "../lib/vfio/mod.ts";
import { formatVfToken, parseVfToken } from "../lib/vfio/uuid.ts";
import { failureText } from "./failure.ts";
import { countText, print, printJson, remark } from "./output.ts";
import type { Of } from "./parser.ts";

/** Sets the number of VFs of a PF. */
export function sriov(host: Host, options: Of<"sriov">): void {
  const { address, sriov: before } = host.describe(options.function);
  const token = options.vfToken === undefined ? undefined : formatVfToken(parseVfToken(options.vfToken));
  const vfs = host.setVfCount(address, options.count, {
    force: options.force,
    driversAutoprobe: options.autoprobe === undefined ? undefined : options.autoprobe === "on",
  });
  if (token !== undefined) {
    try {
      // The kernel keeps the token after the PF is closed, until the PF leaves vfio-pci.
      using pf = host.open(address, { vfToken: token });
      requirePciDevice(pf, "VF token").setVfToken(token);
    } catch (error) {
      try {
        host.setVfCount(address, before?.numVfs ?? 0, { force: options.force });
      } catch (second) {
        remark(failureText(second, host.name));
      }
      throw error;
    }
  }
  // One look at the whole host: a thousand VFs, each asked for alone, take minutes.
  const wanted = new Set(vfs);
  const found = vfs.length === 0 ? [] : host.list().filter((one) => wanted.has(one.address));
  if (options.json) {
    return printJson({
      function: address,
      numVfs: found.length,
      vfs: found.map((vf) => ({
        function: vf.address,
        driver: vf.driver ?? null,
        iommuGroup: vf.iommuGroup ?? null,
      })),
    });
  }
  print(`${address}: ${countText(found.length, "VF")}`);
  for (const vf of found) {
    print(`  ${vf.address}  driver ${vf.driver ?? "-"}  IOMMU group ${vf.iommuGroup ?? "-"}`);
  }
}
