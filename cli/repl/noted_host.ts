/**
 * What a session may change on a host, as it was before.
 *
 * @module
 */
import type { Host } from "../../lib/host/mod.ts";
import { failureText } from "../failure.ts";
import { describeEntry } from "../restore.ts";

/** A host as it was when it was noted. */
export interface NotedHost {
  /** Puts back what has changed since. What cannot be put back is told, and stays in the journal. */
  putBack(): { readonly done: string[]; readonly failed: string[] };
}

/**
 * Notes drivers and VF counts. A function that nothing was journalled of goes back by the journal, whose entries it then leaves; one that was
 * changed before the session goes back to that change.
 */
export function noteHost(host: Host): NotedHost {
  const journalled = new Set(host.journal().map((entry) => entry.function));
  const before = new Map(
    host.list({ all: true }).map((info) => [info.address, {
      driver: info.driver ?? "",
      vfs: info.sriov?.numVfs ?? 0,
      driversAutoprobe: info.sriov?.driversAutoprobe,
      pf: info.physicalFunction,
    }]),
  );
  /** VFs and their PF go back together. */
  const wasJournalled = (address: string) => {
    const owner = before.get(address)?.pf ?? address;
    return [...journalled].some((one) => one === owner || before.get(one)?.pf === owner);
  };
  return {
    putBack: () => {
      const done: string[] = [], failed: string[] = [];
      const why = (error: unknown) => failureText(error, host.name).replace(/^ringside: /, "");
      const changed = new Set(host.journal().map((entry) => entry.function));
      const fresh = [...changed].filter((one) => before.has(one) && !wasJournalled(one));
      if (fresh.length > 0) {
        const report = host.restore(fresh);
        done.push(...report.done.map(describeEntry));
        for (const { entry, error } of report.failed) {
          failed.push(`${entry.function} ${entry.attribute} stays in the journal: ${why(error)}`);
        }
      }
      for (const [address, { driver, vfs, driversAutoprobe }] of before) {
        if (!wasJournalled(address)) continue;
        try {
          const now = host.describe(address);
          if ((now.sriov?.numVfs ?? 0) !== vfs) {
            host.setVfCount(address, vfs, driversAutoprobe === undefined ? {} : { driversAutoprobe });
            done.push(`${address} sriov_numvfs: ${now.sriov?.numVfs ?? 0} -> ${vfs}`);
          }
          if ((now.driver ?? "") !== driver && driver !== "") {
            host.bind(address, { driver });
            done.push(`${address} driver: ${now.driver ?? "(none)"} -> ${driver}`);
          }
        } catch (error) {
          failed.push(`${address} is not as it was: ${why(error)}`);
        }
      }
      return { done, failed };
    },
  };
}
