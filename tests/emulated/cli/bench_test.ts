import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { measure } from "../../../cli/bench/measure.ts";
import { plotSvg } from "../../../cli/bench/plot_svg.ts";
import type { Point, Report } from "../../../cli/bench/points.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { Latencies } from "../../../drivers/latencies.ts";
import type { Load } from "../../../drivers/load.ts";
import { readFile, readText } from "../../../ffi/mod.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { cli } from "./run_cli.ts";

const BLK = "0000:03:00.0";
const [NEAR, FAR] = ["0000:04:00.0", "0000:05:00.0"];
const SECTOR = 512;
const SHORT = ["--seconds", "0.02"];

Deno.test("bench blk and net: JSON, tables, plots; reading changes nothing, writing wants --force", async (t) => {
  const scratch = makeTemporaryDirectory();
  try {
    const image = `${scratch}/disk.img`;
    await using served = await TopologyHost.start([
      { address: BLK, kind: "virtio-blk", file: image, sizeBytes: 2048 * SECTOR, queues: 2 },
      { address: NEAR, kind: "virtio-net", queuePairs: 2 },
      { address: FAR, kind: "virtio-net", queuePairs: 2 },
    ]);
    const run = (...args: string[]) => cli("--host", served.directory, ...args);
    const bench = async (...args: string[]) => {
      const { code, out, err } = await run("bench", ...args, ...SHORT);
      assertEquals([code, err], [0, ""]);
      return out;
    };
    for (const one of [BLK, NEAR, FAR]) await run("bind", one);

    await t.step("blk, the only one: every way and depth, over all queues", async () => {
      const found = JSON.parse(await bench("blk", "--depth", "1,64", "--queues", "2", "--json"));
      const { points, ...facts } = found;
      assertEquals(facts, {
        function: BLK,
        operation: "read",
        sizeBytes: 4096,
        queues: 2,
        seconds: 0.02,
        interruptKind: "msix",
        interrupted: false,
      });
      const ways = points.map(({ way, each }: Point) => [way, each]);
      assertEquals(ways, [["polled", 1], ["polled", 64], ["interrupt", 1], ["interrupt", 64]]);
      for (const { count, perSecond, bytesPerSecond, milliseconds, microseconds } of points as Point[]) {
        const { p50, p90, p99, p999, max } = microseconds;
        assert(count > 0 && milliseconds >= 20 && bytesPerSecond === perSecond * 4096);
        assert(0 < p50 && p50 <= p90 && p90 <= p99 && p99 <= p999 && p999 <= max);
      }
      assert(readFile(image).every((byte) => byte === 0), "reading has written");
    });

    await t.step("blk --write: not without --force; with it, to the image", async () => {
      const refused = await run("bench", "blk", BLK, "--write", ...SHORT);
      assertEquals(refused.code, 2);
      assertMatch(refused.err, /^ringside: --write writes all over 0000:03:00\.0 \(add --force [^\n]*\)\n$/);
      assert(readFile(image).every((byte) => byte === 0), "refused, and written");
      const svg = `${scratch}/plot.svg`;
      const out = await bench("blk", BLK, "--write", "--force", "--depth", "4", "--svg", svg);
      assertMatch(out, /^0000:03:00\.0: random writes of 4 KiB\n/);
      assertMatch(out, /^WAY +DEPTH +IOPS +MB\/S +P50 +P90 +P99 +P99\.9 +MAX\n/m);
      assert(readFile(image).some((byte) => byte !== 0));
      assertStringIncludes(readText(svg), "random writes of 4 KiB");
    });

    await t.step("net, out and back over two pairs: no frame is lost", async () => {
      const args = ["net", NEAR, FAR, "--burst", "1,32", "--queues", "2", "--size", "1514", "--json"];
      const { points, receiver, frameBytes } = JSON.parse(await bench(...args));
      assertEquals([receiver, frameBytes, points.length], [FAR, 1514, 4]);
      for (const { count, counts } of points as Point[]) assert(count > 0 && counts.lost === 0);
    });

    await t.step("net, one function: what it sends; the table in 80 columns", async () => {
      const out = await bench("net", NEAR, "--to", "52:54:00:99:99:99", "--burst", "8");
      assertMatch(out, /^WAY +BURST +FRAMES\/S +GBIT\/S .* RECEIVED$/m);
      assert(out.split("\n").every((line) => line.length <= 80), out);
      assertEquals(out.match(/^(polled|interrupt) +8 /gm)?.length, 2);
    });

    await t.step("what cannot be", async () => {
      const cases: readonly [readonly string[], RegExp][] = [
        [["net"], /which FUNCTION\? \(one of 0000:04:00\.0, 0000:05:00\.0\)/],
        [["net", NEAR, NEAR], /cannot receive what it sends itself/],
        [["net", NEAR, FAR, "--to", "52:54:00:00:00:01"], /--to is for one FUNCTION/],
        [["net", NEAR, "--to", "52:54"], /no MAC address/],
        [["net", NEAR, "--burst", "200"], /bursts of 200 frames/],
        [["net", NEAR, "--size", "59"], /frames of 59 bytes/],
        [["blk", "--depth", "0"], /no list of numbers/],
        [["blk", "--depth", "1,9999"], /9999 requests in flight/],
        [["blk", "--size", "1000"], /requests of 1000 bytes/],
        [["blk", "--queues", "3"], /has 2 request queues, 3 are wanted/],
      ];
      for (const [args, says] of cases) {
        const { err } = await run("bench", ...args, ...SHORT);
        assertMatch(err, says);
        assertEquals(err.split("\n").length, 2, err);
      }
    });
    assertEquals(await served.stop(), []);
  } finally {
    removeTree(scratch);
  }
});

Deno.test("bench without a function and a host: on an embedded host of its own; without interrupts it polls", async () => {
  const { code, out, err } = await cli(
    "bench",
    "net",
    "--burst",
    "4",
    "--interrupts",
    "none",
    ...SHORT,
    "--json",
  );
  assertEquals(code, 0, err);
  const { function: near, receiver, points } = JSON.parse(out);
  assertEquals([near, receiver], ["0000:01:00.0", "0000:02:00.0"]);
  assertEquals(points.map(({ way }: Point) => way), ["polled"]);
});

/** Work of which every other turn does two pieces, of 5 µs each; some stay in flight at the end. */
class MadeUpLoad implements Load {
  readonly latencies = new Latencies();
  turns = 0;
  waits = 0;
  left = 3;
  readonly #ends: () => void;
  #sinceMs = 0;

  /** @param ends called when it has run for 12 ms */
  constructor(ends: () => void) {
    this.#ends = ends;
  }

  begin(): void {
    this.#sinceMs = performance.now();
  }

  turn(): number {
    if (performance.now() - this.#sinceMs > 12) this.#ends();
    if (++this.turns % 2 === 0) return 0;
    this.latencies.add(0.005, 2);
    return 2;
  }

  wait(): void {
    this.waits++;
  }

  end(): number {
    return Math.max(0, this.left--);
  }
}

Deno.test("an interrupted measurement gives what was measured until then, and waits for what is in flight", async () => {
  const stop = new AbortController();
  const loads: MadeUpLoad[] = [];
  const points = await measure({
    ways: ["polled", "interrupt"],
    each: [1, 2],
    sizeBytes: 512,
    seconds: 0.02,
    quiet: true,
    signal: stop.signal,
    load: () => {
      const last = loads.length === 2;
      loads.push(new MadeUpLoad(() => last && stop.abort()));
      return loads.at(-1)!;
    },
    counts: ({ turns }) => ({ turns }),
  });
  assertEquals(loads.length, 3);
  const ways = points.map(({ way, each }) => [way, each]);
  // The third may have been in its warm-up still.
  assertEquals(ways, [["polled", 1], ["polled", 2], ["interrupt", 1]].slice(0, points.length));
  for (const { count, counts, microseconds, perSecond, bytesPerSecond } of points) {
    assert(count > 0 && Math.abs(counts.turns! - count) <= 2, `${counts.turns}, ${count}`);
    assertEquals([microseconds.p50, microseconds.max, bytesPerSecond], [5, 5, perSecond * 512]);
  }
  assertEquals(loads.map(({ left, waits }) => [left, waits > 0]), [[-1, false], [-1, false], [-1, true]]);
});

/** A point with these figures. */
function point(way: Point["way"], each: number, perSecond: number, p50: number): Point {
  const microseconds = { p50, p90: 2 * p50, p99: 3 * p50, p999: 9 * p50, max: 10 * p50 };
  return {
    way,
    each,
    perSecond,
    microseconds,
    milliseconds: 1,
    count: 1,
    bytesPerSecond: 0,
    counts: {},
  };
}

Deno.test("a plot has a line for each way and percentile, with all points inside; also of one point, of none, and of nothing done", () => {
  const report = (points: readonly Point[]): Report => ({
    title: "one <&> two",
    note: "a note",
    each: "depth",
    what: "requests",
    points,
    facts: {},
    interrupted: false,
  });
  const points = [
    point("polled", 64, 1_234_567, 3.5),
    point("polled", 1, 98_000, 900),
    point("interrupt", 1, 12, 70_000),
    point("interrupt", 64, 250_000, 2),
  ];
  const cases: readonly [readonly Point[], number][] = [
    [points, 4],
    [points.slice(0, 1), 1],
    [[], 0],
    [[point("polled", 1, 0, NaN)], 1],
  ];
  for (const [some, count] of cases) {
    const svg = plotSvg(report(some));
    assertStringIncludes(svg, "<title>one &lt;&amp;&gt; two</title>");
    assert(!/NaN|Infinity|undefined/.test(svg), svg);
    const known = some.filter(({ microseconds }) => !Number.isNaN(microseconds.p50)).length;
    const circles = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)];
    assertEquals(circles.length, count + 3 * known);
    for (const [, x, y] of circles) {
      const inside = (76 <= Number(x) && Number(x) <= 422) || (526 <= Number(x) && Number(x) <= 872);
      assert(inside && 92 <= Number(y) && Number(y) <= 352, `${x}, ${y}`);
    }
    assertEquals(
      svg.match(/<(text|title|svg|circle)\b/g)?.length,
      svg.match(/<\/(text|title|svg|circle)>/g)?.length,
    );
  }
  // By depth, whatever the order in which they were measured.
  const path = /<path d="M ([\d.]+) [\d.]+ L ([\d.]+)/.exec(plotSvg(report(points)))!;
  assert(Number(path[1]) < Number(path[2]));
});
