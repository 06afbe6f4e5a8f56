/** A bring-up by kernel VFIO, recorded; shown, compared with one that has a mistake, and run again with no device. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { makeTemporaryDirectory, removeTree } from "../../cli/temporary_directory.ts";
import { readText } from "../../ffi/mod.ts";
import {
  compareTraces,
  type NumberedRecord,
  readTrace,
  type Step,
  TraceDecoder,
} from "../../lib/trace/mod.ts";
import { driverSets } from "../../cli/driver_tables.ts";
import {
  bringUpIgb,
  noBufferLength,
  recordBringUp,
  replayBringUp,
  wrongVector,
} from "../emulated/cli/trace_rig.ts";
import { anyPathTest, ID, physicalFunction } from "./guest_host.ts";

anyPathTest("trace: a virtio-net bring-up recorded, shown, compared and replayed", async (host, path) => {
  const net = physicalFunction(ID.net);
  host.bind(net);
  const scratch = makeTemporaryDirectory();
  const [good, again, bad] = ["good", "again", "bad"].map((name) => `${scratch}/${name}`) as [
    string,
    string,
    string,
  ];
  try {
    await recordBringUp(host.open(net, { path }), good);
    await recordBringUp(host.open(net, { path }), again);
    await recordBringUp(host.open(net, { path }), bad, wrongVector);
    const [one, other, wrong] = [good, again, bad].map((file) => readTrace(readText(file))) as [
      NumberedRecord[],
      NumberedRecord[],
      NumberedRecord[],
    ];
    const decoder = new TraceDecoder();
    const lines = one.map((record) => {
      const { where, what } = decoder.decode(record);
      return `${record.kind} ${where} ${what}`;
    });
    assertStringIncludes(lines[0]!, `by ${path}`);
    assert(lines.includes("write common:device_status 0x0f ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK"));
    assertEquals(compareTraces(one, other).difference, undefined);
    const { difference } = compareTraces(one, wrong);
    const written = (step: Step | undefined) => step !== undefined && "value" in step ? step.value : "";
    assertEquals([written(difference?.one), written(difference?.other)], ["0x0001", "0x0000"]);
    assertStringIncludes(lines[difference!.one!.line - 2]!, "write common:queue_msix_vector 0x0001");
    // Processes take long to start here: the driver with a mistake is refused on the embedded host.
    const replayed = await replayBringUp(good, `${scratch}/replayed`);
    assertMatch(replayed.out, /^(\d+) of \1 accesses as recorded, to record \d+\n/);
    assertEquals([replayed.code, replayed.failure], [0, ""]);
  } finally {
    removeTree(scratch);
  }
});

/** Where the recorded bring-up is to be put, for the tests that replay it with no guest. */
const KEPT = Deno.env.get("RINGSIDE_IGB_TRACE");
const IGB = { vendorId: 0x8086, deviceId: 0x10c9 };

anyPathTest("trace: an igb bring-up recorded, shown, compared and replayed", async (host, path) => {
  const igb = physicalFunction(ID.igb);
  host.bind(igb);
  const scratch = makeTemporaryDirectory();
  const file = (name: string) => `${scratch}/${name}`;
  const record = async (name: string, mistake?: typeof noBufferLength) => {
    await recordBringUp(host.open(igb, { path }), file(name), mistake, bringUpIgb);
    return readTrace(readText(file(name)));
  };
  try {
    const good = await record("good");
    const decoder = new TraceDecoder(() => driverSets(IGB));
    const lines = good.map((one) => {
      const { where, what } = decoder.decode(one);
      return `${one.kind} ${where} ${what}`;
    });
    assertStringIncludes(lines[0]!, `by ${path}`);
    for (const wanted of ["write igb:CTRL 0x", "write igb:SRRCTL[0] 0x82000002", "read igb:STATUS 0x"]) {
      assert(lines.some((line) => line.startsWith(wanted)), `no ${wanted} in\n${lines.join("\n")}`);
    }
    // When the link comes, and how often is looked until then, is not the driver's.
    const parted = async (name: string, mistake?: typeof noBufferLength) => {
      for (let tries = 0;; tries++) {
        const { difference } = compareTraces(good, await record(name, mistake));
        const { where } = decoder.decode(difference?.one ?? good[0]!);
        if (where !== "igb:STATUS" || tries === 5) return difference;
      }
    };
    assertEquals(await parted("again"), undefined);
    const difference = await parted("bad", noBufferLength);
    assertEquals(
      lines[difference!.one!.line - 2],
      "write igb:SRRCTL[0] 0x82000002 DROP_EN 1, DESCTYPE one_buffer, BSIZEPACKET 2",
    );
    const { other } = difference!;
    assertEquals(other !== undefined && "value" in other ? other.value : "", "0x00000000");
    const replayed = await replayBringUp(file("good"), file("replayed"), undefined, bringUpIgb);
    assertMatch(replayed.out, /^(\d+) of \1 accesses as recorded, to record \d+\n/);
    assertEquals([replayed.code, replayed.failure], [0, ""]);
    if (KEPT !== undefined) Deno.writeTextFileSync(KEPT, readText(file("good")));
  } finally {
    removeTree(scratch);
  }
});
