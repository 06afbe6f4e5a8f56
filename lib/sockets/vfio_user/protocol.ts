/**
 * The vfio-user protocol's numbers and layouts, as its specification (`docs/interop/vfio-user.rst` in QEMU, earlier
 * `docs/vfio-user.rst` in libvfio-user) and both implementations have them.
 *
 * Offsets count from the end of the 16-byte message header. Data is in the host's byte order, which is little-endian on the
 * machines that this library runs on.
 *
 * @module
 */
import { requestHead } from "../../vfio/kernel/abi.ts";
import { Struct, u16, u32, u64 } from "../../wire/mod.ts";

/** Protocol version offered and accepted: the major must be equal, the lower minor counts. QEMU 11.1 speaks 0.0. */
export const PROTOCOL_VERSION = { major: 0, minor: 1 } as const;

/** `enum vfio_user_command`. Number 14 is QEMU's DIRTY_PAGES, which libvfio-user dropped. */
export const COMMAND = {
  version: 1,
  dmaMap: 2,
  dmaUnmap: 3,
  deviceGetInfo: 4,
  deviceGetRegionInfo: 5,
  deviceGetRegionIoFds: 6,
  deviceGetIrqInfo: 7,
  deviceSetIrqs: 8,
  regionRead: 9,
  regionWrite: 10,
  dmaRead: 11,
  dmaWrite: 12,
  deviceReset: 13,
  dirtyPages: 14,
  regionWriteMulti: 15,
  deviceFeature: 16,
  migDataRead: 17,
  migDataWrite: 18,
} as const;

/** Commands of this library's own, for peers that negotiated them. Their numbers are out of the way of what the specification may add. */
export const OWN_COMMAND = {
  /**
   * With the capability `ringside_map_area`: the file behind a part of a region that can be mapped for a while only, or not by everybody.
   */
  mapArea: 0xf5a1,
  /** With the capability `ringside_address_spaces`: DMA_MAP into another address space than 0, which `addressSpaceTail` names. */
  spaceMap: 0xf5a2,
  /** The same for DMA_UNMAP. */
  spaceUnmap: 0xf5a3,
} as const;

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries({ ...COMMAND, ...OWN_COMMAND }).map((
    [name, number],
  ) => [number, name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()]),
);

/** Name of a command as the specification has it without its prefix, such as `DEVICE_SET_IRQS`. */
export function commandName(command: number): string {
  return NAMES.get(command) ?? `command ${command}`;
}

/** `vfio_user_header.flags`. */
export const MESSAGE_FLAG = {
  typeMask: 0xf,
  typeCommand: 0,
  typeReply: 1,
  /** In a command: none is wanted. */
  noReply: 0x10,
  /** In a reply: the command failed, and `errorNumber` may say why. */
  error: 0x20,
  /** All bits that have a meaning. */
  known: 0x3f,
} as const;

/** `struct vfio_user_header`. */
export const messageHeader = new Struct("vfio_user_header", 16, {
  messageId: u16(0),
  command: u16(2),
  /** Of the whole message, header included. */
  messageBytes: u32(4),
  flags: u32(8),
  errorNumber: u32(12),
});

/** Size of the message header. */
export const HEADER_BYTES = 16;
/** Largest errno that a reply may carry (the kernel's MAX_ERRNO). */
export const MAX_ERROR_NUMBER = 4095;

/** `struct vfio_user_version`; JSON with a terminating NUL follows. */
export const versionMessage = new Struct("vfio_user_version", 4, { major: u16(0), minor: u16(2) });

/** `struct vfio_user_dma_map`. */
export const dmaMap = new Struct("vfio_user_dma_map", 32, {
  ...requestHead,
  /** In the file that comes along; 0 without one. */
  offset: u64(8),
  address: u64(16),
  size: u64(24),
});

/** What stands behind `vfio_user_dma_map` or `vfio_user_dma_unmap` in SPACE_MAP and SPACE_UNMAP; their `argsz` counts it. */
export const addressSpaceTail = new Struct("ringside_address_space", 8, { id: u32(0), reserved: u32(4) });

/** `vfio_user_dma_map.flags`; `mmap` and `fileIo` are libvfio-user's, and say how to use the file. */
export const DMA_MAP_FLAG = { read: 1, write: 2, mmap: 4, fileIo: 8 } as const;

/** `struct vfio_user_dma_unmap`; the reply repeats it. */
export const dmaUnmap = new Struct("vfio_user_dma_unmap", 24, {
  ...requestHead,
  address: u64(8),
  size: u64(16),
});

/** `vfio_user_dma_unmap.flags`. */
export const DMA_UNMAP_FLAG = { getDirtyBitmap: 1, all: 2 } as const;

/** `struct vfio_user_device_info`: the kernel's without its capabilities. */
export const userDeviceInfo = new Struct("vfio_user_device_info", 16, {
  ...requestHead,
  numRegions: u32(8),
  numIrqs: u32(12),
});

/** `struct vfio_user_region_access`; data follows in a write and in the reply to a read. */
export const regionAccess = new Struct("vfio_user_region_access", 16, {
  offset: u64(0),
  region: u32(8),
  count: u32(12),
});

/** `struct vfio_user_dma_region_access`; data follows in a write and in the reply to a read. */
export const dmaAccess = new Struct("vfio_user_dma_region_access", 16, { address: u64(0), count: u64(8) });

/** REGION_WRITE_MULTI: how many writes follow; the reply is this alone. */
export const writeMulti = new Struct("vfio_user_region_write_multi", 8, { writeCount: u64(0) });

/** One write of REGION_WRITE_MULTI; its data are the `count` first of the 8 bytes at 16. */
export const writeMultiEntry = new Struct("vfio_user_region_write_one", 24, {
  offset: u64(0),
  region: u32(8),
  count: u32(12),
  data: u64(16),
});

/** GET_REGION_IO_FDS, request and fixed part of the reply; sub-regions follow. */
export const regionIoFds = new Struct("vfio_user_region_io_fds", 16, {
  ...requestHead,
  index: u32(8),
  count: u32(12),
});

/** What both layouts of a sub-region begin with. */
const subRegionHead = {
  offset: u64(0),
  size: u64(8),
  fdIndex: u32(16),
  type: u32(20),
  flags: u32(24),
} as const;

/** A sub-region with an ioeventfd, as the specification has it: 40 bytes. libvfio-user's has 48, see `ioEventFdShadow`. */
export const ioEventFd = new Struct("vfio_user_sub_region_ioeventfd", 40, {
  ...subRegionHead,
  padding: u32(28),
  dataMatch: u64(32),
});

/** The same in libvfio-user since it has shadow ioeventfds: `dataMatch` moved. */
export const ioEventFdShadow = new Struct("vfio_user_sub_region_ioeventfd (shadow)", 48, {
  ...subRegionHead,
  shadowFdIndex: u32(28),
  shadowOffset: u64(32),
  dataMatch: u64(40),
});

/** `type` of a sub-region. */
export const IO_FD_TYPE = { ioEventFd: 0, ioRegionFd: 1, ioEventFdShadow: 2 } as const;
/** `flags` of an ioeventfd: KVM_IOEVENTFD_FLAG_*. */
export const IO_EVENT_FD_FLAG = { dataMatch: 1, pio: 2 } as const;

/** MAP_AREA, request and reply. The reply has the file beside it, and in `fileOffset` where the area begins in it. */
export const mapArea = new Struct("ringside_map_area", 40, {
  ...requestHead,
  index: u32(8),
  /** 0. */
  reserved: u32(12),
  /** Bytes from the region's start; whole pages. */
  offset: u64(16),
  size: u64(24),
  /** 0 in the request. */
  fileOffset: u64(32),
});

/** `ringside_map_area.flags`. In the request: the client will map it writable. In the reply: the file is open for that. */
export const MAP_AREA_FLAG = { write: 1 } as const;

/** DEVICE_FEATURE MIG_DEVICE_STATE (2): `struct vfio_user_device_feature_mig_state`. */
export const migrationState = new Struct("vfio_user_device_feature_mig_state", 8, {
  deviceState: u32(0),
  /** −1: the data go by messages. */
  dataFd: u32(4),
});

/** `device_state`: `enum vfio_device_mig_state`. */
export const MIGRATION_STATE = {
  error: 0,
  stop: 1,
  running: 2,
  stopCopy: 3,
  resuming: 4,
  runningP2p: 5,
  preCopy: 6,
} as const;

/** DEVICE_FEATURE MIGRATION (1): 64 bits of flags; bit 0 says that STOP_COPY can be done. */
export const MIGRATION_FLAG = { stopCopy: 1, p2p: 2, preCopy: 4 } as const;

/** MIG_DATA_READ and MIG_DATA_WRITE; data follows in the one's reply and in the other's request. */
export const migrationData = new Struct("vfio_user_mig_data", 8, { argsz: u32(0), size: u32(4) });

/** Limits: defaults of the specification, and what either side of this library takes at most. */
export const LIMIT = {
  /** Bytes of data in one transfer message. */
  dataTransferBytes: 1 << 20,
  /** Most that a peer's `max_data_xfer_size` counts for. */
  largestDataTransferBytes: 64 << 20,
  /**
   * Bytes of data that we write in one message. The kernel queues what is sent on a stream socket in pieces of 32 KiB and a little more, and
   * libvfio-user takes a message's payload with one `recv`, which may end with the first piece, whatever its `max_data_xfer_size`.
   */
  writeBytes: 32 << 10,
  /** Descriptors that a peer takes in one message when it does not say. */
  defaultMessageFds: 1,
  /** Descriptors that we take in one message. */
  messageFds: 64,
  /** DMA mappings at a time when the peer does not say. */
  dmaMaps: 65535,
  /** Address spaces beside 0 that are taken. */
  addressSpaces: 1024,
  /** Page sizes when the peer does not say: the protocol's, whatever pages this machine has. */
  pageSizes: 4096,
  /** JSON of a VERSION message. */
  versionDataBytes: 4096,
  /** Answers with an array, such as capabilities of a region. */
  infoBytes: 65536,
  /** Writes in one REGION_WRITE_MULTI (QEMU's VFIO_USER_MULTI_MAX). */
  multiWrites: 200,
  /** What a client may send as a device's state. */
  migrationBytes: 16 << 20,
  /** Regions and interrupt indices that a server may claim: QEMU's limits. */
  regions: 100,
  irqIndices: 50,
  /** Vectors of one interrupt index: more than MSI-X can have. */
  vectors: 4096,
} as const;

/** Largest message of a peer whose transfers are limited to `dataTransferBytes`. */
export function maxMessageBytes(dataTransferBytes: number): number {
  const transfer = regionAccess.sizeBytes + dataTransferBytes;
  return HEADER_BYTES + Math.max(transfer, LIMIT.infoBytes);
}
