import { assert, assertEquals } from "@std/assert";
import { NetModel } from "../../../../../lib/emulation/virtio/net/model.ts";
import { NetSwitch } from "../../../../../lib/emulation/virtio/net/switch.ts";
import { PciView } from "../../../../../lib/emulation/virtio/views/pci/view.ts";
import { DRAFT_FEATURE, FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { FakeClient, FakeRing } from "../fake_client.ts";
import { campaign, Random, rounds } from "../../../../random.ts";
import { FakePort } from "../fake_machine.ts";
import { frame, mac } from "../fake_nic.ts";
import { FakePackedRing } from "../fake_packed_ring.ts";

const SIZE = 8;
const BUFFER = 256;
const RX = 0, TX = 1;

interface Kind {
  readonly name: string;
  readonly packed: boolean;
  readonly features: bigint;
  readonly usedBatches: boolean;
}

const LOADED = rounds(60_000);
const KINDS: readonly Kind[] = [
  { name: "split", packed: false, features: 0n, usedBatches: false },
  {
    name: "split, in order",
    packed: false,
    features: FEATURE.IN_ORDER | FEATURE.EVENT_IDX,
    usedBatches: false,
  },
  { name: "packed", packed: true, features: FEATURE.RING_PACKED, usedBatches: false },
  {
    name: "packed, in order, batches",
    packed: true,
    features: FEATURE.RING_PACKED | FEATURE.IN_ORDER,
    usedBatches: true,
  },
];

/** A network driver whose rings and memory outlive the function that serves them. */
class Nic implements Disposable {
  readonly net: NetSwitch;
  readonly last: number;
  readonly kind: Kind;
  readonly client = new FakeClient(1 << 18);
  readonly rings: readonly (FakeRing | FakePackedRing)[];
  readonly port: FakePort;
  front!: PciView;
  readonly #buffers: number;
  readonly #at = new Map<number, number>();
  #free: number[] = [];
  sent = 0;
  returned = 0;

  constructor(net: NetSwitch, last: number, kind: Kind) {
    this.net = net;
    this.last = last;
    this.kind = kind;
    this.rings = [RX, TX].map(() =>
      kind.packed ? new FakePackedRing(this.client, SIZE - 3) : new FakeRing(this.client, SIZE)
    );
    this.#buffers = this.client.allocate(2 * SIZE * BUFFER);
    this.#free = Array.from({ length: SIZE - 3 }, (_, i) => i);
    this.port = new FakePort(`0000:01:00.${last}`, this.client.dma);
    this.plug();
    const fresh = kind.packed ? 0x8000 : 0;
    this.start([[fresh, fresh], [fresh, fresh]]);
  }

  /** Another function takes the place of the one before. */
  plug(): void {
    const model = new NetModel(this.net, { mac: mac(this.last), queueSize: SIZE, queuePairs: 1 });
    this.front = new PciView(model, { profile: "queue-state", usedBatches: this.kind.usedBatches });
    this.front.connect(this.port);
  }

  read(offset: number, width = 2): number {
    const bytes = new Uint8Array(width);
    this.front.readBar(4, offset, bytes);
    return bytes.reduce((sum, byte, i) => sum + byte * 2 ** (8 * i), 0);
  }

  write(offset: number, width: number, value: number): void {
    const bytes = new Uint8Array(width);
    for (let i = 0; i < width; i++) bytes[i] = Math.floor(value / 2 ** (8 * i));
    this.front.writeBar(4, offset, bytes);
  }

  start(states: readonly [number, number][]): void {
    const accepted = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | DRAFT_FEATURE.QUEUE_STATE |
      this.kind.features;
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
      this.write(64, 2, states[index]![0]);
      this.write(66, 2, states[index]![1]);
      this.write(28, 2, 1);
    });
    this.write(20, 1, 15);
    assertEquals(this.read(20, 1), 15, this.port.take().join());
  }

  /** Stops the device where it is. @returns what it says of its queues */
  save(): [number, number][] {
    this.write(20, 1, 0);
    return this.rings.map((_, index): [number, number] => {
      this.write(22, 2, index);
      return [this.read(64), this.read(66)];
    });
  }

  /** Reset and restored, in the same function or in another one. */
  resume(elsewhere: boolean): void {
    const states = this.save();
    if (elsewhere) {
      this.front.close();
      this.plug();
    }
    this.start(states);
  }

  #place(buffer: number): bigint {
    return this.client.at(this.#buffers + buffer * BUFFER);
  }

  post(): void {
    while (this.#free.length > 0) {
      const buffer = this.#free.pop()!;
      this.#at.set(this.rings[RX]!.add([{ iova: this.#place(buffer), length: BUFFER, write: true }]), buffer);
    }
    this.rings[RX]!.publish();
  }

  /** Serial numbers of the frames that came. */
  receive(): number[] {
    return this.rings[RX]!.takeUsed(this.kind.usedBatches).map(({ id }) => {
      const buffer = this.#at.get(id)!;
      this.#free.push(buffer);
      return this.client.view.getUint32(this.#buffers + buffer * BUFFER + 12 + 14, true);
    });
  }

  get room(): boolean {
    return this.sent - this.returned < SIZE - 3;
  }

  send(serial: number, length: number): void {
    const at = this.#buffers + (SIZE + this.sent % SIZE) * BUFFER;
    const bytes = frame(mac(2), mac(1), length);
    this.client.bytes.fill(0, at, at + 12);
    this.client.bytes.set(bytes, at + 12);
    this.client.view.setUint32(at + 12 + 14, serial, true);
    this.rings[TX]!.add([{ iova: this.client.at(at), length: 12 + length }]);
    this.rings[TX]!.publish();
    this.sent++;
  }

  /** Counts transmit buffers that came back, batches by their whole size. */
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

  [Symbol.dispose](): void {
    this.front.close();
    this.client[Symbol.dispose]();
  }
}

for (const kind of KINDS) {
  Deno.test(campaign(
    `6 ${kind.name}: devices stopped and resumed under load, here and elsewhere: no frame is lost, none comes twice`,
    () => {
      const net = new NetSwitch("s0", { holdMs: 1e9, now: () => 0 });
      using a = new Nic(net, 1, kind);
      using b = new Nic(net, 2, kind);
      const random = new Random(kind.name.length);
      const got: number[] = [];
      let serial = 0, resumed = 0;
      // The load ends first; the steps left over are far more than what is under way then needs.
      for (let n = 0; n < LOADED || (got.length < serial && n < LOADED + 10_000); n++) {
        switch (random.below(6)) {
          case 0:
            while (n < LOADED && a.room && random.below(4) !== 0) a.send(serial++, 60 + random.below(100));
            break;
          case 1:
            b.post();
            break;
          case 2:
            got.push(...b.receive());
            break;
          case 3:
            a.reap();
            break;
          case 4:
            a.front.poll(1 + random.below(5));
            break;
          default:
            b.front.poll(1 + random.below(5));
        }
        if (random.below(20) === 0) {
          resumed++;
          (random.below(2) === 0 ? a : b).resume(random.below(2) === 0);
        }
      }
      a.reap();
      assertEquals(got, Array.from({ length: serial }, (_, i) => i));
      assertEquals(a.returned, serial);
      assert(serial > LOADED / 12 && resumed > LOADED / 30, `${serial} frames, ${resumed} changes`);
      assertEquals([...a.port.take(), ...b.port.take()], []);
      net.ports.forEach((port) => assertEquals(port.counters[7], 0));
    },
  ));
}

for (const kind of KINDS) {
  Deno.test(`6 ${kind.name}: a sender hears that a frame was sent after its receiver can find it`, () => {
    const net = new NetSwitch("s0", { holdMs: 1e9, now: () => 0 });
    using a = new Nic(net, 1, kind);
    using b = new Nic(net, 2, kind);
    let told = 0, got = 0;
    // The interrupt follows the publication of what it is for.
    a.port.setIntx = (asserted) => {
      if (!asserted) return;
      told++;
      a.reap();
      got += b.receive().length;
      assertEquals(got, a.returned);
    };
    for (let n = 0; n < 20; n++) {
      b.post();
      for (let i = 0; i < 3; i++) a.send(n, 60);
      const ring = a.rings[TX]!;
      if (ring instanceof FakeRing) ring.setUsedEvent(ring.usedIdx);
      a.front.poll(64);
    }
    assert(told >= 20 && got === 60, `${told} interrupts, ${got} frames`);
  });
}
