/**
 * Virtio device ids (virtio 1.4 §5).
 *
 * @module
 */

/** Ids of the device types that this library has something to say about. */
export const DEVICE_ID = {
  net: 1,
  block: 2,
  console: 3,
  entropy: 4,
  balloon: 5,
  scsi: 8,
  gpu: 16,
  input: 18,
  socket: 19,
  crypto: 20,
  iommu: 23,
  mem: 24,
  sound: 25,
  fs: 26,
  pmem: 27,
  ism: 44,
} as const;
