/**
 * `ringside bind`
 *
 * @module
 */
import type { Host } from "../lib/host/mod.ts";
import { print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";

/** Gives a function to a driver. */
export function bind(host: Host, options: Of<"bind">): void {
  const before = host.describe(options.function);
  host.bind(before.address, { driver: options.driver, force: options.force });
  const after = host.describe(before.address);
  if (options.json) {
    return printJson({
      function: after.address,
      before: before.driver ?? null,
      driver: after.driver ?? null,
    });
  }
  if (before.driver === after.driver) print(`${after.address} is on ${after.driver} already`);
  else print(`${after.address}: ${before.driver ?? "no driver"} -> ${after.driver ?? "no driver"}`);
}
