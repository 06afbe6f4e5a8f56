/**
 * The memory of one virtio-ism region: a file of its own, or pages of the driver that allocated the region.
 *
 * @module
 */
import {
  createSharedFile,
  fileSizeBytes,
  isSealedAgainstShrinking,
  MappedMemory,
  type OwnedFd,
  pageSizeBytes,
  reopenReadOnly,
} from "../../../../ffi/mod.ts";
import { UsageError } from "../../../errors/mod.ts";
import type { DmaRegion } from "../../../sockets/dma_table.ts";

/**
 * Memory that lives until `close`, whatever becomes of the driver that gave it. The same pages are in every process that maps the file, and a
 * process that keeps a mapping after it let go of the region sees this region's pages and no others.
 */
export class RegionMemory implements Disposable {
  /** Bytes that there are: whole pages. */
  readonly sizeBytes: number;
  /** Where they begin in the file. */
  readonly fileOffset: number;
  /** Everything in the file belongs to the region, so that it can be given away. */
  readonly exclusive: boolean;
  /** A driver gave it. */
  readonly borrowed: boolean;
  readonly #file: OwnedFd;
  #readOnly: OwnedFd | null = null;
  #mapping: MappedMemory | null = null;
  #closed = false;

  private constructor(
    file: OwnedFd,
    fileOffset: number,
    sizeBytes: number,
    borrowed: boolean,
    exclusive: boolean,
  ) {
    this.#file = file;
    this.fileOffset = fileOffset;
    this.sizeBytes = sizeBytes;
    this.borrowed = borrowed;
    this.exclusive = exclusive;
  }

  /** New memory, zero by construction. @throws SyscallError */
  static create(name: string, sizeBytes: number): RegionMemory {
    return new RegionMemory(createSharedFile(name, sizeBytes), 0, sizeBytes, false, true);
  }

  /**
   * Pages of a driver's memory, set to zero (N-5.4).
   * @param offset of the region in the driver's mapping: on a page @param sizeBytes of the region; of its last page the rest is left as it is
   * @throws UsageError (memory that cannot be shared), SyscallError
   */
  static share(from: DmaRegion, offset: number, sizeBytes: number): RegionMemory {
    const { file } = from;
    if (file === undefined) {
      throw new UsageError(
        "its memory came without a file that could be shared, or with one that is not sealed against shrinking",
      );
    }
    if (offset % pageSizeBytes !== 0) throw new UsageError("it does not begin on a page");
    if (!isSealedAgainstShrinking(file.fd)) {
      throw new UsageError(
        "its file is not sealed against shrinking, which could end the processes that map it",
      );
    }
    const fileOffset = file.offset + offset;
    const wholeBytes = Math.ceil(sizeBytes / pageSizeBytes) * pageSizeBytes;
    const exclusive = fileOffset === 0 && fileSizeBytes(file.fd) === wholeBytes;
    const memory = new RegionMemory(file.fd.duplicate(), fileOffset, wholeBytes, true, exclusive);
    from.bytes.fill(0, offset, offset + sizeBytes);
    return memory;
  }

  /** The file, open for reading only unless `writable`. It stays this object's. @throws SyscallError */
  file(writable: boolean): OwnedFd {
    if (writable) return this.#file;
    return this.#readOnly ??= reopenReadOnly(this.#file);
  }

  /** Copies bytes out. The range lies inside `sizeBytes`. @throws SyscallError */
  read(offset: number, into: Uint8Array): void {
    this.#access(offset, into, false);
  }

  /** Copies bytes in. The range lies inside `sizeBytes`. @throws SyscallError */
  write(offset: number, from: Uint8Array): void {
    this.#access(offset, from, true);
  }

  #access(offset: number, bytes: Uint8Array, write: boolean): void {
    this.#mapping ??= MappedMemory.map(this.#file, this.sizeBytes, { offset: BigInt(this.fileOffset) });
    const { buffer } = this.#mapping;
    const length = bytes.byteLength;
    const view = new DataView(bytes.buffer, bytes.byteOffset, length);
    // What one instruction would do is one access here too: a peer that polls never sees half of it.
    if (length === 8 && offset % 8 === 0) {
      const word = new BigUint64Array(buffer, offset, 1);
      if (write) word[0] = view.getBigUint64(0, true);
      else view.setBigUint64(0, word[0]!, true);
    } else if (length === 4 && offset % 4 === 0) {
      const word = new Uint32Array(buffer, offset, 1);
      if (write) word[0] = view.getUint32(0, true);
      else view.setUint32(0, word[0]!, true);
    } else if (length === 2 && offset % 2 === 0) {
      const word = new Uint16Array(buffer, offset, 1);
      if (write) word[0] = view.getUint16(0, true);
      else view.setUint16(0, word[0]!, true);
    } else if (write) new Uint8Array(buffer, offset, length).set(bytes);
    else bytes.set(new Uint8Array(buffer, offset, length));
  }

  /** Lets go of it here; processes that mapped it keep their mappings. May be called again. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#mapping?.close();
    this.#readOnly?.close();
    this.#file.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
