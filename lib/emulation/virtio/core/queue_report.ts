/**
 * The queues of an emulated function as they look from outside, with the rings decoded from the client's memory.
 *
 * @module
 */
import { FEATURE } from "../../../virtio/spec/features.ts";
import { NO_VECTOR } from "../../../virtio/spec/pci.ts";
import type { FunctionQueues, QueueView, RingView } from "../../../virtio/view/queue_view.ts";
import {
  decodeRing,
  type RingAreas,
  ringBytes,
  type RingImage,
  type RingShape,
} from "../../../virtio/view/ring_image.ts";
import type { DmaTable } from "../../../sockets/dma_table.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";
import type { CoreQueue } from "./queue.ts";
import type { DeviceState } from "./state.ts";

/** Chains listed of each queue: the answer must fit into one frame of the control socket, however many queues there are. */
const CHAINS_IN_ALL = 512;
/** Parts of them: a chain may be as long as the ring. */
const PARTS_IN_ALL = 2048;

/** The report. The driver may go on meanwhile; this is one moment. */
export function reportQueues(device: DeviceState, all: readonly CoreQueue[]): FunctionQueues {
  const { negotiatedFeatures: negotiated, profile, status } = device;
  const atMost = Math.max(1, Math.floor(CHAINS_IN_ALL / Math.max(1, all.length)));
  const left = { parts: PARTS_IN_ALL };
  return {
    function: device.name,
    deviceId: device.model.deviceId,
    profile,
    status,
    features: hex(negotiated),
    queues: all.map((one): QueueView => ({
      queue: one.index,
      size: one.size,
      enabled: one.enabled,
      vector: one.vector === NO_VECTOR ? null : one.vector,
      descriptorArea: hex(one.descriptorArea),
      driverArea: hex(one.driverArea),
      deviceArea: hex(one.deviceArea),
      ...(one.ring === undefined ? {} : {
        ring: viewRing(one.ring, one, (negotiated & FEATURE.EVENT_IDX) !== 0n, atMost, left),
      }),
    })),
  };
}

function viewRing(
  queue: DeviceQueue,
  place: CoreQueue,
  eventIndex: boolean,
  atMost: number,
  left: { parts: number },
): RingView {
  const { layout, size } = queue;
  const state = queue.state();
  const shape: RingShape = { layout, size, eventIndex };
  const areas = place.memory === null ? null : findAreas(shape, place, place.memory);
  const image = areas === null ? null : shorten(decodeRing(shape, areas, state, atMost), left);
  return { layout, state, held: queue.inFlight, image };
}

/** Drops chains beyond the parts that are left; `waiting` still counts them. */
function shorten(image: RingImage, left: { parts: number }): RingImage {
  const chains = image.chains.filter(({ parts }) => (left.parts -= parts.length) >= 0);
  return { ...image, chains };
}

/** The areas in this process, or null when one is not mapped. */
function findAreas(shape: RingShape, place: CoreQueue, dma: DmaTable): RingAreas | null {
  const bytes = ringBytes(shape);
  const find = (iova: bigint, length: number): Uint8Array | null => {
    const [lo, hi] = [Number(iova & 0xffff_ffffn), Number(iova >> 32n)];
    if (!dma.find(lo, hi, length, false) && !dma.find(lo, hi, length, true)) return null;
    return dma.region!.bytes.subarray(dma.offset, dma.offset + length);
  };
  const descriptorArea = find(place.descriptorArea, bytes.descriptorArea);
  const driverArea = find(place.driverArea, bytes.driverArea);
  const deviceArea = find(place.deviceArea, bytes.deviceArea);
  if (descriptorArea === null || driverArea === null || deviceArea === null) return null;
  return { descriptorArea, driverArea, deviceArea };
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
