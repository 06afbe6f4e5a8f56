/** Loops over calls that never have anything to wait for leave what comes by sockets and pipes its turn, as they leave it to timers. */
import { assert, assertEquals } from "@std/assert";
import { Waiter } from "../../../lib/wait/waiter.ts";

/** Four times what a pipe holds. */
const BYTES = 1 << 18;
/** A turn is due every ten milliseconds. Deno looks at its descriptors in every 61st of turns that do not sleep, which would take more. */
const MOST_TURNS = 40;

Deno.test("turns that are due now and then are enough for what another process says by a pipe", async () => {
  using waiter = new Waiter({ mode: "poll" });
  await using speaker = new Deno.Command("head", {
    args: ["-c", `${BYTES}`, "/dev/zero"],
    stdout: "piped",
  }).spawn();
  let bytes = 0, over = false;
  const listening = (async () => {
    for await (const part of speaker.stdout) bytes += part.length;
    over = true;
  })();
  let turns = 0;
  while (!over && turns < MOST_TURNS) {
    const turn = waiter.turnIfDue();
    if (turn === null) continue;
    await turn;
    turns++;
  }
  assert(over, `${bytes} of ${BYTES} bytes in ${turns} turns`);
  await listening;
  assertEquals(bytes, BYTES);
});
