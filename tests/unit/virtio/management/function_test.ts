import { assert, assertEquals, assertThrows } from "@std/assert";
import { EventFd } from "../../../../ffi/mod.ts";
import { FunctionMsi, FunctionNotifyAreas } from "../../../../drivers/management/virtio_management.ts";
import { DeviceError, ExhaustedError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { MessageVectors } from "../../../../lib/vfio/msi_addresses.ts";
import { FakeFunction } from "../fake_function.ts";

/** A function that notes what is written into its BARs. */
class Written extends FakeFunction {
  /** BAR, offset, value, bytes. */
  readonly writes: [number, number, number, number][] = [];
  override writeRegion(index: number, offset: number, from: Uint8Array<ArrayBuffer>): void {
    const value = from.reduceRight((sum, byte) => sum * 256 + byte, 0);
    this.writes.push([index, offset, value, from.length]);
  }
}

/** With BAR 2 at 0xe0000000 and a 64-bit BAR 4 at 0x38_0000_0000. */
function placed(): Written {
  const device = new Written();
  const view = new DataView(device.config.buffer);
  view.setUint32(0x18, 0xe000_0000, true);
  view.setUint32(0x20, 0x4, true);
  view.setUint32(0x24, 0x38, true);
  return device;
}

Deno.test("A-4.28: a notify address is looked up in the BARs of the management function; 16 bits are written", () => {
  const device = placed();
  using areas = new FunctionNotifyAreas(device);
  areas.doorbell({ address: 0xe000_0ffen, sizeBytes: 2n }, 3, "fn/1").write(3);
  areas.doorbell({ address: 0x38_0000_3010n, sizeBytes: 0x1000n }, 0x102, "fn/1").write(0x102);
  assertEquals(device.writes, [[2, 0xffe, 3, 2], [4, 0x3010, 0x102, 2]]);
});

Deno.test("A-4.28: an address elsewhere says where it is, and who can help; one that cannot be is the device's fault", () => {
  using areas = new FunctionNotifyAreas(placed());
  for (const address of [0x1000n, 0xe000_1000n, 0x38_0000_4000n, (1n << 64n) - 2n]) {
    const error = assertThrows(
      () => areas.doorbell({ address, sizeBytes: 2n }, 3, "fn/1"),
      UnsupportedError,
      `fn/1, queue 3: notified at 0x${address.toString(16)}, which is in no BAR of 0000:0a:00.0`,
    );
    assert(error.hint.includes("notifyAreas"));
  }
  for (const area of [{ address: 0xe000_0001n, sizeBytes: 2n }, { address: 0xe000_0000n, sizeBytes: 1n }]) {
    const error = assertThrows(() => areas.doorbell(area, 3, "fn/1"), DeviceError);
    assertEquals(error.location, { function: "fn/1", queue: 3, field: "VQ_NOTIFY_GET" });
  }
});

Deno.test("a BAR that has no address is not looked in", () => {
  using areas = new FunctionNotifyAreas(new FakeFunction());
  assertThrows(() => areas.doorbell({ address: 0x10n, sizeBytes: 2n }, 0, "fn/1"), UnsupportedError);
});

Deno.test("N-4.12: MSIs of managed devices are vectors of the function beyond its own, given back when they are disposed of", () => {
  const device = placed();
  const msi = new FunctionMsi(device, 2);
  assertEquals([msi.available, msi.lack], [2, undefined]);
  const given = new EventFd();
  const first = msi.allot(given), second = msi.allot();
  assertEquals([first.address, first.data, second.data, msi.available], [0xfee0_0000n, 2, 3, 0]);
  assertEquals(first.eventFd, given);
  assertThrows(() => msi.allot(), ExhaustedError, "all 4 vectors");
  const refused = new EventFd();
  assertThrows(() => msi.allot(refused), ExhaustedError);
  assertEquals(refused.closed, true);
  const taken = device.irqs.length;
  assertThrows(() => msi.allot(null as never), UsageError, "allot: eventFd");
  assertEquals(device.irqs.length, taken);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  assertEquals([given.closed, msi.available], [true, 1]);
  assertEquals(device.irqs, [
    { index: 2, action: "trigger", start: 2, eventFds: [given] },
    { index: 2, action: "trigger", start: 3, eventFds: [second.eventFd] },
    { index: 2, action: "trigger", start: 2, eventFds: [null] },
  ]);
  using again = msi.allot();
  assertEquals(again.data, 2);
  second[Symbol.dispose]();
});

Deno.test("vectors are not searched through: as many questions and calls for each of thousands, also when they are given back in another order", () => {
  const COUNT = 2046;
  const device = placed();
  let asked = 0;
  device.irqInfo = (index) => {
    asked++;
    return { index, flags: 1, count: 2 + COUNT };
  };
  const setIrqs = device.setIrqs.bind(device);
  const calls: number[] = [];
  device.setIrqs = (request) => {
    setIrqs(request);
    calls.push(asked);
  };
  const msi = new FunctionMsi(device, 2);
  for (let round = 0; round < 2; round++) {
    const messages = Array.from({ length: COUNT }, () => msi.allot());
    assertEquals(new Set(messages.map(({ data }) => data)).size, COUNT);
    assertEquals(Math.max(...messages.map(({ data }) => data)), COUNT + 1);
    assertEquals(msi.available, 0);
    // Every third first.
    for (const rest of [0, 1, 2]) messages.forEach((one, at) => at % 3 === rest && one[Symbol.dispose]());
    assertEquals(msi.available, COUNT);
  }
  assertEquals(calls.length, 4 * COUNT);
  assert(asked <= 2 * COUNT + 4, `${asked} questions`);
});

Deno.test("N-4.12: kernel VFIO gives no address for an MSI: there are none, and the error says so", () => {
  const msi = new FunctionMsi(Object.assign(placed(), { path: "cdev" as "vfio-user" }), 2);
  assertEquals(msi.available, 0);
  assert(msi.lack!.includes("kernel VFIO gives no address"));
  assertThrows(() => msi.allot(), UnsupportedError, "poll instead");
  assertThrows(() => new FunctionMsi(placed(), -1), UsageError);
});

Deno.test("messages of a caller's that cannot be read are given back, all of them", () => {
  let disposed = 0;
  const vectors = new MessageVectors({
    available: 3,
    allot: () => ({
      get eventFd(): EventFd {
        throw new UnsupportedError("unreadable");
      },
      address: 1n,
      data: 1,
      [Symbol.dispose]: () => void disposed++,
    }),
  }, "fake 0/7");
  assertThrows(() => vectors.allot(3), UnsupportedError, "unreadable");
  assertEquals([disposed, vectors.messages.length], [3, 0]);
});
