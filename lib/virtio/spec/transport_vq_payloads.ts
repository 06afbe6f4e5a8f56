/**
 * What the commands of a transport virtqueue carry (reference 4.3).
 *
 * The draft prints structures of C without padding and without endianness. Both readings are here, computed from one declaration each: `aligned`
 * (natural alignment, zero padding, rounded up to 8 bytes) and `packed` (back to back), little-endian. Scalars that have no structure
 * are as long as their type in both.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { type Field, FIELD_BYTES, type FieldType, Struct } from "../../wire/mod.ts";
import type { PackedQueueState } from "./queue_state.ts";

/** Which of the two readings of the draft's structures. */
export type TvqLayout = "aligned" | "packed";

/** Fields of a payload, in their order. */
export type TvqFields = Readonly<Record<string, FieldType>>;

/** A payload in both layouts. */
export class TvqPayload<const D extends TvqFields = TvqFields> {
  /** With padding. */
  readonly aligned: Struct<{ readonly [N in keyof D]: Field<D[N]> }>;
  /** Without. */
  readonly packed: Struct<{ readonly [N in keyof D]: Field<D[N]> }>;

  /** Declares it. @param kind `scalar`: one field that has no structure in the draft, and so no padding either */
  constructor(name: string, fields: D, kind: "struct" | "scalar" = "struct") {
    this.aligned = laidOut(name, fields, true, kind === "struct" ? 8 : 1);
    this.packed = laidOut(name, fields, false, 1);
  }
}

function laidOut<D extends TvqFields>(
  name: string,
  declared: D,
  natural: boolean,
  round: number,
): TvqPayload<D>[TvqLayout] {
  const fields = {} as { [N in keyof D]: Field<D[N]> };
  let end = 0;
  for (const field in declared) {
    const type = declared[field]!;
    const bytes = FIELD_BYTES[type as FieldType];
    const offset = natural ? Math.ceil(end / bytes) * bytes : end;
    fields[field] = { offset, type };
    end = offset + bytes;
  }
  return new Struct(name, Math.ceil(end / round) * round, fields);
}

/** No data. */
export const TVQ_NO_DATA = new TvqPayload("no data", {});

/** `struct mgmt_dev_avail_res`: what of the management device's resources is not assigned now. */
export const TVQ_AVAIL_RES = new TvqPayload("mgmt_dev_avail_res", {
  /** Virtqueues. */
  num_avail_vqs: "u16",
  min_mdev_vqs: "u16",
  max_mdev_vqs: "u16",
  /** Further devices that can be created now, of `min_mdev_vqs` virtqueues each. */
  num_avail_mdev: "u16",
});

/** `struct transportq_ctrl_mdev_attribute`; `dev_config` follows, as long as the command is. */
export const TVQ_MDEV_ATTRIBUTE = new TvqPayload("transportq_ctrl_mdev_attribute", {
  virtio_device_id: "u32",
  device_features: "u64",
});

/** `struct transportq_ctrl_mdev_config_get`. */
export const TVQ_CONFIG_GET = new TvqPayload(
  "transportq_ctrl_mdev_config_get",
  { offset: "u32", size: "u32" },
);

/** `struct transportq_ctrl_mdev_config_set`; `size` bytes of `data` follow. */
export const TVQ_CONFIG_SET = new TvqPayload(
  "transportq_ctrl_mdev_config_set",
  { offset: "u32", size: "u32" },
);

/** `struct transportq_ctrl_mdev_msi_vq_config`. */
export const TVQ_MSI_VQ_CONFIG = new TvqPayload("transportq_ctrl_mdev_msi_vq_config", {
  queue_index: "u16",
  address: "u64",
  data: "u32",
});

/** `struct transportq_ctrl_mdev_msi_vq_enable`. */
export const TVQ_MSI_VQ_ENABLE = new TvqPayload(
  "transportq_ctrl_mdev_msi_vq_enable",
  { queue_index: "u16", enable: "u8" },
);

/** `struct transportq_ctrl_mdev_msi_vq_mask`; `mask` is 0 for masked (`tvqMask`). */
export const TVQ_MSI_VQ_MASK = new TvqPayload(
  "transportq_ctrl_mdev_msi_vq_mask",
  { queue_index: "u16", mask: "u8" },
);

/** `struct transportq_ctrl_mdev_msi_config`. */
export const TVQ_MSI_CONFIG = new TvqPayload(
  "transportq_ctrl_mdev_msi_config",
  { address: "u64", data: "u32" },
);

/** `struct transportq_ctrl_mdev_vq_addr`: the device area precedes the driver area, unlike on PCI. */
export const TVQ_VQ_ADDR = new TvqPayload("transportq_ctrl_mdev_vq_addr", {
  queue_index: "u16",
  descriptor_area: "u64",
  device_area: "u64",
  driver_area: "u64",
});

/** `struct transportq_ctrl_mdev_vq_status_set` (the text has another name for it, too: ). */
export const TVQ_VQ_STATUS_SET = new TvqPayload(
  "transportq_ctrl_mdev_vq_status_set",
  { queue_index: "u16", status: "u8" },
);

/** `struct transportq_ctrl_mdev_vq_size_set`. */
export const TVQ_VQ_SIZE_SET = new TvqPayload(
  "transportq_ctrl_mdev_vq_size_set",
  { queue_index: "u16", size: "u16" },
);

/** `struct transportq_ctrl_mdev_vq_notification_area`: an address of the platform, and bytes. */
export const TVQ_VQ_NOTIFICATION_AREA = new TvqPayload(
  "transportq_ctrl_mdev_vq_notification_area",
  { address: "u64", size: "u64" },
);

/** `struct transportq_ctrl_mdev_split_vq_state_set`. */
export const TVQ_SPLIT_VQ_STATE_SET = new TvqPayload(
  "transportq_ctrl_mdev_split_vq_state_set",
  { queue_index: "u16", avail_index: "u16" },
);

/** What VQ_STATE_GET answers for a split queue. */
export const TVQ_SPLIT_VQ_STATE_GET = new TvqPayload("avail_index", { avail_index: "u16" }, "scalar");

/** `struct transportq_ctrl_mdev_packed_vq_state_get`: without the queue's number. */
export const TVQ_PACKED_VQ_STATE_GET = new TvqPayload(
  "transportq_ctrl_mdev_packed_vq_state_get",
  { avail_counter: "u16", avail_index: "u16", used_counter: "u16", used_index: "u16" },
);

/** `struct transportq_ctrl_mdev_packed_vq_state_set`. */
export const TVQ_PACKED_VQ_STATE_SET = new TvqPayload("transportq_ctrl_mdev_packed_vq_state_set", {
  queue_index: "u16",
  avail_counter: "u16",
  avail_index: "u16",
  used_counter: "u16",
  used_index: "u16",
});

/** `struct transportq_ctrl_mdev_vq_asid_set`. */
export const TVQ_VQ_ASID_SET = new TvqPayload(
  "transportq_ctrl_mdev_vq_asid_set",
  { queue_index: "u16", asid: "u32" },
);

/** A field of a packed queue's state: the wrap counters stand alone here, as 0 or 1. */
export type PackedStateField = "avail_counter" | "avail_index" | "used_counter" | "used_index";

/** A packed queue's state as its payloads have it. */
export function packedStateToTvq(state: PackedQueueState): Record<PackedStateField, number> {
  requireType(state, "object", "packedStateToTvq: state");
  return {
    avail_counter: state.availableWrap,
    avail_index: state.availableSlot,
    used_counter: state.usedWrap,
    used_index: state.usedSlot,
  };
}

/** The reverse; `checkQueueState` says whether it can be. */
export function packedStateFromTvq(fields: Readonly<Record<PackedStateField, number>>): PackedQueueState {
  requireType(fields, "object", "packedStateFromTvq: fields");
  return {
    layout: "packed",
    availableSlot: fields.avail_index,
    availableWrap: fields.avail_counter as 0 | 1,
    usedSlot: fields.used_index,
    usedWrap: fields.used_counter as 0 | 1,
  };
}
