/**
 * `ringside admin PF mode …`
 *
 * @module
 */
import type { Host } from "../../lib/host/mod.ts";
import { interruption } from "../interruption.ts";
import { print, printJson, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { openOwner, vfAddress } from "./owner.ts";

/** Stops a VF, or lets it go on. */
export async function adminMode(
  host: Host,
  options: Of<"admin mode stop"> | Of<"admin mode resume">,
): Promise<void> {
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const { owner, info } = await openOwner(host, options, stack);
  const address = vfAddress(info, options.vf);
  const stopped = options.command === "admin mode stop";
  const member = owner.member(options.vf);
  await member.setMode(stopped);
  if (options.json) printJson({ function: info.address, vf: options.vf, address, stopped });
  else print(`${address} ${stopped ? "is stopped" : "goes on"}`);
  if (!stopped) return;
  if (options.command === "admin mode stop" && options.hold) {
    remark(`${info.address} is held; an interrupt lets ${address} go on`);
    await raised(stop.signal);
    await member.setMode(false);
  } else remark(`where closing ${info.address} resets its VFs, ${address} goes on: --hold keeps it stopped`);
}

function raised(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
