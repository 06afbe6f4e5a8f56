/**
 * virtio-ism devices over `FakeTransport`, written from the draft's text: they say and do whatever a test wants. Those of one domain share the
 * memory of their areas, page for page.
 *
 * @module
 */
import { createMemfd, MappedMemory, type OwnedFd } from "../../../../ffi/mod.ts";
import { UnsupportedError } from "../../../../lib/errors/mod.ts";
import type { SharedMemory } from "../../../../lib/virtio/transport/transport.ts";
import { FakeTransport } from "../../virtio/transport/fake_transport.ts";
import type { Chain } from "../../virtio/queue/model_ring.ts";

/** A v4 UUID in the order in which it is written. */
export const CDID = [
  ...[0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x4a, 0x88],
  ...[0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x01],
];

/** A shared memory area: a memfd, with a list of what the driver did to it. */
export class ModelArea implements SharedMemory {
  readonly sizeBytes: number;
  readonly maps: { offset: number; sizeBytes: number; writable: boolean }[] = [];
  readonly messages: string[] = [];
  /** Writes to doorbells: offset, width, value. */
  readonly kicks: number[][] = [];
  doorbells = 0;
  mappable = true;
  onKick: (offset: number) => void = () => {};
  readonly #fd: OwnedFd;
  /** What the device sees. */
  readonly memory: MappedMemory;
  readonly #mapped: MappedMemory[] = [];

  constructor(fd: OwnedFd, sizeBytes: number) {
    this.#fd = fd;
    this.sizeBytes = sizeBytes;
    this.memory = MappedMemory.map(fd, sizeBytes);
  }

  map(area = { offset: 0, sizeBytes: this.sizeBytes }, options: { writable?: boolean } = {}): MappedMemory {
    if (!this.mappable) throw new UnsupportedError("not mappable");
    const { offset, sizeBytes } = area;
    if (offset + sizeBytes > this.sizeBytes) throw new Error(`map of [${offset}, +${sizeBytes})`);
    const writable = options.writable ?? true;
    this.maps.push({ offset, sizeBytes, writable });
    const memory = MappedMemory.map(this.#fd, sizeBytes, { offset: BigInt(offset), writable });
    this.#mapped.push(memory);
    return memory;
  }
  read(offset: number, into: Uint8Array<ArrayBuffer>): void {
    this.messages.push(`read ${offset}+${into.length}`);
    into.set(this.memory.bytes(offset, into.length));
  }
  write(offset: number, from: Uint8Array<ArrayBuffer>): void {
    this.messages.push(`write ${offset}+${from.length}`);
    this.memory.bytes(offset, from.length).set(from);
  }
  doorbell(offset: number, width: 1 | 2 | 4): { write(value: number): void } {
    this.doorbells++;
    return {
      write: (value) => {
        this.kicks.push([offset, width, value]);
        this.onKick(offset);
      },
    };
  }
  /** Mappings of the driver's that are open. */
  get open(): number {
    return this.#mapped.filter(({ closed }) => !closed).length;
  }
  close(): void {
    for (const one of this.#mapped) one.close();
    this.memory.close();
  }
}

/** With shared memory. */
class IsmTransport extends FakeTransport {
  readonly areas = new Map<number, ModelArea>();
  override sharedMemory(id?: number): SharedMemory | undefined {
    return this.areas.get(id!);
  }
}

/** What the device is. */
export interface ModelIsmOptions {
  readonly devid?: bigint;
  readonly cdid?: readonly number[];
  readonly chunkSize?: number;
  readonly chunks?: number;
  readonly notifySize?: number;
  readonly configBytes?: number;
  readonly devMem?: boolean;
  readonly vectors?: number;
  readonly queueSizes?: readonly number[];
  /** Memory of the area, of another device of the domain. */
  readonly sharing?: ModelIsm;
}

/** A command as it came. */
export interface Heard {
  readonly command: string;
  /** Readable and writable parts. */
  readonly parts: readonly string[];
  readonly data: DataView;
  readonly replyBytes: number;
}

/** `ack` and reply; `silent`: the command stays with the device. */
export type Answer =
  | { readonly ack: number; readonly reply?: readonly bigint[]; readonly used?: number }
  | "silent";

const PAGE_BYTES = 4096;

/** See the module's text. Regions of `alloc` lie in the chunks that `chunksFor` says, by default the next ones. */
export class ModelIsm implements Disposable {
  readonly transport: IsmTransport;
  readonly devid: bigint;
  readonly chunkSize: number;
  readonly heard: Heard[] = [];
  readonly fd: OwnedFd;
  readonly #owned: OwnedFd[] = [];
  readonly #areas: ModelArea[];
  /** Answers instead of the device; undefined: leave it to it. */
  answer: (heard: Heard) => Answer | undefined = () => undefined;
  /** Chunk numbers of the next region. */
  chunksFor: (count: number) => number[];
  readonly peers: ModelIsm[] = [];
  readonly regions = new Map<bigint, { size: bigint; chunks: number[] }>();
  #next = 0;
  #token = 0x1000n;

  constructor(options: ModelIsmOptions = {}) {
    const { chunks = 64, notifySize = 4, configBytes = 40, devMem = true } = options;
    this.chunkSize = options.chunkSize ?? PAGE_BYTES;
    this.devid = options.devid ?? 7n;
    const config = new Uint8Array(40);
    config.set(options.cdid ?? CDID);
    const view = new DataView(config.buffer);
    view.setBigUint64(16, this.devid, true);
    view.setBigUint64(24, BigInt(this.chunkSize), true);
    view.setBigUint64(32, BigInt(notifySize), true);
    this.transport = new IsmTransport({
      deviceId: 44,
      features: 1n << 32n | 1n << 29n | (devMem ? 1n : 0n),
      config: config.slice(0, configBytes),
      queueSizes: options.queueSizes ?? [16, 32],
      vectors: options.vectors ?? 6,
    });
    const areaBytes = Math.max(PAGE_BYTES, this.chunkSize * chunks);
    if (options.sharing === undefined) this.#owned.push(createMemfd("model", areaBytes));
    this.fd = options.sharing?.fd ?? this.#owned[0]!;
    const notifyFd = createMemfd("notify", PAGE_BYTES);
    this.#owned.push(notifyFd);
    this.#areas = [new ModelArea(this.fd, areaBytes), new ModelArea(notifyFd, PAGE_BYTES)];
    this.#areas.forEach((area, i) => this.transport.areas.set(i + 1, area));
    this.notify.onKick = (offset) => {
      for (const peer of this.peers) peer.event(1n, BigInt(offset / notifySize * this.chunkSize), this.devid);
    };
    this.chunksFor = (count) => Array.from({ length: count }, () => this.#next++);
    this.transport.onNotify = (queue) => {
      if (queue === 0) this.#commands();
    };
    if (options.sharing !== undefined) {
      this.peers.push(options.sharing);
      options.sharing.peers.push(this);
    }
  }

  get area(): ModelArea {
    return this.transport.areas.get(1)!;
  }
  get notify(): ModelArea {
    return this.transport.areas.get(2)!;
  }

  /** Puts 64-bit fields into an event buffer. @param lengthBytes used length; default: all of it */
  event(...fields: bigint[]): void {
    this.eventBytes(fields, 8 * fields.length);
  }

  /** The same with a length of its own. */
  eventBytes(fields: readonly bigint[], lengthBytes: number): void {
    const ring = this.transport.ring(1);
    const chain = ring.pop();
    if (chain === undefined) throw new Error("no event buffer");
    const [part] = chain.parts;
    const view = this.transport.iommu.at(part!.iova, part!.length, true);
    fields.forEach((field, i) => view.setBigUint64(8 * i, field, true));
    ring.push(chain.head, lengthBytes);
    if (ring.interrupts(1, true)) this.transport.interrupt(1);
  }

  /** Event buffers that the driver has posted. */
  get postedEvents(): number {
    const ring = this.transport.ring(1);
    return (ring.availableIndex - ring.next) & 0xffff;
  }

  #commands(): void {
    const ring = this.transport.ring(0);
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
      const heard = this.#read(chain);
      this.heard.push(heard);
      const answer = this.answer(heard) ?? this.#carryOut(heard);
      if (answer === "silent") continue;
      const writable = chain.parts.filter(({ write }) => write);
      const { iommu } = this.transport;
      iommu.at(writable[0]!.iova, 1, true).setUint8(0, answer.ack);
      const reply = answer.reply ?? [];
      if (writable.length > 1) {
        const view = iommu.at(writable[1]!.iova, writable[1]!.length, true);
        reply.forEach((field, i) => 8 * i + 8 <= view.byteLength && view.setBigUint64(8 * i, field, true));
      }
      ring.push(chain.head, answer.used ?? Math.min(1 + 8 * reply.length, 1 + heard.replyBytes));
      this.transport.interrupt(0);
    }
    ring.availableEvent = ring.next;
  }

  #read({ head: _, parts }: Chain): Heard {
    const readable = parts.filter(({ write }) => !write);
    if (readable.length !== 2) throw new Error(`A-5.8: ${readable.length} readable parts`);
    if (readable[1]!.iova % 8n !== 0n) throw new Error("5.3: 64-bit members are not aligned");
    const header = this.transport.iommu.at(readable[0]!.iova, 2, false);
    const data = this.transport.iommu.at(readable[1]!.iova, readable[1]!.length, false);
    return {
      command: `${header.getUint8(0)}.${header.getUint8(1)}`,
      parts: parts.map(({ length, write }) => `${write ? "w" : "r"}${length}`),
      data: new DataView(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength)),
      replyBytes: parts.filter(({ write }) => write)[1]?.length ?? 0,
    };
  }

  #carryOut({ command, data, replyBytes }: Heard): Answer {
    const token = data.getBigUint64(0, true);
    if (command === "0.0") {
      const size = data.getBigUint64(0, true);
      const chunks = this.chunksFor(Math.max(1, Math.ceil(Number(size) / this.chunkSize)));
      const made = this.#token++;
      for (const one of [this, ...this.peers]) one.regions.set(made, { size, chunks });
      return { ack: 0, reply: [made, ...this.chunkList(chunks)] };
    }
    const region = this.regions.get(token);
    if (region === undefined) return { ack: 2 };
    if (command === "1.0") return { ack: 0, reply: [region.size, 7n] };
    if (command === "2.0") {
      if (replyBytes < 16 + 8 * region.chunks.length) {
        return { ack: 7, reply: [region.size, BigInt(region.chunks.length)] };
      }
      for (const peer of this.peers) {
        peer.event(2n, BigInt(region.chunks[0]! * this.chunkSize), this.devid, 1n);
      }
      return { ack: 0, reply: [region.size, ...this.chunkList(region.chunks)] };
    }
    if (command === "3.0") {
      for (const peer of this.peers) {
        if (peer.transport.queueEnabled(1)) {
          peer.event(4n, BigInt(region.chunks[0]! * this.chunkSize), this.devid, 0n);
        }
      }
    }
    return { ack: 0 };
  }

  /** `num` and offsets. */
  chunkList(chunks: readonly number[]): bigint[] {
    return [BigInt(chunks.length), ...chunks.map((chunk) => BigInt(chunk * this.chunkSize))];
  }

  [Symbol.dispose](): void {
    this.transport.close();
    for (const area of this.#areas) area.close();
    for (const fd of this.#owned) fd.close();
  }
}
