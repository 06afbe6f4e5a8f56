/**
 * virtio-ism, device 44: numbers and wire structures of the draft's version 3 (reference 5).
 *
 * @module
 */
import { type Fields, Struct, u64, u8 } from "../../wire/mod.ts";
import { DEVICE_ID } from "./device_id.ts";
import type { DeviceType } from "./device_type.ts";
import { masks } from "./masks.ts";

/** Feature bits of the device type. */
export const ISM_FEATURE_BIT = {
  /** The device supplies the memory of regions. */
  DEV_MEM: 0,
} as const;

/** The same as masks. */
export const ISM_FEATURE: Readonly<Record<"DEV_MEM", bigint>> = masks(ISM_FEATURE_BIT);

/** Queue numbers. */
export const ISM_QUEUE = { control: 0, event: 1 } as const;

/** `struct virtio_ism_config`, 40 bytes. The 16 bytes of `cdid` are opaque, compared bytewise. */
export const ISM_CONFIG = new Struct("virtio_ism_config", 40, {
  cdidLow: u64(0),
  cdidHigh: u64(8),
  devid: u64(16),
  chunk_size: u64(24),
  notify_size: u64(32),
});

/** Shared memory region ids. */
export const ISM_SHM = { regions: 1, notify: 2 } as const;

/** `ack` of a control command. */
export const ISM_ACK = {
  OK: 0,
  ENOENT: 2,
  E2BIG: 7,
  ENOMEM: 12,
  ENOSPC: 28,
  PERM_EATTACH: 100,
  PERM_EREAD: 101,
  PERM_EWRITE: 102,
  ERR: 255,
} as const;

/** Name of an `ack` value. */
export type IsmAckName = keyof typeof ISM_ACK;

/** Classes and commands of the control queue: `[class, command]`. */
export const ISM_COMMAND = {
  ALLOC_REGION: [0, 0],
  QUERY_INFO: [1, 0],
  ATTACH_REGION: [2, 0],
  DETACH_REGION: [3, 0],
  GRANT_SET_DEFAULT: [4, 0],
  GRANT_SET_FOR_DEVICE: [4, 1],
  EVENT_VECTOR_SET: [5, 0],
} as const satisfies Record<string, readonly [number, number]>;

/** Name of a control command. */
export type IsmCommandName = keyof typeof ISM_COMMAND;

/** First two bytes of a control command; data, `ack` and reply are elements of their own. */
export const ISM_CTRL = new Struct(
  "virtio_ism_ctrl",
  2,
  { class: u8(0), command: u8(1) },
);

const TOKEN = new Struct("virtio_ism_ctrl_query", 8, { token: u64(0) });

/** What follows class and command. Without DEV_MEM the buffer's address follows that of ALLOC_REGION and ATTACH_REGION. */
export const ISM_COMMAND_DATA = {
  ALLOC_REGION: new Struct("virtio_ism_ctrl_alloc", 8, { size: u64(0) }),
  QUERY_INFO: TOKEN,
  ATTACH_REGION: new Struct("virtio_ism_ctrl_attach", 16, { token: u64(0), rw_perm: u64(8) }),
  DETACH_REGION: TOKEN,
  GRANT_SET_DEFAULT: new Struct("virtio_ism_ctrl_grant_default", 16, { token: u64(0), permissions: u64(8) }),
  GRANT_SET_FOR_DEVICE: new Struct("virtio_ism_ctrl_grant", 24, {
    token: u64(0),
    permissions: u64(8),
    peer_devid: u64(16),
  }),
  /** Vector 0xffff takes the binding back. */
  EVENT_VECTOR_SET: new Struct("virtio_ism_ctrl_irq_vector", 16, { token: u64(0), vector: u64(8) }),
} as const satisfies Record<IsmCommandName, Struct<Fields>>;

/** Reply to QUERY_INFO. */
export const ISM_QUERY_REPLY = new Struct("virtio_ism_ctrl_query_reply", 16, {
  size: u64(0),
  permissions: u64(8),
});

/**
 * Reply to ALLOC_REGION and ATTACH_REGION; `num` chunk offsets, le64 each, follow at 16. `first` is the token of what was allocated, the size of what was
 * attached.
 */
export const ISM_CHUNKS_REPLY = new Struct("virtio_ism_ctrl_alloc_reply", 16, { first: u64(0), num: u64(8) });

/** Permissions of a device on a region. */
export const ISM_PERM = {
  READ: 1,
  WRITE: 2,
  ATTACH: 4,
  MANAGE: 8,
  /** Only with GRANT_SET_FOR_DEVICE: sets the default permissions to 0 in the same step. */
  CLEAN_DEFAULT: 16,
  /** Another name of CLEAN_DEFAULT in the draft's text. */
  DENY_DEFAULT: 16,
} as const;

/** What everybody may do with a new region, until its allocator says otherwise. */
export const ISM_DEFAULT_PERMISSIONS: number = ISM_PERM.READ | ISM_PERM.WRITE | ISM_PERM.ATTACH;

/** Event UPDATE, 24 bytes. `offset`: of the region's first chunk in the receiver's area. `devid`: the originator. */
export const ISM_EVENT_UPDATE = new Struct("virtio_ism_event_update", 24, {
  ev_type: u64(0),
  offset: u64(8),
  devid: u64(16),
});

/** Events ATTACH and DETACH, 32 bytes. `peers`: references to the region without the receiver's. */
export const ISM_EVENT_ATTACH_DETACH = new Struct("virtio_ism_event_attach_detach", 32, {
  ev_type: u64(0),
  offset: u64(8),
  devid: u64(16),
  peers: u64(24),
});

/** Event BUFFER_FREE, 16 bytes. `buffer`: the address that was given with ALLOC or ATTACH. */
export const ISM_EVENT_BUFFER_FREE = new Struct("virtio_ism_event_buffer_free", 16, {
  ev_type: u64(0),
  buffer: u64(8),
});

/** Events: `ev_type`, which is exactly one of these values although they look like bits, and what follows. */
export const ISM_EVENTS = {
  update: { code: 1n, layout: ISM_EVENT_UPDATE },
  attach: { code: 2n, layout: ISM_EVENT_ATTACH_DETACH },
  detach: { code: 4n, layout: ISM_EVENT_ATTACH_DETACH },
  "buffer-free": { code: 8n, layout: ISM_EVENT_BUFFER_FREE },
} as const;

/** Name of an event. */
export type IsmEventName = keyof typeof ISM_EVENTS;

/** What a driver writes to a notify address: 8 bits wide (reference 5.6). */
export const ISM_KICK = 1;

/** The device type. */
export const ISM_DEVICE: DeviceType = {
  id: DEVICE_ID.ism,
  prefix: "VIRTIO_ISM_F_",
  featureBits: ISM_FEATURE_BIT,
  config: ISM_CONFIG.fields,
};
