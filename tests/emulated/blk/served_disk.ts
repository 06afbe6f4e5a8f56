/** A served block device, for tests of its driver. */
import { assertEquals } from "@std/assert";
import type { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { mappingCount, openFdCount, readFile, removeFile } from "../../../ffi/mod.ts";
import { Random } from "../../random.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

/** Where the device is. */
export const BLK = "0000:03:00.0";
/** Bytes of a sector. */
export const SECTOR = 512;
/** A mebibyte. */
export const MIB = 1 << 20;
let made = 0;

/** SHA-256, as hexadecimal text. */
export async function hash(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Bytes that say where they belong. */
export function pattern(sectors: number, seed: number): Uint8Array<ArrayBuffer> {
  return new Random(seed).bytes(sectors * SECTOR);
}

/** A served block device on a new image of `sectors`; afterwards the image, and that nothing was complained of nor leaked. */
export async function withBlk(
  sectors: number,
  topology: Record<string, unknown>,
  use: (transport: Parameters<typeof VirtioBlk.open>[0], image: string, host: TopologyHost) => Promise<void>,
  after: (image: Uint8Array<ArrayBuffer>) => Promise<void> | void = () => {},
): Promise<void> {
  const before = [openFdCount(), mappingCount().mappings];
  const image = `/tmp/ringside-blk-${Deno.pid}-${made++}.img`;
  try {
    await using served = await TopologyHost.start([
      { address: BLK, kind: "virtio-blk", file: image, sizeBytes: sectors * SECTOR, ...topology },
    ]);
    {
      using reached = served.reach(BLK);
      await use(reached.transport, image, served);
    }
    assertEquals(await served.stop(), []);
    await after(readFile(image));
  } finally {
    removeFile(image);
  }
  assertEquals([openFdCount(), mappingCount().mappings], before);
}
