import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  ClosedError,
  DeviceError,
  NotFoundError,
  RingsideError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../../../lib/errors/mod.ts";
import type { RegisterAccess } from "../../../../../lib/registers/mod.ts";
import { VirtioDevice } from "../../../../../lib/virtio/device.ts";
import { inspectMmio } from "../../../../../lib/virtio/inspect_mmio.ts";
import { openMmio } from "../../../../../lib/virtio/transport/mmio/open.ts";
import type { MmioOptions } from "../../../../../lib/virtio/transport/mmio/transport.ts";
import { FakeMmio } from "./fake_mmio.ts";

const bit = (n: number) => 1n << BigInt(n);

Deno.test("A-7.1, A-7.2, N-7.8 the profile says which Version is driven; any other is refused, and the error says why", () => {
  const takes = [
    ["modern", "spec"],
    ["legacy", "spec"],
    ["v3", "mmio-v3"],
    ["msi-v2", "mmio-msi-v2"],
    ["modern", "mmio-msi-v2"],
  ] as const;
  for (const form of ["modern", "legacy", "v3", "msi-v2"] as const) {
    for (const profile of ["spec", "mmio-v3", "mmio-msi-v2"] as const) {
      using mmio = new FakeMmio({ form });
      const sameNumber = form === "msi-v2" ? "modern" : form;
      if (takes.some(([one, by]) => (one === form || one === sameNumber) && by === profile)) {
        using transport = openMmio(mmio, { profile });
        assertEquals([transport.kind, transport.profile, transport.legacy], [
          "mmio",
          profile,
          form === "legacy",
        ]);
        assertEquals(transport.deviceId, 4);
        continue;
      }
      const error = assertThrows(() => openMmio(mmio, { profile }), UnsupportedError, "Version is");
      assertStringIncludes(error.message, profile);
      assert(error.message.includes(mmio.name));
      assertStringIncludes(error.hint, `profile "${form === "v3" ? "mmio-v3" : "spec"}"`);
      assertEquals(mmio.closed, false, "a window that was refused stays its maker's");
    }
  }
});

Deno.test("7.1 wrong magic, version 4, DeviceID 0, a window too small, another profile: typed errors before anything is written", () => {
  const refused: [Partial<FakeMmio>, Parameters<typeof openMmio>[1], typeof RingsideError, string][] = [
    [{ magic: 0x7472_6977 }, {}, UnsupportedError, "MagicValue reads 0x74726977"],
    [{ magic: 0xffff_ffff }, {}, UnsupportedError, "MagicValue"],
    [{ version: 4 }, {}, UnsupportedError, "Version is 4"],
    [{ version: 0 }, {}, UnsupportedError, "Version is 0"],
    [{ deviceId: 0 }, {}, NotFoundError, "placeholder"],
    [{ sizeBytes: 0xfc }, {}, UsageError, "a window of 252 bytes"],
    [{}, { profile: "queue-state" }, UsageError, "queue-state"],
    [{}, { profile: "transport-vq" }, UsageError, "transport-vq"],
    [{}, { profile: "mmio" as "spec" }, UsageError, "no such profile"],
    [{}, { profile: "constructor" as "spec" }, UsageError, "no such profile"],
    [{ sizeBytes: "512" as unknown as number }, {}, UsageError, "sizeBytes"],
  ];
  for (const [fields, options, kind, text] of refused) {
    using mmio = Object.assign(new FakeMmio(), fields);
    assertThrows(() => openMmio(mmio, options), kind, text);
    assertEquals(mmio.log.filter((one) => one.startsWith("w")), []);
  }
});

Deno.test("A-7.3 version 2: bits of PCI alone are not shown, NOTIF_CONFIG_DATA (39) among them; RING_RESET (40) is", () => {
  using mmio = new FakeMmio({ features: [32, 37, 38, 39, 40, 41].reduce((all, n) => all | bit(n), 0n) });
  using transport = openMmio(mmio);
  assertEquals(transport.readDeviceFeatures(), bit(32) | bit(38) | bit(40));
});

Deno.test("7.1 bring-up of version 2: order, offsets and widths of every write", () => {
  using mmio = new FakeMmio({ features: bit(32) | bit(40), queueSizes: [64, 16] });
  using transport = openMmio(mmio);
  assertEquals(mmio.taken(0x000, 0x004, 0x008), ["r4@0=74726976", "r4@4=2", "r4@8=4"]);
  const device = new VirtioDevice(transport);
  device.negotiate();
  const queue = device.createQueue(0, { size: 32 });
  device.driverOk();
  const { descriptorArea, driverArea, deviceArea } = queue.addresses;
  const low = (iova: bigint) => (iova & 0xffff_ffffn).toString(16);
  const high = (iova: bigint) => (iova >> 32n).toString(16);
  assertEquals(mmio.taken(0x044), [
    "w4@70=0",
    "w4@70=1",
    "w4@70=3",
    ...["w4@14=1", "w4@14=0"],
    ...["w4@24=0", "w4@20=0", "w4@24=1", "w4@20=101"],
    "w4@70=b",
    "w4@30=0", // QueueSizeMax
    "w4@30=0",
    "r4@44=0",
    "w4@38=20",
    ...[`w4@80=${low(descriptorArea)}`, `w4@84=${high(descriptorArea)}`],
    ...[`w4@90=${low(driverArea)}`, `w4@94=${high(driverArea)}`],
    ...[`w4@a0=${low(deviceArea)}`, `w4@a4=${high(deviceArea)}`],
    "w4@44=1",
    "r4@44=1",
    "w4@70=f",
  ]);
  assertEquals(mmio.queues[0]!.areas, [descriptorArea, driverArea, deviceArea]);
  assertEquals(transport.queueView(0), {
    queue: 0,
    size: 32,
    enabled: true,
    vector: null,
    descriptorArea: `0x${descriptorArea.toString(16)}`,
    driverArea: `0x${driverArea.toString(16)}`,
    deviceArea: `0x${deviceArea.toString(16)}`,
  });
  assertEquals([transport.queueView(1).size, transport.queueView(1).enabled], [16, false]);
  device.close();
  assertEquals(mmio.status, 0);
});

Deno.test("7.1 a queue is notified by its index at 0x050, 32 bits; with NOTIFICATION_DATA by the word", () => {
  using mmio = new FakeMmio();
  using transport = openMmio(mmio);
  transport.doorbell(2).ring(5, 1);
  assertEquals([mmio.rung, mmio.doorbellValues], [["4@50=2"], [2]]);
  mmio.rung.length = 0;
  transport.writeDriverFeatures(bit(32) | bit(38));
  transport.doorbell(2).ring(5, 1);
  assertEquals([mmio.rung, mmio.doorbellValues], [["4@50=80050002"], [2, undefined]]);
  mmio.close();
  assertThrows(() => transport.doorbell(0), ClosedError);
});

Deno.test("7.1 Status is 32 bits wide and has a byte of bits; the others mean nothing", () => {
  using mmio = new FakeMmio();
  using transport = openMmio(mmio);
  mmio.status = 0x4f;
  mmio.lie = (offset, _, value) => offset === 0x70 ? value | 0xffff_ff00 : value;
  assertEquals(transport.readStatus(), 0x4f);
});

Deno.test("7.1 QueueReady 0 stops a queue and is read back; QueueReset resets one (bit 40)", () => {
  using mmio = new FakeMmio();
  using transport = openMmio(mmio);
  transport.writeDriverFeatures(bit(32) | bit(40));
  const areas = { size: 8, descriptorArea: 0x1000n, driverArea: 0x2000n, deviceArea: 0x1_2345_6789_0000n };
  transport.enableQueue(1, areas);
  mmio.taken();
  transport.disableQueue!(1);
  assertEquals(mmio.taken(0x044), ["w4@30=1", "w4@44=0", "r4@44=0"]);
  const { size, descriptorArea, deviceArea } = transport.queueView(1);
  assertEquals([size, descriptorArea, deviceArea], [128, "0x0", "0x0"], "nothing is known of it any more");
  transport.enableQueue(1, areas);
  assertThrows(() => transport.enableQueue(1, areas), DeviceError, "in use already");
  mmio.taken();
  transport.resetQueue!(1);
  assertEquals(mmio.taken(0x044, 0x0c0), [
    "w4@30=1",
    "w4@c0=1",
    ...["r4@c0=1", "r4@c0=1", "r4@c0=1", "r4@c0=0"],
    "r4@44=0",
  ]);
  assertEquals(transport.queueView(1).descriptorArea, "0x0");
  transport.writeDriverFeatures(bit(32));
  assertThrows(() => transport.resetQueue!(1), UnsupportedError, "RING_RESET was not negotiated");
});

Deno.test("7.1 a device that does not keep QueueReady, or takes fewer entries, is told apart by queue and register", () => {
  using mmio = new FakeMmio();
  using transport = openMmio(mmio);
  const areas = { size: 8, descriptorArea: 0x1000n, driverArea: 0x2000n, deviceArea: 0x3000n };
  let ready = 0;
  mmio.lie = (offset, _, value) => offset === 0x44 ? ready : value;
  const error = assertThrows(
    () => transport.enableQueue(0, areas),
    DeviceError,
    "1 was written, 0 reads back",
  );
  assertEquals(error.location, { function: mmio.name, queue: 0, field: "QueueReady" });
  ready = 1;
  assertThrows(() => transport.disableQueue!(0), TimeoutError, "QueueReady");
  ready = 0;
  assertThrows(() => transport.enableQueue(0, { ...areas, size: 128 }), UsageError, "QueueSizeMax is 64");
  transport.writeDriverFeatures(bit(32) | bit(40));
  mmio.lie = (offset, _, value) => offset === 0xc0 ? 1 : value;
  assertThrows(() => transport.resetQueue!(0, 5), TimeoutError, "QueueReset");
  mmio.lie = (offset, _, value) => offset === 0x44 ? 1 : value;
  assertThrows(() => transport.resetQueue!(0, 5), DeviceError, "still set after QueueReset");
});

Deno.test("7.1 config space: fields by their width, the generation, and nothing past the type's or the window's end", () => {
  using mmio = new FakeMmio({ deviceId: 2, sizeBytes: 0x120 });
  using transport = openMmio(mmio);
  assertEquals(transport.configSizeBytes, 0x20, "the window ends before the type's configuration does");
  mmio.taken();
  assertEquals([transport.readConfig(4, 4), transport.readConfig(2, 2), transport.readConfig(9, 1)], [
    0x0706_0504,
    0x0302,
    9,
  ]);
  transport.writeConfig(8, 2, 0xabcd);
  assertEquals(mmio.log, ["r4@config+4=7060504", "r2@config+2=302", "r1@config+9=9", "w2@config+8=abcd"]);
  for (const [offset, width] of [[0x1e, 4], [2, 4], [0x20, 1], [-4, 4]] as const) {
    assertThrows(() => transport.readConfig(offset, width), UsageError, "config space");
  }
  mmio.generation = 7;
  assertEquals(transport.configGeneration(), 7);
  using rng = openMmio(new FakeMmio({ deviceId: 4 }));
  assertEquals(rng.configSizeBytes, 0, "an entropy device has none");
  using unknown = openMmio(new FakeMmio({ deviceId: 99, sizeBytes: 0x1000 }));
  assertEquals(unknown.configSizeBytes, 0xf00);
});

Deno.test("1.7 shared memory: SHMSel, SHMLen, SHMBase; all ones is no region, what cannot be is the device's fault", () => {
  using mmio = new FakeMmio({ sizeBytes: 0x4000 });
  using transport = openMmio(mmio);
  mmio.regions.set(1, { length: 0x1000n, base: 0xa00_3e00n + 0x1000n });
  mmio.taken();
  assertEquals(transport.sharedMemory!(1)!.sizeBytes, 0x1000);
  assertEquals(mmio.log.map((one) => one.split("=")[0]), [
    "w4@ac",
    ...["r4@b0", "r4@b4", "r4@b8", "r4@bc"],
  ]);
  assertEquals(transport.sharedMemory!(0), undefined);
  mmio.regions.set(2, { length: 0n, base: 0n });
  assertEquals(transport.sharedMemory!(2), undefined);
  for (
    const region of [
      { length: 0x1000n, base: 2n ** 64n - 1n },
      { length: 2n ** 60n, base: 0n },
    ]
  ) {
    mmio.regions.set(3, region);
    const error = assertThrows(() => transport.sharedMemory!(3), DeviceError);
    assertEquals(error.location.field, "SHMBase");
  }
  mmio.regions.set(4, { length: 0x1000n, base: 0n });
  assertThrows(() => transport.sharedMemory!(4), UnsupportedError, "does not reach");
  for (const id of [-1, 256, 1.5]) assertThrows(() => transport.sharedMemory!(id), UsageError);
});

Deno.test("7.1 bring-up of version 1: GuestPageSize, QueueNum, QueueAlign, QueuePFN; no FEATURES_OK, 32 feature bits", () => {
  using mmio = new FakeMmio({ form: "legacy", features: bit(29) | bit(28), queueSizes: [256] });
  using transport = openMmio(mmio);
  mmio.taken();
  const device = new VirtioDevice(transport);
  assertEquals(device.negotiate(), bit(29) | bit(28));
  const queue = device.createQueue(0, { size: 16 });
  device.driverOk();
  const page = queue.addresses.descriptorArea >> 12n;
  assertEquals(mmio.taken(0x040), [
    "w4@70=0",
    "w4@28=1000",
    "w4@70=1",
    "w4@70=3",
    "w4@14=0",
    ...["w4@24=0", "w4@20=30000000"],
    "w4@30=0", // QueueNumMax
    "w4@30=0",
    "r4@40=0",
    "w4@38=10",
    "w4@3c=1000",
    `w4@40=${page.toString(16)}`,
    `r4@40=${page.toString(16)}`,
    "w4@70=7",
  ]);
  assertEquals(queue.size, 16, "the driver chooses the size");
  assertEquals(queue.addresses.deviceArea - queue.addresses.descriptorArea, 4096n);
  const view = transport.queueView(0);
  assertEquals([view.size, view.enabled], [16, true]);
  assertEquals(view.deviceArea, `0x${queue.addresses.deviceArea.toString(16)}`);
  device.close();
});

Deno.test("7.1 version 1: what its registers cannot say is refused", () => {
  using mmio = new FakeMmio({ form: "legacy", queueSizes: [16] });
  using transport = openMmio(mmio);
  transport.reset();
  const ring = (start: bigint, size = 16) => ({
    size,
    descriptorArea: start,
    driverArea: start + BigInt(16 * size),
    deviceArea: start + 4096n,
  });
  assertThrows(() => transport.enableQueue(0, ring(0x1800n)), UsageError, "legacy area");
  assertThrows(() => transport.enableQueue(0, ring(1n << 44n)), UsageError, "2^44");
  assertThrows(() => transport.enableQueue(0, ring(0x1000n, 32)), UsageError, "QueueNumMax is 16");
  assertThrows(() => transport.writeDriverFeatures(bit(32)), UsageError, "VIRTIO_F_VERSION_1");
  mmio.lie = (offset, _, value) => offset === 0x40 && value !== 0 ? value + 1 : value;
  const error = assertThrows(() => transport.enableQueue(0, ring(0x1000n)), DeviceError, "0x2 reads back");
  assertEquals(error.location, { function: mmio.name, queue: 0, field: "QueuePFN" });
  assertEquals([transport.configGeneration(), transport.resetQueue, transport.sharedMemory], [
    0,
    undefined,
    undefined,
  ]);
});

Deno.test("7.1 a reset waits until Status reads 0; one that never ends is a TimeoutError, and the next may succeed", () => {
  for (const form of ["modern", "legacy", "v3", "msi-v2"] as const) {
    using mmio = new FakeMmio({ form, messages: 0 });
    const profile = form === "v3" ? "mmio-v3" : form === "msi-v2" ? "mmio-msi-v2" : "spec";
    using transport = openMmio(mmio, { profile });
    transport.writeStatus(3);
    mmio.slowReset = 5;
    transport.reset();
    assertEquals(transport.readStatus(), 0);
    mmio.lie = (offset, _, value) => offset === 0x70 ? 3 : value;
    assertThrows(() => transport.reset(5), TimeoutError, "reset not finished");
    mmio.lie = (_offset, _, value) => value;
    transport.reset();
  }
});

Deno.test("7.1 the line: InterruptStatus is read, what it says acknowledged, and the line let through again", () => {
  for (const form of ["modern", "legacy"] as const) {
    using mmio = new FakeMmio({ form });
    using transport = openMmio(mmio);
    assertEquals(["msix", "msi", "intx", "none"].map((kind) => transport.interruptCount(kind as "msi")), [
      ...[0, 0],
      ...[1, 0],
    ]);
    assertStringIncludes(transport.interruptLack!, "mmio-v3");
    const [vector] = transport.enableInterrupts("intx", 1);
    mmio.raise(0);
    mmio.raise("config");
    mmio.taken();
    assertEquals(vector!.eventFd.take(), 2);
    assertEquals(vector!.acknowledge(), 3);
    assertEquals(mmio.taken(0x060), ["r4@60=3", "w4@64=3"]);
    assertEquals([vector!.acknowledge(), mmio.taken(0x060)], [0, ["r4@60=0"]], "nothing to acknowledge");
    assertEquals([mmio.interruptStatus, mmio.interrupts.rearmed], [0, 2]);
    mmio.lie = (offset, _, value) => offset === 0x60 ? 0xffff_fffd : value;
    assertEquals([transport.readInterruptStatus(), mmio.taken()], [1, ["w4@64=1"]], "only known bits");
    assertThrows(() => transport.enableInterrupts("msi", 1), UsageError, "on already");
    transport.disableInterrupts();
    assertThrows(() => transport.enableInterrupts("msi", 1), UnsupportedError);
    assertThrows(() => transport.setConfigVector(0), UsageError, "only while MSI");
    assertThrows(() => transport.setQueueVector(0, 0), UsageError, "only while MSI");
  }
});

Deno.test("1.2 behind an IOMMU a device that does not offer ACCESS_PLATFORM is refused on MMIO, too, unless the caller insists", () => {
  for (const form of ["modern", "legacy"] as const) {
    using mmio = new FakeMmio({ form });
    mmio.iommu.iommu = true;
    using transport = openMmio(mmio);
    assertThrows(() => new VirtioDevice(transport).negotiate(), UnsupportedError, "ACCESS_PLATFORM");
    using insisting = openMmio(mmio, { assumeAccessPlatform: true });
    new VirtioDevice(insisting).negotiate();
  }
});

Deno.test("7.1 each access is told by the standard's place, after it was made; a window is closed with its transport", () => {
  using mmio = new FakeMmio();
  const seen: RegisterAccess[] = [];
  const transport = openMmio(mmio, { trace: (access) => seen.push(access) });
  assertEquals(seen.map(({ register, offset, width }) => [register, offset, width]), [
    ["magic_value", 0, 4],
    ["version", 4, 4],
    ["device_id", 8, 4],
  ]);
  transport.writeStatus(1);
  transport.enableQueue(0, { size: 8, descriptorArea: 1n << 33n, driverArea: 0x10n, deviceArea: 0x20n });
  assertEquals(seen.find(({ register }) => register === "queue_desc+4"), {
    kind: "write",
    register: "queue_desc+4",
    offset: 0x84,
    width: 4,
    value: 2,
  });
  transport.close();
  assertEquals([mmio.status, mmio.closed, transport.closed], [0, true, true]);
  transport.close();
  assertThrows(() => transport.readStatus(), ClosedError);
  assertThrows(() => transport.doorbell(0), ClosedError);
});

Deno.test("7.1 what is no window, or no option, is refused by name before anything is read", () => {
  const refused = (member: string, value: unknown, wanted: string): void => {
    for (const door of [openMmio, inspectMmio]) {
      const mmio = new FakeMmio();
      Object.defineProperty(mmio, member, { value, configurable: true });
      assertThrows(() => door(mmio), UsageError, wanted);
      assertEquals(mmio.log, []);
    }
  };
  for (const sizeBytes of [NaN, 1.5, -1, "512", 512n, Infinity, Symbol("512")]) {
    refused("sizeBytes", sizeBytes, "window.sizeBytes");
  }
  for (const value of [null, 5, {}, []]) {
    for (const member of ["dma", "space", "interrupts"]) refused(member, value, `window.${member}`);
  }
  for (const member of ["name", "closed", "doorbell", "close"]) refused(member, undefined, "with name");
  for (const options of [null, 5, { msiStateBits: "top" }, { profile: Symbol("spec") }] as unknown[]) {
    for (const door of [openMmio, inspectMmio]) {
      using mmio = new FakeMmio();
      assertThrows(() => door(mmio, options as MmioOptions), UsageError);
      assertEquals(mmio.log, []);
    }
  }
});

Deno.test("7.1 a window that gives no doorbell is found out before it is rung", () => {
  for (const form of ["modern", "legacy"] as const) {
    for (const given of [undefined, null, 5, {}] as never[]) {
      using mmio = new FakeMmio({ form });
      using transport = openMmio(mmio);
      mmio.doorbell = () => given;
      assertThrows(() => transport.doorbell(0), UsageError, "a003e00.virtio_mmio: what window.doorbell gave");
    }
  }
});

Deno.test("7.1 a window that reads what is no number is a UsageError, at both doors", () => {
  for (const value of [undefined, null, NaN, 1.5, "x", {}] as unknown as number[]) {
    for (const door of [openMmio, inspectMmio]) {
      using mmio = new FakeMmio();
      mmio.read = () => value;
      assertThrows(() => door(mmio), RingsideError);
    }
    using mmio = new FakeMmio();
    const honest = mmio.read.bind(mmio);
    mmio.read = (offset, width) => offset === 0x44 ? value : honest(offset, width);
    assertThrows(() => inspectMmio(mmio), UsageError, "inspectMmio");
    assertEquals(mmio.taken().slice(-2), ["w4@14=0", "w4@30=0"], "selectors are put back all the same");
  }
});

Deno.test("7.1 who waits for a transport hears that it is closed, also where its window does not let itself be closed", () => {
  using mmio = new FakeMmio();
  const transport = openMmio(mmio);
  let heard = 0;
  transport.onClose!(() => heard++);
  mmio.close = () => {
    throw new Error("stays");
  };
  assertThrows(() => transport.close(), Error, "stays");
  transport.close();
  assertEquals([heard, transport.closed], [1, true]);
});
