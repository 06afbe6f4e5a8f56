/**
 * Functions that are taken away while they are used, by the guest's kernel: unbound from vfio-pci, or unplugged by QEMU. The kernel waits for their user,
 * whom it can only ask.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import type { GuestDevice } from "../rig/devices.ts";
import { bootJob, kernelPaths, whyNoGuest } from "./job_guest.ts";
import { QmpClient } from "./qmp.ts";
import type { InUseReport, RemovalTask, RoundReport } from "./removal_job.ts";

const JOB = new URL("./removal_job.ts", import.meta.url).pathname;
/** Nobody has read it to its end. */
const DISK_BYTES = 2 ** 40;
const SETS = 2;
const DEVICES = Array.from({ length: SETS }, (_, hub): GuestDevice[] => [
  { kind: "virtio-net", hub },
  { kind: "virtio-net", hub },
  { kind: "virtio-blk", sizeBytes: DISK_BYTES },
  { kind: "virtio-rng" },
  { kind: "igb", hub: SETS },
]).flat();
const USERS = ["net loop", "blk", "rng", "a held PF", "a held VF"];
/** What QEMU unplugs: a net function of each set, the one that its command is asked for, and the others. A PF takes its VF along. */
const UNPLUGGED = [0, 2, 3, 4, 6, 7, 8, 9].map((index) => `d${index}`);

const why = whyNoGuest();

Deno.test({
  name: `device_del and unbind under net loop, blk, rng and a held PF, by ${
    why === undefined ? kernelPaths().join(" and ") : "each path"
  }${why === undefined ? "" : ` (skipped: ${why})`}`,
  ignore: why !== undefined,
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async () => {
    const [first = "group", last = first] = kernelPaths();
    const rounds: RemovalTask["rounds"] = [
      { way: "unbind", paths: [first, last] },
      { way: "device_del", paths: [last, first] },
    ];
    const folder = await Deno.makeTempDir();
    const monitor = `${folder}/qmp`;
    const reports: RoundReport[] = [];
    let unplugging: Promise<void> | undefined;
    try {
      const { exitCode, console } = await bootJob({
        job: JOB,
        task: { rounds, sectors: DISK_BYTES / 512 } satisfies RemovalTask,
        guest: {
          devices: DEVICES,
          memoryMiB: 2048,
          qemuArgs: ["-qmp", `unix:${monitor},server=on,wait=off`],
        },
        onReport: (one) => {
          const report = one as InUseReport | RoundReport;
          if (!("inUse" in report)) reports.push(report);
          else if (report.inUse === "device_del") unplugging = unplug(monitor);
        },
      });
      await unplugging;
      assertEquals([exitCode, reports.map(({ way }) => way)], [0, ["unbind", "device_del"]], console);
      reports.forEach((report, index) => checkRound(report, rounds[index]!.paths));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

async function unplug(monitor: string): Promise<void> {
  using qmp = await QmpClient.connect(monitor);
  for (const id of UNPLUGGED) await qmp.execute("device_del", { id });
}

function checkRound(
  { way, removed, failed, kept, drivers, silent }: RoundReport,
  paths: readonly string[],
): void {
  assertEquals(
    removed.map(({ user, path }) => [user, path]),
    paths.flatMap((path) => USERS.map((user) => [user, path])),
  );
  for (const { user, path, address, waited, code, said } of removed) {
    const what = `${way} under ${user} by ${path}`;
    if (waited !== undefined) console.log(`${what}: the kernel waited ${waited.toFixed(2)} s`);
    assertStringIncludes(said, `${address}: the kernel asks for the function back`, what);
    if (code === undefined) assertStringIncludes(said, "RemovalRequestedError", what);
    else assertEquals([code, said.trimEnd().split("\n").length], [1, 1], `${what}: ${said}`);
  }
  // Nobody's process has ended by now. So the kernel went on since all had let go, and it found someone to ask each time.
  assertEquals(silent, [], "the kernel asked while nobody could hear it");
  // What was unbound comes back; what was unplugged is named, until it is told to be forgotten. Of each pair of network functions one is left.
  const gone = way === "unbind"
    ? []
    : removed.filter(({ user }) => user !== "a held VF").map((one) => one.address);
  assertEquals([...new Set(failed)].sort(), gone.map((one) => `${one}: ${one} is not there any more`).sort());
  assertEquals(kept, []);
  const here = ["virtio-pci", "virtio-pci", "virtio-pci", "virtio-pci", "igb"];
  assertEquals(
    drivers,
    way === "unbind"
      ? [...here, ...here]
      : [null, "virtio-pci", null, null, null, "virtio-pci", null, null, null, null],
  );
}
