/**
 * A running network device moves: suspended under traffic, saved to a file, resumed on another function, while its peer keeps sending.
 *
 * Run it: `deno run --allow-ffi --allow-read=FILE --allow-write=FILE examples/migrate.ts HOST SENDER RECEIVER TARGET FILE`, with three functions of
 * one switch whose profile is `queue-state` (on an embedded host the topology says so): others drop what is sent to a device while it moves.
 *
 * @module
 */
import { DeviceError, openHost, openTransport, VirtioNet } from "@ringside/ringside";
import { FrameCheck, TestFrames } from "@ringside/ringside/drivers/virtio-net-exchange";

const FRAMES = 20_000;
const MOVE_AFTER = FRAMES / 2;

const [name, ...addresses] = Deno.args;
const file = addresses.pop();
if (name === undefined || file === undefined || addresses.length !== 3) {
  console.error("usage: migrate.ts HOST SENDER RECEIVER TARGET FILE");
  Deno.exit(2);
}

using host = openHost(name);
await using stack = new AsyncDisposableStack();
const [from, here, there] = addresses.map((address) => {
  if (host.describe(address).driver !== "vfio-pci") host.bind(address);
  // The profile is chosen, not guessed: bit 40 is RING_RESET in the standard. A function without queue states has its rings started afresh.
  return stack.use(openTransport(stack.use(host.open(address)), { profile: "queue-state" }));
});
const sender = stack.use(await VirtioNet.open(from!, { interrupts: "none" }));
let receiver = stack.use(await VirtioNet.open(here!, { interrupts: "none" }));
const frames = new TestFrames(receiver.mac, sender.mac, 60, 1514);
const check = new FrameCheck(frames);
let sent = 0, carried = 0;
while (check.frames < FRAMES) {
  send();
  if (receiver.transport === here && check.frames >= MOVE_AFTER) {
    // What is there now and not taken moves with the device.
    await receiver.waitReceive(1000);
    const saved = await receiver.suspend();
    carried = saved.pairs[0]!.receive.frames.length;
    Deno.writeTextFileSync(file, JSON.stringify(saved), { mode: 0o600 });
    // The sender goes on: what it sends now waits, or is in its queue still.
    send();
    // `resume` checks what it is given.
    const read = JSON.parse(Deno.readTextFileSync(file));
    receiver = stack.use(await VirtioNet.resume(there!, read, { interrupts: "none" }));
  }
  check.take(receiver);
  if (check.frames === FRAMES || receiver.rx[0]!.hasUsed()) continue;
  // All that was sent has come. The sender may have its slots back later than the receiver its frames.
  const came = check.frames === sent ? await sender.waitTransmit(2000) : await receiver.waitReceive(2000);
  if (!came) {
    throw new DeviceError(`frame ${check.frames} of ${sent} never came`, {
      function: receiver.transport.name,
    });
  }
}
console.log(`${check.frames} of ${sent} frames, each once and in order; ${carried} moved with the device`);
console.log(`rings: ${receiver.rings === "continued" ? "went on at their places" : "started afresh"}`);

/** Sends as much as there is room for. */
function send(): void {
  const tx = sender.tx[0]!;
  for (; sent < FRAMES; sent++) {
    const slot = tx.reserve();
    if (slot < 0) break;
    tx.send(slot, frames.fill(sent, tx.frame(slot)));
  }
  tx.flush();
}
