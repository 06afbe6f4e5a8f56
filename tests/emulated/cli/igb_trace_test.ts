/**
 * An igb bring-up that was recorded in the guest, and is replayed here: the driver runs with no device. When the driver does something else than
 * `igb.trace` says, record it anew: `deno task test:guest --env RINGSIDE_IGB_TRACE=tests/emulated/cli/igb.trace tests/guest/trace_test.ts`.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { fromFileUrl } from "../../unit/architecture/source_files.ts";
import { cli } from "./run_cli.ts";
import { bringUpIgb, noBufferLength, replayBringUp } from "./trace_rig.ts";

const TRACE = fromFileUrl(new URL("igb.trace", import.meta.url));

Deno.test("igb: a recorded bring-up is shown, and runs again with no device; a mistake is named", async () => {
  const scratch = makeTemporaryDirectory();
  try {
    const { out } = await cli("trace", "show", TRACE, "--only", "SRRCTL");
    assertMatch(out, /write +igb:SRRCTL\[0\] +0x82000002 DROP_EN 1, DESCTYPE one_buffer, BSIZEPACKET 2/);
    const good = await replayBringUp(TRACE, `${scratch}/good`, undefined, bringUpIgb);
    assertMatch(good.out, /^(\d+) of \1 accesses as recorded, to record \d+\n/);
    assertEquals([good.code, good.mac, good.failure], [0, "82,84,0,0,1,0", ""]);
    const bad = await replayBringUp(TRACE, `${scratch}/bad`, noBufferLength, bringUpIgb);
    assertEquals([bad.code, bad.mac], [1, undefined]);
    assertMatch(bad.failure, /^vfio-user REGION_WRITE 0000:00:00\.0, region 0 at 0xc00c: EINVAL/);
    assertMatch(
      bad.out,
      /record \d+ is write igb:SRRCTL\[0\] 0x82000002 .*; the driver did write igb:SRRCTL\[0\] 0x00000000/,
    );
  } finally {
    removeTree(scratch);
  }
});
