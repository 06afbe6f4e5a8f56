/** A bring-up by kernel VFIO, recorded; shown, compared with one that has a mistake, and run again with no device. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { makeTemporaryDirectory, removeTree } from "../../cli/temporary_directory.ts";
import { recordBringUp, replayBringUp, wrongVector } from "../emulated/cli/trace_rig.ts";
import { cli } from "../emulated/cli/run_cli.ts";
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
    const shown = await cli("trace", "show", good);
    assertEquals(shown.code, 0, shown.err);
    assert(shown.out.includes(`by ${path}`));
    assertMatch(shown.out, /write +common:device_status +0x0f ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK/);
    const same = await cli("trace", "diff", good, again);
    assertMatch(same.out + same.err, /^no difference in \d+ accesses\n$/);
    const parted = await cli("trace", "diff", good, bad);
    assertEquals(parted.code, 1, parted.err);
    assertMatch(
      parted.out,
      /\n- write {4}common:queue_msix_vector 0x0001\n\+ write {4}common:queue_msix_vector 0x0000\n/,
    );
    const replayed = await replayBringUp(good, `${scratch}/replayed`);
    assertMatch(replayed.out, /^(\d+) of \1 accesses as recorded, to record \d+\n/);
    assertEquals([replayed.code, replayed.failure], [0, ""]);
    const refused = await replayBringUp(good, `${scratch}/refused`, wrongVector);
    assertEquals(refused.code, 1);
    assertMatch(refused.failure, /EINVAL/);
    assertMatch(refused.out, /is write common:queue_msix_vector 0x0001; the driver did write .*0x0000/);
  } finally {
    removeTree(scratch);
  }
});
