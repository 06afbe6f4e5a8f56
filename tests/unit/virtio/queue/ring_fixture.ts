/**
 * A queue and the model of its device, ready for use.
 *
 * @module
 */
import {
  createVirtqueue,
  enableVirtqueue,
  type VirtqueueOptions,
} from "../../../../lib/virtio/queue/create.ts";
import { packedLayout, splitLayout } from "../../../../lib/virtio/queue/layout.ts";
import { PackedQueue } from "../../../../lib/virtio/queue/packed.ts";
import { SplitQueue } from "../../../../lib/virtio/queue/split.ts";
import { initialQueueState } from "../../../../lib/virtio/spec/queue_state.ts";
import type { Virtqueue } from "../../../../lib/virtio/queue/virtqueue.ts";
import { FakeTransport } from "../transport/fake_transport.ts";
import type { ModelPackedRing } from "./model_packed_ring.ts";
import type { ModelRing } from "./model_ring.ts";

const INDIRECT = 1n << 28n;
const EVENT_IDX = 1n << 29n;
const VERSION_1 = 1n << 32n;
const RING_PACKED = 1n << 34n;
const IN_ORDER = 1n << 35n;
const NOTIFICATION_DATA = 1n << 38n;
const QUEUE_STATE = 1n << 40n;

/** What is negotiated. */
export interface FixtureOptions extends VirtqueueOptions {
  readonly eventIndex?: boolean;
  readonly indirect?: boolean;
  readonly inOrder?: boolean;
  /** As on processors that reorder loads. Default: as here. */
  readonly acquireEach?: boolean;
}

/** Queue, transport and doorbells of one test. */
interface Common extends Disposable {
  readonly queue: Virtqueue;
  readonly transport: FakeTransport;
  /** Doorbells so far. */
  readonly notified: { queue: number; nextOffset: number; nextWrap: number }[];
}

/** With the device model of a split ring. */
export interface RingFixture extends Common {
  readonly ring: ModelRing;
}

/** With the device model of a packed ring. */
export interface PackedFixture extends Common {
  readonly ring: ModelPackedRing;
}

function common(options: FixtureOptions, features: bigint): Common {
  const profile = options.start === undefined ? "spec" : "queue-state";
  const transport = new FakeTransport({ queueSizes: [32768], profile });
  transport.driverFeatures = VERSION_1 | (options.eventIndex ? EVENT_IDX : 0n) |
    (options.indirect ? INDIRECT : 0n) | (options.inOrder ? IN_ORDER : 0n) |
    (options.start === undefined ? 0n : QUEUE_STATE) | features;
  const notified: { queue: number; nextOffset: number; nextWrap: number }[] = [];
  transport.onNotify = (queue, nextOffset, nextWrap) => void notified.push({ queue, nextOffset, nextWrap });
  const queue = options.acquireEach
    ? acquiringQueue(transport, options)
    : createVirtqueue(transport, 0, options);
  return {
    queue,
    transport,
    notified,
    [Symbol.dispose]: () => {
      queue.close();
      transport.close();
    },
  };
}

/** As `createVirtqueue` makes it elsewhere than on x86-64. */
function acquiringQueue(transport: FakeTransport, options: FixtureOptions): Virtqueue {
  const { size = 256, eventIndex = false, indirect, maxSegments = 0, inOrder = false, gate } = options;
  const packed = (transport.driverFeatures & RING_PACKED) !== 0n;
  const start = options.start ?? initialQueueState(packed ? "packed" : "split");
  const layout = (packed ? packedLayout : splitLayout)(size, indirect ? Math.min(maxSegments, size) : 0);
  const memory = transport.dma.allocate(layout.totalBytes);
  const doorbell = { ring: () => {} };
  const parts = {
    function: transport.name,
    index: 0,
    memory,
    layout,
    start,
    doorbell,
    eventIndex,
    inOrder,
    gate,
    acquireEach: true,
  };
  const queue = packed ? new PackedQueue(parts) : new SplitQueue(parts);
  enableVirtqueue(transport, queue, start);
  return queue;
}

/** Sets queue 0 up as a split ring. A start other than the beginning is given with QUEUE_STATE. */
export function ringFixture(options: FixtureOptions = {}, notificationData = false): RingFixture {
  const made = common(options, notificationData ? NOTIFICATION_DATA : 0n);
  return { ...made, ring: made.transport.ring(0) };
}

/** Sets queue 0 up as a packed ring. */
export function packedFixture(options: FixtureOptions = {}, notificationData = false): PackedFixture {
  const made = common(options, RING_PACKED | (notificationData ? NOTIFICATION_DATA : 0n));
  return { ...made, ring: made.transport.packed(0) };
}

/** Adds a chain of parts at made-up IOVAs: readable lengths first, then writable ones. */
export function addChain(queue: Virtqueue, readable: readonly number[], writable: readonly number[]): number {
  if (!queue.begin(readable.length, writable.length)) return -1;
  let at = 0x1000;
  for (const length of [...readable, ...writable]) {
    queue.segment(at, 7, length);
    at += 0x1000;
  }
  return queue.commit();
}
