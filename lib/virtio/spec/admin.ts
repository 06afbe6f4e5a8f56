/**
 * Group administration commands: opcodes, status values and wire structures (virtio 1.4 §2.12, §2.13; reference 3.1–3.3, 3.6).
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { Struct, u16, u32, u64, u8 } from "../../wire/mod.ts";

/** Group types: who the members of a group are. */
export const ADMIN_GROUP = {
  /** The device itself. */
  self: 0,
  /** A PF and its VFs; member id n is VF n − 1 (counting VFs from 0). */
  sriov: 1,
} as const;

/**
 * Opcodes. RESOURCE_OBJ_MODIFY and RESOURCE_OBJ_QUERY are as the sections of the standard have them; its table has them the other way
 * round.
 */
export const ADMIN_OPCODE = {
  LIST_QUERY: 0x0000,
  LIST_USE: 0x0001,
  LEGACY_COMMON_CFG_WRITE: 0x0002,
  LEGACY_COMMON_CFG_READ: 0x0003,
  LEGACY_DEV_CFG_WRITE: 0x0004,
  LEGACY_DEV_CFG_READ: 0x0005,
  LEGACY_NOTIFY_INFO: 0x0006,
  CAP_ID_LIST_QUERY: 0x0007,
  DEVICE_CAP_GET: 0x0008,
  DRIVER_CAP_SET: 0x0009,
  RESOURCE_OBJ_CREATE: 0x000a,
  RESOURCE_OBJ_MODIFY: 0x000b,
  RESOURCE_OBJ_QUERY: 0x000c,
  RESOURCE_OBJ_DESTROY: 0x000d,
  DEV_PARTS_METADATA_GET: 0x000e,
  DEV_PARTS_GET: 0x000f,
  DEV_PARTS_SET: 0x0010,
  DEV_MODE_SET: 0x0011,
} as const;

const OPCODE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(ADMIN_OPCODE).map(([name, opcode]) => [opcode, name]),
);

/** Name of an opcode, without its `VIRTIO_ADMIN_CMD_`; `opcode 0x0012` for one without a name. */
export function adminOpcodeName(opcode: number): string {
  requireType(opcode, "number", "adminOpcodeName: opcode");
  return OPCODE_NAMES.get(opcode) ?? `opcode 0x${opcode.toString(16).padStart(4, "0")}`;
}

/** Opcodes by the names that v7 of the legacy commands' draft gave them (A-3.4): the numbers are the same. */
export const ADMIN_OPCODE_V7_ALIAS: Readonly<Record<string, number>> = {
  LEGACY_DEV_REG_WRITE: ADMIN_OPCODE.LEGACY_DEV_CFG_WRITE,
  LEGACY_DEV_REG_READ: ADMIN_OPCODE.LEGACY_DEV_CFG_READ,
  LEGACY_NOTIFY_QUERY: ADMIN_OPCODE.LEGACY_NOTIFY_INFO,
  LEGACY_DEV_NOTIFY_QUERY: ADMIN_OPCODE.LEGACY_NOTIFY_INFO,
};

/** `status`. EEXIST is used by the standard but not in its list. Others are generic errors, to be taken as EINVAL. */
export const ADMIN_STATUS = {
  OK: 0,
  ENXIO: 6,
  EAGAIN: 11,
  ENOMEM: 12,
  EBUSY: 16,
  EEXIST: 17,
  EINVAL: 22,
  ENOSPC: 28,
} as const;

/** Name of a status. */
export type AdminStatusName = keyof typeof ADMIN_STATUS;

/** `status_qualifier`. Others are to be taken as INVALID_COMMAND. */
export const ADMIN_QUALIFIER = {
  OK: 0,
  INVALID_COMMAND: 1,
  INVALID_OPCODE: 2,
  INVALID_FIELD: 3,
  INVALID_GROUP: 4,
  INVALID_MEMBER: 5,
  NORESOURCE: 6,
  TRYAGAIN: 7,
} as const;

/** Name of a qualifier, without its `VIRTIO_ADMIN_STATUS_Q_`. */
export type AdminQualifierName = keyof typeof ADMIN_QUALIFIER;

/** Name of a status as received; undefined for a reserved one. */
export function adminStatusName(status: number): AdminStatusName | undefined {
  return nameOf(ADMIN_STATUS, status);
}

/** Name of a qualifier as received; undefined for a reserved one. */
export function adminQualifierName(qualifier: number): AdminQualifierName | undefined {
  return nameOf(ADMIN_QUALIFIER, qualifier);
}

function nameOf<K extends string>(table: Readonly<Record<K, number>>, value: number): K | undefined {
  return (Object.keys(table) as K[]).find((name) => table[name] === value);
}

/** Device-readable head of `struct virtio_admin_cmd`; `command_specific_data` follows at 24. */
export const ADMIN_CMD = new Struct("virtio_admin_cmd", 24, {
  opcode: u16(0),
  group_type: u16(2),
  group_member_id: u64(16),
});

/** Device-writable head of `struct virtio_admin_cmd`; `command_specific_result` follows at 8. */
export const ADMIN_CMD_STATUS = new Struct("virtio_admin_cmd (device-writable)", 8, {
  status: u16(0),
  status_qualifier: u16(2),
});

/** `struct virtio_admin_cmd_legacy_common_cfg_wr_data` and its DEV_CFG twin: data follows at 8, as many bytes as the access is wide. */
export const LEGACY_WRITE_DATA = new Struct(
  "virtio_admin_cmd_legacy_common_cfg_wr_data",
  8,
  { offset: u8(0) },
);

/** `struct virtio_admin_cmd_legacy_common_cfg_rd_data` and its DEV_CFG twin: one byte, not padded. */
export const LEGACY_READ_DATA = new Struct(
  "virtio_admin_cmd_legacy_common_cfg_rd_data",
  1,
  { offset: u8(0) },
);

/** `struct virtio_pci_legacy_notify_info`; the result of LEGACY_NOTIFY_INFO has `LEGACY_NOTIFY_ENTRIES` of them. */
export const LEGACY_NOTIFY_INFO = new Struct("virtio_pci_legacy_notify_info", 16, {
  flags: u8(0),
  bar: u8(1),
  offset: u64(8),
});

/** Entries in the result of LEGACY_NOTIFY_INFO. */
export const LEGACY_NOTIFY_ENTRIES = 4;

/** `virtio_pci_legacy_notify_info.flags`: whose BAR the address is in. */
export const LEGACY_NOTIFY_FLAG = {
  /** End of the list. */
  end: 0,
  /** The owner's, that is the PF's. */
  owner: 1,
  /** The member's, that is the VF's (the kernel's `OWNER_MEM`). */
  member: 2,
} as const;

/** `struct virtio_admin_cmd_cap_get_data`. */
export const CAP_GET_DATA = new Struct(
  "virtio_admin_cmd_cap_get_data",
  8,
  { id: u16(0) },
);

/** `struct virtio_admin_cmd_cap_set_data`; the capability's bytes follow at 8. */
export const CAP_SET_DATA = new Struct(
  "virtio_admin_cmd_cap_set_data",
  8,
  { id: u16(0) },
);

/** Capability ids. 0x000 to 0x7ff are generic, 0x800 to 0xfff belong to the device type. */
export const ADMIN_CAP = { DEV_PARTS: 0 } as const;

/** Name of a capability; `capability 0x0801` for one without a name. */
export function adminCapName(id: number): string {
  return id === ADMIN_CAP.DEV_PARTS
    ? "VIRTIO_DEV_PARTS_CAP"
    : `capability 0x${id.toString(16).padStart(4, "0")}`;
}

/** `struct virtio_dev_parts_cap`: how many DEV_PARTS objects of each kind there may be. */
export const DEV_PARTS_CAP = new Struct("virtio_dev_parts_cap", 2, {
  get_parts_resource_objects_limit: u8(0),
  set_parts_resource_objects_limit: u8(1),
});

/** `struct virtio_admin_cmd_resource_obj_cmd_hdr`. */
export const RESOURCE_OBJ_HEADER = new Struct("virtio_admin_cmd_resource_obj_cmd_hdr", 8, {
  type: u16(0),
  id: u32(4),
});

/** Head of RESOURCE_OBJ_CREATE and MODIFY; `resource_obj_specific_data` follows at 16. */
export const RESOURCE_OBJ_CREATE = new Struct("virtio_admin_cmd_resource_obj_create_data", 16, {
  type: u16(0),
  id: u32(4),
  flags: u64(8),
});

/** Types of resource objects. */
export const RESOURCE_OBJ_TYPE = { DEV_PARTS: 0 } as const;

/** `struct virtio_resource_obj_dev_parts`: what an object of type DEV_PARTS is for. */
export const RESOURCE_OBJ_DEV_PARTS = new Struct(
  "virtio_resource_obj_dev_parts",
  8,
  { type: u8(0) },
);

/** `virtio_resource_obj_dev_parts.type`. */
export const DEV_PARTS_OBJ_TYPE = { get: 0, set: 1 } as const;

/** `struct virtio_admin_cmd_dev_parts_metadata_data` and `…_get_data`: header and what is wanted; part headers follow at 16. */
export const DEV_PARTS_REQUEST = new Struct("virtio_admin_cmd_dev_parts_get_data", 16, {
  type: u16(0),
  id: u32(4),
  wanted: u8(8),
});

/** `wanted` of DEV_PARTS_METADATA_GET. */
export const DEV_PARTS_METADATA = { size: 0, count: 1, list: 2 } as const;

/** Result of DEV_PARTS_METADATA_GET; with `list` the headers follow at 8. */
export const DEV_PARTS_METADATA_RESULT = new Struct(
  "virtio_admin_cmd_dev_parts_metadata_result",
  8,
  { value: u32(0) },
);

/** `wanted` of DEV_PARTS_GET. */
export const DEV_PARTS_WANTED = { selected: 0, all: 1 } as const;

/** `struct virtio_dev_part_hdr`; `length` bytes of value follow at 16. */
export const DEV_PART_HEADER = new Struct("virtio_dev_part_hdr", 16, {
  part_type: u16(0),
  flags: u8(2),
  /** Meaning by type: PCI common cfg le32 offset, virtqueue le16 index, CVQ part class and command. */
  selector: u64(4),
  length: u32(12),
});

/** `virtio_dev_part_hdr.flags`: need not be written when the device is restored. */
export const DEV_PART_OPTIONAL = 1;

/** Part types, in the order in which they are exchanged. */
export const DEV_PART = {
  DEV_FEATURES: 0x100,
  DRV_FEATURES: 0x101,
  PCI_COMMON_CFG: 0x102,
  DEVICE_STATUS: 0x103,
  VQ_CFG: 0x104,
  VQ_NOTIFY_CFG: 0x105,
  /** virtio-net: what one control queue command configured; the selector is its class and command (virtio 1.4 §5.1.8). */
  NET_CVQ_CFG: 0x200,
} as const;

/** Name of a part type without its prefix; `part 0x0999` for one without a name. */
export function devPartName(type: number): string {
  return nameOf(DEV_PART, type) ?? `part 0x${type.toString(16).padStart(4, "0")}`;
}

/** Value of a VQ_CFG part, 32 bytes. */
export const DEV_PART_VQ_CFG = new Struct("virtio_dev_part_vq_cfg", 32, {
  size: u16(0),
  vector: u16(2),
  enabled: u16(4),
  desc: u64(8),
  driver: u64(16),
  device: u64(24),
});

/** Value of a VQ_NOTIFY_CFG part, 8 bytes. */
export const DEV_PART_VQ_NOTIFY_CFG = new Struct("virtio_dev_part_vq_notify_data", 8, {
  queue_notify_off: u16(0),
  queue_notif_config_data: u16(2),
});

/** DEV_MODE_SET: one byte; this bit stops the member, 0 resumes it. */
export const DEV_MODE_STOPPED = 1;
