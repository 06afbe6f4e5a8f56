/** Loops over calls that never have anything to wait for leave timers, signals and other work their turns. */
import { assert } from "@std/assert";
import { VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { ModelNet, testFrame } from "../virtio/model_net.ts";
import { withChannel } from "./ism/ism_channels.ts";
import { ModelConsole } from "./console/model_console.ts";

/** For a loop that starves the timer: it ends all the same. */
const PATIENCE_MS = 20_000;

/** Repeats a call that resolves at once until a timer has had its turn. */
async function untilTimer(call: () => Promise<unknown>): Promise<void> {
  let fired = false;
  const timer = setTimeout(() => fired = true, 0);
  const until = performance.now() + PATIENCE_MS;
  while (!fired && performance.now() < until) await call();
  clearTimeout(timer);
  assert(fired, "the timer had no turn");
}

Deno.test("net: frames that are always there", async () => {
  using model = new ModelNet({ queueSize: 8 });
  await using net = await VirtioNet.open(model.transport);
  const frame = testFrame(60);
  await untilTimer(() => {
    model.deliver(frame);
    return net.receive(1000);
  });
});

Deno.test("console: bytes that are always there, and a device that always takes them", async () => {
  const model = new ModelConsole(1, { features: 1n << 32n });
  await using console = await VirtioConsole.open(model.transport);
  const port = await console.waitPort(0, 1000);
  await untilTimer(() => {
    model.say(0, [1]);
    return port.read(1000);
  });
  await untilTimer(() => {
    model.sent.clear();
    return port.write(Uint8Array.of(1));
  });
  model.transport.close();
});

Deno.test("ISM channel: what is always there to be read, and room to write", async () => {
  const byte = new Uint8Array(1);
  for (const wait of ["poll", "event"] as const) {
    await withChannel(async ({ a, b }) => {
      await untilTimer(() => {
        a.write(byte);
        return b.readSome(byte);
      });
      await untilTimer(() => {
        b.read(byte);
        return a.writeAll(byte);
      });
      a.write(byte);
      await untilTimer(() => b.waitReadable());
    }, { wait, connect: { wait } });
  }
});
