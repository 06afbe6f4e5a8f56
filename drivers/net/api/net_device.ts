/**
 * What a network device is to those who send and receive with it, whatever its driver: types alone.
 *
 * @module
 */
import type { WaitTarget } from "../../../lib/wait/waiter.ts";
import type { FrameBurst } from "./frame_burst.ts";
import type { NetStatistics } from "./statistics.ts";

/** A receive queue: it hands out frames where the device wrote them. */
export interface NetReceiveQueue extends WaitTarget {
  /** Number of the queue, as its device counts. */
  readonly index: number;
  /** The whole of each slot, made once; all are cut out of one buffer. A frame's bytes are where the burst says. */
  readonly views: readonly Uint8Array<ArrayBuffer>[];
  /** Takes up to `burst.capacity` frames. @returns how many; ask again until it is 0 before waiting */
  receiveBurst(burst: FrameBurst): number;
  /** Copies a frame of a burst out of its slots. @returns its bytes */
  copyFrame(burst: FrameBurst, frame: number, into: Uint8Array): number;
  /** Gives all slots of a burst back. The burst is empty afterwards. */
  recycle(burst: FrameBurst): void;
}

/** A transmit queue: slots that are filled, sent and come back. */
export interface NetTransmitQueue extends WaitTarget {
  /** Number of the queue, as its device counts. */
  readonly index: number;
  /** Longest frame, Ethernet header included. */
  readonly maxFrameBytes: number;
  /** Slots in all. */
  readonly slotCount: number;
  /** Slots that `reserve` gives without waiting for the device. */
  readonly freeSlots: number;
  /** A slot to fill, the caller's until `send` or `cancel`; −1 when the device has them all. */
  reserve(): number;
  /** As many slots to fill as there are, up to the array's elements 0 to `count` − 1. @returns how many */
  reserveBurst(slots: Uint16Array, count?: number): number;
  /** Where the slot's frame goes. */
  frame(slot: number): Uint8Array<ArrayBuffer>;
  /** Gives an unused slot back. */
  cancel(slot: number): void;
  /** Queues the first `lengthBytes` of the slot's frame; `flush` makes it visible. */
  send(slot: number, lengthBytes: number): void;
  /** Sends `count` reserved slots and flushes. @returns `count` */
  transmitBurst(slots: Uint16Array, lengths: Uint32Array, count: number): number;
  /** Makes sent frames visible to the device. */
  flush(): void;
  /** Takes slots back that the device is done with. @returns how many */
  reclaim(): number;
  /** Checks a frame's length. @throws UsageError for one that is too short or too long */
  checkLength(lengthBytes: number): void;
}

/** An opened network device: `VirtioNet`, `Igb`, `IgbVf`. */
export interface NetDevice extends AsyncDisposable {
  /** The function, for messages. */
  readonly name: string;
  /** Six bytes, a copy. */
  readonly mac: Uint8Array<ArrayBuffer>;
  /** Bytes of an Ethernet payload. */
  readonly mtu: number;
  /** Longest frame that can be sent, Ethernet header included, checksum at the end not. */
  readonly maxFrameBytes: number;
  /** Kind of interrupt in use. */
  readonly interruptKind: "msix" | "msi" | "intx" | "none";
  /** As of the last interrupt or `service`. */
  readonly linkUp: boolean;
  /** Receive queues, by pair. A reset makes new ones. */
  readonly rx: readonly NetReceiveQueue[];
  /** Transmit queues, by pair. A reset makes new ones. */
  readonly tx: readonly NetTransmitQueue[];
  /** Copies one frame into a slot of the first pair, and sends it. @returns false when the device has all slots */
  send(frame: Uint8Array): boolean;
  /** A copy of the next frame of any pair; undefined when none came in `timeoutMs`. */
  receive(timeoutMs: number): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Waits until a pair has frames (all pairs, or one). @returns false after `timeoutMs` */
  waitReceive(timeoutMs: number, pair?: number): Promise<boolean>;
  /** Waits until the device has given a transmit slot back. @returns false after `timeoutMs` */
  waitTransmit(timeoutMs: number, pair?: number): Promise<boolean>;
  /** Receives frames for all addresses. */
  setPromiscuous(on: boolean): Promise<void>;
  /** Calls `listener` when the link goes up or down. @returns what takes it off again */
  onLinkChange(listener: (up: boolean) => void): () => void;
  /** Looks after what nobody waits for. */
  service(): void;
  /** Counters since it was opened. */
  statistics(): NetStatistics;
  /** Resets the device and brings it up again; queues, bursts and slots of before are void. */
  reset(): Promise<void>;
  /** Stops the device and lets its queues and buffers go. The function stays the caller's. */
  close(): void;
}
