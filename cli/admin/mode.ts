/**
 * `ringside admin PF mode …`
 *
 * @module
 */
import type { Host } from "../../lib/host/mod.ts";
import { interrupted, interruption } from "../interruption.ts";
import { print, printJson, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { openMember } from "./owner.ts";

/** Stops a VF, or lets it go on. */
export async function adminMode(
  host: Host,
  options: Of<"admin mode stop"> | Of<"admin mode resume">,
): Promise<void> {
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const { member, address, pf, about, owner } = await openMember(host, options, stack);
  const stopped = options.command === "admin mode stop";
  if (!options.dryRun) await member.setMode(stopped);
  if (options.json) printJson({ ...about, stopped });
  else print(`${address} ${stopped ? "is stopped" : "goes on"}`);
  if (!stopped || options.dryRun) return;
  if (options.command === "admin mode stop" && options.hold) {
    remark(`${pf} is held; an interrupt lets ${address} go on`);
    await interrupted(stop, () => {
      owner.transport.lifeline?.check();
      owner.transport.readStatus();
    });
    await member.setMode(false);
  } else remark(`where closing ${pf} resets its VFs, ${address} goes on: --hold keeps it stopped`);
}
