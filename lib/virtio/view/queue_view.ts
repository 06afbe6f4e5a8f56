/**
 * The queues of a function as somebody sees them who does not drive it: its registers, and where the rings can be reached what is in them.
 *
 * @module
 */
import type { QueueState } from "../spec/queue_state.ts";
import type { Profile } from "../spec/features.ts";
import type { RingImage } from "./ring_image.ts";

/** One queue. */
export interface QueueView {
  /** Number of the virtqueue. */
  readonly queue: number;
  /** `queue_size`: what the driver chose, or the largest. */
  readonly size: number;
  /** `queue_enable`. */
  readonly enabled: boolean;
  /** `queue_msix_vector`; null for none. */
  readonly vector: number | null;
  /** Areas, hexadecimal IOVAs. */
  readonly descriptorArea: string;
  /** IOVA of the driver area. */
  readonly driverArea: string;
  /** IOVA of the device area. */
  readonly deviceArea: string;
  /** What the device's side knows; absent where only registers are to be had, and for a queue that is not enabled. */
  readonly ring?: RingView;
}

/** A ring, from the device's side. */
export interface RingView {
  /** Ring layout. */
  readonly layout: "split" | "packed";
  /** Where the device stands. */
  readonly state: QueueState;
  /** Chains that the device has read and not returned. */
  readonly held: number;
  /** What memory shows from there on; null when it is not mapped. */
  readonly image: RingImage | null;
}

/** What a queue has done since it was enabled. */
export interface QueueCounters {
  /** Number of the virtqueue. */
  readonly queue: number;
  /** Entries. */
  readonly size: number;
  /** Ring layout. */
  readonly layout: "split" | "packed";
  /** Chains that the device has taken. */
  readonly taken: number;
  /** Of those, chains that it has not returned. */
  readonly held: number;
}

/** What a function of an emulated machine has done: a line of `/ringside/counters`. */
export interface FunctionCounters {
  /** Full address. */
  readonly function: string;
  /** Queues that are enabled. */
  readonly queues: readonly QueueCounters[];
  /** How often each vector that was ever signalled was, by its number. */
  readonly vectors: Readonly<Record<string, number>>;
  /** How often the interrupt line was. */
  readonly line: number;
}

/** A function's queues. */
export interface FunctionQueues {
  /** PCI address. */
  readonly function: string;
  /** Virtio device id. */
  readonly deviceId: number;
  /** Meaning of bits that drafts use, too. */
  readonly profile: Profile;
  /** `device_status`. */
  readonly status: number;
  /** Features in force, hexadecimal; `0x0` before FEATURES_OK. */
  readonly features: string;
  /** By number. */
  readonly queues: readonly QueueView[];
}
