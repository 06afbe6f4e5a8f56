import { assert, assertEquals } from "@std/assert";
import { NetModel } from "../../../../../lib/emulation/virtio/net/model.ts";
import { NetSwitch } from "../../../../../lib/emulation/virtio/net/switch.ts";
import { PciView } from "../../../../../lib/emulation/virtio/views/pci/view.ts";
import { decodeParts, encodeParts, FEATURE, NET_FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { FakeClient, FakeRing, type Part } from "../fake_client.ts";
import { Random } from "../../../../random.ts";
import { FakePort } from "../fake_machine.ts";
import { frame, mac } from "../fake_nic.ts";
import { FakePackedRing } from "../fake_packed_ring.ts";

const SIZE = 16;
const BUFFER = 256;
/** Buffers of a ring that are in flight at most, two descriptors each. */
const DEPTH = 6;
const RX = 0, TX = 1;

interface Kind {
  readonly name: string;
  readonly packed: boolean;
  readonly features: bigint;
  readonly usedBatches: boolean;
}

const KINDS: readonly Kind[] = [
  { name: "split", packed: false, features: 0n, usedBatches: false },
  { name: "split, event index", packed: false, features: FEATURE.EVENT_IDX, usedBatches: false },
  { name: "split, in order, batches", packed: false, features: FEATURE.IN_ORDER, usedBatches: true },
  { name: "packed", packed: true, features: FEATURE.RING_PACKED, usedBatches: false },
  {
    name: "packed, event index",
    packed: true,
    features: FEATURE.RING_PACKED | FEATURE.EVENT_IDX,
    usedBatches: false,
  },
  {
    name: "packed, in order, batches",
    packed: true,
    features: FEATURE.RING_PACKED | FEATURE.IN_ORDER,
    usedBatches: true,
  },
];

/** A driver whose memory two functions can reach, of which one serves it at a time. */
class Nic implements Disposable {
  readonly last: number;
  readonly kind: Kind;
  readonly client = new FakeClient(1 << 18);
  readonly rings: readonly (FakeRing | FakePackedRing)[];
  readonly fronts: readonly PciView[];
  readonly ports: readonly FakePort[];
  at = 0;
  readonly #buffers: number;
  readonly #posted = new Map<number, number>();
  #free: number[] = Array.from({ length: DEPTH }, (_, i) => i);
  sent = 0;
  returned = 0;

  constructor(net: NetSwitch, last: number, kind: Kind) {
    this.last = last;
    this.kind = kind;
    // A packed ring whose size is no multiple of a chain's: chains go over its end.
    this.rings = [RX, TX].map(() =>
      kind.packed ? new FakePackedRing(this.client, SIZE - 3) : new FakeRing(this.client, SIZE)
    );
    this.#buffers = this.client.allocate(2 * SIZE * BUFFER);
    this.ports = [0, 1].map((i) => new FakePort(`0000:01:00.${2 * last + i}`, this.client.dma));
    this.fronts = this.ports.map((port, i) => {
      const options = { mac: mac(last + 16 * i), queueSize: SIZE, queuePairs: 1 };
      const front = new PciView(new NetModel(net, options), { usedBatches: kind.usedBatches });
      front.connect(port);
      front.attached();
      return front;
    });
    this.start();
  }

  get front(): PciView {
    return this.fronts[this.at]!;
  }

  get port(): FakePort {
    return this.ports[this.at]!;
  }

  write(offset: number, width: number, value: number, front = this.front): void {
    const bytes = new Uint8Array(width);
    for (let i = 0; i < width; i++) bytes[i] = Math.floor(value / 2 ** (8 * i));
    front.writeBar(4, offset, bytes);
  }

  start(): void {
    const accepted = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | NET_FEATURE.MAC | NET_FEATURE.CTRL_VQ |
      NET_FEATURE.CTRL_MAC_ADDR | this.kind.features;
    for (const status of [1, 3]) this.write(20, 1, status);
    for (const half of [0, 1]) {
      this.write(8, 4, half);
      this.write(12, 4, Number(accepted >> BigInt(32 * half) & 0xffff_ffffn));
    }
    this.write(20, 1, 11);
    this.rings.forEach((ring, index) => {
      const setup = ring.setup();
      this.write(22, 2, index);
      this.write(24, 2, ring.size);
      [setup.descriptorArea, setup.driverArea, setup.deviceArea].forEach((iova, area) => {
        this.write(32 + 8 * area, 4, Number(iova & 0xffff_ffffn));
        this.write(36 + 8 * area, 4, Number(iova >> 32n));
      });
      this.write(28, 2, 1);
    });
    this.write(20, 1, 15);
    assertEquals(this.front.core.status, 15, this.port.take().join());
  }

  stop(): void {
    this.front.core.parts.setStopped(true);
  }

  /** The other function takes over. */
  move(): void {
    const from = this.front;
    const bytes = encodeParts(from.core.parts.get());
    this.at = 1 - this.at;
    const to = this.front;
    to.core.parts.setStopped(true);
    const parts = decodeParts(bytes);
    assertEquals(to.core.parts.problemOf(parts), undefined);
    to.core.parts.set(parts);
    to.core.parts.setStopped(false);
    this.write(20, 1, 0, from);
    from.core.parts.setStopped(false);
  }

  #parts(at: number, length: number, write: boolean): Part[] {
    return [
      { iova: this.client.at(at), length: 40, write },
      { iova: this.client.at(at + 40), length: length - 40, write },
    ];
  }

  post(): void {
    const ring = this.rings[RX]!;
    while (this.#free.length > 0) {
      const buffer = this.#free.pop()!;
      this.#posted.set(ring.add(this.#parts(this.#buffers + buffer * BUFFER, BUFFER, true)), buffer);
    }
    ring.publish();
  }

  /** Serial numbers of the frames that came. */
  receive(): number[] {
    const ring = this.rings[RX]!;
    const ids = ring.takeUsed(this.kind.usedBatches).map(({ id }) => id);
    return ids.map((id) => {
      const buffer = this.#posted.get(id)!;
      this.#posted.delete(id);
      this.#free.push(buffer);
      return this.client.view.getUint32(this.#buffers + buffer * BUFFER + 12 + 14, true);
    });
  }

  get room(): boolean {
    return this.sent - this.returned < DEPTH;
  }

  send(serial: number, length: number): void {
    const at = this.#buffers + (SIZE + this.sent % SIZE) * BUFFER;
    this.client.bytes.fill(0, at, at + 12);
    this.client.bytes.set(frame(mac(2), mac(1), length), at + 12);
    this.client.view.setUint32(at + 12 + 14, serial, true);
    this.rings[TX]!.add(this.#parts(at, 12 + length, false));
    this.rings[TX]!.publish();
    this.sent++;
  }

  reap(): void {
    const ring = this.rings[TX]!;
    if (ring instanceof FakeRing) {
      this.returned += (ring.usedIdx - ring.usedSeen) & 0xffff;
      ring.usedSeen = ring.usedIdx;
    } else {
      const before = ring.inFlight.size;
      ring.takeUsed(this.kind.usedBatches);
      this.returned += before - ring.inFlight.size;
    }
  }

  /** What the rings hold, to see who touches them. */
  image(): string {
    return this.client.bytes.slice(0, this.#buffers).toHex();
  }

  [Symbol.dispose](): void {
    for (const front of this.fronts) front.close();
    this.client[Symbol.dispose]();
  }
}

for (const kind of KINDS) {
  Deno.test(`3.6 ${kind.name}: functions moved and stopped under load: no frame is lost, none comes twice`, () => {
    const net = new NetSwitch("s0", { holdMs: 1e9, now: () => 0 });
    using a = new Nic(net, 1, kind);
    using b = new Nic(net, 2, kind);
    const random = new Random(kind.name.length);
    const got: number[] = [];
    let serial = 0, moves = 0, stops = 0;
    for (let n = 0; n < 40_000 || (got.length < serial && n < 50_000); n++) {
      switch (random.below(8)) {
        case 0:
        case 1:
          while (n < 40_000 && a.room && random.below(4) !== 0) a.send(serial++, 60 + random.below(100));
          break;
        case 2:
          b.post();
          break;
        case 3:
          got.push(...b.receive());
          break;
        case 4:
          a.reap();
          break;
        case 5:
          a.front.poll(1 + random.below(5));
          a.fronts[1 - a.at]!.poll(4);
          break;
        default:
          b.front.poll(1 + random.below(5));
          b.fronts[1 - b.at]!.poll(4);
      }
      if (random.below(20) !== 0) continue;
      const one = random.below(2) === 0 ? a : b;
      if (!one.front.core.parts.stopped) {
        one.stop();
        stops++;
      } else if (random.below(2) === 0) {
        one.move();
        moves++;
      } else one.front.core.parts.setStopped(false);
    }
    for (const nic of [a, b]) nic.front.core.parts.setStopped(false);
    for (let n = 0; n < 1000 && got.length < serial; n++) {
      b.post();
      a.front.poll(8);
      got.push(...b.receive());
      b.front.poll(8);
      a.reap();
    }
    a.reap();
    assertEquals(got.findIndex((one, i) => one !== i), -1);
    assertEquals([got.length, a.returned], [serial, serial]);
    assert(serial > 2000 && moves > 300 && stops > 700, `${serial} frames, ${moves} moves, ${stops} stops`);
    for (const nic of [a, b]) for (const port of nic.ports) assertEquals(port.take(), []);
    for (const port of net.ports) {
      assertEquals([port.counters[6], port.counters[7], port.counters[9]], [0, 0, 0]);
    }
  });
}

for (const kind of KINDS) {
  Deno.test(`2.13 ${kind.name}: a stopped device touches no ring and sends nothing, until it is resumed`, () => {
    const net = new NetSwitch("s0", { holdMs: 1e9, now: () => 0 });
    using a = new Nic(net, 1, kind);
    using b = new Nic(net, 2, kind);
    b.post();
    for (let i = 0; i < 3; i++) a.send(i, 60);
    a.front.poll(64);
    assertEquals(b.receive(), [0, 1, 2]);
    b.post();
    a.reap();
    for (const nic of [a, b]) {
      nic.stop();
      nic.port.intx = false;
    }
    a.send(3, 60);
    const images = [a.image(), b.image()];
    for (let i = 0; i < 3; i++) {
      for (const nic of [a, b]) {
        // The driver may notify as before.
        nic.write(0x3000 + 4 * TX, 2, TX);
        nic.front.rang(4, 0x3000 + 4 * TX);
        nic.front.poll(64);
        nic.front.arm();
      }
    }
    assertEquals([a.image(), b.image()], images);
    assertEquals([a.port.intx, b.port.intx], [false, false]);
    a.front.core.parts.setStopped(false);
    a.front.poll(64);
    assertEquals(a.room, true);
    assertEquals(b.image(), images[1], "the frame waits for the stopped one");
    b.front.core.parts.setStopped(false);
    a.front.poll(64);
    assertEquals(b.receive(), [3]);
    for (const nic of [a, b]) assertEquals(nic.port.take(), []);
  });
}
