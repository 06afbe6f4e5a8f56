/**
 * What a shell completes arguments with, by what help calls them.
 *
 * @module
 */
import type { Suggestion } from "@optique/core/parser";

/** Names of the host that a command line is about. */
export interface HostNames {
  /** Addresses, and interfaces and disks that hang on them. */
  readonly functions: readonly string[];
  readonly drivers: readonly string[];
  /** Registers that most functions have. */
  readonly registers: readonly string[];
}

let names: HostNames = { functions: [], drivers: [], registers: [] };

/** Names that are offered from now on. */
export function offerNames(ofHost: HostNames): void {
  names = ofHost;
}

const NAMES: Readonly<Record<string, () => readonly string[]>> = {
  FUNCTION: () => names.functions,
  WHERE: () => names.registers,
  PF: () => names.functions,
  RECEIVER: () => names.functions,
  DEVICE: () => names.functions,
  DRIVER: () => names.drivers,
};
const FILES: Readonly<Record<string, "any" | "directory">> = {
  FILE: "any",
  CAPTURE: "any",
  DIRECTORY: "directory",
  HOST: "directory",
};

/** Suggestions for an argument that help calls `metavar`, of which `prefix` is there. */
export function* completionsOf(metavar: string, prefix: string): Iterable<Suggestion> {
  for (const text of NAMES[metavar]?.() ?? []) {
    if (text.startsWith(prefix)) yield { kind: "literal", text };
  }
  const type = FILES[metavar];
  if (type !== undefined) yield { kind: "file", type, pattern: prefix, includeHidden: false };
}
