/** Register windows that cannot be trusted: typed errors, and a driver that is usable after a reset. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { openFdCount } from "../../../../../ffi/mod.ts";
import { DeviceError, RingsideError, TimeoutError, UnsupportedError } from "../../../../../lib/errors/mod.ts";
import { VirtioDevice } from "../../../../../lib/virtio/device.ts";
import { bindInterrupts } from "../../../../../lib/virtio/interrupts.ts";
import { openMmio } from "../../../../../lib/virtio/transport/mmio/open.ts";
import type { MmioOptions } from "../../../../../lib/virtio/transport/mmio/transport.ts";
import type { VirtioTransport } from "../../../../../lib/virtio/transport/transport.ts";
import { campaign, Random, rounds } from "../../../../random.ts";
import { FakeMmio, type FakeMmioOptions, type Form } from "./fake_mmio.ts";

const bit = (n: number) => 1n << BigInt(n);
const READS = rounds(1_000_000);
const PROFILE: Readonly<Record<Form, NonNullable<MmioOptions["profile"]>>> = {
  "modern": "spec",
  "legacy": "spec",
  "v3": "mmio-v3",
  "msi-v2": "mmio-msi-v2",
};
const FEATURES: Readonly<Record<Form, bigint>> = {
  "modern": bit(32) | bit(28) | bit(29) | bit(34) | bit(35) | bit(38) | bit(40),
  "legacy": bit(28) | bit(29),
  "v3": bit(32) | bit(28) | bit(34) | bit(38),
  "msi-v2": bit(32) | bit(29) | bit(38) | bit(39) | bit(40),
};

function fakeOf(form: Form, more: FakeMmioOptions = {}): FakeMmio {
  return new FakeMmio({
    form,
    deviceId: 2,
    features: FEATURES[form],
    queueSizes: [16, 8],
    messages: 8,
    sizeBytes: 0x2000,
    ...more,
  });
}

/** From reset to the first notification, by a device that tells the truth. */
function bringUp(device: VirtioDevice): void {
  const { transport } = device;
  device.negotiate();
  const bound = bindInterrupts(transport, "auto", [0, 1]);
  for (const queue of [0, 1]) device.createQueue(queue, { size: 8, vector: bound.queueVector(queue) });
  device.driverOk();
  transport.doorbell(0).ring(0, 0);
  device.checkAlive();
  assertEquals(bound.vectors.length > 0, true);
  transport.disableInterrupts();
  device.reset();
}

Deno.test("7.1 a device that tells the truth is brought up, in every form, again and again", () => {
  for (const form of ["modern", "legacy", "v3", "msi-v2"] as const) {
    using mmio = fakeOf(form);
    using transport = openMmio(mmio, { profile: PROFILE[form] });
    using device = new VirtioDevice(transport);
    for (let times = 0; times < 3; times++) bringUp(device);
    assert(mmio.rung.length === 3, form);
  }
});

Deno.test("item 7: lies one by one are errors that name the device and what lied, and the device is usable after a reset", () => {
  const lies: [string, Form, (offset: number, value: number) => number, (device: VirtioDevice) => void, {
    kind: typeof RingsideError | typeof DeviceError;
    text: string;
  }][] = [
    [
      "QueueSizeMax 0",
      "modern",
      (offset, value) => offset === 0x34 ? 0 : value,
      (device) => device.createQueue(0),
      { kind: UnsupportedError, text: "has no queue 0" },
    ],
    [
      "status that never clears",
      "modern",
      (offset, value) => offset === 0x70 ? value | 1 : value,
      (device) => device.reset(),
      { kind: TimeoutError, text: "reset not finished" },
    ],
    [
      "FEATURES_OK refused",
      "v3",
      (offset, value) => offset === 0x70 ? value & ~8 : value,
      (device) => device.negotiate(),
      { kind: DeviceError, text: "refuses FEATURES_OK" },
    ],
    [
      "all ones",
      "msi-v2",
      () => 0xffff_ffff,
      (device) => device.negotiate(),
      { kind: TimeoutError, text: "reset not finished" },
    ],
    [
      "SHM base of all ones",
      "modern",
      (offset, value) => offset === 0xb0 ? 0x1000 : offset === 0xb4 ? 0 : value,
      (device) => device.transport.sharedMemory!(1),
      { kind: DeviceError, text: "no such memory can be" },
    ],
    [
      "notify base past the window",
      "v3",
      (offset, value) => offset === 0x50 ? 0x4000 : value,
      (device) => device.createQueue(0),
      { kind: DeviceError, text: "past the window" },
    ],
    [
      "notify multiplier past the window",
      "msi-v2",
      (offset, value) => offset === 0x50 ? 0xfffc_0400 : value,
      (device) => device.createQueue(1),
      { kind: DeviceError, text: "past the window" },
    ],
    [
      "QueueReady that does not stick",
      "msi-v2",
      (offset, value) => offset === 0x44 ? 0 : value,
      (device) => device.createQueue(1),
      { kind: DeviceError, text: "QueueReady: 1 was written, 0 reads back" },
    ],
    [
      "QueuePFN that does not stick",
      "legacy",
      (offset, value) => offset === 0x40 ? 0 : value,
      (device) => device.createQueue(1),
      { kind: DeviceError, text: "QueuePFN" },
    ],
  ];
  for (const [what, form, lie, act, { kind, text }] of lies) {
    using mmio = fakeOf(form);
    using transport = openMmio(mmio, { profile: PROFILE[form] });
    using device = new VirtioDevice(transport, { resetTimeoutMs: 5 });
    device.negotiate();
    mmio.lie = (offset, _, value) => lie(offset, value);
    const error = assertThrows(() => act(device), kind, text, what);
    assert(error.message.includes(mmio.name), error.message);
    mmio.lie = (_offset, _, value) => value;
    bringUp(device);
  }
});

Deno.test("item 7: QueueSizeMax 65535 gives a queue of what the standard allows; a generation that never settles ends", () => {
  for (const form of ["modern", "legacy"] as const) {
    using mmio = fakeOf(form);
    using transport = openMmio(mmio);
    using device = new VirtioDevice(transport);
    device.negotiate({ refused: bit(34) });
    mmio.lie = (offset, _, value) => offset === 0x34 ? 65535 : value;
    assertEquals(device.createQueue(0, { size: 65535 }).size, 32768);
    let generation = 0;
    mmio.lie = (offset, _, value) => offset === 0xfc || offset >= 0x100 ? generation++ & 0xff : value;
    const error = assertThrows(
      () => device.readConsistent(() => device.readConfig(0, 4)),
      DeviceError,
    );
    assert(error.message.includes(mmio.name), error.message);
    mmio.lie = (_offset, _, value) => value;
    bringUp(device);
  }
});

const INTERESTING = [0, 1, 2, 3, 4, 7, 8, 0x10, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x8000_0000]
  .concat([0xffff_ffff, 0x7472_6976]);

/** Any of the calls that a driver makes. */
function anything(random: Random, device: VirtioDevice): void {
  const { transport } = device;
  const queue = random.below(4);
  const calls: (() => unknown)[] = [
    () => device.negotiate(),
    () => device.negotiate({ wanted: BigInt(random.next()) }),
    () => device.createQueue(queue, { size: 1 + random.below(64), maxSegments: random.below(4) }),
    () => device.driverOk(),
    () => device.resetQueue(queue, 2),
    () => device.checkAlive(),
    () => device.readConsistent(() => device.readConfig(4 * random.below(4), 4)),
    () => transport.writeConfig(random.below(64), random.pick([1, 2, 4]), random.below(256)),
    () => transport.readDeviceFeatures(),
    () => transport.queueView(queue),
    () => transport.queueCount,
    () => transport.sharedMemory?.(random.below(3)),
    () => transport.doorbell(queue).ring(random.below(0x8000), random.below(2)),
    () => transport.interruptCount(random.pick(["msi", "intx", "msix"])),
    () => bindInterrupts(transport, random.pick(["auto", "msi", "intx", "none"]), [0, 1]),
    () => transport.disableInterrupts(),
    () => transport.setQueueVector(queue, random.pick([null, 0, 1, 2])),
    () => transport.setConfigVector(random.pick([null, 0, 1])),
    () => transport.readInterruptStatus(),
    () => transport.interruptLack,
  ];
  random.pick(calls)();
}

Deno.test(
  campaign(
    "seeded lies of registers: typed errors alone, nothing held, and every device usable after a reset",
    () => {
      const random = new Random(0x3310);
      const seen = new Map<string, number>();
      const before = openFdCount();
      let reads = 0, opened = 0;
      const attempt = (act: () => void): void => {
        try {
          act();
        } catch (error) {
          if (!(error instanceof RingsideError)) throw error;
          assert(error.message.includes("a003e00.virtio_mmio") || error.message !== "", String(error));
          seen.set(error.name, (seen.get(error.name) ?? 0) + 1);
        }
      };
      while (reads < READS) {
        const form = random.pick(["modern", "legacy", "v3", "msi-v2"] as const);
        using mmio = fakeOf(form, { sharing: random.below(2) === 1 });
        mmio.lenient = true;
        const lying = random.pick([0.02, 0.1, 0.3, 0.9]);
        mmio.lie = (_offset, width, value) => {
          reads++;
          if (random.fraction() >= lying) {
            return value;
          }
          const lie = random.pick([
            random.next(),
            random.pick(INTERESTING),
            (value ^ 1 << random.below(8 * width)) >>> 0,
          ]);
          return width === 4 ? lie : lie & (2 ** (8 * width) - 1);
        };
        const reach = (): VirtioTransport =>
          openMmio(mmio, {
            profile: PROFILE[form],
            msiStateBits: random.pick(["spec", "linux"]),
            msiEnableByStatus: random.below(2) === 1,
          });
        let transport: VirtioTransport | undefined;
        attempt(() => transport = reach());
        if (transport !== undefined) {
          opened++;
          const device = new VirtioDevice(transport, { resetTimeoutMs: 0 });
          for (let step = 0; step < 40; step++) attempt(() => anything(random, device));
          // From now on the truth.
          mmio.lie = (_offset, _, value) => value;
          attempt(() => transport!.disableInterrupts());
          // Of another form than it is, by a lie about Version: then it is opened again.
          device.close();
          if (transport.legacy !== (form === "legacy")) {
            attempt(() => transport!.close());
            mmio.closed = false;
            transport = reach();
          }
          mmio.lenient = false;
          using honest = new VirtioDevice(transport);
          bringUp(honest);
          // What was said of queues and vectors is forgotten, too.
          honest.negotiate();
          assertEquals(transport.queueCount, 2);
          if (transport.interruptLack === undefined) assert(transport.interruptCount("msi") >= 2);
          honest.close();
          transport.close();
        }
      }
      assertEquals(openFdCount(), before);
      assert(opened > READS / 2000, `${opened} devices were opened`);
      for (const name of ["DeviceError", "UnsupportedError", "TimeoutError", "UsageError", "NotFoundError"]) {
        assert((seen.get(name) ?? 0) > 0, `${name}: ${[...seen]}`);
      }
    },
  ),
);
