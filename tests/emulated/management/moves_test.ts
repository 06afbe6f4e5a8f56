import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  type ManagedDevice,
  ManagementCommandError,
  moveManaged,
  VirtioManagement,
} from "../../../drivers/management/virtio_management.ts";
import { VirtioNet, type VirtioNetOptions } from "../../../drivers/net/virtio_net.ts";
import { ExhaustedError, UsageError } from "../../../lib/errors/mod.ts";
import { MovableTransport } from "../../../lib/virtio/mod.ts";
import type { TvqLayout } from "../../../lib/virtio/spec/transport_vq_payloads.ts";
import type { VirtioTransport } from "../../../lib/virtio/transport/transport.ts";
import { campaign, Random, rounds } from "../../random.ts";
import { Traffic } from "../migration/traffic.ts";
import { ManagementHost, NET } from "./management_host.ts";

const OTHER = "0000:06:00.0";
const MOVES = rounds(100, 4);
const LAYOUTS: readonly [TvqLayout, TvqLayout][] = [["aligned", "packed"], ["packed", "aligned"]];

/** Two management functions on one switch, whose payloads lie differently. */
async function twoFunctions(layouts: readonly [TvqLayout, TvqLayout]) {
  const [here, there] = layouts;
  const host = await ManagementHost.start({ layout: here }, { layout: here }, [
    { address: OTHER, kind: "virtio-management", switch: "s0", layout: there },
    // A receiver that moves on a busy machine is without buffers for long.
  ], { holdMs: 60_000 });
  const { transport, device } = host.use(host.served.reach(OTHER, { profile: "transport-vq" }));
  const other = host.use(await VirtioManagement.open(transport, { function: device, layout: there }));
  return {
    host,
    managements: [host.management, other] as const,
    spaces: [host.function.device.dma, device.dma],
  };
}

/** One that answers to this address. */
function create(management: VirtioManagement, mac: Uint8Array): Promise<ManagedDevice> {
  const config = new Uint8Array(12);
  config.set(mac);
  return management.create({ type: 1, features: NET, config });
}

/** Traffic both ways, from the host's side too, while the driver of one end moves between two management functions. */
async function moves(
  layouts: readonly [TvqLayout, TvqLayout],
  options: VirtioNetOptions,
  seed: number,
): Promise<void> {
  const random = new Random(seed);
  const { host, managements, spaces } = await twoFunctions(layouts);
  await using _ = host;
  const atStart = [await managements[0].resources(), await managements[1].resources()];
  const peer = host.use(await VirtioNet.open(host.transport(await host.net()), options));
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 0x44);
  let on = await create(managements[0], mac);
  const transport = host.use(new MovableTransport(managements[0].openTransport(on.id)));
  // Drivers have memory at both: addresses are looked for that are free at both.
  transport.dma.attach(spaces[1]!);
  const net = host.use(await VirtioNet.open(transport, options));
  const there = new Traffic(net.mac, peer.mac, seed), back = new Traffic(peer.mac, net.mac, seed + 1);
  let moving = true, duringMoves = 0, underWay = 0;
  const traffic = async () => {
    while (moving) {
      const before = there.received.frames + back.received.frames;
      there.send(peer, 1 + random.below(40));
      back.send(net, 1 + random.below(40));
      // Some rounds leave an end without buffers, so that frames wait in the other's queue.
      if (random.fraction() < 0.6) there.receive(net, random.below(60));
      if (random.fraction() < 0.6) back.receive(peer, random.below(60));
      duringMoves += there.received.frames + back.received.frames - before;
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  };
  const move = async () => {
    try {
      for (let i = 0; i < MOVES; i++) {
        const [from, to] = [managements[i % 2]!, managements[(i + 1) % 2]!];
        const device = await create(to, mac);
        const target = to.openTransport(device.id);
        const left = transport.current;
        // In the middle of it, whatever the other loop did.
        there.send(peer, 32);
        back.send(net, 32);
        underWay += there.sent.frames - there.received.frames + back.sent.frames - back.received.frames;
        moveManaged(transport, target);
        assertEquals([transport.current, left.readStatus(), target.readStatus()], [target, 0, 15]);
        left.close();
        await from.destroy(on.id);
        on = device;
        // The control queue moved, too: the device answers there.
        if (i % 5 === 0) await net.setFilter("allmulti", i % 10 === 0);
        const seen = there.received.frames, deadline = performance.now() + 10_000;
        while (there.received.frames === seen) {
          assert(performance.now() < deadline, `no frame came through after move ${i}`);
          await new Promise((resolve) => setTimeout(resolve, 0));
        }
      }
    } finally {
      moving = false;
    }
  };
  await Promise.all([traffic(), move()]);
  await there.drain(net);
  await back.drain(peer);
  // Nothing twice: what comes late would be found.
  assertEquals(await net.waitReceive(20), false);
  assertEquals([there.received, back.received], [there.sent, back.sent]);
  assert(duringMoves >= MOVES, `${duringMoves} frames while the driver moved`);
  assert(underWay >= 64 * MOVES, `${underWay} frames under way when moves began`);
  assertEquals(net.resets, 0);
  if (options.interrupts === "msix") {
    // The vectors of the last function reach the driver that was opened on the first.
    for (let i = 0; i < 5; i++) {
      const { interrupts } = net.statistics();
      const woken = net.waitReceive(5000);
      there.send(peer, 1);
      assert(await woken, "no interrupt");
      await there.drain(net);
      assert(net.statistics().interrupts > interrupts, "woken without an interrupt");
    }
  }
  for (const one of [net, peer]) {
    one.close();
    await one.settled;
  }
  transport.close();
  for (const management of managements) {
    for (const { id } of management.devices) await management.destroy(id);
  }
  assertEquals([await managements[0].resources(), await managements[1].resources()], atStart);
  assertEquals(await host.stop(), []);
}

for (const packed of [false, true]) {
  for (const [at, layouts] of LAYOUTS.entries()) {
    const interrupts = at === 0 ? "none" : "msix";
    const how = `rings ${packed ? "packed" : "split"}, payloads ${
      layouts.join(" and ")
    }, interrupts ${interrupts}`;
    Deno.test(
      campaign(
        `class 12: ${MOVES} moves of a driver between two management functions under traffic both ways, ${how}: every frame once, in order`,
        () => {
          const wait = interrupts === "none" ? {} : { wait: "eventfd" as const };
          return moves(layouts, { queueSize: 64, packed, interrupts, ...wait }, 21 + 2 * at + Number(packed));
        },
      ),
    );
  }
}

/**
 * Saved on one management device, restored on another, and back: what driver and rings left went through JSON text, as on its way to another process.
 * Sender and receiver in turn, the other goes on meanwhile.
 */
async function restorations(layouts: readonly [TvqLayout, TvqLayout], packed: boolean, seed: number) {
  const random = new Random(seed);
  const { host, managements } = await twoFunctions(layouts);
  await using _ = host;
  const options = { queueSize: 64, packed, interrupts: "none" } as const;
  const open = async (mac: Uint8Array) => {
    const device = await create(managements[0], mac);
    const net = await VirtioNet.open(managements[0].openTransport(device.id), options);
    return { mac, device, net, at: 0 };
  };
  const ends = [
    await open(Uint8Array.of(2, 0, 0, 0, 0, 1)),
    await open(Uint8Array.of(2, 0, 0, 0, 0, 2)),
  ] as const;
  const [sender, receiver] = ends;
  const traffic = new Traffic(receiver.mac, sender.mac, seed);
  let carried = 0;
  for (let round = 0; round < MOVES; round++) {
    for (let burst = random.below(6); burst >= 0; burst--) {
      traffic.send(sender.net, 1 + random.below(40));
      if (random.fraction() < 0.5) traffic.receive(receiver.net, random.below(40));
    }
    // Until the receiver has no buffers and the sender's queue is full: there are frames in the queues of both ends.
    for (let idle = 0; idle < 10;) {
      if (traffic.send(sender.net, 64) > 0) idle = 0;
      else {
        idle++;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
    assert(await receiver.net.waitReceive(5000));
    const which = ends[round % 2]!;
    const { net, device, at } = which;
    const saved = JSON.parse(JSON.stringify(await net.suspend()));
    const [{ transmit, receive }] = saved.pairs;
    assertEquals([transmit.undecided, transmit.device.layout], [0, packed ? "packed" : "split"]);
    carried += transmit.frames.length + receive.frames.length;
    // The other end is under load while this one is away.
    if (which === receiver) traffic.send(sender.net, 64);
    else traffic.receive(receiver.net, 8);
    const left = net.transport;
    which.at = 1 - at;
    which.device = await create(managements[which.at]!, which.mac);
    const transport = managements[which.at]!.openTransport(which.device.id);
    which.net = await VirtioNet.resume(transport, saved, { interrupts: "none", rings: "continue" });
    assertEquals(which.net.rings, "continued");
    left.close();
    await managements[at]!.destroy(device.id);
  }
  await traffic.drain(receiver.net);
  assertEquals(await receiver.net.waitReceive(20), false);
  assertEquals(traffic.received, traffic.sent);
  assert(carried > 15 * MOVES, `${carried} frames in the saved states`);
  for (const { net } of ends) {
    net.close();
    await net.settled;
    net.transport.close();
  }
  assertEquals(await host.stop(), []);
}

for (const packed of [false, true]) {
  for (const [at, layouts] of LAYOUTS.entries()) {
    const how = `rings ${packed ? "packed" : "split"}, payloads ${layouts.join(" and ")}`;
    Deno.test(
      campaign(
        `class 12: ${MOVES} times saved under load on one management function and restored on another, ${how}: every frame once, in order`,
        () => restorations(layouts, packed, 31 + 2 * at + Number(packed)),
      ),
    );
  }
}

Deno.test("a move that fails anywhere leaves the driver where it was, and running", async () => {
  const { host, managements, spaces } = await twoFunctions(["aligned", "aligned"]);
  await using _ = host;
  const [here, other] = managements;
  const transport = host.use(new MovableTransport(host.transport(await host.net())));
  const peer = host.use(await VirtioNet.open(host.transport(await host.net()), { interrupts: "none" }));
  const net = host.use(await VirtioNet.open(transport, { interrupts: "msix" }));
  const first = transport.current;
  const traffic = new Traffic(net.mac, peer.mac, 3), back = new Traffic(peer.mac, net.mac, 4);
  const goesOn = async () => {
    traffic.send(peer, 40);
    back.send(net, 40);
    await traffic.drain(net);
    await back.drain(peer);
    assertEquals([traffic.received, back.received], [traffic.sent, back.sent]);
  };
  const target = async (features = NET) => {
    const config = new Uint8Array(12);
    config.set(net.mac);
    return host.use(other.openTransport((await other.create({ type: 1, features, config })).id));
  };
  const fails = async (to: VirtioTransport, error: new (...args: never[]) => Error, message: string) => {
    traffic.send(peer, 20);
    back.send(net, 20);
    assertThrows(() => moveManaged(transport, to), error, message);
    assertEquals([transport.current, transport.driverFeatures], [first, NET]);
    assertEquals(transport.dma.attached, [spaces[0]]);
    await goesOn();
  };
  await goesOn();
  const to = await target();
  await fails(host.function.transport, UsageError, "no managed device");
  await fails(first, UsageError, "is the current function");
  await fails(peer.transport, UsageError, "has a driver already");
  await fails(host.transport(await host.rng()), UsageError, "another kind of device");
  await fails(await target(NET & ~(1n << 29n)), Error, "does not offer");
  // An address that is in use over there.
  const [{ iova }] = [net.transport.dma.allocate(4096)];
  spaces[1]!.reserveIova(iova, 4096);
  await fails(to, ExhaustedError, "not free");
  spaces[1]!.releaseIova(iova);
  // One that was destroyed under it; and one that refuses a command when everything but that is done.
  const gone = await target();
  await other.destroy(other.devices.at(-1)!.id);
  await fails(gone, Error, "");
  const refused = await target();
  const { device } = refused as unknown as { device: ManagedDevice };
  const honest = device.now.enableQueue.bind(device.now);
  let enabled = 0;
  device.now.enableQueue = (queue, on) => {
    if (on && ++enabled === 2) {
      throw new ManagementCommandError({ class: 9, command: 0, deviceId: device.id, function: "x" }, 255);
    }
    return honest(queue, on);
  };
  await fails(refused, ManagementCommandError, "");
  assertEquals([enabled, refused.readStatus()], [2, 0]);
  // And then it moves.
  moveManaged(transport, to);
  assertEquals([transport.current, first.readStatus()], [to, 0]);
  await goesOn();
  // On the same function, too; and back to a device that it had left.
  for (const next of [await target(), to]) {
    traffic.send(peer, 20);
    back.send(net, 20);
    moveManaged(transport, next);
    await goesOn();
  }
  for (const one of [net, peer]) {
    one.close();
    await one.settled;
  }
  assertEquals(here.devices.length, 3);
  assertEquals((await host.stop()).filter(({ rule }) => rule !== "A-4.33"), []);
});
