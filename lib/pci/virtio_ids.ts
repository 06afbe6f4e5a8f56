/**
 * Virtio device IDs, their names, and the PCI device IDs that stand for them (virtio 1.2 §4.1.2 and §5; kernel
 * header `linux/virtio_ids.h`).
 *
 * @module
 */

import { VIRTIO_VENDOR_ID } from "./capability/virtio.ts";

/** PCI device ID of virtio device 0; a modern function has this plus its virtio device ID. */
export const VIRTIO_MODERN_DEVICE_BASE = 0x1040;
/** Last PCI device ID of the modern range. */
export const VIRTIO_MODERN_DEVICE_LAST = 0x107f;
/** First PCI device ID of the transitional range. */
export const VIRTIO_TRANSITIONAL_DEVICE_FIRST = 0x1000;
/** Last PCI device ID of the transitional range. */
export const VIRTIO_TRANSITIONAL_DEVICE_LAST = 0x103f;

/** A virtio device type. */
export interface VirtioDeviceType {
  /** Virtio device ID. */
  readonly id: number;
  /** Short name, as in `virtio-net`. */
  readonly name: string;
  /** What the device is, in words. */
  readonly title: string;
}

const TYPES: readonly (readonly [id: number, name: string, title: string])[] = [
  [1, "net", "network device"],
  [2, "block", "block device"],
  [3, "console", "console"],
  [4, "entropy", "entropy source"],
  [5, "balloon-traditional", "memory balloon (traditional)"],
  [6, "iomem", "I/O memory"],
  [7, "rpmsg", "remote processor messaging"],
  [8, "scsi", "SCSI host"],
  [9, "9p", "9P transport"],
  [10, "mac80211-wlan", "mac80211 wireless LAN"],
  [11, "rproc-serial", "remote processor serial link"],
  [12, "caif", "CAIF"],
  [13, "balloon", "memory balloon"],
  [16, "gpu", "GPU"],
  [17, "clock", "timer and clock"],
  [18, "input", "input device"],
  [19, "vsock", "socket device"],
  [20, "crypto", "crypto device"],
  [21, "signal-distribution", "signal distribution module"],
  [22, "pstore", "persistent store"],
  [23, "iommu", "IOMMU"],
  [24, "mem", "memory device"],
  [25, "sound", "sound device"],
  [26, "fs", "file system"],
  [27, "pmem", "persistent memory"],
  [28, "rpmb", "replay protected memory block"],
  [29, "mac80211-hwsim", "mac80211 simulator"],
  [30, "video-encoder", "video encoder"],
  [31, "video-decoder", "video decoder"],
  [32, "scmi", "SCMI"],
  [33, "nitro-secure-module", "Nitro secure module"],
  [34, "i2c", "I2C adapter"],
  [35, "watchdog", "watchdog"],
  [36, "can", "CAN controller"],
  [37, "dmabuf", "DMA buffer sharing"],
  [38, "parameter-server", "parameter server"],
  [39, "audio-policy", "audio policy"],
  [40, "bluetooth", "Bluetooth"],
  [41, "gpio", "GPIO"],
  [42, "rdma", "RDMA"],
  [43, "camera", "camera"],
  [44, "ism", "internal shared memory"],
];

/** All known device types, by ascending ID. */
export const VIRTIO_DEVICE_TYPES: readonly VirtioDeviceType[] = TYPES.map(([id, name, title]) => ({
  id,
  name,
  title,
}));

/** Transitional PCI device IDs with the virtio device ID that each stands for. */
export const VIRTIO_TRANSITIONAL_IDS: ReadonlyMap<number, number> = new Map([
  [0x1000, 1],
  [0x1001, 2],
  [0x1002, 5],
  [0x1003, 3],
  [0x1004, 8],
  [0x1005, 4],
  [0x1009, 9],
]);

const BY_ID: ReadonlyMap<number, VirtioDeviceType> = new Map(
  VIRTIO_DEVICE_TYPES.map((type) => [type.id, type]),
);
const BY_NAME: ReadonlyMap<string, VirtioDeviceType> = new Map(
  VIRTIO_DEVICE_TYPES.map((type) => [type.name, type]),
);

/** The device type with a virtio device ID; `undefined` for an ID that has no name here. */
export function virtioDeviceType(id: number): VirtioDeviceType | undefined {
  return BY_ID.get(id);
}

/** The virtio device ID of a short name such as `"net"` or `"virtio-net"`; `undefined` for an unknown name. */
export function virtioDeviceId(name: string): number | undefined {
  return BY_NAME.get(name.replace(/^virtio-/, ""))?.id;
}

/** PCI device ID of a modern virtio function: ISM (44) gives 0x106c. */
export function virtioPciDeviceId(virtioId: number): number {
  return VIRTIO_MODERN_DEVICE_BASE + virtioId;
}

/** What a function's IDs say about the virtio device behind it. */
export interface VirtioIdentity {
  /** Virtio device ID. */
  readonly id: number;
  /** The function also offers the legacy interface. */
  readonly transitional: boolean;
}

/**
 * Tells from PCI IDs whether a function is a virtio device, and which; `undefined` when it is none.
 *
 * A transitional function carries the virtio device ID as its subsystem device ID.
 */
export function virtioIdentity(
  vendorId: number,
  deviceId: number,
  subsystemDeviceId: number,
): VirtioIdentity | undefined {
  if (vendorId !== VIRTIO_VENDOR_ID) return undefined;
  if (deviceId >= VIRTIO_TRANSITIONAL_DEVICE_FIRST && deviceId <= VIRTIO_TRANSITIONAL_DEVICE_LAST) {
    return { id: subsystemDeviceId, transitional: true };
  }
  if (deviceId > VIRTIO_MODERN_DEVICE_BASE && deviceId <= VIRTIO_MODERN_DEVICE_LAST) {
    return { id: deviceId - VIRTIO_MODERN_DEVICE_BASE, transitional: false };
  }
  return undefined;
}
