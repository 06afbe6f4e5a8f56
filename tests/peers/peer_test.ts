/** What a process is to a test: listened to, talked to, ended, and an error that shows its last words. */
import { assertEquals, assertRejects } from "@std/assert";
import { accessible } from "../../ffi/mod.ts";
import { Peer, PeerError } from "./rig/peer.ts";

const SHELL = { name: "shell", argv: ["/bin/sh", "-c"] };

Deno.test("what is waited for may be printed in pieces, between which the other output speaks", async () => {
  await using peer = new Peer(SHELL, [
    "printf rea; echo noise >&2; sleep 0.05; echo dy; read line; echo got $line; cat",
  ]);
  await peer.waitFor(/^ready$/m);
  const mark = peer.mark;
  await peer.write("a word");
  assertEquals((await peer.waitFor(/got (.*)\n/, mark))[1], "a word");
  assertEquals([peer.since(mark), peer.complaints, peer.ended], ["got a word\n", "noise\n", false]);
});

Deno.test("a process that ends, fails or says nothing is an error with what it printed on either output", async () => {
  const script = "echo out; echo err >&2; exit 3";
  await using failing = new Peer(SHELL, [script]);
  const error = await assertRejects(() => failing.waitFor(/never/), PeerError, "shell ended with status 3");
  assertEquals([error.message.includes("out\n"), error.message.includes("err\n")], [true, true]);
  await assertRejects(() => failing.finished(), PeerError, "status 3");
  await assertRejects(() => failing.write("too late"), PeerError, "takes no input");
  await using silent = new Peer(SHELL, ["cat"]);
  await assertRejects(() => silent.waitFor(/never/, 0, 50), PeerError, "within 50 ms");
});

Deno.test("stop ends it by the end of its input, by a signal, or by force; kill at once", async () => {
  // The last one leaves a process behind, for two seconds, that has its outputs.
  for (const script of ["cat", "exec sleep 100", "trap '' TERM; sleep 2 & echo on; while :; do :; done"]) {
    const peer = new Peer(SHELL, [script]);
    if (script.includes("echo on")) await peer.waitFor(/on/);
    await (script.startsWith("trap") ? peer.kill() : peer.stop());
    assertEquals([peer.ended, accessible(`/proc/${peer.pid}/exe`)], [true, false], script);
  }
});
