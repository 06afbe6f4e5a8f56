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
