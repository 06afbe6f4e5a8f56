/**
 * The seam `Virtqueue`: the driver's side of a ring, split or packed.
 *
 * @module
 */
import type { Parcel } from "../../../ffi/mod.ts";
import type { LentDmaMemory } from "../../memory/mod.ts";
import type { Doorbell, LentDoorbell, QueueAddresses } from "../transport/transport.ts";
import type { RingEvent, RingImage, RingPlace } from "../view/ring_image.ts";
import type { QueueState } from "../spec/queue_state.ts";
import type { RingLayout } from "./layout.ts";
import type { SavedChain, SavedPart, SavedQueue } from "./saved_queue.ts";

/** Something a burst call fills: ids of used buffers and the bytes that the device wrote into each. */
export interface UsedBurst {
  /** Ids as `commit` and `addSingle` gave them. */
  readonly ids: Uint16Array;
  /** Bytes written by the device into each chain. */
  readonly lengths: Uint32Array;
}

/** Parts of chains, those of one after those of the other. The device-readable parts of a chain come first. */
export interface ChainParts {
  /** Low half of each part's IOVA. */
  readonly iovaLo: Uint32Array;
  /** High half. */
  readonly iovaHi: Uint32Array;
  /** Bytes of each. */
  readonly lengths: Uint32Array;
}

/** Buffers of which each is a chain of a queue, described once: the slot's number is the chain's id. */
export interface QueueSlots {
  /** By slot: low half of its IOVA. The arrays are read when slots are added, and must not change. */
  readonly iovaLo: Uint32Array;
  /** By slot: high half. */
  readonly iovaHi: Uint32Array;
  /** Bytes of each. */
  readonly lengthBytes: number;
  /** The device writes them; else it reads them. */
  readonly deviceWrites: boolean;
  /** They are indirect tables, which are written by their owner (INDIRECT_DESC was negotiated). Default: they are buffers. */
  readonly tables?: SlotTables | undefined;
}

/** What the owner of slots that are indirect tables says of the chains in them. The owner is asked, since what lies in the memory could be anything. */
export interface SlotTables {
  /** By slot: bytes that the device may write into its chain. Read when the slot is added. */
  readonly writable: Uint32Array;
  /** The parts of a slot's chain. */
  partsOf(slot: number): { readonly readable: readonly SavedPart[]; readonly writable: readonly SavedPart[] };
}

/** A queue that nobody has used as another thread of this process gets it: plain data. */
export interface LentQueue {
  /** PCI address or path of the function, for messages. */
  readonly function: string;
  /** Number of the virtqueue. */
  readonly index: number;
  /** Ring layout. */
  readonly layout: "split" | "packed";
  /** Where in the memory what lies. */
  readonly places: RingLayout;
  /** The rings. */
  readonly memory: LentDmaMemory;
  /** The queue's doorbell. */
  readonly doorbell: LentDoorbell;
  /** EVENT_IDX is in force. */
  readonly eventIndex: boolean;
  /** IN_ORDER is in force. */
  readonly inOrder: boolean;
}

/** A queue at one moment, for people who look at it. */
export interface QueueSnapshot {
  /** Number of the virtqueue. */
  readonly queue: number;
  /** Ring layout. */
  readonly layout: "split" | "packed";
  /** Number of descriptors. */
  readonly size: number;
  /** Descriptors that can still be added. */
  readonly freeDescriptors: number;
  /** Chains that were committed and have not come back. */
  readonly inFlight: number;
  /** Those of them that the device does not see yet. */
  readonly unpublished: number;
  /** Where the device finds the next chain: free-running index (split), or slot and wrap counter (packed). */
  readonly available: RingPlace;
  /** Where the driver looks for the next return. */
  readonly used: RingPlace;
  /** EVENT_IDX is in force. */
  readonly eventIndex: boolean;
  /** IN_ORDER is in force. */
  readonly inOrder: boolean;
  /** Descriptors in each indirect table; 0 without. */
  readonly tableSegments: number;
  /** When the driver asks to be interrupted. */
  readonly driverEvent: RingEvent;
  /** When the device asks to be notified, as its memory says now. */
  readonly deviceEvent: RingEvent;
  /** Why the queue is broken; undefined when it is not. */
  readonly fault?: string;
}

/**
 * The driver's side of one virtqueue. Hot calls allocate nothing; an IOVA travels as two unsigned 32-bit halves.
 *
 * A chain is added as a whole: `begin(readable, writable)` reserves it, `segment` is called once a part, device-readable parts first,
 * then `commit()` gives its id. `addSingle` is the short form for one part. Nothing is visible to the device before `publish`.
 *
 * By bursts: `addSingles` adds chains of one part each, `addChains` chains of any; of a queue whose chains are the slots of one pool (`bindSlots`) `addSlots` adds those, which is
 * the fastest. Each call costs the queue's checks once, and `publish` and `takeUsed` one atomic access to an index.
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
  /** EVENT_IDX is in force. */
  readonly eventIndex: boolean;
  /** IN_ORDER is in force: chains come back in the order in which they were committed. */
  readonly inOrder: boolean;
  /** Where its rings are; what the device was, or is to be, told. */
  readonly addresses: QueueAddresses;

  /** Reserves a chain. @returns false when it does not fit now. @throws UsageError when it can never fit. */
  begin(readableParts: number, writableParts: number): boolean;
  /** Adds the next part of the chain. @throws UsageError */
  segment(iovaLo: number, iovaHi: number, lengthBytes: number): void;
  /** Ends the chain. @returns its id, below `size`, unique among the chains in flight. */
  commit(): number;
  /** A chain of one part. @returns its id, or −1 when the queue is full. */
  addSingle(iovaLo: number, iovaHi: number, lengthBytes: number, deviceWrites: boolean): number;

  /**
   * As many chains of one part, from the arrays' elements 0 to `count` − 1, as there is room for. @param ids gets their ids
   * @returns how many @throws UsageError (arrays too short, a part of no byte: those before it are added)
   */
  addSingles(
    iovaLo: Uint32Array,
    iovaHi: Uint32Array,
    lengths: Uint32Array,
    count: number,
    deviceWrites: boolean,
    ids: Uint16Array,
  ): number;
  /**
   * As many chains as there is room for, up to `count`: the next `readable[n] + writable[n]` parts are chain n. @param ids gets their ids
   * @returns how many @throws UsageError (arrays too short, a chain that can never fit or of no part, a part of no byte: those before it are added)
   */
  addChains(
    parts: ChainParts,
    readable: Uint16Array,
    writable: Uint16Array,
    count: number,
    ids: Uint16Array,
  ): number;
  /**
   * Says once, before anything is added, that every chain of this queue is one of these slots, at most `size`. From then on chains are added by
   * `addSlots` alone, and ids are slot numbers. @throws UsageError
   */
  bindSlots(slots: QueueSlots): void;
  /**
   * Adds slots, elements 0 to `count` − 1; there is room for all. @param lengths bytes of each, from its start on; null: all of it
   * @param headBytes the lengths count what follows so many bytes, at most 65535; default 0
   * @returns `count` @throws UsageError (no such slot, in flight already, a length that it does not have: those before it are added)
   */
  addSlots(slots: Uint16Array, lengths: Uint32Array | null, count: number, headBytes?: number): number;

  /**
   * Says where slots lie from now on, elements 0 to `count` − 1: slot `slots[i]` at the address that element `at[i]` has. For memory of the same length
   * at least, which the device may use as it may use the slots. @throws UsageError (no such slot, or one in flight: those before it are placed)
   */
  placeSlots(
    slots: Uint16Array,
    iovaLo: Uint32Array,
    iovaHi: Uint32Array,
    at: Uint16Array,
    count: number,
  ): void;

  /** Makes all committed chains visible to the device. @returns whether it must be notified (event index and flags considered). */
  publish(): boolean;
  /** Rings the doorbell. */
  notify(): void;
  /** `publish`, then `notify` when needed. @returns whether it was. */
  flush(): boolean;

  /** True when the device has returned something that was not taken yet. */
  hasUsed(): boolean;
  /**
   * Takes up to `max` (default: the arrays' length) returned chains, in the order of return. With IN_ORDER the device may return a batch by its last
   * chain alone; those before it count as used completely, so their length is all their device-writable bytes (SPEC in-order use of descriptors).
   * @returns how many.
   */
  takeUsed(into: UsedBurst, max?: number): number;

  /** Asks the device not to interrupt for this queue (a hint: it may still). */
  suppressInterrupts(): void;
  /** Asks for an interrupt at the next return. @returns true when something was returned meanwhile: take it before sleeping. */
  enableInterrupts(): boolean;

  /** Ids in flight, ascending: what must be given back to its owner when the queue dies. */
  inFlightIds(): number[];

  /**
   * Where the ring goes on once everything in flight is offered again: nothing before this place is outstanding. After `takeUsed` has
   * nothing left.
   */
  readonly position: QueueState;
  /** What is in flight, in the order in which it was committed. Works on a broken queue, too. @throws ClosedError */
  saveInFlight(): SavedChain[];
  /**
   * The queue as plain data, after a reset of the device, with all returns taken.
   * @param device the state that the device reports; checked against the ring
   * @throws UsageError (returns not taken, a chain half added), DeviceError (the device's state cannot be), ClosedError
   */
  save(device?: QueueState): SavedQueue;
  /**
   * Adds saved chains again and leaves publishing to the caller: all of them or, when it throws, none.
   * @param translate gives the address of the same memory for this queue's device; default: the same
   * @returns their ids here, in the order of `chains`
   * @throws UsageError (not a list of chains, a chain too long), ExhaustedError (not enough free descriptors)
   */
  reoffer(chains: readonly SavedChain[], translate?: (iova: bigint, lengthBytes: number) => bigint): number[];
  /**
   * Puts the ring, in its own memory, to `state` (default `position`), with everything in flight available again, in its old order and under its old ids.
   * Only while the device does not use the queue: after a reset, before it is enabled again. Interrupts are then asked for as in a new ring.
   * @returns the state to write into the device before the queue is enabled
   * @throws UsageError (returns not taken, a chain half added, `state` of another layout or with a used part of its own), ClosedError
   */
  restart(state?: QueueState): QueueState;
  /**
   * The device is gone without a reset, and another goes on with the ring as it stands: what was returned stays to be taken. Only while no device
   * uses the queue. Interrupts stay as they were asked for; the device's own wishes are void.
   * @param offersAgain also makes everything else in flight available again, in its old order and under its old ids, committed only or published; else the
   * ring is left alone, for a device that knows what its predecessor had taken
   * @returns where the device begins
   * @throws UsageError (a chain half added), ClosedError, or why the queue is broken
   */
  takeOver(offersAgain: boolean): QueueState;
  /** Notifies through another doorbell from now on: after the device was set up again. */
  rebind(doorbell: Doorbell): void;
  /**
   * The queue for another thread of this process; its memory was allocated to be lent. Every call but `close` and `snapshot` throws here from then on.
   * @throws UsageError (it has been used), UnsupportedError (the device is notified by what only this thread can do), SyscallError
   * @internal
   */
  lend(parcel: Parcel): LentQueue;
  /** The queue as it is now, for display. */
  snapshot(): QueueSnapshot;
  /**
   * The ring's memory decoded, from the place on before which nothing is outstanding: what the device has not returned, as long as it returns
   * in order. @param atMost chains to list, default 32 @throws ClosedError, or why the queue is broken
   */
  image(atMost?: number): RingImage;

  /** The device is not to be used any more: as from a broken queue, every later call throws `reason`. @internal */
  abandon?(reason: Error): void;
  /** Releases what it holds. May be called again. */
  close(): void;
}
