/**
 * Waiting for what a control message says, when several wait: one of them takes it for all.
 *
 * @module
 */
import type { WaitTarget } from "../../lib/wait/waiter.ts";

/** `target`, or that a control message was taken since now. */
export function orHandled(session: { readonly handled: number }, target: WaitTarget): WaitTarget {
  const before = session.handled;
  return {
    hasUsed: () => session.handled !== before || target.hasUsed(),
    suppressInterrupts: () => target.suppressInterrupts(),
    enableInterrupts: () => target.enableInterrupts() || session.handled !== before,
  };
}
