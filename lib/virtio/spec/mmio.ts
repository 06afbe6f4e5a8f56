/**
 * Registers of virtio-mmio: version 2 as published (virtio 1.2 §4.2.2), the legacy interface (§4.2.4), and the two drafts with MSI and notification
 * addresses (reference 7). Each form has one table; offsets are bytes from the start of the register window.
 *
 * @module
 */
import type { RegisterTable } from "../../registers/declaration.ts";

/** The four forms that a register window can have: the standard's two, and those of profiles `mmio-v3` and `mmio-msi-v2`. */
export type MmioForm = "modern" | "legacy" | "v3" | "msi-v2";

/** What MagicValue reads: "virt", little-endian. */
export const MMIO_MAGIC = 0x7472_6976;

/** What Version reads. `mmio-msi-v2` keeps the standard's number, and says by feature bits what it has. */
export const MMIO_VERSION = { "modern": 2, "legacy": 1, "v3": 3, "msi-v2": 2 } as const satisfies Record<
  MmioForm,
  number
>;

/** Where the device-specific configuration begins, in all forms. */
export const MMIO_CONFIG_OFFSET = 0x100;

/** SHMLen of a region that the device does not have (§4.2.2): all ones, in 64 bits. */
export const MMIO_NO_SHARED_MEMORY = (1n << 64n) - 1n;

/** What every form has at the same place. */
const COMMON = {
  magic_value: { name: "MagicValue", offset: 0x000, width: 4, access: "R" },
  version: { name: "Version", offset: 0x004, width: 4, access: "R" },
  /** 0: a placeholder, which drivers pass over. */
  device_id: { name: "DeviceID", offset: 0x008, width: 4, access: "R" },
  vendor_id: { name: "VendorID", offset: 0x00c, width: 4, access: "R" },
  device_features: { name: "DeviceFeatures", offset: 0x010, width: 4, access: "R" },
  device_features_select: { name: "DeviceFeaturesSel", offset: 0x014, width: 4, access: "W" },
  driver_features: { name: "DriverFeatures", offset: 0x020, width: 4, access: "W" },
  driver_features_select: { name: "DriverFeaturesSel", offset: 0x024, width: 4, access: "W" },
  queue_select: { name: "QueueSel", offset: 0x030, width: 4, access: "W" },
  /** 0: no such queue. */
  queue_size_max: { name: "QueueSizeMax", offset: 0x034, width: 4, access: "R" },
  queue_size: { name: "QueueSize", offset: 0x038, width: 4, access: "W" },
  queue_notify: { name: "QueueNotify", offset: 0x050, width: 4, access: "W" },
  /** Bits as of `ISR`. */
  interrupt_status: { name: "InterruptStatus", offset: 0x060, width: 4, access: "R" },
  interrupt_ack: { name: "InterruptACK", offset: 0x064, width: 4, access: "W" },
  device_status: { name: "Status", offset: 0x070, width: 4, access: "RW" },
} as const satisfies RegisterTable;

/** Name of a register that all forms have. */
export type MmioRegisterName = keyof typeof COMMON;

/** What version 2 and both drafts have. Registers of 64 bits are two of 32, low half first. */
export const MMIO_MODERN_CFG = {
  ...COMMON,
  queue_ready: { name: "QueueReady", offset: 0x044, width: 4, access: "RW" },
  queue_desc: { name: "QueueDesc", offset: 0x080, width: 8, access: "W" },
  queue_driver: { name: "QueueDriver", offset: 0x090, width: 8, access: "W" },
  queue_device: { name: "QueueDevice", offset: 0x0a0, width: 8, access: "W" },
  shm_select: { name: "SHMSel", offset: 0x0ac, width: 4, access: "W" },
  /** All ones: no such region. */
  shm_length: { name: "SHMLen", offset: 0x0b0, width: 8, access: "R" },
  shm_base: { name: "SHMBase", offset: 0x0b8, width: 8, access: "R" },
  config_generation: { name: "ConfigGeneration", offset: 0x0fc, width: 4, access: "R" },
} as const satisfies RegisterTable;

/** Version 2 as published: the form of profile `spec`. */
export const MMIO_CFG = {
  ...MMIO_MODERN_CFG,
  /** Reads 1 while the reset of the selected queue is under way. */
  queue_reset: { name: "QueueReset", offset: 0x0c0, width: 4, access: "RW", feature: 40 },
} as const satisfies RegisterTable;

/** Version 1, by the names that it had then. */
export const MMIO_LEGACY_CFG = {
  ...COMMON,
  device_features: { ...COMMON.device_features, name: "HostFeatures" },
  device_features_select: { ...COMMON.device_features_select, name: "HostFeaturesSel" },
  driver_features: { ...COMMON.driver_features, name: "GuestFeatures" },
  driver_features_select: { ...COMMON.driver_features_select, name: "GuestFeaturesSel" },
  /** Unit of `queue_pfn` in bytes, a power of two; written before any queue is set up. */
  guest_page_size: { name: "GuestPageSize", offset: 0x028, width: 4, access: "W" },
  queue_size_max: { ...COMMON.queue_size_max, name: "QueueNumMax" },
  queue_size: { ...COMMON.queue_size, name: "QueueNum" },
  /** Alignment of the used ring in bytes, a power of two. */
  queue_align: { name: "QueueAlign", offset: 0x03c, width: 4, access: "W" },
  /** Page number of the ring; 0 stops the queue. */
  queue_pfn: { name: "QueuePFN", offset: 0x040, width: 4, access: "RW" },
} as const satisfies RegisterTable;

/** QueueNotify as both drafts read it: where a doorbell is (reference 7.2, N-7.7). */
const NOTIFY = {
  ...COMMON.queue_notify,
  access: "RW",
  fields: {
    /** Bytes from the start of the window to the doorbell of queue 0. */
    base: { bits: [15, 0], access: "RO" },
    /** Bytes from each queue's doorbell to the next. */
    multiplier: { bits: [31, 16], access: "RO" },
  },
} as const;

/** Version 3, of profile `mmio-v3` (reference 7.2). Its two registers of 16 bits are accessed so. */
export const MMIO_V3_CFG = {
  ...MMIO_MODERN_CFG,
  queue_notify: NOTIFY,
  msi_status: {
    name: "MsiStatus",
    offset: 0x0c0,
    width: 2,
    access: "R",
    fields: {
      /** Queues that the device supports at most. */
      max_queue_num: { bits: [10, 0], access: "RO" },
      /** A state, no capability. */
      msi_enabled: { bits: 15, access: "RO" },
    },
  },
  msi_cmd: {
    name: "MsiCmd",
    offset: 0x0c2,
    width: 2,
    access: "W",
    fields: {
      cmd_arg: { bits: [11, 0], access: "RWZ" },
      cmd_op: { bits: [15, 12], access: "RWZ" },
    },
  },
  msi_address: { name: "MsiAddress", offset: 0x0c4, width: 8, access: "W" },
  msi_data: { name: "MsiData", offset: 0x0cc, width: 4, access: "W" },
} as const satisfies RegisterTable;

/** `cmd_op` of version 3: UPDATE latches address and data for the vector in `cmd_arg`, ENABLE turns MSI on (1) or off (0). */
export const MSI_V3_OP = { UPDATE: 1, ENABLE: 2 } as const;

/** The most queues that `max_queue_num` can name. */
export const MSI_V3_QUEUES_MAX = 2047;

/** Profile `mmio-msi-v2`: version 2 with feature bits 39 and 40 (reference 7.3). */
export const MMIO_MSI_V2_CFG = {
  ...MMIO_MODERN_CFG,
  queue_notify: NOTIFY,
  msi_vec_num: { name: "MsiVecNum", offset: 0x0c0, width: 4, access: "R", feature: 40 },
  msi_state: {
    name: "MsiState",
    offset: 0x0c4,
    width: 4,
    access: "R",
    feature: 40,
    fields: {
      msi_enabled: { bits: 0, access: "RO" },
      /** Vectors are mapped by commands; else vector 0 is the config space's and i + 1 queue i's. */
      msi_sharing: { bits: 1, access: "RO" },
    },
  },
  msi_cmd: { name: "MsiCmd", offset: 0x0c8, width: 4, access: "W", feature: 40 },
  msi_vec_sel: { name: "MsiVecSel", offset: 0x0d0, width: 4, access: "W", feature: 40 },
  msi_addr: { name: "MsiAddr", offset: 0x0d4, width: 8, access: "W", feature: 40 },
  msi_data: { name: "MsiData", offset: 0x0dc, width: 4, access: "W", feature: 40 },
} as const satisfies RegisterTable;

/** Values of MsiCmd in profile `mmio-msi-v2`. All but the first two act on MsiVecSel, and MAP_QUEUE also on QueueSel. */
export const MSI_V2_COMMAND = {
  ENABLE: 1,
  DISABLE: 2,
  CONFIGURE: 3,
  MASK: 4,
  UNMASK: 5,
  MAP_CONFIG: 6,
  MAP_QUEUE: 7,
} as const;

/** What MsiVecSel says for no vector (N-7.5). */
export const MSI_V2_NO_VECTOR = 0xffff_ffff;

/** Fields of MsiState where a device follows Linux instead of the specification's patch. */
export const MSI_V2_STATE_LINUX = {
  ...MMIO_MSI_V2_CFG.msi_state,
  fields: {
    msi_enabled: { bits: 31, access: "RO" },
    msi_sharing: { bits: 30, access: "RO" },
  },
} as const;

/** Vector of an event where the mapping is fixed: 0 for the config space, i + 1 for queue i. */
export function fixedMsiVector(source: "config" | number): number {
  return source === "config" ? 0 : source + 1;
}

/** The table of each form. */
export const MMIO_TABLES: Readonly<Record<MmioForm, RegisterTable>> = {
  "modern": MMIO_CFG,
  "legacy": MMIO_LEGACY_CFG,
  "v3": MMIO_V3_CFG,
  "msi-v2": MMIO_MSI_V2_CFG,
};
