/**
 * Ctrl-C and termination: a command ends in order, with its function closed and its files whole.
 *
 * @module
 */
import { readTextIfAny } from "../ffi/mod.ts";
import { RingsideError } from "../lib/errors/mod.ts";

/** Signals that end a command in order, by number. */
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

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

const LOOK_MS = 1000;

/** Resolves when a signal has come. @param look at what is held meanwhile, once a second: what it throws is thrown */
export async function interrupted({ signal }: Interruption, look: () => unknown): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const signalled = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
  try {
    while (!signal.aborted) {
      await look();
      const aWhile = new Promise<void>((resolve) => void (timer = setTimeout(resolve, LOOK_MS)));
      await Promise.race([signalled, aWhile]);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Listens for signals. The second one ends the process at once: something does not come to an end. */
export function interruption(): Interruption {
  const controller = new AbortController();
  const names = Object.keys(SIGNALS) as (keyof typeof SIGNALS)[];
  const listeners = names.filter((name) => name !== "SIGHUP" || !hangupIgnored()).map((name) => {
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

/** Whoever started this wants it to outlive its terminal (`nohup`). */
function hangupIgnored(): boolean {
  const ignored = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readTextIfAny("/proc/self/status") ?? "")?.[1] ?? "0";
  return (BigInt(`0x${ignored}`) & 1n) !== 0n;
}
