import { assertEquals, assertMatch } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { fitColumns } from "../../../cli/output.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { readFile, removeFile } from "../../../ffi/mod.ts";
import { CaptureReader, CaptureWriter } from "../../../lib/capture/mod.ts";
import { type Host, openHost } from "../../../lib/host/mod.ts";
import { save, until } from "../../emulated/cli/ism_rig.ts";
import { shell } from "../../emulated/cli/run_cli.ts";

const PF = "0000:01:00.0";
const VF = "0000:01:00.2";
const RNG = "0000:02:00.0";

Deno.test("pipes and full disks", async (t) => {
  const served = await startEmulatedHost();
  const scratch = makeTemporaryDirectory();
  const at = (script: string) =>
    shell(script.replaceAll("ringside ", `ringside --host ${served.directory} `), { SCRATCH: scratch });
  /** Runs a script which waits, by `driven`, until the second VF's driver is up. */
  const once = async (host: Host, script: string) => {
    const mark = `${scratch}/driven`;
    // A pipe that says nothing is waited for: a sleep would be a process each time, and so would a question to the host.
    const waiting = "exec 8<> <(:); driven() { until [ -e $SCRATCH/driven ]; do read -t 0.02 -u 8; done; }";
    const [result] = await Promise.all([
      at(`${waiting}\n${script}`),
      until(() => host.describe(VF).heldBy !== undefined && (host.readConfig(VF)[4]! & 4) !== 0)
        .then(() => save(mark, "")),
    ]);
    removeFile(mark);
    return result;
  };
  try {
    using host = openHost(served.directory);
    host.bind(PF);
    host.setVfCount(PF, 2);
    host.bind(RNG);
    const frames = Array.from({ length: 300 }, (_, i) => {
      const frame = new Uint8Array(60 + i).fill(i);
      frame.set([0x52, 0x54, 0, 1, 0, 2]);
      return frame;
    });
    {
      using writer = new CaptureWriter(`${scratch}/in.pcap`);
      for (const frame of frames) writer.write(frame);
    }
    await t.step("a reader that goes early ends the command, quietly", async () => {
      for (
        const [command, first] of [
          ["list", /^FUNCTION /],
          [`show ${PF} --hex`, /^01:00\.0 Ethernet/],
          // Without end it would take minutes.
          [`rng ${RNG} 1000000000`, /^[0-9a-f]{64}\n$/],
        ] as const
      ) {
        const { code, out, err } = await at(`set -o pipefail; ringside ${command} | head -1`);
        assertEquals([code, err], [0, ""], command);
        assertMatch(out, first);
      }
      const raw = await at(`set -o pipefail; ringside rng ${RNG} 1000000000 -o - | head -c 10 | wc -c`);
      assertEquals([raw.code, raw.out.trim(), raw.err], [0, "10", ""]);
    });
    await t.step("what changes the host does so though nobody reads", async () => {
      const { code } = await at(`set -o pipefail; ringside bind ${RNG} --driver virtio-pci | true`);
      assertEquals([code, host.describe(RNG).driver], [0, "virtio-pci"]);
      host.bind(RNG);
    });
    await t.step("a full disk is one line and status 1", async () => {
      const { code, err } = await at("ringside list > /dev/full");
      assertEquals(code, 1);
      assertMatch(err, /^ringside: standard output: No space left[^\n]*\n$/);
    });
    await t.step("net send - and net receive -: frames by pipe, messages apart", async () => {
      const { code, out, err } = await once(
        host,
        `
        ringside net receive 01:00.2 - --count 300 --seconds 20 > $SCRATCH/out.pcap &
        driven
        cat $SCRATCH/in.pcap | ringside net send 01:00.1 -
        wait $!`,
      );
      assertEquals(code, 0, err);
      assertMatch(out, /^0000:01:00\.1: 300 frames, \d+ bytes sent in /);
      assertMatch(err, /^0000:01:00\.2: 300 frames, \d+ bytes in standard output after /);
      using reader = CaptureReader.open(`${scratch}/out.pcap`);
      assertEquals([...reader].map((frame) => frame.bytes), frames);
    });
    await t.step("net receive - --json: standard output stays a capture", async () => {
      const { code, err } = await at("ringside net receive 01:00.2 - --seconds 1 --json > $SCRATCH/out.pcap");
      assertEquals(code, 0, err);
      assertEquals(JSON.parse(err).received, 0);
      assertEquals(readFile(`${scratch}/out.pcap`).length, 24);
    });
    await t.step("a frame from a pipe is not kept back until more come", async () => {
      const { code, out, err } = await once(
        host,
        `
        ringside net receive 01:00.2 $SCRATCH/one.pcap --count 1 --seconds 20 & receiver=$!
        driven
        mkfifo $SCRATCH/fifo; exec 9<>$SCRATCH/fifo
        head -c 100 $SCRATCH/in.pcap >&9
        ringside net send 01:00.1 - <$SCRATCH/fifo 9>&- &
        wait $receiver; status=$?
        exec 9>&-; wait; exit $status`,
      );
      assertEquals(code, 0, err);
      assertMatch(out, /: 1 frame, 60 bytes in /);
    });
    await t.step("rng --output writes into what is there, and does not replace it", async () => {
      const { code, err } = await at(`ringside rng ${RNG} 100 -o /dev/null && test -c /dev/null`);
      assertEquals([code, err], [0, "100 bytes in /dev/null\n"]);
    });
    assertEquals(served.violations(), []);
  } finally {
    removeTree(scratch);
    await served.stop();
  }
});

Deno.test("a table gives way on a terminal only: columns are left out, others cut down to a limit", () => {
  const rows = [
    ["FUNCTION", "CLASS", "NAME", "NUMA"],
    ["0000:01:00.0", "y".repeat(20), "x".repeat(40), "-"],
  ];
  const fit = (terminal?: number) =>
    fitColumns(rows, { drop: [1, 3], shrink: [2] }, terminal).map(({ column, width }) => [column, width]);
  const whole = [[0, 12], [1, 20], [2, 40], [3, 4]];
  assertEquals(fit(), whole);
  assertEquals(fit(82), whole);
  assertEquals(fit(81), [[0, 12], [1, 20], [2, 39], [3, 4]]);
  assertEquals(fit(54), [[0, 12], [1, 20], [2, 12], [3, 4]]);
  assertEquals(fit(53), [[0, 12], [2, 33], [3, 4]]);
  assertEquals(fit(31), [[0, 12], [2, 17]]);
  assertEquals(fit(10), [[0, 12], [2, 12]]);
});
