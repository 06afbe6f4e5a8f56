/**
 * The regions of a served function, from the client's side: what they are, accesses, mappings and doorbells.
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../../../errors/mod.ts";
import {
  type EventFd,
  isErrno,
  MappedMemory,
  type OwnedFd,
  pageSizeBytes,
  SyscallError,
} from "../../../../ffi/mod.ts";
import { REGION, REGION_FLAG, type RegionArea, type RegionInfo } from "../../../vfio/device.ts";
import { regionInfo } from "../../../vfio/kernel/abi.ts";
import { decodeRegionInfo, type RegionAnswer } from "../../../vfio/region_answer.ts";
import type { ClientChannel } from "./channel.ts";
import { checkPassedFile, passedEventFd } from "../../passed_fd.ts";
import {
  COMMAND,
  HEADER_BYTES,
  LIMIT,
  MAP_AREA_FLAG,
  mapArea,
  OWN_COMMAND,
  regionAccess,
  regionIoFds,
  writeMulti,
  writeMultiEntry,
} from "../protocol.ts";
import { decodeRegionIoFds, type IoEventFdArea } from "../region_io_fds.ts";

interface Doorbells {
  readonly areas: readonly IoEventFdArea[];
  /** By the index that areas have; undefined for a descriptor that no area of ours uses. */
  readonly fds: readonly (EventFd | undefined)[];
}

/** How a `ClientRegions` is made. */
export interface ClientRegionsOptions {
  /** Number of regions. */
  readonly count: number;
  /** Data bytes in one message. */
  readonly chunkBytes: number;
  /** The server takes REGION_WRITE_MULTI. */
  readonly writesMany: boolean;
  /** Map only files that cannot shrink. */
  readonly requireSealed: boolean;
  /** The server answers MAP_AREA. */
  readonly mapsAreas: boolean;
}

/** One of several writes. */
export interface RegionWrite {
  /** `REGION` number. */
  readonly index: number;
  /** Bytes from the region's start. */
  readonly offset: number;
  /** 1 to 8 bytes. */
  readonly data: Uint8Array<ArrayBuffer>;
}

const FIRST_INFO_BYTES = 1024;
/** The bytes of one of several writes. */
const MOST_OF_MANY = 8;
const REGION_COUNT = regionAccess.fields.count.offset;
const REGION_INDEX = regionAccess.fields.region.offset;

/** Regions by index. The methods are those of `VfioDevice`. */
export class ClientRegions {
  readonly #channel: ClientChannel;
  readonly #name: string;
  readonly #options: ClientRegionsOptions;
  readonly #regions: (RegionInfo | undefined)[] = [];
  readonly #doorbells: (Doorbells | undefined)[] = [];
  #mappings: MappedMemory[] = [];

  /** Made when the number of regions is known. */
  constructor(channel: ClientChannel, options: ClientRegionsOptions) {
    this.#channel = channel;
    this.#name = channel.name;
    this.#options = options;
  }

  /** What a region is; asked for once. @throws UsageError, ProtocolError */
  info(index: number): RegionInfo {
    const known = this.#regions[index];
    if (known !== undefined) return known;
    const { answer, fd } = this.#askRegion(index);
    fd?.close();
    this.#regions[index] = answer.info;
    return answer.info;
  }

  /** The server's answer, and the file behind the mappable parts, which is the caller's to close. */
  #askRegion(index: number): { answer: RegionAnswer; fd: OwnedFd | undefined } {
    const channel = this.#channel;
    if (!Number.isInteger(index) || index < 0 || index >= this.#options.count) {
      throw new UsageError(`${this.#name}: region ${index} of ${this.#options.count}`);
    }
    for (let argsz = FIRST_INFO_BYTES;;) {
      channel.ask(COMMAND.deviceGetRegionInfo, regionInfo, { argsz, index }, { replyFds: 1 });
      const { argsz: needed } = channel.replied(regionInfo);
      const { payload } = channel.in;
      if (needed < regionInfo.sizeBytes || needed > LIMIT.infoBytes) {
        throw this.#channel.malformed(`reply to DEVICE_GET_REGION_INFO: argsz is ${needed}`);
      }
      if (needed > argsz) {
        argsz = needed;
        continue;
      }
      if (payload.byteLength !== needed) {
        throw this.#channel.malformed(
          `reply to DEVICE_GET_REGION_INFO: argsz ${needed} with ${payload.byteLength} bytes`,
        );
      }
      const answer = this.#channel.decode(() => decodeRegionInfo(payload, index, this.#name));
      const [fd] = channel.in.takeFds();
      if (fd === undefined && answer.info.mmapAreas.length > 0) {
        throw this.#channel.malformed(
          `reply to DEVICE_GET_REGION_INFO: region ${index} is mappable, but no file came along`,
        );
      }
      return { answer, fd };
    }
  }

  /** Reads exactly `into.length` bytes. @throws UsageError, and what `ClientChannel.request` throws */
  read(index: number, offset: number, into: Uint8Array<ArrayBuffer>): void {
    const channel = this.#channel;
    this.#checkAccess(index, offset, into.byteLength, REGION_FLAG.read);
    for (let done = 0; done < into.byteLength;) {
      const count = Math.min(into.byteLength - done, this.#options.chunkBytes);
      this.#putAccess(index, offset + done, count);
      this.#request(COMMAND.regionRead, regionAccess.sizeBytes, index, offset + done);
      this.#checkAccessReply("REGION_READ", index, offset + done, count, count);
      const reply = channel.in;
      const data = reply.payloadOffset + regionAccess.sizeBytes;
      if (count <= 8) {
        const bytes = reply.bytes;
        for (let i = 0; i < count; i++) into[done + i] = bytes[data + i]!;
      } else {
        into.set(reply.bytes.subarray(data, data + count), done);
      }
      done += count;
    }
  }

  /** Writes exactly `from.length` bytes. @throws UsageError, and what `ClientChannel.request` throws */
  write(index: number, offset: number, from: Uint8Array<ArrayBuffer>): void {
    const channel = this.#channel;
    this.#checkAccess(index, offset, from.byteLength, REGION_FLAG.write);
    const chunkBytes = Math.min(this.#options.chunkBytes, LIMIT.writeBytes);
    for (let done = 0; done < from.byteLength;) {
      const count = Math.min(from.byteLength - done, chunkBytes);
      channel.out.reserve(regionAccess.sizeBytes + count);
      this.#putAccess(index, offset + done, count);
      const data = HEADER_BYTES + regionAccess.sizeBytes;
      if (count <= 8) {
        const bytes = channel.out.bytes;
        for (let i = 0; i < count; i++) bytes[data + i] = from[done + i]!;
      } else {
        channel.out.bytes.set(from.subarray(done, done + count), data);
      }
      this.#request(COMMAND.regionWrite, regionAccess.sizeBytes + count, index, offset + done);
      this.#checkAccessReply("REGION_WRITE", index, offset + done, count, 0);
      done += count;
    }
  }

  /** As `ClientChannel.request`. A server that refuses says no more than an errno: which access it was is said here. */
  #request(command: number, payloadBytes: number, index: number, offset: number): void {
    try {
      this.#channel.request(command, payloadBytes);
    } catch (error) {
      if (!(error instanceof SyscallError) || !error.call.startsWith("vfio-user ")) throw error;
      const place = index === REGION.config ? "configuration space" : `region ${index}`;
      throw new SyscallError(error.call, `${this.#name}, ${place} at 0x${offset.toString(16)}`, error.errno, {
        cause: error,
      });
    }
  }

  /**
   * Several writes in order, in as few messages as it takes: one each where the server does not take more. All are checked before the first is
   * sent. @throws UsageError, and what `ClientChannel.request` throws: then the writes of earlier messages are done
   */
  writeMany(writes: readonly RegionWrite[]): void {
    for (const { index, offset, data } of writes) {
      this.#checkAccess(index, offset, data.byteLength, REGION_FLAG.write);
      if (data.byteLength >= 1 && data.byteLength <= MOST_OF_MANY) continue;
      throw new UsageError(`${this.#name}: one of several writes has ${data.byteLength} bytes`, {
        hint: `1 to ${MOST_OF_MANY} bytes go into one; writeRegion takes more`,
      });
    }
    if (!this.#options.writesMany) {
      for (const { index, offset, data } of writes) this.write(index, offset, data);
      return;
    }
    for (let from = 0; from < writes.length; from += LIMIT.multiWrites) {
      this.#writeMany(writes.slice(from, from + LIMIT.multiWrites));
    }
  }

  #writeMany(writes: readonly RegionWrite[]): void {
    const channel = this.#channel;
    const payloadBytes = writeMulti.sizeBytes + writes.length * writeMultiEntry.sizeBytes;
    const count = { writeCount: BigInt(writes.length) };
    channel.out.reserve(payloadBytes);
    writeMulti.encodeInto(channel.out.bytes, HEADER_BYTES, count);
    writes.forEach(({ index, offset, data }, i) => {
      const at = HEADER_BYTES + writeMulti.sizeBytes + i * writeMultiEntry.sizeBytes;
      const entry = { offset: BigInt(offset), region: index, count: data.byteLength, data: 0n };
      writeMultiEntry.encodeInto(channel.out.bytes, at, entry);
      channel.out.bytes.set(data, at + writeMultiEntry.fields.data.offset);
    });
    channel.request(COMMAND.regionWriteMulti, payloadBytes);
    const { writeCount } = channel.replied(writeMulti, true);
    if (writeCount === count.writeCount) return;
    throw channel.malformed(`reply to REGION_WRITE_MULTI: ${writeCount} of ${writes.length} writes`);
  }

  #checkAccess(index: number, offset: number, length: number, flag: number): void {
    const region = this.#regions[index] ?? this.info(index);
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > region.sizeBytes) {
      throw new UsageError(
        `${this.#name}: [${offset}, +${length}) is outside region ${index}, which has ${region.sizeBytes} bytes`,
      );
    }
    if ((region.flags & flag) === 0) {
      const verb = flag === REGION_FLAG.read ? "read" : "written";
      throw new UsageError(`${this.#name}: region ${index} cannot be ${verb}`);
    }
  }

  #putAccess(index: number, offset: number, count: number): void {
    const { view } = this.#channel.out;
    view.setUint32(HEADER_BYTES, offset >>> 0, true);
    view.setUint32(HEADER_BYTES + 4, Math.floor(offset / 4294967296), true);
    view.setUint32(HEADER_BYTES + REGION_INDEX, index, true);
    view.setUint32(HEADER_BYTES + REGION_COUNT, count, true);
  }

  #checkAccessReply(what: string, index: number, offset: number, count: number, dataBytes: number): void {
    const { view, payloadOffset } = this.#channel.in;
    this.#channel.expectExactly(regionAccess.sizeBytes + dataBytes);
    const low = view.getUint32(payloadOffset, true);
    const high = view.getUint32(payloadOffset + 4, true);
    const region = view.getUint32(payloadOffset + REGION_INDEX, true);
    const moved = view.getUint32(payloadOffset + REGION_COUNT, true);
    if (moved !== count) {
      throw this.#channel.malformed(`reply to ${what}: count is ${moved} instead of ${count}`);
    }
    if (region !== index || high * 4294967296 + low !== offset) {
      throw this.#channel.malformed(
        `reply to ${what}: it is about offset ${high * 4294967296 + low} of region ${region}`,
      );
    }
  }

  /**
   * Maps whole pages of a mappable area, or of what the server gives by MAP_AREA.
   * @throws UsageError, UnsupportedError (they cannot be mapped, or not writable), ProtocolError (the file is too short), SyscallError
   */
  map(index: number, area: RegionArea, options: { writable?: boolean } = {}): MappedMemory {
    const { offset, sizeBytes } = area;
    const info = this.info(index);
    const { mmapAreas } = info;
    const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(sizeBytes) && sizeBytes > 0;
    if (!whole || offset % pageSizeBytes !== 0 || sizeBytes % pageSizeBytes !== 0) {
      throw new UsageError(
        `${this.#name}: [${offset}, +${sizeBytes}) of region ${index} is not made of whole pages`,
      );
    }
    if (
      !mmapAreas.some((one) => offset >= one.offset && offset + sizeBytes <= one.offset + one.sizeBytes)
    ) {
      const where = `${this.#name}: [${offset}, +${sizeBytes}) of region ${index}`;
      if (offset < 0 || offset + sizeBytes > info.sizeBytes) {
        throw new UsageError(`${where} is outside its ${info.sizeBytes} bytes`);
      }
      if (!this.#options.mapsAreas) throw new UnsupportedError(`${where} may not be mapped`);
      const writable = options.writable ?? (info.flags & REGION_FLAG.write) !== 0;
      return this.#mapByMessage(index, area, writable, where);
    }
    // Asked for anew, since the file is not kept open meanwhile.
    const { answer, fd } = this.#askRegion(index);
    if (fd === undefined) throw new UnsupportedError(`${this.#name}: region ${index} is no longer mappable`);
    using _passed = fd;
    const writable = options.writable ?? (answer.info.flags & REGION_FLAG.write) !== 0;
    const at = answer.fileOffset + BigInt(offset);
    return this.#mapFile(fd, at, sizeBytes, writable, `${this.#name} region ${index}`);
  }

  /** Maps a part of a file that the server passed, and keeps the mapping. */
  #mapFile(fd: OwnedFd, offset: bigint, sizeBytes: number, writable: boolean, what: string): MappedMemory {
    this.#channel.decode(() => checkPassedFile(fd, offset, sizeBytes, this.#options.requireSealed, what));
    const memory = MappedMemory.map(fd, sizeBytes, { offset, writable });
    this.#mappings = this.#mappings.filter((one) => !one.closed);
    this.#mappings.push(memory);
    return memory;
  }

  /** MAP_AREA: the server decides anew each time, and the file that it gives for reading cannot be mapped otherwise. */
  #mapByMessage(index: number, area: RegionArea, writable: boolean, where: string): MappedMemory {
    const channel = this.#channel;
    const request = {
      flags: writable ? MAP_AREA_FLAG.write : 0,
      index,
      offset: BigInt(area.offset),
      size: BigInt(area.sizeBytes),
    };
    try {
      channel.ask(OWN_COMMAND.mapArea, mapArea, request, { replyFds: 1 });
    } catch (error) {
      if (!isErrno(error, "ENOTSUP", "ENXIO", "EACCES")) throw error;
      const how = writable && isErrno(error, "EACCES") ? " writable" : "";
      throw new UnsupportedError(`${where} cannot be mapped${how} now`, {
        hint: how === "" ? "reach it by reads and writes" : "map it for reading only",
        cause: error,
      });
    }
    const reply = channel.replied(mapArea, true);
    const [fd] = channel.in.takeFds();
    using _passed = fd;
    if (reply.index !== index || reply.offset !== request.offset || reply.size !== request.size) {
      throw channel.malformed(
        `reply to MAP_AREA: it is about [${reply.offset}, +${reply.size}) of region ${reply.index}`,
      );
    }
    if (fd === undefined) throw channel.malformed("reply to MAP_AREA: no file came along");
    if (writable && (reply.flags & MAP_AREA_FLAG.write) === 0) {
      throw channel.malformed("reply to MAP_AREA: the file is not writable");
    }
    return this.#mapFile(fd, reply.fileOffset, area.sizeBytes, writable, where);
  }

  /**
   * The eventfd that stands for a write there, if the server offers one. Of several, with `value` the one for that value, else the one for any; without
   * it the first. @throws UsageError, ProtocolError
   */
  doorbell(
    index: number,
    offset: number,
    sizeBytes: number,
    value?: number,
  ): { fd: EventFd; value?: number } | undefined {
    const { areas, fds } = this.#doorbells[index] ??= this.#askDoorbells(index);
    const here = areas.filter((one) =>
      one.offset === offset && (one.sizeBytes === sizeBytes || one.sizeBytes === 0)
    );
    const area = value === undefined
      ? here[0]
      : here.find((one) => one.value === value) ?? here.find((one) => one.value === undefined);
    if (area === undefined) return undefined;
    const fd = fds[area.fdIndex]!;
    return area.value === undefined ? { fd } : { fd, value: area.value };
  }

  #askDoorbells(index: number): Doorbells {
    const { sizeBytes } = this.info(index);
    const channel = this.#channel;
    for (let argsz = FIRST_INFO_BYTES;;) {
      try {
        const beside = { replyFds: LIMIT.messageFds };
        channel.ask(COMMAND.deviceGetRegionIoFds, regionIoFds, { argsz, index }, beside);
      } catch (error) {
        // The message is optional, and a region without sub-regions may be refused.
        if (isErrno(error, "EINVAL", "ENOTSUP", "ENOSYS", "ENOTTY")) return { areas: [], fds: [] };
        throw error;
      }
      const { payload, fds: passed } = channel.in;
      const answer = this.#channel.decode(() =>
        decodeRegionIoFds(payload, index, passed.length, sizeBytes, this.#name)
      );
      if (answer.argsz > argsz) {
        argsz = answer.argsz;
        continue;
      }
      const { areas } = answer;
      return { areas, fds: this.#eventFds(areas, channel.in.takeFds(), `${this.#name} region ${index}`) };
    }
  }

  /** Descriptors that no area uses (other kinds of sub-regions have their own) are closed. */
  #eventFds(
    areas: readonly IoEventFdArea[],
    passed: readonly OwnedFd[],
    what: string,
  ): (EventFd | undefined)[] {
    const used = new Set(areas.map((area) => area.fdIndex));
    try {
      return this.#channel.decode(() =>
        passed.map((fd, i) => {
          if (used.has(i)) return passedEventFd(fd, what);
          fd.close();
          return undefined;
        })
      );
    } catch (error) {
      for (const fd of passed) fd.close();
      throw error;
    }
  }

  /** Unmaps and closes all that came from regions. */
  close(): void {
    for (const memory of this.#mappings) memory.close();
    for (const known of this.#doorbells) {
      for (const fd of known?.fds ?? []) fd?.close();
    }
    this.#mappings = [];
    this.#doorbells.length = 0;
  }
}
