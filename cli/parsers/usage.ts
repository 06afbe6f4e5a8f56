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

/** What stands between a group of commands and its command: `admin PF list`. */
const OWNERS: Readonly<Record<string, NonEmptyString>> = {
  admin: "PF",
  tvq: "FUNCTION",
  ism: "FUNCTION",
  mmio: "DEVICE",
};

/** See `OWNERS`; undefined for every other first word. */
export function ownerOf(word: string | undefined): NonEmptyString | undefined {
  return word !== undefined && Object.hasOwn(OWNERS, word) ? OWNERS[word] : undefined;
}
