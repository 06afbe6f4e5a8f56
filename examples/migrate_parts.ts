/**
 * A running network device moves to another VF without its driver taking part: the PF stops the VF, carries its state over as device parts
 * (virtio 1.4 §2.13), and resumes the other. The driver's queues go on where they are, with what is in them.
 *
 * Run it: `deno run --allow-ffi examples/migrate_parts.ts HOST PF [MOVES]`, with a PF that has administration queues and three VFs or more, which are
 * nobody's: the first sends, the driver of the second moves to the third and back.
 *
 * @module
 */
import { VirtioAdmin } from "../drivers/admin/virtio_admin.ts";
import { FrameBurst, VirtioNet } from "../drivers/net/virtio_net.ts";
import { DeviceError, UsageError } from "../lib/errors/mod.ts";
import { type Host, openHost } from "../lib/host/mod.ts";
import {
  type AdminMember,
  type DevicePart,
  MovableTransport,
  openTransport,
  type VirtioTransport,
} from "../lib/virtio/mod.ts";
import { EventLoopTurns } from "../lib/wait/event_loop_turns.ts";
import { takeInOrder } from "./take_in_order.ts";
import { TestFrames } from "../drivers/net/virtio/test_frames.ts";

/** A VF to move to: opened, and driven by nobody. */
export interface MoveTarget {
  /** As its owner reaches it. */
  readonly member: AdminMember;
  /** Its registers. */
  readonly transport: VirtioTransport;
}

/**
 * Moves whatever drives `transport` to another VF. When it fails the driver goes on where it was, unless the other VF cannot be turned off: two
 * devices must not serve the same queues.
 * @param from the VF that the transport is on, as its owner reaches it
 * @returns the parts that moved
 * @throws what the commands and the transport throw
 */
export async function migrateParts(
  transport: MovableTransport,
  from: AdminMember,
  to: MoveTarget,
): Promise<DevicePart[]> {
  const before = transport.current;
  if (to.transport === before) throw new UsageError(`${before.name} is the function that the driver is on`);
  if (to.transport.readStatus() !== 0) throw new UsageError(`${to.transport.name} has a driver already`);
  let parts: DevicePart[];
  try {
    await from.setMode(true);
    transport.noteStopped();
    parts = await from.saveParts();
    await to.member.loadParts(parts);
    transport.moveTo(to.transport);
    await to.member.setMode(false);
  } catch (error) {
    // Whether it was resumed is not known when its answer is missing.
    to.transport.reset();
    if (transport.current !== before) transport.moveTo(before);
    await from.setMode(false);
    transport.ringAll();
    // Left stopped, nobody would find out why it does nothing; when that fails, too, the first error says why.
    await to.member.setMode(false).catch(() => {});
    throw error;
  }
  transport.ringAll();
  // The old one still stands for the driver's address in the switch until here.
  before.reset();
  await from.setMode(false);
  return parts;
}

/** What was seen. */
export interface MovesResult {
  readonly frames: number;
  readonly moves: number;
  /** Parts that moved each time. */
  readonly parts: number;
  /** Frames that had been sent and not received when a move began, over all moves. */
  readonly underWay: number;
}

/** Moves a receiver under traffic, there and back. @throws DeviceError when a frame is lost, doubled, changed or out of order */
export async function migrateUnderTraffic(host: Host, pf: string, moves: number): Promise<MovesResult> {
  await using stack = new AsyncDisposableStack();
  const open = (address: string) => {
    if (host.describe(address).driver !== "vfio-pci") host.bind(address);
    return stack.use(openTransport(stack.use(host.open(address))));
  };
  const owner = open(pf);
  const [first, second, third] = host.setVfCount(pf, 3) as [string, string, string];
  const admin = stack.use(await VirtioAdmin.open(owner));
  const places: readonly MoveTarget[] = [second, third].map((address, i) => ({
    member: admin.member(1 + i),
    transport: open(address),
  }));
  const transport = stack.use(new MovableTransport(places[0]!.transport));
  const sender = stack.use(await VirtioNet.open(open(first), { interrupts: "none" }));
  const receiver = stack.use(await VirtioNet.open(transport, { interrupts: "none" }));

  const frames = new TestFrames(receiver.mac, sender.mac, 60, 1514);
  const burst = new FrameBurst(32);
  let sent = 0, received = 0, underWay = 0, parts = 0, moving = true;
  const traffic = async () => {
    const turns = new EventLoopTurns();
    let idleSince = performance.now();
    while (moving || received < sent) {
      if (moving) sent = send(sender, frames, sent);
      const before = received;
      received = takeInOrder(receiver, frames, burst, received);
      if (received > before) idleSince = performance.now();
      else if (performance.now() - idleSince > 5000) {
        throw new DeviceError(`frame ${received} of ${sent} never came`, { function: transport.name });
      }
      await turns.take();
    }
  };
  const move = async () => {
    try {
      for (let i = 0; i < moves; i++) {
        underWay += sent - received;
        const moved = await migrateParts(transport, places[i % 2]!.member, places[(i + 1) % 2]!);
        parts = moved.length;
      }
    } finally {
      moving = false;
    }
  };
  await Promise.all([traffic(), move()]);
  return { frames: received, moves, parts, underWay };
}

function send(net: VirtioNet, frames: TestFrames, sent: number): number {
  const tx = net.tx[0]!;
  for (let slot = tx.reserve(); slot >= 0; slot = tx.reserve()) {
    tx.send(slot, frames.fill(sent++, tx.frame(slot)));
  }
  tx.flush();
  return sent;
}

if (import.meta.main) {
  const [name, pf, moves = "10"] = Deno.args;
  if (name === undefined || pf === undefined || !/^[1-9]\d*$/.test(moves)) {
    throw new UsageError("usage: migrate_parts.ts HOST PF [MOVES]");
  }
  using host = openHost(name);
  const result = await migrateUnderTraffic(host, pf, Number(moves));
  console.log(
    `${result.moves} moves of ${result.parts} parts; ${result.frames} frames, each once and in order, ${result.underWay} under way when moves began`,
  );
}
