/**
 * The two shared memory areas of a virtio-ism function: regions behind chunks, and notify addresses (reference 5.2, 5.6).
 *
 * @module
 */
import { ISM_PERM, ISM_SHM } from "../../../virtio/spec/ism.ts";
import type { RegionArea } from "../../../vfio/device.ts";
import type { ServedMapping } from "../../../sockets/vfio_user/server/served_device.ts";
import type { ModelSharedMemory, SharedMemoryArea } from "../../device_model.ts";
import { accessDenied } from "./domain.ts";
import type { Attachment, IsmMember } from "./region.ts";

/** Eventfds of a function's notify addresses; the others are written to. */
const DOORBELLS_MAX = 32;

/** Measures of the areas. */
export interface IsmAreaShape {
  /** Bytes of a chunk. */
  readonly chunkSizeBytes: number;
  /** Chunks of the area of regions. */
  readonly chunks: number;
  /** Bytes of a notify address. */
  readonly notifySizeBytes: number;
  /** There are none, as a lie. */
  readonly hidden?: boolean;
}

/** What the areas are in front of. */
export interface IsmAreaHolder {
  /** The device in its domain; null before `connect`. */
  readonly member: IsmMember | null;
  /** Notes something that the driver must not do. */
  report(rule: string, message: string): void;
  /** The driver kicked a region. */
  kicked(attachment: Attachment): void;
}

/** The areas. */
export class IsmAreas implements ModelSharedMemory {
  readonly areas: readonly SharedMemoryArea[];
  /** Chunks between two doorbells. */
  readonly stride: number;
  readonly #shape: IsmAreaShape;
  readonly #holder: IsmAreaHolder;
  readonly #doorbells: readonly RegionArea[];

  /** Areas of this shape. */
  constructor(shape: IsmAreaShape, holder: IsmAreaHolder) {
    this.#shape = shape;
    this.#holder = holder;
    const { chunkSizeBytes, chunks, notifySizeBytes } = shape;
    this.stride = Math.ceil(chunks / DOORBELLS_MAX);
    this.#doorbells = Array.from(
      { length: Math.ceil(chunks / this.stride) },
      (_, i) => ({ offset: i * this.stride * notifySizeBytes, sizeBytes: 0 }),
    );
    this.areas = shape.hidden ? [] : [
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
    const { chunkSizeBytes } = this.#shape;
    const verb = right === ISM_PERM.READ ? "read" : "written";
    for (let done = 0; done < bytes.byteLength;) {
      const at = offset + done;
      const chunk = Math.floor(at / chunkSizeBytes);
      const inChunk = at % chunkSizeBytes;
      const count = Math.min(bytes.byteLength - done, chunkSizeBytes - inChunk);
      const part = bytes.subarray(done, done + count);
      done += count;
      const attachment = this.#holder.member?.chunks.holderOf(chunk);
      if (attachment === undefined) {
        this.#holder.report("N-5.3", `chunk ${chunk} is ${verb}, no region refers to it`);
        continue;
      }
      if ((attachment.rights & right) === 0) {
        this.#holder.report("N-5.9", `chunk ${chunk} is ${verb}, the region was not attached for that`);
        continue;
      }
      const { memory } = attachment.region;
      const place = attachment.member.chunks.placeOf(chunk) * chunkSizeBytes + inChunk;
      if (place + count > memory.sizeBytes) {
        this.#holder.report("N-5.14", `chunk ${chunk} is ${verb} past the end of its region`);
        continue;
      }
      if (right === ISM_PERM.READ) memory.read(place, part);
      else memory.write(place, part);
    }
  }

  #notify(offset: number, width: number): void {
    const { notifySizeBytes } = this.#shape;
    if (offset % notifySizeBytes !== 0 || (width !== 1 && width !== 2 && width !== 4)) {
      this.#holder.report("5.6", `a kick of ${width} bytes at ${offset} of the notify area`);
      return;
    }
    const chunk = offset / notifySizeBytes;
    const attachment = this.#holder.member?.chunks.holderOf(chunk);
    if (attachment === undefined || attachment.chunks[0] !== chunk) {
      this.#holder.report("N-5.2", `a kick at the address of chunk ${chunk}, which is no region's first`);
      return;
    }
    this.#holder.kicked(attachment);
  }

  /** The file of a region, when the pages lie one behind the other in it, and the rights allow it. @throws SyscallError EACCES */
  map(id: number, offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined {
    const { member } = this.#holder;
    if (id !== ISM_SHM.regions || member === null) return undefined;
    const { chunkSizeBytes } = this.#shape;
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
      throw accessDenied(
        `${member.name}, chunk ${first}${writable ? ", for writing" : ""}: attached with rights ${rights}`,
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
    return id === ISM_SHM.notify && !this.#shape.hidden ? this.#doorbells : [];
  }

  /**
   * A doorbell was rung. One that comes late, from a driver that has let go of the region meanwhile, is no mistake: eventfds have no order.
   */
  rang(id: number, offset: number): void {
    if (id !== ISM_SHM.notify) return;
    const chunk = offset / this.#shape.notifySizeBytes;
    const attachment = this.#holder.member?.chunks.holderOf(chunk);
    if (attachment !== undefined && attachment.chunks[0] === chunk) this.#holder.kicked(attachment);
  }
}
