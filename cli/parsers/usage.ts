/**
 * Usage lines of what has commands below it.
 *
 * @module
 */
import type { NonEmptyString } from "@optique/core/nonempty";
import type { Usage } from "@optique/core/usage";

/** Usage of what has commands below it, behind what they are `about`: their own help has the rest. */
export const commandUsage = (...about: NonEmptyString[]): Usage => [{
  type: "sequence",
  terms: [...about, "COMMAND" as const]
    .map((metavar): Usage[number] => ({ type: "argument", metavar }))
    .concat({ type: "ellipsis" }),
}];

/** The same of what stands alone. */
export const COMMAND_USAGE: Usage = commandUsage();
