/**
 * A running network device moves to another VF without its driver taking part: the PF stops the VF, carries its state over as device parts
 * (virtio 1.4 §2.13), and resumes the other. The driver's queues go on where they are, with what is in them.
 *
 * Run it: `deno run --allow-ffi examples/migrate_parts.ts HOST PF [MOVES]`, with a PF that has administration queues and three VFs or more, which are
 * nobody's: the first sends, the driver of the second moves to the third and back.
 *
 * @module
 */
import {
  type AdminMember,
  DeviceError,
  type Host,
  openHost,
  openTransport,
  UsageError,
  VirtioAdmin,
  VirtioNet,
  type VirtioTransport,
} from "@ringside/ringside";
import type { DevicePart } from "@ringside/ringside/drivers/virtio-admin";
import { FrameCheck, TestFrames } from "@ringside/ringside/drivers/virtio-net-exchange";
import { MovableTransport } from "@ringside/ringside/virtio";

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
  const { driverFeatures } = transport;
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
    if (transport.current !== before) {
      // The reset has made it forget what the driver goes back with.
      to.transport.adoptDriverFeatures?.(driverFeatures);
      transport.moveTo(before);
    }
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

/** Moves a receiver under traffic, there and back. @throws DeviceError when a frame is lost, doubled, changed or out of order */
async function migrateUnderTraffic(host: Host, pf: string, moves: number): Promise<string> {
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
  const check = new FrameCheck(frames);
  let sent = 0, underWay = 0, parts = 0, moving = true;
  const traffic = async () => {
    const tx = sender.tx[0]!;
    let idleSince = performance.now();
    while (moving || check.frames < sent) {
      for (let slot = moving ? tx.reserve() : -1; slot >= 0; slot = tx.reserve()) {
        tx.send(slot, frames.fill(sent++, tx.frame(slot)));
      }
      tx.flush();
      if (check.take(receiver) > 0) idleSince = performance.now();
      else if (performance.now() - idleSince > 5000) {
        throw new DeviceError(`frame ${check.frames} of ${sent} never came`, { function: transport.name });
      }
      // The move goes on meanwhile.
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  };
  const move = async () => {
    try {
      for (let i = 0; i < moves; i++) {
        underWay += sent - check.frames;
        parts = (await migrateParts(transport, places[i % 2]!.member, places[(i + 1) % 2]!)).length;
      }
    } finally {
      moving = false;
    }
  };
  await Promise.all([traffic(), move()]);
  return `${moves} moves of ${parts} parts; ${check.frames} frames, each once and in order, ${underWay} under way when moves began`;
}

if (import.meta.main) {
  const [name, pf, moves = "10"] = Deno.args;
  if (name === undefined || pf === undefined || !/^[1-9]\d*$/.test(moves)) {
    console.error("usage: migrate_parts.ts HOST PF [MOVES]");
    Deno.exit(2);
  }
  using host = openHost(name);
  console.log(await migrateUnderTraffic(host, pf, Number(moves)));
}
