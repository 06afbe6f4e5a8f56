import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { emergencyWrite, VirtioConsole } from "../../../../drivers/console/virtio_console.ts";
import { mappingCount, openFdCount } from "../../../../ffi/mod.ts";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import { ConsolePort } from "../../../../drivers/console/port.ts";
import type { PortBuffers } from "../../../../drivers/console/port_buffers.ts";
import { Waiter } from "../../../../lib/wait/waiter.ts";
import { FakeTransport } from "../../virtio/transport/fake_transport.ts";
import { ModelConsole } from "./model_console.ts";

const ADD = 1, REMOVE = 2, READY = 3, CONSOLE = 4, RESIZE = 5, OPEN = 6, NAME = 7;
const text = (name: string) => [...new TextEncoder().encode(name)];

Deno.test("5.3.6.2 DEVICE_READY first; PORT_READY for each port; CONSOLE_PORT is answered with PORT_OPEN 1", async () => {
  const model = new ModelConsole();
  await using console = await VirtioConsole.open(model.transport);
  assertEquals(model.heard, [[0, 0, 1]]);
  model.control(1, ADD);
  const port = await console.waitPort(1, 1000);
  assertEquals(model.heard.splice(1), [[1, READY, 1]]);
  model.control(1, NAME, 1, [...text("with a NUL"), 0]);
  model.control(1, CONSOLE, 1);
  model.control(1, RESIZE, 0, [100, 0, 0x2c, 1]);
  model.control(1, OPEN, 1);
  // Nothing that this driver knows.
  model.control(1, 200, 1);
  assert(await console.waitChange(1000));
  assertEquals(model.heard.splice(1), [[1, OPEN, 1]]);
  assertEquals([port.name, port.isConsole, port.opened, port.peerOpen, port.size], [
    "with a NUL",
    true,
    true,
    true,
    { cols: 100, rows: 300 },
  ]);
  port.hangUp();
  assertEquals(model.heard.splice(1), [[1, OPEN, 0]]);
  assertEquals(console.ports, [port]);
  model.transport.close();
});

Deno.test("a port that is pulled out ends its waits; plugged in again it has the same buffers and none of the old bytes", async () => {
  const model = new ModelConsole();
  await using console = await VirtioConsole.open(model.transport);
  model.control(2, ADD);
  const port = await console.waitPort(2, 1000);
  port.open();
  const reading = port.read();
  const writing = port.write(Uint8Array.of(1));
  const outcome = Promise.allSettled([reading, writing]);
  await new Promise((resolve) => setTimeout(resolve, 5));
  model.say(6, text("old"));
  model.control(2, REMOVE);
  const ended = await outcome;
  assert(
    ended.every((one) => one.status === "fulfilled" || one.reason instanceof ClosedError),
    JSON.stringify(ended),
  );
  assertEquals(ended[1]!.status, "rejected");
  assertEquals([port.closed, console.ports], [true, []]);
  assertThrows(() => port.tryRead(new Uint8Array(1)), ClosedError);
  model.say(6, text("old, too"));
  model.control(2, ADD);
  const again = await console.waitPort(2, 1000);
  assert(again !== port);
  again.open();
  assertEquals(again.tryRead(new Uint8Array(100)), 0);
  model.say(6, text("new"));
  assertEquals(await again.read(1000), new TextEncoder().encode("new"));
  // All sixteen buffers are with the device.
  for (let i = 0; i < 16; i++) model.say(6, [i]);
  assertEquals(await again.read(1000), Uint8Array.from({ length: 16 }, (_, i) => i));
  model.transport.close();
});

for (
  const [what, lie, message, field] of [
    [
      "a port added twice",
      (m: ModelConsole) => [m.control(0, ADD), m.control(0, ADD)],
      "added twice",
      "control",
    ],
    ["a port beyond the last", (m: ModelConsole) => m.control(3, ADD), "max_nr_ports is 3", "control"],
    [
      "a port number of 2^32 − 1",
      (m: ModelConsole) => m.control(0xffff_ffff, OPEN, 1),
      "4294967295",
      "control",
    ],
    ["a port that is not there", (m: ModelConsole) => m.control(1, OPEN, 1), "not there", "control"],
    ["removed and never added", (m: ModelConsole) => m.control(1, REMOVE), "not there", "control"],
    ["a short message", (m: ModelConsole) => m.say(2, [0, 0, 0, 0, 1, 0, 0]), "7 bytes", "used.len"],
    [
      "a short resize",
      (m: ModelConsole) => [m.control(0, ADD), m.control(0, RESIZE, 0, [1, 0, 1])],
      "3 bytes of size",
      "control",
    ],
  ] as const
) {
  Deno.test(`lie: ${what}: a DeviceError, again and again, and reset goes on`, async () => {
    const model = new ModelConsole();
    await using console = await VirtioConsole.open(model.transport);
    lie(model);
    const error = await assertRejects(() => console.waitChange(1000), DeviceError, message);
    assertEquals(error.location, { function: "fake 0", queue: 2, field });
    assertEquals(await assertRejects(() => console.waitPort(2, 10), DeviceError), error);
    await console.reset();
    model.control(2, ADD);
    assertEquals((await console.waitPort(2, 1000)).index, 2);
    model.transport.close();
  });
}

Deno.test("config that cannot be: more ports than queues, none at all, a config space that ends too early", async () => {
  const many = new Uint8Array(12);
  new DataView(many.buffer).setUint32(4, 0x8000_0000, true);
  for (const config of [many, new Uint8Array(12), new Uint8Array(4)]) {
    const before = [openFdCount(), mappingCount().mappings];
    const model = new ModelConsole(3, { config });
    const error = await assertRejects(() => VirtioConsole.open(model.transport), DeviceError);
    assertEquals(error.location.field, "max_nr_ports");
    model.transport.close();
    assertEquals([openFdCount(), mappingCount().mappings], before);
  }
});

Deno.test("ports that no queues were set up for are answered with PORT_READY 0, and then not heard of", async () => {
  const model = new ModelConsole();
  await using console = await VirtioConsole.open(model.transport, { maxPorts: 1 });
  model.control(0, ADD);
  model.control(2, ADD);
  model.control(2, OPEN, 1);
  await console.waitChange(1000);
  assertEquals(model.heard, [[0, 0, 1], [0, READY, 1], [2, READY, 0]]);
  assertEquals(console.ports.map((port) => port.index), [0]);
  model.transport.close();
});

Deno.test("SIZE of port 0 changes with the config space", async () => {
  const model = new ModelConsole(1, { features: 1n << 32n | 1n });
  await using console = await VirtioConsole.open(model.transport);
  const port = await console.waitPort(0);
  assertEquals(port.size, { cols: 80, rows: 25 });
  const changes: string[] = [];
  console.onPortChange((change) => changes.push(change));
  model.transport.config[0] = 132;
  model.transport.generation++;
  model.transport.interrupt(null);
  console.service();
  assertEquals([port.size, changes], [{ cols: 132, rows: 25 }, ["resized"]]);
  model.transport.close();
});

Deno.test("writes wait for the peer, and for buffers; reads and writes keep their order; TimeoutErrors say why", async () => {
  const model = new ModelConsole();
  await using console = await VirtioConsole.open(model.transport, { bufferBytes: 4 });
  model.control(0, ADD);
  const port = await console.waitPort(0, 1000);
  port.open();
  assertEquals(port.tryWrite(Uint8Array.of(1)), 0);
  await assertRejects(() => port.write(Uint8Array.of(1), 10), TimeoutError, "is not there");
  const first = port.write(Uint8Array.from({ length: 10 }, (_, i) => i), 1000);
  const second = port.write(Uint8Array.of(10, 11), 1000);
  model.control(0, OPEN, 1);
  await Promise.all([first, second]);
  assertEquals(model.sent.get(1), Array.from({ length: 12 }, (_, i) => i));
  model.takeSent = false;
  await assertRejects(
    () => port.write(new Uint8Array(100), 10),
    TimeoutError,
    "64 of 100 bytes, the peer does not read",
  );
  await assertRejects(() => port.drain(10), TimeoutError, "not everything");
  const reads = [port.read(1000, 2), port.read(1000, 1), port.read(1000)];
  model.say(0, [1, 2, 3, 4]);
  assertEquals((await Promise.all(reads)).map((one) => [...one!]), [[1, 2], [3], [4]]);
  model.say(0, [5]);
  model.control(0, OPEN, 0);
  assertEquals([...(await port.read(1000))!], [5]);
  assertEquals(await port.read(), undefined);
  await assertRejects(() => port.read(10, 0), UsageError);
  model.transport.close();
});

Deno.test("a write to a peer that has left times out, also while the device still gives buffers back", async () => {
  const model = new ModelConsole();
  await using console = await VirtioConsole.open(model.transport);
  model.control(0, ADD);
  model.control(0, OPEN, 1);
  const port = await console.waitPort(0, 1000);
  port.open();
  await port.write(Uint8Array.of(1), 1000);
  model.control(0, OPEN, 0);
  await assertRejects(
    () => port.write(Uint8Array.of(2), 10),
    TimeoutError,
    "0 of 1 bytes, the peer is not there",
  );
  model.transport.close();
});

Deno.test("buffers that come back just before a write would wait are used: nothing else would end the wait", async () => {
  using waiter = new Waiter({ mode: "poll" });
  const silent = { hasUsed: () => false, suppressInterrupts: () => {}, enableInterrupts: () => false };
  let free = 0;
  const taken: number[] = [];
  const buffers = {
    receiveQueue: silent,
    transmitQueue: silent,
    readable: false,
    closed: false,
    write: (bytes: Uint8Array) => {
      const count = Math.min(free, bytes.length);
      taken.push(count);
      free -= count;
      return count;
    },
    // All of them at once, after `write` has looked.
    reclaim: () => free = 3,
  } as unknown as PortBuffers;
  const port = new ConsolePort(0, {
    name: "fake 0",
    waiter,
    control: undefined,
    service: () => {},
    handled: 0,
    checkAlive: () => {},
  }, buffers);
  await port.write(new Uint8Array(7), 50);
  assertEquals(taken, [0, 3, 0, 3, 0, 1]);
});

Deno.test("what came before a lie is read; the lie is thrown after it", async () => {
  const model = new ModelConsole(1, { features: 1n << 32n });
  await using console = await VirtioConsole.open(model.transport);
  const port = await console.waitPort(0);
  const ring = model.transport.ring(0);
  const chain = ring.pop()!;
  model.transport.iommu.at(chain.parts[0]!.iova, 2, true).setUint16(0, 0x4241, true);
  ring.fill(chain.head, 2);
  ring.push(99, 1);
  assertEquals(await port.read(1000), Uint8Array.of(0x41, 0x42));
  const error = await assertRejects(() => port.read(1000), DeviceError);
  assertEquals(error.location, { function: "fake 0", queue: 0, field: "used.id" });
  model.transport.close();
});

Deno.test("silence of a device that stopped is an error, also where other work has used up the time before the wait begins", async () => {
  const model = new ModelConsole();
  await using console = await VirtioConsole.open(model.transport);
  model.control(1, ADD);
  const port = await console.waitPort(1, 1000);
  port.open();
  model.transport.status |= 64;
  for (const timeoutMs of [5, 1e-9]) {
    await assertRejects(() => port.read(timeoutMs), DeviceError, "DEVICE_NEEDS_RESET");
    await assertRejects(() => port.write(Uint8Array.of(1), timeoutMs), DeviceError, "DEVICE_NEEDS_RESET");
  }
  // A mere look costs no register access.
  assertEquals(await port.read(0), undefined);
  model.transport.close();
});

Deno.test("no console, no emergency write, ports that cannot be; after close everything is a ClosedError, nothing leaks", async () => {
  const before = [openFdCount(), mappingCount().mappings];
  {
    using other = new FakeTransport({ deviceId: 1 });
    await assertRejects(() => VirtioConsole.open(other), UnsupportedError, "no console");
    assertThrows(() => emergencyWrite(other, 1), UnsupportedError);
  }
  const model = new ModelConsole(2, { features: 1n << 32n | 2n });
  const console = await VirtioConsole.open(model.transport, { interrupts: "none" });
  assertThrows(() => console.emergencyWrite(1), UnsupportedError, "EMERG_WRITE");
  await assertRejects(() => console.waitPort(2), UsageError, "no port 2");
  await assertRejects(() => console.waitPort(-1), UsageError);
  await assertRejects(() => console.waitPort(1, 5), TimeoutError, "did not come");
  const waiting = console.waitPort(1);
  const outcome = assertRejects(() => waiting, ClosedError);
  console.close();
  await outcome;
  assertThrows(() => console.ports, ClosedError);
  assertThrows(() => console.service(), ClosedError);
  console.close();
  await console.settled;
  model.transport.close();
  assertEquals([openFdCount(), mappingCount().mappings], before);
});
