/**
 * Which flow a frame belongs to, and which queue pair its driver sends it on.
 *
 * @module
 */

/** Ethernet and VLAN header, IPv6 header, ports. */
export const FLOW_BYTES = 18 + 40 + 4;
const MAC_HEADER_BYTES = 12;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_VLAN = 0x8100;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
/** Flows whose queue pair is remembered; a power of two. */
const FLOWS = 1024;

/** The frame at `at` carries a VLAN tag. @param end of what may be read */
export function isTagged(bytes: Uint8Array, at: number, end: number): boolean {
  return word(bytes, at + MAC_HEADER_BYTES, end) === ETHERTYPE_VLAN;
}

/**
 * A number from 0 to 2^31 − 1 that is the same for both directions of a flow: made of the IP addresses, the protocol and the TCP or UDP
 * ports, or for other frames of the MAC addresses and the type.
 * @param at where the frame begins @param end of what may be read: `FLOW_BYTES` further is enough
 */
export function flowOf(bytes: Uint8Array, at: number, end: number): number {
  const macs = at;
  at += MAC_HEADER_BYTES;
  let type = word(bytes, at, end);
  if (type === ETHERTYPE_VLAN) {
    at += 4;
    type = word(bytes, at, end);
  }
  at += 2;
  let hash: number, protocol: number, ports: number;
  if (type === ETHERTYPE_IPV4) {
    hash = symmetric(bytes, end, at + 12, at + 16, 2, type);
    protocol = at + 10 > end ? 0 : bytes[at + 9]!;
    // Fragments have no ports, so the whole datagram goes by its addresses.
    const fragment = (word(bytes, at + 6, end) & 0x3fff) !== 0;
    ports = fragment || at >= end ? -1 : at + 4 * (bytes[at]! & 15);
  } else if (type === ETHERTYPE_IPV6) {
    hash = symmetric(bytes, end, at + 8, at + 24, 8, type);
    protocol = at + 7 > end ? 0 : bytes[at + 6]!;
    ports = at + 40;
  } else {
    hash = symmetric(bytes, end, macs, macs + 6, 3, type);
    protocol = 0;
    ports = -1;
  }
  hash = Math.imul(hash ^ protocol, 0x01000193);
  if (ports >= 0 && (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP)) {
    hash = symmetric(bytes, end, ports, ports + 2, 1, hash);
  }
  hash ^= hash >>> 15;
  return (Math.imul(hash, 0x85ebca6b) >>> 8) & 0x7fff_ffff;
}

/** 16 bits in network order; 0 past the end. */
function word(bytes: Uint8Array, at: number, end: number): number {
  return at + 2 > end ? 0 : bytes[at]! << 8 | bytes[at + 1]!;
}

/** The exclusive or of two fields of `words` × 16 bits: the same whichever of them is the source. */
function symmetric(
  bytes: Uint8Array,
  end: number,
  first: number,
  second: number,
  words: number,
  seed: number,
): number {
  let hash = seed;
  for (let i = 0; i < words; i++) {
    hash = Math.imul(
      hash ^ word(bytes, first + 2 * i, end) ^ word(bytes, second + 2 * i, end),
      0x01000193,
    );
  }
  return hash;
}

/** Queue pairs by flow. */
export class FlowTable {
  /** Queue pair + 1 that the driver sent a flow on last. */
  readonly #pairs = new Uint16Array(FLOWS);

  /** Forgets all. */
  clear(): void {
    this.#pairs.fill(0);
  }

  /** The driver sent a frame of this flow on this pair. */
  note(flow: number, pair: number): void {
    this.#pairs[flow & (FLOWS - 1)] = pair + 1;
  }

  /** The pair that the driver last sent the same flow on; a flow that it never sent on goes to pair `flow mod pairs`. */
  pairOf(flow: number, pairs: number): number {
    const remembered = this.#pairs[flow & (FLOWS - 1)]!;
    return remembered > 0 && remembered <= pairs ? remembered - 1 : flow % pairs;
  }
}
