/**
 * A running network device moves: suspended under traffic, saved to a file, resumed on another function, while its peer keeps sending.
 *
 * Run it: `deno run --allow-ffi examples/migrate.ts HOST SENDER RECEIVER TARGET FILE`, with three functions of one switch whose profile is
 * `queue-state` (on an embedded host the topology says so): others drop what is sent to a device while it moves.
 *
 * @module
 */
import { FrameBurst, type SavedNet, VirtioNet } from "../drivers/net/virtio_net.ts";
import { O, OwnedFd, readText, writeAll } from "../ffi/mod.ts";
import { DeviceError, UsageError } from "../lib/errors/mod.ts";
import { type Host, openHost } from "../lib/host/mod.ts";
import { openTransport, type VirtioTransport } from "../lib/virtio/mod.ts";
import { takeInOrder } from "./take_in_order.ts";
import { TestFrames } from "../drivers/net/virtio/test_frames.ts";

const FRAMES = 20_000;
const MOVE_AFTER = FRAMES / 2;

/** Functions, and where the state goes on its way. */
export interface MigrateOptions {
  readonly sender: string;
  readonly receiver: string;
  /** Where the receiver goes on. */
  readonly target: string;
  /** File for the saved state, JSON. */
  readonly file: string;
}

/** What was seen. */
export interface MigrateResult {
  readonly sent: number;
  readonly received: number;
  /** Frames that had been delivered and not taken. */
  readonly carried: number;
  /** Whether the rings went on at their places, or started afresh. */
  readonly rings: "continued" | "fresh";
}

/** Does it. @throws DeviceError when a frame is lost, doubled, changed or out of order */
export async function migrate(host: Host, options: MigrateOptions): Promise<MigrateResult> {
  await using stack = new AsyncDisposableStack();
  const reach = (address: string) => stack.use(transportOf(host, address, stack));
  const [from, here, there] = [reach(options.sender), reach(options.receiver), reach(options.target)];
  const sender = stack.use(await VirtioNet.open(from, { interrupts: "none" }));
  let receiver = stack.use(await VirtioNet.open(here, { interrupts: "none" }));
  const frames = new TestFrames(receiver.mac, sender.mac, 60, 1514);
  const burst = new FrameBurst(32);
  let sent = 0, received = 0, carried = 0;
  while (received < FRAMES) {
    sent = send(sender, frames, sent);
    if (receiver.transport === here && received >= MOVE_AFTER) {
      // What is there now and not taken moves with the device.
      await receiver.waitReceive(1000);
      const saved = await receiver.suspend();
      carried = saved.pairs[0]!.receive.frames.length;
      write(options.file, saved);
      // The sender goes on: what it sends now waits, or is in its queue still.
      sent = send(sender, frames, sent);
      receiver = stack.use(await VirtioNet.resume(there, read(options.file), { interrupts: "none" }));
    }
    received = takeInOrder(receiver, frames, burst, received);
    if (received === FRAMES || receiver.rx[0]!.hasUsed()) continue;
    // All that was sent has come. The sender may have its slots back later than the receiver its frames.
    const came = received === sent ? await sender.waitTransmit(2000) : await receiver.waitReceive(2000);
    if (!came) {
      throw new DeviceError(`frame ${received} of ${sent} never came`, { function: receiver.transport.name });
    }
  }
  return { sent, received, carried, rings: receiver.rings };
}

function transportOf(host: Host, address: string, stack: AsyncDisposableStack): VirtioTransport {
  if (host.describe(address).driver !== "vfio-pci") host.bind(address);
  const device = stack.use(host.open(address));
  // The profile is chosen, not guessed: bit 40 is RING_RESET in the standard. A function without queue states has its rings started afresh.
  return openTransport(device, { profile: "queue-state" });
}

/** Sends as much as there is room for. @returns how many were sent in all */
function send(net: VirtioNet, frames: TestFrames, sent: number): number {
  const tx = net.tx[0]!;
  for (; sent < FRAMES; sent++) {
    const slot = tx.reserve();
    if (slot < 0) break;
    tx.send(slot, frames.fill(sent, tx.frame(slot)));
  }
  tx.flush();
  return sent;
}

function write(path: string, saved: SavedNet): void {
  using file = OwnedFd.open(path, O.WRONLY | O.CREAT | O.TRUNC, 0o600);
  writeAll(file, new TextEncoder().encode(JSON.stringify(saved)));
}

/** `VirtioNet.resume` checks it. */
function read(path: string): SavedNet {
  return JSON.parse(readText(path));
}

if (import.meta.main) {
  const [name, sender, receiver, target, file] = Deno.args;
  if (
    name === undefined || sender === undefined || receiver === undefined || target === undefined ||
    file === undefined
  ) throw new UsageError("usage: migrate.ts HOST SENDER RECEIVER TARGET FILE");
  using host = openHost(name);
  const { sent, received, carried, rings } = await migrate(host, { sender, receiver, target, file });
  console.log(`${received} of ${sent} frames, each once and in order; ${carried} moved with the device`);
  console.log(`rings: ${rings === "continued" ? "went on at their places" : "started afresh"}`);
}
