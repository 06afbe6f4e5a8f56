import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { CountingWindow, mmioWindow } from "../../../examples/mmio_window.ts";
import { ClosedError, UnsupportedError } from "../../../lib/errors/mod.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { ownership } from "../host/served_host.ts";

const SCRIPT = new URL("../../../examples/mmio_window.ts", import.meta.url).pathname;
const RNG = "a003e00.virtio_mmio";
const V3 = "a003c00.virtio_mmio";

Deno.test("examples/mmio_window.ts with --allow-ffi alone: a window of one's own, and the host put back", async () => {
  await using served = await TopologyHost.start([
    { address: RNG, kind: "virtio-rng" },
    { address: V3, kind: "virtio-rng", mmio: { form: "v3" } },
  ]);
  const { host } = served;
  const before = ownership(host);
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-ffi", SCRIPT, host.name, RNG],
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  assertMatch(
    new TextDecoder().decode(stdout),
    /^a003e00\.virtio_mmio: entropy source, \d+ registers\nrandom bytes: [0-9a-f]{32}\nthe window made \d+ reads, \d+ writes and [1-9]\d* notifications\n$/,
  );
  const { bytes, notifications } = await mmioWindow(host, RNG, 1000);
  assertEquals(bytes.length, 1000);
  assert(new Set(bytes).size > 100 && notifications >= 1);
  await assertRejects(() => mmioWindow(host, V3), UnsupportedError, "Version is 3");
  assertEquals([ownership(host), host.journal()], [before, []]);

  host.bind(RNG);
  {
    using device = host.open(RNG);
    const window = new CountingWindow(device);
    assertEquals(window.space.read(0, 4), 0x7472_6976);
    window.close();
    try {
      window.space.read(0, 4);
      throw new Error("read after close");
    } catch (error) {
      assert(error instanceof ClosedError, `${error}`);
    }
  }
  host.restore();
  assertEquals(await served.stop(), []);
});
