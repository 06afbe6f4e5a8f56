/**
 * A capability as its declaration says that `lspci -vv` prints it.
 *
 * @module
 */

import { CAPABILITIES, type Capability } from "../capability/all.ts";
import type { CapabilityDeclaration } from "../capability/declaration.ts";
import { fill, registerLines } from "./text.ts";

/** The title, and the lines of the registers. */
export function declaredLines(cap: Capability): string[] {
  const declaration: CapabilityDeclaration | undefined = CAPABILITIES.find(({ list, id, kind }) =>
    list === cap.list && id === cap.id && kind === cap.kind
  );
  if (declaration === undefined) return [cap.name];
  return [fill(declaration.heading ?? cap.name, cap), ...registerLines(declaration.registers, cap)];
}
