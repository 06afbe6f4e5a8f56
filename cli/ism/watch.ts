/**
 * `ringside ism FUNCTION watch [TOKEN…]`
 *
 * @module
 */
import type { Host } from "../../lib/host/mod.ts";
import { interruption } from "../interruption.ts";
import { countText, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { rightsOf } from "./grant.ts";
import { hold } from "./holding.ts";
import { openIsm } from "./opening.ts";

/** Prints events of regions as they come. @returns the exit status */
export async function ismWatch(host: Host, options: Of<"ism watch">): Promise<number> {
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const ism = await openIsm(host, options, stack);
  for (const token of new Set(options.tokens)) {
    const { permissions } = await ism.query(token);
    await ism.attach(token, rightsOf(permissions));
  }
  if (!options.json) {
    remark(
      ism.regions.length === 0
        ? "no region is watched, so nothing but faults of the device can come: name tokens"
        : `watching ${countText(ism.regions.length, "region")}`,
    );
  }
  return await hold(ism, stop, { json: options.json, count: options.count, seconds: options.seconds });
}
