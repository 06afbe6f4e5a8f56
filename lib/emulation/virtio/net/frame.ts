/**
 * A frame on its way from one port to others: still in its sender's memory.
 *
 * @module
 */
import { NET_HDR_BYTES } from "../../../virtio/spec/net.ts";
import { Chain } from "../queue/chain.ts";
import { FLOW_BYTES, flowOf, isTagged } from "./flow.ts";
import { macHigh, macLow } from "./mac_address.ts";

/** Bytes that are looked at. */
const HEAD_BYTES = NET_HDR_BYTES + FLOW_BYTES;

/** One frame, owned by its sender and filled in place again and again. */
export class NetFrame {
  /** The sender's chain: virtio header, then the frame. */
  readonly chain: Chain;
  /** Bytes of the virtio header: the frame begins behind them. */
  headerBytes: number = NET_HDR_BYTES;
  /** Bytes of the frame, without virtio header. */
  lengthBytes = 0;
  /** First two bytes of the destination address. */
  destinationHigh = 0;
  /** Last four bytes of the destination address. */
  destinationLow = 0;
  /** `flags` of the virtio header. */
  flags = 0;
  /** `gso_type` of the virtio header. */
  gsoType = 0;
  /** The frame carries a VLAN tag. */
  tagged = false;
  /** Virtio header and first headers of the frame, from `#at` to `#end`: in the sender's memory, or a copy when they lie in several buffers. */
  #head: Uint8Array<ArrayBuffer>;
  #at = 0;
  #end = 0;
  readonly #copy: Uint8Array<ArrayBuffer> = new Uint8Array(HEAD_BYTES);
  #flow = -1;

  /** None yet. @param maxDescriptors largest transmit queue */
  constructor(maxDescriptors: number) {
    this.chain = new Chain(maxDescriptors);
    this.#head = this.#copy;
  }

  /** Reads the headers of the frame in `chain`. Its length is negative when not even the virtio header is there. @param headerBytes of the latter */
  load(headerBytes: number = NET_HDR_BYTES): void {
    const { chain } = this;
    this.headerBytes = headerBytes;
    this.lengthBytes = chain.readableBytes - headerBytes;
    if (chain.readableCount > 0 && chain.lengths[0]! >= HEAD_BYTES) {
      this.#head = chain.regions[0]!.bytes;
      this.#at = chain.offsets[0]!;
      this.#end = this.#at + HEAD_BYTES;
    } else {
      this.#head = this.#copy;
      this.#at = 0;
      this.#end = chain.peek(this.#copy);
    }
    const head = this.#head, at = this.#at, frame = at + headerBytes;
    this.flags = head[at]!;
    this.gsoType = head[at + 1]!;
    this.destinationHigh = macHigh(head, frame);
    this.destinationLow = macLow(head, frame);
    this.tagged = isTagged(head, frame, this.#end);
    this.#flow = -1;
  }

  /** See `flowOf`. */
  get flow(): number {
    if (this.#flow < 0) this.#flow = flowOf(this.#head, this.#at + this.headerBytes, this.#end);
    return this.#flow;
  }
}
