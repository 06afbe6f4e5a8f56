/**
 * What one thread of this process lends to another, and takes back.
 *
 * Everything that is lent is the borrower's own (see `Parcel`), so neither side has to wait for the other before it closes: no page is unmapped, and no
 * descriptor closed, under the other's hands. What the two share is one word, which says who has it, and an eventfd that wakes a borrower who sleeps.
 *
 * Who ends a lease marks it first, and then lets go of what was lent: a thread that dies in between leaves something open, and nobody closes it twice.
 *
 * @module
 */
import { EventFd, type Parcel, type PassedFd, takeEventFd, threadExists, threadId } from "../../ffi/mod.ts";
import { ClosedError, UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";

/**
 * The word: not opened yet, or ended, or the number of the thread that has it, negative from when it is taken back. In one word, so that no moment is
 * between two.
 */
const OFFERED = 0;
const ENDED = -(2 ** 31);

/** A lease as plain data: for `postMessage`, to a Worker of this process. */
export interface LentLease {
  /** What is lent, for messages. */
  readonly what: string;
  /** Who has it. */
  readonly word: SharedArrayBuffer;
  /** Signalled when it is taken back. */
  readonly end: PassedFd;
}

/** Leases of this thread that were not seen to be ended. */
const outstanding = new Set<Lease>();

/** Lets go of what threads had that are no more. @returns leases that somebody still has */
export function reclaimLeases(): number {
  for (const lease of outstanding) if (lease.reclaim()) outstanding.delete(lease);
  return outstanding.size;
}

/** The owner's side. */
export class Lease implements Disposable {
  /** For the borrower. */
  readonly lent: LentLease;
  readonly #word: Int32Array<SharedArrayBuffer>;
  readonly #parcel: Parcel;
  readonly #end: EventFd;

  /** @param what is lent, for messages @param parcel all that goes with it: the lease's from now on, unless this throws @throws SyscallError */
  constructor(what: string, parcel: Parcel) {
    reclaimLeases();
    const word = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    using end = new DisposableStack();
    this.#end = end.use(new EventFd());
    this.lent = { what, word, end: parcel.addFd(this.#end.fd) };
    this.#word = new Int32Array(word);
    this.#parcel = parcel;
    end.move();
    outstanding.add(this);
  }

  /** Where it is: not opened yet, with a Worker (`withdrawn`: which was told that it is taken back), or over. */
  get state(): "offered" | "taken" | "withdrawn" | "ended" {
    const word = Atomics.load(this.#word, 0);
    return word === OFFERED ? "offered" : word === ENDED ? "ended" : word > 0 ? "taken" : "withdrawn";
  }

  /**
   * Takes it back. What was never opened is closed; a borrower's calls and waits end with `ClosedError` from now on, and it lets go by itself. May be
   * called again.
   */
  [Symbol.dispose](): void {
    const word = this.#word;
    if (Atomics.compareExchange(word, 0, OFFERED, ENDED) === OFFERED) this.#parcel.reclaim();
    const thread = Atomics.load(word, 0);
    if (thread > 0 && Atomics.compareExchange(word, 0, thread, -thread) === thread) this.#end.signal();
    // What was signalled stays so for the borrower's descriptor.
    this.#end.close();
    reclaimLeases();
  }

  /** Lets go of what a thread had that is no more. @returns whether it is over */
  reclaim(): boolean {
    const thread = Atomics.load(this.#word, 0);
    if (thread === ENDED) return true;
    if (thread === OFFERED || threadExists(Math.abs(thread))) return false;
    // The thread may have been ended by its last call.
    if (Atomics.compareExchange(this.#word, 0, thread, ENDED) === thread) this.#parcel.reclaim();
    return true;
  }
}

/** The borrower's side. */
export class Borrowing implements Disposable {
  /** What is lent, for messages. */
  readonly name: string;
  /** Signalled when it is taken back; this side's. */
  readonly end: EventFd;
  readonly #word: Int32Array<SharedArrayBuffer>;
  readonly #thread: number;

  /** Takes what a message brought: once. @throws UsageError (no lease, or somebody has it), ClosedError (taken back) */
  constructor(lent: LentLease) {
    const { what, word, end } = lent ?? {};
    if (typeof what !== "string" || !(word instanceof SharedArrayBuffer) || word.byteLength !== 4) {
      throw new UsageError(`${shown(lent)} is no lease`);
    }
    this.name = what;
    this.#word = new Int32Array(word);
    this.#thread = threadId();
    const before = Atomics.compareExchange(this.#word, 0, OFFERED, this.#thread);
    if (before > 0) {
      throw new UsageError(`${what} is taken already`, { hint: "it is for one Worker, once" });
    }
    if (before !== OFFERED) throw this.reason();
    this.end = takeEventFd(end);
  }

  /** True when its owner has taken it back, or this side has closed it. */
  get closed(): boolean {
    return Atomics.load(this.#word, 0) !== this.#thread;
  }

  /** That it was taken back. */
  reason(): ClosedError {
    return new ClosedError(`${this.name}: it was taken back by its owner, and`);
  }

  /** @throws ClosedError when it was taken back */
  check(): void {
    if (this.closed) throw this.reason();
  }

  /** Ends it: what was lent is to be let go of after this. May be called again. */
  [Symbol.dispose](): void {
    if (this.end.closed) return;
    Atomics.store(this.#word, 0, ENDED);
    this.end.close();
  }
}
