/**
 * How frames lie in buffers: how long the header before them is, and whether it needs a descriptor of its own (virtio 1.4 §5.1.6.1, and the
 * sections "Legacy Interface: Device Operation" and "Legacy Interface: Framing Requirements" of §5.1).
 *
 * @module
 */
import { FEATURE } from "../../../lib/virtio/spec/features.ts";
import { NET_FEATURE, NET_HDR_BYTES, NET_HDR_LEGACY_BYTES } from "../../../lib/virtio/spec/net.ts";
import type { VirtioDevice } from "../../../lib/virtio/device.ts";
import type { BufferPool } from "../../../lib/virtio/queue/buffer_pool.ts";

/** What was negotiated about buffers; constant from one reset to the next. */
export interface NetFraming {
  /** A frame may be spread over several receive buffers, and `num_buffers` says over how many. */
  readonly mergeable: boolean;
  /** Bytes of `virtio_net_hdr`: 12, or 10 without `num_buffers`, which a legacy device has with MRG_RXBUF only. */
  readonly headerBytes: number;
  /** The header takes a descriptor of its own: a legacy device without ANY_LAYOUT. */
  readonly headerApart: boolean;
  /** Descriptors of the ring that a buffer takes. */
  readonly descriptors: number;
  /** Longest chain that goes into an indirect table. */
  readonly tableSegments: number;
}

/** Looks at what was negotiated. */
export function netFraming(device: VirtioDevice): NetFraming {
  const { legacy } = device.transport;
  const mergeable = device.has(NET_FEATURE.MRG_RXBUF);
  const headerApart = legacy && !device.has(FEATURE.ANY_LAYOUT);
  return {
    mergeable,
    headerBytes: legacy && !mergeable ? NET_HDR_LEGACY_BYTES : NET_HDR_BYTES,
    headerApart,
    descriptors: headerApart && !device.has(FEATURE.INDIRECT_DESC) ? 2 : 1,
    tableSegments: headerApart ? 2 : 0,
  };
}

/** Adds slots as chains that the queue has room for. @param lengths of the frames, which follow the header; null: all of each slot */
export function addSlots(
  pool: BufferPool,
  { headerApart, headerBytes }: NetFraming,
  slots: Uint16Array,
  lengths: Uint32Array | null,
  count: number,
): void {
  if (!headerApart) {
    pool.addBurst(slots, lengths, count, headerBytes);
    return;
  }
  for (let at = 0; at < count; at++) {
    // A device that writes a slot gets all of it.
    pool.queue.begin(lengths === null ? 0 : 2, lengths === null ? 2 : 0);
    pool.addPart(slots[at]!, 0, headerBytes);
    pool.addPart(slots[at]!, headerBytes, lengths?.[at] ?? pool.slotBytes - headerBytes);
    pool.commit(slots[at]!);
  }
}
