/** Queue pairs: QEMU's network function with MQ on a TAP device with as many queues, whose other end is the host's kernel, in a network of its own. */
import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import { cacheForGuest, denoEnvironment, denoForGuest } from "../rig/deno_in_guest.ts";
import { ALL_RING_FEATURES } from "../rig/devices.ts";
import { bootGuest } from "../rig/guest.ts";
import { inGuest } from "../rig/in_guest.ts";
import { preparedKernel } from "../rig/kernel.ts";
import { exists, SYSROOT_LOADER } from "../rig/paths.ts";
import { hasOwnNetworks } from "../rig/qemu.ts";
import { addressOf, HOST, type MqReport, type MqTask, REPORT } from "./net_mq_job.ts";

const JOB = new URL("./net_mq_job.ts", import.meta.url).pathname;
const PAIRS = 4;
const ECHOES = 25;
/** As `mac` of the rig's first device. */
const GUEST_MAC = "52:54:00:00:00:00";

const why = inGuest()
  ? "boots a guest of its own"
  : !exists(SYSROOT_LOADER)
  ? "the guest rig is not set up"
  : hasOwnNetworks()
  ? undefined
  : "no TAP device in a network namespace can be had here";

Deno.test({
  name: `virtio-net with four queue pairs: each flow is answered on the pair that it was sent on${
    why === undefined ? "" : ` (skipped: ${why})`
  }`,
  ignore: why !== undefined,
  fn: async () => {
    await cacheForGuest([JOB]);
    const hasCdev = preparedKernel().builtin.includes("iommufd");
    const task = { path: "group", rings: {}, pairs: PAIRS, echoes: ECHOES } as const;
    const tasks: MqTask[] = [
      task,
      { ...task, rings: { packed: false, inOrder: false } },
      { ...task, rings: { eventIndex: false }, path: hasCdev ? "cdev" : "group" },
    ];
    const script = [
      `ip link set dev "$1" address ${HOST.mac}`,
      `ip addr add ${HOST.address}/24 dev "$1"`,
      `ip link set dev "$1" up`,
      ...Array.from(
        { length: PAIRS },
        (_, pair) => `ip neigh add ${addressOf(pair)} lladdr ${GUEST_MAC} nud permanent dev "$1"`,
      ),
    ].join("\n");
    const { exitCode, console } = await bootGuest({
      command: [
        await denoForGuest(),
        ...["run", "--no-check", "--cached-only", "-A", JOB, JSON.stringify(tasks)],
      ],
      env: denoEnvironment(),
      devices: [{ kind: "virtio-net-multiqueue", queuePairs: PAIRS, script, rings: ALL_RING_FEATURES }],
      ownNetwork: true,
      timeoutMs: 400_000,
      onConsole: () => {},
    });
    assertEquals(exitCode, 0, console);
    const reports = console.split("\n").filter((line) => line.includes(REPORT)).map((line) =>
      JSON.parse(line.slice(line.indexOf(REPORT) + REPORT.length)) as MqReport
    );
    assertEquals(reports.length, tasks.length, console);
    for (const [index, report] of reports.entries()) {
      const { packed = true, inOrder = true, eventIndex = true } = tasks[index]!.rings;
      const has = (name: string): boolean => report.features.some((one) => one.endsWith(name));
      assert(has("MQ"), report.features.join(" "));
      assertEquals([has("RING_PACKED"), has("IN_ORDER"), has("EVENT_IDX")], [packed, inOrder, eventIndex]);
      assertEquals(report.maxQueuePairs, PAIRS);
      const own = (pair: number): number[] =>
        Array.from({ length: PAIRS }, (_, other) => other === pair ? ECHOES : 0);
      assertEquals(report.all, [own(0), own(1), own(2), own(3)]);
      assertEquals(report.two, [own(0), own(1)]);
      // Who waits before the request is sent is woken by an interrupt for each.
      assertGreaterOrEqual(report.interrupts, 6 * ECHOES);
    }
  },
});
