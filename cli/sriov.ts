/**
 * `ringside sriov`
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { requirePciDevice } from "../lib/vfio/mod.ts";
import { formatVfToken, parseVfToken } from "../lib/vfio/uuid.ts";
import { failureText } from "./failure.ts";
import { countText, print, printJson, remark } from "./output.ts";
import type { Of } from "./parser.ts";
import { changeProgress } from "./progress.ts";
import { meansOne, selected } from "./selecting.ts";

const MOST = 65535;
/** The kernel makes those of a PF in one call, during which nobody can say how far it is. */
const MANY = 32;

/** Sets the number of VFs of PFs, of all or of none. @throws UsageError */
export function sriov(host: Host, options: Of<"sriov">): void {
  const names = options.words.slice(0, -1);
  const count = countOf(options.words.at(-1));
  const pfs = selected(host, "sriov", names, options);
  const addresses = pfs.map((one) => one.address);
  const { force, dryRun } = options;
  const token = options.vfToken === undefined ? undefined : formatVfToken(parseVfToken(options.vfToken));
  const onProgress = changeProgress("making VFs of", options.json || dryRun);
  if (onProgress !== undefined && count >= MANY) {
    remark(`making ${countText(count, "VF")} of ${addresses.join(", ")}`);
  }
  const vfs = host.setVfCount(addresses, count, {
    force,
    dryRun,
    onProgress,
    driversAutoprobe: options.autoprobe === undefined ? undefined : options.autoprobe === "on",
  });
  if (token !== undefined && !dryRun) {
    try {
      for (const address of addresses) setToken(host, address, token);
    } catch (error) {
      for (const { address, sriov: before } of pfs) {
        try {
          host.setVfCount(address, before?.numVfs ?? 0, { force });
        } catch (second) {
          remark(failureText(second, host.name));
        }
      }
      throw error;
    }
  }
  // One look at the whole host: a thousand VFs, each asked for alone, take minutes.
  const wanted = new Set(vfs);
  const found = dryRun || vfs.length === 0 ? [] : host.list().filter((one) => wanted.has(one.address));
  const results = addresses.map((address, i) => ({
    function: address,
    numVfs: count,
    vfs: vfs.slice(i * count, (i + 1) * count).map((vf) => {
      const about = found.find((one) => one.address === vf);
      return { function: vf, driver: about?.driver ?? null, iommuGroup: about?.iommuGroup ?? null };
    }),
  }));
  if (options.json) return printJson(meansOne(names, options) ? results[0] : results);
  for (const one of results) {
    print(`${one.function}: ${countText(one.numVfs, "VF")}`);
    for (const vf of one.vfs) print(`  ${vf.function}`);
  }
}

/** @throws UsageError */
function countOf(word: string | undefined): number {
  const count = /^\d{1,5}$/.test(word ?? "") ? Number(word) : NaN;
  if (count <= MOST) return count;
  throw new UsageError(
    word === undefined
      ? "sriov: PF and N are missing"
      : `sriov: N: ${JSON.stringify(word)} is no whole number from 0 to ${MOST}`,
    { hint: "the number of VFs stands behind the PFs: ringside sriov 01:00.0 2" },
  );
}

/** The kernel keeps the token after the PF is closed, until the PF leaves vfio-pci. */
function setToken(host: Host, address: string, token: string): void {
  using pf = host.open(address, { vfToken: token });
  requirePciDevice(pf, "VF token").setVfToken(token);
}
