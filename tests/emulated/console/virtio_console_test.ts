import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type ConsolePort, emergencyWrite, VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import { accessible, mappingCount, openFdCount, UnixSocket } from "../../../ffi/mod.ts";
import { ClosedError, DeviceError, TimeoutError, UsageError } from "../../../lib/errors/mod.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { Random } from "../../random.ts";

const CONSOLE = "0000:04:00.0";
const MIB = 1 << 20;

async function hash(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

function pattern(count: number, seed: number): Uint8Array<ArrayBuffer> {
  return new Random(seed).bytes(count);
}

async function readAll(port: ConsolePort, count: number): Promise<Uint8Array<ArrayBuffer>> {
  const all = new Uint8Array(count);
  for (let at = 0; at < count;) {
    const bytes = await port.read(20_000, Math.min(count - at, 10_000));
    if (bytes === undefined) throw new Error(`${at} of ${count} bytes came`);
    all.set(bytes, at);
    at += bytes.length;
  }
  return all;
}

/** Serves a console; afterwards nothing was complained of, and nothing leaked. */
async function withConsole(
  topology: Record<string, unknown>,
  use: (transport: Parameters<typeof VirtioConsole.open>[0], host: TopologyHost) => Promise<void>,
): Promise<void> {
  const before = [openFdCount(), mappingCount().mappings];
  await using served = await TopologyHost.start([{ address: CONSOLE, kind: "virtio-console", ...topology }]);
  {
    using reached = served.reach(CONSOLE);
    await use(reached.transport, served);
  }
  assertEquals(await served.stop(), []);
  assertEquals([openFdCount(), mappingCount().mappings], before);
}

/** Reads from a socket in turns of the event loop, so that both ends live in this thread. */
async function receive(socket: UnixSocket, count: number): Promise<Uint8Array<ArrayBuffer>> {
  const all = new Uint8Array(count);
  let at = 0;
  for (let idle = 0; at < count;) {
    const got = socket.receive(all.subarray(at), { wait: false });
    if (got === undefined) {
      if (++idle > 20_000) throw new Error(`${at} of ${count} bytes came`);
      await new Promise((resolve) => setTimeout(resolve, 1));
      continue;
    }
    idle = 0;
    if (got.length === 0) throw new Error(`closed after ${at} of ${count} bytes`);
    at += got.length;
  }
  return all;
}

async function send(socket: UnixSocket, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  for (let at = 0, idle = 0; at < bytes.length;) {
    const count = socket.sendSome(bytes.subarray(at));
    at += count;
    if (count > 0) {
      idle = 0;
      continue;
    }
    if (++idle > 20_000) throw new Error(`${at} of ${bytes.length} bytes were taken`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

for (
  const [interrupts, wait, options] of [
    ["msix", "eventfd", {}],
    ["none", "poll", {}],
    ["intx", "adaptive", { packed: false, eventIndex: false }],
    ["msix", "adaptive", { bufferBytes: 7, queueSize: 4 }],
  ] as const
) {
  Deno.test(`one port, loopback, ${interrupts}, ${wait}, ${JSON.stringify(options)}: 1 MiB out and back, the same hash`, async () => {
    await withConsole({ cols: 132, rows: 43 }, async (transport) => {
      if (transport.interruptCount(interrupts) === 0 && interrupts !== "none") return;
      await using console = await VirtioConsole.open(transport, { interrupts, wait, ...options });
      assertEquals([console.multiport, console.maxPorts, console.ports.length], [false, 1, 1]);
      const port = await console.waitPort(0, 0);
      assertEquals([port.opened, port.peerOpen, port.name, port.size], [true, true, "", {
        cols: 132,
        rows: 43,
      }]);
      const bytes = pattern("bufferBytes" in options ? MIB / 16 : MIB, 77);
      const [back] = await Promise.all([readAll(port, bytes.length), port.write(bytes, 20_000)]);
      assertEquals(await hash(back), await hash(bytes));
      await port.drain(10_000);
      assertEquals(port.counts, { received: bytes.length, sent: bytes.length });
      assertEquals(await port.read(20), undefined);
      if (interrupts !== "none") assert(console.interrupts > 0);
    });
  });
}

Deno.test("one port, a socket at the other end: 1 MiB each way at once, the same hashes; the peer closes, another comes", async () => {
  await withConsole({ peer: "socket" }, async (transport, host) => {
    const path = `${host.directory}/${CONSOLE}.port0`;
    await using console = await VirtioConsole.open(transport);
    const port = await console.waitPort(0);
    for (let round = 0; round < 2; round++) {
      using peer = UnixSocket.connect(path);
      // The first byte says that the device has taken the connection: before, what is written is lost as on a line that nobody listens to.
      await send(peer, Uint8Array.of(0x21));
      assertEquals(await port.read(10_000), Uint8Array.of(0x21));
      const there = pattern(MIB, 5 + round), back = pattern(MIB, 6 + round);
      const [received, heard] = await Promise.all([
        readAll(port, MIB),
        receive(peer, MIB),
        send(peer, there),
        port.write(back, 20_000),
      ]);
      assertEquals([await hash(received), await hash(heard)], [await hash(there), await hash(back)]);
    }
  });
});

Deno.test("5.3.6.2 several wait at once: each hears what a message says, whoever took it", async () => {
  for (const wait of ["adaptive", "eventfd", "poll"] as const) {
    await withConsole({ ports: 4, peer: "loopback" }, async (transport) => {
      await using console = await VirtioConsole.open(transport, { wait });
      for (let round = 0; round < 8; round++) {
        if (round > 0) await console.reset();
        const ports = await Promise.all([0, 1, 2, 3].map((index) => console.waitPort(index, 4000)));
        assertEquals(ports.map(({ index }) => index), [0, 1, 2, 3]);
        for (const port of ports) port.open();
        assertEquals(await Promise.all(ports.map((port) => port.waitPeer(4000))), [true, true, true, true]);
        const texts = await Promise.all(ports.map(async (port, index) => {
          const [, read] = await Promise.all([port.write(pattern(100, index), 4000), readAll(port, 100)]);
          return read;
        }));
        assertEquals(texts, ports.map((_, index) => pattern(100, index)));
      }
    });
  }
});

Deno.test("5.3.6.2 several ports: added, named, opened at both ends, 1 MiB on each at once, closed by the peer, opened by another", async () => {
  const names = ["tty", "agent", "org.example.2"];
  await withConsole(
    { ports: 3, portNames: names, peer: "socket", cols: 100, rows: 30 },
    async (transport, host) => {
      await using console = await VirtioConsole.open(transport);
      const changes: string[] = [];
      console.onPortChange((change, port) => changes.push(`${change} ${port.index}`));
      assertEquals([console.multiport, console.maxPorts], [true, 3]);
      const ports = await Promise.all([0, 1, 2].map((index) => console.waitPort(index, 10_000)));
      while (ports.some((port) => port.name === "")) assert(await console.waitChange(10_000));
      assertEquals(ports.map((port) => port.name), names);
      assertEquals(ports.map((port) => [port.isConsole, port.opened, port.peerOpen]), [
        [true, true, false],
        [false, false, false],
        [false, false, false],
      ]);
      assertEquals(ports[0]!.size, { cols: 100, rows: 30 });
      await assertRejects(() => ports[1]!.read(), UsageError, "not open at this end");
      await assertRejects(() => ports[0]!.write(pattern(10, 1), 50), TimeoutError, "the peer is not there");

      const peers = [0, 1, 2].map((index) => UnixSocket.connect(`${host.directory}/${CONSOLE}.port${index}`));
      await Promise.all(ports.map(async (port, index) => {
        port.open();
        assert(await port.waitPeer(10_000));
        const out = pattern(MIB, 100 + index), back = pattern(MIB, 200 + index);
        const [heard, read] = await Promise.all([
          receive(peers[index]!, MIB),
          readAll(port, MIB),
          port.write(out, 20_000),
          send(peers[index]!, back),
        ]);
        assertEquals(await hash(heard), await hash(out));
        assertEquals(await hash(read), await hash(back));
      }));

      await send(peers[1]!, pattern(20_000, 3));
      peers[1]!.close();
      const rest: number[] = [];
      for await (const bytes of ports[1]!) rest.push(...bytes);
      assertEquals(Uint8Array.from(rest), pattern(20_000, 3));
      assertEquals(ports[1]!.peerOpen, false);
      assertEquals(await ports[1]!.read(), undefined);
      using again = UnixSocket.connect(`${host.directory}/${CONSOLE}.port1`);
      assert(await ports[1]!.waitPeer(10_000));
      await ports[1]!.write(pattern(100, 9), 10_000);
      assertEquals(await receive(again, 100), pattern(100, 9));

      ports[2]!.hangUp();
      await assertRejects(() => ports[2]!.read(10), UsageError, "not open");
      await send(peers[2]!, pattern(50, 4));
      assertEquals(ports[2]!.counts.received, MIB);
      ports[2]!.open();
      assertEquals(await readAll(ports[2]!, 50), pattern(50, 4));
      for (const peer of peers) peer.close();
      for (
        const change of [
          "added 0",
          "added 1",
          "added 2",
          "console 0",
          "resized 0",
          "named 2",
          "peer-opened 0",
          "peer-closed 1",
        ]
      ) {
        assert(changes.includes(change), `${change} is missing: ${changes}`);
      }
      assertEquals(changes.filter((one) => one === "peer-opened 1").length, 2);
    },
  );
});

Deno.test("a peer that does not read holds the writer back; what it reads then is whole", async () => {
  await withConsole({ peer: "socket", ports: 2 }, async (transport, host) => {
    await using console = await VirtioConsole.open(transport);
    const port = await console.waitPort(1, 10_000);
    port.open();
    using peer = UnixSocket.connect(`${host.directory}/${CONSOLE}.port1`);
    assert(await port.waitPeer(10_000));
    const bytes = pattern(4 * MIB, 55);
    const error = await assertRejects(() => port.write(bytes, 300), TimeoutError, "does not read");
    const sent = port.counts.sent;
    assert(error.message.includes(`${sent} of ${bytes.length} bytes`), error.message);
    assertEquals(await receive(peer, sent), bytes.slice(0, sent));
    await port.write(bytes.subarray(0, 1000), 10_000);
    assertEquals(await receive(peer, 1000), bytes.slice(0, 1000));
  });
});

Deno.test("MULTIPORT refused, or fewer ports wanted than there are", async () => {
  await withConsole({ ports: 4 }, async (transport) => {
    {
      await using console = await VirtioConsole.open(transport, { multiport: false });
      assertEquals([console.multiport, console.maxPorts], [false, 1]);
      const port = await console.waitPort(0);
      await port.write(pattern(100, 1));
      assertEquals(await readAll(port, 100), pattern(100, 1));
      await assertRejects(() => console.waitPort(1), UsageError, "no port 1");
    }
    await using console = await VirtioConsole.open(transport, { interrupts: "none" });
    const port = await console.waitPort(3, 10_000);
    port.open();
    assert(await port.waitPeer(10_000));
    await port.write(pattern(100, 1), 10_000);
    assertEquals(await readAll(port, 100), pattern(100, 1));
  });
});

Deno.test("5.3.5.1 emergency write: before there is a driver, while it runs, and after its rings broke", async () => {
  await using served = await TopologyHost.start([
    { address: CONSOLE, kind: "virtio-console", peer: "socket", lie: "used-index-jump:1" },
  ]);
  using reached = served.reach(CONSOLE);
  using peer = UnixSocket.connect(`${served.directory}/${CONSOLE}.port0`);
  // Taken by the machine's loop in its own time; before that the byte would be lost.
  const got = receive(peer, 1);
  while (await Promise.race([got, new Promise((resolve) => setTimeout(resolve, 20))]) === undefined) {
    emergencyWrite(reached.transport, 0x41);
  }
  assertEquals(await got, Uint8Array.of(0x41));
  await using console = await VirtioConsole.open(reached.transport, { packed: false, inOrder: false });
  const port = await console.waitPort(0);
  console.emergencyWrite(0x42);
  while ((await receive(peer, 1))[0] === 0x41);
  await assertRejects(async () => {
    for (let i = 0; i < 10; i++) {
      await port.write(Uint8Array.of(0x43));
      await port.drain(10_000);
    }
  }, DeviceError);
  console.emergencyWrite(0x44);
  while ((await receive(peer, 1))[0] !== 0x44);
  assertThrows(() => console.emergencyWrite(256), UsageError);
  assertThrows(() => console.emergencyWrite(-1), UsageError);
});

for (
  const [lie, field] of [
    ["used-id-out-of-range", "used.id"],
    ["used-length-over", "used.len"],
    ["used-not-in-flight", "used.id"],
    ["used-index-jump", "used.idx"],
  ] as const
) {
  Deno.test(`lie ${lie}: a DeviceError naming queue and field, and reset goes on`, async () => {
    await using served = await TopologyHost.start([{
      address: CONSOLE,
      kind: "virtio-console",
      lie: `${lie}:4`,
    }]);
    using reached = served.reach(CONSOLE);
    await using console = await VirtioConsole.open(reached.transport, { packed: false, inOrder: false });
    const port = await console.waitPort(0);
    const error = await assertRejects(async () => {
      for (let i = 0; i < 20; i++) {
        await port.write(pattern(10, 1), 10_000);
        await readAll(port, 10);
      }
    }, DeviceError);
    assertEquals([error.location.function, error.location.field], [CONSOLE, field]);
    await console.reset();
    assertThrows(() => port.tryWrite(pattern(1, 1)), ClosedError);
    const fresh = await console.waitPort(0);
    await fresh.write(pattern(1000, 1));
    assertEquals(await readAll(fresh, 1000), pattern(1000, 1));
  });
}

Deno.test("close and reset under waits: ClosedErrors, nothing leaks; sockets are gone with the host", async () => {
  let path = "";
  await withConsole({ ports: 2, peer: "socket" }, async (transport, host) => {
    path = `${host.directory}/${CONSOLE}.port1`;
    assert(accessible(path));
    const console = await VirtioConsole.open(transport);
    const port = await console.waitPort(1, 10_000);
    port.open();
    // A late message about the other port ends one wait for changes, so wait again until reset ends it.
    const changes = async (): Promise<never> => {
      for (;;) await console.waitChange(60_000);
    };
    const waits = [port.read(), port.write(pattern(10, 1)), changes()];
    const outcomes = Promise.allSettled(waits);
    await new Promise((resolve) => setTimeout(resolve, 20));
    await console.reset();
    const failed = (await outcomes).map((one) =>
      one.status === "rejected" && one.reason instanceof ClosedError
    );
    assertEquals(failed, [true, true, true]);
    assertEquals(port.closed, true);
    const again = await console.waitPort(1, 10_000);
    again.open();
    const late = again.read();
    console.close();
    await assertRejects(() => late, ClosedError);
    await console.settled;
    await assertRejects(() => console.waitPort(0), ClosedError);
    assertThrows(() => console.emergencyWrite(1), ClosedError);
    assertThrows(() => again.open(), ClosedError);
    console.close();
  });
  assertEquals(accessible(path), false);
});
