/**
 * What our driver writes to QEMU's disks is in their image files: compared by hash on the host's side, after QEMU was killed. For a raw image that
 * is what reached the file; for a qcow2 image, whose tables QEMU writes when it is told to, it is what was flushed.
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { applyWrites, sha256 } from "../disk_writes.ts";
import { cacheForGuest, denoEnvironment, denoForGuest } from "../rig/deno_in_guest.ts";
import type { GuestDevice, RingFeatures } from "../rig/devices.ts";
import { bootGuest } from "../rig/guest.ts";
import { inGuest } from "../rig/in_guest.ts";
import { preparedKernel } from "../rig/kernel.ts";
import { exists, RIG_DIR, SYSROOT_LOADER } from "../rig/paths.ts";
import { type DiskReport, type DiskTask, DONE, REPORT, writesOf } from "./disk_job.ts";
import { createQcow2, readQcow2 } from "./qcow2.ts";

const SIZE_BYTES = 4 << 20;
const JOB = new URL("./disk_job.ts", import.meta.url).pathname;

interface Disk {
  readonly format: "raw" | "qcow2";
  readonly rings: Required<RingFeatures>;
  readonly queues: number;
  readonly flush: boolean;
}

function disk(
  [packed, inOrder, eventIndex, indirect]: readonly [boolean, boolean, boolean, boolean],
  more: Partial<Disk> = {},
): Disk {
  const rings = { packed, inOrder, eventIndex, indirect, ringReset: true };
  return { format: "raw", queues: 1, flush: true, ...more, rings };
}

const DISKS: readonly Disk[] = [
  disk([true, true, true, true]),
  disk([false, false, true, true]),
  disk([true, false, false, false]),
  disk([false, true, false, false]),
  disk([true, false, true, true], { queues: 4 }),
  disk([false, false, true, false], { queues: 4 }),
  disk([true, true, true, true], { format: "qcow2" }),
  disk([false, false, true, true], { format: "qcow2" }),
  // What is not flushed is not there: or the test would not see a flush that does nothing.
  disk([true, true, true, true], { format: "qcow2", flush: false }),
];

/** All of the disk, once its writes are done. */
function expected(seed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(SIZE_BYTES);
  const { one, many } = writesOf(seed, SIZE_BYTES / 512);
  applyWrites(bytes, one);
  applyWrites(bytes, many);
  return bytes;
}

/** Runs the job in a guest, and kills the guest when the job is done. */
async function runJob(devices: readonly GuestDevice[], tasks: readonly DiskTask[]): Promise<DiskReport[]> {
  await cacheForGuest([JOB]);
  const kill = new AbortController();
  const done = new Error("the job is done");
  let console = "";
  const guest = bootGuest({
    command: [
      await denoForGuest(),
      ...["run", "--no-check", "--cached-only", "-A", JOB, JSON.stringify(tasks)],
    ],
    env: denoEnvironment(),
    devices,
    timeoutMs: 400_000,
    signal: kill.signal,
    onConsole: (text) => {
      console += text;
      if (console.includes(DONE)) kill.abort(done);
    },
  });
  try {
    const { exitCode } = await guest;
    throw new Error(`the guest ended with status ${exitCode}:\n${console}`);
  } catch (error) {
    if (error !== done) throw error;
  }
  return console.split("\n").filter((line) => line.includes(REPORT)).map((line) =>
    JSON.parse(line.slice(line.indexOf(REPORT) + REPORT.length)) as DiskReport
  );
}

const why = inGuest()
  ? "boots a guest of its own"
  : exists(SYSROOT_LOADER)
  ? undefined
  : "the guest rig is not set up";

Deno.test({
  name: `virtio-blk at depth 1 and 64, flushed: the image's hash outside the guest${
    why === undefined ? "" : ` (skipped: ${why})`
  }`,
  ignore: why !== undefined,
  fn: async () => {
    const hasCdev = preparedKernel(undefined).builtin.includes("iommufd");
    const folder = await Deno.makeTempDir({ dir: RIG_DIR, prefix: "images-" });
    try {
      const path = (index: number): string => `${folder}/${index}.img`;
      const devices = DISKS.map(({ format, rings, queues }, index): GuestDevice => {
        if (format === "qcow2") createQcow2(path(index), SIZE_BYTES);
        else Deno.writeFileSync(path(index), new Uint8Array(SIZE_BYTES));
        return { kind: "virtio-blk", image: { path: path(index), format }, rings, queues };
      });
      const tasks = DISKS.map(({ queues, flush }, index): DiskTask => ({
        seed: 1000 * (index + 1),
        path: hasCdev && index === 0 ? "cdev" : "group",
        queues,
        flush,
      }));
      const reports = await runJob(devices, tasks);
      assertEquals(reports.map((report) => report.disk), DISKS.map((_, index) => index));
      for (const [index, report] of reports.entries()) {
        const { rings, format, flush } = DISKS[index]!;
        const has = (name: string): boolean => report.features.some((one) => one.endsWith(name));
        assertEquals({
          packed: has("RING_PACKED"),
          inOrder: has("IN_ORDER"),
          eventIndex: has("EVENT_IDX"),
          indirect: has("INDIRECT_DESC"),
          ringReset: has("RING_RESET"),
        }, rings);
        assert(has("FLUSH"), report.features.join(" "));
        assertEquals([report.depths, report.requests], [[1, 64], 256], `disk ${index}`);
        const wanted = await sha256(expected(tasks[index]!.seed));
        assertEquals(report.readBack, wanted, `disk ${index}, as the guest reads it`);
        const bytes = format === "raw" ? Deno.readFileSync(path(index)) : readQcow2(path(index));
        assertEquals(bytes.length, SIZE_BYTES);
        if (flush) assertEquals(await sha256(bytes), wanted, `disk ${index}, image file`);
        else assertNotEquals(await sha256(bytes), wanted, `disk ${index} was not flushed`);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
