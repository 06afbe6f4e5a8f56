/**
 * Reads capture files: pcap (micro- and nanoseconds, either byte order, and with the longer record headers of Kuznetzov's libpcap) and pcapng.
 *
 * @module
 */
import { InputError, UnsupportedError } from "../errors/mod.ts";
import { ByteSource } from "./byte_source.ts";
import { type CapturedFrame, LINKTYPE_ETHERNET, MAX_FRAME_BYTES } from "./frame.ts";

const PCAP_MICROSECONDS = 0xa1b2c3d4;
const PCAP_NANOSECONDS = 0xa1b23c4d;
const PCAP_LONG_RECORDS = 0xa1b2cd34;
const RECORD_HEADER_BYTES = 16;
/** Behind the usual header: interface index, protocol, packet type, a byte of nothing. */
const LONG_RECORD_HEADER_BYTES = 24;
const SECTION_HEADER = 0x0a0d0d0a;
const BYTE_ORDER = 0x1a2b3c4d;
const BLOCK = { interface: 1, packet: 2, simplePacket: 3, enhancedPacket: 6 } as const;
/** Options of an interface. */
const OPTION = { end: 0, resolution: 9, offset: 14 } as const;
const MAX_BLOCK_BYTES = 16 << 20;
const NS = 1_000_000_000n;

/** How to read. */
export interface CaptureOptions {
  /** A packet of another link type than Ethernet in a pcapng file is an error, instead of being left out. Default false. */
  readonly strict?: boolean;
}

interface CaptureInterface {
  readonly linkType: number;
  readonly snapLength: number;
  /** Ticks a second. */
  readonly ticksPerSecond: bigint;
  /** Added to each time. */
  readonly offsetNs: bigint;
}

/** A capture file that is open for reading; frames come one by one, so its size does not matter. */
export class CaptureReader implements Disposable, Iterable<CapturedFrame> {
  /** The file. */
  readonly path: string;
  /** What the file turned out to be. */
  readonly format: "pcap" | "pcapng";
  /** Frames that `next` has given. */
  frames = 0;
  /** Packets of other link types that were left out. */
  otherLinkTypes = 0;
  readonly #source: ByteSource;
  readonly #strict: boolean;
  #recordHeaderBytes = RECORD_HEADER_BYTES;
  #littleEndian = true;
  #ticksPerSecond = 1_000_000n;
  #interfaces: CaptureInterface[] = [];

  private constructor(source: ByteSource, format: "pcap" | "pcapng", strict: boolean) {
    this.#source = source;
    this.#strict = strict;
    this.path = source.path;
    this.format = format;
  }

  /** Opens a file (`-`: standard input) and reads its header. @throws SyscallError, InputError (no capture file), UnsupportedError (not Ethernet) */
  static open(path: string, options: CaptureOptions = {}): CaptureReader {
    using opened = new DisposableStack();
    const reader = CaptureReader.#begin(opened.use(new ByteSource(path)), options.strict ?? false);
    opened.move();
    return reader;
  }

  static #begin(source: ByteSource, strict: boolean): CaptureReader {
    const magic = source.take(4);
    if (magic.byteLength < 4) throw notACapture(source.path);
    const view = new DataView(magic.buffer, magic.byteOffset, 4);
    for (const littleEndian of [true, false]) {
      const value = view.getUint32(0, littleEndian);
      if (value === PCAP_MICROSECONDS || value === PCAP_NANOSECONDS || value === PCAP_LONG_RECORDS) {
        const reader = new CaptureReader(source, "pcap", strict);
        reader.#littleEndian = littleEndian;
        if (value === PCAP_NANOSECONDS) reader.#ticksPerSecond = NS;
        if (value === PCAP_LONG_RECORDS) reader.#recordHeaderBytes = LONG_RECORD_HEADER_BYTES;
        reader.#readPcapHeader();
        return reader;
      }
    }
    if (view.getUint32(0, true) === SECTION_HEADER) {
      const reader = new CaptureReader(source, "pcapng", strict);
      reader.#readSectionHeader();
      return reader;
    }
    throw notACapture(source.path);
  }

  /** The next frame; undefined at the end. @throws InputError when the file is cut or broken, UnsupportedError */
  next(): CapturedFrame | undefined {
    const frame = this.format === "pcap" ? this.#nextRecord() : this.#nextBlock();
    if (frame !== undefined) this.frames++;
    return frame;
  }

  /** All frames to the end. @throws as `next` */
  *[Symbol.iterator](): Iterator<CapturedFrame> {
    for (let frame = this.next(); frame !== undefined; frame = this.next()) yield frame;
  }

  #readPcapHeader(): void {
    const header = this.#must(20, "file header");
    const linkType = header.getUint32(16, this.#littleEndian) & 0xffff;
    if (linkType !== LINKTYPE_ETHERNET) throw this.#notEthernet(linkType);
  }

  #nextRecord(): CapturedFrame | undefined {
    const header = this.#source.take(this.#recordHeaderBytes);
    if (header.byteLength === 0) return undefined;
    if (header.byteLength < this.#recordHeaderBytes) throw this.#broken("ends within a record header");
    const view = new DataView(header.buffer, header.byteOffset, this.#recordHeaderBytes);
    const little = this.#littleEndian;
    const length = view.getUint32(8, little);
    if (length > MAX_FRAME_BYTES) throw this.#broken(`a record claims ${length} bytes`);
    const bytes = this.#source.take(length);
    if (bytes.byteLength < length) throw this.#broken("ends within a frame");
    const fraction = BigInt(view.getUint32(4, little)) * (NS / this.#ticksPerSecond);
    return {
      bytes,
      originalLength: view.getUint32(12, little),
      timeNs: BigInt(view.getUint32(0, little)) * NS + fraction,
    };
  }

  /** After the block type of a section header: length, byte order, version, section length, options. */
  #readSectionHeader(): void {
    const head = this.#must(8, "section header");
    if (head.getUint32(4, true) === BYTE_ORDER) this.#littleEndian = true;
    else if (head.getUint32(4, false) === BYTE_ORDER) this.#littleEndian = false;
    else throw this.#broken("a section header has no byte-order mark");
    const length = head.getUint32(0, this.#littleEndian);
    if (length < 28 || length > MAX_BLOCK_BYTES || length % 4 !== 0) {
      throw this.#broken(`a section header claims ${length} bytes`);
    }
    this.#must(length - 12, "section header");
    this.#interfaces = [];
  }

  #nextBlock(): CapturedFrame | undefined {
    while (true) {
      const head = this.#source.take(4);
      if (head.byteLength === 0) return undefined;
      if (head.byteLength < 4) throw this.#broken("ends within a block");
      const little = this.#littleEndian;
      const type = new DataView(head.buffer, head.byteOffset, 4).getUint32(0, little);
      if (type === SECTION_HEADER) {
        this.#readSectionHeader();
        continue;
      }
      const length = this.#must(4, "block").getUint32(0, little);
      if (length < 12 || length > MAX_BLOCK_BYTES || length % 4 !== 0) {
        throw this.#broken(`a block claims ${length} bytes`);
      }
      const body = this.#must(length - 8, "block");
      if (body.getUint32(length - 12, little) !== length) throw this.#broken("a block's two lengths differ");
      const frame = this.#decode(type, body, length - 12);
      if (frame !== undefined) return frame;
    }
  }

  #decode(type: number, body: DataView<ArrayBuffer>, size: number): CapturedFrame | undefined {
    const little = this.#littleEndian;
    if (type === BLOCK.interface) {
      if (size < 8) throw this.#broken("an interface block is too short");
      this.#interfaces.push({
        linkType: body.getUint16(0, little),
        snapLength: body.getUint32(4, little),
        ...this.#clock(body, size),
      });
      return undefined;
    }
    if (type === BLOCK.simplePacket) {
      if (size < 4) throw this.#broken("a simple packet block is too short");
      const port = this.#interface(0);
      if (port === undefined) return undefined;
      const original = body.getUint32(0, little);
      const captured = Math.min(original, size - 4, port.snapLength === 0 ? Infinity : port.snapLength);
      return { bytes: slice(body, 4, captured), originalLength: original, timeNs: 0n };
    }
    if (type !== BLOCK.enhancedPacket && type !== BLOCK.packet) return undefined;
    if (size < 20) throw this.#broken("a packet block is too short");
    const index = type === BLOCK.packet ? body.getUint16(0, little) : body.getUint32(0, little);
    const port = this.#interface(index);
    if (port === undefined) return undefined;
    const captured = body.getUint32(12, little);
    if (captured > MAX_FRAME_BYTES || 20 + captured > size) {
      throw this.#broken(`a packet block claims ${captured} bytes`);
    }
    const ticks = (BigInt(body.getUint32(4, little)) << 32n) | BigInt(body.getUint32(8, little));
    return {
      bytes: slice(body, 20, captured),
      originalLength: body.getUint32(16, little),
      timeNs: (ticks * NS) / port.ticksPerSecond + port.offsetNs,
    };
  }

  /** Options if_tsresol, a power of ten, or of two when its top bit is set, and if_tsoffset, seconds. */
  #clock(body: DataView, size: number): Pick<CaptureInterface, "ticksPerSecond" | "offsetNs"> {
    const clock = { ticksPerSecond: 1_000_000n, offsetNs: 0n };
    for (let at = 8; at + 4 <= size;) {
      const code = body.getUint16(at, this.#littleEndian);
      const length = body.getUint16(at + 2, this.#littleEndian);
      if (code === OPTION.end || at + 4 + length > size) break;
      if (code === OPTION.resolution && length >= 1) {
        const value = body.getUint8(at + 4);
        clock.ticksPerSecond = value & 0x80 ? 1n << BigInt(value & 0x7f) : 10n ** BigInt(value);
      }
      if (code === OPTION.offset && length >= 8) {
        clock.offsetNs = body.getBigInt64(at + 4, this.#littleEndian) * NS;
      }
      at += 4 + ((length + 3) & ~3);
    }
    return clock;
  }

  /** The interface of a packet; undefined when its packets are left out. */
  #interface(index: number): CaptureInterface | undefined {
    const port = this.#interfaces[index];
    if (port === undefined) throw this.#broken(`a packet names interface ${index}, which is not described`);
    if (port.linkType === LINKTYPE_ETHERNET) return port;
    if (this.#strict) throw this.#notEthernet(port.linkType);
    this.otherLinkTypes++;
    return undefined;
  }

  #notEthernet(linkType: number): UnsupportedError {
    const where = this.frames === 0 ? "" : ` (at byte ${this.#source.position}, after ${this.#count})`;
    return new UnsupportedError(`${this.path}: link type ${linkType}, only Ethernet (1) can be sent${where}`);
  }

  get #count(): string {
    return this.frames === 1 ? "1 frame" : `${this.frames} frames`;
  }

  #must(length: number, what: string): DataView<ArrayBuffer> {
    const bytes = this.#source.take(length);
    if (bytes.byteLength < length) throw this.#broken(`ends within a ${what}`);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  }

  #broken(what: string): InputError {
    return new InputError(
      `${this.path}: broken ${this.format} file: ${what} (at byte ${this.#source.position}, after ${this.#count})`,
    );
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.#source[Symbol.dispose]();
  }
}

function slice(body: DataView<ArrayBuffer>, offset: number, length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(body.buffer, body.byteOffset + offset, length);
}

function notACapture(path: string): InputError {
  return new InputError(`${path} is not a pcap or pcapng file`, {
    hint: "pass a capture as written by tcpdump or Wireshark",
  });
}
