/**
 * The functions that a command is about.
 *
 * @module
 */
import type { FunctionInfo, Host } from "../lib/host/mod.ts";
import { type FunctionPattern, isAnything, selectFunctions } from "../lib/host/selection.ts";
import { UsageError } from "../lib/errors/mod.ts";
import type { Of } from "./parser.ts";

/** Options of every command that is about several functions. */
export type Selecting = Pick<Of<"status">, "ids" | "classDigits" | "onDriver" | "group">;

/** What the options ask for. */
export function patternOf({ ids, classDigits, onDriver, group }: Selecting): FunctionPattern {
  return { ids, classDigits, driver: onDriver === "none" ? "" : onDriver, group };
}

/** Whether all functions are meant: none is named, and nothing is asked for. */
export function meansAll(names: readonly string[], options: Selecting): boolean {
  return names.length === 0 && isAnything(patternOf(options));
}

/** Whether one function is meant, by its name: then a command prints one object as JSON, and else a list. */
export function meansOne(names: readonly string[], options: Selecting): boolean {
  return names.length === 1 && isAnything(patternOf(options));
}

/** The functions that are meant. @param command for the message @throws UsageError, NotFoundError when there is none */
export function selected(
  host: Host,
  command: string,
  names: readonly string[],
  options: Selecting,
): FunctionInfo[] {
  if (meansAll(names, options)) {
    throw new UsageError(`${command} needs a FUNCTION, or an option that chooses some`, {
      hint: "ringside list shows the functions of this host",
    });
  }
  return selectFunctions(host, names, patternOf(options));
}
