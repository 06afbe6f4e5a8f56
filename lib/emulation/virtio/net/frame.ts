/**
 * A frame on its way from one port to others: still in its sender's memory.
 *
 * @module
 */
import { NET_HDR_BYTES } from "../../../virtio/spec/net.ts";
import { Chain } from "../queue/chain.ts";
import { macHigh, macLow } from "./mac_address.ts";

/** Ethernet and VLAN header, IPv6 header, ports. */
const HEAD_BYTES = NET_HDR_BYTES + 18 + 40 + 4;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_VLAN = 0x8100;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;

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
  /** Virtio header and first headers of the frame; `headBytes` of it are valid. */
  readonly head: Uint8Array<ArrayBuffer> = new Uint8Array(HEAD_BYTES);
  /** Valid bytes of `head`. */
  headBytes = 0;
  #flow = -1;

  /** None yet. @param maxDescriptors largest transmit queue */
  constructor(maxDescriptors: number) {
    this.chain = new Chain(maxDescriptors);
  }

  /** Reads the headers of the frame in `chain`. Its length is negative when not even the virtio header is there. @param headerBytes of the latter */
  load(headerBytes: number = NET_HDR_BYTES): void {
    this.headerBytes = headerBytes;
    this.lengthBytes = this.chain.readableBytes - headerBytes;
    this.headBytes = this.chain.peek(this.head);
    this.destinationHigh = macHigh(this.head, headerBytes);
    this.destinationLow = macLow(this.head, headerBytes);
    this.#flow = -1;
  }

  /** The frame carries a VLAN tag. */
  get tagged(): boolean {
    return this.#word(this.headerBytes + 12) === ETHERTYPE_VLAN;
  }

  /**
   * A number from 0 to 2^31 − 1 that is the same for both directions of a flow: made of the IP addresses, the protocol and the TCP or UDP
   * ports, or for other frames of the MAC addresses and the type.
   */
  get flow(): number {
    if (this.#flow < 0) this.#flow = this.#hash();
    return this.#flow;
  }

  #word(at: number): number {
    return at + 2 > this.headBytes ? 0 : this.head[at]! << 8 | this.head[at + 1]!;
  }

  /** The exclusive or of two fields of `words` × 16 bits: the same whichever of them is the source. */
  #symmetric(first: number, second: number, words: number, seed: number): number {
    let hash = seed;
    for (let i = 0; i < words; i++) {
      hash = Math.imul(hash ^ this.#word(first + 2 * i) ^ this.#word(second + 2 * i), 0x01000193);
    }
    return hash;
  }

  #hash(): number {
    let at = this.headerBytes + 12;
    let type = this.#word(at);
    if (type === ETHERTYPE_VLAN) {
      at += 4;
      type = this.#word(at);
    }
    at += 2;
    let hash: number, protocol: number, ports: number;
    if (type === ETHERTYPE_IPV4) {
      hash = this.#symmetric(at + 12, at + 16, 2, type);
      protocol = at + 10 > this.headBytes ? 0 : this.head[at + 9]!;
      // Fragments have no ports, so the whole datagram goes by its addresses.
      const fragment = (this.#word(at + 6) & 0x3fff) !== 0;
      ports = fragment ? -1 : at + 4 * (this.head[at]! & 15);
    } else if (type === ETHERTYPE_IPV6) {
      hash = this.#symmetric(at + 8, at + 24, 8, type);
      protocol = at + 7 > this.headBytes ? 0 : this.head[at + 6]!;
      ports = at + 40;
    } else {
      hash = this.#symmetric(this.headerBytes, this.headerBytes + 6, 3, type);
      protocol = 0;
      ports = -1;
    }
    hash = Math.imul(hash ^ protocol, 0x01000193);
    if (ports >= 0 && (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP)) {
      hash = this.#symmetric(ports, ports + 2, 1, hash);
    }
    hash ^= hash >>> 15;
    return (Math.imul(hash, 0x85ebca6b) >>> 8) & 0x7fff_ffff;
  }
}
