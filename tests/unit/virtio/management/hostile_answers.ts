/**
 * Answers of a management device that cannot be trusted: right ones, changed a little, much, or altogether.
 *
 * @module
 */
import type { Random } from "../../../random.ts";
import { bytes, type FakeAnswer, type FakeManagement, type SeenCommand } from "./fake_management.ts";

/** Values at which something changes its meaning. */
const EDGES = [0, 1, 2, 3, 7, 15, 64, 127, 128, 255] as const;

/** See the module's text. */
export class HostileAnswers {
  readonly #random: Random;
  readonly #honest: (command: SeenCommand) => FakeAnswer;
  readonly #ackBytes: number;
  /** One answer in so many is not what it should be; Infinity: none. */
  oneIn = Infinity;
  /** One command in so many is held: answered late, out of order, or never. */
  heldOneIn = Infinity;
  /** Answers that were not what they should have been. */
  changed = 0;

  /** @param honest what they are made from */
  constructor(random: Random, honest: (command: SeenCommand) => FakeAnswer, tight: boolean) {
    this.#random = random;
    this.#honest = honest;
    this.#ackBytes = tight ? 1 : 8;
  }

  /** For `FakeManagement.answer`. */
  answer = (command: SeenCommand): FakeAnswer | undefined => {
    const random = this.#random;
    if (this.heldOneIn < Infinity && random.below(this.heldOneIn) === 0) return undefined;
    const honest = this.#honest(command);
    return this.oneIn === Infinity || random.below(this.oneIn) > 0 ? honest : this.#changed(command, honest);
  };

  #changed({ writable }: SeenCommand, { ack = 0, data = new Uint8Array() }: FakeAnswer): FakeAnswer {
    const random = this.#random, room = writable - this.#ackBytes;
    this.changed++;
    switch (random.below(6)) {
      case 0:
        return { ack: random.below(2) === 0 ? random.below(14) : random.below(256), data };
      case 1:
        return { ack, data: random.bytes(random.below(room + 2)) };
      case 2:
        return { ack, data: new Uint8Array(room).fill(random.pick(EDGES)) };
      case 3:
        return { ack, data, used: random.below(writable + 1) };
      case 4:
        return { ack, data: data.subarray(0, random.below(data.length + 1)) };
      default: {
        const flipped = data.slice();
        for (let flips = 1 + random.below(3); flips > 0 && flipped.length > 0; flips--) {
          const at = random.below(flipped.length);
          flipped[at] = random.below(2) === 0 ? flipped[at]! ^ 1 << random.below(8) : random.pick(EDGES);
        }
        return { ack, data: flipped };
      }
    }
  }

  /** Answers some of what is held: any of it first, also what nobody waits for any more. */
  releaseSome(device: FakeManagement): void {
    while (device.held.length > 0 && this.#random.below(3) > 0) this.releaseOne(device);
  }

  /** Answers one. */
  releaseOne(device: FakeManagement): void {
    const at = this.#random.below(device.held.length);
    const { command } = device.held[at]!;
    device.release(this.#random.below(2) === 0 ? this.#honest(command) : this.#changed(command, {}), at);
  }

  /** Lies with the ring itself: an answer twice, to nobody, longer than its place, or an index that jumps. After that only a reset helps. */
  breakRing(device: FakeManagement, lastHead: number): void {
    const random = this.#random, ring = device.transport.ring(0);
    switch (random.below(4)) {
      case 0:
        return ring.push(lastHead, 8);
      case 1:
        return ring.push(random.below(0x10000), 8);
      case 2:
        return ring.push(lastHead, 0xffff_ffff);
      default:
        ring.usedIndex = (ring.usedNext + 2 + random.below(0xfff0)) & 0xffff;
    }
  }
}

/** What a device that has no state would answer: numbers that can be, whatever the layout. */
export function plausible(random: Random, ackBytes: number, nextId: () => bigint) {
  return ({ is, writable }: SeenCommand): FakeAnswer => {
    if (is === "1.0") return { data: bytes([2, 64], [2, 1], [2, 16], [2, 64]) };
    if (is === "2.0") return { data: bytes([8, nextId()]) };
    const data = new Uint8Array(writable - ackBytes);
    if (data.length > 0) data[0] = random.pick(EDGES);
    if (data.length === 1 && is === "9.1") data[0] = random.below(2);
    return { data };
  };
}
