/**
 * Rings as a driver that lies, or has lost its mind, would leave them: mostly nearly right, since pure noise would be refused at the first word.
 *
 * @module
 */
import { MappedMemory } from "../../../../../ffi/mod.ts";
import { DmaRegion } from "../../../../../lib/sockets/dma_table.ts";
import type { FakeClient, FakeRing } from "../fake_client.ts";
import type { FakePackedRing } from "../fake_packed_ring.ts";
import type { Random } from "../../../../random.ts";

/** Mapped for reading only: the device must never change it. */
export const READ_ONLY = 0x7000_0000n;
/** Mapped for writing only. */
export const WRITE_ONLY = 0x7000_1000n;
/** Where the buffers of the client's main memory begin. */
const BUFFERS_AT = 32768;
const BUFFER_BYTES = 16384;

/** Adds the two mappings of one direction. */
export function mapOneWay(client: FakeClient): void {
  const page = () => MappedMemory.anonymous(4096);
  client.dma.add(new DmaRegion(READ_ONLY, page(), { deviceReads: true, deviceWrites: false }));
  client.dma.add(new DmaRegion(WRITE_ONLY, page(), { deviceReads: false, deviceWrites: true }));
}

/** Chances that both layouts share. */
class Noise {
  readonly #random: Random;
  readonly #client: FakeClient;

  constructor(random: Random, client: FakeClient) {
    this.#random = random;
    this.#client = client;
  }

  pick<T>(...from: T[]): T {
    return from[this.#random.below(from.length)]!;
  }

  address(): bigint {
    const random = this.#random, client = this.#client;
    switch (random.below(12)) {
      case 0:
        return READ_ONLY + BigInt(random.below(5000));
      case 1:
        return WRITE_ONLY + BigInt(random.below(5000));
      case 2:
        return BigInt(random.next()) << 32n | BigInt(random.next());
      case 3:
        return client.at(client.bytes.length - random.below(64));
      default:
        return client.at(BUFFERS_AT + random.below(BUFFER_BYTES));
    }
  }

  length(): number {
    const random = this.#random;
    return this.pick(
      1,
      16,
      32,
      64,
      100,
      1500,
      16 * (random.below(12)),
      random.below(70),
      this.pick(0, 1, 0xffff_ffff, random.next()),
    );
  }

  /** A table of the ring's own. */
  table(tables: number): bigint {
    const random = this.#random;
    return this.#client.at(
      tables + 16 * (random.below(16)) + (random.below(4) === 0 ? random.below(16) : 0),
    );
  }

  /** One buffer that is in order, in one of the mappings that allow its direction. */
  plain(write: boolean): [iova: bigint, length: number] {
    const random = this.#random;
    const length = 1 + random.below(1500);
    if (random.below(5) > 0) return [this.#client.at(BUFFERS_AT + random.below(BUFFER_BYTES)), length];
    return [(write ? WRITE_ONLY : READ_ONLY) + BigInt(random.below(2048)), length];
  }
}

/** A split ring and its tables. @param tables byte offset of 32 entries for indirect tables */
export function splitNoise(random: Random, client: FakeClient, ring: FakeRing, tables: number): void {
  const noise = new Noise(random, client);
  const { size } = ring;
  const flags = () => noise.pick(0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 5, 6, random.next() & 0xffff);
  const next = () =>
    noise.pick(
      random.below(size),
      random.below(size),
      random.below(size),
      random.below(size + 4),
      random.next() & 0xffff,
    );
  for (let i = 0; i < size; i++) {
    const f = flags();
    const isTable = (f & 4) !== 0 && random.below(8) !== 0;
    const iova = isTable ? noise.table(tables) : noise.address();
    const length = isTable && random.below(8) !== 0 ? 16 * (1 + random.below(8)) : noise.length();
    ring.writeDesc(i, iova, length, f, next());
  }
  for (let i = 0; i < 32; i++) {
    const f = random.below(16) === 0 ? flags() : random.below(4);
    ring.writeDesc(i, noise.address(), noise.length(), f, random.below(10), tables);
  }
  for (let i = 0; i < size; i++) {
    const head = random.below(40) === 0 ? random.next() & 0xffff : random.below(size);
    client.view.setUint16(ring.avail + 4 + 2 * i, head, true);
  }
  ring.setIdx(random.below(50) === 0 ? random.next() & 0xffff : random.below(size + 1));
}

/** A packed ring from absolute position `next` on, and its tables. */
export function packedNoise(
  random: Random,
  client: FakeClient,
  ring: FakePackedRing,
  tables: number,
  next: number,
): void {
  const noise = new Noise(random, client);
  const { size } = ring;
  for (let n = 0; n < size; n++) {
    const position = next + n;
    const bits = random.below(10) === 0 ? noise.pick(0, 0x80, 0x8000, 0x8080) : availableBits(position, size);
    const flags = noise.pick(0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 5, 6, random.next() & 0x7f7f) | bits;
    const isTable = (flags & 4) !== 0 && random.below(8) !== 0;
    ring.writeDesc(
      position % size,
      isTable ? noise.table(tables) : noise.address(),
      isTable && random.below(8) !== 0 ? 16 * (1 + random.below(size + 1)) : noise.length(),
      random.below(64) === 0 ? random.next() & 0xffff : random.below(size),
      flags,
    );
  }
  for (let i = 0; i < 32; i++) {
    const flags = random.below(8) === 0 ? random.next() & 0xffff : random.below(4);
    ring.writeDesc(i, noise.address(), noise.length(), random.next() & 0xffff, flags, tables);
  }
}

/**
 * Makes up to `count` chains of a split ring, from position `next` on, ones of one buffer that are in order, all of one direction as a driver's are; one in
 * thirty is spoilt again. @param held heads that the device has
 */
export function splitBuffers(
  random: Random,
  client: FakeClient,
  ring: FakeRing,
  next: number,
  count: number,
  held: ReadonlySet<number>,
  inOrder: boolean,
): void {
  const noise = new Noise(random, client);
  const { size } = ring;
  const write = random.below(2) === 0;
  let head = inOrder ? next % size : random.below(size);
  for (let n = 0; n < count; n++) {
    while (!inOrder && held.has(head) && held.size < size) head = (head + 1) % size;
    const spoilt = random.below(30) === 0;
    const [iova, length] = noise.plain(spoilt ? !write : write);
    ring.writeDesc(head, iova, length, write ? 2 : 0, random.next() & 0xffff);
    client.view.setUint16(ring.avail + 4 + 2 * ((next + n) % size), head, true);
    head = (head + 1) % size;
  }
  ring.setIdx((next + count) & 0xffff);
}

/** The same of a packed ring. */
export function packedBuffers(
  random: Random,
  client: FakeClient,
  ring: FakePackedRing,
  next: number,
  count: number,
  held: ReadonlySet<number>,
): void {
  const noise = new Noise(random, client);
  const { size } = ring;
  const write = random.below(2) === 0;
  let id = random.below(size);
  for (let n = 0; n < count; n++) {
    while (held.has(id) && held.size < size) id = (id + 1) % size;
    const spoilt = random.below(30) === 0;
    const [iova, length] = noise.plain(spoilt ? !write : write);
    const flags = (write ? 2 : 0) | availableBits(next + n, size);
    ring.writeDesc((next + n) % size, iova, length, id, flags);
    id = (id + 1) % size;
  }
}

function availableBits(position: number, size: number): number {
  return Math.floor(position / size) % 2 === 0 ? 0x80 : 0x8000;
}
