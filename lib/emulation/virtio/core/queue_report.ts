/**
 * The queues of an emulated function for those who look at it from outside, with the rings decoded from the client's memory.
 *
 * @module
 */
import { FEATURE } from "../../../virtio/constants/features.ts";
import { NO_VECTOR } from "../../../virtio/constants/pci.ts";
import type { FunctionQueues, QueueView, RingView } from "../../../virtio/constants/queue_view.ts";
import {
  decodeRing,
  type RingAreas,
  ringBytes,
  type RingImage,
  type RingShape,
} from "../../../virtio/constants/ring_image.ts";
import type { DmaTable } from "../../../vfio/vfio_user/dma_table.ts";
import type { QueueRegisters } from "../views/pci/common.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";

/** Chains listed of each queue: the answer must fit into one frame of the control socket, however many queues there are. */
const CHAINS_IN_ALL = 512;
/** Parts of them: a chain may be as long as the ring. */
const PARTS_IN_ALL = 2048;

/** What a front knows. */
export interface QueueReportParts extends Omit<FunctionQueues, "features" | "queues"> {
  /** Features in force. */
  readonly negotiated: bigint;
  readonly registers: readonly QueueRegisters[];
  readonly queues: readonly (DeviceQueue | undefined)[];
  /** The client's memory; null without a client. */
  readonly dma: DmaTable | null;
}

/** The report. The driver may go on meanwhile; this is one moment. */
export function reportQueues(parts: QueueReportParts): FunctionQueues {
  const { registers, queues, negotiated, dma, function: name, deviceId, profile, status } = parts;
  const atMost = Math.max(1, Math.floor(CHAINS_IN_ALL / Math.max(1, registers.length)));
  const left = { parts: PARTS_IN_ALL };
  return {
    function: name,
    deviceId,
    profile,
    status,
    features: hex(negotiated),
    queues: registers.map((one, queue): QueueView => {
      const ring = queues[queue];
      return {
        queue,
        size: one.size,
        enabled: one.enabled,
        vector: one.vector === NO_VECTOR ? null : one.vector,
        descriptorArea: hex(one.address(0)),
        driverArea: hex(one.address(1)),
        deviceArea: hex(one.address(2)),
        ...(ring === undefined ? {} : {
          ring: viewRing(ring, one, dma, (negotiated & FEATURE.EVENT_IDX) !== 0n, atMost, left),
        }),
      };
    }),
  };
}

function viewRing(
  queue: DeviceQueue,
  registers: QueueRegisters,
  dma: DmaTable | null,
  eventIndex: boolean,
  atMost: number,
  left: { parts: number },
): RingView {
  const { layout, size } = queue;
  const state = queue.state();
  const shape: RingShape = { layout, size, eventIndex };
  const areas = dma === null ? null : findAreas(shape, registers, dma);
  const image = areas === null ? null : shorten(decodeRing(shape, areas, state, atMost), left);
  return { layout, state, held: queue.inFlight, image };
}

/** Drops chains beyond the parts that are left; `waiting` still counts them. */
function shorten(image: RingImage, left: { parts: number }): RingImage {
  const chains = image.chains.filter(({ parts }) => (left.parts -= parts.length) >= 0);
  return { ...image, chains };
}

/** The areas in this process, or null when one is not mapped. */
function findAreas(shape: RingShape, registers: QueueRegisters, dma: DmaTable): RingAreas | null {
  const bytes = ringBytes(shape);
  const find = (area: 0 | 1 | 2, length: number): Uint8Array | null => {
    const iova = registers.address(area);
    const [lo, hi] = [Number(iova & 0xffff_ffffn), Number(iova >> 32n)];
    if (!dma.find(lo, hi, length, false) && !dma.find(lo, hi, length, true)) return null;
    return dma.region!.bytes.subarray(dma.offset, dma.offset + length);
  };
  const descriptorArea = find(0, bytes.descriptorArea);
  const driverArea = find(1, bytes.driverArea);
  const deviceArea = find(2, bytes.deviceArea);
  if (descriptorArea === null || driverArea === null || deviceArea === null) return null;
  return { descriptorArea, driverArea, deviceArea };
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
