/**
 * The control queue of a network device (virtio 1.2 §5.1.6.5).
 *
 * @module
 */
import { NET_CTRL_ACK } from "../../../virtio/spec/net.ts";
import type { DeviceCore } from "../../device_model.ts";
import { Chain } from "../queue/chain.ts";
import type { LegacyFraming } from "../queue/legacy_framing.ts";
import { carryOut } from "./control.ts";
import type { NetSettings } from "./settings.ts";

const RULE = "virtio 1.2 §5.1.6.5";

/** Takes commands, and answers them. */
export class NetControlQueue {
  /** Its number; −1 while there is none. */
  index = -1;
  readonly #settings: NetSettings;
  readonly #framing: LegacyFraming;
  readonly #chain: Chain;
  #core: DeviceCore | null = null;

  /** Of one device, whose driver has none yet. @param queueSize entries of the largest one */
  constructor(settings: NetSettings, framing: LegacyFraming, queueSize: number) {
    this.#settings = settings;
    this.#framing = framing;
    this.#chain = new Chain(queueSize);
  }

  /** A driver is ready that negotiated one. */
  start(core: DeviceCore, index: number): void {
    this.#core = core;
    this.index = index;
  }

  /** The driver is gone. */
  stop(): void {
    this.#core = null;
    this.index = -1;
  }

  /** Asks for notifications. @returns true when there are commands already */
  arm(): boolean {
    return this.#core?.queue(this.index)?.arm() ?? false;
  }

  /** Carries commands out, at most `budget`. @returns how many */
  poll(budget: number): number {
    const core = this.#core;
    const queue = core?.queue(this.index);
    if (core === null || queue === undefined) return 0;
    const chain = this.#chain;
    let moved = 0;
    while (moved < budget) {
      const id = queue.pop(chain);
      if (id < 0) break;
      if (chain.readableBytes < 2 || chain.writableBytes < 1) {
        core.violation(
          RULE,
          `a control command of ${chain.readableBytes} readable and ${chain.writableBytes} writable bytes`,
          queue.index,
        );
        break;
      }
      this.#framing.control(chain, queue.index);
      const problem = carryOut(chain, this.#settings);
      if (problem) {
        const command = `${chain.readByte(0)}.${chain.readByte(1)}`;
        core.report(RULE, `control command ${command}: ${problem}`, queue.index);
      }
      chain.writeByte(0, problem === undefined ? NET_CTRL_ACK.ok : NET_CTRL_ACK.err);
      queue.pushUsed(id, 1);
      moved++;
    }
    if (moved > 0) queue.publish();
    return moved;
  }
}
