import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { managedDevices } from "../../../examples/managed_devices.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { UnsupportedError } from "../../../lib/errors/mod.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { ownership } from "../host/served_host.ts";

const SCRIPT = new URL("../../../examples/managed_devices.ts", import.meta.url).pathname;
const MANAGEMENT = "0000:03:00.0";
const RNG = "0000:02:00.0";

const serve = (fields: Record<string, unknown> = {}) =>
  TopologyHost.start([
    { address: MANAGEMENT, kind: "virtio-management", ...fields },
    { address: RNG, kind: "virtio-rng" },
  ]);

Deno.test("examples/managed_devices.ts with --allow-ffi alone: nine devices of one function, and the host put back", async () => {
  await using served = await serve();
  const before = ownership(served.host);
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-ffi", SCRIPT, served.host.name, MANAGEMENT],
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  const out = new TextDecoder().decode(stdout);
  assertMatch(
    out,
    /^before +64 virtqueues left, room for 64 devices\ncreated +9 devices; 47 virtqueues left, /,
  );
  assertMatch(out, /\npolling +40000 frames, \d+ bytes, all as sent, on 8 ways at once\n/);
  assertMatch(out, /\ninterrupts +1600 frames, \d+ bytes, all as sent/);
  assertMatch(out, /\ndestroyed +64 virtqueues left, room for 64 devices\nDEVICE +ABOUT +DONE +INTERRUPTS\n/);
  assertEquals(out.match(/\n0000:03:00\.0\/\d +56:00:03:00:00:0\d +5200 +\d+/g)?.length, 8);
  assertMatch(out, /\n0000:03:00\.0\/9 +2048 sectors +128 +\d+\n$/);
  assertEquals([ownership(served.host), served.host.journal()], [before, []]);
  assertEquals(await served.stop(), []);
});

Deno.test("the managed devices example without interrupts, and where it cannot go on: the host is put back", async () => {
  await using served = await serve({ vectors: 0 });
  const before = ownership(served.host);
  const held = [openFdCount(), mappingCount().mappings];
  const steps: string[] = [];
  const options = {
    frames: 200,
    interruptFrames: 10,
    step: (what: string, found: string) => steps.push(`${what}: ${found}`),
  };
  const { resources, work } = await managedDevices(served.host, { ...options, function: MANAGEMENT });
  assertEquals(resources[0], resources[2]);
  assertEquals(resources[1].queues, 64 - 8 * 2 - 1);
  assertEquals(work.map(({ done, interrupts }) => [done, interrupts]), [
    ...Array.from({ length: 8 }, () => [200, 0]),
    [128, 0],
  ]);
  assert(steps.includes("interrupts: none can be had here"));
  await assertRejects(
    () => managedDevices(served.host, { ...options, function: RNG }),
    UnsupportedError,
    "no management device",
  );
  assertEquals([ownership(served.host), served.host.journal()], [before, []]);
  assertEquals([openFdCount(), mappingCount().mappings], held);
  assertEquals(await served.stop(), []);
});
