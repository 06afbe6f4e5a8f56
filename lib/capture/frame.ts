/**
 * A captured frame.
 *
 * @module
 */

/** One frame of a capture file. */
export interface CapturedFrame {
  /** The bytes that were captured, from the Ethernet destination on, without FCS. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Length on the wire; larger than `bytes` when the capture was cut. */
  readonly originalLength: number;
  /** Nanoseconds since 1970. */
  readonly timeNs: bigint;
}

/** Link type of Ethernet (LINKTYPE_ETHERNET). */
export const LINKTYPE_ETHERNET = 1;

/** Largest frame that a capture file may claim to hold; anything above is a broken file. */
export const MAX_FRAME_BYTES: number = 256 << 10;
