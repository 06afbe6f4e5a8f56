import { assert, assertEquals, assertMatch } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { readText } from "../../../ffi/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { parseTrace, traced, type TraceRecord } from "../../../lib/trace/mod.ts";
import { ConfigAccess, InterruptSet, IRQ, REGION } from "../../../lib/vfio/mod.ts";
import { openTransport } from "../../../lib/virtio/mod.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { cli } from "./run_cli.ts";

const RNG = "0000:02:00.0";

Deno.test("traces on the embedded host", async (t) => {
  const host = await startEmulatedHost();
  const scratch = makeTemporaryDirectory();
  const run = (...args: string[]) => cli("--host", host.directory, ...args);
  const ok = async (...args: string[]) => {
    const { code, out, err } = await run(...args);
    assertEquals(code, 0, err);
    return out;
  };
  const file = (name: string) => `${scratch}/${name}`;
  try {
    await ok("bind", RNG);
    await t.step("--trace records registers, doorbells, interrupts and DMA, in order", async () => {
      assertMatch(await ok("rng", RNG, "8", "--trace", file("rng")), /^[0-9a-f]{16}\n$/);
      const records = parseTrace(readText(file("rng")));
      const opened = records[0]!;
      if (opened.kind !== "open") throw new Error(`the first is ${opened.kind}`);
      assertEquals([opened.name, opened.path, opened.config.slice(0, 8)], [RNG, "vfio-user", "f41a4410"]);
      assertEquals(records.at(-1)!.kind, "close");
      const kinds = new Set(records.map(({ kind }) => kind));
      for (const kind of ["read", "write", "doorbell", "map", "unmap", "irqs"] as const) {
        assert(kinds.has(kind), `there is no ${kind}`);
      }
      const times = records.map(({ us }) => us);
      assertEquals(times, times.toSorted((one, other) => one - other));
      const maps = records.flatMap((one) => one.kind === "map" ? [one.iova] : []);
      const unmaps = records.flatMap((one) => one.kind === "unmap" ? [one.iova] : []);
      assertEquals(maps.toSorted(), unmaps.toSorted());
      const wired = records.find((one) => one.kind === "irqs");
      assert(wired?.kind === "irqs" && wired.index === IRQ.msix && wired.action === "trigger");
      // Bus mastering is turned on before the first doorbell.
      const busMaster = records.findIndex((one) =>
        one.kind === "write" && one.region === REGION.config && one.offset === 4 && one.value === "0x0006"
      );
      assert(busMaster > 0 && busMaster < records.findIndex((one) => one.kind === "doorbell"));
    });
    await t.step("a command that fails leaves a whole trace; a file that cannot be is said", async () => {
      const { code } = await run("net", "send", RNG, "/nowhere", "--trace", file("failed"));
      assert(code !== 0);
      const lines = readText(file("failed"));
      assert(lines.endsWith("\n"));
      parseTrace(lines);
      const refused = await run("rng", RNG, "8", "--trace", "/nowhere/trace");
      assertEquals(refused.code, 2);
      assertMatch(refused.err, /\/nowhere\/trace/);
    });
    await t.step("traced: the same device in the same hands, and an access that fails is told", async () => {
      using there = openHost(host.directory);
      const records: TraceRecord[] = [];
      {
        using device = traced(there.open(RNG), (record) => records.push(record));
        assertEquals(device.name, RNG);
        assertEquals(device.regionInfo(4).mmapAreas, []);
        using transport = openTransport(device);
        await using rng = VirtioRng.open(transport);
        assertEquals((await rng.read(16)).length, 16);
        const before = records.length;
        let message = "";
        try {
          device.readRegion(2, 0, new Uint8Array(4));
        } catch (error) {
          message = (error as Error).message;
        }
        const told = records[before];
        if (told?.kind !== "read") throw new Error("the read is not told");
        assertEquals([told.region, told.value], [2, ""]);
        assertEquals(told.error, message);
      }
      {
        using device = traced(there.open(RNG), (record) => records.push(record));
        new ConfigAccess(device).setCommand({ memory: true, busMaster: true });
        using interrupts = new InterruptSet(device);
        interrupts.enable("msix", 2);
        interrupts.fire(1);
        assertEquals(await interrupts.wait(1, 10_000), 1);
      }
      const { us: _, device: __, ...came } = records.findLast(({ kind }) => kind === "interrupt")!;
      assertEquals(came, { kind: "interrupt", index: IRQ.msix, vector: 1, count: 1 });
      assertEquals(records.filter(({ kind }) => kind === "close").length, 2);
    });
  } finally {
    await host.stop();
    removeTree(scratch);
  }
});
