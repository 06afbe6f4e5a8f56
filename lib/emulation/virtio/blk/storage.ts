/**
 * What an emulated block device keeps its sectors in: a file, or memory.
 *
 * @module
 */
import {
  createMemfd,
  fileSizeBytes,
  isErrno,
  O,
  OwnedFd,
  pread,
  pwrite,
  resizeFile,
  syncFile,
  zeroRange,
} from "../../../../ffi/mod.ts";
import { RingsideError, UsageError } from "../../../errors/mod.ts";
import { BLK_SECTOR_BYTES } from "../../../virtio/spec/blk.ts";

const ZEROES_BYTES = 1 << 20;
let zeroes: Uint8Array<ArrayBuffer> | null = null;

/** Where sectors are. */
export interface StorageFields {
  /** Path of the image; one that is not there is made when `sizeBytes` is given, too. */
  readonly file?: string;
  /** Bytes, a multiple of 512. Without `file`: of memory that lasts as long as the device. */
  readonly sizeBytes?: number;
  /** It offers RO, and a file is opened for reading alone. */
  readonly readOnly?: boolean;
}

/** The file became shorter while it was in use. */
class ShortFileError extends RingsideError {
  override name = "ShortFileError";
}

/** An open image. Offsets and lengths are bytes, and lie within `sizeBytes`: the caller has checked them. */
export class BlkStorage implements Disposable {
  readonly #fd: OwnedFd;
  #sizeBytes: number;

  private constructor(fd: OwnedFd, sizeBytes: number) {
    this.#fd = fd;
    this.#sizeBytes = sizeBytes;
  }

  /** Size, whole sectors. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Makes it larger, with zeros, or a file shorter. @throws SyscallError, UsageError for a size that cannot be */
  resize(sizeBytes: number): void {
    checkSize(this.#fd.target, sizeBytes);
    try {
      resizeFile(this.#fd, sizeBytes);
    } catch (cause) {
      if (!isErrno(cause, "EPERM")) throw cause;
      throw new UsageError(`${sizeBytes} bytes are less than ${this.#sizeBytes}: memory can only grow`, {
        cause,
      });
    }
    this.#sizeBytes = sizeBytes;
  }

  /** Opens or makes it. @throws SyscallError, UsageError for a size that cannot be, or that is not the file's */
  static open(options: StorageFields, name: string): BlkStorage {
    const { file, sizeBytes, readOnly = false } = options;
    if (sizeBytes !== undefined) checkSize(name, sizeBytes);
    if (file === undefined) {
      if (sizeBytes === undefined) throw new UsageError(`${name}: a block device needs a file or a size`);
      return new BlkStorage(createMemfd(`sectors of ${name}`, sizeBytes), sizeBytes);
    }
    const create = sizeBytes === undefined || readOnly ? 0 : O.CREAT;
    using opened = new DisposableStack();
    const fd = opened.use(OwnedFd.open(file, (readOnly ? O.RDONLY : O.RDWR) | create));
    const found = fileSizeBytes(fd);
    if (found === 0 && create !== 0) resizeFile(fd, sizeBytes!);
    else if (sizeBytes !== undefined && found !== sizeBytes) {
      throw new UsageError(`${name}: ${file} has ${found} bytes, not ${sizeBytes}`, {
        hint: "leave sizeBytes out to take the file as it is",
      });
    }
    const whole = (sizeBytes ?? found) - (sizeBytes ?? found) % BLK_SECTOR_BYTES;
    checkSize(`${name}: ${file}`, whole);
    opened.move();
    return new BlkStorage(fd, whole);
  }

  /** Fills `into`. @throws SyscallError, RingsideError when the file has become too short */
  read(into: Uint8Array<ArrayBuffer>, offset: number): void {
    let rest = into;
    while (rest.length > 0) {
      const n = pread(this.#fd, rest, BigInt(offset));
      if (n === 0) throw new ShortFileError(`${this.#fd.target} ends before byte ${offset}`);
      rest = rest.subarray(n);
      offset += n;
    }
  }

  /** Writes all of `from`. @throws SyscallError */
  write(from: Uint8Array<ArrayBuffer>, offset: number): void {
    let rest = from;
    while (rest.length > 0) {
      const n = pwrite(this.#fd, rest, BigInt(offset));
      rest = rest.subarray(n);
      offset += n;
    }
  }

  /** Gives a range back; what it reads as afterwards is not said. @throws SyscallError */
  discard(offset: number, lengthBytes: number): void {
    if (lengthBytes > 0) zeroRange(this.#fd, offset, lengthBytes, "punch");
  }

  /** Makes a range read as zero. @param unmap its blocks may be given back @throws SyscallError */
  zero(offset: number, lengthBytes: number, unmap: boolean): void {
    if (lengthBytes === 0 || zeroRange(this.#fd, offset, lengthBytes, unmap ? "punch" : "keep")) return;
    zeroes ??= new Uint8Array(ZEROES_BYTES);
    for (let at = 0; at < lengthBytes; at += ZEROES_BYTES) {
      this.write(zeroes.subarray(0, Math.min(ZEROES_BYTES, lengthBytes - at)), offset + at);
    }
  }

  /** Returns when all that was written is on the disk. @throws SyscallError */
  flush(): void {
    syncFile(this.#fd);
  }

  /** Closes the file. May be called again. */
  close(): void {
    this.#fd.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function checkSize(name: string, sizeBytes: number): void {
  if (Number.isSafeInteger(sizeBytes) && sizeBytes > 0 && sizeBytes % BLK_SECTOR_BYTES === 0) return;
  throw new UsageError(`${name}: ${sizeBytes} bytes are no whole number of sectors`, {
    hint: `a multiple of ${BLK_SECTOR_BYTES}, above 0`,
  });
}
