/**
 * A split queue and the model of its device, ready for use.
 *
 * @module
 */
import { createVirtqueue, type VirtqueueOptions } from "../../../lib/virtio/queue/create.ts";
import type { Virtqueue } from "../../../lib/virtio/queue/virtqueue.ts";
import { FakeTransport } from "./fake_transport.ts";
import type { ModelRing } from "./model_ring.ts";

const INDIRECT = 1n << 28n;
const EVENT_IDX = 1n << 29n;
const VERSION_1 = 1n << 32n;

/** Queue, device model and transport of one test. */
export interface RingFixture extends Disposable {
  readonly queue: Virtqueue;
  readonly ring: ModelRing;
  readonly transport: FakeTransport;
  /** Doorbells so far. */
  readonly notified: { queue: number; nextOffset: number; nextWrap: number }[];
}

/** Sets queue 0 up with the given features. */
export function ringFixture(
  options: VirtqueueOptions & { eventIndex?: boolean; indirect?: boolean } = {},
): RingFixture {
  const transport = new FakeTransport({ queueSizes: [32768] });
  transport.driverFeatures = VERSION_1 | (options.eventIndex ? EVENT_IDX : 0n) |
    (options.indirect ? INDIRECT : 0n);
  const notified: { queue: number; nextOffset: number; nextWrap: number }[] = [];
  transport.onNotify = (queue, nextOffset, nextWrap) => void notified.push({ queue, nextOffset, nextWrap });
  const queue = createVirtqueue(transport, 0, options);
  return {
    queue,
    ring: transport.ring(0),
    transport,
    notified,
    [Symbol.dispose]: () => {
      queue.close();
      transport.close();
    },
  };
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
