import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { VirtioDevice } from "../../../lib/virtio/device.ts";
import { checkSavedQueue } from "../../../lib/virtio/queue/saved_queue.ts";
import { usedBurst } from "../../../lib/virtio/queue/used_burst.ts";
import { FakeTransport } from "./transport/fake_transport.ts";
import { Random } from "../../random.ts";
import { addChain } from "./queue/ring_fixture.ts";

const bit = (n: number) => 1n << BigInt(n);
const VERSION_1 = bit(32);
const into = usedBurst(64);

/** A live device with one queue, and its model, which is another object after each reset. */
function live(features: bigint, profile: "spec" | "queue-state", size = 8) {
  const transport = new FakeTransport({ features: VERSION_1 | features, queueSizes: [64, 64, 64], profile });
  const device = new VirtioDevice(transport);
  device.negotiate();
  const queue = device.createQueue(1, { size, vector: 3, maxSegments: 2 });
  device.driverOk();
  const packed = queue.layout === "packed";
  return {
    transport,
    device,
    queue,
    /** Ids and lengths of what the device is given now. */
    pop(): { id: number; count: number; first: number } | undefined {
      if (packed) {
        const chain = transport.packed(1).pop();
        return chain && { id: chain.id, count: chain.count, first: chain.parts[0]!.length };
      }
      const chain = transport.ring(1).pop();
      return chain && { id: chain.head, count: 1, first: chain.parts[0]!.length };
    },
    push(chain: { id: number; count: number }): void {
      if (packed) transport.packed(1).push(chain.id, 0, chain.count);
      else transport.ring(1).push(chain.id, 0);
    },
  };
}

for (const profile of ["queue-state", "spec"] as const) {
  for (const layout of ["split", "packed"] as const) {
    for (const inOrder of [false, true]) {
      const name = `${layout}${inOrder ? ", in order" : ""}, profile ${profile}`;
      Deno.test(`A-6.7 suspend and resume under way, 300 times: nothing lost, nothing twice (${name})`, () => {
        const features = (layout === "packed" ? bit(34) : 0n) | (inOrder ? bit(35) : 0n) | bit(28) | bit(29) |
          (profile === "queue-state" ? bit(40) : 0n);
        const { transport, device, queue, pop, push } = live(features, profile, layout === "packed" ? 7 : 8);
        const random = new Random(5);
        const serials = new Map<number, number>();
        const delivered: number[] = [];
        let serial = 1;
        const take = () => {
          for (let n = queue.takeUsed(into); n > 0; n = queue.takeUsed(into)) {
            for (let at = 0; at < n; at++) {
              delivered.push(serials.get(into.ids[at]!)!);
              serials.delete(into.ids[at]!);
            }
          }
        };
        for (let round = 0; round < 300; round++) {
          for (let n = random.below(5); n > 0; n--) {
            const parts = Array<number>(1 + random.below(3)).fill(serial);
            const id = addChain(queue, parts, []);
            if (id < 0) continue;
            serials.set(id, serial++);
          }
          if (random.below(4) > 0) queue.flush();
          const held: { id: number; count: number; first: number }[] = [];
          for (let n = random.below(6); n > 0; n--) {
            const chain = pop();
            if (chain === undefined) break;
            assertEquals(chain.first, serials.get(chain.id), "the chain is the one that was offered");
            held.push(chain);
          }
          while (held.length > 0 && random.below(3) > 0) {
            push(held.splice(inOrder ? 0 : random.below(held.length), 1)[0]!);
          }
          if (random.below(2) === 0) take();
          const states = device.suspend();
          assertEquals([device.state, device.live, queue.closed], ["suspended", false, false]);
          assertThrows(() => queue.notify(), UsageError, "DRIVER_OK");
          if (queue.hasUsed()) assertThrows(() => device.resume(), UsageError, "not taken");
          take();
          assertEquals(states.size, profile === "queue-state" ? 1 : 0);
          const saved = checkSavedQueue(JSON.parse(JSON.stringify(queue.save(states.get(1)))));
          assertEquals(
            saved.inFlight.map(({ id }) => serials.get(id)!),
            [...serials.values()].sort((a, b) => a - b),
          );
          device.resume({ configVector: 2 });
          if (profile === "queue-state") assertEquals(transport.states.get(1), saved.state);
          assertEquals([device.state, transport.configVector, transport.queueVectors.get(1)], ["live", 2, 3]);
        }
        for (let chain = pop(); chain !== undefined; chain = pop()) push(chain);
        take();
        assertEquals(delivered.length, serial - 1 - serials.size);
        queue.flush();
        for (let chain = pop(); chain !== undefined; chain = pop()) push(chain);
        take();
        assertEquals(
          delivered.toSorted((a, b) => a - b),
          Array.from({ length: serial - 1 }, (_, i) => i + 1),
        );
        assertEquals(queue.inFlight, 0);
        device.close();
        transport.close();
      });
    }
  }
}

Deno.test("N-6.1 N-6.2 A-6.5 order of a suspend and a resume on the registers", () => {
  const { transport, device, queue } = live(bit(40) | bit(34), "queue-state");
  queue.addSingle(0, 0, 1, true);
  queue.flush();
  transport.log.length = 0;
  device.suspend();
  assertEquals(transport.log, ["reset", "read state 1"]);
  transport.log.length = 0;
  device.resume({ configVector: null });
  assertEquals(transport.log.filter((one) => !one.startsWith("read status") && !one.startsWith("max")), [
    "status 1",
    "status 3",
    "read features",
    "write features",
    "status 11",
    "config vector null",
    "queue 1 vector 3",
    "write state 1",
    "enable 1",
    "doorbell 1",
    "write state 0",
    "write state 2",
    "status 15",
    "notify 1",
  ]);
  transport.close();
});

Deno.test("in another device: the saved queue starts where it stood, and goes on", () => {
  const from = live(bit(40) | bit(34) | bit(28), "queue-state", 6);
  for (let n = 0; n < 8; n++) {
    addChain(from.queue, [n + 1], []);
    from.queue.flush();
    if (n % 4 === 3) continue;
    from.push(from.pop()!);
    from.queue.takeUsed(into);
  }
  from.pop();
  const states = from.device.suspend();
  assertEquals(from.queue.takeUsed(into), 0);
  const saved = from.queue.save(states.get(1));
  from.device.close();
  assertEquals(saved.inFlight.length, 2);

  const transport = new FakeTransport({
    features: VERSION_1 | bit(40) | bit(34),
    queueSizes: [6, 6],
    profile: "queue-state",
  });
  const device = new VirtioDevice(transport);
  device.negotiate();
  const queue = device.createQueue(saved.queue, { size: saved.size, start: saved.state });
  assertEquals(queue.position, saved.state);
  queue.reoffer(saved.inFlight);
  device.driverOk();
  assertEquals(queue.flush(), true);
  const ring = transport.packed(1);
  const lengths = [ring.pop(), ring.pop()].map((chain) => chain?.parts[0]?.length);
  assertEquals(lengths, saved.inFlight.map(({ readable }) => readable[0]!.lengthBytes));
  from.transport.close();
  transport.close();
});

Deno.test("suspend: only a live device; a reset that never ends or a state that cannot be closes the queues", () => {
  using plain = new FakeTransport();
  const idle = new VirtioDevice(plain);
  assertThrows(() => idle.suspend(), UsageError);
  assertThrows(() => idle.resume(), UsageError);

  const stuck = live(0n, "spec");
  stuck.transport.onReset = () => false;
  assertThrows(() => stuck.device.suspend(), TimeoutError);
  assertEquals([stuck.device.state, stuck.queue.closed], ["failed", true]);
  stuck.transport.close();

  const liar = live(bit(40), "queue-state");
  liar.transport.queueState.read = () => {
    throw new DeviceError("cannot be");
  };
  assertThrows(() => liar.device.suspend(), DeviceError);
  assertEquals([liar.device.state, liar.queue.closed, liar.device.features], ["failed", true, 0n]);
  liar.transport.close();

  const poor = live(bit(28), "spec");
  poor.device.suspend();
  poor.transport.offered &= ~bit(28);
  assertThrows(() => poor.device.resume(), UnsupportedError, "VIRTIO_F_INDIRECT_DESC");
  assertEquals([poor.device.state, poor.transport.status & 128], ["failed", 128]);
  poor.device.close();
  assertEquals(poor.queue.closed, true);
  poor.transport.close();
});

Deno.test("a start other than the beginning needs QUEUE_STATE, and the layout that was negotiated", () => {
  using transport = new FakeTransport({ features: VERSION_1 });
  const device = new VirtioDevice(transport);
  device.negotiate();
  const start = { layout: "split", availableIndex: 1 } as const;
  assertThrows(() => device.createQueue(0, { start }), UnsupportedError, "QUEUE_STATE");
  device.negotiate();
  device.createQueue(0, { start: { ...start, availableIndex: 0 } }).close();
  device.negotiate();
  const packed = { layout: "packed", availableSlot: 0, availableWrap: 1, usedSlot: 0, usedWrap: 1 } as const;
  assertThrows(() => device.createQueue(0, { start: packed }), UsageError, "split was negotiated");
  assertEquals(transport.dma.usage.allocations, 0);
});

Deno.test("resetQueue behind a transport that cannot reset one queue: UnsupportedError, and the queue goes on", () => {
  const { transport, device, queue } = live(0n, "spec");
  Object.defineProperty(transport, "resetQueue", { value: undefined });
  assertThrows(() => device.resetQueue(1), UnsupportedError, "this interface cannot reset one queue");
  assertEquals([device.live, queue.closed], [true, false]);
  device.close();
  transport.close();
});

Deno.test("1.5 resetQueue: what came back and what did not; the queue is closed, and set up again with other parameters", () => {
  for (const packed of [0n, bit(34)]) {
    const { transport, device, queue, pop, push } = live(bit(40) | packed, "spec");
    const ids = [addChain(queue, [1], [2]), addChain(queue, [3], []), addChain(queue, [4], [])];
    queue.flush();
    pop();
    push(pop()!);
    const remains = device.resetQueue(1);
    assertEquals(remains.completed, [{ id: ids[1]!, lengthBytes: 0 }]);
    assertEquals(remains.inFlight.map(({ id }) => id), [ids[0]!, ids[2]!]);
    assertEquals([remains.fault, queue.closed, device.state], [undefined, true, "live"]);
    assert(transport.log.includes("reset queue 1"));
    assertThrows(() => queue.flush(), ClosedError);
    assertThrows(() => device.createQueue(0), UsageError, "negotiated");
    assertThrows(() => device.resetQueue(1), UsageError, "not set up");

    const again = device.createQueue(1, { size: 16 });
    assertEquals(again.size, 16);
    again.reoffer(remains.inFlight);
    again.flush();
    assertEquals([pop()?.first, pop()?.first, pop()], [1, 4, undefined]);
    assertThrows(() => device.createQueue(1), UsageError, 'needs "negotiated"');
    device.close();
    transport.close();
  }
});

Deno.test("1.5 resetQueue takes the vector away: the queue set up again has the one of before, or another", () => {
  const { transport, device } = live(bit(40), "spec");
  for (
    const [asked, expected] of [[undefined, 3], [5, 5], [undefined, 5], [null, null], [
      undefined,
      null,
    ]] as const
  ) {
    device.resetQueue(1);
    assertEquals(transport.queueVectors.has(1), false);
    const from = transport.log.length;
    device.createQueue(1, asked === undefined ? {} : { vector: asked });
    assertEquals(transport.queueVectors.get(1), expected);
    const log = transport.log.slice(from);
    assert(
      log.indexOf(`queue 1 vector ${expected}`) < log.indexOf("enable 1"),
      "before the queue is enabled",
    );
  }
  // A suspended device has it after `resume`, too.
  device.resetQueue(1);
  device.createQueue(1, { vector: 2 });
  device.suspend();
  device.resume();
  assertEquals(transport.queueVectors.get(1), 2);
  device.reset();
  device.negotiate();
  device.createQueue(1);
  assertEquals(transport.queueVectors.has(1), false, "a device reset forgets it");
  transport.close();
});

Deno.test("1.5 resetQueue brings a queue back that the device broke, with every chain accounted for once", () => {
  const { transport, device, queue, pop, push } = live(bit(40) | bit(34), "spec");
  const ids = [addChain(queue, [1], []), addChain(queue, [2], [])];
  queue.flush();
  pop();
  pop();
  push({ id: ids[1]!, count: 1 });
  push({ id: 7, count: 1 });
  const remains = device.resetQueue(1);
  assertEquals(remains.completed, [{ id: ids[1]!, lengthBytes: 0 }]);
  assertEquals(remains.inFlight.map(({ id }) => id), [ids[0]!]);
  assertEquals(remains.fault?.location.field, "used.id");
  device.createQueue(1).reoffer(remains.inFlight);
  transport.close();
});

Deno.test("1.5 resetQueue that the transport refuses leaves the queue as it was", () => {
  const { transport, device, queue } = live(0n, "spec");
  transport.onQueueReset = () => {
    throw new UnsupportedError("RING_RESET was not negotiated");
  };
  queue.addSingle(0, 0, 1, true);
  assertThrows(() => device.resetQueue(1), UnsupportedError);
  assertEquals([queue.closed, queue.inFlight, queue.flush()], [false, 1, true]);
  transport.close();
});
