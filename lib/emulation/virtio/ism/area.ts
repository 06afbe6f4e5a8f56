/**
 * The two shared memory areas of a virtio-ism function: regions behind chunks, and notify addresses (reference 5.2, 5.6).
 *
 * @module
 */
import { errnoNumber, SyscallError } from "../../../../ffi/mod.ts";
import { ISM_PERM, ISM_SHM } from "../../../virtio/spec/ism.ts";
import type { RegionArea } from "../../../vfio/device.ts";
import type { ServedMapping } from "../../../sockets/vfio_user/server/served_device.ts";
import type { ModelSharedMemory, SharedMemoryArea } from "../../device_model.ts";
import type { Attachment, IsmMember } from "./region.ts";

/** Eventfds of a function's notify addresses; the others are written to. */
const DOORBELLS_MAX = 32;

/** The areas of one function. */
export class IsmAreas implements ModelSharedMemory {
  readonly areas: readonly SharedMemoryArea[];
  /** Chunks between two doorbells. */
  readonly stride: number;
  /** Whose they are; null before `connect`, and when the function is gone. */
  member: IsmMember | null = null;
  readonly #chunkSizeBytes: number;
  readonly #notifySizeBytes: number;
  readonly #doorbells: readonly RegionArea[];

  /** @param chunks of the area of regions @param notifySizeBytes of a notify address @param hidden there are none, as a lie */
  constructor(chunks: number, chunkSizeBytes: number, notifySizeBytes: number, hidden: boolean) {
    this.#chunkSizeBytes = chunkSizeBytes;
    this.#notifySizeBytes = notifySizeBytes;
    const stride = Math.ceil(chunks / DOORBELLS_MAX);
    this.stride = stride;
    this.#doorbells = Array.from(
      { length: hidden ? 0 : Math.ceil(chunks / stride) },
      (_, i) => ({ offset: i * stride * notifySizeBytes, sizeBytes: 0 }),
    );
    this.areas = hidden ? [] : [
      { id: ISM_SHM.regions, sizeBytes: chunks * chunkSizeBytes },
      { id: ISM_SHM.notify, sizeBytes: chunks * notifySizeBytes },
    ];
  }

  /** Memory of regions; what may not be read is all ones, as on a bus where nobody answers. */
  read(id: number, offset: number, into: Uint8Array): void {
    if (id !== ISM_SHM.regions) {
      into.fill(0);
      return;
    }
    into.fill(0xff);
    this.#access(offset, into, ISM_PERM.READ);
  }

  /** Memory of regions, or a kick. */
  write(id: number, offset: number, from: Uint8Array): void {
    if (id === ISM_SHM.notify) return this.#notify(offset, from.byteLength);
    this.#access(offset, from, ISM_PERM.WRITE);
  }

  #access(offset: number, bytes: Uint8Array, right: number): void {
    const chunkSizeBytes = this.#chunkSizeBytes;
    const verb = right === ISM_PERM.READ ? "read" : "written";
    for (let done = 0; done < bytes.byteLength;) {
      const at = offset + done;
      const chunk = Math.floor(at / chunkSizeBytes);
      const inChunk = at % chunkSizeBytes;
      const count = Math.min(bytes.byteLength - done, chunkSizeBytes - inChunk);
      const part = bytes.subarray(done, done + count);
      done += count;
      const attachment = this.member?.chunks.holderOf(chunk);
      if (attachment === undefined) {
        this.#report("N-5.3", `chunk ${chunk} is ${verb}, no region refers to it`);
        continue;
      }
      if ((attachment.rights & right) === 0) {
        this.#report("N-5.9", `chunk ${chunk} is ${verb}, the region was not attached for that`);
        continue;
      }
      const { memory } = attachment.region;
      const place = attachment.member.chunks.placeOf(chunk) * chunkSizeBytes + inChunk;
      if (place + count > memory.sizeBytes) {
        this.#report("N-5.14", `chunk ${chunk} is ${verb} past the end of its region`);
        continue;
      }
      if (right === ISM_PERM.READ) memory.read(place, part);
      else memory.write(place, part);
    }
  }

  #notify(offset: number, width: number): void {
    const notifySizeBytes = this.#notifySizeBytes;
    if (offset % notifySizeBytes !== 0 || (width !== 1 && width !== 2 && width !== 4)) {
      this.#report("5.6", `a kick of ${width} bytes at ${offset} of the notify area`);
      return;
    }
    const chunk = offset / notifySizeBytes;
    const attachment = this.member?.chunks.holderOf(chunk);
    if (attachment === undefined || attachment.chunks[0] !== chunk) {
      this.#report("N-5.2", `a kick at the address of chunk ${chunk}, which is no region's first`);
      return;
    }
    kick(attachment);
  }

  /** The file of a region, when the pages lie one behind the other in it, and the rights allow it. @throws SyscallError EACCES */
  map(id: number, offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined {
    const { member } = this;
    if (id !== ISM_SHM.regions || member === null) return undefined;
    const chunkSizeBytes = this.#chunkSizeBytes;
    const first = Math.floor(offset / chunkSizeBytes);
    const last = Math.floor((offset + sizeBytes - 1) / chunkSizeBytes);
    const attachment = member.chunks.holderOf(first);
    if (attachment === undefined) return undefined;
    const place = member.chunks.placeOf(first);
    for (let chunk = first + 1; chunk <= last; chunk++) {
      const follows = member.chunks.holderOf(chunk) === attachment &&
        member.chunks.placeOf(chunk) === place + chunk - first;
      if (!follows) return undefined;
    }
    const { region, rights } = attachment;
    // A processor cannot write to a page that it may not read.
    const needed = writable ? ISM_PERM.READ | ISM_PERM.WRITE : ISM_PERM.READ;
    if ((rights & needed) !== needed) {
      const what = `${member.core.name}, chunk ${first}${writable ? ", for writing" : ""}`;
      throw new SyscallError(
        "map a virtio-ism region",
        `${what}: attached with rights ${rights}`,
        errnoNumber.EACCES!,
      );
    }
    const { memory } = region;
    const start = place * chunkSizeBytes + offset % chunkSizeBytes;
    if (start + sizeBytes > memory.sizeBytes) return undefined;
    // Of a lender's file that holds more than the region its other users get nothing.
    if (!memory.exclusive && region.lender?.member !== member) return undefined;
    return { file: memory.file(writable), fileOffset: memory.fileOffset + start, writable };
  }

  /** Some of the notify addresses have one: for writes of any width and value (reference 5.6). */
  doorbells(id: number): readonly RegionArea[] {
    return id === ISM_SHM.notify ? this.#doorbells : [];
  }

  /**
   * A doorbell was rung. One that comes late, from a driver that has let go of the region meanwhile, is no mistake: eventfds have no order.
   */
  rang(id: number, offset: number): void {
    if (id !== ISM_SHM.notify) return;
    const chunk = offset / this.#notifySizeBytes;
    const attachment = this.member?.chunks.holderOf(chunk);
    if (attachment !== undefined && attachment.chunks[0] === chunk) kick(attachment);
  }

  #report(rule: string, message: string): void {
    this.member?.core.report(rule, message);
  }
}

function kick(attachment: Attachment): void {
  if (attachment.member.core.live) attachment.region.update(attachment);
}
