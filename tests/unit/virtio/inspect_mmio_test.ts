import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { ClosedError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { inspectMmio, type MmioFacts, type MmioRegister } from "../../../lib/virtio/inspect_mmio.ts";
import { Random } from "../../random.ts";
import { FakeMmio } from "./transport/mmio/fake_mmio.ts";

const bit = (n: number) => 1n << BigInt(n);

function find({ registers }: MmioFacts, name: string, select: string | null = null): MmioRegister {
  const found = registers.filter((one) => one.name === name && one.select === select);
  assertEquals(found.length, 1, `${name}, ${select}`);
  return found[0]!;
}

const shown = (facts: MmioFacts, name: string, select: string | null = null) => {
  const { offset, width, value, meaning } = find(facts, name, select);
  return [offset, width, value, meaning];
};

Deno.test("7.1 version 2: every register with offset, width, value and meaning; only selectors are written, and are 0 afterwards", () => {
  using mmio = new FakeMmio({
    deviceId: 1,
    features: bit(32) | bit(40) | bit(5) | bit(16),
    queueSizes: [64, 128],
  });
  mmio.regions.set(3, { length: 0x1000n, base: 0xa00_4000n });
  mmio.generation = 7;
  mmio.interruptStatus = 3;
  mmio.status = 0xb;
  mmio.queues[1]!.ready = 1;
  const facts = inspectMmio(mmio);
  assertEquals([facts.device, facts.profile, facts.form, facts.version, facts.deviceId, facts.deviceType], [
    mmio.name,
    "spec",
    "modern",
    2,
    1,
    "network device",
  ]);
  assertEquals(facts.lack, undefined);
  assertEquals(shown(facts, "MagicValue"), [0x000, 4, 0x7472_6976n, '"virt"']);
  assertEquals(shown(facts, "DeviceID"), [0x008, 4, 1n, "network device"]);
  assertEquals(shown(facts, "DeviceFeatures", "DeviceFeaturesSel 0"), [
    0x010,
    4,
    0x1_0020n,
    "VIRTIO_NET_F_MAC VIRTIO_NET_F_STATUS",
  ]);
  assertEquals(shown(facts, "DeviceFeatures", "DeviceFeaturesSel 1"), [
    0x010,
    4,
    0x101n,
    "VIRTIO_F_VERSION_1 VIRTIO_F_RING_RESET",
  ]);
  assertEquals(shown(facts, "InterruptStatus"), [0x060, 4, 3n, "used buffer, config"]);
  assertEquals(shown(facts, "Status"), [0x070, 4, 0xbn, "ACKNOWLEDGE | DRIVER | FEATURES_OK (0xb)"]);
  assertEquals(shown(facts, "QueueNotify"), [0x050, 4, null, "write-only"]);
  assertEquals(shown(facts, "QueueDesc"), [0x080, 8, null, "write-only"]);
  assertEquals(shown(facts, "QueueSizeMax", "QueueSel 1"), [0x034, 4, 128n, "128 descriptors"]);
  assertEquals(shown(facts, "QueueReady", "QueueSel 0"), [0x044, 4, 0n, "not set up"]);
  assertEquals(shown(facts, "QueueReady", "QueueSel 1"), [0x044, 4, 1n, "in use"]);
  assertEquals(shown(facts, "QueueReset", "QueueSel 1"), [0x0c0, 4, 0n, ""]);
  assertEquals(shown(facts, "SHMLen", "SHMSel 3"), [0x0b0, 8, 0x1000n, "4096 bytes"]);
  assertEquals(shown(facts, "SHMBase", "SHMSel 3").slice(0, 3), [0x0b8, 8, 0xa00_4000n]);
  assertEquals(shown(facts, "ConfigGeneration"), [0x0fc, 4, 7n, ""]);
  assertEquals(shown(facts, "config.mac"), [0x100, 6, 0x0504_0302_0100n, "00:01:02:03:04:05"]);
  assertEquals(shown(facts, "config.status"), [0x106, 2, 0x0706n, "1798"]);
  assertEquals(shown(facts, "config.mtu"), [0x10a, 2, null, "not there: VIRTIO_NET_F_MTU is not offered"]);
  assertStringIncludes(
    find(facts, "config.max_virtqueue_pairs").meaning,
    "MQ or VIRTIO_NET_F_RSS is not offered",
  );
  assertEquals(facts.written, ["DeviceFeaturesSel", "QueueSel", "SHMSel"]);
  const written = mmio.taken();
  assertEquals(written.slice(-3), ["w4@14=0", "w4@30=0", "w4@ac=0"]);
  assert(written.every((one) => /^w4@(14|30|ac)=/.test(one)), written.join(" "));
  assertEquals([mmio.status, mmio.interruptStatus, mmio.closed], [0xb, 3, false]);
});

Deno.test("7.1 without RING_RESET register 0x0c0 is not read; a field of 64 bits is two accesses of 32", () => {
  using mmio = new FakeMmio({ deviceId: 2 });
  const facts = inspectMmio(mmio);
  assertEquals(shown(facts, "QueueReset"), [0x0c0, 4, null, "not there: VIRTIO_F_RING_RESET is not offered"]);
  assertEquals(shown(facts, "config.capacity").slice(0, 3), [0x100, 8, 0x0706_0504_0302_0100n]);
  const reads = mmio.log.filter((one) => one.startsWith("r"));
  assert(!reads.some((one) => one.includes("@c0=")));
  assertEquals(reads.filter((one) => one.includes("config")).map((one) => one.split("=")[0]), [
    "r4@config+0",
    "r4@config+4",
    // `unused0` comes with no feature.
    "r1@config+21",
  ]);
});

Deno.test("A-7.3 what profile spec reads as QueueReset on a device of draft mmio-msi-v2 is said to be no such thing", () => {
  using mmio = new FakeMmio({ form: "msi-v2", features: bit(32) | bit(39) | bit(40) });
  const { meaning, value } = find(inspectMmio(mmio), "QueueReset", "QueueSel 0");
  assertEquals(value, 4n);
  assertStringIncludes(meaning, "MsiVecNum");
});

Deno.test("virtio 1.2 §4.2.4 version 1: its own names, features in one half, the ring of QueuePFN, no generation", () => {
  using mmio = new FakeMmio({ form: "legacy", features: bit(24), queueSizes: [64] });
  mmio.queues[0]!.pfn = 0x123;
  const facts = inspectMmio(mmio);
  assertEquals([facts.form, facts.written], ["legacy", ["HostFeaturesSel", "QueueSel"]]);
  assertEquals(shown(facts, "HostFeatures", "HostFeaturesSel 0").slice(2), [
    1n << 24n,
    "VIRTIO_F_NOTIFY_ON_EMPTY",
  ]);
  assertEquals(shown(facts, "QueuePFN", "QueueSel 0"), [
    0x040,
    4,
    0x123n,
    "ring at 0x123000, if GuestPageSize is 4096",
  ]);
  assertEquals(shown(facts, "QueueAlign"), [0x03c, 4, null, "write-only"]);
  assert(!facts.registers.some((one) => ["QueueReady", "ConfigGeneration", "SHMLen"].includes(one.name)));
});

Deno.test("A-7.4, A-7.6, N-7.2, N-7.7 version 3: MsiStatus by 16 bits, InterruptStatus not while MSI is on, doorbells where QueueNotify says", () => {
  using mmio = new FakeMmio({
    form: "v3",
    queueSizes: [64, 64],
    sizeBytes: 0x2000,
    notify: { base: 0x1000, multiplier: 4 },
  });
  const off = inspectMmio(mmio, { profile: "mmio-v3" });
  assertEquals(shown(off, "MsiStatus"), [0x0c0, 2, 2n, "max_queue_num 2, msi_enabled 0"]);
  assertEquals(shown(off, "MsiCmd"), [0x0c2, 2, null, "write-only"]);
  assertEquals(shown(off, "InterruptStatus")[2], 0n);
  assertEquals(shown(off, "QueueNotify"), [0x050, 4, 0x4_1000n, "base 4096, multiplier 4"]);
  assertEquals(shown(off, "doorbell", "QueueSel 1"), [0x1004, 4, null, "write-only"]);
  mmio.msiEnabled = true;
  const on = inspectMmio(mmio, { profile: "mmio-v3" });
  assertEquals(shown(on, "InterruptStatus"), [0x060, 4, null, "not read while MSI is enabled (N-7.2)"]);
  assertStringIncludes(find(on, "MsiStatus").meaning, "msi_enabled 1");
  mmio.notify = { base: 0x1ffe, multiplier: 4 };
  assertStringIncludes(
    find(inspectMmio(mmio, { profile: "mmio-v3" }), "doorbell", "QueueSel 1").meaning,
    "past the window",
  );
});

Deno.test("7.3, A-7.9 version 2 with MSI: registers by the feature bits, MsiState in either layout", () => {
  const drafts = bit(32) | bit(39) | bit(40);
  for (const linuxBits of [false, true]) {
    using mmio = new FakeMmio({ form: "msi-v2", features: drafts, sharing: true, linuxBits, vectors: 2 });
    const options = { profile: "mmio-msi-v2", msiStateBits: linuxBits ? "linux" : "spec" } as const;
    const facts = inspectMmio(mmio, options);
    assertStringIncludes(
      find(facts, "DeviceFeatures", "DeviceFeaturesSel 1").meaning,
      "VIRTIO_F_MMIO_NOTIFICATION VIRTIO_F_MMIO_MSI",
    );
    assertEquals(shown(facts, "MsiVecNum").slice(0, 3), [0x0c0, 4, 2n]);
    assertEquals(shown(facts, "MsiState"), [
      0x0c4,
      4,
      linuxBits ? 0x4000_0000n : 2n,
      "msi_enabled 0, msi_sharing 1",
    ]);
    assertEquals(shown(facts, "QueueNotify")[2], 0x50n);
    mmio.msiEnabled = true;
    assertEquals(find(inspectMmio(mmio, options), "InterruptStatus").value, null);
  }
  using without = new FakeMmio({ form: "msi-v2" });
  const facts = inspectMmio(without, { profile: "mmio-msi-v2" });
  assertEquals(shown(facts, "MsiVecNum"), [0x0c0, 4, null, "not there: VIRTIO_F_MMIO_MSI is not offered"]);
  assertEquals(shown(facts, "QueueNotify"), [0x050, 4, null, "write-only"]);
});

Deno.test("what cannot be driven is read without a write, as far as all forms have it; what is no virtio-mmio device is not", () => {
  const cases: [Partial<FakeMmio>, RegExp][] = [
    [{ version: 4 }, /Version is 4/],
    [{ version: 3 }, /open it with profile "mmio-v3"/],
    [{ deviceId: 0 }, /placeholder/],
  ];
  for (const [fields, lack] of cases) {
    using mmio = new FakeMmio();
    Object.assign(mmio, fields);
    const facts = inspectMmio(mmio);
    assertEquals([facts.form, facts.written], [null, []]);
    assert(lack.test(facts.lack ?? ""), facts.lack);
    assertEquals(mmio.taken(), []);
    assertEquals(facts.registers.map(({ offset }) => offset), [0, 4, 8, 0xc, 0x10, 0x34, 0x60, 0x70]);
    assert(facts.registers.every(({ value }) => value !== null));
  }
  using wrong = new FakeMmio();
  wrong.magic = 0xffff_ffff;
  assertThrows(() => inspectMmio(wrong), UnsupportedError, "MagicValue reads 0xffffffff");
  using small = new FakeMmio({ sizeBytes: 0xfc });
  assertThrows(() => inspectMmio(small), UsageError, "a window of 252 bytes");
  using other = new FakeMmio();
  assertThrows(() => inspectMmio(other, { profile: "queue-state" }), UsageError, "queue-state");
  other.close();
  assertThrows(() => inspectMmio(other), ClosedError);
});

Deno.test("a device type that is not known is shown word by word; a generation that never settles is said, and reading ends", () => {
  using mmio = new FakeMmio({ deviceId: 57, sizeBytes: 0x110 });
  const facts = inspectMmio(mmio);
  assertEquals(shown(facts, "config.12").slice(0, 3), [0x10c, 4, 0x0f0e_0d0cn]);
  assertEquals(facts.registers.filter((one) => one.name.startsWith("config.")).length, 4);
  mmio.after = () => void mmio.generation++;
  assertEquals(
    find(inspectMmio(mmio), "ConfigGeneration").meaning,
    "changed while the config space was read",
  );
});

Deno.test("7.1 2000 seeded windows of lies: every register is shown, and no write is made but to selectors", () => {
  const random = new Random(12);
  for (let round = 0; round < 2000; round++) {
    using mmio = new FakeMmio({
      form: (["modern", "legacy", "v3", "msi-v2"] as const)[random.below(4)]!,
      deviceId: [1, 2, 3, 4, 44, 63][random.below(6)]!,
    });
    mmio.lie = (offset, width, value) => {
      // QueueSizeMax of 1024 queues takes its time.
      if (offset < 0xc || offset === 0x34 || random.below(4) > 0) return value;
      return random.below(2 ** (8 * width));
    };
    const { version } = mmio;
    const profile = version === 3 ? "mmio-v3" : mmio.form === "msi-v2" ? "mmio-msi-v2" : "spec";
    const facts = inspectMmio(mmio, { profile });
    assert(facts.registers.every(({ value }) => value === null || value >= 0n));
    assert(mmio.taken().every((one) => /^w4@(14|30|ac)=/.test(one)));
  }
});
