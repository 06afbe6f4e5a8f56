import { assertEquals } from "@std/assert";
import { frame, macBytes } from "../fake_nic.ts";
import { FakeRing } from "../fake_client.ts";
import { aligned, ManagementRig, NET, RULES, u16, u8 } from "./rig.ts";

const MAC = 1n << 5n, MRG_RXBUF = 1n << 15n;
const FEATURES = RULES | MAC | MRG_RXBUF;
const address = (last: number) => `52:54:00:00:00:0${last}`;

/** A managed network device with its driver: a receive ring, a transmit ring, buffers of 128 bytes. */
class Nic {
  readonly rig: ManagementRig;
  readonly id: bigint;
  readonly rings: FakeRing[];
  readonly #buffers = new Map<number, number>();

  constructor(rig: ManagementRig, last: number) {
    this.rig = rig;
    this.id = rig.create(NET, FEATURES, macBytes(address(last)));
    this.rings = [0, 1].map(() => new FakeRing(rig.fn.client, 64));
    rig.negotiate(this.id, FEATURES);
    this.rings.forEach((ring, queue) => rig.enable(this.id, queue, ring));
    rig.ok("setStatus", this.id, u8(15));
  }

  wake(): void {
    this.rig.model.devices.get(this.id)?.wake();
    this.rig.fn.run();
  }

  post(count: number): void {
    const { client } = this.rig.fn;
    for (let i = 0; i < count; i++) {
      const at = client.allocate(128);
      this.#buffers.set(this.rings[0]!.add([{ iova: client.at(at), length: 128, write: true }]), at);
    }
    this.rings[0]!.publish();
    this.wake();
  }

  send(to: string, from: string, seed: number): void {
    const { client } = this.rig.fn;
    const bytes = frame(to, from, 60, seed);
    const at = client.allocate(72);
    client.bytes.set(bytes, at + 12);
    this.rings[1]!.add([{ iova: client.at(at), length: 72 }]);
    this.rings[1]!.publish();
    this.wake();
  }

  /** Seeds of what arrived: the first byte of the payload less its place. */
  received(): number[] {
    return this.rings[0]!.takeUsed().map(({ id, length }) => {
      assertEquals(length, 72);
      return (this.rig.fn.client.bytes[this.#buffers.get(id)! + 12 + 14]! - 14 * 7) & 0xff;
    });
  }
}

Deno.test("A-4.17: frames for a device whose receive queue is disabled wait with their sender, in order; enabled, they arrive once", () => {
  using rig = new ManagementRig();
  const a = new Nic(rig, 1), b = new Nic(rig, 2);
  b.post(16);
  for (const seed of [1, 2, 3]) a.send(address(2), address(1), seed);
  assertEquals(b.received(), [1, 2, 3]);
  rig.ok("setEnable", b.id, aligned.byte(0, 0));
  for (const seed of [4, 5, 6]) a.send(address(2), address(1), seed);
  assertEquals(b.received(), []);
  assertEquals(a.rings[1]!.takeUsed().length, 3, "the sender keeps what did not arrive");
  rig.ok("setEnable", b.id, aligned.byte(0, 1));
  rig.fn.run();
  assertEquals(b.received(), [4, 5, 6]);
  assertEquals(a.rings[1]!.takeUsed().length, 3);
  assertEquals(rig.rules(), []);
});

for (const reset of [false, true]) {
  Deno.test(`A-4.17, class 12: a receiver moves to another managed device under its address, ${reset ? "reset before it" : "disabled"}: nothing is lost, nothing twice`, () => {
    using rig = new ManagementRig();
    const a = new Nic(rig, 1), b = new Nic(rig, 2);
    b.post(32);
    const got: number[] = [];
    let seed = 0;
    for (let round = 0; round < 5; round++) {
      a.send(address(2), address(1), ++seed);
      for (const queue of [0, 1]) rig.ok("setEnable", b.id, aligned.byte(queue, 0));
      a.send(address(2), address(1), ++seed);
      got.push(...b.received());
      const states = [0, 1].map((queue) => rig.ok("getState", b.id, u16(queue)));
      if (reset) rig.ok("setStatus", b.id, u8(0));
      a.send(address(2), address(1), ++seed);
      const next = rig.create(NET, FEATURES, macBytes(address(2)));
      rig.negotiate(next, FEATURES);
      b.rings.forEach((ring, queue) => {
        rig.program(next, queue, ring);
        rig.ok("setState", next, [...u16(queue), ...states[queue]!, 0, 0, 0, 0]);
        rig.ok("setEnable", next, aligned.byte(queue, 1));
      });
      rig.ok("setStatus", next, u8(15));
      rig.ok("destroy", b.id);
      Object.assign(b, { id: next });
      b.wake();
      a.wake();
      got.push(...b.received());
      a.send(address(2), address(1), ++seed);
      got.push(...b.received());
    }
    assertEquals(got, Array.from({ length: 20 }, (_, i) => i + 1));
    assertEquals(rig.rules(), []);
  });
}
