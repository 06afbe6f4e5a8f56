/**
 * Device parts: pieces of a device's state, each with a header that says which (virtio 1.4 §2.12.1.5; reference 3.6).
 *
 * @module
 */

/** One part. */
export interface DevicePart {
  /** `DEV_PART` number. */
  readonly type: number;
  /** `DEV_PART_OPTIONAL`, or 0. */
  readonly flags: number;
  /** 8 bytes, meaning by type. */
  readonly selector: bigint;
  /** `length` bytes. */
  readonly value: Uint8Array;
}
