/**
 * A mapping, as far as its addresses have one high half: what buffers of a burst are looked for in by two comparisons of 32-bit numbers.
 *
 * @module
 */
import type { DmaRegion, DmaTable } from "../../../sockets/dma_table.ts";

/** Of one queue; `end` is −1 when nothing is in it. */
export class BufferWindow {
  /** The mapping. */
  region: DmaRegion | null = null;
  /** Address of its first byte. */
  startLo = 0;
  startHi = 0;
  /** Bytes from there to the mapping's end: a buffer that begins in the window may end behind it. */
  end = -1;
  /** Offset of its first byte in the mapping. */
  offset = 0;

  /** Nothing is in it. */
  close(): void {
    this.region = null;
    this.end = -1;
  }

  /** Closes it when the device may not use it in this direction. */
  turn(deviceWrites: boolean): void {
    const { region } = this;
    if (region !== null && !(deviceWrites ? region.deviceWrites : region.deviceReads)) this.close();
  }

  /** Moves it to where a buffer lies. @returns false when that is in no mapping of this process, or not for this direction */
  move(dma: DmaTable, lo: number, hi: number, length: number, deviceWrites: boolean): boolean {
    if (!dma.findMapped(lo, hi, length, deviceWrites)) return false;
    const region = dma.region!;
    const offset = dma.offset;
    const startsHere = region.startHi === hi;
    this.region = region;
    this.startLo = startsHere ? region.startLo : 0;
    this.startHi = hi;
    this.offset = startsHere ? 0 : offset - lo;
    this.end = region.sizeBytes - this.offset;
    return true;
  }
}
