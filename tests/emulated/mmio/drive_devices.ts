/**
 * A process that drives devices on register windows until it is killed: opens them, drives them, closes them again, over and over. Argument: the host's
 * directory. It says `driving` when the first are at work.
 */
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { frameOf, openAll } from "./killed_devices.ts";

const [directory = ""] = Deno.args;
using host = EmulatedHost.connect(directory);
for (let round = 0;; round++) {
  await using owned = new AsyncDisposableStack();
  const drivers = await openAll(host, owned, {
    packed: round % 2 === 0,
    interrupts: round % 4 < 2 ? "auto" : "none",
  });
  const { one, two, blk, rng } = drivers;
  if (round === 0) console.log("driving");
  const frame = frameOf(drivers);
  for (let i = 0; i < 20; i++) {
    one.send(frame);
    await Promise.all([
      blk.write(8 * (i % 8), new Uint8Array(4096).fill(i)),
      rng.read(1000),
      two.receive(1000),
    ]);
  }
}
