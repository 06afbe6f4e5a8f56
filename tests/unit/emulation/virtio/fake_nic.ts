/**
 * A driver for one emulated network function, as small as can be.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { NetModel, type NetModelOptions } from "../../../../lib/emulation/virtio/net/model.ts";
import type { NetSwitch } from "../../../../lib/emulation/virtio/net/switch.ts";
import { PciView, type PciViewOptions } from "../../../../lib/emulation/virtio/views/pci/view.ts";
import { FEATURE, NET_FEATURE, netControlQueue } from "../../../../lib/virtio/spec/mod.ts";
import type { FakeRing } from "./fake_client.ts";
import { FakeFunction } from "./fake_machine.ts";

/** What these tests negotiate unless they say otherwise. */
export const FEATURES: bigint = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | FEATURE.INDIRECT_DESC |
  NET_FEATURE.MAC | NET_FEATURE.STATUS | NET_FEATURE.CTRL_VQ | NET_FEATURE.CTRL_RX |
  NET_FEATURE.CTRL_RX_EXTRA | NET_FEATURE.CTRL_MAC_ADDR | NET_FEATURE.MRG_RXBUF;

export const mac = (last: number): string => `52:54:00:00:00:${last.toString(16).padStart(2, "0")}`;
export const macBytes = (text: string): number[] => text.split(":").map((byte) => parseInt(byte, 16));
export const BROADCAST = "ff:ff:ff:ff:ff:ff";

/** An Ethernet frame of `length` bytes whose payload depends on `seed`. */
export function frame(to: string, from: string, length: number, seed = 0, type = 0x88b5): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 14; i < length; i++) bytes[i] = (i * 7 + seed) & 0xff;
  bytes.set([...macBytes(to), ...macBytes(from), type >> 8, type & 0xff]);
  return bytes;
}

/** An IPv4 UDP frame. */
export function udp(
  to: string,
  from: string,
  source: [number, number],
  destination: [number, number],
  length = 60,
): Uint8Array {
  const bytes = frame(to, from, length, 0, 0x0800);
  bytes.set([
    0x45,
    0,
    0,
    length - 14,
    0,
    0,
    0,
    0,
    64,
    17,
    0,
    0,
    10,
    0,
    0,
    source[0],
    10,
    0,
    0,
    destination[0],
  ], 14);
  bytes.set([source[1] >> 8, source[1] & 0xff, destination[1] >> 8, destination[1] & 0xff], 34);
  return bytes;
}

/** A function with a driver. */
export class FakeNic implements Disposable {
  readonly fn: FakeFunction;
  readonly model: NetModel;
  readonly front: PciView;
  /** Offset of each posted receive buffer, by queue and chain. */
  readonly #posted = new Map<number, Map<number, { at: number; length: number }[]>>();

  constructor(
    net: NetSwitch,
    last: number,
    options: Partial<NetModelOptions> = {},
    name = `0000:01:00.${last}`,
    view: PciViewOptions = {},
  ) {
    this.model = new NetModel(net, { mac: mac(last), queueSize: 64, queuePairs: 2, ...options });
    this.front = new PciView(this.model, view);
    this.fn = new FakeFunction(this.front, name, 2 << 20);
  }

  /** DRIVER_OK with all queues. */
  start(features = FEATURES, queues = this.model.queueSizes.map((_, i) => i)): this {
    this.fn.bringUp(features & this.front.core.offered, queues, 64);
    this.#posted.clear();
    return this;
  }

  ring(index: number): FakeRing {
    return this.fn.rings.get(index)!;
  }

  /** Offers receive buffers, each of these lengths (one chain a call of `post` a part list). */
  post(count: number, lengths: readonly number[] = [2048], queue = 0): this {
    const ring = this.ring(queue);
    for (let i = 0; i < count; i++) {
      const parts = lengths.map((length) => ({ at: this.fn.client.allocate(length, 4), length }));
      const head = ring.add(
        parts.map(({ at, length }) => ({ iova: this.fn.client.at(at), length, write: true })),
      );
      let posted = this.#posted.get(queue);
      if (posted === undefined) this.#posted.set(queue, posted = new Map());
      posted.set(head, parts);
    }
    ring.publish();
    return this;
  }

  /** Puts a frame into a transmit queue, header and frame cut into parts at `cuts`. */
  send(bytes: Uint8Array, queue = 1, cuts: readonly number[] = [12], header: readonly number[] = []): void {
    const { client } = this.fn;
    const all = new Uint8Array(12 + bytes.length);
    all.set(header);
    all.set(bytes, 12);
    const ends = [...cuts.filter((cut) => cut < all.length), all.length];
    let from = 0;
    const parts = ends.map((end) => {
      const length = end - from;
      const at = client.allocate(length, 1);
      client.bytes.set(all.subarray(from, end), at);
      from = end;
      return { iova: client.at(at), length };
    });
    this.ring(queue).add(parts);
    this.ring(queue).publish();
  }

  /** What arrived: whole frames put together from their buffers, with the headers checked. */
  received(queue = 0): Uint8Array[] {
    const used = this.ring(queue).takeUsed();
    const frames: Uint8Array[] = [];
    while (used.length > 0) {
      let wanted = 1;
      const bytes: number[] = [];
      for (let n = 0; n < wanted; n++) {
        const one = used.shift();
        if (one === undefined) throw new Error("num_buffers is larger than what was returned");
        const whole = this.#read(queue, one.id, one.length);
        if (n === 0) {
          assertEquals([...whole.slice(0, 10)], new Array(10).fill(0), "header");
          wanted = whole[10]! | whole[11]! << 8;
        }
        bytes.push(...whole.slice(n === 0 ? 12 : 0));
      }
      frames.push(Uint8Array.from(bytes));
    }
    return frames;
  }

  #read(queue: number, id: number, length: number): Uint8Array {
    const parts = this.#posted.get(queue)?.get(id);
    if (parts === undefined) throw new Error(`chain ${id} of queue ${queue} was never posted`);
    this.#posted.get(queue)!.delete(id);
    const all = parts.flatMap(({ at, length }) => [...this.fn.client.bytes.subarray(at, at + length)]);
    return Uint8Array.from(all.slice(0, length));
  }

  /** Gives a control command. @returns the ack */
  control(kind: number, command: number, data: readonly number[]): number {
    const mq = (this.front.core.negotiatedFeatures & NET_FEATURE.MQ) !== 0n;
    const queue = netControlQueue(this.model.maxPairs, mq);
    const { client } = this.fn;
    const at = client.allocate(2 + data.length), ack = client.allocate(1);
    client.bytes.set([kind, command, ...data], at);
    client.bytes[ack] = 0xee;
    this.ring(queue).add([
      { iova: client.at(at), length: 2 + data.length },
      { iova: client.at(ack), length: 1, write: true },
    ]);
    this.ring(queue).publish();
    this.fn.run();
    const used = this.ring(queue).takeUsed();
    assertEquals(used.map((one) => one.length), [1]);
    return client.bytes[ack]!;
  }

  [Symbol.dispose](): void {
    this.fn[Symbol.dispose]();
  }
}
