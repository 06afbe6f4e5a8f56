import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UnsupportedError, UsageError } from "../../../../../lib/errors/mod.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { ConsoleModel, type ConsoleModelOptions } from "../../../../../lib/emulation/virtio/console/model.ts";
import { PciView } from "../../../../../lib/emulation/virtio/views/pci/view.ts";
import { CONSOLE_FEATURE, FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { FakeFunction } from "../fake_machine.ts";

const RULES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;
const DEVICE_CONFIG = 0x2000;

/** A driver of a console that knows its messages by their bytes. */
class Driver implements Disposable {
  readonly model: ConsoleModel;
  readonly fn: FakeFunction;
  readonly #posted = new Map<number, Map<number, number>>();

  constructor(options: ConsoleModelOptions, features = CONSOLE_FEATURE.MULTIPORT | CONSOLE_FEATURE.SIZE) {
    this.model = new ConsoleModel(options);
    const front = new PciView(this.model);
    this.fn = new FakeFunction(front, "0000:04:00.0", 2 << 20);
    this.fn.bringUp((RULES | features) & front.core.offered, this.model.queueSizes.map((_, i) => i), 32);
  }

  post(queue: number, count: number, length = 64): void {
    const { client } = this.fn;
    const ring = this.fn.rings.get(queue)!;
    const posted = this.#posted.get(queue) ?? new Map<number, number>();
    this.#posted.set(queue, posted);
    for (let i = 0; i < count; i++) {
      const at = client.allocate(length);
      posted.set(ring.add([{ iova: client.at(at), length, write: true }]), at);
    }
    ring.publish();
  }

  send(queue: number, bytes: readonly number[], cuts: readonly number[] = []): void {
    const { client } = this.fn;
    let from = 0;
    const parts = [...cuts, bytes.length].map((to) => {
      const at = client.allocate(to - from, 1);
      client.bytes.set(bytes.slice(from, to), at);
      const part = { iova: client.at(at), length: to - from };
      from = to;
      return part;
    });
    this.fn.rings.get(queue)!.add(parts);
    this.fn.rings.get(queue)!.publish();
  }

  /** A control message. */
  control(port: number, event: number, value: number): void {
    this.send(3, [port & 0xff, port >> 8 & 0xff, 0, 0, event, 0, value, 0], [3]);
  }

  /** What came into a queue. */
  received(queue: number): number[][] {
    this.fn.run();
    return this.fn.rings.get(queue)!.takeUsed().map(({ id, length }) => {
      const at = this.#posted.get(queue)!.get(id)!;
      return [...this.fn.client.bytes.slice(at, at + length)];
    });
  }

  [Symbol.dispose](): void {
    this.fn[Symbol.dispose]();
  }
}

const text = (name: string) => [...new TextEncoder().encode(name)];

Deno.test("5.3 identity, queues, config", () => {
  using one = new Driver({ cols: 0x1234, rows: 0x5678 });
  assertEquals(one.fn.behaviour.identity.deviceId, 0x1043);
  assertEquals(one.fn.read(18, 2), 2);
  assertEquals(one.fn.read(DEVICE_CONFIG, 4), 0x5678_1234);
  using three = new Driver({ ports: 3 });
  assertEquals(three.fn.read(18, 2), 8);
  assertEquals(three.fn.read(DEVICE_CONFIG + 4, 4), 3);
});

Deno.test("5.3.6.2 DEVICE_READY: every port is added; PORT_READY: console, size, name and open, in this order", () => {
  using t = new Driver({ ports: 2, portNames: ["tty", "agent"], cols: 80, rows: 25 });
  t.post(2, 16);
  assertEquals(t.received(2), []);
  t.control(0, 0, 1);
  assertEquals(t.received(2), [[0, 0, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0]]);
  t.control(0, 3, 1);
  assertEquals(t.received(2), [
    [0, 0, 0, 0, 4, 0, 1, 0],
    [0, 0, 0, 0, 5, 0, 0, 0, 80, 0, 25, 0],
    [0, 0, 0, 0, 7, 0, 1, 0, ...text("tty")],
    [0, 0, 0, 0, 6, 0, 1, 0],
  ]);
  t.control(1, 3, 1);
  assertEquals(t.received(2), [[1, 0, 0, 0, 7, 0, 1, 0, ...text("agent")], [1, 0, 0, 0, 6, 0, 1, 0]]);
  t.model.resize(100, 50);
  assertEquals(t.received(2), [[0, 0, 0, 0, 5, 0, 0, 0, 100, 0, 50, 0]]);
  assertEquals(t.fn.port.take(), []);
});

Deno.test("ports come and go while the driver runs; what is said of one that went is no mistake", () => {
  using t = new Driver({ ports: 2 });
  t.post(2, 16);
  t.control(0, 0, 1);
  t.received(2);
  t.model.removePort(1);
  assertEquals(t.received(2), [[1, 0, 0, 0, 2, 0, 0, 0]]);
  t.control(1, 3, 1);
  assertEquals(t.received(2), []);
  assertThrows(() => t.model.removePort(1), UsageError);
  t.model.addPort(1);
  assertEquals(t.received(2), [[1, 0, 0, 0, 1, 0, 0, 0]]);
  assertThrows(() => t.model.addPort(1), UsageError);
  assertThrows(() => t.model.addPort(2), UsageError);
  assertEquals(t.fn.port.take(), []);
});

Deno.test("5.3.6.2 PORT_READY alone, as Linux sends it after a restore: the ports work as before the reset, and it is reported", () => {
  using t = new Driver({ ports: 3, portNames: ["tty", "agent"] });
  t.post(2, 16);
  t.control(0, 3, 1);
  t.control(1, 3, 1);
  assertEquals(t.received(2).map(([port, , , , event]) => [port, event]), [
    [0, 4],
    [0, 5],
    [0, 7],
    [0, 6],
    [1, 7],
    [1, 6],
  ]);
  const reports = t.fn.port.take();
  assertEquals(reports.length, 2, reports.join("\n"));
  assertStringIncludes(reports[0]!, "PORT_READY for port 0 without DEVICE_READY");
  t.control(1, 6, 1);
  t.post(4, 1);
  t.send(5, text("hello"));
  assertEquals(t.received(4), [text("hello")]);
  // One that the driver does not speak of is not there for it; one that is plugged in now is told of.
  t.model.removePort(2);
  assertEquals(t.received(2), []);
  t.model.addPort(2);
  assertEquals(t.received(2), [[2, 0, 0, 0, 1, 0, 0, 0]]);
  assertEquals(t.fn.port.take(), []);
});

Deno.test("nothing is delivered to a port that the driver has not opened; the data waits", () => {
  using t = new Driver({ ports: 2 });
  t.post(2, 16);
  t.control(0, 0, 1);
  t.control(1, 3, 1);
  t.received(2);
  t.post(4, 4);
  t.send(5, text("hello"), [1, 3]);
  assertEquals(t.received(4), []);
  t.control(1, 6, 1);
  assertEquals(t.received(4), [text("hello")]);
  t.control(1, 6, 0);
  t.send(5, text("again"));
  assertEquals(t.received(4), []);
});

Deno.test("loopback: bytes in order over buffers of any size", () => {
  using t = new Driver({});
  const bytes = Array.from({ length: 3000 }, (_, i) => i * 7 & 0xff);
  for (let at = 0; at < 3000; at += 300) t.send(1, bytes.slice(at, at + 300), [1, 130]);
  t.fn.run();
  assertEquals(t.fn.rings.get(1)!.takeUsed().length, 10);
  const got: number[] = [];
  while (got.length < 3000) {
    t.post(0, 5, 97);
    got.push(...t.received(0).flat());
  }
  assertEquals(got, bytes);
});

Deno.test("loopback: 65,536 bytes are held, the rest stays in the ring until something reads; a reset forgets", () => {
  using t = new Driver({});
  const large = 40_000;
  t.send(1, new Array<number>(large).fill(5));
  t.send(1, new Array<number>(large).fill(6));
  t.fn.run();
  assertEquals(t.fn.rings.get(1)!.takeUsed().length, 1, "65,536 bytes are held; the rest stays in the ring");
  t.post(0, 1, large);
  assertEquals(t.received(0).flat().length, large);
  assertEquals(t.fn.rings.get(1)!.takeUsed().length, 1);
  t.fn.status = 0;
  assertEquals(t.model.ports[0]!.peer.readable, false);
});

Deno.test("5.3.6.1 buffers of the wrong direction stop the device; control messages that cannot be are reported", () => {
  {
    using t = new Driver({});
    t.post(1, 1);
    t.fn.run();
    assertStringIncludes(t.fn.port.take()[0]!, "a transmit buffer is device-writable");
    assertEquals(t.fn.status, 15 | 64);
  }
  {
    using t = new Driver({});
    t.send(0, [1]);
    t.send(1, [1]);
    t.fn.run();
    assertStringIncludes(t.fn.port.take()[0]!, "a receive buffer is device-readable");
  }
  using t = new Driver({ ports: 2 });
  t.send(3, [0, 0, 0, 0, 0, 0, 1]);
  t.control(0, 0, 1);
  t.control(7, 3, 1);
  t.control(0, 3, 0);
  t.control(0, 4, 1);
  t.fn.run();
  const reports = t.fn.port.take();
  assertEquals(reports.length, 4, reports.join("\n"));
  ["message of 7 bytes", "event 3 for port 7", "could not set port 0 up", "event 4 is not"].forEach((
    part,
    i,
  ) => assertStringIncludes(reports[i]!, part));
  t.post(2, 1, 4);
  t.fn.run();
  assertStringIncludes(t.fn.port.take()[0]!, "a buffer of 4");
});

Deno.test("emerg_wr is taken before FEATURES_OK, and shows at port 0", () => {
  using t = new Driver({});
  t.fn.status = 0;
  t.fn.write(DEVICE_CONFIG + 8, 4, 0x1241);
  assertEquals(t.fn.port.take(), []);
  const into = new Uint8Array(4);
  assertEquals([t.model.ports[0]!.peer.read(into), into[0]], [1, 0x41]);
  t.fn.write(DEVICE_CONFIG, 4, 1);
  assertEquals(t.fn.port.take().length, 1);
});

Deno.test("options that cannot be", () => {
  for (
    const options of [
      { ports: 0 },
      { ports: 65 },
      { portNames: ["a", "b"] },
      { cols: 70_000 },
      { queueSize: 3 },
      { peer: "socket" },
      { portNames: ["x".repeat(65)] },
    ] as const
  ) {
    const place = { address: "0000:01:00.0" };
    assertThrows(
      () => createVirtioModels().createBehaviour("virtio-console", { ...place, ...options }),
      UsageError,
    );
  }
  assertThrows(
    () => new Driver({ peer: "socket", directory: "/tmp" }),
    UnsupportedError,
    "waits for sockets",
  );
});
