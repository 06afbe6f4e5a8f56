/**
 * One port of an emulated console: moves bytes between its two queues and its peer.
 *
 * @module
 */
import type { Chain } from "../queue/chain.ts";
import type { ConsolePeer } from "./peer.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";

/** A port. */
export class ConsoleModelPort {
  /** Number. */
  readonly index: number;
  /** Sent with PORT_NAME; empty: not sent. */
  readonly name: string;
  /** The other end. */
  readonly peer: ConsolePeer;
  /** The driver was told of it by DEVICE_ADD (port 0 of a device without MULTIPORT needs none). */
  announced = false;
  /** The driver has it open. */
  driverOpen = false;
  /** The driver was told last that the peer is there. */
  toldOpen = false;
  /** `peer.connected` has changed since. */
  changed = false;
  /** Bytes of the transmit chain at the head of the queue that the peer has taken already. */
  #taken = 0;

  /** A port that nobody was told of. */
  constructor(index: number, name: string, peer: ConsolePeer) {
    this.index = index;
    this.name = name;
    this.peer = peer;
  }

  /** The driver is gone. */
  reset(): void {
    this.announced = false;
    this.driverOpen = false;
    this.toldOpen = false;
    this.changed = false;
    this.#taken = 0;
    this.peer.forget();
  }

  /** Passes on what the driver sent. @returns buffers returned to it, or −1 when a buffer is one that must not be there */
  transmit(queue: DeviceQueue, chain: Chain, budget: number): number {
    let moved = 0;
    while (moved < budget) {
      const id = queue.pop(chain);
      if (id < 0) break;
      if (moved === 0) queue.suppress();
      if (chain.writableBytes > 0) return -1;
      let skip = this.#taken;
      let stuck = false;
      for (let i = 0; i < chain.count && !stuck; i++) {
        const length = chain.lengths[i]!;
        if (skip >= length) {
          skip -= length;
          continue;
        }
        const from = chain.offsets[i]! + skip;
        const count = this.peer.write(chain.regions[i]!.bytes.subarray(from, from + length - skip));
        this.#taken += count;
        stuck = count < length - skip;
        skip = 0;
      }
      if (stuck) {
        queue.unpop();
        break;
      }
      this.#taken = 0;
      queue.pushUsed(id, 0);
      moved++;
    }
    if (moved > 0) queue.publish();
    return moved;
  }

  /** Passes on what the peer sent. @returns buffers filled, or −1 when a buffer is one that must not be there */
  receive(queue: DeviceQueue, chain: Chain, budget: number): number {
    let moved = 0;
    while (moved < budget && this.peer.readable) {
      const id = queue.pop(chain);
      if (id < 0) break;
      if (moved === 0) queue.suppress();
      if (chain.readableBytes > 0) return -1;
      let filled = 0;
      for (let i = 0; i < chain.count; i++) {
        const at = chain.offsets[i]!, length = chain.lengths[i]!;
        const count = this.peer.read(chain.regions[i]!.bytes.subarray(at, at + length));
        filled += count;
        if (count < length) break;
      }
      if (filled === 0) {
        queue.unpop();
        break;
      }
      queue.pushUsed(id, filled);
      moved++;
    }
    if (moved > 0) queue.publish();
    return moved;
  }

  /** A transmit chain waits for the peer. */
  get holdsBack(): boolean {
    return this.#taken > 0 || this.peer.blocked;
  }
}
