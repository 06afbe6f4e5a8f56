/** Two switches with the same ports and drivers: in one all queues give chain by chain, in the other by bursts. Nobody may see a difference. */
import { assert, assertEquals } from "@std/assert";
import type { Burst } from "../../../../../lib/emulation/virtio/queue/burst.ts";
import type {
  DeviceQueueSetup,
  QueueDevice,
} from "../../../../../lib/emulation/virtio/queue/device_queue.ts";
import { SplitDeviceQueue } from "../../../../../lib/emulation/virtio/queue/split.ts";
import { NetSwitch } from "../../../../../lib/emulation/virtio/net/switch.ts";
import { FEATURE, NET_FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { BROADCAST, FakeNic, FEATURES, frame, mac, udp } from "../fake_nic.ts";
import { campaign, Random, rounds } from "../../../../random.ts";

const STEPS = rounds(120_000, 4800);
const STEPS_OF_A_LIFE = 120;
const PORTS = 3;
const RING = 64;

/** A queue that knows no bursts. */
class SingleQueue extends SplitDeviceQueue {
  override popBurst(): number {
    return 0;
  }
}

/** A queue that counts them. */
class CountingQueue extends SplitDeviceQueue {
  /** Chains that came in bursts of more than one, out of any queue. */
  static together = 0;

  override popBurst(into: Burst, most: number, deviceWrites: boolean): number {
    const count = super.popBurst(into, most, deviceWrites);
    if (count > 1) CountingQueue.together += count;
    return count;
  }
}

/** A switch, its ports, and a clock that stands still. */
class Side implements Disposable {
  now = 0;
  readonly net: NetSwitch;
  readonly nics: FakeNic[];

  constructor(bursts: boolean, holdMs: number) {
    this.net = new NetSwitch("s0", { holdMs, now: () => this.now });
    const Queue = bursts ? CountingQueue : SingleQueue;
    const view = { makeQueue: (setup: DeviceQueueSetup, device: QueueDevice) => new Queue(setup, device) };
    this.nics = Array.from(
      { length: PORTS },
      (_, i) => new FakeNic(this.net, i + 1, { mtu: 600, queueSize: RING }, undefined, view),
    );
  }

  summary() {
    return this.nics.map(({ model, fn, front }) => ({
      counters: [...model.counters],
      reports: fn.port.reports,
      vectors: fn.port.vectors,
      status: fn.status,
      wait: model.wakeAfterMs,
      queues: [0, 1, 2, 3].map((i) => {
        const queue = front.core.queue(i);
        return [queue?.state(), queue?.inFlight, fn.rings.get(i)?.usedIdx, fn.rings.get(i)?.usedFlags];
      }),
    }));
  }

  [Symbol.dispose](): void {
    for (const nic of this.nics) nic[Symbol.dispose]();
  }
}

/** Something that a driver or the machine does, alike on both sides. */
type Step = (side: Side) => void;

function steps(random: Random): () => Step {
  const port = () => random.below(PORTS);
  const room = (nic: FakeNic, queue: number, parts: number) =>
    RING - ((nic.ring(queue).availIdx - nic.ring(queue).usedIdx) & 0xffff) * 2 >= parts;
  const address = () => random.pick([mac(1), mac(2), mac(2), mac(3), mac(9), BROADCAST]);
  const bytes = () => {
    const [to, from, seed] = [address(), mac(1 + port()), random.below(256)];
    switch (random.below(24)) {
      case 0:
        return frame(to, from, random.below(20) + 14, seed).subarray(0, random.below(16));
      case 1:
        return frame(to, from, 600 + random.below(30), seed, random.pick([0x8100, 0x88b5]));
      case 2:
      case 3:
      case 4:
        return udp(to, from, [1, random.below(4)], [2, random.below(4)], 60 + random.below(20));
      default:
        return frame(to, from, random.pick([14, 60, 64, 64, 65, 97, 200, 614]), seed);
    }
  };
  return () => {
    const at = port();
    switch (random.below(16)) {
      case 0:
      case 1:
      case 2: {
        const [count, queue] = [1 + random.below(30), 2 * random.below(2)];
        const lengths = random.pick([[700], [700], [704], [90], [11], [12, 700], [20, 30, 700]]);
        return ({ nics }) => {
          for (let i = 0; i < count && room(nics[at]!, queue, 2 * lengths.length); i++) {
            nics[at]!.post(1, lengths, queue);
          }
        };
      }
      case 3:
      case 4:
      case 5:
      case 6: {
        const queue = 1 + 2 * random.below(2);
        const alike = random.below(2) === 0;
        const all = Array.from({ length: 1 + random.below(25) }, bytes).map((one, _, list) =>
          alike ? list[0]! : one
        );
        const cuts = random.pick([[], [], [], [12], [5, 30]]);
        const header = random.below(150) === 0 ? [random.below(2), random.below(3)] : [];
        return ({ nics }) => {
          for (const one of all) {
            if (room(nics[at]!, queue, 2 * cuts.length + 2)) nics[at]!.send(one, queue, cuts, header);
          }
        };
      }
      case 7:
        if (random.below(4) > 0) return ({ nics }) => void nics[at]!.fn.behaviour.arm();
        return ({ nics }) => nics[at]!.model.setLink(!nics[at]!.model.linkUp);
      case 8: {
        const ms = random.below(60);
        return (side) => void (side.now += ms);
      }
      default: {
        const budget = random.pick([1, 7, 64, 256]);
        return ({ nics }) => void nics[at]!.fn.behaviour.poll(budget);
      }
    }
  };
}

Deno.test(campaign(
  `net differential: ${STEPS} steps by bursts and chain by chain: the same frames in the same buffers, counters, waits, reports and places`,
  () => {
    const random = new Random(0xf4a3e5);
    const totals = new Map<number, number>();
    let reports = 0;
    for (let done = 0; done < STEPS; done += STEPS_OF_A_LIFE) {
      const holdMs = random.pick([0, 100]);
      using single = new Side(false, holdMs);
      using bursts = new Side(true, holdMs);
      const sides = [single, bursts];
      for (let i = 0; i < PORTS; i++) {
        let features = FEATURES;
        for (
          const [feature, chance] of [
            [NET_FEATURE.MRG_RXBUF, 2],
            [NET_FEATURE.MTU, 2],
            [NET_FEATURE.MQ, 3],
            [FEATURE.EVENT_IDX, 2],
            [FEATURE.IN_ORDER, 3],
          ] as const
        ) features = random.below(chance) === 0 ? features | feature : features & ~feature;
        const pairs = random.below(3);
        for (const { nics } of sides) {
          nics[i]!.start(features);
          if ((features & NET_FEATURE.MQ) !== 0n && pairs > 0) nics[i]!.control(4, 0, [pairs, 0]);
        }
      }
      const next = steps(random);
      for (let n = 0; n < STEPS_OF_A_LIFE; n++) {
        const step = next();
        for (const side of sides) step(side);
        const [one, other] = [single.summary(), bursts.summary()];
        // As text first: that is a tenth of the time.
        if (JSON.stringify(one) === JSON.stringify(other)) continue;
        assertEquals(other, one, `life ${done / STEPS_OF_A_LIFE}, step ${n}`);
      }
      for (let i = 0; i < PORTS; i++) {
        const [before, after] = sides.map(({ nics }) => {
          const { client } = nics[i]!.fn;
          return new BigUint64Array(client.memory.buffer, 0, client.allocate(8, 8) / 8);
        });
        assertEquals(after!.length, before!.length);
        for (let at = 0; at < before!.length; at++) {
          if (before![at] !== after![at]) {
            throw new Error(`life ${done / STEPS_OF_A_LIFE}: memory of port ${i}`);
          }
        }
        single.nics[i]!.model.counters.forEach((count, of) => totals.set(of, (totals.get(of) ?? 0) + count));
        reports += single.nics[i]!.fn.port.reports.length;
      }
    }
    // The steps must reach every outcome often, else the comparison says little.
    for (const [of, count] of totals) assert(count > STEPS / 2000, `counter ${of}: ${count}`);
    assert(CountingQueue.together > STEPS / 4, `${CountingQueue.together} together`);
    assert(reports > STEPS / 1000, `${reports} reports`);
  },
));
