/**
 * `ringside bind`
 *
 * @module
 */
import type { Binding, Host } from "../lib/host/mod.ts";
import { print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";
import { changeProgress } from "./progress.ts";
import { meansOne, selected } from "./selecting.ts";

/** Gives functions to a driver, all or none of them. */
export function bind(host: Host, options: Of<"bind">): void {
  const functions = selected(host, "bind", options.functions, options).map((one) => one.address);
  const { driver, force, dryRun } = options;
  const onProgress = changeProgress("binding", options.json);
  const bindings = host.bind(functions, { driver, force, dryRun, onProgress });
  if (options.json) {
    const shown = bindings.map((one) => ({ ...one, before: one.before === "" ? null : one.before }));
    return printJson(meansOne(options.functions, options) ? shown[0] : shown);
  }
  for (const one of bindings) print(bindingText(one));
}

function bindingText({ function: address, before, driver }: Binding): string {
  if (before === driver) return `${address} is on ${driver} already`;
  return `${address}: ${before === "" ? "no driver" : before} -> ${driver}`;
}
