/**
 * A queue and the model of its device, ready for use.
 *
 * @module
 */
import { createVirtqueue, type VirtqueueOptions } from "../../../../lib/virtio/queue/create.ts";
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
  const queue = createVirtqueue(transport, 0, options);
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
