/**
 * Registers of the modern PCI transport (virtio 1.2 §4.1.4; reference 2.2).
 *
 * @module
 */
import type { RegisterTable } from "../../registers/declaration.ts";

/** `virtio_pci_common_cfg`: 56 bytes, 64 with every optional field. */
export const COMMON_CFG = {
  device_feature_select: { offset: 0, width: 4, access: "RW" },
  device_feature: { offset: 4, width: 4, access: "R" },
  driver_feature_select: { offset: 8, width: 4, access: "RW" },
  driver_feature: { offset: 12, width: 4, access: "RW" },
  config_msix_vector: { offset: 16, width: 2, access: "RW" },
  /** Administration queues are not counted. */
  num_queues: { offset: 18, width: 2, access: "R" },
  device_status: {
    offset: 20,
    width: 1,
    access: "RW",
    fields: {
      acknowledge: { bits: 0, access: "RW" },
      driver: { bits: 1, access: "RW" },
      driver_ok: { bits: 2, access: "RW" },
      features_ok: { bits: 3, access: "RW" },
      suspend: { bits: 4, access: "RW" },
      device_needs_reset: { bits: 6, access: "RO" },
      failed: { bits: 7, access: "RW" },
    },
  },
  config_generation: { offset: 21, width: 1, access: "R" },
  queue_select: { offset: 22, width: 2, access: "RW" },
  queue_size: { offset: 24, width: 2, access: "RW" },
  queue_msix_vector: { offset: 26, width: 2, access: "RW" },
  queue_enable: { offset: 28, width: 2, access: "RW" },
  queue_notify_off: { offset: 30, width: 2, access: "R" },
  queue_desc: { offset: 32, width: 8, access: "RW" },
  queue_driver: { offset: 40, width: 8, access: "RW" },
  queue_device: { offset: 48, width: 8, access: "RW" },
  queue_notif_config_data: { offset: 56, width: 2, access: "R", feature: 39 },
  queue_reset: { offset: 58, width: 2, access: "RW", feature: 40 },
  admin_queue_index: { offset: 60, width: 2, access: "R", feature: 41 },
  admin_queue_num: { offset: 62, width: 2, access: "R", feature: 41 },
} as const satisfies RegisterTable;

/** Name of a register of `virtio_pci_common_cfg`. */
export type CommonRegisterName = keyof typeof COMMON_CFG;

/**
 * Registers of profile `queue-state`, past every field of the standard (reference 6.2): the state of the selected queue. They exist when
 * QUEUE_STATE is offered and the common structure has `COMMON_CFG_BYTES.queueState` bytes.
 */
export const QUEUE_STATE_CFG = {
  queue_avail_state: { offset: 64, width: 2, access: "RW", feature: 40 },
  queue_used_state: { offset: 66, width: 2, access: "RW", feature: 40 },
} as const satisfies RegisterTable;

/** Name of a register of profile `queue-state`. */
export type QueueStateRegisterName = keyof typeof QUEUE_STATE_CFG;

/** Bytes of `virtio_pci_common_cfg`: without its optional fields, with them, and with those of profile `queue-state`. */
export const COMMON_CFG_BYTES = { required: 56, all: 64, queueState: 68 } as const;

/** `VIRTIO_MSI_NO_VECTOR`: no MSI-X vector; read back when the device refused one. */
export const NO_VECTOR = 0xffff;

/** Bits of the ISR byte; reading it clears it and the INTx line. */
export const ISR = { queue: 1, config: 2 } as const;

/** The ISR structure (§4.1.4.5). */
export const ISR_CFG = {
  isr_status: {
    offset: 0,
    width: 1,
    access: "RC",
    fields: { queue: { bits: 0, access: "RC" }, config: { bits: 1, access: "RC" } },
  },
} as const satisfies RegisterTable;
