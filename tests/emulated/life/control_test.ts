/** What is done to a running device from outside, as a person does to hardware: its driver sees it, and goes on or says what became of it. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import { FrameBurst, VirtioNet } from "../../../drivers/net/virtio_net.ts";
import {
  DeviceError,
  NotFoundError,
  PeerGoneError,
  RemovalRequestedError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { EmulatedControl } from "../../../lib/host/mod.ts";
import { cli } from "../cli/run_cli.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const [NET, OTHER, CONSOLE, BLK] = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"] as const;
const SECTOR = 512;

async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (let looks = 0; !holds(); looks++) {
    if (looks > 5000) throw new Error(`it did not come to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

for (const wait of ["eventfd", "poll"] as const) {
  Deno.test(`a link that goes down and up (${wait}): the driver is told each time, and frames go when it is up`, async () => {
    await using served = await TopologyHost.start([
      { address: NET, kind: "virtio-net", totalVfs: 0 },
      { address: OTHER, kind: "virtio-net", totalVfs: 0 },
    ]);
    using control = EmulatedControl.connect(served.directory);
    control.set(NET, "link", "down");
    using one = served.reach(NET);
    using two = served.reach(OTHER);
    await using net = await VirtioNet.open(one.transport, { wait });
    await using other = await VirtioNet.open(two.transport, { wait });
    const seen: boolean[] = [];
    net.onLinkChange((up) => seen.push(up));
    assertEquals([net.linkUp, other.linkUp, control.get(NET, "link")], [false, true, "down"]);
    // Who waits for a frame hears of the configuration.
    const burst = new FrameBurst(8);
    for (let round = 0; round < 20; round++) {
      const up = round % 2 === 0;
      control.set(NET, "link", up ? "up" : "down");
      for (let looks = 0; net.linkUp !== up; looks++) {
        if (looks > 500) throw new Error(`the driver did not see round ${round}`);
        await net.waitReceive(10);
        net.receiveBurst(burst);
        net.recycle(burst);
      }
    }
    assertEquals(seen, Array.from({ length: 20 }, (_, round) => round % 2 === 0));
    control.set(NET, "link", "up");
    await eventually("a frame over the link that is up", () => {
      const frame = new Uint8Array(64);
      frame.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
      frame.set(net.mac, 6);
      net.send(frame);
      const count = other.receiveBurst(burst);
      other.recycle(burst);
      return count > 0;
    });
  });
}

Deno.test("ports of a console that are pulled out and plugged in again", async () => {
  await using served = await TopologyHost.start([{ address: CONSOLE, kind: "virtio-console", ports: 3 }]);
  using control = EmulatedControl.connect(served.directory);
  control.set(CONSOLE, "ports", "remove 2");
  assertEquals(control.get(CONSOLE, "ports"), "0 1");
  using reached = served.reach(CONSOLE);
  await using device = await VirtioConsole.open(reached.transport);
  const first = await device.waitPort(1, 10_000);
  const echo = async (index: number, text: string): Promise<void> => {
    const port = await device.waitPort(index, 10_000);
    port.open();
    assert(await port.waitPeer(10_000));
    const bytes = new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
    await port.write(bytes, 10_000);
    assertEquals(await port.read(10_000), bytes);
  };
  await echo(1, "one");
  for (let round = 0; round < 10; round++) {
    control.set(CONSOLE, "ports", "add 2");
    await echo(2, `round ${round}`);
    const gone: number[] = [];
    const unlisten = device.onPortChange((change, { index }) => {
      if (change === "removed") gone.push(index);
    });
    control.set(CONSOLE, "ports", "remove 2");
    while (gone.length === 0) await device.waitChange(10_000);
    unlisten();
    assertEquals(gone, [2]);
  }
  assertEquals(first.closed, false);
  await echo(1, "one again");
  const sized = new Promise<void>((resolve) => {
    device.onPortChange((change) => change === "resized" && resolve());
  });
  control.set(CONSOLE, "size", "132 43");
  while (await Promise.race([sized.then(() => true), device.waitChange(50)]) !== true) {
    if ((await device.waitPort(0)).size?.cols === 132) break;
  }
  assertEquals((await device.waitPort(0)).size, { cols: 132, rows: 43 });
  assertEquals(await served.stop(), []);
});

Deno.test("a disk that grows: it says so, and has the sectors", async () => {
  await using served = await TopologyHost.start([
    { address: BLK, kind: "virtio-blk", sizeBytes: 64 * SECTOR },
  ]);
  using control = EmulatedControl.connect(served.directory);
  using reached = served.reach(BLK);
  {
    await using blk = await VirtioBlk.open(reached.transport);
    await blk.write(63, new Uint8Array(SECTOR).fill(7));
    control.set(BLK, "capacity", `${128 * SECTOR}`);
    assertEquals(control.get(BLK, "capacity"), `${128 * SECTOR}`);
    // By an interrupt, which is heard of while something is waited for.
    while (blk.capacitySectors !== 128) await blk.read(0, 1);
    assertEquals(
      await blk.read(63, 2),
      Uint8Array.from([...Array(SECTOR).fill(7), ...Array(SECTOR).fill(0)]),
    );
    await blk.write(127, new Uint8Array(SECTOR).fill(9));
  }
  for (const value of ["100", "-512", "0", "x", `${64 * SECTOR}`]) {
    assertThrows(() => control.set(BLK, "capacity", value), UsageError);
  }
});

Deno.test("a function that is pulled out while it is driven, with its VFs, and plugged in again", async () => {
  await using served = await TopologyHost.start([
    { address: NET, kind: "virtio-net", totalVfs: 4 },
    { address: OTHER, kind: "virtio-net", totalVfs: 0 },
  ]);
  using control = EmulatedControl.connect(served.directory);
  const before = served.host.describe(NET);
  for (let round = 0; round < 3; round++) {
    served.host.bind(NET);
    served.host.setVfCount(NET, 2);
    const reached = ["0000:01:00.0", "0000:01:00.1", "0000:01:00.2"].map((one) => served.reach(one));
    const nets = await Promise.all(reached.map((one) => VirtioNet.open(one.transport)));
    const waits = nets.map((net) => assertRejects(() => net.waitReceive(Infinity), PeerGoneError));
    control.set(NET, "present", "no");
    await Promise.all(waits);
    assertEquals(served.host.list().map(({ address }) => address), [OTHER]);
    assertEquals([control.names(NET), control.get(NET, "present")], [["present"], "no"]);
    for (const net of nets) net.close();
    for (const one of reached) one[Symbol.dispose]();
    control.set(NET, "present", "yes");
    assertEquals(served.host.describe(NET), before);
  }
  // What was changed of the one that went is not there to be put back.
  served.host.restore([NET], { forget: true });
  control.plug({ address: BLK, kind: "virtio-blk", sizeBytes: 8 * SECTOR });
  using disk = served.reach(BLK);
  await using blk = await VirtioBlk.open(disk.transport);
  assertEquals([blk.capacitySectors, (await blk.read(0, 8)).length], [8, 8 * SECTOR]);
  const refused: readonly [Record<string, unknown>, string][] = [
    [{ address: BLK, kind: "virtio-rng" }, "is the function 0000:04:00.0 already"],
    [{ address: "0000:01:00.3", kind: "virtio-rng" }, "0000:01:00.3"],
    [{ address: "0000:09:00.0", kind: "virtio-blk" }, "needs a file"],
    [{ address: "0000:09:00.0", kind: "no such" }, "is not a kind of device"],
    [{ address: "a.virtio_mmio", kind: "virtio-rng" }, "only PCI functions"],
  ];
  for (const [fields, message] of refused) {
    assertStringIncludes(assertThrows(() => control.plug(fields), UsageError).message, message);
  }
});

Deno.test("a lie that is turned off and on, an error, a wish to have it back, DEVICE_NEEDS_RESET", async () => {
  await using served = await TopologyHost.start([
    { address: BLK, kind: "virtio-blk", sizeBytes: 64 * SECTOR, lie: "blk-io-error:1:2" },
    { address: NET, kind: "virtio-net", totalVfs: 0, lie: "doorbell-out-of-bar" },
  ]);
  using control = EmulatedControl.connect(served.directory);
  // It is in the function's capabilities.
  assert(!control.names(NET).includes("lie"));
  using reached = served.reach(BLK);
  await using blk = await VirtioBlk.open(reached.transport);
  const fails = () => assertRejects(() => blk.read(0, 1), DeviceError, "IOERR");
  assertEquals(control.get(BLK, "lie"), "on");
  await blk.read(0, 1);
  await fails();
  control.set(BLK, "lie", "off");
  for (let i = 0; i < 5; i++) await blk.read(0, 1);
  // From its first occasion: one is honest, two are not.
  control.set(BLK, "lie", "on");
  await blk.read(0, 1);
  await fails();
  await fails();
  await blk.read(0, 1);
  control.set(BLK, "needs-reset", "yes");
  await assertRejects(async () => {
    for (let i = 0; i < 1000; i++) await blk.read(0, 1);
  }, DeviceError);
  assertEquals(control.get(BLK, "needs-reset"), "yes");
  await blk.reset();
  assertEquals([control.get(BLK, "needs-reset"), (await blk.read(0, 1)).length], ["no", SECTOR]);
  control.set(BLK, "release", "now");
  await assertRejects(async () => {
    for (;;) await blk.read(0, 1);
  }, RemovalRequestedError);
});

Deno.test("what cannot be is said, with what can", async () => {
  await using served = await TopologyHost.start([
    { address: NET, kind: "virtio-net", totalVfs: 0 },
    { address: CONSOLE, kind: "virtio-console", ports: 2 },
  ]);
  using control = EmulatedControl.connect(served.directory);
  const refused: readonly [() => unknown, new (...of: never[]) => Error, string][] = [
    [() => control.set(NET, "link", "sideways"), UsageError, "neither up nor down"],
    [() => control.set(NET, "present", "maybe"), UsageError, "neither yes nor no"],
    [() => control.set(NET, "needs-reset", "no"), UsageError, "only a reset"],
    [() => control.set(CONSOLE, "ports", "add 0"), UsageError, "it has ports 0 to 1, and 0 1 plugged in"],
    [() => control.set(CONSOLE, "ports", "add 9999"), UsageError, "no room for port 9999"],
    [() => control.set(CONSOLE, "ports", "add"), UsageError, "neither add N nor remove N"],
    [() => control.set(CONSOLE, "size", "99999 1"), UsageError, "is no size"],
    [() => control.get(NET, "colour"), NotFoundError, "has no control colour"],
    [() => control.get("0000:77:00.0", "link"), NotFoundError, "has no device 0000:77:00.0"],
    [() => control.get("..", "version"), UsageError, "is no name"],
    [() => control.names("a/b"), UsageError, "is no name"],
  ];
  for (const [call, type, message] of refused) {
    const { message: said, hint } = assertThrows(call, type, undefined, call.toString()) as UsageError;
    assertStringIncludes(`${said}: ${hint}`, message);
  }
  const run = async (...args: string[]) => await cli("--host", served.directory, "control", ...args);
  const shown = await run("01:00.0");
  assertEquals(shown.code, 0, shown.err);
  assertEquals(shown.out.split("\n").map((line) => line.split(/\s+/)[0]), [
    ...["error", "link", "needs-reset", "present", "release"],
    "",
  ]);
  assertEquals((await run("01:00.0", "link", "down")).out, "down\n");
  assertEquals(JSON.parse((await run("01:00.0", "link", "--json")).out), {
    function: NET,
    controls: { link: "down" },
  });
  assertEquals((await run("03:00.0", "ports", "remove", "1")).out, "0\n");
  assertEquals((await run("09:00.0", "plug", "virtio-rng")).out, "0000:09:00.0 is there\n");
  assertEquals((await run("09:00.0", "present", "no")).out, "no\n");
  for (
    const args of [["01:00.0", "error"], ["01:00.0", "link", "x"], ["05:00.0"], ["09:00.0", "plug", "{"]]
  ) {
    assertEquals((await run(...args)).code, 2, args.join(" "));
  }
  const { code, err } = await cli("--host", "linux", "control", "01:00.0");
  assertEquals(code, 1);
  assertStringIncludes(err, "linux is no emulated host");
});
