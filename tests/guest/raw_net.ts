/** A network function driven by its queues alone, so that single queues can be reset under it. */
import { assert, assertEquals } from "@std/assert";
import type { TestFrames } from "../../drivers/net/virtio/test_frames.ts";
import { TimeoutError } from "../../lib/errors/mod.ts";
import type { DmaMemory } from "../../lib/memory/mod.ts";
import {
  FEATURE,
  NET_FEATURE,
  refusedRingFeatures,
  type RingOptions,
  type UsedBurst,
  usedBurst,
  VirtioDevice,
  type Virtqueue,
} from "../../lib/virtio/mod.ts";
import { NET_CONFIG, NET_HDR_BYTES } from "../../lib/virtio/spec/net.ts";
import type { PciModernTransport } from "../../lib/virtio/transport/pci_modern.ts";

const RECEIVE = 0;
const TRANSMIT = 1;
/** Slots for each direction: every queue that is set up must hold them all. */
const SLOTS = 32;
const SLOT_BYTES = 2048;
const PATIENCE_MS = 15_000;

/** What a queue reset found. */
export interface ResetCounts {
  /** Chains that the device had returned and nobody had taken. */
  readonly returned: number;
  /** Chains that the device still had. */
  readonly inFlight: number;
}

/** Receives numbered frames, and sends them. Closed, it resets the device. */
export class RawNet implements Disposable {
  readonly device: VirtioDevice;
  readonly mac: Uint8Array;
  /** Frames that were sent and came back as used. */
  transmitted = 0;
  readonly #expected: TestFrames;
  /** Numbers of the frames that arrived. */
  readonly #arrived = new Set<number>();
  readonly #buffers: DmaMemory;
  readonly #frames: DmaMemory;
  readonly #receiveSlots = new Map<number, number>();
  readonly #transmitSlots = new Map<number, number>();
  readonly #free = Array.from({ length: SLOTS }, (_, slot) => slot);
  readonly #used: UsedBurst = usedBurst(SLOTS);
  #receive: Virtqueue;
  #transmit: Virtqueue;

  /** @param expected makes the stream that must arrive, for the function's own address */
  constructor(
    transport: PciModernTransport,
    size: number,
    rings: RingOptions,
    expected: (mac: Uint8Array) => TestFrames,
  ) {
    const device = new VirtioDevice(transport);
    this.device = device;
    device.negotiate({ required: FEATURE.RING_RESET | NET_FEATURE.MAC, refused: refusedRingFeatures(rings) });
    const { offset } = NET_CONFIG.fields.mac0;
    this.mac = Uint8Array.from({ length: 6 }, (_, i) => device.readConfig(offset + i, 1));
    this.#expected = expected(this.mac);
    this.#receive = device.createQueue(RECEIVE, { size });
    this.#transmit = device.createQueue(TRANSMIT, { size });
    this.#buffers = transport.dma.allocate(SLOTS * SLOT_BYTES, { label: "raw receive buffers" });
    this.#frames = transport.dma.allocate(SLOTS * SLOT_BYTES, { label: "raw transmit buffers" });
    device.driverOk();
    for (let slot = 0; slot < SLOTS; slot++) this.#post(slot);
    this.#receive.flush();
  }

  /** Frames that arrived. */
  get received(): number {
    return this.#arrived.size;
  }

  /** Highest number among them. */
  get highest(): number {
    return Math.max(...this.#arrived);
  }

  /** Descriptors of the receive and of the transmit queue. */
  get sizes(): [number, number] {
    return [this.#receive.size, this.#transmit.size];
  }

  /**
   * Looks until `count` frames in all have arrived. Every byte is checked, and that none comes twice. Their order is not: QEMU's hub lets frames that
   * waited for a queue to come back overtake each other.
   */
  receiveUntil(count: number): void {
    const until = performance.now() + PATIENCE_MS;
    while (this.received < count) {
      const used = this.#used;
      const taken = this.#receive.takeUsed(used);
      // All of them first: the ids that were taken are free, and posting gives them to other slots.
      const slots = Array.from({ length: taken }, (_, i) => this.#check(used.ids[i]!, used.lengths[i]!));
      for (const slot of slots) this.#post(slot);
      if (taken > 0) this.#receive.flush();
      else if (performance.now() > until) {
        throw new TimeoutError(`${this.received} of ${count} frames arrived`);
      }
    }
  }

  /** Sends frames `from` to `from + count − 1` of a stream, and waits for none of them. */
  send(stream: TestFrames, from: number, count: number): void {
    for (let number = from; number < from + count; number++) {
      if (this.#free.length === 0) this.reclaimAll();
      const slot = this.#free.pop()!;
      const bytes = NET_HDR_BYTES + stream.fill(number, body(this.#frames, slot));
      this.#transmitSlots.set(this.#transmit.addSingle(...halves(this.#frames, slot), bytes, false), slot);
    }
    this.#transmit.flush();
  }

  /** Looks until the device has given all sent frames back. */
  reclaimAll(): void {
    const until = performance.now() + PATIENCE_MS;
    while (this.#transmitSlots.size > 0) {
      const used = this.#used;
      const taken = this.#transmit.takeUsed(used);
      for (let i = 0; i < taken; i++) this.#sent(used.ids[i]!);
      if (taken === 0 && performance.now() > until) {
        throw new TimeoutError(`${this.#transmitSlots.size} sent frames did not come back`);
      }
    }
  }

  /** Resets the receive queue, calls `meanwhile` while there is none, and sets it up again with the buffers that were in flight. */
  resetReceive(size: number, meanwhile: () => void): ResetCounts {
    const { completed, inFlight, fault } = this.device.resetQueue(RECEIVE);
    assertEquals(fault, undefined);
    const back = completed.map(({ id, lengthBytes }) => this.#check(id, lengthBytes));
    const slots = inFlight.map(({ id }) => this.#receiveSlots.get(id)!);
    assertEquals([...back, ...slots].sort((a, b) => a - b), Array.from({ length: SLOTS }, (_, slot) => slot));
    meanwhile();
    this.#receive = this.device.createQueue(RECEIVE, { size });
    this.#receiveSlots.clear();
    this.#receive.reoffer(inFlight).forEach((id, i) => this.#receiveSlots.set(id, slots[i]!));
    for (const slot of back) this.#post(slot);
    this.#receive.flush();
    return { returned: back.length, inFlight: slots.length };
  }

  /** As `resetReceive`, for the transmit queue: what the device had not sent is offered again. */
  resetTransmit(size: number): ResetCounts {
    const { completed, inFlight, fault } = this.device.resetQueue(TRANSMIT);
    assertEquals(fault, undefined);
    for (const { id } of completed) this.#sent(id);
    const slots = inFlight.map(({ id }) => this.#transmitSlots.get(id)!);
    assertEquals(slots.length, this.#transmitSlots.size);
    this.#transmit = this.device.createQueue(TRANSMIT, { size });
    this.#transmitSlots.clear();
    this.#transmit.reoffer(inFlight).forEach((id, i) => this.#transmitSlots.set(id, slots[i]!));
    this.#transmit.flush();
    return { returned: completed.length, inFlight: slots.length };
  }

  [Symbol.dispose](): void {
    this.device.close();
    this.#buffers[Symbol.dispose]();
    this.#frames[Symbol.dispose]();
  }

  #post(slot: number): void {
    const id = this.#receive.addSingle(...halves(this.#buffers, slot), SLOT_BYTES, true);
    this.#receiveSlots.set(id, slot);
  }

  /** @returns the slot, free again */
  #check(id: number, lengthBytes: number): number {
    assert(this.#receiveSlots.has(id), `receive chain ${id} is not ours`);
    const slot = this.#receiveSlots.get(id)!;
    this.#receiveSlots.delete(id);
    const frame = body(this.#buffers, slot);
    const bytes = lengthBytes - NET_HDR_BYTES;
    if (!this.#expected.isOurs(frame, 0, bytes)) return slot;
    const number = new DataView(frame.buffer, frame.byteOffset).getUint32(14, true);
    assertEquals(this.#expected.mismatch(number, frame, 0, bytes), -1, `frame ${number}`);
    assert(!this.#arrived.has(number), `frame ${number} came twice`);
    this.#arrived.add(number);
    return slot;
  }

  #sent(id: number): void {
    assert(this.#transmitSlots.has(id), `transmit chain ${id} is not ours`);
    this.#free.push(this.#transmitSlots.get(id)!);
    this.#transmitSlots.delete(id);
    this.transmitted++;
  }
}

/** What follows the header in a slot. */
function body(memory: DmaMemory, slot: number): Uint8Array<ArrayBuffer> {
  return memory.bytes(slot * SLOT_BYTES + NET_HDR_BYTES, SLOT_BYTES - NET_HDR_BYTES);
}

/** A slot's IOVA. */
function halves(memory: DmaMemory, slot: number): [number, number] {
  const iova = memory.iova + BigInt(slot * SLOT_BYTES);
  return [Number(iova & 0xffff_ffffn), Number(iova >> 32n)];
}
