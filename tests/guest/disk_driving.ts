/** Requests to a block device with a known number of them in flight. */
import { assertEquals } from "@std/assert";
import {
  BLK_STATUS,
  BLK_TYPE,
  type BlockQueue,
  RequestBurst,
  type VirtioBlk,
} from "../../drivers/blk/virtio_blk.ts";
import { TimeoutError } from "../../lib/errors/mod.ts";
import { type DiskPart, type DiskWrite, fillWrite } from "./disk_writes.ts";

const SECTOR_BYTES = 512;
const PATIENCE_MS = 15_000;

/** A request queue and how to wait for it. */
export interface DiskQueue {
  readonly queue: BlockQueue;
  /** @returns false after `timeoutMs` */
  wait(timeoutMs: number): Promise<boolean>;
}

/** A queue of an opened device, waited for as the device was opened to. */
export function queueOf(blk: VirtioBlk, index: number): DiskQueue {
  return { queue: blk.queues[index]!, wait: (timeoutMs) => blk.waitComplete(timeoutMs, index) };
}

interface Request {
  readonly type: number;
  readonly sector: number;
  readonly sectors: number;
  readonly fill?: (data: Uint8Array) => void;
  readonly take?: (data: Uint8Array) => void;
}

/**
 * Keeps `depth` requests in flight until all are done.
 * @returns the most that were in flight at once
 */
async function run(
  { queue, wait }: DiskQueue,
  requests: readonly Request[],
  depth: number,
): Promise<number> {
  const burst = new RequestBurst(depth);
  const inSlots = new Map<number, Request>();
  let next = 0;
  let most = 0;
  while (next < requests.length || inSlots.size > 0) {
    while (next < requests.length && inSlots.size < depth) {
      const slot = queue.reserve();
      const request = requests[next++]!;
      request.fill?.(queue.data(slot));
      queue.submit(slot, request.type, request.sector, request.sectors * SECTOR_BYTES);
      inSlots.set(slot, request);
    }
    queue.notify();
    most = Math.max(most, queue.inFlight);
    if (queue.complete(burst) === 0) {
      if (await wait(PATIENCE_MS)) continue;
      throw new TimeoutError(`queue ${queue.index}: ${inSlots.size} requests are not answered`);
    }
    for (let i = 0; i < burst.count; i++) {
      const slot = burst.slots[i]!;
      const request = inSlots.get(slot)!;
      assertEquals(burst.statuses[i], BLK_STATUS.ok, `request at sector ${request.sector}`);
      request.take?.(queue.data(slot));
      inSlots.delete(slot);
      queue.release(slot);
    }
  }
  return most;
}

/** Does writes. @returns the most that were in flight at once */
export function writeAll(
  disk: DiskQueue,
  writes: readonly DiskWrite[],
  depth: number,
): Promise<number> {
  const requests = writes.map((write): Request => ({
    type: BLK_TYPE.out,
    sector: write.sector,
    sectors: write.sectors,
    fill: (data) => fillWrite(write, data),
  }));
  return run(disk, requests, depth);
}

/** Reads a part of the disk, in requests as long as the queue takes. */
export async function readPart(
  disk: DiskQueue,
  part: DiskPart,
  depth: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(part.sectors * SECTOR_BYTES);
  const step = disk.queue.requestBytes / SECTOR_BYTES;
  const requests: Request[] = [];
  for (let at = 0; at < part.sectors; at += step) {
    const sectors = Math.min(step, part.sectors - at);
    requests.push({
      type: BLK_TYPE.in,
      sector: part.first + at,
      sectors,
      take: (data) => bytes.set(data.subarray(0, sectors * SECTOR_BYTES), at * SECTOR_BYTES),
    });
  }
  await run(disk, requests, depth);
  return bytes;
}
