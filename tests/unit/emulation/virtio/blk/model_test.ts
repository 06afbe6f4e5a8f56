import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { O, OwnedFd, readFile, removeFile, resizeFile } from "../../../../../ffi/mod.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { BlkModel, type BlkModelOptions } from "../../../../../lib/emulation/virtio/blk/model.ts";
import { PciView } from "../../../../../lib/emulation/virtio/views/pci/view.ts";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { BLK_FEATURE, FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { Random } from "../../../../random.ts";
import { FakeFunction } from "../fake_machine.ts";

const RULES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;
const ALL = RULES | FEATURE.INDIRECT_DESC | BLK_FEATURE.FLUSH | BLK_FEATURE.DISCARD |
  BLK_FEATURE.WRITE_ZEROES |
  BLK_FEATURE.CONFIG_WCE | BLK_FEATURE.SIZE_MAX | BLK_FEATURE.SEG_MAX;
const SECTOR = 512;
const DEVICE_CONFIG = 0x2000;

/** A driver that knows the wire format by its offsets. */
class Blk implements Disposable {
  readonly model: BlkModel;
  readonly fn: FakeFunction;

  constructor(options: Partial<BlkModelOptions> = {}, features = ALL, queues = [0]) {
    this.model = new BlkModel({ sizeBytes: 256 * SECTOR, queueSize: 64, ...options });
    const front = new PciView(this.model);
    this.fn = new FakeFunction(front, "0000:03:00.0", 4 << 20);
    this.fn.bringUp(features & front.core.offered, queues, 64);
  }

  /** Bytes of a header: type, 0, sector. */
  static header(type: number, sector: number, reserved = 0): number[] {
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, type, true);
    view.setUint32(4, reserved, true);
    view.setBigUint64(8, BigInt(sector), true);
    return [...bytes];
  }

  static range(sector: number, sectors: number, flags = 0): number[] {
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(sector), true);
    view.setUint32(8, sectors, true);
    view.setUint32(12, flags, true);
    return [...bytes];
  }

  /**
   * Submits a request cut at these places of its readable and its writable bytes.
   * @returns what the device wrote, the status last, and the used length
   */
  request(
    readable: readonly number[],
    writableBytes: number,
    cuts: { readable?: readonly number[]; writable?: readonly number[]; indirect?: boolean; queue?: number } =
      {},
  ): { bytes: Uint8Array; status: number; used: number } {
    const { client } = this.fn;
    const ring = this.fn.rings.get(cuts.queue ?? 0)!;
    const parts: { iova: bigint; length: number; write: boolean; at: number }[] = [];
    const cut = (total: number, places: readonly number[], write: boolean) => {
      let from = 0;
      for (const to of [...places, total]) {
        if (to === from) continue;
        // Odd places in memory: nothing may depend on alignment.
        const at = client.allocate(to - from + 3, 1) + 3;
        if (write) client.bytes.fill(0xee, at, at + to - from);
        else client.bytes.set(readable.slice(from, to), at);
        parts.push({ iova: client.at(at), length: to - from, write, at });
        from = to;
      }
    };
    cut(readable.length, cuts.readable ?? [], false);
    cut(writableBytes, cuts.writable ?? [], true);
    if (cuts.indirect) ring.addIndirect(parts);
    else ring.add(parts);
    ring.publish();
    this.fn.run();
    const [used] = ring.takeUsed();
    const bytes = parts.filter((part) => part.write).flatMap((
      { at, length },
    ) => [...client.bytes.slice(at, at + length)]);
    return { bytes: Uint8Array.from(bytes), status: bytes.at(-1) ?? -1, used: used?.length ?? -1 };
  }

  read(sector: number, sectors: number): Uint8Array {
    const { bytes, status, used } = this.request(Blk.header(0, sector), sectors * SECTOR + 1);
    assertEquals([status, used], [0, sectors * SECTOR + 1]);
    return bytes.slice(0, -1);
  }

  /** What the device had to complain of. */
  take(): string[] {
    return this.fn.port.take();
  }

  [Symbol.dispose](): void {
    this.fn[Symbol.dispose]();
  }
}

function data(sectors: number, seed: number): number[] {
  const random = new Random(seed);
  return Array.from({ length: sectors * SECTOR }, () => random.next() & 0xff);
}

Deno.test("5.2 identity, queues and config space by offset", () => {
  using t = new Blk({ queues: 3, blockSize: 1024, sizeMax: 4096, segMax: 7, rangeSectors: 99, ranges: 5 });
  const { fn } = t;
  assertEquals(fn.behaviour.identity.deviceId, 0x1042);
  assertEquals(fn.read(18, 2), 3);
  const config = (offset: number, width: number) => fn.read(DEVICE_CONFIG + offset, width);
  assertEquals([config(0, 4), config(4, 4)], [256, 0]);
  assertEquals([config(8, 4), config(12, 4)], [4096, 7]);
  assertEquals([config(18, 1), config(19, 1), config(20, 4)], [16, 63, 1024]);
  assertEquals([config(24, 1), config(25, 1), config(26, 2), config(28, 4)], [2, 0, 1, 0]);
  assertEquals([config(32, 1), config(33, 1), config(34, 2)], [1, 0, 3]);
  assertEquals([config(36, 4), config(40, 4), config(44, 4)], [99, 5, 2]);
  assertEquals([config(48, 4), config(52, 4), config(56, 4)], [99, 5, 1]);
  assertEquals(t.take(), []);
});

Deno.test("2.7.4 any layout: a request cut at each single byte, and at random places, is the same request", () => {
  using t = new Blk();
  const random = new Random(0xb10c);
  const sectors = 2;
  // Every single cut of the header, and of the first bytes of data and the last before the status.
  for (let at = 1; at < 24; at++) {
    const written = data(sectors, at);
    const write = t.request([...Blk.header(1, at), ...written], 1, {
      readable: [at],
      indirect: at % 2 === 0,
    });
    assertEquals([write.status, write.used], [0, 1]);
    const total = sectors * SECTOR + 1;
    const read = t.request(Blk.header(0, at), total, {
      readable: at < 16 ? [at] : [],
      writable: [total - at],
      indirect: at % 2 === 1,
    });
    assertEquals([read.status, read.used], [0, total]);
    assertEquals([...read.bytes.slice(0, -1)], written);
  }
  for (let round = 0; round < 300; round++) {
    const sector = random.below(200);
    const written = data(1, round + 1000);
    const places = (total: number) => {
      const count = random.below(12);
      return [...new Set(Array.from({ length: count }, () => 1 + random.below(total - 1)))].sort((a, b) =>
        a - b
      );
    };
    const readable = [...Blk.header(1, sector), ...written];
    const write = t.request(readable, 1, {
      readable: places(readable.length),
      indirect: random.below(2) === 0,
    });
    assertEquals([write.status, write.used], [0, 1]);
    const read = t.request(Blk.header(0, sector), SECTOR + 1, {
      readable: places(16),
      writable: places(SECTOR + 1),
      indirect: random.below(2) === 0,
    });
    assertEquals([read.status, read.used], [0, SECTOR + 1]);
    assertEquals([...read.bytes.slice(0, -1)], written);
  }
  assertEquals(t.take(), []);
});

Deno.test("2.7.4 discard and write zeroes segments cut anywhere", () => {
  using t = new Blk();
  t.request([...Blk.header(1, 0), ...data(64, 5)], 1);
  const before = data(64, 5);
  for (let at = 1; at < 48; at++) {
    const first = 64 - at - 4;
    const zeroes = [...Blk.header(13, 0), ...Blk.range(first, 2, at % 2), ...Blk.range(first + 2, 1)];
    const { status, used } = t.request(zeroes, 1, { readable: [at], indirect: true });
    assertEquals([status, used], [0, 1]);
    before.fill(0, first * SECTOR, (first + 3) * SECTOR);
    assertEquals([...t.read(0, 64)], before);
  }
  assertEquals(t.take(), []);
});

Deno.test("5.2.6 get id: 20 bytes, NUL-padded; 20 characters without NUL", () => {
  for (const serial of ["abc", "exactly 20 character", ""]) {
    using t = new Blk({ serial });
    const { bytes, status, used } = t.request(Blk.header(8, 0), 21, { writable: [3, 20] });
    assertEquals([status, used], [0, 21]);
    const expected = new Uint8Array(20);
    new TextEncoder().encodeInto(serial, expected);
    assertEquals(bytes.slice(0, 20), expected);
    assertEquals(t.take(), []);
  }
});

Deno.test("5.2.6 limits of segments bind a driver that negotiated them, and no other", () => {
  const { SIZE_MAX, SEG_MAX } = BLK_FEATURE;
  for (const [off, status] of [[0n, 1], [SIZE_MAX, 0], [SIZE_MAX | SEG_MAX, 0]] as const) {
    using t = new Blk({ sizeMax: 4096, segMax: 2 }, ALL & ~off);
    assertEquals(t.request(Blk.header(0, 0), 9 * SECTOR + 1).status, status);
  }
});

Deno.test("5.2.6 what is refused, with which status, and that nothing changes", () => {
  using t = new Blk({ sizeMax: 4096, segMax: 4, rangeSectors: 10, ranges: 2 });
  const contents = data(8, 9);
  t.request([...Blk.header(1, 0), ...contents], 1, { readable: [16] });
  const cases: [string, number[], number, number, string][] = [
    ["unknown type", Blk.header(2, 0), 1, 2, ""],
    ["secure erase", [...Blk.header(14, 0), ...Blk.range(0, 1)], 1, 2, ""],
    ["get lifetime", Blk.header(10, 0), 7, 2, ""],
    ["read past the end", Blk.header(0, 256), 513, 1, "beyond the capacity"],
    ["read over the end", Blk.header(0, 255), 1025, 1, "beyond the capacity"],
    ["read at 2^63", Blk.header(0, 2 ** 63), 513, 1, "beyond the capacity"],
    ["write past the end", [...Blk.header(1, 256), ...data(1, 1)], 1, 1, "beyond the capacity"],
    ["read of 100 bytes", Blk.header(0, 0), 101, 1, "no whole sectors"],
    ["write of 513 bytes", [...Blk.header(1, 0), ...data(2, 1).slice(0, 513)], 1, 1, "no whole sectors"],
    ["read with data to write", [...Blk.header(0, 0), 1], 513, 1, "other direction"],
    ["write with data to read", [...Blk.header(1, 0), ...data(1, 1)], 2, 1, "other direction"],
    ["too large a segment", [...Blk.header(1, 0), ...data(9, 1)], 1, 1, "size_max"],
    ["too much", [...Blk.header(1, 0), ...data(33, 1)], 1, 1, "at most 4 segments"],
    ["id of 19 bytes", Blk.header(8, 0), 20, 1, "must be 20"],
    ["discard with unmap", [...Blk.header(11, 0), ...Blk.range(0, 1, 1)], 1, 2, ""],
    ["discard with a reserved flag", [...Blk.header(11, 0), ...Blk.range(0, 1, 2)], 1, 2, ""],
    ["write zeroes with a reserved flag", [...Blk.header(13, 0), ...Blk.range(0, 1, 0x8000_0001)], 1, 2, ""],
    [
      "write zeroes, the second beyond the end",
      [...Blk.header(13, 0), ...Blk.range(0, 1), ...Blk.range(250, 7)],
      1,
      1,
      "7 sectors at 250",
    ],
    ["write zeroes of too many sectors", [...Blk.header(13, 0), ...Blk.range(0, 11)], 1, 1, "at most 10"],
    [
      "write zeroes in three",
      [...Blk.header(13, 0), ...Blk.range(0, 1), ...Blk.range(1, 1), ...Blk.range(2, 1)],
      1,
      1,
      "1 to 2",
    ],
    ["write zeroes of half a segment", [...Blk.header(13, 0), ...Blk.range(0, 1).slice(8)], 1, 1, "segments"],
    ["write zeroes of nothing", Blk.header(13, 0), 1, 1, "segments"],
  ];
  for (const [what, readable, writable, status, report] of cases) {
    const cuts = readable.length > 16 ? [16] : [];
    const answer = t.request(readable, writable, { readable: cuts });
    assertEquals([answer.status, answer.used], [status, writable], what);
    assert(answer.bytes.slice(0, -1).every((byte) => byte === 0), `${what}: what is not answered is zeroed`);
    const reports = t.take();
    assertEquals(reports.length, report === "" ? 0 : 1, `${what}: ${reports}`);
    if (report !== "") assertStringIncludes(reports[0]!, report);
    assertEquals([...t.read(0, 8)], contents, what);
  }
  assertEquals(t.fn.status, 15, "the device runs on");
});

Deno.test("5.2.6 a request without a whole header or a status stops the device", () => {
  for (
    const [readable, writable] of [[Blk.header(0, 0).slice(1), 513], [Blk.header(1, 0), 0], [[], 1]] as const
  ) {
    using t = new Blk();
    assertEquals(t.request(readable, writable).used, -1);
    assertStringIncludes(t.take()[0]!, "no header or no status");
    assertEquals(t.fn.status, 15 | 64);
  }
});

Deno.test("features that were not accepted: UNSUPP for their commands; MQ: only queue 0", () => {
  using t = new Blk({ queues: 2 }, RULES, [0, 1]);
  assertEquals(t.request(Blk.header(4, 0), 1).status, 2);
  assertEquals(t.request([...Blk.header(11, 0), ...Blk.range(0, 1)], 1).status, 2);
  assertEquals(t.request([...Blk.header(13, 0), ...Blk.range(0, 1)], 1).status, 2);
  assertEquals(t.request(Blk.header(8, 0), 21).status, 0);
  assertEquals(t.request(Blk.header(8, 0), 21, { queue: 1 }).used, -1);
  t.fn.notify(1);
  assertStringIncludes(t.take()[0]!, "without MQ");
  using both = new Blk({ queues: 2 }, ALL | BLK_FEATURE.MQ, [0, 1]);
  assertEquals(both.request(Blk.header(8, 0), 21, { queue: 1 }).status, 0);
});

Deno.test("5.2.6.2 read-only: IOERR for writes, nothing is written, and no discard or write zeroes is offered", () => {
  for (const features of [RULES, ALL | BLK_FEATURE.RO]) {
    using t = new Blk({ readOnly: true }, features);
    assertEquals(t.model.features & (BLK_FEATURE.DISCARD | BLK_FEATURE.WRITE_ZEROES), 0n);
    assertEquals(t.request([...Blk.header(1, 0), ...data(1, 1)], 1).status, 1);
    assertEquals(t.read(0, 1), new Uint8Array(SECTOR));
    assertEquals(t.request([...Blk.header(13, 0), ...Blk.range(0, 1)], 1).status, 2);
  }
});

Deno.test("5.2.5 writeback: one byte, 0 or 1, with CONFIG_WCE; 0 when FLUSH was not accepted; back after a reset", () => {
  using t = new Blk();
  const at = DEVICE_CONFIG + 32;
  t.fn.write(at, 1, 0);
  assertEquals(t.fn.read(at, 1), 0);
  t.fn.write(at, 1, 2);
  t.fn.write(at, 2, 1);
  t.fn.write(DEVICE_CONFIG, 4, 1);
  assertEquals(t.fn.read(at, 1), 0);
  assertEquals(t.take().length, 3);
  assertEquals(t.request([...Blk.header(1, 0), ...data(1, 1)], 1).status, 0);
  t.fn.status = 0;
  assertEquals(t.fn.read(at, 1), 1);
  using without = new Blk({}, RULES | BLK_FEATURE.CONFIG_WCE);
  assertEquals(without.fn.read(at, 1), 0);
  using alone = new Blk({ featuresOff: BLK_FEATURE.FLUSH });
  assertEquals(alone.model.features & BLK_FEATURE.CONFIG_WCE, 0n);
});

Deno.test("poll keeps its budget over the queues, arm sees what is left", () => {
  using t = new Blk({ queues: 2 }, ALL | BLK_FEATURE.MQ, [0, 1]);
  const { client } = t.fn;
  const header = client.allocate(16), status = client.allocate(1);
  client.bytes.set(Blk.header(4, 0), header);
  for (const index of [0, 1]) {
    const ring = t.fn.rings.get(index)!;
    for (let i = 0; i < 5; i++) {
      ring.add([{ iova: client.at(header), length: 16 }, {
        iova: client.at(status),
        length: 1,
        write: true,
      }]);
    }
    ring.publish();
  }
  assertEquals(t.fn.behaviour.poll(3), 3);
  assertEquals(t.fn.behaviour.arm(), true);
  assertEquals(t.fn.behaviour.poll(100), 7);
  assertEquals(t.fn.behaviour.arm(), false);
  for (const index of [0, 1]) assertEquals(t.fn.rings.get(index)!.takeUsed().length, 5);
});

Deno.test("images: taken as they are, made when a size is given, refused when it is another; what fails is IOERR", () => {
  const file = `/tmp/ringside-image-${Deno.pid}`;
  try {
    assertThrows(
      () => new Blk({ file, sizeBytes: undefined } as unknown as BlkModelOptions),
      Error,
      "No such file",
    );
    {
      using made = new Blk({ file, sizeBytes: 16 * SECTOR });
      made.request([...Blk.header(1, 3), ...data(1, 8)], 1);
    }
    assertEquals([...readFile(file).slice(3 * SECTOR, 4 * SECTOR)], data(1, 8));
    assertThrows(() => new Blk({ file, sizeBytes: 32 * SECTOR }), UsageError, "not 16384");
    using again = new Blk({ file, sizeBytes: 16 * SECTOR });
    assertEquals([...again.read(3, 1)], data(1, 8));
    using fd = OwnedFd.open(file, O.RDWR);
    resizeFile(fd, 2 * SECTOR);
    assertEquals(again.request(Blk.header(0, 3), 513).status, 1);
    assertStringIncludes(again.take()[0]!, "ends before byte");
  } finally {
    removeFile(file);
  }
});

Deno.test("options that cannot be", () => {
  for (
    const options of [
      { queues: 0 },
      { queueSize: 100 },
      { blockSize: 100 },
      { blockSize: 1000 },
      { sizeMax: 100, segMax: 5 },
      { serial: "a serial that is too long" },
      { serial: "ü" },
      { lie: "blk-nonsense" },
      { lie: "blk-io-error:x" },
    ]
  ) {
    const place = { address: "0000:01:00.0", sizeBytes: 512 };
    assertThrows(
      () => createVirtioModels().createBehaviour("virtio-blk", { ...place, ...options }),
      UsageError,
    );
  }
  assertThrows(() => new Blk({ sizeBytes: 100 }), UsageError, "whole number of sectors");
});
