import { assert, assertEquals, assertMatch } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { readText } from "../../../ffi/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { parseTrace, traced, type TraceRecord } from "../../../lib/trace/mod.ts";
import { ConfigAccess, InterruptSet, IRQ, REGION } from "../../../lib/vfio/mod.ts";
import { openTransport } from "../../../lib/virtio/mod.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { fromFileUrl } from "../../unit/architecture/source_files.ts";
import { cli } from "./run_cli.ts";
import { type Mistake, recordBringUp, replayBringUp, wrongVector } from "./trace_rig.ts";

const root = fromFileUrl(new URL("../../../", import.meta.url));
const NET = "0000:01:00.0";
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
      const { code } = await run("blk", "info", RNG, "--trace", file("failed"));
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
    const recorded = async (name: string, mistake?: Mistake) => {
      using there = openHost(host.directory);
      await recordBringUp(there.open(NET), file(name), mistake);
    };
    await t.step("docs/trace.md: its script prints a trace", async () => {
      const [, script] = /```ts\n([\s\S]*?)```/.exec(readText(`${root}docs/trace.md`))!;
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "--no-check", "--allow-ffi", "-", host.directory, RNG],
        cwd: root,
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode(script));
      await writer.close();
      const { code, stdout, stderr } = await child.output();
      assertEquals(code, 0, new TextDecoder().decode(stderr));
      const kinds = parseTrace(new TextDecoder().decode(stdout)).map(({ kind }) => kind);
      assertEquals(kinds, ["open", "read", "read", "close"]);
    });
    await t.step("two bring-ups are the same; one with a mistake parts where it is made", async () => {
      await ok("bind", NET);
      await recorded("good");
      await recorded("again");
      await recorded("bad", wrongVector);
      assertMatch(
        await ok("trace", "diff", file("good"), file("again")),
        /^no difference in \d+ accesses\n$/,
      );
      const { code, out } = await run("trace", "diff", file("good"), file("bad"));
      assertEquals(code, 1);
      assertMatch(
        out,
        /\n- write {4}common:queue_msix_vector 0x0001\n\+ write {4}common:queue_msix_vector 0x0000\n/,
      );
      const { difference } = JSON.parse(
        (await run("trace", "diff", file("good"), file("bad"), "--json")).out,
      );
      assertEquals([difference.one.value, difference.other.value], ["0x0001", "0x0000"]);
    });
    await t.step("show: decoded, filtered, as JSON and as a picture", async () => {
      const all = await ok("trace", "show", file("good"));
      assertMatch(all, /write +common:device_status +0x0f ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK/);
      assertMatch(all, /write +common:queue_desc +0x[0-9a-f]{8} = queue 0 rings \+ 0x0/);
      assertMatch(all, /read +device:mac/);
      const vectors = await ok("trace", "show", file("good"), "--only", "queue_msix", "--kind", "write");
      assertEquals(
        vectors.trimEnd().split("\n").length,
        1 + vectors.match(/ write +common:queue_msix_vector/g)!.length,
      );
      const [first] = JSON.parse(await ok("trace", "show", file("good"), "--kind", "map", "--json"));
      assertEquals([first.kind, first.where], ["map", "queue 0 rings"]);
      await ok("trace", "show", file("good"), "--svg", file("good.svg"));
      const picture = readText(file("good.svg"));
      for (const part of [">BAR 4<", ">configuration<", ">interrupts<", ">queue 0 rings<", ">DRIVER_OK<"]) {
        assert(picture.includes(part), part);
      }
      const refused = await run("trace", "show", file("good.svg"));
      assertEquals(refused.code, 2);
      assertMatch(refused.err, /it is no trace/);
    });
    await t.step(
      "replay: the same driver with no device, and one with a mistake, which is named",
      async () => {
        const good = await replayBringUp(file("good"), file("replayed"));
        assertMatch(good.out, /^(\d+) of \1 accesses as recorded, to record \d+\n/);
        assertEquals([good.code, good.mac, good.failure], [0, "82,84,0,1,0,0", ""]);
        const refused = await replayBringUp(file("good"), file("refused"), wrongVector);
        assertEquals([refused.code, refused.mac], [1, undefined]);
        assertMatch(refused.failure, /EINVAL/);
        assertMatch(
          refused.out,
          /record \d+ is write common:queue_msix_vector 0x0001; the driver did write common:queue_msix_vector 0x0000/,
        );
      },
    );
  } finally {
    await host.stop();
    removeTree(scratch);
  }
});
