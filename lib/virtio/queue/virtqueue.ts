/**
 * The seam `Virtqueue`: the driver's side of a ring, split or packed.
 *
 * @module
 */

/** Something a burst call fills: ids of used buffers and the bytes that the device wrote into each. */
export interface UsedBurst {
  /** Ids as `commit` and `addSingle` gave them. */
  readonly ids: Uint16Array;
  /** Bytes written by the device into each chain. */
  readonly lengths: Uint32Array;
}

/**
 * The driver's side of one virtqueue. Hot calls allocate nothing; an IOVA travels as two unsigned 32-bit halves.
 *
 * A chain is added as a whole: `begin(readable, writable)` reserves it, `segment` is called once a part, device-readable parts first,
 * then `commit()` gives its id. `addSingle` is the short form for one part. Nothing is visible to the device before `publish`.
 *
 * Errors: `UsageError` for wrong use, `DeviceError` (naming queue and field) when the device broke the ring: after that the queue is
 * broken, every call but `close` and `reset` throws the same error, and the device must be reset.
 */
export interface Virtqueue extends Disposable {
  /** Number of the virtqueue. */
  readonly index: number;
  /** Ring layout. */
  readonly layout: "split" | "packed";
  /** Number of descriptors. */
  readonly size: number;
  /** Descriptors that can still be added (with indirect tables, a chain takes one). */
  readonly freeDescriptors: number;
  /** Chains that the device holds. */
  readonly inFlight: number;
  /** True after `close`. */
  readonly closed: boolean;

  /** Reserves a chain. @returns false when it does not fit now. @throws UsageError when it can never fit. */
  begin(readableParts: number, writableParts: number): boolean;
  /** Adds the next part of the chain. @throws UsageError */
  segment(iovaLo: number, iovaHi: number, lengthBytes: number): void;
  /** Ends the chain. @returns its id, below `size`, unique among the chains in flight. */
  commit(): number;
  /** A chain of one part. @returns its id, or −1 when the queue is full. */
  addSingle(iovaLo: number, iovaHi: number, lengthBytes: number, deviceWrites: boolean): number;

  /** Makes all committed chains visible to the device. @returns whether it must be notified (event index and flags considered). */
  publish(): boolean;
  /** Rings the doorbell. */
  notify(): void;
  /** `publish`, then `notify` when needed. @returns whether it was. */
  kick(): boolean;

  /** True when the device has returned something that was not taken yet. */
  hasUsed(): boolean;
  /** Takes up to `max` (default: the arrays' length) returned chains, in the order of return. @returns how many. */
  takeUsed(into: UsedBurst, max?: number): number;

  /** Asks the device not to interrupt for this queue (a hint: it may still). */
  suppressInterrupts(): void;
  /** Asks for an interrupt at the next return. @returns true when something was returned meanwhile: take it before sleeping. */
  enableInterrupts(): boolean;

  /** Ids in flight, ascending: what must be given back to its owner when the queue dies. */
  inFlightIds(): number[];
  /** Releases what it holds. May be called again. */
  close(): void;
}
