/**
 * In the guest: writes every block device of it by kernel VFIO, as its seed says, and reads it back. Started by `blk_hash_test.ts` with one JSON
 * list of `DiskTask` as its argument; says a line of JSON for each disk, and then waits to be killed.
 */
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { LinuxHost } from "../../../lib/host/linux_host.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { queueOf, readPart, writeAll } from "../disk_driving.ts";
import { type DiskWrite, overlappingWrites, separateWrites, sha256 } from "../disk_writes.ts";
import { functions, ID, type KernelPath } from "../guest_host.ts";

/** What to do with one disk; tasks are in the order of the disks' addresses. */
export interface DiskTask {
  readonly seed: number;
  readonly path: KernelPath;
  /** Request queues to share the deep writes. */
  readonly queues: number;
  /** Flush at the end. */
  readonly flush: boolean;
}

/** What was found. */
export interface DiskReport {
  readonly disk: number;
  readonly features: readonly string[];
  /** Most requests in flight of the two rounds, all queues together. */
  readonly depths: readonly [number, number];
  readonly requests: number;
  /** SHA-256 of all the disk, read back through the driver. */
  readonly readBack: string;
}

/** Written before each report. */
export const REPORT = "disk report: ";
/** Written when all is done. */
export const DONE = "disks are done";

const DEPTH = 64;

/** The writes of a task: one at a time, and `DEPTH` at a time. */
export function writesOf(seed: number, sectors: number): { one: DiskWrite[]; many: DiskWrite[] } {
  const part = { first: 0, sectors };
  return { one: overlappingWrites(seed, part, 64), many: separateWrites(~seed >>> 0, part, 192) };
}

async function write(
  host: LinuxHost,
  address: string,
  disk: number,
  task: DiskTask,
): Promise<DiskReport> {
  host.bind(address);
  using device = host.open(address, { path: task.path });
  using transport = PciModernTransport.open(device);
  await using blk = await VirtioBlk.open(transport, {
    wait: "eventfd",
    queues: task.queues,
    requestBytes: 16384,
    segmentBytes: 8192,
  });
  const part = { first: 0, sectors: blk.capacitySectors };
  const { one, many } = writesOf(task.seed, part.sectors);
  const shallow = await writeAll(queueOf(blk, 0), one, 1);
  if (task.flush) await blk.flush();
  const depth = DEPTH / task.queues;
  const share = many.length / task.queues;
  const deep = await Promise.all(
    blk.queues.map((_, queue) =>
      writeAll(queueOf(blk, queue), many.slice(queue * share, (queue + 1) * share), depth)
    ),
  );
  if (task.flush) await blk.flush();
  const { writes } = blk.statistics();
  const readBack = await sha256(await readPart(queueOf(blk, task.queues - 1), part, depth));
  const depths = [shallow, deep.reduce((sum, one) => sum + one, 0)] as const;
  return { disk, features: blk.featureNames, depths, requests: writes, readBack };
}

if (import.meta.main) {
  const tasks = JSON.parse(Deno.args[0]!) as DiskTask[];
  using host = new LinuxHost();
  const addresses = functions(ID.blk);
  for (const [disk, task] of tasks.entries()) {
    console.log(REPORT + JSON.stringify(await write(host, addresses[disk]!, disk, task)));
  }
  console.log(DONE);
  await new Promise((resolve) => setTimeout(resolve, 60_000));
}
