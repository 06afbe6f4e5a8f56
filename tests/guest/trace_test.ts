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
import { recordBringUp, replayBringUp, wrongVector } from "../emulated/cli/trace_rig.ts";
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
