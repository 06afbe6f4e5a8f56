/**
 * Virtio device types and the PCI ids made from them (virtio 1.2 §4.1.2, §5; kernel header `linux/virtio_ids.h`).
 *
 * @module
 */

/** PCI vendor ID of virtio functions (Red Hat, formerly Qumranet). */
export const VIRTIO_VENDOR_ID = 0x1af4;
/** PCI device ID of a modern virtio function is this plus its virtio device id. */
export const VIRTIO_MODERN_BASE = 0x1040;

/** 63 is no standard's: the transport virtqueue's draft has no number for a function that has nothing else. */
const NAMES = `
1 network device, 2 block device, 3 console, 4 entropy source, 5 memory balloon (traditional),
6 I/O memory, 7 remote processor messaging, 8 SCSI host, 9 9P transport, 10 mac80211 wireless LAN,
11 remote processor serial link, 12 CAIF, 13 memory balloon, 16 GPU, 17 timer and clock, 18 input device,
19 socket device, 20 crypto device, 21 signal distribution module, 22 persistent store, 23 IOMMU,
24 memory device, 25 sound device, 26 file system, 27 persistent memory, 28 replay protected memory block,
29 mac80211 simulator, 30 video encoder, 31 video decoder, 32 SCMI, 33 Nitro secure module, 34 I2C adapter,
35 watchdog, 36 CAN controller, 37 DMA buffer sharing, 38 parameter server, 39 audio policy, 40 Bluetooth,
41 GPIO, 42 RDMA, 43 camera, 44 internal shared memory (ISM) device, 63 management device (provisional)
`;

/** Device types by virtio device id. */
export const VIRTIO_TYPE_NAMES: ReadonlyMap<number, string> = new Map(
  NAMES.trim().split(/,\s/).map((type) => [parseInt(type), type.replace(/^\d+ /, "")]),
);

/** PCI device IDs of transitional functions, by virtio device id; other types never had a legacy interface on PCI. */
export const VIRTIO_TRANSITIONAL_IDS: ReadonlyMap<number, number> = new Map([
  [1, 0x1000],
  [2, 0x1001],
  [5, 0x1002],
  [3, 0x1003],
  [8, 0x1004],
  [4, 0x1005],
  [9, 0x1009],
]);

/** IDs of a PCI function. */
export interface VirtioPciIds {
  /** Device ID. */
  readonly deviceId: number;
  /** Subsystem ID: the virtio device id of a transitional function. */
  readonly subsystemId?: number | undefined;
}

/** Virtio device id of a function whose vendor is `VIRTIO_VENDOR_ID`; undefined when no virtio device has its ids. */
export function virtioTypeOf({ deviceId, subsystemId = 0 }: VirtioPciIds): number | undefined {
  if (deviceId >= 0x1000 && deviceId < VIRTIO_MODERN_BASE) return subsystemId;
  if (deviceId > VIRTIO_MODERN_BASE && deviceId < VIRTIO_MODERN_BASE + 0x40) {
    return deviceId - VIRTIO_MODERN_BASE;
  }
  return undefined;
}
