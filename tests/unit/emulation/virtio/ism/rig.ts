/**
 * virtio-ism functions with drivers that know the wire format by its offsets.
 *
 * @module
 */
import { createMemfd, MappedMemory } from "../../../../../ffi/mod.ts";
import { IsmDomains } from "../../../../../lib/emulation/virtio/ism/domain.ts";
import { IsmModel, type IsmModelOptions } from "../../../../../lib/emulation/virtio/ism/model.ts";
import { PciView } from "../../../../../lib/emulation/virtio/views/pci/view.ts";
import { FEATURE, ISM_FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { DmaRegion } from "../../../../../lib/sockets/dma_table.ts";
import { FakeFunction } from "../fake_machine.ts";

export const CHUNK = 4096;
export const OK = 0, ENOENT = 2, E2BIG = 7, ENOMEM = 12, ENOSPC = 28;
export const EATTACH = 100, EREAD = 101, EWRITE = 102, ERR = 255;
export const READ = 1, WRITE = 2, ATTACH = 4, MANAGE = 8, CLEAN = 16;
const RULES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;
const SHARED_BAR = 2;
const QUEUE = 16;

/** The answer to a command. */
export interface Answer {
  readonly ack: number;
  /** What follows `ack`, as far as the used length says. */
  readonly reply: DataView;
  readonly used: number;
}

/** An event as its words. */
export type Words = readonly bigint[];

/** le64 values as bytes. */
export function words(...values: readonly bigint[]): number[] {
  const bytes = new Uint8Array(8 * values.length);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => view.setBigUint64(8 * i, value, true));
  return [...bytes];
}

/** A function and its driver. */
export class IsmRig implements Disposable {
  readonly model: IsmModel;
  readonly front: PciView;
  readonly fn: FakeFunction;
  readonly #events: { at: number; sizeBytes: number }[] = [];
  readonly #inputs: number;
  readonly #outputs: number;

  constructor(domains: IsmDomains, options: IsmModelOptions = {}, name = "0000:01:00.0") {
    this.model = new IsmModel(domains, { chunkSize: CHUNK, chunks: 64, memory: 1 << 20, ...options });
    this.front = new PciView(this.model);
    this.fn = new FakeFunction(this.front, name, 1 << 20);
    this.#inputs = this.fn.client.allocate(4096);
    this.#outputs = this.fn.client.allocate(1 << 16);
    this.up();
  }

  /** From reset to DRIVER_OK. */
  up(deviceMemory = (this.model.features & ISM_FEATURE.DEV_MEM) !== 0n): void {
    this.fn.bringUp(RULES | (deviceMemory ? ISM_FEATURE.DEV_MEM : 0n), [0, 1], QUEUE);
    this.#events.length = 0;
  }

  /** Its id. */
  get devid(): bigint {
    const bytes = this.config();
    return new DataView(bytes.buffer).getBigUint64(16, true);
  }

  config(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(40);
    this.front.readBar(4, 0x2000, bytes);
    return bytes;
  }

  /** Sends class, command and data, cut where told; lets the device work. */
  command(head: readonly [number, number], data: readonly number[], replyBytes = 512, cuts = [2]): Answer {
    const { client } = this.fn;
    const ring = this.fn.rings.get(0)!;
    const readable = [...head, ...data];
    client.bytes.set(readable, this.#inputs);
    client.bytes.fill(0xee, this.#outputs, this.#outputs + 1 + replyBytes);
    const parts: { iova: bigint; length: number; write?: boolean }[] = [];
    let from = 0;
    for (const to of [...cuts, readable.length]) {
      if (to <= from || to > readable.length) continue;
      parts.push({ iova: client.at(this.#inputs + from), length: to - from });
      from = to;
    }
    // ack alone, then the reply in two pieces.
    const half = replyBytes >> 1;
    for (const [at, length] of [[0, 1], [1, half], [1 + half, replyBytes - half]] as const) {
      if (length > 0) parts.push({ iova: client.at(this.#outputs + at), length, write: true });
    }
    ring.add(parts);
    ring.publish();
    this.fn.run();
    const [used] = ring.takeUsed();
    if (used === undefined) throw new Error("the command was not answered");
    const bytes = client.bytes.slice(this.#outputs, this.#outputs + Math.max(1, used.length));
    return { ack: bytes[0]!, reply: new DataView(bytes.buffer, 1), used: used.length };
  }

  alloc(size: number | bigint, replyBytes = 512, buffer?: bigint): Answer {
    const more = buffer === undefined ? [] : [buffer];
    return this.command([0, 0], words(BigInt(size), ...more), replyBytes);
  }

  /** As `alloc`, which must succeed. */
  region(size: number, buffer?: bigint): { token: bigint; chunks: number[] } {
    const { ack, reply } = this.alloc(size, 4096, buffer);
    if (ack !== OK) throw new Error(`ALLOC: ${ack}`);
    return { token: reply.getBigUint64(0, true), chunks: chunksOf(reply) };
  }

  query(token: bigint): Answer {
    return this.command([1, 0], words(token), 16);
  }

  attach(token: bigint, rights = READ | WRITE, replyBytes = 512, buffer?: bigint): Answer {
    const more = buffer === undefined ? [] : [buffer];
    return this.command([2, 0], words(token, BigInt(rights), ...more), replyBytes);
  }

  /** As `attach`, which must succeed. @returns chunk numbers */
  attached(token: bigint, rights = READ | WRITE, buffer?: bigint): number[] {
    const { ack, reply } = this.attach(token, rights, 4096, buffer);
    if (ack !== OK) throw new Error(`ATTACH: ${ack}`);
    return chunksOf(reply);
  }

  detach(token: bigint): number {
    return this.command([3, 0], words(token), 0).ack;
  }

  grantDefault(token: bigint, permissions: number): number {
    return this.command([4, 0], words(token, BigInt(permissions)), 0).ack;
  }

  grant(token: bigint, permissions: number, devid: bigint): number {
    return this.command([4, 1], words(token, BigInt(permissions), devid), 0).ack;
  }

  bind(token: bigint, vector: number): number {
    return this.command([5, 0], words(token, BigInt(vector)), 0).ack;
  }

  /** Offset of the notify area in the BAR. */
  get notifyAt(): number {
    return Math.ceil(this.model.sharedMemory.areas[0]!.sizeBytes / 0x10000) * 0x10000;
  }

  /** Kicks by a write of so many bytes at a chunk's notify address (4 bytes each). */
  kick(chunk: number, width = 1): void {
    const bytes = new Uint8Array(width);
    bytes[0] = 1;
    this.front.writeBar(SHARED_BAR, this.notifyAt + 4 * chunk, bytes);
  }

  read(offset: number, length: number): Uint8Array {
    const into = new Uint8Array(length);
    this.front.readBar(SHARED_BAR, offset, into);
    return into;
  }

  write(offset: number, bytes: readonly number[]): void {
    this.front.writeBar(SHARED_BAR, offset, new Uint8Array(bytes));
  }

  /** Gives the device event buffers. */
  giveEvents(count = 4, sizeBytes = 128): void {
    const { client } = this.fn;
    const ring = this.fn.rings.get(1)!;
    for (let i = 0; i < count; i++) {
      const at = client.allocate(sizeBytes);
      this.#events[ring.free] = { at, sizeBytes };
      ring.add([{ iova: client.at(at), length: sizeBytes, write: true }]);
    }
    ring.publish();
  }

  /** Lets the device work. @returns the events that came, a list a buffer */
  takeBuffers(): Words[][] {
    this.fn.run();
    const ring = this.fn.rings.get(1)!;
    return ring.takeUsed().map(({ id, length }) => {
      const { at } = this.#events[id]!;
      return parseEvents(this.fn.client.bytes.slice(at, at + length));
    });
  }

  /** The same in one list. */
  take(): Words[] {
    return this.takeBuffers().flat();
  }

  /** Adds memory of a file of its own at an IOVA, as a driver's DMA memory is. */
  lend(iova: bigint, sizeBytes: number, options: { keepFile?: boolean; access?: boolean } = {}): DmaRegion {
    const file = createMemfd("driver memory", sizeBytes);
    const memory = MappedMemory.map(file, sizeBytes);
    const access = { deviceReads: true, deviceWrites: options.access ?? true };
    const kept = options.keepFile === false ? undefined : { fd: file, offset: 0 };
    if (kept === undefined) file.close();
    const region = new DmaRegion(iova, memory, access, kept);
    this.fn.client.dma.add(region);
    return region;
  }

  [Symbol.dispose](): void {
    this.fn[Symbol.dispose]();
  }
}

/** Chunk numbers of a reply to ALLOC or ATTACH. */
export function chunksOf(reply: DataView, chunkSize = CHUNK): number[] {
  const num = Number(reply.getBigUint64(8, true));
  return Array.from(
    { length: num },
    (_, i) => Number(reply.getBigUint64(16 + 8 * i, true)) / chunkSize,
  );
}

function parseEvents(bytes: Uint8Array): Words[] {
  const view = new DataView(bytes.buffer);
  const events: Words[] = [];
  for (let at = 0; at < bytes.length;) {
    const type = view.getBigUint64(at, true);
    const count = type === 1n ? 3 : type === 8n ? 2 : 4;
    events.push(Array.from({ length: count }, (_, i) => view.getBigUint64(at + 8 * i, true)));
    at += 8 * count;
  }
  return events;
}

/** Functions of one domain: four by name, of which the test uses as many as it asks for. */
export interface Rigs extends Disposable {
  readonly a: IsmRig;
  readonly b: IsmRig;
  readonly c: IsmRig;
  readonly d: IsmRig;
}

/** Makes `count` functions of one domain; the names of the others throw. */
export function rigs(count: number, options: IsmModelOptions = {}): Rigs {
  const domains = new IsmDomains();
  const list = Array.from({ length: count }, (_, i) => new IsmRig(domains, options, `0000:0${i + 1}:00.0`));
  const at = (index: number): IsmRig => {
    const rig = list[index];
    if (rig === undefined) throw new RangeError(`only ${count} functions were made`);
    return rig;
  };
  return {
    get a() {
      return at(0);
    },
    get b() {
      return at(1);
    },
    get c() {
      return at(2);
    },
    get d() {
      return at(3);
    },
    [Symbol.dispose]: () => {
      for (const one of list) one[Symbol.dispose]();
    },
  };
}
