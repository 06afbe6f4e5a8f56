/**
 * Ctrl-C and termination: a command ends in order, with its function closed and its files whole.
 *
 * @module
 */
import { RingsideError } from "../lib/errors/mod.ts";

/** Signals that end a command in order, by number. */
const SIGNALS = { SIGINT: 2, SIGTERM: 15 } as const;

/** A signal ended the command before its work was done. */
export class InterruptedError extends RingsideError {
  override name = "InterruptedError";
  /** Exit status as shells give it: 128 and the signal's number. */
  readonly exitStatus: number;

  constructor(signal: keyof typeof SIGNALS) {
    super(`interrupted by ${signal}`);
    this.exitStatus = 128 + SIGNALS[signal];
  }
}

/** Whether a signal came, until it is disposed of. */
export interface Interruption extends Disposable {
  /** Aborted, with an `InterruptedError`, by the first signal. */
  readonly signal: AbortSignal;
  /** Exit status for work that was cut short: 0 when it was not. */
  readonly exitStatus: number;
}

/** Resolves when a signal has come. */
export function interrupted({ signal }: Interruption): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** Listens for signals. The second one ends the process at once: something does not come to an end. */
export function interruption(): Interruption {
  const controller = new AbortController();
  const listeners = (Object.keys(SIGNALS) as (keyof typeof SIGNALS)[]).map((name) => {
    const listener = () => {
      if (controller.signal.aborted) Deno.exit(128 + SIGNALS[name]);
      controller.abort(new InterruptedError(name));
    };
    Deno.addSignalListener(name, listener);
    return () => Deno.removeSignalListener(name, listener);
  });
  return {
    signal: controller.signal,
    get exitStatus() {
      const { reason } = controller.signal;
      return reason instanceof InterruptedError ? reason.exitStatus : 0;
    },
    [Symbol.dispose]() {
      for (const remove of listeners) remove();
    },
  };
}
