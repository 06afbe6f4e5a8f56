/**
 * A block queue with the least that can be a device behind it, in this process: it answers each request with OK and moves no data, so what a burst
 * takes is the driver's own time, but for some nanoseconds.
 *
 * @module
 */
import { BlockQueue } from "../drivers/blk/queue.ts";
import { RequestBurst } from "../drivers/blk/request_burst.ts";
import type { MappedMemory } from "../ffi/mod.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { type DmaMapper, DmaSpace } from "../lib/memory/mod.ts";
import { packedLayout, splitLayout } from "../lib/virtio/queue/layout.ts";
import { PackedQueue } from "../lib/virtio/queue/packed.ts";
import { SplitQueue } from "../lib/virtio/queue/split.ts";
import { BLK_TYPE } from "../lib/virtio/spec/blk.ts";
import { DESC_FLAG } from "../lib/virtio/spec/ring.ts";

const SIZE = 256;
const SECTORS = 1 << 20;

/** How the queue is set up. */
export interface PlainBlockVariant {
  readonly layout: "split" | "packed";
  readonly indirect: boolean;
  readonly requestBytes: number;
  readonly depth: number;
}

interface Region {
  readonly start: number;
  readonly end: number;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** See the module. IOVAs are below 4 GiB. */
export class PlainBlockDevice implements Disposable {
  readonly queue: BlockQueue;
  readonly #ring: SplitQueue | PackedQueue;
  readonly #space: DmaSpace;
  readonly #regions: Region[] = [];
  readonly #answered: RequestBurst;
  readonly #types: Uint8Array<ArrayBuffer>;
  readonly #sectors: Float64Array<ArrayBuffer>;
  readonly #lengths: Uint32Array<ArrayBuffer>;
  readonly #split: boolean;
  readonly #desc: Uint32Array<ArrayBuffer>;
  readonly #avail: Uint16Array<ArrayBuffer>;
  readonly #used: Uint16Array<ArrayBuffer>;
  readonly #elements: Uint32Array<ArrayBuffer>;
  readonly #halves: Uint16Array<ArrayBuffer>;
  readonly #random = Uint32Array.of(1);
  #next = 0;
  #wrap = 1;

  /** @throws ExhaustedError, SyscallError */
  constructor(variant: PlainBlockVariant) {
    const { layout, indirect, requestBytes, depth } = variant;
    const mapper: DmaMapper = {
      name: "bench",
      iovaRanges: [{ start: 0n, last: 0xffff_ffffn }],
      pageSizes: 0x1000n,
      needsFile: false,
      mapDma: (memory: MappedMemory, _file, iova) => {
        const start = Number(iova), bytes = memory.bytes(0, memory.sizeBytes);
        const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
        this.#regions.push({ start, end: start + bytes.length, words, bytes });
      },
      unmapDma: () => {},
    };
    this.#space = new DmaSpace(mapper);
    this.#split = layout === "split";
    const places = this.#split ? splitLayout(SIZE) : packedLayout(SIZE);
    const memory = this.#space.allocate(places.totalBytes, { label: "ring", huge: "never" });
    const parts = {
      function: "bench",
      index: 0,
      memory,
      layout: places,
      doorbell: { ring: () => {} },
      eventIndex: true,
    };
    this.#ring = this.#split ? new SplitQueue(parts) : new PackedQueue(parts);
    const { buffer } = memory;
    this.#desc = new Uint32Array(buffer, places.descriptorOffset, SIZE * 4);
    this.#halves = new Uint16Array(buffer, places.descriptorOffset, SIZE * 8);
    this.#avail = new Uint16Array(buffer, places.driverOffset, this.#split ? 3 + SIZE : 2);
    this.#used = new Uint16Array(buffer, places.deviceOffset, this.#split ? 3 + SIZE * 4 : 2);
    this.#elements = this.#split ? new Uint32Array(buffer, places.deviceOffset + 4, SIZE * 2) : this.#desc;
    this.queue = new BlockQueue({
      name: "bench",
      queue: this.#ring,
      dma: this.#space,
      slots: depth,
      requestBytes,
      indirect,
      limits: {
        capacitySectors: SECTORS,
        readOnly: false,
        flush: true,
        discardSegments: 1,
        writeZeroesSegments: 1,
        segmentBytes: requestBytes,
      },
      counts: new Float64Array(16),
    });
    this.queue.suppressInterrupts();
    this.#answered = new RequestBurst(depth);
    this.#types = new Uint8Array(depth).fill(BLK_TYPE.in);
    this.#sectors = new Float64Array(depth);
    this.#lengths = new Uint32Array(depth).fill(requestBytes);
    for (let i = 0; i < depth; i++) this.#answered.slots[i] = this.queue.reserve();
  }

  /** At least `count` requests, `burst` at a time. */
  turn(count: number, burst: number): void {
    const { queue } = this;
    const answered = this.#answered;
    const sectors = this.#sectors;
    const most = SECTORS - this.#lengths[0]! / 512;
    const random = this.#random;
    for (let done = 0; done < count; done += burst) {
      for (let i = 0; i < burst; i++) {
        random[0] = Math.imul(random[0]!, 1664525) + 1013904223;
        sectors[i] = random[0]! % most;
      }
      queue.submitBurst(answered.slots, this.#types, sectors, this.#lengths, burst);
      if (this.#split) this.#serveSplit();
      else this.#servePacked();
      if (queue.complete(answered) !== burst) throw new DeviceError("a request did not come back");
    }
  }

  #serveSplit(): void {
    const avail = this.#avail, desc = this.#desc, elements = this.#elements;
    const to = Atomics.load(avail, 1);
    let at = this.#next;
    while (at !== to) {
      const id = avail[2 + (at & (SIZE - 1))]!;
      let words = desc, word = id * 4;
      if ((desc[word + 3]! & DESC_FLAG.indirect) !== 0) {
        const region = this.#find(desc[word]!);
        words = region.words;
        word = (desc[word]! - region.start) >>> 2;
      }
      const table = words === desc ? 0 : word;
      let length = 0;
      for (;;) {
        const flags = words[word + 3]!;
        if ((flags & DESC_FLAG.write) !== 0) length += words[word + 2]!;
        if ((flags & DESC_FLAG.next) === 0) break;
        word = table + (flags >>> 16) * 4;
      }
      const region = this.#find(words[word]!);
      region.bytes[words[word]! - region.start] = 0;
      const element = (at & (SIZE - 1)) * 2;
      elements[element] = id;
      elements[element + 1] = length;
      at = (at + 1) & 0xffff;
    }
    this.#next = at;
    Atomics.store(this.#used, 1, at);
  }

  #servePacked(): void {
    const desc = this.#desc, halves = this.#halves;
    for (;;) {
      const first = this.#next;
      const head = Atomics.load(halves, first * 8 + 7);
      if (((head & DESC_FLAG.avail) !== 0) !== (this.#wrap === 1)) return;
      if (((head & DESC_FLAG.used) !== 0) === (this.#wrap === 1)) return;
      let length = 0, taken = 1, last = 0, id = 0;
      if ((head & DESC_FLAG.indirect) !== 0) {
        const region = this.#find(desc[first * 4]!);
        let word = (desc[first * 4]! - region.start) >>> 2;
        for (let left = desc[first * 4 + 2]! >>> 4; left > 0; left--, word += 4) {
          if (((region.words[word + 3]! >>> 16) & DESC_FLAG.write) !== 0) length += region.words[word + 2]!;
          last = region.words[word]!;
        }
        id = halves[first * 8 + 6]!;
      } else {
        taken = 0;
        let slot = first;
        for (;;) {
          const flags = halves[slot * 8 + 7]!;
          if ((flags & DESC_FLAG.write) !== 0) length += desc[slot * 4 + 2]!;
          last = desc[slot * 4]!;
          id = halves[slot * 8 + 6]!;
          taken++;
          if ((flags & DESC_FLAG.next) === 0) break;
          slot = slot + 1 === SIZE ? 0 : slot + 1;
        }
      }
      const region = this.#find(last);
      region.bytes[last - region.start] = 0;
      desc[first * 4 + 2] = length;
      halves[first * 8 + 6] = id;
      const flags = (this.#wrap === 1 ? DESC_FLAG.avail | DESC_FLAG.used : 0) | DESC_FLAG.write;
      Atomics.store(halves, first * 8 + 7, flags);
      this.#next += taken;
      if (this.#next >= SIZE) {
        this.#next -= SIZE;
        this.#wrap ^= 1;
      }
    }
  }

  #find(iova: number): Region {
    for (const region of this.#regions) if (iova >= region.start && iova < region.end) return region;
    throw new DeviceError(`nothing at ${iova}`);
  }

  [Symbol.dispose](): void {
    this.queue.close();
    this.#ring.close();
    this.#space.close();
  }
}
