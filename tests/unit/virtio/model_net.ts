/**
 * A network device over `FakeTransport`, in this thread and on demand: it works when it is notified or told to.
 *
 * @module
 */
import type { Profile } from "../../../lib/virtio/transport/transport.ts";
import { FakeTransport } from "./transport/fake_transport.ts";
import type { Chain } from "./queue/model_ring.ts";

const bit = (n: number) => 1n << BigInt(n);
/** Feature bits by their standard numbers. */
export const NET = {
  mtu: bit(3),
  mac: bit(5),
  mrgRxbuf: bit(15),
  status: bit(16),
  ctrlVq: bit(17),
  ctrlRx: bit(18),
  ctrlRxExtra: bit(20),
  mq: bit(22),
  ctrlMacAddr: bit(23),
  guestTso4: bit(7),
  guestCsum: bit(1),
  indirect: bit(28),
  eventIdx: bit(29),
  version1: bit(32),
  speedDuplex: bit(63),
} as const;

/** What the model is. */
export interface ModelNetOptions {
  readonly features?: bigint;
  readonly mtu?: number;
  readonly maxPairs?: number;
  readonly queueSize?: number;
  readonly vectors?: number;
  readonly pin?: boolean;
  /** Default `spec`. */
  readonly profile?: Profile;
  /** Features beside those that it has anyway. */
  readonly more?: bigint;
  /** Default 64. */
  readonly controlQueueSize?: number;
}

/** See the module's text. */
export class ModelNet implements Disposable {
  readonly transport: FakeTransport;
  /** Frames that the driver sent, by transmit queue, with the header before them. */
  readonly sent: { queue: number; bytes: Uint8Array; iova: bigint }[] = [];
  /** Where the buffers lay that frames were put into. */
  readonly filled: bigint[] = [];
  /** Control commands: class, command, data. */
  readonly commands: number[][] = [];
  /** Answer to control commands; undefined: none at all. */
  ack: number | undefined = 0;
  /** Control commands are read and answered in a later turn of the event loop, one a turn. */
  slowControl = false;
  /** False: sent frames stay with the device. */
  takeSent = true;
  /** Sent frames come back on the receive queue of their pair. */
  echo = false;
  readonly #stash = new Map<number, Chain[]>();

  constructor(options: ModelNetOptions = {}) {
    const { mtu = 1500, maxPairs = 1, queueSize = 64 } = options;
    const config = new Uint8Array(24);
    const view = new DataView(config.buffer);
    config.set([0x52, 0x54, 0, 1, 2, 3]);
    view.setUint16(6, 1, true);
    view.setUint16(8, maxPairs, true);
    view.setUint16(10, mtu, true);
    view.setUint32(12, 10_000, true);
    view.setUint8(16, 1);
    const { version1, mac, status, mrgRxbuf, ctrlVq, ctrlRx, ctrlMacAddr, eventIdx, indirect } = NET;
    this.transport = new FakeTransport({
      deviceId: 1,
      features: options.features ??
        (version1 | mac | status | mrgRxbuf | NET.mtu | ctrlVq | ctrlRx | NET.ctrlRxExtra | ctrlMacAddr |
          eventIdx | indirect | (maxPairs > 1 ? NET.mq : 0n) | (options.more ?? 0n)),
      config,
      queueSizes: [...Array.from({ length: 2 * maxPairs }, () => queueSize), options.controlQueueSize ?? 64],
      profile: options.profile ?? "spec",
      vectors: options.vectors ?? 0,
      pin: options.pin ?? false,
    });
    const control = () => (this.transport.driverFeatures & NET.mq) !== 0n ? 2 * maxPairs : 2;
    this.transport.onNotify = (queue) => {
      if (queue === control()) {
        if (this.slowControl) setTimeout(() => this.#control(queue), 1);
        else this.#control(queue);
      }
      if (queue !== control() && queue % 2 === 1) this.#transmit(queue);
    };
    const forget = this.transport.onReset;
    this.transport.onReset = () => {
      this.#stash.clear();
      return forget();
    };
  }

  /** Hands a frame to the driver, with a header; spread over buffers when it is longer than one. */
  deliver(frame: Uint8Array, queue = 0, options: { numBuffers?: number; quiet?: boolean } = {}): void {
    const ring = this.transport.ring(queue);
    const data = new Uint8Array(12 + frame.length);
    data.set(frame, 12);
    const pieces: [head: number, length: number, view: DataView][] = [];
    for (let at = 0; at < data.length;) {
      const chain = ring.pop();
      if (chain === undefined) throw new Error(`queue ${queue}: no receive buffer`);
      const [part] = chain.parts;
      if (chain.parts.length !== 1 || !part!.write) {
        throw new Error("a receive buffer that is not one writable part");
      }
      const length = Math.min(part!.length, data.length - at);
      const view = this.transport.iommu.at(part!.iova, part!.length, true);
      for (let i = 0; i < length; i++) view.setUint8(i, data[at + i]!);
      pieces.push([chain.head, length, view]);
      this.filled.push(part!.iova);
      at += length;
    }
    pieces[0]![2].setUint16(10, options.numBuffers ?? pieces.length, true);
    for (const [head, length] of pieces) ring.fill(head, length);
    ring.usedIndex = ring.usedNext;
    if (!options.quiet) this.transport.interrupt(queue);
  }

  /** Lets go of sent frames that were held back. */
  release(queue = 1): void {
    const ring = this.transport.ring(queue);
    for (const chain of this.#stash.get(queue) ?? []) ring.push(chain.head, 0);
    this.#stash.delete(queue);
    this.transport.interrupt(queue);
  }

  /** Changes the link status as a device does. */
  setLink(up: boolean): void {
    this.transport.config[6] = up ? 1 : 0;
    this.transport.generation++;
    this.transport.interrupt(null);
  }

  #transmit(queue: number): void {
    const ring = this.transport.ring(queue);
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
      const bytes = this.#read(chain);
      this.sent.push({ queue, bytes, iova: chain.parts[0]!.iova });
      if (this.takeSent) ring.push(chain.head, 0);
      else this.#stash.set(queue, [...this.#stash.get(queue) ?? [], chain]);
      if (this.echo) this.deliver(bytes.subarray(12), queue - 1);
    }
    ring.availableEvent = ring.next;
  }

  #control(queue: number): void {
    const ring = this.transport.ring(queue);
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
      this.commands.push([...this.#read(chain)]);
      if (this.ack === undefined) continue;
      const last = chain.parts.at(-1)!;
      if (!last.write || last.length !== 1) throw new Error("no acknowledgement byte");
      this.transport.iommu.at(last.iova, 1, true).setUint8(0, this.ack);
      ring.push(chain.head, 1);
    }
    ring.availableEvent = ring.next;
    this.transport.interrupt(queue);
  }

  #read(chain: Chain): Uint8Array {
    const bytes: number[] = [];
    for (const { iova, length, write } of chain.parts) {
      if (write) continue;
      const view = this.transport.iommu.at(iova, length, false);
      for (let i = 0; i < length; i++) bytes.push(view.getUint8(i));
    }
    return Uint8Array.from(bytes);
  }

  [Symbol.dispose](): void {
    this.transport.close();
  }
}

/** A frame with recognisable bytes. */
export function testFrame(length: number, seed = 0): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 31 + (i >> 8)) & 0xff);
}
