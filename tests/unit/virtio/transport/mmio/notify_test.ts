import { assert, assertEquals, assertThrows } from "@std/assert";
import { DeviceError, UsageError } from "../../../../../lib/errors/mod.ts";
import { openMmio } from "../../../../../lib/virtio/transport/mmio/open.ts";
import { FakeMmio, type FakeMmioOptions } from "./fake_mmio.ts";

const bit = (n: number) => 1n << BigInt(n);
const QUEUES = Array.from({ length: 20 }, () => 8);

function opened(fake: FakeMmioOptions, accepted = 0n) {
  const mmio = new FakeMmio({ form: "v3", queueSizes: QUEUES, sizeBytes: 0x4000, ...fake });
  const transport = openMmio(mmio, { profile: mmio.form === "v3" ? "mmio-v3" : "mmio-msi-v2" });
  transport.writeDriverFeatures(bit(32) | accepted);
  return {
    mmio,
    transport,
    rings(queue: number): string {
      transport.doorbell(queue).ring(7, 1);
      return mmio.rung.pop()!;
    },
    [Symbol.dispose]() {
      transport.close();
      mmio[Symbol.dispose]();
    },
  };
}

Deno.test("N-7.7, A-7.8 the drafts read 0x050 and write where it says; 0x050 itself only if base and multiplier say so", () => {
  using all = opened({ notify: { base: 0x50, multiplier: 0 } });
  all.mmio.taken();
  assertEquals([all.rings(0), all.rings(19)], ["4@50=0", "4@50=13"]);
  assert(all.mmio.log.includes("r4@50=50"));
  using apart = opened({ notify: { base: 0x1000, multiplier: 4 } });
  assertEquals([apart.rings(0), apart.rings(19)], ["4@1000=0", "4@104c=13"]);
  using last = opened({ notify: { base: 0x3ffc, multiplier: 0 } });
  assertEquals(last.rings(3), "4@3ffc=3");
});

Deno.test("A-7.14 32 bits only where base and multiplier are multiples of 4, else 16; every base and multiplier", () => {
  for (const base of [0x400, 0x401, 0x402, 0x404, 0x1000, 0x1006]) {
    for (const multiplier of [0, 1, 2, 3, 4, 6, 8, 0x40]) {
      using t = opened({ notify: { base, multiplier } });
      for (const queue of [0, 1, 2, 3, 19]) {
        const at = base + queue * multiplier;
        const width = base % 4 === 0 && multiplier % 4 === 0 ? 4 : 2;
        if (at % 2 === 0) {
          assertEquals(t.rings(queue), `${width}@${at.toString(16)}=${queue.toString(16)}`);
          continue;
        }
        const error = assertThrows(() => t.transport.doorbell(queue), DeviceError, "at odd offset");
        assertEquals(error.location, { function: t.mmio.name, queue, field: "QueueNotify" });
      }
    }
  }
});

Deno.test("A-7.14 the word of NOTIFICATION_DATA has 32 bits: elsewhere the feature is not shown, and a doorbell with it is refused", () => {
  for (const [base, multiplier] of [[0x400, 4], [0x402, 4], [0x400, 2], [0x400, 0]] as const) {
    using t = opened({ notify: { base, multiplier }, features: bit(32) | bit(38) }, bit(38));
    const can = base % 4 === 0 && multiplier % 4 === 0;
    assertEquals(t.transport.readDeviceFeatures(), can ? bit(32) | bit(38) : bit(32));
    if (can) assertEquals(t.rings(2), `4@${(base + 2 * multiplier).toString(16)}=80070002`);
    else assertThrows(() => t.transport.doorbell(2), DeviceError, "A-7.14");
  }
});

Deno.test("A-7.15 a doorbell past the window, on a register or in the config space is refused, by queue", () => {
  using t = opened({ deviceId: 1, notify: { base: 0x3ff8, multiplier: 4 } });
  assertEquals([t.rings(0), t.rings(1)], ["4@3ff8=0", "4@3ffc=1"]);
  assertThrows(() => t.transport.doorbell(2), DeviceError, "past the window's 16384 bytes (A-7.15)");
  for (const [base, sizeBytes] of [[0x200, 0x203], [0x202, 0x203]] as const) {
    using cut = opened({ notify: { base, multiplier: 0 }, sizeBytes });
    assertThrows(() => cut.transport.doorbell(0), DeviceError, "past the window's 515 bytes (A-7.15)");
  }
  using far = opened({ notify: { base: 0xffff, multiplier: 0xffff } });
  for (const queue of [0, 1, 19]) assertThrows(() => far.transport.doorbell(queue), DeviceError);
  assertThrows(() => far.transport.doorbell(0x1_0000), UsageError);
  // 0x50, 0x54, … 0x60: InterruptStatus, 0x64: InterruptACK.
  using near = opened({ notify: { base: 0x50, multiplier: 4 } });
  assertEquals([near.rings(0), near.rings(3)], ["4@50=0", "4@5c=3"]);
  assertThrows(() => near.transport.doorbell(4), DeviceError, "0x60 is InterruptStatus");
  assertThrows(() => near.transport.doorbell(5), DeviceError, "0x64 is InterruptACK");
  using status = opened({ notify: { base: 0x72, multiplier: 0 } });
  assertThrows(() => status.transport.doorbell(0), DeviceError, "is Status");
  using config = opened({ deviceId: 1, notify: { base: 0x102, multiplier: 0 } });
  assertThrows(() => config.transport.doorbell(0), DeviceError, "config space");
  using without = opened({ deviceId: 4, notify: { base: 0x102, multiplier: 0 } });
  assertEquals(without.rings(5), "2@102=5", "an entropy device has no config space");
});

Deno.test("N-7.6, N-7.7 version 2 of the draft: as the register says with MMIO_NOTIFICATION, QueueNotify itself without", () => {
  const notify = { base: 0x1000, multiplier: 8 };
  using t = opened({ form: "msi-v2", features: bit(32) | bit(39), notify }, bit(39));
  assertEquals(t.rings(2), "4@1010=2");
  using without = opened({ form: "msi-v2", features: bit(32), notify });
  without.mmio.taken();
  assertEquals(without.rings(2), "4@50=2");
  assert(!without.mmio.log.some((one) => one.startsWith("r4@50")), "nor is it read");
});
