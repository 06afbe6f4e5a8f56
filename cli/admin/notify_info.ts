/**
 * `ringside admin PF notify-info`
 *
 * @module
 */
import type { Host } from "../../lib/host/mod.ts";
import { print, printJson, printTable, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { openMember } from "./owner.ts";

/** Shows where a VF's legacy driver may notify. */
export async function adminNotifyInfo(host: Host, options: Of<"admin notify-info">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { member, address, pf, about } = await openMember(host, options, stack);
  const areas = member.legacy.notifyAreas();
  if (options.json) return printJson({ ...about, areas });
  if (areas.length === 0) {
    remark(`${address} has no notify address: a notification is a write of queue_notify, by command`);
    return;
  }
  print(`${address}: a notification is 16 bits, the queue's number; the first address is the best`);
  printTable(
    ["BAR OF", "BAR", "OFFSET"],
    areas.map(({ whose, bar, offset }) => [
      whose === "owner" ? pf : address,
      `${bar}`,
      `0x${offset.toString(16)}`,
    ]),
    { drop: [], shrink: [] },
  );
}
