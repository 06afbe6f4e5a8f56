/**
 * A queue of slots whose loops are WebAssembly: `wasm_kernel.wat`, over a memory into which the ring's pages are mapped.
 *
 * @module
 */
import wabt from "wabt";
import type { OwnedFd } from "../ffi/fd.ts";
import { readText } from "../ffi/file.ts";
import { mapIntoWasm } from "../ffi/wasm_mapping.ts";
import type { RingLayout } from "../lib/virtio/queue/layout.ts";

const PAGE = 65536;
/** Where the ring's pages are; what is the queue's own lies before. */
const RING_AT = PAGE;
const AVAIL = 0x80;
const USED_BOTH = 0x8080;
/** Words of a queue's record. */
const RECORD = {
  slots: 4,
  lengthBytes: 5,
  flags: 6,
  wrap: 8,
  used: 10,
  head: 12,
  eventIndex: 15,
  numbers: 16,
} as const;

type Export = "addSplit" | "publishSplit" | "takeSplit" | "addPacked" | "publishPacked" | "takePacked";
type Kernel = Readonly<Record<Export, (...numbers: number[]) => number>>;

/** The kernel, assembled. */
export async function assembleKernel(): Promise<WebAssembly.Module> {
  const name = "wasm_kernel.wat";
  const { parseWat } = await wabt();
  const text = readText(new URL(name, import.meta.url).pathname);
  const { buffer } = parseWat(name, text, { threads: true }).toBinary({});
  return new WebAssembly.Module(buffer as Uint8Array<ArrayBuffer>);
}

/** What it is made for. */
export interface WasmQueueParts {
  readonly packed: boolean;
  readonly layout: RingLayout;
  /** Holds the ring, zeroed. */
  readonly file: OwnedFd;
  readonly fileBytes: number;
  readonly eventIndex: boolean;
  readonly deviceWrites: boolean;
  /** By slot. */
  readonly iovaLo: Uint32Array;
  readonly lengthBytes: number;
}

/** `addSlots`, `publish` and `takeUsed` of a `Virtqueue`, over arrays of its own. */
export class WasmQueue implements Disposable {
  /** Slots to add, and slots taken; the bytes of each. */
  readonly ids: Uint16Array<ArrayBuffer>;
  readonly lengths: Uint32Array<ArrayBuffer>;
  readonly #mapping: Disposable;
  readonly #add;
  readonly #publish;
  readonly #take;

  constructor(module: WebAssembly.Module, parts: WasmQueueParts) {
    const { layout, fileBytes, iovaLo, packed } = parts;
    const { size } = layout;
    const pages = RING_AT / PAGE + Math.ceil(fileBytes / PAGE);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.#mapping = mapIntoWasm(memory, RING_AT, parts.file, fileBytes);
    const kernel = new WebAssembly.Instance(module, { ring: { memory } }).exports as unknown as Kernel;
    const buffer = memory.buffer as ArrayBuffer;
    // The record, the arrays by slot, and those of the caller.
    const numbers = 128, writable = numbers + 8 * size, described = writable + 4 * size;
    const ids = described + 16 * size, lengths = ids + 2 * size;
    this.ids = new Uint16Array(buffer, ids, size);
    this.lengths = new Uint32Array(buffer, lengths, size);
    const record = new Uint32Array(buffer, 0, numbers / 4);
    record.set([layout.descriptorOffset, layout.driverOffset, layout.deviceOffset].map((at) => RING_AT + at));
    record[3] = size;
    record[RECORD.slots] = iovaLo.length;
    record[RECORD.lengthBytes] = parts.lengthBytes;
    const flags = record[RECORD.flags] = parts.deviceWrites ? 2 : 0;
    record[RECORD.wrap] = AVAIL;
    record[RECORD.used] = USED_BOTH;
    record[RECORD.head] = 0xffff_ffff;
    record[RECORD.eventIndex] = Number(parts.eventIndex);
    record.set([numbers, writable, described], RECORD.numbers);
    const own = new Uint32Array(buffer, described, 4 * size);
    const table = new Uint32Array(buffer, RING_AT + layout.descriptorOffset, 4 * size);
    for (let slot = 0; slot < iovaLo.length; slot++) {
      const part = [iovaLo[slot]!, 0, parts.lengthBytes, flags];
      own.set(part, 4 * slot);
      if (!packed) table.set(part, 4 * slot);
    }
    const { addSplit, addPacked, publishSplit, publishPacked, takeSplit, takePacked } = kernel;
    const add = packed ? addPacked : addSplit, take = packed ? takePacked : takeSplit;
    const publish = packed ? publishPacked : publishSplit;
    this.#add = (count: number, own: boolean, head: number) => add(0, ids, own ? lengths : 0, count, head);
    this.#publish = () => publish(0) !== 0;
    this.#take = (max: number) => take(0, ids, lengths, max);
  }

  /** Adds the first `count` of `ids`. @returns how many could be */
  addSlots(count: number, withLengths: boolean, headBytes: number): number {
    return this.#add(count, withLengths, headBytes);
  }

  /** Makes them visible. @returns whether the device must be notified */
  publish(): boolean {
    return this.#publish();
  }

  /** Takes up to `max` into the arrays. @returns how many; below 0 when the device lies */
  takeUsed(max: number): number {
    return this.#take(max);
  }

  /** Takes the ring's pages out of the memory. */
  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}
