/**
 * Makes a queue of a device: chooses the layout that was negotiated, allocates its rings and enables it.
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../../errors/mod.ts";
import { FEATURE } from "../constants/features.ts";
import { QUEUE_SIZE_MAX } from "../constants/ring.ts";
import type { VirtioTransport } from "../transport/transport.ts";
import { type NotifyGate, SplitQueue } from "./split.ts";
import { splitLayout } from "./split_layout.ts";
import type { Virtqueue } from "./virtqueue.ts";

/** How to set a queue up. */
export interface VirtqueueOptions {
  /** Number of descriptors wanted; default 256. The queue gets the largest power of two up to this and the device's maximum. */
  readonly size?: number;
  /**
   * Longest chain that goes into an indirect table. Tables for all descriptors are allocated with the rings (16 bytes × size × this).
   * Default 0: none. Without INDIRECT_DESC negotiated it is ignored, and every part takes a descriptor.
   */
  readonly maxSegments?: number;
  /** MSI-X vector of the queue; null for none. Left alone when not given. */
  readonly vector?: number | null;
  /** Says when the device may be notified; `VirtioDevice` gives itself. */
  readonly gate?: NotifyGate;
  /** Only IOVAs below 4 GiB will do. */
  readonly below4GiB?: boolean;
}

/**
 * Sets queue `index` up on a device whose features are negotiated, with rings in `transport.dma`.
 * @throws UnsupportedError (no such queue, packed ring negotiated), UsageError, DeviceError (the device does not keep what was written), ExhaustedError, SyscallError
 */
export function createVirtqueue(
  transport: VirtioTransport,
  index: number,
  options: VirtqueueOptions = {},
): Virtqueue {
  const features = transport.driverFeatures;
  if ((features & FEATURE.RING_PACKED) !== 0n) {
    throw new UnsupportedError(`${transport.name}: the packed ring was negotiated, and there is none here`, {
      hint: "leave VIRTIO_F_RING_PACKED out of the wanted features",
    });
  }
  const maximum = transport.queueMaxSize(index);
  if (maximum === 0) throw new UnsupportedError(`${transport.name} has no queue ${index}`);
  const size = chooseSize(options.size ?? 256, maximum);
  const segments = (features & FEATURE.INDIRECT_DESC) === 0n ? 0 : Math.min(options.maxSegments ?? 0, size);
  const layout = splitLayout(size, segments);
  const memory = transport.dma.allocate(layout.totalBytes, {
    label: `queue ${index} rings`,
    ...(options.below4GiB === undefined ? {} : { below4GiB: options.below4GiB }),
  });
  try {
    if (options.vector !== undefined) transport.setQueueVector(index, options.vector);
    transport.enableQueue(index, {
      size,
      descriptorArea: memory.iova + BigInt(layout.descriptorOffset),
      driverArea: memory.iova + BigInt(layout.driverOffset),
      deviceArea: memory.iova + BigInt(layout.deviceOffset),
    });
    return new SplitQueue({
      function: transport.name,
      index,
      layout,
      memory,
      doorbell: transport.doorbell(index),
      eventIndex: (features & FEATURE.EVENT_IDX) !== 0n,
      ...(options.gate === undefined ? {} : { gate: options.gate }),
    });
  } catch (error) {
    memory.close();
    throw error;
  }
}

/** The largest power of two that neither the caller nor the device objects to. */
function chooseSize(wanted: number, maximum: number): number {
  if (!Number.isInteger(wanted) || wanted < 1) throw new UsageError(`a queue of ${wanted} descriptors`);
  const limit = Math.min(wanted, maximum, QUEUE_SIZE_MAX);
  return 2 ** Math.floor(Math.log2(limit));
}
