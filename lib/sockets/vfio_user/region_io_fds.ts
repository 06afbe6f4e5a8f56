/**
 * The answer to GET_REGION_IO_FDS, both ways: pure.
 *
 * @module
 */
import { ProtocolError } from "../../errors/mod.ts";
import { IO_EVENT_FD_FLAG, IO_FD_TYPE, ioEventFd, ioEventFdShadow, LIMIT, regionIoFds } from "./protocol.ts";

/** A sub-region whose writes an eventfd stands for. */
export interface IoEventFdArea {
  /** Bytes from the region's start. */
  readonly offset: number;
  /** 0: a write of any size. */
  readonly sizeBytes: number;
  /** Index among the descriptors beside the message. */
  readonly fdIndex: number;
  /** When given, only a write of this value. */
  readonly value?: number;
}

/**
 * Encodes the answer. Areas that do not fit `maxBytes` are all left out; `argsz` then says how much is needed.
 * @returns the payload, and whether the areas are in it.
 */
export function encodeRegionIoFds(
  index: number,
  areas: readonly IoEventFdArea[],
  maxBytes: number,
): { bytes: Uint8Array<ArrayBuffer>; complete: boolean } {
  const argsz = regionIoFds.sizeBytes + areas.length * ioEventFd.sizeBytes;
  const complete = argsz <= maxBytes;
  const bytes = regionIoFds.encode(
    { argsz, index, count: areas.length },
    complete ? areas.length * ioEventFd.sizeBytes : 0,
  );
  if (!complete) return { bytes, complete };
  areas.forEach((area, i) => {
    ioEventFd.encodeInto(bytes, regionIoFds.sizeBytes + i * ioEventFd.sizeBytes, {
      offset: BigInt(area.offset),
      size: BigInt(area.sizeBytes),
      fdIndex: area.fdIndex,
      type: IO_FD_TYPE.ioEventFd,
      flags: area.value === undefined ? 0 : IO_EVENT_FD_FLAG.dataMatch,
      dataMatch: BigInt(area.value ?? 0),
    });
  });
  return { bytes, complete };
}

/** A decoded answer. */
export interface RegionIoFdsAnswer {
  /** What the whole answer needs, in bytes. */
  readonly argsz: number;
  /** Ioeventfd areas; other kinds are left out. Empty when the answer was cut short. */
  readonly areas: readonly IoEventFdArea[];
}

/**
 * Decodes the answer, in the specification's layout (40 bytes an entry) or libvfio-user's (48), told apart by its size.
 *
 * @param fdCount descriptors that came along.
 * @param regionBytes size of the region.
 * @throws ProtocolError naming the field
 */
export function decodeRegionIoFds(
  bytes: Uint8Array,
  index: number,
  fdCount: number,
  regionBytes: number,
  what: string,
): RegionIoFdsAnswer {
  const fail = (text: string): never => {
    throw new ProtocolError(`${what}: reply to DEVICE_GET_REGION_IO_FDS: ${text}`);
  };
  if (bytes.byteLength < regionIoFds.sizeBytes) fail(`${bytes.byteLength} of ${regionIoFds.sizeBytes} bytes`);
  const fixed = regionIoFds.decode(bytes);
  if (fixed.index !== index) fail(`index is ${fixed.index} instead of ${index}`);
  if (fixed.argsz < regionIoFds.sizeBytes || fixed.argsz > LIMIT.infoBytes) fail(`argsz is ${fixed.argsz}`);
  if (fixed.count === 0) return { argsz: fixed.argsz, areas: [] };
  const stride = (fixed.argsz - regionIoFds.sizeBytes) / fixed.count;
  if (stride !== ioEventFd.sizeBytes && stride !== ioEventFdShadow.sizeBytes) {
    fail(`argsz ${fixed.argsz} does not go with count ${fixed.count}`);
  }
  if (bytes.byteLength < fixed.argsz) return { argsz: fixed.argsz, areas: [] };
  const layout = stride === ioEventFd.sizeBytes ? ioEventFd : ioEventFdShadow;
  const areas: IoEventFdArea[] = [];
  for (let i = 0; i < fixed.count; i++) {
    const entry = layout.decode(bytes, regionIoFds.sizeBytes + i * stride);
    if (entry.type !== IO_FD_TYPE.ioEventFd || (entry.flags & IO_EVENT_FD_FLAG.pio) !== 0) continue;
    if (entry.offset + entry.size > BigInt(regionBytes)) {
      fail(`sub-region ${i} [${entry.offset}, +${entry.size}) leaves the region's ${regionBytes} bytes`);
    }
    if (entry.fdIndex >= fdCount) fail(`sub-region ${i} has fd_index ${entry.fdIndex} of ${fdCount}`);
    const area = { offset: Number(entry.offset), sizeBytes: Number(entry.size), fdIndex: entry.fdIndex };
    const matches = (entry.flags & IO_EVENT_FD_FLAG.dataMatch) !== 0;
    areas.push(matches ? { ...area, value: Number(entry.dataMatch) } : area);
  }
  return { argsz: fixed.argsz, areas };
}
