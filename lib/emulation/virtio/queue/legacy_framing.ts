/**
 * How a legacy driver that did not accept ANY_LAYOUT must cut its buffers into descriptors (virtio 1.2 §2.7.4.3, §5.1.6.6, §5.2.6.4).
 *
 * This library's devices take any framing, so what is found is only reported, once for each queue and driver.
 *
 * @module
 */
import { BLK_HEADER_BYTES } from "../../../virtio/spec/blk.ts";
import { FEATURE } from "../../../virtio/spec/features.ts";
import { NET_CTRL_CLASS, NET_CTRL_MAC } from "../../../virtio/spec/net.ts";
import type { DeviceCore } from "../../device_model.ts";
import type { Chain } from "./chain.ts";

const NET_RULE = "virtio 1.2 §5.1.6.6";
const BLK_RULE = "virtio 1.2 §5.2.6.4";
/** Looks at the chains of one device. */
export class LegacyFraming {
  #core: DeviceCore | null = null;
  /** Queues that were reported. */
  readonly #reported = new Set<number>();

  /** A driver starts. Watches only a legacy one that did not accept ANY_LAYOUT. */
  start(core: DeviceCore): void {
    const { negotiatedFeatures } = core;
    this.#core = core.legacy && (negotiatedFeatures & FEATURE.ANY_LAYOUT) === 0n ? core : null;
    this.#reported.clear();
  }

  /** The driver is gone. */
  stop(): void {
    this.#core = null;
  }

  /** It watches a driver. */
  get watches(): boolean {
    return this.#core !== null;
  }

  /** The device-readable part begins with a header in a descriptor of its own. */
  transmit(chain: Chain, queue: number, headerBytes: number): void {
    if (this.#core === null || ownSegment(chain, 0, headerBytes)) return;
    this.#report(NET_RULE, queue, `virtio_net_hdr lies in a descriptor of ${chain.lengths[0]} bytes`);
  }

  /** The same of the device-writable part, which is all of a receive buffer. */
  receive(chain: Chain, queue: number, headerBytes: number): void {
    if (this.#core === null || ownSegment(chain, chain.readableCount, headerBytes)) return;
    const bytes = chain.lengths[chain.readableCount];
    this.#report(NET_RULE, queue, `virtio_net_hdr lies in a descriptor of ${bytes} bytes`);
  }

  /** A control command: class and command, data, ack, each in descriptors of their own. */
  control(chain: Chain, queue: number): void {
    if (this.#core === null) return;
    const data = chain.readableBytes > 2 ? chain.readableCount - 1 : 0;
    const tables = chain.readByte(0) === NET_CTRL_CLASS.mac && chain.readByte(1) === NET_CTRL_MAC.tableSet;
    const most = tables ? 2 : 1;
    let problem: string | undefined;
    if (chain.lengths[0] !== 2) {
      problem = `class and command lie in a descriptor of ${chain.lengths[0]} bytes`;
    } else if (data > most || (tables && data < most)) {
      problem = `data in ${data} descriptors instead of ${most}`;
    } else if (chain.count - chain.readableCount !== 1 || chain.writableBytes !== 1) {
      problem = `ack in ${chain.writableBytes} device-writable bytes`;
    }
    if (problem !== undefined) this.#report(NET_RULE, queue, problem);
  }

  /**
   * A block request: header, data, status, each in descriptors of their own. Of the header the standard says 8 bytes, which is the sector alone;
   * with type and reserved it has 16.
   */
  request(chain: Chain, queue: number): void {
    if (this.#core === null) return;
    if (!ownSegment(chain, 0, BLK_HEADER_BYTES)) {
      this.#report(BLK_RULE, queue, `the request's header lies in a descriptor of ${chain.lengths[0]} bytes`);
    } else if (chain.lengths[chain.count - 1] !== 1) {
      this.#report(BLK_RULE, queue, `status lies in a descriptor of ${chain.lengths[chain.count - 1]} bytes`);
    }
  }

  #report(rule: string, queue: number, problem: string): void {
    if (this.#reported.has(queue)) return;
    this.#reported.add(queue);
    this.#core?.report(rule, `without ANY_LAYOUT: ${problem} (said once)`, queue);
  }
}

/** True when a descriptor of exactly so many bytes is there, or one that two mappings cut in two. */
function ownSegment(chain: Chain, at: number, bytes: number): boolean {
  const length = chain.lengths[at]!;
  if (length === bytes) return true;
  return length < bytes && chain.offsets[at]! + length === chain.regions[at]!.sizeBytes;
}
