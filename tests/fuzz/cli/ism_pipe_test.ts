import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { accessible, readText, removeFile } from "../../../ffi/mod.ts";
import { domain, ONE, Rig, save, THREE, TWO, until } from "../../emulated/cli/ism_rig.ts";
import { startCli } from "../../emulated/cli/run_cli.ts";
import { Random } from "../../random.ts";

Deno.test("ism pipe", async (t) => {
  await using rig = await Rig.start();
  const token = `${rig.scratch}/token`;
  const SETUP = `set -o pipefail
    # Waits for a pipe that says nothing: a sleep would be a process each time.
    exec 8<> <(:)
    there() { for i in {1..2400}; do [ -s $1 ] && return; read -t 0.025 -u 8; done; echo "no $1" >&2; cat $SCRATCH/said* >&2
      for job in $(jobs -p); do pkill -P $job; done; exit 1; }`;

  await t.step("16 MiB: equal at both ends; the token's file goes", async () => {
    const bytes = new Random(1).bytes(16 << 20);
    save(`${rig.scratch}/original`, bytes);
    const { code, out, err } = await rig.script(`${SETUP}
      ringside ${ONE} pipe --listen --token-file $SCRATCH/token --sha256 --json 2>$SCRATCH/said | sha256sum & listener=$!
      there $SCRATCH/token
      cat $SCRATCH/original | ringside ${TWO} pipe $(cat $SCRATCH/token) --sha256
      status=$?; wait $listener && exit $status`);
    assertEquals([code, err], [0, ""]);
    const sum = createHash("sha256").update(bytes).digest("hex");
    assertEquals(out.match(/[0-9a-f]{64}/g), [sum, sum]);
    assertMatch(out, /^0000:02:00\.0: 16 MiB sent in /m);
    const [first, ...rest] = readText(`${rig.scratch}/said`).split("\n");
    const result = JSON.parse(rest.join(""));
    assertEquals(JSON.parse(first!), { token: result.token });
    assertEquals([result.direction, result.bytes, result.sha256], ["receive", 16 << 20, sum]);
    assertEquals(accessible(token), false);
  });

  await t.step("the other way round, a small ring, each way of waiting", async () => {
    const bytes = new Random(1).bytes(1 << 20);
    save(`${rig.scratch}/original`, bytes);
    // `adaptive` is what all the others do.
    for (const how of ["poll", "event"]) {
      const { code, out, err } = await rig.script(`${SETUP}
        ringside ${ONE} pipe --listen --send --peer 2 --bytes 4K --wait ${how} --token-file $SCRATCH/token \
          <$SCRATCH/original 2>/dev/null & listener=$!
        there $SCRATCH/token
        ${how === "event" ? `ringside ${THREE} pipe $(cat $SCRATCH/token) --receive && exit 99` : ""}
        ringside ${TWO} pipe $(cat $SCRATCH/token) --receive --wait ${how} 2>/dev/null >$SCRATCH/copy || exit 98
        wait $listener && cmp $SCRATCH/original $SCRATCH/copy`);
      assertEquals(code, 0, `${how}: ${err}`);
      assertMatch(err, how === "event" ? /^ringside: [^\n]*PERM_EATTACH[^\n]*\n$/ : /^$/);
      assertMatch(out, /: 1 MiB sent in /);
    }
  });

  await t.step("nothing at all is a stream, too", async () => {
    const { code, out } = await rig.script(`${SETUP}
      ringside ${ONE} pipe --listen --token-file $SCRATCH/token 2>/dev/null | wc -c & listener=$!
      there $SCRATCH/token
      ringside ${TWO} pipe $(cat $SCRATCH/token) </dev/null && wait $listener`);
    assertEquals(code, 0);
    assertMatch(out, /: 0 B sent in /);
    assertMatch(out, /^0$/m);
  });

  await t.step("a side that dies: the other one says so, with status 1", async () => {
    for (const [victim, busy] of [["listener", false], ["listener", true], ["sender", true]] as const) {
      const listener = startCli({}, ...rig.args, ONE, "pipe", "--listen", "--token-file", token);
      await until(() => accessible(token));
      const sender = startCli({ stdin: "piped" }, ...rig.args, TWO, "pipe", readText(token).trim());
      const said = [listener, sender].map(({ stderr }) => new Response(stderr).text());
      const input = sender.stdin.getWriter();
      // One that is not busy waits for more of its input, and must see the death all the same.
      let feeding = true;
      const fed = (async () => {
        do await input.write(new Uint8Array(1 << 16)); while (feeding && busy);
      })().catch(() => {});
      const output = listener.stdout.getReader();
      assert(!(await output.read()).done);
      const drained = (async () => {
        while (!(await output.read()).done);
      })();
      (victim === "listener" ? listener : sender).kill("SIGKILL");
      const { code } = await (victim === "listener" ? sender : listener).status;
      feeding = false;
      await fed;
      await input.close().catch(() => {});
      await drained;
      await new Response(sender.stdout).arrayBuffer();
      const err = (await Promise.all(said))[victim === "listener" ? 1 : 0]!;
      await Promise.all([listener.status, sender.status]);
      assertEquals(code, 1, err);
      assertMatch(err, /(^|\n)ringside: channel 0x[0-9a-f]+: the peer is gone[^\n]*\n$/);
      await until(() => domain(rig).regions.length === 0);
      removeFile(token);
    }
  });

  await t.step("what came before a death is written", async () => {
    const { out } = await rig.script(`${SETUP}
      ringside ${ONE} pipe --listen --token-file $SCRATCH/token 2>$SCRATCH/said >$SCRATCH/copy & listener=$!
      there $SCRATCH/token
      mkfifo $SCRATCH/fifo; exec 9<>$SCRATCH/fifo; echo before >&9
      ringside ${TWO} pipe $(cat $SCRATCH/token) <$SCRATCH/fifo 9>&- 2>$SCRATCH/said2 & sender=$!
      there $SCRATCH/copy
      kill -TERM $(pgrep -P $sender); wait $sender; echo sender $?
      wait $listener; echo listener $?; cat $SCRATCH/copy`);
    assertEquals(out, "sender 143\nlistener 1\nbefore\n");
    assertMatch(readText(`${rig.scratch}/said`), /\nringside: [^\n]*the peer gave up\n$/);
  });

  await t.step("output that is full, output that nobody reads, two that send", async () => {
    const full = await rig.script(`${SETUP}
      ringside ${ONE} pipe --listen --token-file $SCRATCH/token >/dev/full 2>$SCRATCH/said & listener=$!
      there $SCRATCH/token
      echo hello | ringside ${TWO} pipe $(cat $SCRATCH/token) 2>/dev/null; echo sender $?
      wait $listener; echo listener $?`);
    assertEquals(full.out, "sender 1\nlistener 1\n");
    assertMatch(readText(`${rig.scratch}/said`), /\nringside: write standard output: ENOSPC/);

    const early = await rig.script(`${SETUP}
      (ringside ${ONE} pipe --listen --token-file $SCRATCH/token 2>/dev/null; echo listener $? >&2) | head -c 9 | wc -c & 
      there $SCRATCH/token
      ringside ${TWO} pipe $(cat $SCRATCH/token) </dev/zero 2>/dev/null; echo sender $?; wait`);
    assertEquals([early.out.split("\n").sort().join(" "), early.err], [" 9 sender 1", "listener 0\n"]);

    const both = await rig.script(`${SETUP}
      ringside ${ONE} pipe --listen --send --token-file $SCRATCH/token </dev/zero 2>$SCRATCH/said & listener=$!
      there $SCRATCH/token
      ringside ${TWO} pipe $(cat $SCRATCH/token) </dev/zero; echo $?; wait $listener; echo $?`);
    assertMatch(
      both.err + readText(`${rig.scratch}/said`),
      /both sides send \(one of the two takes --receive\)/,
    );
    assert(!both.out.split("\n").includes("0"), both.out);
  });
  assertEquals(rig.violations(), []);
});
