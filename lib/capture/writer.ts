/**
 * Writes capture files: pcapng for names that end so, else pcap with nanoseconds.
 *
 * @module
 */
import { NewFile, writeAll } from "../../ffi/mod.ts";
import { ClosedError, UsageError } from "../errors/mod.ts";
import { LINKTYPE_ETHERNET, MAX_FRAME_BYTES } from "./frame.ts";

const BUFFER_BYTES = 1 << 20;
const PCAP_HEADER_BYTES = 24;
const NANOSECONDS = 9;

/** A capture file that is being written. Frames are buffered; `close` writes what is left, and puts the file into its place. */
export class CaptureWriter implements Disposable {
  /** The file. */
  readonly path: string;
  /** What is written. */
  readonly format: "pcap" | "pcapng";
  readonly #file: NewFile;
  readonly #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(BUFFER_BYTES);
  readonly #view: DataView = new DataView(this.#buffer.buffer);
  #used = 0;
  /** Frames written. */
  frames = 0;

  /** Begins a file, which will replace one of that name (`-`: goes on with standard output), with its header. @throws SyscallError */
  constructor(path: string, format: "pcap" | "pcapng" = path.endsWith("ng") ? "pcapng" : "pcap") {
    this.format = format;
    this.#file = new NewFile(path);
    this.path = this.#file.path;
    if (format === "pcap") this.#pcapHeader();
    else this.#sectionAndInterface();
  }

  /** Appends a frame. `timeNs`: nanoseconds since 1970, default now. @throws UsageError, SyscallError, ClosedError */
  write(bytes: Uint8Array, timeNs: bigint = BigInt(Date.now()) * 1_000_000n): void {
    if (this.#file.fd.closed) throw new ClosedError(this.path);
    if (bytes.byteLength > MAX_FRAME_BYTES) throw new UsageError(`a frame of ${bytes.byteLength} bytes`);
    if (this.#used + bytes.byteLength + 64 > BUFFER_BYTES) this.flush();
    if (this.format === "pcap") this.#record(bytes, timeNs);
    else this.#enhancedPacket(bytes, timeNs);
    this.frames++;
  }

  #pcapHeader(): void {
    this.#view.setUint32(0, 0xa1b23c4d, true);
    this.#view.setUint16(4, 2, true);
    this.#view.setUint16(6, 4, true);
    this.#view.setUint32(16, MAX_FRAME_BYTES, true);
    this.#view.setUint32(20, LINKTYPE_ETHERNET, true);
    this.#used = PCAP_HEADER_BYTES;
  }

  #record(bytes: Uint8Array, timeNs: bigint): void {
    const at = this.#used;
    this.#view.setUint32(at, Number(timeNs / 1_000_000_000n), true);
    this.#view.setUint32(at + 4, Number(timeNs % 1_000_000_000n), true);
    this.#view.setUint32(at + 8, bytes.byteLength, true);
    this.#view.setUint32(at + 12, bytes.byteLength, true);
    this.#buffer.set(bytes, at + 16);
    this.#used = at + 16 + bytes.byteLength;
  }

  #sectionAndInterface(): void {
    const view = this.#view;
    view.setUint32(0, 0x0a0d0d0a, true);
    view.setUint32(4, 28, true);
    view.setUint32(8, 0x1a2b3c4d, true);
    view.setUint16(12, 1, true);
    view.setBigInt64(16, -1n, true);
    view.setUint32(24, 28, true);
    // Interface block with the option if_tsresol = 10^-9 s.
    view.setUint32(28, 1, true);
    view.setUint32(32, 32, true);
    view.setUint16(36, LINKTYPE_ETHERNET, true);
    view.setUint32(40, MAX_FRAME_BYTES, true);
    view.setUint16(44, 9, true);
    view.setUint16(46, 1, true);
    view.setUint8(48, NANOSECONDS);
    view.setUint32(52, 0, true);
    view.setUint32(56, 32, true);
    this.#used = 60;
  }

  #enhancedPacket(bytes: Uint8Array, timeNs: bigint): void {
    const at = this.#used;
    const view = this.#view;
    const padded = (bytes.byteLength + 3) & ~3;
    const length = 32 + padded;
    view.setUint32(at, 6, true);
    view.setUint32(at + 4, length, true);
    view.setUint32(at + 8, 0, true);
    view.setUint32(at + 12, Number(timeNs >> 32n), true);
    view.setUint32(at + 16, Number(timeNs & 0xffff_ffffn), true);
    view.setUint32(at + 20, bytes.byteLength, true);
    view.setUint32(at + 24, bytes.byteLength, true);
    this.#buffer.fill(0, at + 28 + bytes.byteLength, at + 28 + padded);
    this.#buffer.set(bytes, at + 28);
    view.setUint32(at + 28 + padded, length, true);
    this.#used = at + length;
  }

  /** Writes what is buffered. @throws SyscallError */
  flush(): void {
    if (this.#used === 0) return;
    const used = this.#used;
    this.#used = 0;
    writeAll(this.#file.fd, this.#buffer.subarray(0, used));
  }

  /** Writes what is left, and puts the file into its place. May be called again. @throws SyscallError, and nothing is left of it */
  close(): void {
    using file = this.#file;
    if (file.fd.closed) return;
    this.flush();
    file.keep();
  }

  /** Gives the file up: what was there before stays. */
  discard(): void {
    this.#file[Symbol.dispose]();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
