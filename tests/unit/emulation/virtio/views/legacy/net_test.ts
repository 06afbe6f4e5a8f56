import { assertEquals, assertStringIncludes } from "@std/assert";
import { NetModel, type NetModelOptions } from "../../../../../../lib/emulation/virtio/net/model.ts";
import { NetSwitch } from "../../../../../../lib/emulation/virtio/net/switch.ts";
import { FEATURE, NET_FEATURE } from "../../../../../../lib/virtio/spec/mod.ts";
import { Random } from "../../../../../random.ts";
import { FakeLegacy } from "../../fake_legacy.ts";
import { BROADCAST, FakeNic, frame, mac, macBytes, udp } from "../../fake_nic.ts";

const CONTROL = NET_FEATURE.CTRL_VQ | NET_FEATURE.CTRL_RX | NET_FEATURE.CTRL_MAC_ADDR;
const ANY_LAYOUT = FEATURE.ANY_LAYOUT;

/** A legacy driver of a network function. */
class LegacyNic implements Disposable {
  readonly model: NetModel;
  readonly t: FakeLegacy;
  headerBytes = 10;
  readonly #posted = new Map<number, { at: number; length: number }[]>();

  constructor(net: NetSwitch, last: number, options: Partial<NetModelOptions> = {}, anyLayout = true) {
    this.model = new NetModel(net, { mac: mac(last), queueSize: 64, queuePairs: 2, ...options });
    this.t = new FakeLegacy(this.model, { legacy: { anyLayout } }, `0000:05:00.${last}`, 8 << 20);
  }

  start(features: bigint, queues: readonly number[] = [0, 1, 2]): this {
    this.headerBytes = (features & NET_FEATURE.MRG_RXBUF) === 0n ? 10 : 12;
    this.t.bringUp(Number(features), queues);
    this.#posted.clear();
    return this;
  }

  /** Offers receive buffers whose descriptors have these lengths. */
  post(count: number, lengths: readonly number[] = [this.headerBytes, 2048]): this {
    const { client } = this.t.fn;
    for (let i = 0; i < count; i++) {
      const parts = lengths.map((length) => ({ at: client.allocate(length, 4), length }));
      for (const { at, length } of parts) client.bytes.fill(0xee, at, at + length);
      const head = this.t.ring(0).add(
        parts.map(({ at, length }) => ({ iova: client.at(at), length, write: true })),
      );
      this.#posted.set(head, parts);
    }
    this.t.ring(0).publish();
    this.t.notify(0);
    return this;
  }

  send(bytes: Uint8Array, cuts: readonly number[] = [this.headerBytes]): this {
    const { client } = this.t.fn;
    const all = new Uint8Array(this.headerBytes + bytes.length);
    all.set(bytes, this.headerBytes);
    let from = 0;
    this.t.ring(1).add([...cuts, all.length].map((to) => {
      const at = client.allocate(to - from, 1);
      client.bytes.set(all.subarray(from, to), at);
      const part = { iova: client.at(at), length: to - from };
      from = to;
      return part;
    }));
    this.t.ring(1).publish();
    this.t.notify(1);
    return this;
  }

  /** Used lengths and contents of the buffers that came back. */
  returned(): { bytes: Uint8Array; used: number }[] {
    return this.t.ring(0).takeUsed().map(({ id, length }) => {
      const all = this.#posted.get(id)!.flatMap(({ at, length }) => [
        ...this.t.fn.client.bytes.subarray(at, at + length),
      ]);
      return { bytes: Uint8Array.from(all), used: length };
    });
  }

  /** Frames that came each in one buffer, with the header checked. */
  received(): Uint8Array[] {
    return this.returned().map(({ bytes, used }) => {
      const header = this.headerBytes === 10 ? new Array(10).fill(0) : [...new Array(10).fill(0), 1, 0];
      assertEquals([...bytes.slice(0, this.headerBytes)], header);
      return bytes.slice(this.headerBytes, used);
    });
  }

  [Symbol.dispose](): void {
    this.t[Symbol.dispose]();
  }
}

Deno.test("5.1.6.1 legacy: a header of 10 bytes without MRG_RXBUF; frames cross to a modern driver and back unchanged", () => {
  const net = new NetSwitch("s0");
  using old = new LegacyNic(net, 1);
  using modern = new FakeNic(net, 2);
  old.start(NET_FEATURE.MAC | ANY_LAYOUT, [0, 1]).post(20);
  modern.start().post(20);
  const random = new Random(5);
  for (let i = 0; i < 20; i++) {
    const there = frame(mac(2), mac(1), 14 + random.below(1500), random.next());
    const back = frame(mac(1), mac(2), 14 + random.below(1500), random.next());
    // Wherever the sender's descriptors end.
    old.send(there, [[10], [], [5, 10, 13], [24]][i % 4]!);
    modern.send(back, 1, [[12], [], [3, 12, 20]][i % 3]!);
    old.t.run();
    modern.fn.run();
    assertEquals(modern.received(), [there]);
    assertEquals(old.received(), [back]);
  }
  assertEquals([old.t.take(), modern.fn.port.take()], [[], []]);
  assertEquals(old.model.stats().bytesIn, modern.model.stats().bytesOut);
});

Deno.test("5.1.6.1 legacy: the 10 bytes of the header are all that is written before the frame", () => {
  const net = new NetSwitch("s0");
  using old = new LegacyNic(net, 1);
  using modern = new FakeNic(net, 2);
  old.start(0n, [0, 1]).post(1);
  modern.start();
  const sent = frame(mac(1), mac(2), 60, 3);
  modern.send(sent);
  modern.fn.run();
  const [{ bytes, used }] = old.returned() as [{ bytes: Uint8Array; used: number }];
  assertEquals(used, 70);
  assertEquals([...bytes.subarray(0, 10)], new Array(10).fill(0));
  assertEquals(bytes.subarray(10, 70), sent);
  assertEquals(new Set(bytes.subarray(70)), new Set([0xee]));
});

Deno.test("5.1.6.1 legacy with MRG_RXBUF: 12 bytes, and num_buffers says over how many buffers a frame goes", () => {
  const net = new NetSwitch("s0");
  using old = new LegacyNic(net, 1);
  using modern = new FakeNic(net, 2);
  old.start(NET_FEATURE.MRG_RXBUF | ANY_LAYOUT, [0, 1]).post(4, [300]);
  modern.start().post(2);
  const long = frame(mac(1), mac(2), 1000, 9);
  modern.send(long);
  modern.fn.run();
  const parts = old.returned();
  assertEquals(parts.map(({ used }) => used), [300, 300, 300, 112]);
  assertEquals([...parts[0]!.bytes.subarray(0, 12)], [...new Array(10).fill(0), 4, 0]);
  const bytes = parts.flatMap(({ bytes, used }, i) => [...bytes.subarray(i === 0 ? 12 : 0, used)]);
  assertEquals(Uint8Array.from(bytes), long);
  const back = frame(mac(2), mac(1), 77, 1);
  old.send(back);
  old.t.run();
  assertEquals(modern.received(), [back]);
});

Deno.test("5.1.6.1 legacy: rules of frames count from the end of the shorter header", () => {
  const net = new NetSwitch("s0");
  using old = new LegacyNic(net, 1, { mtu: 1500 });
  using modern = new FakeNic(net, 2);
  modern.start().post(8);
  old.start(NET_FEATURE.MTU | ANY_LAYOUT, [0, 1]);
  // The largest that the MTU allows, and with a VLAN tag four bytes more.
  old.send(frame(mac(2), mac(1), 1514)).send(frame(mac(2), mac(1), 1518, 0, 0x8100));
  old.t.run();
  assertEquals(modern.received().map((one) => one.length), [1514, 1518]);
  old.send(frame(mac(2), mac(1), 14).slice(0, 13));
  old.t.run();
  assertEquals([old.model.stats().runt, old.t.take()], [1, []]);
  old.send(frame(mac(2), mac(1), 1515));
  old.t.run();
  assertStringIncludes(old.t.take()[0]!, "a frame of 1515 bytes, the MTU allows 1514");
  assertEquals(old.t.status, 0x47);
  // Nine bytes hold no header.
  old.start(ANY_LAYOUT, [0, 1]);
  const { client } = old.t.fn;
  old.t.ring(1).add([{ iova: client.at(client.allocate(9)), length: 9 }]);
  old.t.ring(1).publish();
  old.t.notify(1);
  old.t.run();
  assertStringIncludes(old.t.take()[0]!, "9 bytes hold no virtio_net_hdr");
});

Deno.test("5.1.6.1 legacy: flows are told apart behind the shorter header, too", () => {
  const net = new NetSwitch("s0");
  using old = new LegacyNic(net, 1);
  using modern = new FakeNic(net, 2);
  old.start(ANY_LAYOUT, [0, 1]);
  const all = BigInt(modern.front.core.offered) &
    ~(FEATURE.RING_PACKED | FEATURE.IN_ORDER | FEATURE.EVENT_IDX);
  modern.start(all & ~(FEATURE.NOTIF_CONFIG_DATA | FEATURE.RING_RESET));
  assertEquals(modern.control(4, 0, [2, 0]), 0);
  modern.post(4, [2048], 0).post(4, [2048], 2);
  // The receiver sends a flow on its second pair: what belongs to it comes back there.
  modern.send(udp(mac(1), mac(2), [2, 70], [1, 80]), 3);
  modern.fn.run();
  old.send(udp(mac(2), mac(1), [1, 80], [2, 70]));
  old.t.run();
  assertEquals([modern.received(0).length, modern.received(2).length], [0, 1]);
});

Deno.test("5.1.4.3 legacy: mac is writable, byte by byte or at once, at any time; a reset brings the device's own back", () => {
  const net = new NetSwitch("s0");
  using old = new LegacyNic(net, 1);
  using modern = new FakeNic(net, 2);
  const read = () => [0, 1, 2, 3, 4, 5].map((i) => old.t.readDevice(i, 1));
  assertEquals(read(), macBytes(mac(1)));
  // Before anything else.
  old.t.writeDevice(4, 1, 0xab);
  assertEquals(read(), macBytes("52:54:00:00:ab:01"));
  assertEquals(old.model.mac, "52:54:00:00:ab:01");
  assertEquals(old.t.front.core.legacy, true);
  old.start(NET_FEATURE.MAC | ANY_LAYOUT, [0, 1]).post(4);
  assertEquals(read(), macBytes(mac(1)), "bringUp resets first");
  macBytes("02:11:22:33:44:55").forEach((byte, i) => old.t.writeDevice(i, 1, byte));
  modern.start();
  modern.send(frame(mac(1), mac(2), 60, 1));
  modern.send(frame("02:11:22:33:44:55", mac(2), 60, 2));
  modern.fn.run();
  assertEquals(old.received(), [frame("02:11:22:33:44:55", mac(2), 60, 2)]);
  old.t.writeDevice(0, 6, 0x060504030202);
  assertEquals(old.model.mac, "02:02:03:04:05:06");
  old.t.writeDevice(0, 1, 0x03);
  assertStringIncludes(
    old.t.take()[0]!,
    "virtio 1.2 §5.1.4.3: a multicast address cannot be the device's own",
  );
  assertEquals(old.model.mac, "02:02:03:04:05:06");
  old.t.writeDevice(6, 2, 0);
  assertStringIncludes(old.t.take()[0]!, "virtio 1.2 §5.1.4: write of 2 bytes at 6 of virtio_net_config");
  old.t.status = 0;
  assertEquals(old.model.mac, mac(1));
});

Deno.test("5.1.4 legacy config space by offset: little-endian, as N-3.14 has it", () => {
  using old = new LegacyNic(new NetSwitch("s0"), 1, { mtu: 9000, queuePairs: 3 });
  assertEquals([old.t.readDevice(6, 2), old.t.readDevice(8, 2), old.t.readDevice(10, 2)], [1, 3, 9000]);
  assertEquals([old.t.readDevice(10, 1), old.t.readDevice(11, 1)], [9000 & 0xff, 9000 >> 8]);
});

Deno.test("5.1.6.6 without ANY_LAYOUT a header needs a descriptor of its own: said once a queue, and carried out", () => {
  const net = new NetSwitch("s0");
  using old = new LegacyNic(net, 1, {}, false);
  using modern = new FakeNic(net, 2);
  modern.start().post(8);
  old.start(NET_FEATURE.MAC, [0, 1]).post(2);
  old.send(frame(mac(2), mac(1), 60, 1)).send(frame(mac(2), mac(1), 60, 2), [10, 30]);
  old.t.run();
  modern.send(frame(mac(1), mac(2), 60, 3));
  modern.fn.run();
  assertEquals(old.t.take(), [], "framed as it must be");
  old.send(frame(mac(2), mac(1), 60, 4), []).send(frame(mac(2), mac(1), 60, 5), [4]);
  old.t.run();
  assertEquals(old.t.take(), [
    "virtio 1.2 §5.1.6.6: without ANY_LAYOUT: virtio_net_hdr lies in a descriptor of 70 bytes (said once)",
  ]);
  assertEquals(modern.received().map((one) => one[14]), [1, 2, 4, 5].map((seed) => (14 * 7 + seed) & 0xff));
  old.post(2, [9, 2049]);
  for (let i = 0; i < 3; i++) modern.send(frame(mac(1), mac(2), 60, i));
  modern.fn.run();
  assertEquals(old.t.take(), [
    "virtio 1.2 §5.1.6.6: without ANY_LAYOUT: virtio_net_hdr lies in a descriptor of 9 bytes (said once)",
  ]);
  assertEquals(old.received().length, 4);
  // Another driver: said again, unless it accepted ANY_LAYOUT.
  old.start(NET_FEATURE.MAC, [0, 1]).send(frame(BROADCAST, mac(1), 60), []);
  old.t.run();
  assertEquals(old.t.take().length, 1);
  using any = new LegacyNic(net, 3);
  any.start(ANY_LAYOUT, [0, 1]).send(frame(BROADCAST, mac(3), 60), []);
  any.t.run();
  assertEquals(any.t.take(), []);
  using offered = new LegacyNic(net, 4);
  offered.start(0n, [0, 1]).send(frame(BROADCAST, mac(4), 60), []);
  offered.t.run();
  assertEquals(offered.t.take().length, 1, "offered is not accepted");
});

Deno.test("5.1.6.6 without ANY_LAYOUT the parts of a control command have descriptors of their own", () => {
  const run = (parts: readonly (readonly number[])[], ack = 1): [number, string[]] => {
    using old = new LegacyNic(new NetSwitch("s0"), 1, {}, false);
    old.start(CONTROL);
    const { client } = old.t.fn;
    const chain = parts.map((bytes) => {
      const at = client.allocate(bytes.length);
      client.bytes.set(bytes, at);
      return { iova: client.at(at), length: bytes.length, write: false };
    });
    const at = client.allocate(ack);
    client.bytes[at] = 0xee;
    old.t.ring(2).add([...chain, { iova: client.at(at), length: ack, write: true }]);
    old.t.ring(2).publish();
    old.t.notify(2);
    old.t.run();
    return [client.bytes[at]!, old.t.take()];
  };
  const address = macBytes(mac(9));
  const one = [1, 0, 0, 0, ...address], none = [0, 0, 0, 0];
  assertEquals(run([[0, 0], [1]]), [0, []]);
  assertEquals(run([[1, 1], address]), [0, []]);
  assertEquals(run([[1, 0], one, none]), [0, []]);
  const said = (bytes: readonly (readonly number[])[], what: string, ack?: number) => {
    const [status, reports] = run(bytes, ack);
    assertEquals(status, 0);
    assertEquals(reports, [`virtio 1.2 §5.1.6.6: without ANY_LAYOUT: ${what} (said once)`]);
  };
  said([[0, 0, 1]], "class and command lie in a descriptor of 3 bytes");
  said([[1, 1], address.slice(0, 3), address.slice(3)], "data in 2 descriptors instead of 1");
  said([[1, 0], [...one, ...none]], "data in 1 descriptors instead of 2");
  said([[0, 0], [1]], "ack in 2 device-writable bytes", 2);
});

Deno.test("legacy: link state, multiqueue and the control queue of a driver with MQ", () => {
  const net = new NetSwitch("s0");
  using old = new LegacyNic(net, 1);
  old.start(CONTROL | NET_FEATURE.MQ | NET_FEATURE.STATUS | ANY_LAYOUT, [0, 1, 2, 3, 4]);
  const { client } = old.t.fn;
  const at = client.allocate(8);
  client.bytes.set([4, 0, 2, 0, 0xee], at);
  old.t.ring(4).add([{ iova: client.at(at), length: 4 }, {
    iova: client.at(at + 4),
    length: 1,
    write: true,
  }]);
  old.t.ring(4).publish();
  old.t.notify(4);
  old.t.run();
  assertEquals([client.bytes[at + 4], old.model.activePairs, old.t.take()], [0, 2, []]);
  assertEquals(old.t.ring(4).takeUsed(), [{ id: 0, length: 1 }]);
});
