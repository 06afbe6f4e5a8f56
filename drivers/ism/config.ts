/**
 * What a virtio-ism function says of itself: config space and shared memory areas (reference 5.1, 5.2).
 *
 * @module
 */
import { DeviceError } from "../../lib/errors/mod.ts";
import { ISM_CONFIG, ISM_FEATURE, ISM_SHM } from "../../lib/virtio/spec/ism.ts";
import type { VirtioDevice } from "../../lib/virtio/device.ts";
import type { FeatureWishes } from "../../lib/virtio/features.ts";
import type { SharedMemory } from "../../lib/virtio/transport/transport.ts";
import type { VirtioIsmOptions } from "./options.ts";

const CDID_BYTES = 16;
const WORD_BYTES = 4;

/** What a function says of itself. */
export interface IsmInfo {
  /** Communication domain: 16 bytes as the device has them, compared bytewise. A copy. */
  readonly cdid: Uint8Array<ArrayBuffer>;
  /** The same as a UUID, in whichever byte order makes it one of version 4. */
  readonly cdidText: string;
  /** Number of the device in its domain; kept over resets. */
  readonly devid: bigint;
  /** Bytes of a chunk: a power of two. */
  readonly chunkSizeBytes: number;
  /** Bytes of a notify address. */
  readonly notifySizeBytes: number;
  /** Bytes of the area that regions lie in. */
  readonly regionsAreaBytes: number;
  /** Bytes of the area that notify addresses lie in. */
  readonly notifyAreaBytes: number;
  /** Chunks in the area. */
  readonly maxChunks: number;
  /** The device supplies the memory of regions (DEV_MEM). */
  readonly devMem: boolean;
}

/** The two shared memory areas. */
export interface IsmAreas {
  /** Chunks of regions. Touched only where a region is (N-5.3). */
  readonly regions: SharedMemory;
  /** Notify addresses. */
  readonly notify: SharedMemory;
}

/** Wishes for `Session.negotiate`. */
export function ismWishes({ devMem }: VirtioIsmOptions): FeatureWishes {
  return devMem === false ? { refused: ISM_FEATURE.DEV_MEM } : { wanted: ISM_FEATURE.DEV_MEM };
}

/** Reads and checks everything (N-5.1, N-5.2). @throws DeviceError when it cannot be */
export function readIsm(device: VirtioDevice): { info: IsmInfo; areas: IsmAreas } {
  const { transport } = device;
  const wrong = (field: string, message: string) =>
    new DeviceError(message, { function: transport.name, field });
  if (transport.configSizeBytes < ISM_CONFIG.sizeBytes) {
    throw wrong(
      "config",
      `${transport.configSizeBytes} bytes of config space; ${ISM_CONFIG.sizeBytes} are needed`,
    );
  }
  const bytes = device.readConsistent(() => {
    const copy = new Uint8Array(ISM_CONFIG.sizeBytes);
    const view = new DataView(copy.buffer);
    for (let at = 0; at < copy.length; at += WORD_BYTES) {
      view.setUint32(at, device.readConfig(at, WORD_BYTES), true);
    }
    return copy;
  });
  const { devid, chunk_size, notify_size } = ISM_CONFIG.decode(bytes);
  const cdid = bytes.slice(0, CDID_BYTES);
  const cdidText = uuidText(cdid);
  if (cdidText === undefined) {
    throw wrong("cdid", `${cdid.toHex()} is no UUID of version 4 in either byte order`);
  }
  if (devid === 0n) throw wrong("devid", "0, which no device may have");
  if (chunk_size === 0n || (chunk_size & (chunk_size - 1n)) !== 0n) {
    throw wrong("chunk_size", `${chunk_size} is not a power of two`);
  }
  const area = (name: "regions" | "notify"): SharedMemory => {
    const found = transport.sharedMemory?.(ISM_SHM[name]);
    if (found !== undefined) return found;
    throw wrong("shmid", `there is no shared memory region ${ISM_SHM[name]} (${name})`);
  };
  const areas: IsmAreas = { regions: area("regions"), notify: area("notify") };
  if (chunk_size > BigInt(areas.regions.sizeBytes)) {
    throw wrong("chunk_size", `${chunk_size} bytes; the area of regions has ${areas.regions.sizeBytes}`);
  }
  const chunkSizeBytes = Number(chunk_size);
  const maxChunks = Math.floor(areas.regions.sizeBytes / chunkSizeBytes);
  // there may be fewer than chunks.
  if (notify_size === 0n || notify_size > BigInt(areas.notify.sizeBytes)) {
    throw wrong(
      "notify_size",
      `a notify address of ${notify_size} bytes in an area of ${areas.notify.sizeBytes}`,
    );
  }
  return {
    info: {
      cdid,
      cdidText,
      devid,
      chunkSizeBytes,
      notifySizeBytes: Number(notify_size),
      regionsAreaBytes: areas.regions.sizeBytes,
      notifyAreaBytes: areas.notify.sizeBytes,
      maxChunks,
      devMem: device.has(ISM_FEATURE.DEV_MEM),
    },
    areas,
  };
}

/** The UUID in the order that has version 4 in it; where both do, the one whose variant is right, too. */
function uuidText(cdid: Uint8Array): string | undefined {
  const swapped = cdid.slice().reverse();
  const fitting = [cdid, swapped].filter((bytes) => bytes[6]! >> 4 === 4);
  const best = fitting.find((bytes) => bytes[8]! >> 6 === 2) ?? fitting[0];
  if (best === undefined) return undefined;
  return best.toHex().replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
