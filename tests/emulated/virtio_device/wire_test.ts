import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { FrameBurst, VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { REGION, type VfioDevice } from "../../../lib/vfio/mod.ts";
import { type Reached, TopologyHost } from "../drivers/topology_host.ts";

const FIRST = "0000:01:00.0";
const SECOND = "0000:02:00.0";
const PAIR = [
  { address: FIRST, kind: "virtio-net", totalVfs: 0, switch: "s0" },
  { address: SECOND, kind: "virtio-net", totalVfs: 0, switch: "s0" },
];
/** BAR of the virtio structures, and offsets in it. */
const BAR = REGION.bar4;
const STATUS = 20;
const NOTIFY = 0x3000;

function read(device: VfioDevice, region: number, offset: number, width: number): number {
  const bytes = new Uint8Array(width);
  device.readRegion(region, offset, bytes);
  return bytes.reduce((sum, byte, i) => sum + byte * 2 ** (8 * i), 0);
}

function write(device: VfioDevice, region: number, offset: number, width: number, value: number): void {
  device.writeRegion(
    region,
    offset,
    Uint8Array.from({ length: width }, (_, i) => Math.floor(value / 2 ** (8 * i))),
  );
}

/** Opens without a transport: registers by hand. */
function raw(served: TopologyHost, address: string): VfioDevice {
  served.host.bind(address);
  const device = served.host.open(address);
  // Memory space and bus master.
  write(device, REGION.config, 4, 2, 6);
  return device;
}

/** Offset of the first vendor capability of a `cfg_type`, found by walking the list. */
function capability(device: VfioDevice, cfgType: number): number {
  for (let at = read(device, REGION.config, 0x34, 1); at !== 0; at = read(device, REGION.config, at + 1, 1)) {
    if (read(device, REGION.config, at, 1) === 9 && read(device, REGION.config, at + 3, 1) === cfgType) {
      return at;
    }
  }
  throw new Error(`no virtio capability of type ${cfgType}`);
}

Deno.test("2.1 the PCI access capability reaches every register through config space", async () => {
  await using served = await TopologyHost.start(PAIR);
  using device = raw(served, FIRST);
  const at = capability(device, 5);
  const through = (offset: number, width: 1 | 2 | 4, value?: number) => {
    write(device, REGION.config, at + 4, 1, 4);
    write(device, REGION.config, at + 8, 4, offset);
    write(device, REGION.config, at + 12, 4, width);
    if (value === undefined) return read(device, REGION.config, at + 16, width);
    write(device, REGION.config, at + 16, width, value);
    return value;
  };
  assertEquals(through(18, 2), read(device, BAR, 18, 2), "num_queues");
  through(STATUS, 1, 1);
  through(STATUS, 1, 3);
  assertEquals(read(device, BAR, STATUS, 1), 3);
  through(0, 4, 1);
  assertEquals(through(4, 4) & 3, 3, "VERSION_1 and ACCESS_PLATFORM");
  assertEquals(through(0x2006, 2), 1, "link up, in the device's own configuration");
  through(STATUS, 1, 0);
  assertEquals(through(STATUS, 1), 0);
  assertEquals(await served.stop(), []);
});

Deno.test("1.1 a driver that breaks the order is refused and listed; the device can be reset", async () => {
  await using served = await TopologyHost.start(PAIR);
  using device = raw(served, FIRST);
  write(device, BAR, STATUS, 1, 3);
  write(device, BAR, STATUS, 1, 11);
  assertEquals(read(device, BAR, STATUS, 1), 3, "nothing was accepted");
  write(device, BAR, NOTIFY, 2, 0);
  assertEquals(read(device, BAR, STATUS, 1), 3 | 64);
  write(device, BAR, STATUS, 1, 0);
  assertEquals(read(device, BAR, STATUS, 1), 0);
  const violations = await served.stop();
  assertEquals(violations.map(({ function: name, rule, queue }) => [name, rule, queue]), [
    [FIRST, "1.2", undefined],
    [FIRST, "1.1", 0],
  ]);
  assertStringIncludes(
    violations[0]!.message,
    "must be accepted: VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM",
  );
  assertStringIncludes(violations[1]!.message, "notified before DRIVER_OK");
});

Deno.test("2.2 doorbells are offered as eventfds, one a queue at its own address, and nowhere else", async () => {
  await using served = await TopologyHost.start(PAIR);
  using device = raw(served, FIRST);
  const queues = read(device, BAR, 18, 2);
  for (let queue = 0; queue < queues; queue++) {
    assert(device.doorbellFd(BAR, NOTIFY + 4 * queue, 2) !== undefined, `queue ${queue}`);
  }
  assertEquals(device.doorbellFd(BAR, NOTIFY + 4 * queues, 2), undefined);
  assertEquals(device.doorbellFd(BAR, 0, 2), undefined);
});

/** Both functions with drivers. */
async function withPair(
  use: (a: VirtioNet, b: VirtioNet, reached: { one: Reached; two: Reached }) => Promise<void>,
): Promise<void> {
  await using served = await TopologyHost.start(PAIR);
  {
    using one = served.reach(FIRST);
    using two = served.reach(SECOND);
    await using a = await VirtioNet.open(one.transport);
    await using b = await VirtioNet.open(two.transport);
    await use(a, b, { one, two });
  }
  assertEquals(await served.stop(), []);
}

function frameTo(net: VirtioNet, from: VirtioNet, serial: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(64);
  bytes.set(net.mac);
  bytes.set(from.mac, 6);
  bytes.set([0x88, 0xb5], 12);
  new DataView(bytes.buffer).setUint32(14, serial);
  return bytes;
}

/** Takes what is there. @returns serial numbers, in order */
function take(net: VirtioNet, burst: FrameBurst): number[] {
  const serials: number[] = [];
  const rx = net.rx[0]!;
  const into = new Uint8Array(2048);
  const count = rx.receiveBurst(burst);
  for (let i = 0; i < count; i++) {
    rx.copyFrame(burst, i, into);
    serials.push(new DataView(into.buffer).getUint32(14));
  }
  rx.recycle(burst);
  return serials;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Sends so many frames, as room comes: the receive queue takes 256, and the transmit queue behind it as many again. */
async function sendAll(a: VirtioNet, b: VirtioNet, count: number): Promise<number> {
  let sent = 0;
  for (let rounds = 0; sent < count; rounds++) {
    while (sent < count && a.send(frameTo(b, a, sent))) sent++;
    if (rounds > 5000) throw new Error(`${sent} frames were taken`);
    await pause(1);
  }
  return sent;
}

Deno.test("back-pressure: a sender that never looks back loses nothing to a receiver that dawdles", async () => {
  await withPair(async (a, b) => {
    const COUNT = 3000;
    const burst = new FrameBurst(16);
    const got: number[] = [];
    let sent = 0, held = 0;
    for (let rounds = 0; got.length < COUNT; rounds++) {
      while (sent < COUNT && a.send(frameTo(b, a, sent))) sent++;
      if (sent < COUNT) held++;
      // A handful a turn: the receive queue is full most of the time, and the transmit queue behind it.
      got.push(...take(b, burst));
      if (rounds % 8 === 0) await pause(1);
      if (rounds > 200_000) throw new Error(`${got.length} of ${sent} frames arrived`);
    }
    assert(held > 10, `the transmit queue was full ${held} times`);
    assertEquals(got, Array.from({ length: COUNT }, (_, i) => i));
  });
});

Deno.test("back-pressure: a sleeping sender's frames go when the receiver has buffers again", async () => {
  await withPair(async (a, b) => {
    const burst = new FrameBurst(64);
    // More than the receive queue takes. Then nobody rings for a while, and the device sleeps.
    const sent = await sendAll(a, b, 400);
    await pause(100);
    const got: number[] = [];
    for (let rounds = 0; got.length < sent && rounds < 2000; rounds++) {
      got.push(...take(b, burst));
      await pause(1);
    }
    assertEquals(got, Array.from({ length: sent }, (_, i) => i));
  });
});

Deno.test("back-pressure: the receiver's reset lets a waiting sender go on", async () => {
  await withPair(async (a, b) => {
    await sendAll(a, b, 400);
    await pause(50);
    await b.reset();
    const burst = new FrameBurst(64);
    // What waited was dropped or, had it come late enough, delivered to the new life; from here on frames arrive.
    let last = -1;
    for (let rounds = 0; last < 100_000 && rounds < 3000; rounds++) {
      a.send(frameTo(b, a, 100_000 + rounds));
      last = take(b, burst).at(-1) ?? last;
      await pause(1);
    }
    assert(last >= 100_000, `the last frame was ${last}`);
  });
});

Deno.test("an idle device wakes for every frame", async () => {
  await withPair(async (a, b) => {
    for (let i = 0; i < 20; i++) {
      await pause(25);
      assert(a.send(frameTo(b, a, i)));
      const frame = await b.receive(5000);
      if (frame === undefined) throw new Error(`frame ${i} did not arrive`);
      assertEquals(new DataView(frame.buffer, frame.byteOffset).getUint32(14), i);
    }
  });
});
