/** The least of an IPv4 host on a function that Ringside drives: it answers ARP and echo requests, and makes its own. */
import type { NetDevice } from "../../../drivers/net/virtio_net.ts";

const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806 } as const;
const ICMP = 1;
const ECHO_REQUEST = 8;
const ECHO_REPLY = 0;
const BROADCAST = new Uint8Array(6).fill(0xff);
const IP_AT = 14;
const ICMP_AT = IP_AT + 20;
const RETRY_MS = 300;

/** What the peer is to ask of one address. */
export interface EchoTask {
  /** Our own address on the link. */
  readonly from: string;
  readonly to: string;
  /** Payload of each request, in turn. */
  readonly payloads: readonly Uint8Array[];
}

/** How far an `EchoTask` is. */
interface Progress {
  readonly task: EchoTask;
  mac: Uint8Array | undefined;
  /** Requests answered, byte for byte. */
  answered: number;
  /** When the last request went out. */
  askedAt: number;
}

/** Answers for some addresses, and sends echo requests one after the other. */
export class IcmpPeer {
  /** ARP requests and echo requests that were answered. */
  readonly answered = { arp: 0, echo: 0 };
  readonly #net: NetDevice;
  readonly #progress: readonly Progress[];
  readonly #askAfter: number;

  /** @param askAfter how many echo requests are answered before the first is made */
  constructor(net: NetDevice, tasks: readonly EchoTask[], askAfter: number) {
    this.#net = net;
    this.#askAfter = askAfter;
    this.#progress = tasks.map((task) => ({ task, mac: undefined, answered: 0, askedAt: -Infinity }));
  }

  /** Echo requests that were answered as they should be, by task. */
  get echoes(): number[] {
    return this.#progress.map((one) => one.answered);
  }

  /** Serves the link until it is told to stop. @throws Error for a wrong byte in an answer */
  async run(stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      const frame = await this.#net.receive(50);
      if (frame !== undefined) this.#take(frame);
      if (this.answered.echo >= this.#askAfter) { for (const one of this.#progress) this.#ask(one); }
    }
  }

  #ask(one: Progress): void {
    const { task } = one;
    // Before the guest's link is up nothing is answered, so it is asked again.
    if (one.answered === task.payloads.length || performance.now() - one.askedAt < RETRY_MS) return;
    one.askedAt = performance.now();
    this.#net.send(one.mac === undefined ? this.#arpRequest(task) : this.#request(one, one.mac));
  }

  #arpRequest(task: EchoTask): Uint8Array {
    return arp(1, this.#net.mac, BROADCAST, address(task.from), new Uint8Array(6), address(task.to));
  }

  #request(one: Progress, mac: Uint8Array): Uint8Array {
    const { task, answered } = one;
    const ends = { from: address(task.from), to: address(task.to) };
    const icmp = echo(ECHO_REQUEST, 0x5253, answered, task.payloads[answered]!);
    return ethernet(mac, this.#net.mac, ETHERTYPE.ipv4, ipv4(ends.from, ends.to, icmp));
  }

  #take(frame: Uint8Array): void {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    const type = view.getUint16(12);
    if (type === ETHERTYPE.arp && frame.length >= 42) this.#takeArp(frame, view);
    if (type === ETHERTYPE.ipv4 && frame.length >= ICMP_AT + 8 && frame[IP_AT + 9] === ICMP) {
      this.#takeIcmp(frame, view);
    }
  }

  #takeArp(frame: Uint8Array, view: DataView): void {
    const [senderMac, sender] = [frame.slice(22, 28), frame.slice(28, 32)];
    const target = frame.slice(38, 42);
    for (const one of this.#progress) {
      if (!same(address(one.task.from), target)) continue;
      if (same(address(one.task.to), sender)) one.mac = senderMac;
      if (view.getUint16(20) !== 1) continue;
      this.answered.arp++;
      this.#net.send(arp(2, this.#net.mac, senderMac, target, senderMac, sender));
    }
  }

  #takeIcmp(frame: Uint8Array, view: DataView): void {
    const [sender, target] = [frame.slice(IP_AT + 12, IP_AT + 16), frame.slice(IP_AT + 16, IP_AT + 20)];
    const one = this.#progress.find(({ task }) =>
      same(address(task.from), target) && same(address(task.to), sender)
    );
    if (one === undefined) return;
    const length = view.getUint16(IP_AT + 2);
    const packet = frame.subarray(IP_AT, IP_AT + length);
    const icmp = packet.subarray(20);
    if (icmp[0] === ECHO_REQUEST) {
      this.answered.echo++;
      const answer = icmp.slice();
      answer[0] = ECHO_REPLY;
      const back = ipv4(target, sender, withChecksum(answer, 2));
      this.#net.send(ethernet(frame.slice(6, 12), this.#net.mac, ETHERTYPE.ipv4, back));
    } else if (icmp[0] === ECHO_REPLY && one.answered < one.task.payloads.length) {
      const wanted = echo(ECHO_REPLY, 0x5253, one.answered, one.task.payloads[one.answered]!);
      if (checksum(packet.subarray(0, 20)) !== 0) throw new Error("an IP header with a wrong checksum");
      // The answer to a request that was sent twice.
      if (view.getUint16(ICMP_AT + 6) < one.answered) return;
      if (!same(icmp, wanted)) {
        throw new Error(
          `echo reply ${one.answered} of ${one.task.to}: ${icmp.toHex()} is not ${wanted.toHex()}`,
        );
      }
      one.answered++;
      one.askedAt = -Infinity;
    }
  }
}

/** An echo request as it is on the wire, and the ICMP message of the answer to it. */
export function echoExchange(
  macs: { readonly from: Uint8Array; readonly to: Uint8Array },
  ends: { readonly from: string; readonly to: string },
  sequence: number,
  payload: Uint8Array,
  id = 0x5253,
): { readonly frame: Uint8Array; readonly answer: Uint8Array } {
  const icmp = echo(ECHO_REQUEST, id, sequence, payload);
  const packet = ipv4(address(ends.from), address(ends.to), icmp);
  return {
    frame: ethernet(macs.to, macs.from, ETHERTYPE.ipv4, packet),
    answer: echo(ECHO_REPLY, id, sequence, payload),
  };
}

/** The ICMP message in an IPv4 frame; undefined for any other. */
export function icmpOf(frame: Uint8Array): Uint8Array | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  if (frame.length < ICMP_AT + 8 || view.getUint16(12) !== ETHERTYPE.ipv4) return undefined;
  if (frame[IP_AT + 9] !== ICMP) return undefined;
  return frame.subarray(ICMP_AT, IP_AT + view.getUint16(IP_AT + 2));
}

function arp(
  operation: number,
  from: Uint8Array,
  to: Uint8Array,
  senderAddress: Uint8Array,
  targetMac: Uint8Array,
  targetAddress: Uint8Array,
): Uint8Array {
  const body = new Uint8Array(28);
  // Ethernet, IPv4, lengths of their addresses.
  body.set([0, 1, 8, 0, 6, 4, 0, operation]);
  body.set(from, 8);
  body.set(senderAddress, 14);
  body.set(targetMac, 18);
  body.set(targetAddress, 24);
  return ethernet(to, from, ETHERTYPE.arp, body);
}

function ethernet(to: Uint8Array, from: Uint8Array, type: number, body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(Math.max(14 + body.length, 60));
  frame.set(to);
  frame.set(from, 6);
  new DataView(frame.buffer).setUint16(12, type);
  frame.set(body, 14);
  return frame;
}

function ipv4(from: Uint8Array, to: Uint8Array, body: Uint8Array): Uint8Array {
  const packet = new Uint8Array(20 + body.length);
  packet.set([0x45, 0, packet.length >> 8, packet.length & 0xff, 0, 0, 0x40, 0, 64, ICMP]);
  packet.set(from, 12);
  packet.set(to, 16);
  withChecksum(packet.subarray(0, 20), 10);
  packet.set(body, 20);
  return packet;
}

function echo(type: number, id: number, sequence: number, payload: Uint8Array): Uint8Array {
  const message = new Uint8Array(8 + payload.length);
  message.set([type, 0, 0, 0, id >> 8, id & 0xff, sequence >> 8, sequence & 0xff]);
  message.set(payload, 8);
  return withChecksum(message, 2);
}

function withChecksum(bytes: Uint8Array, at: number): Uint8Array {
  bytes[at] = bytes[at + 1] = 0;
  const sum = checksum(bytes);
  bytes[at] = sum >> 8;
  bytes[at + 1] = sum & 0xff;
  return bytes;
}

/** RFC 1071; 0 over bytes that carry their right checksum. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function address(text: string): Uint8Array {
  return Uint8Array.from(text.split(".").map(Number));
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
