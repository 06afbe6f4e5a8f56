/** A function that is wanted back, or broken, while it is used: its host's kernel asks, as Linux's does, and whoever uses it lets go. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { FrameBurst, VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { accessible, isErrno, readText, removeFile } from "../../../ffi/mod.ts";
import { DeviceError, RemovalRequestedError } from "../../../lib/errors/mod.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { ConfigAccess, InterruptSet } from "../../../lib/vfio/mod.ts";
import { requirePciDevice, type VfioPciDevice } from "../../../lib/vfio/pci_device.ts";
import { cli } from "../cli/run_cli.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const [NET, OTHER, BLK, RNG] = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"] as const;
const IMAGE = `/tmp/ringside-removal-${Deno.pid}.img`;
const FUNCTIONS = [
  { address: NET, kind: "virtio-net" },
  { address: OTHER, kind: "virtio-net" },
  { address: BLK, kind: "virtio-blk", file: IMAGE, sizeBytes: 2 ** 34 },
  { address: RNG, kind: "virtio-rng" },
];
const image = (): Disposable => ({ [Symbol.dispose]: () => removeFile(IMAGE) });

/** What somebody else does to the host. */
function write(served: TopologyHost, path: string, text: string): void {
  using sysfs = new SocketSysfs(`${served.directory}/host.sock`);
  sysfs.writeText(path, text);
}

/** Linux's kernel would wait here for the user; the emulated one asks, and says that it is in use. */
function unbind(served: TopologyHost, address: string): void {
  const error = assertThrows(() => write(served, "/sys/bus/pci/drivers/vfio-pci/unbind", address));
  assert(isErrno(error, "EBUSY"), `${error}`);
}

function pci(device: unknown): VfioPciDevice {
  return requirePciDevice(device as VfioPciDevice, "interrupts");
}

for (const wait of ["eventfd", "adaptive", "poll"] as const) {
  Deno.test(`a driver that waits (${wait}): its waits end, each next call says who asks, and it closes in order`, async () => {
    await using served = await TopologyHost.start(FUNCTIONS);
    using _image = image();
    using reached = served.reach(NET);
    let told = 0;
    pci(reached.device).onRemovalRequested(() => told++);
    await using net = await VirtioNet.open(reached.transport, { wait });
    const waits = [net.waitReceive(Infinity), net.waitTransmit(Infinity)];
    // The first may find room at once.
    waits[1]!.catch(() => {});
    unbind(served, NET);
    await assertRejects(() => waits[0]!, RemovalRequestedError, `${NET}: the host that serves it asks`);
    assertEquals(told, 1);
    const burst = new FrameBurst(8);
    for (
      const call of [
        () => net.receiveBurst(burst),
        () => net.send(new Uint8Array(64)),
        () => net.rx[0]!.receiveBurst(burst),
      ]
    ) assertThrows(call, RemovalRequestedError, NET, call.toString());
    await assertRejects(() => net.waitReceive(1), RemovalRequestedError);
    await assertRejects(() => net.reset(), RemovalRequestedError);
    await assertRejects(() => VirtioNet.open(reached.transport), RemovalRequestedError);
    reached[Symbol.dispose]();
    write(served, "/sys/bus/pci/drivers/vfio-pci/unbind", NET);
    assertEquals(served.host.describe(NET).driver, undefined);
    assertEquals(served.host.restore().failed, []);
    assertEquals(served.host.describe(NET).driver, "virtio-pci");
  });
}

Deno.test("who polls hears of it by a turn of the event loop, and who gives it none after a bounded number of polls", async () => {
  await using served = await TopologyHost.start(FUNCTIONS);
  using _image = image();
  for (const turns of [true, false]) {
    using reached = served.reach(NET);
    await using net = await VirtioNet.open(reached.transport, { interrupts: "none" });
    const rx = net.rx[0]!, burst = new FrameBurst(8);
    rx.receiveBurst(burst);
    unbind(served, NET);
    let polls = 0;
    const error = await assertRejects(async () => {
      for (; polls < 1e6; polls++) {
        if (rx.receiveBurst(burst) > 0) rx.recycle(burst);
        if (turns) await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }, RemovalRequestedError);
    assertStringIncludes(error.message, NET);
    assert(turns ? polls < 4000 : polls < 10_000, `${polls} polls`);
  }
});

Deno.test("who waits for interrupts without a virtio driver: they come by their vectors, and the wait ends with who asks", async () => {
  await using served = await TopologyHost.start(FUNCTIONS);
  using _image = image();
  using reached = served.reach(NET);
  new ConfigAccess(reached.device).setCommand({ busMaster: true });
  using interrupts = new InterruptSet(reached.device);
  interrupts.enable("msix", 2);
  interrupts.fire(1);
  assertEquals([await interrupts.wait(1), interrupts.counts], [1, [0, 1]]);
  const seen: number[] = [];
  const each = assertRejects(
    async () => {
      for await (const count of interrupts.each(0)) {
        seen.push(count);
        unbind(served, NET);
      }
    },
    RemovalRequestedError,
    NET,
  );
  interrupts.fire(0);
  await each;
  assertEquals(seen, [1]);
  assertThrows(() => interrupts.waitBlocking(0, 0), RemovalRequestedError);
});

Deno.test("requests under way end with it", async () => {
  await using served = await TopologyHost.start(FUNCTIONS);
  using _image = image();
  using reached = served.reach(BLK);
  await using blk = await VirtioBlk.open(reached.transport);
  const forEver = async (): Promise<never> => {
    for (;;) await blk.read(0, 64);
  };
  const reading = assertRejects(forEver, RemovalRequestedError, BLK);
  await new Promise((resolve) => setTimeout(resolve, 5));
  unbind(served, BLK);
  await reading;
});

Deno.test("an uncorrectable error: told, thrown by the driver's calls, and mended by a reset of function and driver", async () => {
  await using served = await TopologyHost.start(FUNCTIONS);
  using _image = image();
  using reached = served.reach(NET);
  const device = pci(reached.device);
  let told = 0;
  device.onDeviceError(() => told++);
  await using net = await VirtioNet.open(reached.transport);
  for (let round = 1; round <= 2; round++) {
    const waiting = net.waitReceive(Infinity);
    write(served, `/ringside/functions/${NET}/error`, "now");
    const error = await assertRejects(() => waiting, DeviceError, "uncorrectable error");
    assertEquals([error.location.function, told], [NET, round]);
    assertThrows(() => net.send(new Uint8Array(64)), DeviceError, "uncorrectable error");
    await assertRejects(() => net.reset(), DeviceError, "uncorrectable error");
    device.reset();
    await net.reset();
    net.send(new Uint8Array(64));
  }
});

const COMMANDS: Readonly<Record<string, { address: string; args: readonly string[] }>> = {
  "net loop, by interrupts": { address: NET, args: ["net", "loop", NET, OTHER, "--count", "1000000000"] },
  "net loop, the receiver": { address: OTHER, args: ["net", "loop", NET, OTHER, "--count", "1000000000"] },
  "net loop, polled": {
    address: NET,
    args: ["net", "loop", NET, OTHER, "--count", "1000000000", "--interrupts", "none"],
  },
  "net receive": { address: NET, args: ["net", "receive", NET, `/tmp/ringside-removal-${Deno.pid}.pcap`] },
  rng: { address: RNG, args: ["rng", RNG, "1000000000", "-o", "/dev/null"] },
  "blk read": { address: BLK, args: ["blk", "read", BLK, "0", "33554432", "-o", "/dev/null"] },
};

for (const [name, { address, args }] of Object.entries(COMMANDS)) {
  Deno.test(`ringside ${name}: lets go, says who asks, ends with status 1, and restore works`, async () => {
    await using served = await TopologyHost.start(FUNCTIONS);
    using _image = image();
    for (const one of [NET, OTHER, BLK, RNG]) served.host.bind(one);
    let ended = false;
    const running = cli("--host", served.directory, ...args).finally(() => ended = true);
    // It is there when its function is held.
    while (!ended && served.host.describe(address).heldBy === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    let asked = false;
    while (!ended) {
      // Asked again, as Linux does: the command may not have come so far that it listens.
      try {
        write(served, "/sys/bus/pci/drivers/vfio-pci/unbind", address);
        break;
      } catch (error) {
        assert(isErrno(error, "EBUSY"), `${error}`);
        asked = true;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const { code, out, err } = await running;
    assertEquals([asked, code, out], [true, 1, ""], err);
    assertStringIncludes(err, `ringside: ${address}: the host that serves it asks for the function back`);
    assertEquals(served.host.restore().failed, []);
    assertEquals(served.host.describe(address).driver, "virtio-pci");
  });
}

for (const address of [NET, OTHER]) {
  Deno.test(`a command closes the function that is asked for first (${address}), then all else in order`, async () => {
    await using served = await TopologyHost.start(FUNCTIONS);
    using _image = image();
    served.host.bind([NET, OTHER]);
    const trace = `/tmp/ringside-removal-${Deno.pid}.jsonl`;
    using _trace = { [Symbol.dispose]: () => removeFile(trace) };
    const args = ["net", "loop", NET, OTHER, "--count", "1000000000", "--trace", trace];
    const running = cli("--host", served.directory, ...args);
    const sends = () => accessible(trace) && readText(trace).includes('"doorbell"');
    while (!sends()) await new Promise((resolve) => setTimeout(resolve, 5));
    unbind(served, address);
    const { code, err } = await running;
    assertEquals(code, 1, err);
    const records = readText(trace).trimEnd().split("\n").slice(1).map((line) => JSON.parse(line));
    const asked = [NET, OTHER].indexOf(address);
    assertEquals(records.filter(({ kind }) => kind === "close").map(({ device }) => device), [
      asked,
      1 - asked,
    ]);
    // Between the last frame and the end nothing is done to the function: the driver's own stop would keep the kernel waiting.
    const since = records.slice(1 + records.findLastIndex(({ kind }) => kind === "doorbell"));
    const touched = since.filter(({ kind }) => ["read", "write", "irqs", "reset"].includes(kind));
    assertEquals(touched.filter(({ device }) => device === asked), []);
    assert(touched.length > 0, "the other function is stopped in order");
  });
}
