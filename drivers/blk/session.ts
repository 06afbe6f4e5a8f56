/**
 * Everything of a block device that lives from one reset to the next: features, queues, buffers, interrupts.
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../../lib/errors/mod.ts";
import { BLK_FEATURE, BLK_SECTOR_BYTES } from "../../lib/virtio/spec/blk.ts";
import { FEATURE } from "../../lib/virtio/spec/features.ts";
import type { DriverParts } from "../driver_life.ts";
import { checkCount } from "../driver_options.ts";
import type { Listeners } from "../listeners.ts";
import type { Session } from "../session.ts";
import { type BlkConfig, readBlkConfig, readCapacity } from "./config.ts";
import { BLK_WISHES } from "./features.ts";
import type { VirtioBlkOptions } from "./options.ts";
import { type BlockLimits, BlockQueue } from "./queue.ts";
import { RequestRunner } from "./runner.ts";

const DEFAULT_REQUEST_BYTES = 65536;
const DEFAULT_DEPTH = 64;
const DEFAULT_QUEUE_SIZE = 256;
const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_REQUEST_BYTES = 64 << 20;

/** See the module's text. */
export interface BlkSession extends DriverParts {
  /** As read after negotiation; the capacity in force is in `limits`. */
  readonly config: BlkConfig;
  readonly limits: BlockLimits;
  readonly queues: readonly BlockQueue[];
  /** By queue. */
  readonly runners: readonly RequestRunner[];
}

/** Brings the device up to DRIVER_OK. */
export function buildSession(
  session: Session,
  options: VirtioBlkOptions,
  counts: Float64Array,
  listeners: Listeners<[sectors: number]>,
): BlkSession {
  const { device } = session;
  const { transport } = device;
  const name = transport.name;
  session.negotiate(BLK_WISHES);
  const config = readBlkConfig(device);
  const count = options.queues ?? 1;
  checkCount(name, "queues", count, 1, 65535);
  if (count > config.queues) {
    throw new UnsupportedError(
      `${name} has ${config.queues} request ${config.queues === 1 ? "queue" : "queues"}, ${count} are wanted`,
    );
  }
  const { requestBytes, segmentBytes } = sizes(name, options, config);
  const limits: BlockLimits = {
    capacitySectors: config.capacitySectors,
    readOnly: device.has(BLK_FEATURE.RO),
    flush: device.has(BLK_FEATURE.FLUSH),
    discardSegments: config.discard?.segments ?? 0,
    writeZeroesSegments: config.writeZeroes?.segments ?? 0,
    segmentBytes,
  };
  const indices = Array.from({ length: count }, (_, i) => i);
  session.listen(indices);
  const chain = 2 + Math.ceil(requestBytes / segmentBytes);
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const queues: BlockQueue[] = [];
  const runners: RequestRunner[] = [];
  for (const index of indices) {
    const queue = session.queue(index, options.queueSize ?? DEFAULT_QUEUE_SIZE);
    if (chain > queue.size) {
      throw new UsageError(
        `${name}: a request of ${requestBytes} bytes takes ${chain} descriptors, queue ${index} has ${queue.size}`,
        { hint: "use a smaller requestBytes" },
      );
    }
    const indirect = device.has(FEATURE.INDIRECT_DESC);
    const room = indirect ? queue.size : Math.floor(queue.size / chain);
    const depth = options.depth ?? Math.min(DEFAULT_DEPTH, room);
    checkCount(name, "requests in flight", depth, 1, room);
    const blocks = session.own(
      new BlockQueue({
        name,
        queue,
        dma: transport.dma,
        slots: depth,
        requestBytes,
        indirect,
        limits,
        counts,
        looseLengths: transport.legacy,
      }),
    );
    queues.push(blocks);
    runners.push(session.own(new RequestRunner(session.site, blocks, timeoutMs)));
  }
  device.driverOk();
  for (const queue of queues) queue.suppressInterrupts();
  const configChanged = () => {
    device.checkAlive();
    const capacity = device.readConsistent(() => readCapacity(device));
    if (capacity === limits.capacitySectors) return;
    limits.capacitySectors = capacity;
    listeners.tell(capacity);
  };
  return { config, limits, queues, runners, configChanged };
}

function sizes(
  name: string,
  options: VirtioBlkOptions,
  config: BlkConfig,
): { requestBytes: number; segmentBytes: number } {
  const { sizeMax, segMax } = config;
  const segmentBytes = options.segmentBytes ??
    Math.min(sizeMax, options.requestBytes ?? DEFAULT_REQUEST_BYTES);
  if (!Number.isInteger(segmentBytes) || segmentBytes < 1 || segmentBytes > sizeMax) {
    throw new UsageError(`${name}: data segments of ${segmentBytes} bytes`, {
      hint: `1 to ${sizeMax}, as the device's size_max says`,
    });
  }
  const most = Math.min(MAX_REQUEST_BYTES, segmentBytes * segMax);
  const whole = most - most % BLK_SECTOR_BYTES;
  const requestBytes = options.requestBytes ?? Math.min(DEFAULT_REQUEST_BYTES, whole);
  if (
    !Number.isInteger(requestBytes) || requestBytes < BLK_SECTOR_BYTES || requestBytes > whole ||
    requestBytes % BLK_SECTOR_BYTES !== 0
  ) {
    throw new UsageError(`${name}: requests of ${requestBytes} bytes`, {
      hint:
        `a multiple of ${BLK_SECTOR_BYTES}, up to ${whole} with ${segMax} segments of ${segmentBytes} bytes`,
    });
  }
  return { requestBytes, segmentBytes };
}
