/**
 * A virtio entropy device (virtio 1.2 §5.4): fills buffers with bytes of the system's random number generator.
 *
 * @module
 */
import { DEVICE_ID } from "../../../virtio/spec/device_id.ts";
import { ENTROPY_CONFIG_BYTES, ENTROPY_QUEUE } from "../../../virtio/spec/entropy.ts";
import type { ModelOptions } from "../../device_kind.ts";
import type { DeviceCore, DeviceModel, ModelParts } from "../../device_model.ts";
import { Chain } from "../queue/chain.ts";

/** Most bytes of one request that are filled; the standard lets a device fill fewer than there is room for. */
const REQUEST_BYTES_MAX = 65536;
/** `crypto.getRandomValues` gives at most so many at a time. */
const POOL_BYTES = 65536;

/** The device. */
export class RngModel implements DeviceModel {
  readonly deviceId: number = DEVICE_ID.entropy;
  readonly features = 0n;
  readonly configSizeBytes: number = ENTROPY_CONFIG_BYTES;
  /** "Unclassified device", as other entropy devices say. */
  readonly classCode = 0x00ff00;
  readonly queueSizes: readonly number[];
  /** It has no state beside its queue. */
  readonly parts: ModelParts = {};
  readonly #chain: Chain;
  readonly #pool = new Uint8Array(POOL_BYTES);
  #used = POOL_BYTES;
  #core: DeviceCore | null = null;

  /** With one queue. */
  constructor(options: ModelOptions = {}) {
    const { queueSize = 64 } = options;
    this.queueSizes = [queueSize];
    this.#chain = new Chain(queueSize);
  }

  /** Takes its place; called once. */
  connect(core: DeviceCore): void {
    this.#core = core;
  }

  /** Works, at most `budget` buffers. @returns how many were moved */
  poll(budget: number): number {
    const queue = this.#core?.queue(ENTROPY_QUEUE.requests);
    if (queue === undefined) return 0;
    const chain = this.#chain;
    let moved = 0;
    while (moved < budget) {
      const id = queue.pop(chain);
      if (id < 0) break;
      if (moved === 0) queue.suppress();
      if (chain.readableCount > 0) {
        this.#core!.violation("virtio 1.2 §5.4.6.1", "a buffer is device-readable", queue.index);
        break;
      }
      queue.pushUsed(id, this.#fill());
      moved++;
    }
    if (moved > 0) queue.publish();
    return moved;
  }

  /** Asks for notifications. @returns true when work is there already */
  arm(): boolean {
    return this.#core?.queue(ENTROPY_QUEUE.requests)?.arm() ?? false;
  }

  #fill(): number {
    const chain = this.#chain;
    let left = Math.min(chain.writableBytes, REQUEST_BYTES_MAX);
    const filled = left;
    for (let i = 0; left > 0; i++) {
      const part = Math.min(left, chain.lengths[i]!);
      this.#fillSegment(chain.regions[i]!.bytes, chain.offsets[i]!, part);
      left -= part;
    }
    return filled;
  }

  #fillSegment(bytes: Uint8Array, offset: number, count: number): void {
    const pool = this.#pool;
    for (let i = 0; i < count; i++) {
      if (this.#used === POOL_BYTES) {
        crypto.getRandomValues(pool);
        this.#used = 0;
      }
      bytes[offset + i] = pool[this.#used]!;
      // What one client was given must not be found here by anybody later.
      pool[this.#used++] = 0;
    }
  }
}
