/** The switch by itself, between ports that only count: many of them, and what it remembers. */
import { assertEquals } from "@std/assert";
import { ReceiveFilter } from "../../../../../lib/emulation/virtio/net/filter.ts";
import type { NetFrame } from "../../../../../lib/emulation/virtio/net/frame.ts";
import type { FrameBurst } from "../../../../../lib/emulation/virtio/net/frame_burst.ts";
import { NetSwitch } from "../../../../../lib/emulation/virtio/net/switch.ts";
import { COUNTERS, DELIVERY, type SwitchPort } from "../../../../../lib/emulation/virtio/net/switch_port.ts";

class Port implements SwitchPort {
  readonly name: string;
  readonly filter = new ReceiveFilter();
  readonly counters = new Float64Array(COUNTERS);
  receiving = true;
  hasRoom = true;
  outcome: number = DELIVERY.delivered;
  /** Frames that it takes together. */
  together = 64;
  delivered = 0;
  flushed = 0;
  woken = 0;
  transmitted = 0;

  constructor(net: NetSwitch, number: number) {
    this.name = `port ${number}`;
    this.filter.reset(Uint8Array.of(0x52, 0x54, 0, 0, number >> 8, number));
    net.add(this, 2);
  }

  deliver(_frame: NetFrame): number {
    if (this.outcome === DELIVERY.delivered) this.delivered++;
    return this.outcome;
  }

  deliverBurst(_frames: FrameBurst, _from: number, count: number): number {
    const taken = Math.min(count, this.together);
    this.delivered += taken;
    return taken;
  }

  flush(): void {
    this.flushed++;
  }

  transmit(_budget: number): number {
    this.transmitted++;
    return 1;
  }

  wake(): void {
    this.woken++;
  }
}

function to(low: number, high = 0x5254): NetFrame {
  return { destinationHigh: high, destinationLow: low, lengthBytes: 60 } as NetFrame;
}

function ports(net: NetSwitch, count: number): Port[] {
  return Array.from({ length: count }, (_, i) => new Port(net, i));
}

Deno.test("switch of 1000 ports: each frame to its owner, only those that got one are flushed, once", () => {
  const net = new NetSwitch("s0");
  const all = ports(net, 1000);
  const source = all[500]!;
  // Addresses 64 apart share what is remembered of them.
  const targets = [3, 67, 131, 999, 3, 67, 3, 3];
  for (const target of targets) assertEquals(net.forward(source, 0, to(target)), true);
  net.flush();
  net.flush();
  for (const [i, port] of all.entries()) {
    assertEquals([port.delivered, port.flushed], [
      targets.filter((one) => one === i).length,
      targets.includes(i) ? 1 : 0,
    ]);
  }
});

Deno.test("switch of 1000 ports: a burst asks those that have the address alone, also while ports come, change their addresses and go", () => {
  const net = new NetSwitch("s0");
  const all = ports(net, 1000);
  let asked = 0;
  for (const port of all) {
    const owns = port.filter.owns.bind(port.filter);
    port.filter.owns = (high, low) => {
      asked++;
      return owns(high, low);
    };
  }
  for (let i = 0; i < 1000; i++) {
    net.forward(all[i]!, 0, to((i + 1) % 1000));
    net.flush();
  }
  // Whose it is, and whether it is taken.
  assertEquals([asked, all.every(({ delivered }) => delivered === 1)], [2000, true]);
  asked = 0;
  // Twenty have one address, under their own or in their tables; the first that receives gets the frames.
  for (const port of all.slice(10, 20)) port.filter.mac = Uint8Array.of(0x52, 0x54, 1, 0, 0, 0);
  for (const port of all.slice(0, 10).reverse()) port.filter.unicast.add(0x5254, 0x100_0000);
  const before = all.map(({ delivered }) => delivered);
  for (let gone = 0; gone < 20; gone++) {
    net.forward(all[999]!, 0, to(0x100_0000));
    net.flush();
    if (gone % 3 === 0) net.remove(all[gone]!);
    else if (gone % 3 === 1) all[gone]!.filter.reset(Uint8Array.of(0x52, 0x54, 0, 0, 0, gone));
    else all[gone]!.receiving = false;
  }
  assertEquals(all.map(({ delivered }, at) => delivered - before[at]!).slice(0, 22), [
    ...new Array(20).fill(1),
    0,
    0,
  ]);
  // Those that no longer receive are still asked.
  assertEquals(asked, 40 + Array.from({ length: 20 }, (_, at) => Math.floor(at / 3)).reduce((a, b) => a + b));
  net.forward(all[999]!, 0, to(0x100_0000));
  net.remove(all[0]!);
  all[0]!.filter.mac = Uint8Array.of(0x52, 0x54, 9, 9, 9, 9);
  net.forward(all[999]!, 0, to(0x909_0909));
  assertEquals([all[0]!.delivered, all[999]!.counters[6]], [before[0]! + 1, 1]);
});

Deno.test("switch: an owner is remembered for one burst of one sender; the next one sees who took the address over", () => {
  const net = new NetSwitch("s0");
  const [a, b, c, d] = ports(net, 4) as [Port, Port, Port, Port];
  net.forward(a, 0, to(3));
  net.flush();
  assertEquals([b.delivered, c.delivered, d.delivered], [0, 0, 1]);
  b.filter.unicast.add(0x5254, 3);
  net.forward(a, 0, to(3));
  assertEquals([b.delivered, c.delivered, d.delivered], [1, 0, 1], "the first port that has it");
  net.forward(b, 0, to(3));
  assertEquals([b.delivered, c.delivered, d.delivered], [1, 0, 2], "never back to where it came from");
  net.forward(a, 0, to(3));
  b.receiving = false;
  net.forward(a, 0, to(3));
  assertEquals(
    [b.delivered, c.delivered, d.delivered],
    [2, 0, 3],
    "one that stops receiving is passed over at once",
  );
  net.forward(c, 0, to(3));
  net.remove(d);
  net.forward(c, 0, to(3));
  assertEquals(d.delivered, 4);
});

Deno.test("switch: who begins to wait, is waited for, or need not wait any more is woken, each time once", () => {
  const net = new NetSwitch("s0", { now: () => 0 });
  const [a, b, c] = ports(net, 3) as [Port, Port, Port];
  b.outcome = DELIVERY.noRoom;
  assertEquals(net.forward(a, 0, to(1)), false);
  assertEquals([a.woken, b.woken, c.woken], [0, 1, 0], "b has to ask for notifications of new buffers");
  assertEquals(net.forward(a, 0, to(1)), false);
  assertEquals(net.forward(c, 1, to(1)), false);
  assertEquals([a.woken, b.woken, c.woken], [0, 2, 0], "c may wait for another of b's receive queues");
  assertEquals([net.awaited(b), net.awaited(a), net.waiting(a, 0), net.waiting(a, 1), net.waiting(c, 1)], [
    true,
    false,
    true,
    false,
    true,
  ]);
  assertEquals(net.resume(b, 10), 2);
  assertEquals([a.transmitted, c.transmitted, net.resume(a, 10)], [1, 1, 0]);
  b.outcome = DELIVERY.delivered;
  assertEquals(net.forward(a, 0, to(1)), true);
  assertEquals([a.woken, b.woken, c.woken], [1, 2, 0], "a's queue is to be armed again");
  assertEquals(net.awaited(b), true, "c still waits");
  net.stopped(b);
  assertEquals([a.woken, c.woken, net.awaited(b), net.waiting(c, 1)], [1, 1, false, false]);
});
