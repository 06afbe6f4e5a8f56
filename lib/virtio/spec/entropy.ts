/**
 * Entropy device (virtio 1.2 §5.4): one queue of device-writable buffers, no feature bits, no config space.
 *
 * @module
 */

/** Queue numbers. */
export const ENTROPY_QUEUE = { requests: 0 } as const;
/** Bytes of config space. */
export const ENTROPY_CONFIG_BYTES = 0;
