import { assert, assertEquals } from "@std/assert";
import { BLK_TYPE, type BlockQueue, RequestBurst, VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { readFile } from "../../../ffi/mod.ts";
import { campaign, Random, rounds } from "../../random.ts";
import { hash, pattern, SECTOR, withBlk } from "./served_disk.ts";

const REQUESTS = rounds(6000);

async function differential(
  blk: VirtioBlk,
  model: Uint8Array<ArrayBuffer>,
  requests: number,
  depth: number,
  seed: number,
): Promise<void> {
  const random = new Random(seed);
  const busy = new Uint8Array(model.length / SECTOR);
  const slots = blk.queues.map((queue) =>
    new Array<{ type: number; sector: number; count: number } | undefined>(queue.slotCount)
  );
  const burst = new RequestBurst(32);
  let begun = 0, done = 0, inFlight = 0;
  const start = (queue: BlockQueue): boolean => {
    const slot = queue.reserve();
    if (slot < 0) return false;
    const kind = random.below(16);
    const count = 1 + random.below(Math.min(queue.requestBytes / SECTOR, 40));
    const sector = random.below(busy.length - count);
    for (let i = 0; i < count; i++) {
      if (busy[sector + i] !== 0) {
        queue.release(slot);
        return false;
      }
    }
    busy.fill(1, sector, sector + count);
    const type = kind < 7
      ? BLK_TYPE.in
      : kind < 13
      ? BLK_TYPE.out
      : kind === 13
      ? BLK_TYPE.writeZeroes
      : kind === 14
      ? BLK_TYPE.discard
      : BLK_TYPE.flush;
    if (type === BLK_TYPE.out) queue.data(slot).set(pattern(count, random.next()));
    if (type === BLK_TYPE.writeZeroes || type === BLK_TYPE.discard) {
      const half = count >> 1;
      queue.writeRange(slot, 0, sector, half);
      queue.writeRange(
        slot,
        1,
        sector + half,
        count - half,
        type === BLK_TYPE.writeZeroes && random.below(2) === 1,
      );
      queue.submit(slot, type, 0, 32);
    } else if (type === BLK_TYPE.flush) queue.submit(slot, type, 0, 0);
    else queue.submit(slot, type, sector, count * SECTOR);
    slots[queue.index]![slot] = { type, sector, count };
    begun++;
    inFlight++;
    return true;
  };
  const finish = (queue: BlockQueue, slot: number, status: number) => {
    assertEquals(status, 0);
    const { type, sector, count } = slots[queue.index]![slot]!;
    slots[queue.index]![slot] = undefined;
    const at = sector * SECTOR, end = at + count * SECTOR;
    const data = queue.data(slot);
    if (type === BLK_TYPE.out) model.set(data.subarray(0, count * SECTOR), at);
    else if (type === BLK_TYPE.writeZeroes || type === BLK_TYPE.discard) model.fill(0, at, end);
    else if (type === BLK_TYPE.in) {
      for (let i = 0; i < count * SECTOR; i++) {
        if (data[i] !== model[at + i]) {
          throw new Error(`sector ${sector}, byte ${i}: ${data[i]} is not ${model[at + i]}`);
        }
      }
    }
    busy.fill(0, sector, sector + count);
    queue.release(slot);
    inFlight--;
    done++;
  };
  while (done < requests) {
    for (const queue of blk.queues) {
      for (let tries = 0; tries < 16 && inFlight < depth && begun < requests; tries++) start(queue);
      queue.notify();
    }
    let any = 0;
    for (const queue of blk.queues) {
      any += queue.complete(burst);
      for (let i = 0; i < burst.count; i++) finish(queue, burst.slots[i]!, burst.statuses[i]!);
    }
    if (any === 0) {
      const waiting = blk.queues.find((queue) => queue.inFlight > 0);
      if (waiting !== undefined) await blk.waitComplete(5, waiting.index);
    }
  }
}

for (
  const [title, topology, options, depth] of [
    ["depth 1, one queue", {}, { queues: 1 }, 1],
    ["depth 64, 4 queues", { queues: 4 }, { queues: 4 }, 64],
    [
      "depth 64, small segments",
      { queues: 2, sizeMax: 1536, segMax: 20 },
      { queues: 2, requestBytes: 20480 },
      64,
    ],
    [
      "depth 24, no indirect tables, no event index, split",
      { queues: 3, queueSize: 64 },
      {
        queues: 3,
        indirect: false,
        eventIndex: false,
        packed: false,
        segmentBytes: 8192,
        requestBytes: 32768,
        depth: 8,
      },
      24,
    ],
  ] as const
) {
  Deno.test(
    campaign(
      `${title}: ${REQUESTS} random requests give what a byte array gives, and the image has the same hash`,
      async () => {
        const sectors = 4096;
        const model = new Uint8Array(sectors * SECTOR);
        await withBlk(sectors, topology, async (transport) => {
          await using blk = await VirtioBlk.open(transport, { interrupts: "none", ...options });
          await differential(blk, model, REQUESTS, depth, 0x51de + depth);
          const { reads, writes, flushes, others, failures } = blk.statistics();
          assertEquals(reads + writes + flushes + others, REQUESTS);
          assert(Math.min(reads, writes) > REQUESTS / 4 && flushes > REQUESTS / 60 && others > REQUESTS / 20);
          assertEquals(failures, 0);
          await blk.flush();
          assertEquals(await hash(await blk.read(0, sectors)), await hash(model));
        }, async (image) => assertEquals(await hash(image), await hash(model)));
      },
    ),
  );
}

/** Writes the whole device by bursts and reads it back by bursts, in another order. @returns what was read */
function throughAndBack(
  blk: VirtioBlk,
  bytes: Uint8Array<ArrayBuffer>,
  depth: number,
  wait: () => void,
): Uint8Array<ArrayBuffer> {
  const [queue] = blk.queues as [BlockQueue];
  const { requestBytes } = queue;
  const back = new Uint8Array(bytes.length);
  const slots = new Uint16Array(depth), types = new Uint8Array(depth);
  const sectors = new Float64Array(depth), lengths = new Uint32Array(depth);
  const answered = new RequestBurst(depth);
  for (const type of [BLK_TYPE.out, BLK_TYPE.in]) {
    const total = bytes.length / requestBytes;
    const place = new Float64Array(queue.slotCount);
    const free = Array.from({ length: depth }, () => queue.reserve());
    let begun = 0, done = 0;
    while (done < total) {
      let count = 0;
      for (; free.length > 0 && begun < total; count++, begun++) {
        const slot = free.pop()!;
        const at = ((begun * 7) % total) * requestBytes;
        slots[count] = slot;
        types[count] = type;
        sectors[count] = at / SECTOR;
        lengths[count] = requestBytes;
        place[slot] = at;
        if (type === BLK_TYPE.out) queue.data(slot).set(bytes.subarray(at, at + requestBytes));
      }
      queue.submitBurst(slots, types, sectors, lengths, count);
      while (queue.complete(answered) === 0) wait();
      for (let i = 0; i < answered.count; i++) {
        const slot = answered.slots[i]!;
        assertEquals([answered.statuses[i], answered.lengths[i]], [0, requestBytes]);
        if (type === BLK_TYPE.in) back.set(queue.data(slot), place[slot]!);
        free.push(slot);
        done++;
      }
    }
    for (const slot of free) queue.release(slot);
  }
  return back;
}

for (
  const [title, options] of [
    ["split", { packed: false }],
    ["packed, in order", { inOrder: true }],
    ["split, descriptors of the ring", { packed: false, indirect: false }],
    ["packed, descriptors of the ring", { indirect: false }],
  ] as const
) {
  Deno.test(`bursts over the caller's arrays, ${title}: depth 1 and 64, polled and by interrupt, have the hash of what was written`, async () => {
    const bytes = pattern(4096, 3);
    await withBlk(4096, { queueSize: 256 }, async (transport, image) => {
      for (const interrupts of ["none", "msix"] as const) {
        for (const depth of [1, 64]) {
          bytes.fill(depth, 0, SECTOR);
          await using blk = await VirtioBlk.open(transport, {
            ...options,
            interrupts,
            wait: interrupts === "none" ? "poll" : "eventfd",
            depth,
            requestBytes: 8 * SECTOR,
          });
          const wait = interrupts === "none" ? () => {} : () => void blk.waitCompleteBlocking(1000);
          assertEquals(await hash(throughAndBack(blk, bytes, depth, wait)), await hash(bytes));
          await blk.flush();
          assertEquals(await hash(readFile(image)), await hash(bytes));
          const { reads, writes, readBytes, failures } = blk.statistics();
          assertEquals([reads, writes, readBytes, failures], [512, 512, bytes.length, 0]);
        }
      }
    });
  });
}
