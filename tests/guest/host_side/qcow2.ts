/**
 * The least of the qcow2 format (version 2, QEMU's docs/interop/qcow2.txt): an empty image, and what a file holds that nobody has open.
 *
 * QEMU keeps the tables of an image that is in use in memory, and writes them when it is told to flush: until then data that was written cannot be
 * found in the file.
 */

const CLUSTER_BITS = 16;
const CLUSTER_BYTES = 1 << CLUSTER_BITS;
const MAGIC = 0x514649fb;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
/** Clusters of an empty image: header, refcount table, refcount block, level 1 table. */
const HEADER_CLUSTERS = 4;

/** Makes an image that reads as zeros. @param sizeBytes up to 512 MiB, which one level 2 table maps */
export function createQcow2(path: string, sizeBytes: number): void {
  const file = new DataView(new ArrayBuffer(HEADER_CLUSTERS * CLUSTER_BYTES));
  const at = (cluster: number): bigint => BigInt(cluster * CLUSTER_BYTES);
  file.setUint32(0, MAGIC);
  file.setUint32(4, 2);
  file.setUint32(20, CLUSTER_BITS);
  file.setBigUint64(24, BigInt(sizeBytes));
  file.setUint32(36, 1);
  file.setBigUint64(40, at(3));
  file.setBigUint64(48, at(1));
  file.setUint32(56, 1);
  file.setBigUint64(CLUSTER_BYTES, at(2));
  for (let cluster = 0; cluster < HEADER_CLUSTERS; cluster++) {
    file.setUint16(2 * CLUSTER_BYTES + 2 * cluster, 1);
  }
  Deno.writeFileSync(path, new Uint8Array(file.buffer));
}

/** The disk's contents, as far as the file's tables lead to them. */
export function readQcow2(path: string): Uint8Array<ArrayBuffer> {
  const bytes = Deno.readFileSync(path);
  const file = new DataView(bytes.buffer);
  const disk = new Uint8Array(Number(file.getBigUint64(24)));
  const entry = (table: number, index: number): number =>
    Number(file.getBigUint64(table + 8 * index) & OFFSET_MASK);
  const level2 = entry(Number(file.getBigUint64(40)), 0);
  if (level2 === 0) return disk;
  for (let from = 0; from < disk.length; from += CLUSTER_BYTES) {
    const cluster = entry(level2, from / CLUSTER_BYTES);
    if (cluster !== 0) disk.set(bytes.subarray(cluster, cluster + CLUSTER_BYTES), from);
  }
  return disk;
}
