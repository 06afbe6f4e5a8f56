/**
 * The vhost-user protocol's numbers and layouts, as its specification (`docs/interop/vhost-user.rst` in QEMU) has them, and where it
 * leaves padding to the C compiler, as QEMU, DPDK and rust-vmm have it on 64-bit machines.
 *
 * Offsets count from the end of the 12-byte message header. Data is in the host's byte order, which is little-endian on the
 * machines that this library runs on.
 *
 * @module
 */
import { Struct, u16, u32, u64, u8 } from "../../wire/mod.ts";

/** Requests of the front end (`VhostUserRequest`). */
export const REQUEST = {
  getFeatures: 1,
  setFeatures: 2,
  setOwner: 3,
  resetOwner: 4,
  setMemTable: 5,
  setLogBase: 6,
  setLogFd: 7,
  setVringNum: 8,
  setVringAddr: 9,
  setVringBase: 10,
  getVringBase: 11,
  setVringKick: 12,
  setVringCall: 13,
  setVringErr: 14,
  getProtocolFeatures: 15,
  setProtocolFeatures: 16,
  getQueueNum: 17,
  setVringEnable: 18,
  sendRarp: 19,
  netSetMtu: 20,
  setBackendReqFd: 21,
  iotlbMsg: 22,
  setVringEndian: 23,
  getConfig: 24,
  setConfig: 25,
  createCryptoSession: 26,
  closeCryptoSession: 27,
  postcopyAdvise: 28,
  postcopyListen: 29,
  postcopyEnd: 30,
  getInflightFd: 31,
  setInflightFd: 32,
  gpuSetSocket: 33,
  resetDevice: 34,
  vringKick: 35,
  getMaxMemSlots: 36,
  addMemReg: 37,
  remMemReg: 38,
  setStatus: 39,
  getStatus: 40,
  getSharedObject: 41,
  setDeviceStateFd: 42,
  checkDeviceState: 43,
  getShmemConfig: 44,
} as const;

/** Requests of the back end, on the socket of SET_BACKEND_REQ_FD (`VhostUserBackendRequest`). */
export const BACKEND_REQUEST = {
  iotlbMsg: 1,
  configChangeMsg: 2,
  vringHostNotifierMsg: 3,
  vringCall: 4,
  vringErr: 5,
  sharedObjectAdd: 6,
  sharedObjectRemove: 7,
  sharedObjectLookup: 8,
  shmemMap: 9,
  shmemUnmap: 10,
} as const;

/** Who sends the requests of a socket: the front end on the connection itself, the back end on that of SET_BACKEND_REQ_FD. */
export type Requester = "front-end" | "back-end";

const NAMES: Readonly<Record<Requester, ReadonlyMap<number, string>>> = {
  "front-end": names(REQUEST, ""),
  "back-end": names(BACKEND_REQUEST, "BACKEND_"),
};

function names(numbers: Readonly<Record<string, number>>, prefix: string): ReadonlyMap<number, string> {
  return new Map(
    Object.entries(numbers).map(([name, number]) => [
      number,
      prefix + name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase(),
    ]),
  );
}

/** Name of a request as the specification has it without `VHOST_USER_`, such as `SET_VRING_KICK` or `BACKEND_CONFIG_CHANGE_MSG`. */
export function requestName(request: number, by: Requester = "front-end"): string {
  return NAMES[by].get(request) ?? `${by} request ${request}`;
}

/** `flags` of a message. */
export const MESSAGE_FLAG = {
  versionMask: 0x3,
  /** The only version there is. */
  version: 0x1,
  reply: 0x4,
  /** With REPLY_ACK: a message that has no reply of its own is answered by a u64, 0 for success. */
  needReply: 0x8,
} as const;

/** The header of every message. */
export const messageHeader = new Struct("VhostUserHeader", 12, {
  request: u32(0),
  flags: u32(4),
  /** Of the payload alone. */
  payloadBytes: u32(8),
});

/** Size of the message header. */
export const HEADER_BYTES = 12;

/** Protocol features, as bits: those that either side of this library knows by name. */
export const PROTOCOL_FEATURE = {
  MQ: 1n << 0n,
  LOG_SHMFD: 1n << 1n,
  RARP: 1n << 2n,
  REPLY_ACK: 1n << 3n,
  MTU: 1n << 4n,
  BACKEND_REQ: 1n << 5n,
  CROSS_ENDIAN: 1n << 6n,
  CRYPTO_SESSION: 1n << 7n,
  PAGEFAULT: 1n << 8n,
  CONFIG: 1n << 9n,
  BACKEND_SEND_FD: 1n << 10n,
  HOST_NOTIFIER: 1n << 11n,
  INFLIGHT_SHMFD: 1n << 12n,
  RESET_DEVICE: 1n << 13n,
  INBAND_NOTIFICATIONS: 1n << 14n,
  CONFIGURE_MEM_SLOTS: 1n << 15n,
  STATUS: 1n << 16n,
  XEN_MMAP: 1n << 17n,
  SHARED_OBJECT: 1n << 18n,
  DEVICE_STATE: 1n << 19n,
  SHMEM: 1n << 20n,
} as const;

/** Names of protocol features by bit, for messages; `bit 40` for one without. */
export function protocolFeatureNames(bits: bigint): string[] {
  const found: string[] = [];
  for (let bit = 0n; bit < 64n; bit++) {
    if ((bits >> bit & 1n) === 0n) continue;
    const known = Object.entries(PROTOCOL_FEATURE).find(([, value]) => value === 1n << bit);
    found.push(known?.[0] ?? `bit ${bit}`);
  }
  return found;
}

/** Feature bits of GET_FEATURES and SET_FEATURES that are the transport's and no driver's. */
export const VHOST_FEATURE = {
  /** `VHOST_F_LOG_ALL`: what the back end writes is to be logged. */
  LOG_ALL: 1n << 26n,
  /** `VHOST_USER_F_PROTOCOL_FEATURES`: there are protocol features; rings begin disabled. */
  PROTOCOL_FEATURES: 1n << 30n,
} as const;

/** A single 64-bit number: features, counts, a ring and its descriptor (`vringFd`), the answer of REPLY_ACK. */
export const u64Message = new Struct("u64", 8, { value: u64(0) });

/** The u64 of SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR. */
export const VRING_FD = {
  indexMask: 0xffn,
  /** No descriptor comes along: the back end polls the ring, or calls nobody. */
  none: 0x100n,
} as const;

/** `struct vhost_vring_state`: SET_VRING_NUM, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_ENABLE. */
export const vringState = new Struct("vhost_vring_state", 8, { index: u32(0), num: u32(4) });

/**
 * What `num` of SET_VRING_BASE and GET_VRING_BASE holds for a packed ring. For a split ring it is the next available index alone, of 16 bits.
 */
export const PACKED_BASE = {
  availIndexMask: 0x7fff,
  availWrap: 0x8000,
  usedIndexShift: 16,
  usedWrap: 0x8000_0000,
} as const;

/** `struct vhost_vring_addr`. Addresses are the front end's user addresses (with IOTLB messages: IOVAs). */
export const vringAddr = new Struct("vhost_vring_addr", 40, {
  index: u32(0),
  flags: u32(4),
  /** Descriptor table, or packed descriptor ring. */
  descriptor: u64(8),
  /** Used ring, or the device's event suppression. */
  used: u64(16),
  /** Available ring, or the driver's event suppression. */
  available: u64(24),
  log: u64(32),
});

/** `vhost_vring_addr.flags`. */
export const VRING_ADDR_FLAG = { log: 1 } as const;

/** What SET_MEM_TABLE begins with; so many regions follow. */
export const memTable = new Struct("VhostUserMemory", 8, { count: u32(0), padding: u32(4) });

/** A region of the front end's memory; its file comes along. */
export const memRegion = new Struct("VhostUserMemoryRegion", 32, {
  guestAddress: u64(0),
  sizeBytes: u64(8),
  userAddress: u64(16),
  /** Where it begins in its file. */
  mmapOffset: u64(24),
});

/** ADD_MEM_REG and REM_MEM_REG: one region. */
export const singleMemRegion = new Struct("VhostUserMemRegMsg", 40, {
  padding: u64(0),
  guestAddress: u64(8),
  sizeBytes: u64(16),
  userAddress: u64(24),
  mmapOffset: u64(32),
});

/** SET_LOG_BASE. */
export const logBase = new Struct("VhostUserLog", 16, { mmapBytes: u64(0), mmapOffset: u64(8) });

/** GET_CONFIG and SET_CONFIG; the bytes follow, in a GET_CONFIG request as well (zeroes). An answer without them: it could not be done. */
export const configMessage = new Struct("VhostUserConfig", 12, {
  offset: u32(0),
  sizeBytes: u32(4),
  flags: u32(8),
});

/** `flags` of SET_CONFIG: by a driver, or for a machine that moves. */
export const CONFIG_FLAG = { writable: 0, migration: 1 } as const;

/** GET_INFLIGHT_FD and SET_INFLIGHT_FD. C compilers pad it. */
export const inflightMessage = new Struct("VhostUserInflight", 24, {
  mmapBytes: u64(0),
  mmapOffset: u64(8),
  queueCount: u16(16),
  queueSize: u16(18),
  padding: u32(20),
});

/** In the memory of GET_INFLIGHT_FD: what the region of a split queue begins with; `queueSize` descriptors follow. */
export const inflightSplitQueue = new Struct("QueueRegionSplit", 16, {
  features: u64(0),
  /** 1; 0: the memory is new. */
  version: u16(8),
  descriptorCount: u16(10),
  lastBatchHead: u16(12),
  usedIndex: u16(14),
});

/** State of a descriptor of a split queue. */
export const inflightSplitDescriptor = new Struct("DescStateSplit", 16, {
  /** 1 for the head of a chain that was taken and not given back. */
  inflight: u8(0),
  next: u16(6),
  /** In which order they were taken. */
  counter: u64(8),
});

/** What the region of a packed queue begins with. */
export const inflightPackedQueue = new Struct("QueueRegionPacked", 32, {
  features: u64(0),
  version: u16(8),
  descriptorCount: u16(10),
  freeHead: u16(12),
  oldFreeHead: u16(14),
  usedIndex: u16(16),
  oldUsedIndex: u16(18),
  usedWrap: u8(20),
  oldUsedWrap: u8(21),
});

/** State of a descriptor of a packed queue. */
export const inflightPackedDescriptor = new Struct("DescStatePacked", 32, {
  inflight: u8(0),
  next: u16(2),
  last: u16(4),
  /** Descriptors of the chain. */
  count: u16(6),
  counter: u64(8),
  id: u16(16),
  flags: u16(18),
  lengthBytes: u32(20),
  address: u64(24),
});

/** VERSION of the structures of GET_INFLIGHT_FD. */
export const INFLIGHT_VERSION = 1;

/** BACKEND_VRING_HOST_NOTIFIER_MSG. */
export const vringArea = new Struct("VhostUserVringArea", 24, {
  /** As `VRING_FD`. */
  value: u64(0),
  sizeBytes: u64(8),
  offset: u64(16),
});

/** SET_DEVICE_STATE_FD. */
export const deviceStateTransfer = new Struct("VhostUserTransferDeviceState", 8, {
  direction: u32(0),
  phase: u32(4),
});

/** Limits, where the protocol or its implementations have some. */
export const LIMIT = {
  /** Regions of one SET_MEM_TABLE, and so descriptors of one message (`VHOST_MEMORY_BASELINE_NREGIONS`). */
  memRegions: 8,
  /** Descriptors beside one message. */
  messageFds: 8,
  /** Bytes of the config space (`VHOST_USER_MAX_CONFIG_SIZE`). */
  configBytes: 256,
  /** Rings that `VRING_FD.indexMask` can tell apart. */
  vrings: 256,
  /** Regions that either side of this library keeps with CONFIGURE_MEM_SLOTS (QEMU asks for as many as it has slots: 509). */
  memSlots: 509,
  /** A message, header included. The largest known are tables of memory and of config space. */
  messageBytes: 4096,
} as const;
