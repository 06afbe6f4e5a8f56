/**
 * Who hears that something has ended.
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";

/** Handlers that are called once, or as often as it happens. */
export class EndHandlers {
  readonly #handlers = new Set<() => void>();

  /** @param what function and argument, for the message @returns forgets it @throws UsageError */
  add(handler: () => void, what: string): () => void {
    requireType(handler, "function", what);
    this.#handlers.add(handler);
    return () => void this.#handlers.delete(handler);
  }

  /** Calls and forgets them. What one throws is its caller's, and keeps neither the others from hearing nor anything from being closed. */
  tell(): void {
    const handlers = [...this.#handlers];
    this.#handlers.clear();
    this.#call(handlers);
  }

  /** As `tell`, and they stay: it can happen again. */
  tellAgain(): void {
    this.#call([...this.#handlers]);
  }

  /** Forgets them. */
  clear(): void {
    this.#handlers.clear();
  }

  #call(handlers: readonly (() => void)[]): void {
    for (const handler of handlers) {
      try {
        handler();
      } catch (error) {
        reportError(error);
      }
    }
  }
}
