/**
 * The chain that is being put together, part by part.
 *
 * @module
 */
import type { ChainParts } from "./virtqueue.ts";

/** Of one queue; filled again and again. `parts` is 0 when there is none. */
export class OpenChain implements ChainParts {
  readonly iovaLo: Uint32Array<ArrayBuffer>;
  readonly iovaHi: Uint32Array<ArrayBuffer>;
  readonly lengths: Uint32Array<ArrayBuffer>;
  /** How many parts it will have, and how many of them, the first, are device-readable. */
  parts = 0;
  readable = 0;
  /** How many it has. */
  given = 0;
  /** Bytes of these. */
  bytes = 0;

  /** @param size most parts */
  constructor(size: number) {
    this.iovaLo = new Uint32Array(size);
    this.iovaHi = new Uint32Array(size);
    this.lengths = new Uint32Array(size);
  }

  /** Begins one. */
  begin(parts: number, readable: number): void {
    this.parts = parts;
    this.readable = readable;
    this.given = 0;
    this.bytes = 0;
  }

  /** There is none any more. */
  end(): void {
    this.parts = 0;
    this.given = 0;
  }

  /** Adds a part, which is in order. */
  add(iovaLo: number, iovaHi: number, lengthBytes: number): void {
    const at = this.given;
    this.iovaLo[at] = iovaLo;
    this.iovaHi[at] = iovaHi;
    this.lengths[at] = lengthBytes;
    this.bytes += lengthBytes;
    this.given = at + 1;
  }
}
