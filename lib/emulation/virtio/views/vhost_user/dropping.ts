/**
 * A ring that its front end has started and turned off. The specification wants it processed "without causing any side effects. For example, for a
 * networking device, in the disabled state the back-end must not supply any new RX packets, but must process and discard any TX packets" (Vhost-user
 * Protocol, "Ring states"). So what is sent is given back unseen.
 *
 * @module
 */
import { Chain } from "../../queue/chain.ts";
import type { DeviceQueue } from "../../queue/device_queue.ts";

/** See the module's text. */
export class Dropping {
  /** The ring, which nobody else uses meanwhile. */
  readonly ring: DeviceQueue;
  readonly #chain: Chain;

  constructor(ring: DeviceQueue) {
    this.ring = ring;
    this.#chain = new Chain(ring.size);
  }

  /** Gives back what is available, at most `budget` chains, with nothing written. @returns how many */
  drop(budget: number): number {
    let count = 0;
    for (; count < budget; count++) {
      const id = this.ring.pop(this.#chain);
      if (id < 0) break;
      this.ring.pushUsed(id, 0);
    }
    if (count > 0) this.ring.publish();
    return count;
  }
}
