/**
 * What drivers did against the standard, kept until it is asked for.
 *
 * @module
 */
import type { Violation } from "./device_model.ts";

const KEPT = 1000;

/** The last violations, oldest first. A driver that breaks a rule a million times fills no memory. */
export class ViolationLog {
  readonly #kept: Violation[] = [];
  readonly #onViolation: (violation: Violation) => void;
  #count = 0;

  /** An empty log. @param onViolation is told of each at once */
  constructor(onViolation: (violation: Violation) => void = () => {}) {
    this.#onViolation = onViolation;
  }

  /** How many there were in all, those that are no longer kept included. */
  get count(): number {
    return this.#count;
  }

  /** Those that are kept. */
  get list(): readonly Violation[] {
    return this.#kept;
  }

  /** Notes one. */
  add(violation: Violation): void {
    this.#count++;
    this.#kept.push(violation);
    if (this.#kept.length > KEPT) this.#kept.shift();
    this.#onViolation(violation);
  }

  /** Forgets all. */
  clear(): void {
    this.#kept.length = 0;
    this.#count = 0;
  }

  /** One JSON object a line. */
  toText(): string {
    return this.#kept.map((violation) => `${JSON.stringify(violation)}\n`).join("");
  }
}
