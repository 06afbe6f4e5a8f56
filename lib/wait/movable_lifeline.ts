/**
 * A lifeline whose other end can be another one from one moment to the next.
 *
 * @module
 */
import type { OwnedFd } from "../../ffi/mod.ts";
import { requireType } from "../errors/doors.ts";
import { EndHandlers } from "./end_handlers.ts";
import type { Lifeline } from "./lifeline.ts";

/** That of the one that is current. Whoever listens for the end hears of the end of that one. */
export class MovableLifeline implements Lifeline {
  readonly #current: () => Lifeline;
  readonly #ends = new EndHandlers();
  readonly #moves = new Set<() => () => void>();
  #forget: (() => void) | null = null;

  /** @param current the one that it stands for now */
  constructor(current: () => Lifeline) {
    this.#current = current;
  }

  /** See `Lifeline`. */
  get fds(): readonly OwnedFd[] {
    return this.#current().fds;
  }

  /** See `Lifeline`. */
  get ended(): boolean {
    return this.#current().ended ?? false;
  }

  /** See `Lifeline`. */
  reason(): Error {
    return this.#current().reason();
  }

  /** See `Lifeline`. */
  answer(): void {
    this.#current().answer();
  }

  /** See `Lifeline`. */
  check(): void {
    this.#current().check();
  }

  /** See `Lifeline`. */
  onEnd(handler: () => void): () => void {
    const forget = this.#ends.add(handler, "Lifeline.onEnd: handler");
    if (this.#forget === null) this.#listen();
    return forget;
  }

  /** See `Lifeline`. */
  onMove(handler: () => () => void): () => void {
    requireType(handler, "function", "Lifeline.onMove: handler");
    this.#moves.add(handler);
    return () => void this.#moves.delete(handler);
  }

  /** Whoever watches lets go of the old one before `act`, and takes hold of the new one after it. */
  move(act: () => void): void {
    requireType(act, "function", "Lifeline.move: act");
    const after = [...this.#moves].map((before) => before());
    this.#forget?.();
    act();
    if (this.#forget !== null) this.#listen();
    for (const one of after) one();
  }

  #listen(): void {
    this.#forget = this.#current().onEnd(() => this.#ends.tell());
  }
}
