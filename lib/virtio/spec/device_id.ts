/**
 * Virtio device ids (virtio 1.4 §5) and the PCI ids made from them (reference 2).
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";

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

const NAMES: readonly (string | undefined)[] = [
  undefined,
  "network device",
  "block device",
  "console",
  "entropy source",
  "memory ballooning (traditional)",
  "ioMemory",
  "rpmsg",
  "SCSI host",
  "9P transport",
  "mac80211 wlan",
  "rproc serial",
  "virtio CAIF",
  "memory balloon",
  undefined,
  undefined,
  "GPU device",
  "RTC device",
  "input device",
  "socket device",
  "crypto device",
  "signal distribution module",
  "pstore device",
  "IOMMU device",
  "memory device",
  "sound device",
  "file system device",
  "PMEM device",
  "RPMB device",
  "mac80211 hwsim device",
  "video encoder device",
  "video decoder device",
  "SCMI device",
  "NitroSecureModule",
  "I2C adapter",
  "watchdog",
  "CAN device",
  undefined,
  "parameter server",
  "audio policy device",
  "Bluetooth device",
  "GPIO device",
  "RDMA device",
  "camera device",
  "ISM device",
];

/** The standard's name of a device type, or `device type 99`. */
export function deviceTypeName(deviceId: number): string {
  requireType(deviceId, "number", "deviceTypeName: deviceId");
  return NAMES[deviceId] ?? `device type ${deviceId}`;
}

/** PCI vendor id of virtio functions. */
export const VIRTIO_PCI_VENDOR_ID = 0x1af4;
/** PCI device id of a modern virtio function is this plus its virtio device id. */
export const VIRTIO_PCI_MODERN_BASE = 0x1040;
/** PCI device ids of transitional functions: 0x1000 to 0x103f; their virtio id is the subsystem id. */
export const VIRTIO_PCI_TRANSITIONAL = { first: 0x1000, last: 0x103f } as const;
