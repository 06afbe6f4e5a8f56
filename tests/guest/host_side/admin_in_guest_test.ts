/**
 * A PF and two of its VFs in QEMU's guest, all three by the guest's kernel VFIO: the PF's administration queues, one VF by its legacy registers through
 * them, the other by the modern transport. QEMU shows the guest no SR-IOV capability, so the VFs are enabled on the embedded host.
 */
import { assert, assertEquals, assertGreater, assertGreaterOrEqual } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import type { AdminEnd, AdminReport, AdminStart, AdminTask, AdminWay } from "./admin_job.ts";
import { bootJob, kernelPaths, whyNoGuest } from "./job_guest.ts";
import { checkLspci, UNNAMED } from "./lspci.ts";
import { assertNothingLeft, settledHoldings } from "../../holdings.ts";

const PF = "0000:01:00.0";
const VFS = 3;
const TOPOLOGY = { functions: [{ address: PF, kind: "virtio-net", totalVfs: VFS, legacyNotify: "both" }] };
const JOB = new URL("./admin_job.ts", import.meta.url).pathname;

/** By each of the kernel's paths, notified at each place, by interrupt and by polling alone. */
function waysFor(paths: readonly AdminWay["path"][]): AdminWay[] {
  const [first = "group", last = first] = paths;
  return [
    { path: first, notify: "member", interrupts: "msix", frames: 2000, interruptFrames: 100 },
    { path: last, notify: "owner", interrupts: "msix", frames: 1000, interruptFrames: 100 },
    { path: last, notify: "member", interrupts: "none", frames: 1000, interruptFrames: 0 },
    { path: first, interrupts: "msix", frames: 200, interruptFrames: 20 },
  ];
}

const why = whyNoGuest();

Deno.test({
  name: `a PF and its VFs by kernel VFIO: commands, and a legacy VF beside a modern one${
    why === undefined ? "" : ` (skipped: ${why})`
  }`,
  ignore: why !== undefined,
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async () => {
    const topology = await Deno.makeTempFile({ suffix: ".json" });
    await Deno.writeTextFile(topology, JSON.stringify(TOPOLOGY));
    const served = await startEmulatedHost({ topology });
    try {
      let vfs: string[];
      {
        using host = EmulatedHost.connect(served.directory);
        host.bind(PF);
        vfs = host.setVfCount(PF, VFS);
        for (const vf of vfs) host.bind(vf);
      }
      const idle = await settledHoldings(served.pid);
      const ways = waysFor(kernelPaths());
      const reports: unknown[] = [];
      const { exitCode, console } = await bootJob({
        job: JOB,
        task: { vfs: VFS, ways } satisfies AdminTask,
        sockets: [PF, vfs[0]!, vfs[1]!].map((address) => `${served.directory}/${address}.sock`),
        onReport: (report) => reports.push(report),
      });
      assertEquals(served.violations(), [], console);
      assertEquals(exitCode, 0, console);
      assertEquals(reports.length, ways.length + 2, console);
      const title = "Ethernet controller: Red Hat, Inc. Virtio 1.0 network device";
      checkLspci(
        (reports[0] as AdminStart).lspci,
        Array.from({ length: 3 }, () => ({ title, unnamed: [UNNAMED.pciAccess] })),
      );
      ways.forEach((way, index) => checkWay(way, reports[index + 1] as AdminReport));
      const { complaints, kept: [before, after] } = reports.at(-1) as AdminEnd;
      assertEquals(complaints, []);
      assertEquals(after, before, "the process in the guest keeps descriptors or mappings");
      assertNothingLeft(
        await settledHoldings(served.pid),
        idle,
        "the embedded host keeps what a client left",
      );
    } finally {
      await served.stop();
      await Deno.remove(topology);
    }
  },
});

function checkWay(way: AdminWay, found: AdminReport): void {
  assertEquals(found.path, way.path);
  const common = ["LIST_QUERY", "LIST_USE"];
  assertEquals(found.self, [...common, "CAP_ID_LIST_QUERY", "DEVICE_CAP_GET", "DRIVER_CAP_SET"]);
  const [query, use, ...others] = found.sriov;
  assertEquals([query, use], common);
  for (const name of ["LEGACY_COMMON_CFG_READ", "LEGACY_NOTIFY_INFO", "DEV_PARTS_GET", "DEV_MODE_SET"]) {
    assert(others.includes(name), found.sriov.join(" "));
  }
  assertEquals(found.capabilities, [0]);
  assertEquals(found.limits, { get: 16, set: 16 });

  const macs = [1, 2, 3].map((vf) => `52:54:00:01:00:0${vf}`);
  assertEquals(found.identities.map(({ mac }) => mac), macs);
  for (const { mtu, queueSizes, maxQueuePairs } of found.identities) {
    assertEquals([mtu, queueSizes.length], [1500, 2 * maxQueuePairs + 1]);
  }
  assertEquals(found.areas.map(({ whose }) => whose), ["member", "owner"]);
  assertEquals(found.place, found.areas.find(({ whose }) => whose === way.notify) ?? null);
  assertGreater(found.parts.length, 0);
  // The VF after the last: its member id, and the field of the command that is wrong (N-3.11).
  assertEquals(found.refused, {
    opcodeName: "LEGACY_COMMON_CFG_READ",
    statusName: "EINVAL",
    qualifierName: "INVALID_MEMBER",
    field: "group_member_id",
    memberId: String(VFS + 1),
  });

  assertEquals(found.macs, macs.slice(0, 2));
  assertEquals(found.interruptKinds, Array.from({ length: 3 }, () => way.interrupts));
  const [legacy = [], modern = []] = found.features;
  assertEquals([legacy, modern].map((names) => names.some((one) => one.endsWith("VERSION_1"))), [
    false,
    true,
  ]);
  assertEquals(found.received, Array.from({ length: 2 }, () => way.frames + way.interruptFrames));
  assertGreater(found.rounds, 0);
  if (way.interrupts === "msix") assertGreaterOrEqual(found.interrupts, way.interruptFrames);
  assertEquals(found.failed, 0);
  assertGreater(found.sent, 100);
}
