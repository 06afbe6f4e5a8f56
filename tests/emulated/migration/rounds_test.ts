import { assert, assertEquals } from "@std/assert";
import type { VirtioNetOptions } from "../../../drivers/net/virtio_net.ts";
import { campaign, Random, rounds } from "../../random.ts";
import { Station, Stations } from "./stations.ts";
import { Traffic } from "./traffic.ts";

// Fewer do not meet every situation.
const ROUNDS = Math.max(20, rounds(100));

/** What went through the saved states, so that a test can tell that there was traffic in them. */
interface Carried {
  unsent: number;
  untaken: number;
  undecided: number;
}

/**
 * Sends from one end to the other without pause; in each round one end is suspended under traffic and goes on in the same function or in
 * another. The other end goes on meanwhile.
 */
async function suspensions(options: VirtioNetOptions, seed: number): Promise<Carried> {
  const random = new Random(seed);
  await using stations = await Stations.start("queue-state", 4);
  const [s0, s1, r0, r1] = stations.transports as [
    PciTransport,
    PciTransport,
    PciTransport,
    PciTransport,
  ];
  const sender = await Station.open(s0, options);
  const receiver = await Station.open(r0, options);
  const traffic = new Traffic(receiver.net.mac, sender.net.mac, seed);
  const carried: Carried = { unsent: 0, untaken: 0, undecided: 0 };
  let senderAt = 0, receiverAt = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const sends = random.below(6);
    for (let burst = 0; burst <= sends; burst++) {
      traffic.send(sender.net, 1 + random.below(40));
      // Some rounds leave the receiver without buffers, so that frames wait in the sender's queue.
      if (random.fraction() < 0.5) traffic.receive(receiver.net, random.below(40));
    }
    const which = round % 2 === 0 ? sender : receiver;
    const move = round % 4 >= 2;
    const saved = await which.suspend();
    carried.unsent += saved.pairs[0]!.transmit.frames.length;
    carried.untaken += saved.pairs[0]!.receive.frames.length;
    carried.undecided += saved.pairs[0]!.transmit.undecided;
    // The other end is under load while this one is away.
    if (which === receiver) traffic.send(sender.net, 64);
    else traffic.receive(receiver.net, 8);
    if (which === sender) {
      if (move) senderAt = 1 - senderAt;
      await sender.resume([s0, s1][senderAt]!, saved);
    } else {
      if (move) receiverAt = 1 - receiverAt;
      await receiver.resume([r0, r1][receiverAt]!, saved);
    }
    assertEquals(which.net.rings, "continued");
    assertEquals(which.net.macText, saved.mac);
  }
  await traffic.drain(receiver.net);
  traffic.receive(receiver.net);
  assertEquals(traffic.received, traffic.sent);
  assert(traffic.sent.frames > 50 * ROUNDS / 10, `${traffic.sent.frames} frames`);
  sender.net.close();
  receiver.net.close();
  await sender.net.settled;
  await receiver.net.settled;
  assertEquals(await stations.stop(), []);
  return carried;
}

type PciTransport = Stations["transports"][number];

for (const packed of [false, true]) {
  const layout = packed ? "packed" : "split";
  Deno.test(
    campaign(
      `A-6.7 ${layout}: ${ROUNDS} suspensions under load, sender and receiver, in place and to another function: every frame once, in order`,
      async () => {
        const carried = await suspensions({ queueSize: 64, packed, interrupts: "none" }, packed ? 7 : 5);
        assert(carried.unsent > 2 * ROUNDS, `${carried.unsent} frames were in transmit queues`);
        assert(carried.untaken > 2 * ROUNDS, `${carried.untaken} frames were in receive queues`);
        assertEquals(carried.undecided, 0);
      },
    ),
  );
}
