/** The vhost-user front end and the network driver against passt, which answers as a network does: who has an address, and which one is given. */
import { assert, assertEquals } from "@std/assert";
import { VirtioNet } from "../../drivers/net/virtio_net.ts";
import { openHost } from "../../lib/host/mod.ts";
import { openTransport } from "../../lib/virtio/mod.ts";
import { peerTest } from "./rig/needing.ts";
import { PASST, startPasst } from "./rig/passt.ts";
import { PeerError } from "./rig/peer.ts";

const OWN_MAC = [0x52, 0x54, 0, 1, 2, 3];
const BROADCAST = new Array<number>(6).fill(255);
const ETHER = { ipv4: [8, 0], arp: [8, 6] } as const;

function arpRequest(): Uint8Array<ArrayBuffer> {
  const request = [0, 1, ...ETHER.ipv4, 6, 4, 0, 1];
  const asked = [...OWN_MAC, ...PASST.address, 0, 0, 0, 0, 0, 0, ...PASST.gateway];
  return padded([...BROADCAST, ...OWN_MAC, ...ETHER.arp, ...request, ...asked], 60);
}

/** DHCPDISCOVER of RFC 2131. */
function dhcpDiscover(): Uint8Array<ArrayBuffer> {
  const bootp = padded(
    [1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, ...new Array<number>(20).fill(0), ...OWN_MAC],
    236,
  );
  const options = [0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255];
  const payload = padded([...bootp, ...options], 300);
  const udp = [0, 68, 0, 67, ...word(8 + payload.length), 0, 0, ...payload];
  const header = [
    0x45,
    0,
    ...word(20 + udp.length),
    0,
    0,
    0,
    0,
    64,
    17,
    0,
    0,
    0,
    0,
    0,
    0,
    255,
    255,
    255,
    255,
  ];
  header.splice(10, 2, ...word(checksum(header)));
  return Uint8Array.from([...BROADCAST, ...OWN_MAC, ...ETHER.ipv4, ...header, ...udp]);
}

/** Of an IPv4 header. */
function checksum(bytes: readonly number[]): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes[at]! << 8 | bytes[at + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function word(value: number): [number, number] {
  return [value >> 8, value & 255];
}

function padded(bytes: readonly number[], length: number): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(length);
  all.set(bytes);
  return all;
}

/** Sends a frame and takes what comes until an answer is among it. */
async function ask(
  net: VirtioNet,
  request: Uint8Array,
  isAnswer: (frame: Uint8Array) => boolean,
): Promise<Uint8Array> {
  assert(net.send(request));
  for (;;) {
    const frame = await net.receive(5000);
    if (frame === undefined) throw new PeerError("passt does not answer");
    if (isAnswer(frame)) return frame;
  }
}

function hasType(frame: Uint8Array, type: readonly [number, number]): boolean {
  return frame[12] === type[0] && frame[13] === type[1];
}

peerTest(["passt", "user namespaces"], "it says who has its address, and gives one away", async (folder) => {
  const socket = `${folder}/passt.sock`;
  await using _passt = await startPasst(socket);
  for (const mergeable of [true, false]) {
    using host = openHost(`vhost-user:${socket},type=net`);
    using device = host.openVhostUser!("net");
    using transport = openTransport(device);
    await using net = await VirtioNet.open(transport, { mergeable });
    assertEquals(net.featureNames.includes("VIRTIO_NET_F_MRG_RXBUF"), mergeable);
    const arp = await ask(net, arpRequest(), (frame) => hasType(frame, ETHER.arp));
    // A reply, from the gateway's addresses to the machine's.
    assertEquals([...arp.subarray(20, 42)], [
      0,
      2,
      ...PASST.mac,
      ...PASST.gateway,
      ...OWN_MAC,
      ...PASST.address,
    ]);
    const isOffer = (frame: Uint8Array) => hasType(frame, ETHER.ipv4) && frame[23] === 17 && frame[37] === 68;
    const offer = await ask(net, dhcpDiscover(), isOffer);
    const bootp = offer.subarray(42);
    assertEquals([...bootp.subarray(4, 8)], [0x12, 0x34, 0x56, 0x78]);
    assertEquals([...bootp.subarray(16, 20)], [...PASST.address]);
  }
});
