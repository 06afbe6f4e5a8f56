import { assertEquals, assertThrows } from "@std/assert";
import { CaptureReader, CaptureWriter } from "../../../lib/capture/mod.ts";
import { ProtocolError, UnsupportedError } from "../../../lib/errors/mod.ts";
import { O, openFdCount, OwnedFd, readFile, removeFile, writeAll } from "../../../ffi/mod.ts";

const scratch = (name: string) => `/tmp/ringside-capture-${crypto.randomUUID()}-${name}`;

function put(path: string, bytes: Uint8Array): void {
  using fd = OwnedFd.open(path, O.WRONLY | O.CREAT | O.TRUNC);
  writeAll(fd, bytes as Uint8Array<ArrayBuffer>);
}

function frames(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => {
    const bytes = new Uint8Array(14 + (i * 37) % 1500);
    bytes.forEach((_, at) => bytes[at] = (i * 31 + at) & 0xff);
    return bytes;
  });
}

for (const format of ["pcap", "pcapng"] as const) {
  Deno.test(`a ${format} file that was written reads back: bytes, times, order`, () => {
    const path = scratch(`x.${format}`);
    const sent = frames(3000);
    {
      using writer = new CaptureWriter(path);
      assertEquals(writer.format, format);
      sent.forEach((bytes, i) => writer.write(bytes, 1_700_000_000_123_456_789n + BigInt(i)));
    }
    using reader = CaptureReader.open(path);
    assertEquals(reader.format, format);
    let i = 0;
    for (const frame of reader) {
      assertEquals(frame.bytes, sent[i]);
      assertEquals(frame.originalLength, sent[i]!.length);
      assertEquals(frame.timeNs, 1_700_000_000_123_456_789n + BigInt(i));
      i++;
    }
    assertEquals(i, sent.length);
    removeFile(path);
  });

  Deno.test(`a ${format} file cut at any byte ends in frames or a typed error, never in a wrong frame`, () => {
    const path = scratch(`cut.${format}`);
    const sent = frames(4);
    {
      using writer = new CaptureWriter(path);
      sent.forEach((bytes) => writer.write(bytes, 1n));
    }
    const whole = readFile(path);
    const before = openFdCount();
    let clean = 0;
    for (let length = 0; length < whole.length; length++) {
      put(path, whole.subarray(0, length));
      try {
        using reader = CaptureReader.open(path);
        let i = 0;
        for (const frame of reader) assertEquals(frame.bytes, sent[i++]);
        clean++;
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
      }
    }
    // Only cuts at a block's or record's boundary go unnoticed: after the headers and after each frame but the last.
    assertEquals(clean, format === "pcap" ? 4 : 5);
    assertEquals(openFdCount(), before);
    removeFile(path);
  });
}

Deno.test("big-endian microsecond pcap is read", () => {
  const path = scratch("be.pcap");
  const bytes = new Uint8Array(24 + 16 + 3);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0xa1b2c3d4);
  view.setUint16(4, 2);
  view.setUint16(6, 4);
  view.setUint32(16, 65535);
  view.setUint32(20, 1);
  view.setUint32(24, 5);
  view.setUint32(28, 7);
  view.setUint32(32, 3);
  view.setUint32(36, 60);
  bytes.set([1, 2, 3], 40);
  put(path, bytes);
  using reader = CaptureReader.open(path);
  assertEquals(reader.next(), {
    bytes: new Uint8Array([1, 2, 3]),
    originalLength: 60,
    timeNs: 5_000_007_000n,
  });
  assertEquals(reader.next(), undefined);
  removeFile(path);
});

Deno.test("other files are refused: text, empty, other link types", () => {
  const path = scratch("no.pcap");
  put(path, new TextEncoder().encode("#!/bin/sh\necho no\n"));
  assertThrows(() => CaptureReader.open(path), ProtocolError, "is not a pcap or pcapng file");
  put(path, new Uint8Array(0));
  assertThrows(() => CaptureReader.open(path), ProtocolError, "is not a pcap");
  const wifi = new Uint8Array(24);
  new DataView(wifi.buffer).setUint32(0, 0xa1b2c3d4, true);
  new DataView(wifi.buffer).setUint32(20, 105, true);
  put(path, wifi);
  assertThrows(() => CaptureReader.open(path), UnsupportedError, "link type 105");
  removeFile(path);
});

// ---- files as other programs write them

const u16 = (value: number) => [value & 0xff, value >> 8];
const u32 = (value: number) => [...u16(value & 0xffff), ...u16(value >>> 16)];
const FRAME = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x88, 0xb5, 0x78, 0x78];

function block(type: number, ...body: readonly number[]): number[] {
  const padded = [...body, ...new Array<number>(-body.length & 3).fill(0)];
  return [...u32(type), ...u32(padded.length + 12), ...padded, ...u32(padded.length + 12)];
}
const SECTION = block(
  0x0a0d0d0a,
  ...u32(0x1a2b3c4d),
  ...u16(1),
  ...u16(0),
  ...new Array<number>(8).fill(0xff),
);
const port = (linkType: number, ...options: readonly number[]) =>
  block(1, ...u16(linkType), 0, 0, ...u32(0), ...options);
const packet = (index: number, ticks: number, bytes: readonly number[] = FRAME) =>
  block(6, ...u32(index), ...u32(0), ...u32(ticks), ...u32(bytes.length), ...u32(bytes.length), ...bytes);

function written(...parts: readonly (readonly number[])[]): string {
  const path = scratch("made");
  put(path, new Uint8Array(parts.flat()));
  return path;
}

Deno.test("pcapng: packets of other link types are left out and counted; strict, they are an error after what came before", () => {
  const path = written(
    SECTION,
    port(1),
    port(113),
    packet(0, 1),
    packet(1, 2, new Array<number>(56).fill(0x79)),
    packet(0, 3),
    block(3, ...u32(FRAME.length), ...FRAME),
  );
  using reader = CaptureReader.open(path);
  assertEquals([...reader].map((one) => one.timeNs), [1000n, 3000n, 0n]);
  assertEquals([reader.frames, reader.otherLinkTypes], [3, 1]);
  using strict = CaptureReader.open(path, { strict: true });
  assertEquals(strict.next()?.timeNs, 1000n);
  assertThrows(
    () => strict.next(),
    UnsupportedError,
    "link type 113, only Ethernet (1) can be sent (at byte",
  );
  removeFile(path);
});

Deno.test("pcapng: a file whose first interface is another's: its simple packets are left out", () => {
  const path = written(SECTION, port(113), block(3, ...u32(FRAME.length), ...FRAME), port(1), packet(1, 5));
  using reader = CaptureReader.open(path);
  assertEquals([...reader].length, 1);
  assertEquals(reader.otherLinkTypes, 1);
  removeFile(path);
});

Deno.test("pcapng: if_tsoffset is added, in seconds, also before 1970, beside if_tsresol", () => {
  const offset = (value: bigint) => [...new Uint8Array(BigInt64Array.of(value).buffer)];
  const nanoseconds = [...u16(9), ...u16(1), 9, 0, 0, 0];
  const end = [...u16(0), ...u16(0)];
  const path = written(
    SECTION,
    port(1, ...nanoseconds, ...u16(14), ...u16(8), ...offset(1_700_000_000n), ...end),
    port(1, ...u16(14), ...u16(8), ...offset(-1n), ...end),
    port(1, ...end, ...u16(14), ...u16(8), ...offset(7n)),
    packet(0, 5000),
    packet(1, 1),
    packet(2, 2),
  );
  using reader = CaptureReader.open(path);
  assertEquals([...reader].map((one) => one.timeNs), [1_700_000_000_000_005_000n, -999_999_000n, 2000n]);
  removeFile(path);
});

Deno.test("pcap of magic 0xa1b2cd34: its record headers have eight bytes more", () => {
  const record = (seconds: number) => [
    ...u32(seconds),
    ...u32(9),
    ...u32(FRAME.length),
    ...u32(60),
    ...u32(2),
    ...u16(0x0800),
    4,
    0,
    ...FRAME,
  ];
  const header = [...u32(0xa1b2cd34), ...u16(2), ...u16(4), ...u32(0), ...u32(0), ...u32(65535), ...u32(1)];
  const path = written(header, record(3), record(4));
  using reader = CaptureReader.open(path);
  assertEquals(
    [...reader],
    [3n, 4n].map((seconds) => ({
      bytes: new Uint8Array(FRAME),
      originalLength: 60,
      timeNs: seconds * 1_000_000_000n + 9000n,
    })),
  );
  put(path, new Uint8Array([...header, ...record(3).slice(0, 20)]));
  using cut = CaptureReader.open(path);
  assertThrows(() => cut.next(), ProtocolError, "ends within a record header (at byte 44, after 0 frames)");
  removeFile(path);
});

Deno.test("an error says where a file breaks, and how many frames came before", () => {
  const header = [...u32(0xa1b2c3d4), ...u16(2), ...u16(4), ...u32(0), ...u32(0), ...u32(65535), ...u32(1)];
  const record = [...u32(1), ...u32(2), ...u32(FRAME.length), ...u32(FRAME.length), ...FRAME];
  const path = written(header, record, record.slice(0, -10));
  using reader = CaptureReader.open(path);
  assertEquals(reader.next()?.bytes, new Uint8Array(FRAME));
  assertThrows(() => reader.next(), ProtocolError, "ends within a frame (at byte 78, after 1 frame)");
  removeFile(path);
});
