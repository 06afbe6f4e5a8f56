import { assert, assertEquals, assertRejects } from "@std/assert";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { ClosedError, DeviceError, UnsupportedError } from "../../../lib/errors/mod.ts";
import type { QueueState } from "../../../lib/virtio/mod.ts";
import { Station, Stations } from "./stations.ts";
import { Traffic } from "./traffic.ts";

const POLL = { interrupts: "none", queueSize: 32 } as const;

/** Sends until the receiver has no buffers and the sender's queue is full. */
async function fill(traffic: Traffic, sender: VirtioNet): Promise<void> {
  for (let idle = 0; idle < 20;) {
    if (traffic.send(sender, 32) > 0) idle = 0;
    else {
      idle++;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

Deno.test("what control commands set goes along: address, table, filters, pairs; and what is held for the address reaches it", async () => {
  const before = [openFdCount(), mappingCount().mappings];
  {
    await using stations = await Stations.start("queue-state", 3, { queuePairs: 4 });
    const [one, two, three] = stations.transports as [PciTransport, PciTransport, PciTransport];
    const sender = await Station.open(one, POLL);
    const receiver = await Station.open(two, { ...POLL, queuePairs: 3 });
    const own = Uint8Array.of(2, 0, 0, 0, 0, 0x51);
    const extra = Uint8Array.of(2, 0, 0, 0, 0, 0x52);
    const group = Uint8Array.of(1, 0, 0x5e, 0, 0, 1);
    await receiver.net.setMac(own);
    await receiver.net.setMacTable([extra], [group]);
    await receiver.net.setAllMulticast(true);
    await receiver.net.setAllMulticast(false);
    await receiver.net.setFilter("nobcast", true);
    await receiver.net.setQueuePairs(2);
    const saved = await receiver.suspend();
    assertEquals(saved.mac, "02:00:00:00:00:51");
    assertEquals(saved.activePairs, 2);
    assertEquals(saved.filters, { allmulti: false, nobcast: true });
    // Sent while it is away: unicast to both of its addresses waits.
    const frame = (to: Uint8Array, mark: number) =>
      Uint8Array.of(...to, ...sender.net.mac, 8, 0, mark, ...new Uint8Array(50));
    assert(sender.net.send(frame(own, 1)));
    assert(sender.net.send(frame(extra, 2)));
    await receiver.resume(three, saved);
    assertEquals([receiver.net.rx.length, receiver.net.macText], [3, "02:00:00:00:00:51"]);
    // Another address of the group is not taken, nor are broadcasts.
    assert(sender.net.send(frame(Uint8Array.of(1, 0, 0x5e, 0, 0, 2), 3)));
    assert(sender.net.send(frame(new Uint8Array(6).fill(0xff), 4)));
    assert(sender.net.send(frame(group, 5)));
    const marks: number[] = [];
    for (let i = 0; i < 3; i++) marks.push((await receiver.net.receive(5000))![14]!);
    assertEquals(marks.sort(), [1, 2, 5]);
    assertEquals(await receiver.net.receive(20), undefined);
    const again = await receiver.suspend();
    assertEquals([again.mac, again.macTable, again.activePairs], [saved.mac, saved.macTable, 2]);
    assertEquals(again.filters, { nobcast: true });
    sender.net.close();
    await sender.net.settled;
    assertEquals(await stations.stop(), []);
  }
  assertEquals([openFdCount(), mappingCount().mappings], before);
});

Deno.test("without QUEUE_STATE: rings start afresh on another function, the frames are the same; rings that must go on are refused", async () => {
  await using stations = await Stations.start("spec", 3);
  const [one, two, three] = stations.transports as [PciTransport, PciTransport, PciTransport];
  const sender = await Station.open(one, POLL);
  const receiver = await Station.open(three, POLL);
  const traffic = new Traffic(receiver.net.mac, sender.net.mac, 11);
  await fill(traffic, sender.net);
  const saved = await sender.suspend();
  assertEquals(saved.pairs[0]!.transmit.frames.length, 32);
  assertEquals(saved.pairs[0]!.transmit.device, null);
  await assertRejects(
    () => VirtioNet.resume(two, saved, { ...POLL, rings: "continue" }),
    UnsupportedError,
    "QUEUE_STATE",
  );
  // Nothing of it was used up.
  await sender.resume(two, saved);
  assertEquals(sender.net.rings, "fresh");
  traffic.send(sender.net, 16);
  await traffic.drain(receiver.net);
  assertEquals(traffic.received, traffic.sent);
  sender.net.close();
  receiver.net.close();
  await sender.net.settled;
  assertEquals(await stations.stop(), []);
});

Deno.test("from packed to split and to larger queues: rings start afresh, no frame is lost; smaller queues are refused before anything is sent", async () => {
  await using stations = await Stations.start("queue-state", 3);
  const [one, two, three] = stations.transports as [PciTransport, PciTransport, PciTransport];
  const sender = await Station.open(one, { ...POLL, packed: true });
  const receiver = await Station.open(three, POLL);
  const traffic = new Traffic(receiver.net.mac, sender.net.mac, 12);
  await fill(traffic, sender.net);
  const packed = await sender.suspend();
  assertEquals(packed.pairs[0]!.transmit.ring.state.layout, "packed");
  await assertRejects(
    () => VirtioNet.resume(two, packed, { queueSize: 16, interrupts: "none" }),
    UnsupportedError,
    "16 slots",
  );
  sender.net = await VirtioNet.resume(two, packed, { interrupts: "none", packed: false });
  assertEquals([sender.net.rings, sender.net.featureNames.includes("VIRTIO_F_RING_PACKED")], [
    "fresh",
    false,
  ]);
  const split: typeof packed = await sender.suspend();
  assertEquals(split.pairs[0]!.transmit.frames, packed.pairs[0]!.transmit.frames);
  sender.net = await VirtioNet.resume(one, split, { interrupts: "none", queueSize: 64 });
  assertEquals([sender.net.rings, sender.net.tx[0]!.slotCount], ["fresh", 64]);
  // Smaller receive buffers: saved frames are spread over several.
  const untaken = await receiver.suspend();
  assertEquals(untaken.pairs[0]!.receive.frames.length, 32);
  receiver.net = await VirtioNet.resume(three, untaken, { interrupts: "none", bufferBytes: 128 });
  await traffic.drain(receiver.net);
  assertEquals(traffic.received, traffic.sent);
  sender.net.close();
  receiver.net.close();
  await sender.net.settled;
  assertEquals(await stations.stop(), []);
});

Deno.test("suspended by MSI-X: a wait ends with ClosedError, and interrupts wake the resumed one, on the same function", async () => {
  const options = { interrupts: "msix", wait: "eventfd", queueSize: 32 } as const;
  await using stations = await Stations.start("queue-state", 2);
  const [one, two] = stations.transports as [PciTransport, PciTransport];
  const sender = await Station.open(one, options);
  const receiver = await Station.open(two, options);
  const waiting = assertRejects(() => receiver.net.receive(10_000), ClosedError);
  const command = receiver.net.setPromiscuous(true);
  const saved = await receiver.suspend();
  await command;
  await waiting;
  assertEquals(saved.filters, { promisc: true });
  assert(receiver.net.closed);
  await receiver.resume(two, saved);
  const traffic = new Traffic(receiver.net.mac, sender.net.mac, 13);
  for (let i = 0; i < 20; i++) {
    const ready = receiver.net.waitReceive(10_000);
    traffic.send(sender.net, 1);
    assertEquals(await ready, true);
    traffic.receive(receiver.net);
  }
  assertEquals(traffic.received, traffic.sent);
  assert(receiver.net.statistics().interrupts >= 10);
  sender.net.close();
  receiver.net.close();
  await sender.net.settled;
  await receiver.net.settled;
  assertEquals(await stations.stop(), []);
});

Deno.test("a suspended function whose client goes is gone: nobody waits for it any more, and what is sent to it is dropped", async () => {
  await using stations = await Stations.start("queue-state", 2);
  const [one, two] = stations.transports as [PciTransport, PciTransport];
  const sender = await Station.open(one, POLL);
  const receiver = await Station.open(two, POLL);
  const to = receiver.net.mac;
  await receiver.suspend();
  const frame = Uint8Array.of(...to, ...sender.net.mac, ...new Uint8Array(50));
  assert(sender.net.send(frame));
  // Held while it may be back.
  assertEquals(await sender.net.waitTransmit(100), false);
  stations.leave(1);
  assertEquals(await sender.net.waitTransmit(1000), true);
  sender.net.close();
  await sender.net.settled;
  assertEquals(await stations.stop(), []);
});

Deno.test("A-6.7 the device's state is checked against the ring; chains that it read and did not return are told", async () => {
  await using stations = await Stations.start("queue-state", 2);
  const [one, two] = stations.transports as [PciTransport, PciTransport];
  const states = one.queueState!;
  const honest = states.read.bind(states);
  let ahead = 3;
  states.read = (queue, layout, size): QueueState => {
    const state = honest(queue, layout, size);
    if (queue !== 1 || state.layout !== "split") return state;
    return { layout: "split", availableIndex: (state.availableIndex + ahead) & 0xffff };
  };
  const options = { ...POLL, packed: false } as const;
  const sender = await Station.open(one, options);
  const receiver = await Station.open(two, options);
  const traffic = new Traffic(receiver.net.mac, sender.net.mac, 14);
  await fill(traffic, sender.net);
  const saved = await sender.suspend();
  assertEquals([saved.pairs[0]!.transmit.undecided, saved.pairs[0]!.transmit.frames.length], [3, 32]);
  await sender.resume(one, saved);
  ahead = 33;
  const lie = await assertRejects(() => sender.net.suspend(), DeviceError);
  assertEquals(lie.location, { function: one.name, queue: 1, field: "queue_avail_state" });
  assert(sender.net.closed);
  receiver.net.close();
  await stations.stop();
});

type PciTransport = Stations["transports"][number];
