import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { FrameBurst, VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioManagement } from "../../../drivers/management/virtio_management.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { ClosedError, RingsideError } from "../../../lib/errors/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { Bar, ConfigAccess, InterruptSet, REGION } from "../../../lib/vfio/mod.ts";
import {
  DEVICE_ID,
  FEATURE,
  MovableTransport,
  NET_FEATURE,
  openTransport,
  usedBurst,
  VirtioDevice,
  type VirtioTransport,
} from "../../../lib/virtio/mod.ts";
import { createVirtqueue } from "../../../lib/virtio/queue/create.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

/** Calls every method and getter of an object's prototype with harmless arguments; none may crash, all that touch the device must throw. */
function everyMember(target: object, quiet: readonly string[]): void {
  const names = new Set<string>();
  for (
    let proto = Object.getPrototypeOf(target);
    proto !== Object.prototype;
    proto = Object.getPrototypeOf(proto)
  ) {
    for (const name of Object.getOwnPropertyNames(proto)) names.add(name);
  }
  names.delete("constructor");
  for (const name of names) {
    if (quiet.includes(name)) continue;
    let outcome: unknown;
    try {
      const member = Reflect.get(target, name, target);
      outcome = typeof member === "function"
        ? Reflect.apply(member, target, ARGUMENTS[name] ?? [0, 0, 4, false])
        : member;
    } catch (error) {
      if (!(error instanceof RingsideError) && !(error instanceof TypeError)) throw error;
      continue;
    }
    if (outcome instanceof Promise) {
      outcome.catch(() => {});
      continue;
    }
    throw new Error(`${target.constructor.name}.${name} went on after close: ${outcome}`);
  }
}

const ARGUMENTS: Record<string, unknown[]> = {
  readRegion: [REGION.config, 0, new Uint8Array(4)],
  writeRegion: [REGION.config, 4, new Uint8Array(2)],
  mapRegion: [REGION.bar4, { offset: 0, sizeBytes: 4096 }],
  setIrqs: [{ index: 2, action: "disable" }],
  doorbellFd: [REGION.bar4, 0, 2],
  probeFeature: [0],
  setVfToken: ["11111111-2222-3333-4444-555555555555"],
  takeUsed: [usedBurst(4)],
  begin: [1, 0],
  writeDriverFeatures: [0n],
  readConfig: [0, 1],
  writeConfig: [0, 1, 0],
  enableQueue: [0, { size: 4, descriptorArea: 0n, driverArea: 0n, deviceArea: 0n }],
  enableInterrupts: ["none", 0],
  receiveBurst: [new FrameBurst(4)],
  send: [new Uint8Array(64)],
};
/** Facts that are remembered, and members whose point is to work on a closed object. */
const REMEMBERED = [
  "close",
  "lost",
  "closed",
  "settled",
  "onLinkChange",
  "statistics",
  "features",
  "featureNames",
]
  .concat(["interrupts", "resets"]);
/** What transports put behind the checks of their base class's public calls. */
const TRANSPORT_INTERNALS = [
  "end",
  "release",
  "carried",
  "hasVectors",
  "queueVector",
  "queueAreas",
  "error",
  "registerName",
];
/** What a ring's base class and its layouts call of each other: `protected`, and behind the checks of the public calls. */
const RING_INTERNALS = [
  "abandon",
  "held",
  "unpublished",
  "offer",
  "rewind",
  "checkDevice",
  "checkStart",
  "markPublished",
  "standing",
  "goOn",
  "dropWishes",
]
  .concat([
    "holder",
    "release",
    "batchSize",
    "startBatch",
    "inBatch",
    "restOfBatch",
    "tookOldest",
    "tableLo",
    "tableHi",
  ])
  .concat(["break", "give", "stateError", "empty", "places"]);

Deno.test("after close every use of device, BAR, config, interrupts, transport, queue and driver is an error", async () => {
  const emulated = await startEmulatedHost();
  try {
    using host = openHost(emulated.directory);
    host.bind("01:00.0");
    host.bind("02:00.0");

    const device = host.open("01:00.0");
    const config = new ConfigAccess(device);
    const bar = new Bar(device, 4);
    const interrupts = new InterruptSet(device);
    const memory = device.dma.allocate(4096);
    const views = { bytes: memory.bytes(), words: new Uint32Array(memory.buffer) };
    const transport = PciModernTransport.open(device);
    const virtio = new VirtioDevice(transport);
    const net = await VirtioNet.open(transport);
    const [rx, tx] = [net.rx[0]!, net.tx[0]!];
    const slot = tx.reserve();
    const frame = tx.frame(slot);
    const received = rx.views[0]!;
    frame[0] = 1;

    net.close();
    await net.settled;
    assertEquals([frame.length, frame[0], received.length], [0, undefined, 0]);
    assertThrows(() => tx.reserve(), ClosedError);
    assertThrows(() => tx.frame(slot), ClosedError);
    assertThrows(() => tx.send(slot, 64), RingsideError);
    assertThrows(() => rx.receiveBurst(new FrameBurst(4)), ClosedError);
    everyMember(net, [...REMEMBERED, "name", "mac", "macText", "rx", "tx", "frames"]);
    await assertRejects(() => net.frames().next(), ClosedError);
    await assertRejects(() => net.receive(1), ClosedError);
    await assertRejects(() => net.setPromiscuous(true), ClosedError);
    await assertRejects(() => net.reset(), ClosedError);

    transport.close();
    everyMember(transport, [
      ...REMEMBERED,
      ...TRANSPORT_INTERNALS,
      "driverFeatures",
      "configSizeBytes",
      "dma",
      "queueCount",
      "interruptCount",
      "unusableFeatures",
      "lifeline",
    ]);
    assertThrows(() => transport.readStatus(), ClosedError);
    void virtio;

    device.close();
    assertEquals([views.bytes.length, views.bytes[0], views.words[0]], [0, undefined, undefined]);
    assertThrows(() => memory.bytes(), ClosedError);
    assertThrows(() => device.dma.allocate(1), ClosedError);
    assertThrows(() => config.read32(0), ClosedError);
    assertThrows(() => bar.read32(0), ClosedError);
    assertThrows(() => interrupts.enable("msix", 1), ClosedError);
    everyMember(device, [...REMEMBERED, "name", "path", "info", "dma", "lifeline", "broken"]);

    const rngDevice = host.open("02:00.0");
    const rngTransport = PciModernTransport.open(rngDevice);
    const rng = VirtioRng.open(rngTransport);
    rngDevice.close();
    await assertRejects(() => rng.read(4), RingsideError);
    rng.close();
    await rng.settled;
    await assertRejects(() => rng.read(4), ClosedError);
    rngTransport.close();

    const again = host.open("02:00.0");
    using transportAgain = PciModernTransport.open(again);
    const low = new VirtioDevice(transportAgain);
    low.negotiate({});
    const queue = createVirtqueue(transportAgain, 0);
    queue.close();
    everyMember(queue, [...REMEMBERED, ...RING_INTERNALS, "index", "size", "layout"]);
    low.close();
    again.close();
  } finally {
    await emulated.stop();
  }
});

for (const interrupts of ["msix", "none"] as const) {
  Deno.test(`whoever waits hears that a transport is closed, and so do managed devices of theirs: ${interrupts}`, async () => {
    const [NET, MANAGEMENT] = ["0000:01:00.0", "0000:02:00.0"];
    await using served = await TopologyHost.start([
      { address: NET!, kind: "virtio-net" },
      { address: MANAGEMENT!, kind: "virtio-management" },
    ]);
    for (const address of [NET!, MANAGEMENT!]) served.host.bind(address);
    /** Waits without end: what ends it is what closes. */
    const closing = async (transport: VirtioTransport, close: () => void) => {
      await using net = await VirtioNet.open(transport, { interrupts });
      const wait = net.receive(Infinity);
      const ended = assertRejects(() => wait, ClosedError);
      await new Promise((resolve) => setTimeout(resolve, 20));
      close();
      await ended;
      await assertRejects(() => net.receive(Infinity), ClosedError);
    };
    using device = served.host.open(NET!);
    const transport = openTransport(device);
    await closing(transport, () => transport.close());
    const movable = new MovableTransport(openTransport(device));
    await closing(movable, () => movable.close());

    using owner = served.host.open(MANAGEMENT!);
    for (const which of ["managed", "management"] as const) {
      const own = openTransport(owner, { profile: "transport-vq" });
      await using management = await VirtioManagement.open(own, { function: owner, interrupts });
      const features = FEATURE.VERSION_1 | NET_FEATURE.MAC;
      const { id } = await management.create({ type: DEVICE_ID.net, features });
      const managed = management.openTransport(id);
      await closing(managed, () => (which === "managed" ? managed : own).close());
      assertEquals(management.devices.length, which === "managed" ? 1 : 0);
      managed.close();
      own.close();
    }
    assertEquals(await served.stop(), []);
  });
}
