/**
 * Several things as one to wait for.
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import type { WaitTarget } from "./waiter.ts";

/** A wait for it ends when any of them has something. */
export function anyOf(targets: readonly WaitTarget[]): WaitTarget {
  requireType(targets, "array", "anyOf: targets");
  for (const target of targets) {
    requireType(target, "object", "anyOf: a target", "hasUsed", "suppressInterrupts", "enableInterrupts");
  }
  return {
    hasUsed: () => targets.some((target) => target.hasUsed()),
    suppressInterrupts: () => targets.forEach((target) => target.suppressInterrupts()),
    // Every one is asked, also when the first says yes.
    enableInterrupts: () => targets.map((target) => target.enableInterrupts()).includes(true),
  };
}
