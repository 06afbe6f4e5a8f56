/**
 * Buffered reading of a file from its start.
 *
 * @module
 */
import { O, OwnedFd, read } from "../../ffi/mod.ts";

/** Reads exact amounts of bytes from an open file. */
export class ByteSource implements Disposable {
  readonly path: string;
  readonly #fd: OwnedFd;
  readonly #chunk: Uint8Array<ArrayBuffer> = new Uint8Array(256 << 10);
  #start = 0;
  #end = 0;
  /** Bytes taken so far: the place that errors name. */
  position = 0;

  /** `-` is standard input. @throws SyscallError */
  constructor(path: string) {
    this.#fd = path === "-" ? OwnedFd.standard("input") : OwnedFd.open(path, O.RDONLY);
    this.path = this.#fd.target;
  }

  /** The next `length` bytes as a copy, or what is left when the file ends before. @throws SyscallError */
  take(length: number): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(length);
    let have = 0;
    while (have < length) {
      if (this.#start === this.#end) {
        this.#start = 0;
        this.#end = read(this.#fd, this.#chunk);
        if (this.#end === 0) break;
      }
      const n = Math.min(length - have, this.#end - this.#start);
      out.set(this.#chunk.subarray(this.#start, this.#start + n), have);
      this.#start += n;
      have += n;
    }
    this.position += have;
    return have === length ? out : out.subarray(0, have);
  }

  [Symbol.dispose](): void {
    this.#fd.close();
  }
}
