/**
 * Registers of one region, mapped where they can be.
 *
 * @module
 */
import { pageSizeBytes } from "../../ffi/mod.ts";
import { typedErrors } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { REGION_FLAG, type RegionArea, type RegionInfo, type VfioDevice } from "./device.ts";
import {
  AccessDoorbell,
  type BarDoorbell,
  type DoorbellWidth,
  EventFdDoorbell,
  MappedDoorbell,
  MatchingDoorbell,
} from "./doorbell.ts";
import { RegionRegisters } from "./region_registers.ts";

/** One region of an opened function: a BAR, or a register window of a platform device. */
export class MappedRegion extends RegionRegisters implements Disposable {
  static {
    typedErrors(this);
  }

  /** Number of the region. */
  readonly index: number;
  readonly #quad = new BigUint64Array(1);
  readonly #quadBytes = new Uint8Array(this.#quad.buffer);

  /**
   * Maps nothing yet: that happens at the first access to each mappable part.
   * @param device an open function; stays the caller's. @param what names the region in messages, behind the function.
   * @throws UsageError when it has no such region
   */
  constructor(device: VfioDevice, index: number, what: string) {
    const info = device.regionInfo(index);
    if (info.sizeBytes === 0) throw new UsageError(`${device.name} has no ${what}`);
    super(device, index, what, info.sizeBytes, mappable(info));
    this.index = index;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.unmapped || this.device.closed;
  }

  /** True when an access of `width` bytes at `offset` is a load or store, not a call to the server. */
  isMapped(offset: number, width: DoorbellWidth | 8 = 1): boolean {
    return this.find(offset, width) !== null;
  }

  /**
   * Reads 64 bits in one access, for registers that a device's manual calls 64 bits wide. Virtio's are two of 32 bits (§4.1.3.1).
   * Where the place is not mapped, what answers may split it.
   */
  read64(offset: number): bigint {
    const window = this.find(offset, 8);
    if (window !== null) return Atomics.load(window.u64, (offset - window.start) / 8);
    this.device.readRegion(this.index, offset, this.#quadBytes);
    return this.#quad[0]!;
  }

  /** Writes 64 bits in one access; see `read64`. Bits above are dropped. */
  write64(offset: number, value: bigint): void {
    const window = this.find(offset, 8);
    if (window !== null) {
      window.u64[(offset - window.start) / 8] = value;
      return;
    }
    this.#quad[0] = value;
    this.device.writeRegion(this.index, offset, this.#quadBytes);
  }

  /**
   * A register that is written often and never read, looked up once.
   *
   * Its `write` is a typed array store when the place is mapped, else an eventfd signal when the server offers one for it,
   * else a region write; it allocates nothing.
   *
   * @param width bytes of each write: 1, 2 or 4.
   * @param options.value the value that will be written most: a server may have an eventfd for each value at the same place. Others may be written, too.
   */
  doorbell(offset: number, width: DoorbellWidth, options: { readonly value?: number } = {}): BarDoorbell {
    const what = this.where(offset);
    if (width !== 1 && width !== 2 && width !== 4) {
      throw new UsageError(`${what}: a write of ${width} bytes`, { hint: "1, 2 or 4" });
    }
    const window = this.find(offset, width);
    if (window !== null) {
      const view = width === 1 ? window.u8 : width === 2 ? window.u16 : window.u32;
      // The page that it is in.
      const page = offset - offset % pageSizeBytes;
      const mapAgain = () => ({
        memory: this.device.mapRegion(this.index, { offset: page, sizeBytes: pageSizeBytes }),
        offset: offset - page,
      });
      return new MappedDoorbell(view, (offset - window.start) / width, what, mapAgain);
    }
    const access = new AccessDoorbell(this.device, this.index, offset, width);
    const offered = this.device.doorbellFd(this.index, offset, width, options.value);
    if (offered === undefined) return access;
    return offered.value === undefined
      ? new EventFdDoorbell(offered.fd)
      : new MatchingDoorbell(offered.fd, offered.value, access);
  }

  /** Unmaps; every view is detached. The device stays open. */
  close(): void {
    if (this.unmapped) return;
    this.unmapped = true;
    for (const window of this.windows) window.memory?.close();
  }

  /** Same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Mappable parts, cut to what can be mapped by this processor's pages and read and written. */
function mappable({ flags, mmapAreas }: RegionInfo): RegionArea[] {
  const both = REGION_FLAG.read | REGION_FLAG.write;
  if ((flags & both) !== both) return [];
  return mmapAreas.flatMap((area) => {
    const offset = Math.ceil(area.offset / pageSizeBytes) * pageSizeBytes;
    const sizeBytes = area.offset + area.sizeBytes - offset;
    return sizeBytes > 0 ? [{ offset, sizeBytes }] : [];
  });
}
