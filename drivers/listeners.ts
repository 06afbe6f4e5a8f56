/**
 * Those who want to be told of something.
 *
 * @module
 */
import { requireType } from "../lib/errors/doors.ts";

/** See the module's text. */
export class Listeners<T extends readonly unknown[]> {
  readonly #all = new Set<(...news: T) => void>();

  /** @param call for messages: `onLinkChange` @returns what takes it off again @throws UsageError for what is no function */
  add(listener: (...news: T) => void, call: string): () => void {
    requireType(listener, "function", `${call}: listener`);
    this.#all.add(listener);
    return () => void this.#all.delete(listener);
  }

  /** Tells all of them. What one throws ends it. */
  tell(...news: T): void {
    for (const listener of this.#all) listener(...news);
  }
}
