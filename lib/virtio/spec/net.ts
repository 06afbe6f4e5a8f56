/**
 * Network device (virtio 1.2 §5.1, with the later bits of 1.4).
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { Struct, u16, u32, u8 } from "../../wire/mod.ts";
import { DEVICE_ID } from "./device_id.ts";
import type { DeviceType } from "./device_type.ts";
import { masks } from "./masks.ts";

/** Bit numbers of `VIRTIO_NET_F_*` below 64. */
export const NET_FEATURE_BIT = {
  CSUM: 0,
  GUEST_CSUM: 1,
  CTRL_GUEST_OFFLOADS: 2,
  MTU: 3,
  MAC: 5,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  GUEST_ECN: 9,
  GUEST_UFO: 10,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  HOST_ECN: 13,
  HOST_UFO: 14,
  MRG_RXBUF: 15,
  STATUS: 16,
  CTRL_VQ: 17,
  CTRL_RX: 18,
  CTRL_VLAN: 19,
  CTRL_RX_EXTRA: 20,
  GUEST_ANNOUNCE: 21,
  MQ: 22,
  CTRL_MAC_ADDR: 23,
  DEVICE_STATS: 50,
  HASH_TUNNEL: 51,
  VQ_NOTF_COAL: 52,
  NOTF_COAL: 53,
  GUEST_USO4: 54,
  GUEST_USO6: 55,
  HOST_USO: 56,
  HASH_REPORT: 57,
  GUEST_HDRLEN: 59,
  RSS: 60,
  RSC_EXT: 61,
  STANDBY: 62,
  SPEED_DUPLEX: 63,
} as const;

/** Name of a feature of the network device, without its `VIRTIO_NET_F_`. */
export type NetFeatureName = keyof typeof NET_FEATURE_BIT;

/** The same as masks: `NET_FEATURE.MAC` is `1n << 5n`. */
export const NET_FEATURE: Readonly<Record<NetFeatureName, bigint>> = masks(NET_FEATURE_BIT);

/**
 * Bits that need other bits (virtio 1.4 §5.1.3.1): `requires` lists alternatives, each a set that must be there as a whole.
 * CTRL_RX_EXTRA is not in the standard's list ("SHOULD NOT" without CTRL_VQ only).
 */
export const NET_FEATURE_REQUIRES: readonly {
  readonly feature: NetFeatureName;
  readonly requires: readonly (readonly NetFeatureName[])[];
}[] = [
  { feature: "GUEST_TSO4", requires: [["GUEST_CSUM"]] },
  { feature: "GUEST_TSO6", requires: [["GUEST_CSUM"]] },
  { feature: "GUEST_ECN", requires: [["GUEST_TSO4"], ["GUEST_TSO6"]] },
  { feature: "GUEST_UFO", requires: [["GUEST_CSUM"]] },
  { feature: "GUEST_USO4", requires: [["GUEST_CSUM"]] },
  { feature: "GUEST_USO6", requires: [["GUEST_CSUM"]] },
  { feature: "HOST_TSO4", requires: [["CSUM"]] },
  { feature: "HOST_TSO6", requires: [["CSUM"]] },
  { feature: "HOST_ECN", requires: [["HOST_TSO4"], ["HOST_TSO6"]] },
  { feature: "HOST_UFO", requires: [["CSUM"]] },
  { feature: "HOST_USO", requires: [["CSUM"]] },
  { feature: "CTRL_RX", requires: [["CTRL_VQ"]] },
  { feature: "CTRL_VLAN", requires: [["CTRL_VQ"]] },
  { feature: "GUEST_ANNOUNCE", requires: [["CTRL_VQ"]] },
  { feature: "MQ", requires: [["CTRL_VQ"]] },
  { feature: "CTRL_MAC_ADDR", requires: [["CTRL_VQ"]] },
  { feature: "NOTF_COAL", requires: [["CTRL_VQ"]] },
  { feature: "VQ_NOTF_COAL", requires: [["CTRL_VQ"]] },
  { feature: "RSC_EXT", requires: [["HOST_TSO4"], ["HOST_TSO6"]] },
  { feature: "RSS", requires: [["CTRL_VQ"]] },
  { feature: "HASH_TUNNEL", requires: [["CTRL_VQ", "RSS"], ["CTRL_VQ", "HASH_REPORT"]] },
];

/** `struct virtio_net_config`, 28 bytes with every field; `mac` as six bytes. */
export const NET_CONFIG = new Struct("virtio_net_config", 28, {
  mac0: u8(0),
  mac1: u8(1),
  mac2: u8(2),
  mac3: u8(3),
  mac4: u8(4),
  mac5: u8(5),
  /** With STATUS: bit 0 link up, bit 1 announce. */
  status: u16(6),
  /** With MQ or RSS: 1 to 0x8000. */
  max_virtqueue_pairs: u16(8),
  /** With MTU: 68 to 65535 bytes. */
  mtu: u16(10),
  /** With SPEED_DUPLEX: Mbit/s, 0xffffffff unknown. */
  speed: u32(12),
  /** With SPEED_DUPLEX: 1 full, 0 half, 0xff unknown. */
  duplex: u8(16),
  rss_max_key_size: u8(17),
  rss_max_indirection_table_length: u16(18),
  supported_hash_types: u32(20),
  supported_tunnel_types: u32(24),
});

/** `virtio_net_config.status`. */
export const NET_STATUS = { linkUp: 1, announce: 2 } as const;

/** `struct virtio_net_hdr` with VERSION_1 and without HASH_REPORT: 12 bytes before every frame, both ways. */
export const NET_HDR = new Struct("virtio_net_hdr", 12, {
  flags: u8(0),
  gso_type: u8(1),
  hdr_len: u16(2),
  gso_size: u16(4),
  csum_start: u16(6),
  csum_offset: u16(8),
  /** Receive: number of buffers that the frame takes; 1 without MRG_RXBUF. Transmit: 0. */
  num_buffers: u16(10),
});

/** Bytes of `virtio_net_hdr` as this library uses it. */
export const NET_HDR_BYTES = 12;

/** Bytes of `virtio_net_hdr` of a legacy device without MRG_RXBUF: it ends before `num_buffers` (virtio 1.4 §5.1.6.1). */
export const NET_HDR_LEGACY_BYTES = 10;

/** Class of a control command: the first byte of the device-readable part; the command is the second. */
export const NET_CTRL_CLASS = {
  rx: 0,
  mac: 1,
  vlan: 2,
  announce: 3,
  mq: 4,
  guestOffloads: 5,
  notfCoal: 6,
  hashTunnel: 7,
  stats: 8,
} as const;

/** Commands of class `rx`; data: one byte, 0 off, 1 on. The last four need CTRL_RX_EXTRA. */
export const NET_CTRL_RX = {
  promisc: 0,
  allmulti: 1,
  alluni: 2,
  nomulti: 3,
  nouni: 4,
  nobcast: 5,
} as const;

/**
 * Commands of class `mac`. `tableSet`: le32 count and so many unicast addresses of 6 bytes, then the same for multicast (needs CTRL_RX).
 * `addrSet`: 6 bytes (needs CTRL_MAC_ADDR).
 */
export const NET_CTRL_MAC = { tableSet: 0, addrSet: 1 } as const;
/** Commands of class `vlan`; data: le16 VLAN id. */
export const NET_CTRL_VLAN = { add: 0, del: 1 } as const;
/** Commands of class `announce`; no data. */
export const NET_CTRL_ANNOUNCE = { ack: 0 } as const;
/** Commands of class `mq`. `vqPairsSet`: le16 number of queue pairs. */
export const NET_CTRL_MQ = { vqPairsSet: 0, rssConfig: 1, hashConfig: 2 } as const;
/** The device-writable byte at the end of a control command. */
export const NET_CTRL_ACK = { ok: 0, err: 1 } as const;

/** Bytes of a MAC address. */
export const MAC_BYTES = 6;
/** `02:00:00:00:00:01`. */
export function formatMac(mac: Uint8Array): string {
  requireType(mac, "bytes", "formatMac: mac");
  return [...mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** Bytes of an Ethernet header without VLAN tag. */
export const ETHERNET_HEADER_BYTES = 14;

/** Queue numbers (virtio 1.2 §5.1.2): receive 0, 2, …; transmit 1, 3, …; control after the last pair of the maximum. */
export function netQueues(pair: number): { receive: number; transmit: number } {
  return { receive: 2 * pair, transmit: 2 * pair + 1 };
}

/** Number of the control queue: 2 × `max_virtqueue_pairs` with MQ negotiated, else 2. */
export function netControlQueue(maxPairs: number, mqNegotiated: boolean): number {
  return mqNegotiated ? 2 * maxPairs : 2;
}

/** The device type. */
export const NET_DEVICE: DeviceType = {
  id: DEVICE_ID.net,
  prefix: "VIRTIO_NET_F_",
  featureBits: NET_FEATURE_BIT,
  config: NET_CONFIG.fields,
  // SPEED_DUPLEX is bit 63: mtu is the last field that a legacy device can have.
  legacyConfigBytes: 12,
  // `mac` is an array of six bytes.
  arrays: [[0, MAC_BYTES]],
  optionalConfig: [
    ["STATUS", 6, 8],
    ["MQ", 8, 10],
    ["RSS", 8, 10],
    ["MTU", 10, 12],
    ["SPEED_DUPLEX", 12, 17],
    ["RSS", 17, 24],
    ["HASH_REPORT", 17, 18],
    ["HASH_REPORT", 20, 24],
    ["HASH_TUNNEL", 24, 28],
  ],
};
