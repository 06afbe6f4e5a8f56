/**
 * Makes a queue of a device: chooses the layout that was negotiated, allocates its rings and enables it.
 *
 * @module
 */
import { DeviceError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import { FEATURE } from "../spec/features.ts";
import { QUEUE_SIZE_MAX } from "../spec/ring.ts";
import { hasQueueState } from "../features.ts";
import { requireQueueState } from "../transport/pci_queue_state.ts";
import type { VirtioTransport } from "../transport/transport.ts";
import type { NotifyGate } from "./driver_ring.ts";
import { PackedQueue } from "./packed.ts";
import { checkQueueState, initialQueueState, type QueueState } from "../spec/queue_state.ts";
import { SplitQueue } from "./split.ts";
import { legacySplitLayout, packedLayout, splitLayout } from "./layout.ts";
import type { Virtqueue } from "./virtqueue.ts";

/** How to set a queue up. */
export interface VirtqueueOptions {
  /**
   * Number of descriptors wanted; default 256. The queue gets the most up to this and the device's maximum: any number in a packed ring, a power of
   * two in a split one. On the legacy interface of PCI it is the device's own size, whatever is wanted.
   */
  readonly size?: number;
  /**
   * Longest chain that goes into an indirect table. Tables for all descriptors are allocated with the rings (16 bytes × size × this).
   * Default 0: none. Without INDIRECT_DESC negotiated it is ignored, and every part takes a descriptor.
   */
  readonly maxSegments?: number;
  /** MSI-X vector of the queue; null for none. Left alone when not given. */
  readonly vector?: number | null | undefined;
  /** Says when the device may be notified; `VirtioDevice` gives itself. */
  readonly gate?: NotifyGate;
  /** Address bits that the device has: only IOVAs below 2 to this power will do. Default 64. */
  readonly addressBits?: number;
  /** It can be lent to another thread of this process. Default: false. */
  readonly lendable?: boolean | undefined;
  /**
   * Where the ring starts, with nothing in flight: `SavedQueue.state` of a queue that goes on here. Other than at the beginning only with QUEUE_STATE
   * negotiated. Default: the beginning.
   */
  readonly start?: QueueState | undefined;
}

/**
 * Sets queue `index` up on a device whose features are negotiated, with rings in `transport.dma`. With QUEUE_STATE negotiated, the state is written
 * before the queue is enabled (N-6.1, A-6.5).
 * @throws UnsupportedError (no such queue, a start without QUEUE_STATE), UsageError (a start that is not of this layout or size), DeviceError (the
 * device does not keep what was written; a legacy device's size that is no power of two), ExhaustedError, SyscallError
 */
export function createVirtqueue(
  transport: VirtioTransport,
  index: number,
  options: VirtqueueOptions = {},
): Virtqueue {
  const features = transport.driverFeatures;
  const packed = (features & FEATURE.RING_PACKED) !== 0n;
  const maximum = transport.queueMaxSize(index);
  if (maximum === 0) throw new UnsupportedError(`${transport.name} has no queue ${index}`);
  const wanted = chooseSize(options.size ?? 256, maximum, packed);
  const size = transport.fixedQueueSizes ? legacySize(transport, index, maximum) : wanted;
  const start = chooseStart(transport, index, options.start, packed ? "packed" : "split", size);
  const segments = (features & FEATURE.INDIRECT_DESC) === 0n ? 0 : Math.min(options.maxSegments ?? 0, size);
  const layout = packed
    ? packedLayout(size, segments)
    : transport.legacy
    ? legacySplitLayout(size, segments)
    : splitLayout(size, segments);
  const memory = transport.dma.allocate(layout.totalBytes, {
    label: `queue ${index} rings`,
    addressBits: options.addressBits,
    lendable: options.lendable ?? false,
  });
  try {
    const parts = {
      function: transport.name,
      index,
      memory,
      layout,
      start,
      // A queue is there before its doorbell is: where that lies is known when the queue is enabled.
      doorbell: { ring: () => {} },
      eventIndex: (features & FEATURE.EVENT_IDX) !== 0n,
      inOrder: (features & FEATURE.IN_ORDER) !== 0n,
      gate: options.gate,
    };
    const queue = start.layout === "packed"
      ? new PackedQueue(parts)
      : new SplitQueue({ ...parts, looseLengths: transport.legacy });
    enableVirtqueue(transport, queue, start, options.vector);
    return queue;
  } catch (error) {
    memory.close();
    throw error;
  }
}

/**
 * Tells the device of a ring that stands at `state`: vector, state (with QUEUE_STATE), size and addresses, enable; then finds its doorbell.
 * @param vector as `VirtqueueOptions.vector` @throws DeviceError, UsageError
 */
export function enableVirtqueue(
  transport: VirtioTransport,
  queue: Virtqueue,
  state: QueueState,
  vector?: number | null,
): void {
  const { index, size, addresses } = queue;
  if (vector !== undefined) transport.setQueueVector(index, vector);
  if (hasQueueState(transport, transport.driverFeatures)) {
    requireQueueState(transport).write(index, state, size);
  }
  transport.enableQueue(index, addresses, (offersAgain) => queue.takeOver(offersAgain));
  queue.rebind(transport.doorbell(index));
}

/** The most descriptors that neither the caller, the device nor the layout objects to. */
function chooseSize(wanted: number, maximum: number, packed: boolean): number {
  if (!Number.isInteger(wanted) || wanted < 1) throw new UsageError(`a queue of ${wanted} descriptors`);
  const limit = Math.min(wanted, maximum, QUEUE_SIZE_MAX);
  return packed ? limit : 2 ** Math.floor(Math.log2(limit));
}

/** The legacy `queue_size` cannot be negotiated, and the ring's layout follows from it. */
function legacySize(transport: VirtioTransport, index: number, size: number): number {
  if (size <= QUEUE_SIZE_MAX && (size & (size - 1)) === 0) return size;
  throw new DeviceError(`${size} is no power of two up to ${QUEUE_SIZE_MAX}`, {
    function: transport.name,
    queue: index,
    field: "queue_size",
  });
}

function chooseStart(
  transport: VirtioTransport,
  index: number,
  wanted: QueueState | undefined,
  layout: "split" | "packed",
  size: number,
): QueueState {
  const beginning = initialQueueState(layout);
  if (wanted === undefined) return beginning;
  const start = checkQueueState(wanted, size);
  if (start.layout !== layout) {
    throw new UsageError(
      `${transport.name}, queue ${index}: a start of a ${start.layout} queue, but ${layout} was negotiated`,
      { hint: "start at the beginning; chains in flight can be offered to either layout" },
    );
  }
  if (JSON.stringify(start) === JSON.stringify(beginning)) return beginning;
  if (!hasQueueState(transport, transport.driverFeatures)) {
    throw new UnsupportedError(
      `${transport.name}, queue ${index}: a start other than the beginning needs VIRTIO_F_QUEUE_STATE`,
      { hint: 'open it with profile "queue-state", or start at the beginning and offer what was in flight' },
    );
  }
  return start;
}
