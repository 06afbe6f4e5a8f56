import { assertEquals, assertStringIncludes } from "@std/assert";
import { BlkModel, type BlkModelOptions } from "../../../../../../lib/emulation/virtio/blk/model.ts";
import { BLK_FEATURE, FEATURE } from "../../../../../../lib/virtio/spec/mod.ts";
import { Random } from "../../../../../random.ts";
import { FakeLegacy } from "../../fake_legacy.ts";

const SECTOR = 512;
const { ANY_LAYOUT } = FEATURE;

/** A legacy driver of a block device. */
class LegacyDisk implements Disposable {
  readonly model: BlkModel;
  readonly t: FakeLegacy;

  constructor(options: Partial<BlkModelOptions> = {}, anyLayout = true) {
    this.model = new BlkModel({ sizeBytes: 256 * SECTOR, queueSize: 64, ...options });
    this.t = new FakeLegacy(this.model, { legacy: { anyLayout } });
  }

  /** Submits a request. @returns status, data read, used length */
  request(
    type: number,
    sector: number,
    data: { write?: Uint8Array; readBytes?: number } = {},
    whole = false,
  ): { status: number; data: Uint8Array; used: number } {
    const { client } = this.t.fn;
    const { write = new Uint8Array(0), readBytes = 0 } = data;
    const at = client.allocate(16 + write.length + readBytes + 1, 16);
    client.view.setUint32(at, type, true);
    client.view.setUint32(at + 4, 0, true);
    client.view.setBigUint64(at + 8, BigInt(sector), true);
    client.bytes.set(write, at + 16);
    const into = at + 16 + write.length;
    client.bytes.fill(0xee, into, into + readBytes + 1);
    const cuts = whole
      ? [[at, 16 + write.length, false], [into, readBytes + 1, true]] as const
      : [[at, 16, false], [at + 16, write.length, false], [into, readBytes, true], [
        into + readBytes,
        1,
        true,
      ]] as const;
    const parts = cuts.filter(([, length]) => length > 0);
    this.t.ring(0).add(
      parts.map(([from, length, writable]) => ({ iova: client.at(from), length, write: writable })),
    );
    this.t.ring(0).publish();
    this.t.notify(0);
    this.t.run();
    const [used] = this.t.ring(0).takeUsed();
    return {
      status: client.bytes[into + readBytes]!,
      data: client.bytes.slice(into, into + readBytes),
      used: used?.length ?? -1,
    };
  }

  [Symbol.dispose](): void {
    this.t[Symbol.dispose]();
  }
}

function bytes(sectors: number, seed: number): Uint8Array {
  const random = new Random(seed);
  return Uint8Array.from({ length: sectors * SECTOR }, () => random.next() & 0xff);
}

Deno.test("5.2.6 legacy: sectors written through the legacy ring are read back, used lengths as the modern ones", () => {
  using disk = new LegacyDisk();
  disk.t.bringUp(Number(BLK_FEATURE.FLUSH | ANY_LAYOUT), [0]);
  const written: Uint8Array[] = [];
  for (let i = 0; i < 12; i++) {
    const data = bytes(1 + i % 4, i);
    written.push(data);
    assertEquals(disk.request(1, 8 * i, { write: data }, i % 2 === 1), {
      status: 0,
      data: new Uint8Array(0),
      used: 1,
    });
  }
  written.forEach((data, i) => {
    const read = disk.request(0, 8 * i, { readBytes: data.length }, i % 2 === 0);
    assertEquals(read, { status: 0, data, used: data.length + 1 });
  });
  assertEquals(disk.request(4, 0).status, 0);
  assertEquals(disk.request(0, 256, { readBytes: SECTOR }).status, 1);
  disk.t.take();
});

Deno.test("5.2.6.3 legacy: type 5 is a flush, which it is not for a modern driver or without FLUSH", () => {
  using disk = new LegacyDisk();
  disk.t.bringUp(Number(BLK_FEATURE.FLUSH | ANY_LAYOUT), [0]);
  assertEquals([disk.request(5, 0).status, disk.request(3, 0).status], [0, 2]);
  disk.t.bringUp(Number(ANY_LAYOUT), [0]);
  assertEquals(disk.request(5, 0).status, 2);
  const { fn, rings } = disk.t;
  fn.bringUp(FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | BLK_FEATURE.FLUSH, [0]);
  rings.set(0, fn.rings.get(0)!);
  assertEquals([disk.request(5, 0).status, disk.request(4, 0).status], [2, 0]);
});

Deno.test("5.2.6.4 without ANY_LAYOUT header and status have descriptors of their own: 16 bytes and 1", () => {
  using disk = new LegacyDisk({}, false);
  disk.t.bringUp(Number(BLK_FEATURE.FLUSH), [0]);
  disk.request(1, 0, { write: bytes(2, 1) });
  disk.request(0, 0, { readBytes: SECTOR });
  disk.request(4, 0);
  assertEquals(disk.t.take(), []);
  assertEquals(disk.request(1, 0, { write: bytes(1, 7) }, true).status, 0, "carried out all the same");
  disk.request(1, 0, { write: bytes(1, 7) }, true);
  assertEquals(disk.t.take(), [
    "virtio 1.2 §5.2.6.4: without ANY_LAYOUT: the request's header lies in a descriptor of 528 bytes (said once)",
  ]);
  disk.t.bringUp(0, [0]);
  disk.request(0, 0, { readBytes: SECTOR }, true);
  assertEquals(disk.t.take(), [
    "virtio 1.2 §5.2.6.4: without ANY_LAYOUT: status lies in a descriptor of 513 bytes (said once)",
  ]);
});

Deno.test("5.2 legacy config space: capacity in one piece or byte by byte, as Linux reads it", () => {
  using disk = new LegacyDisk({ sizeBytes: 0x12345 * SECTOR, blockSize: 1024 });
  assertEquals(disk.t.readDevice(0, 8), 0x12345);
  assertEquals([0, 1, 2, 3].map((i) => disk.t.readDevice(i, 1)), [0x45, 0x23, 0x01, 0]);
  assertEquals([disk.t.readDevice(20, 4), disk.t.readDevice(34, 2)], [1024, 1]);
  disk.t.writeDevice(20, 4, 512);
  assertStringIncludes(disk.t.take()[0]!, "virtio 1.2 §5.2.4: write of 4 bytes");
  assertEquals(disk.t.readDevice(20, 4), 1024);
});

Deno.test("5.2.5.3 legacy: writeback may be written before DRIVER, and neither features nor status change it", () => {
  using disk = new LegacyDisk();
  const { t } = disk;
  assertEquals(t.readDevice(32, 1), 1);
  t.writeDevice(32, 1, 0);
  assertEquals([t.readDevice(32, 1), t.take()], [0, []]);
  t.status = 3;
  t.writeDevice(32, 1, 1);
  t.write(4, 4, Number(BLK_FEATURE.CONFIG_WCE | ANY_LAYOUT));
  t.setUp(0);
  t.status = 7;
  // CONFIG_WCE without FLUSH, which for a modern driver means writethrough.
  assertEquals(t.readDevice(32, 1), 1);
  t.writeDevice(32, 1, 0);
  assertEquals([t.readDevice(32, 1), t.take()], [0, []]);
  assertEquals(disk.request(1, 0, { write: bytes(1, 3) }).status, 0);

  t.bringUp(Number(BLK_FEATURE.FLUSH | ANY_LAYOUT), [0]);
  assertEquals(t.readDevice(32, 1), 1, "a reset brings the cache back");
  t.writeDevice(32, 1, 0);
  assertStringIncludes(t.take()[0]!, "virtio 1.2 §5.2.4: write of 1 bytes (0) at 32");
  assertEquals(t.readDevice(32, 1), 1, "CONFIG_WCE was not accepted");
});

Deno.test("5.2 legacy: requests before DRIVER_OK are carried out, as drivers that read a partition table did", () => {
  using disk = new LegacyDisk();
  disk.t.status = 3;
  disk.t.write(4, 4, Number(ANY_LAYOUT));
  disk.t.setUp(0);
  assertEquals(disk.request(1, 5, { write: bytes(1, 4) }).status, 0);
  assertEquals(disk.request(0, 5, { readBytes: SECTOR }).data, bytes(1, 4));
  disk.t.status = 7;
  assertEquals(disk.request(0, 5, { readBytes: SECTOR }).data, bytes(1, 4));
  assertEquals(disk.t.take(), []);
});
