import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { legacyVf } from "../../../examples/legacy_vf.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { UnsupportedError } from "../../../lib/errors/mod.ts";
import { ownership } from "../host/served_host.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const SCRIPT = new URL("../../../examples/legacy_vf.ts", import.meta.url).pathname;
const PF = "0000:01:00.0";

function serve(fields: Record<string, unknown> = {}): Promise<TopologyHost> {
  return TopologyHost.start([
    { address: PF, kind: "virtio-net", totalVfs: 5, switch: "s0", queuePairs: 2, ...fields },
  ]);
}

Deno.test("examples/legacy_vf.ts with --allow-ffi alone: identities, traffic, the I/O BAR, and the host put back", async () => {
  await using served = await serve();
  const before = ownership(served.host);
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-ffi", SCRIPT, served.host.name, PF],
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  const out = new TextDecoder().decode(stdout);
  assertMatch(out, /\nVF 3 {8}0000:01:00\.4 MAC 52:54:00:01:00:04, MTU 1500, 5 queues of 256, 2 pairs, /);
  assertMatch(out, /\nlegacy ids {2}1af4:1000 revision 0, subsystem 1af4:0001, /);
  assertMatch(
    out,
    /\nI\/O BAR {5}inl\(0\) is [0-9a-f]{8}; 8 bytes at 18: 00 00 52 54 00 01 00 01\n/,
    "status, ISR and MAC",
  );
  assertEquals(out.match(/\b(50000|1000) frames, \d+ bytes, all as sent/g)?.length, 4, out);
  assertMatch(out, /\ncommands {4}\d+ in all, 0 failed; 0 while frames went to and fro\n/);
  assertMatch(out, /restore +4 changes undone; 0000:01:00\.0 is on virtio-pci\n$/);
  assertEquals([ownership(served.host), served.host.journal()], [before, []]);
  assertEquals(await served.stop(), []);
});

for (const legacyNotify of ["member", "owner", "both", "none"] as const) {
  Deno.test(`the legacy example where VFs are notified by ${legacyNotify}, with 4 administration queues`, async () => {
    await using served = await serve({ legacyNotify, adminQueues: 4, mtu: 1400 });
    const before = [openFdCount(), mappingCount().mappings];
    const steps: string[] = [];
    const result = await legacyVf(served.host, {
      pf: PF,
      vfs: 5,
      frames: 1000,
      interruptFrames: 50,
      step: (what, found) => steps.push(`${what}: ${found}`),
    });
    assertEquals(
      result.identities.map(({ mac, mtu, maxQueuePairs, queueSizes }) => ({
        mac,
        mtu,
        maxQueuePairs,
        queueSizes,
      })),
      [1, 2, 3, 4, 5].map((last) => ({
        mac: `52:54:00:01:00:0${last}`,
        mtu: 1400,
        maxQueuePairs: 2,
        queueSizes: [256, 256, 256, 256, 256],
      })),
    );
    const arrived = [...result.polled, ...result.byInterrupt].map(({ frames }) => frames);
    assertEquals(arrived, [1000, 1000, 50, 50]);
    assert(result.interrupts >= 50, `${result.interrupts} interrupts`);
    // Notifications are the only commands that frames can take, and only where there is no address for them.
    assertEquals(result.commandsForFrames > 0, legacyNotify === "none");
    const place = { member: "BAR 4 of 0000:01:00.1", owner: "BAR 4 of 0000:01:00.0", none: "by command" };
    const wanted = place[legacyNotify === "both" ? "member" : legacyNotify];
    const opened = steps.find((step) => step.startsWith("open: "));
    assert(opened?.includes(wanted), opened);
    assertEquals([openFdCount(), mappingCount().mappings], before);
    assertEquals(await served.stop(), []);
  });
}

Deno.test("the legacy example puts the host back when it fails, and when it is ended", async () => {
  await using served = await serve();
  const before = ownership(served.host);
  const options = { pf: PF, vfs: 2, frames: 1_000_000, interruptFrames: 1 };
  const stop = new AbortController();
  // The exchange by polling comes next.
  const step = (what: string) => {
    if (what === "modern") setTimeout(() => stop.abort(new UnsupportedError("enough")), 100);
  };
  await assertRejects(
    () => legacyVf(served.host, { ...options, signal: stop.signal, step }),
    UnsupportedError,
    "enough",
  );
  assertEquals([ownership(served.host), served.host.journal()], [before, []]);
  assertEquals(await served.stop(), []);

  await using without = await serve({ adminQueues: 0 });
  const untouched = ownership(without.host);
  await assertRejects(
    () => legacyVf(without.host, { ...options, step }),
    UnsupportedError,
    "no administration queue",
  );
  assertEquals([ownership(without.host), without.host.journal()], [untouched, []]);
});
