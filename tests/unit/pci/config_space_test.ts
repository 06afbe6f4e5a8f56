import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import { ConfigSpace } from "../../../lib/pci/mod.ts";
import { configFrom, IGB } from "./fixtures.ts";

Deno.test("a configuration space has 64 to 4096 bytes", () => {
  for (const size of [64, 65, 128, 0xa0, 256, 0x600, 4096]) {
    assertEquals(new ConfigSpace(new Uint8Array(size)).sizeBytes, size);
  }
  for (const size of [0, 63, 4097, 8192]) {
    assertThrows(() => new ConfigSpace(new Uint8Array(size)), UsageError, `${size} bytes`);
  }
});

Deno.test("header fields are read at their offsets, little-endian", () => {
  const config = configFrom(4096, IGB);
  assertEquals([config.vendorId, config.deviceId], [0x8086, 0x10c9]);
  assertEquals(config.classCode, { base: 0x02, sub: 0, programmingInterface: 0, value: 0x020000 });
  assertEquals([config.revisionId, config.cacheLineSizeBytes, config.latencyTimer], [1, 64, 0]);
  assertEquals([config.headerType, config.isMultiFunction, config.bist], [0, true, 0]);
  assertEquals(config.subsystem, { vendorId: 0x8086, deviceId: 0xa03c });
  assertEquals([config.capabilitiesPointer, config.interruptLine, config.interruptPin], [0x40, 10, "A"]);
});

Deno.test("command and status bits have names", () => {
  const { command, status } = configFrom(4096, IGB);
  assertEquals(command.raw, 0x0406);
  assertEquals(
    [command.ioSpace, command.memorySpace, command.busMaster, command.serrEnable, command.interruptDisable],
    [false, true, true, false, true],
  );
  assertEquals([status.capabilitiesList, status.interrupt, status.detectedParityError], [true, false, false]);
});

Deno.test("a space over a part of a buffer reads that part", () => {
  const buffer = new Uint8Array(128);
  buffer[64] = 0xf4;
  buffer[65] = 0x1a;
  assertEquals(new ConfigSpace(buffer.subarray(64)).vendorId, 0x1af4);
});

Deno.test("later writes to the bytes show", () => {
  const bytes = new Uint8Array(64);
  const config = new ConfigSpace(bytes);
  bytes[0x3d] = 4;
  assertEquals(config.interruptPin, "D");
  bytes[0x3d] = 5;
  assertEquals(config.interruptPin, undefined, "5 is reserved");
});

Deno.test("reads outside the bytes at hand are refused", () => {
  const config = configFrom(64, {});
  assertEquals(config.read32(60), 0);
  for (
    const read of [
      () => config.read32(61),
      () => config.read16(63),
      () => config.read8(64),
      () => config.read64(57),
    ]
  ) {
    assertThrows(read, UsageError, "not inside");
  }
  assertThrows(() => config.read8(-1), UsageError);
  assertThrows(() => config.read8(1.5), UsageError);
});

Deno.test("BARs: 32-bit, I/O and 64-bit prefetchable ones, with sizes where known", () => {
  const bars = configFrom(4096, IGB).bars([0x20000, undefined, 32, 0x4000]);
  assertEquals(
    bars.map(({ index, space, addressBits, prefetchable, address, sizeBytes }) => [
      index,
      space,
      addressBits,
      prefetchable,
      address,
      sizeBytes,
    ]),
    [
      [0, "memory", 32, false, 0xfbf20000n, 0x20000],
      [1, "memory", 32, false, 0xfbf00000n, 0],
      [2, "io", 32, false, 0xe000n, 32],
      [3, "memory", 64, true, 0x2fbf40000n, 0x4000],
    ],
  );
});

Deno.test("BARs: an unassigned BAR of known size is kept, an empty register is not a BAR", () => {
  const config = configFrom(64, { 0x18: "0c000000 00000000" });
  assertEquals(config.bars().map((bar) => [bar.index, bar.addressBits, bar.address]), [[2, 64, 0n]]);
  assertEquals(config.bars([4096]).map((bar) => [bar.index, bar.sizeBytes]), [[0, 4096], [2, 0]]);
});

Deno.test("BARs: odd types of a hostile device are marked and never read past the last register", () => {
  const config = configFrom(64, { 0x10: "06100000", 0x14: "02300000", 0x24: "04500000", 0x28: "ffffffff" });
  assertEquals(
    config.bars().map((bar) => [bar.index, bar.addressBits, bar.reservedType, bar.address]),
    [[0, 32, true, 0x1000n], [1, 20, false, 0x3000n], [5, 64, false, 0x5000n]],
  );
});

Deno.test("the expansion ROM register differs by header type", () => {
  assertEquals(configFrom(64, { 0x30: "0108ebfe" }).expansionRom, { address: 0xfeeb0800, enabled: true });
  assertEquals(configFrom(64, { 0x0e: "01", 0x38: "0000ebfe" }).expansionRom, {
    address: 0xfeeb0000,
    enabled: false,
  });
  assertEquals(configFrom(64, {}).expansionRom, undefined);
  assertEquals(configFrom(64, { 0x0e: "02", 0x30: "ffffffff" }).expansionRom, undefined);
});

Deno.test("header type 1: bus numbers and forwarding windows", () => {
  const bridge = configFrom(64, {
    0x0e: "81",
    0x18: "00 01 05 00",
    0x1c: "e1 f1 0020",
    0x20: "00fd f0fd",
    0x24: "0100 f100",
    0x28: "02000000 03000000",
    0x30: "0100 0200",
    0x3e: "1200",
  }).bridge!;
  assertEquals([bridge.primaryBus, bridge.secondaryBus, bridge.subordinateBus], [0, 1, 5]);
  assertEquals(bridge.io, { base: 0x1e000n, limit: 0x2ffffn, addressBits: 32 });
  assertEquals(bridge.memory, { base: 0xfd000000n, limit: 0xfdffffffn, addressBits: 32 });
  assertEquals(bridge.prefetchable, { base: 0x200000000n, limit: 0x300ffffffn, addressBits: 64 });
  assertEquals([bridge.control.serrEnable, bridge.control.vga16BitDecode, bridge.control.vgaEnable], [
    true,
    true,
    false,
  ]);
  assertEquals(bridge.secondaryStatus.receivedMasterAbort, true);
});

Deno.test("header type 2: CardBus buses, capability pointer and subsystem are elsewhere", () => {
  const config = configFrom(256, {
    0x06: "1000",
    0x0e: "02",
    0x14: "a0",
    0x18: "05 06 09 b0",
    0x34: "50",
    0x40: "cf10 1614",
  });
  const { primaryBus, cardBus, subordinateBus, latencyTimer } = config.cardBus!;
  assertEquals([primaryBus, cardBus, subordinateBus, latencyTimer], [5, 6, 9, 0xb0]);
  assertEquals(config.capabilitiesPointer, 0xa0);
  assertEquals(config.subsystem, { vendorId: 0x10cf, deviceId: 0x1416 });
  assertEquals(configFrom(64, { 0x0e: "02" }).subsystem, undefined, "0x40 is not in a 64-byte snapshot");
});

Deno.test("header type 2: windows, bridge control, the 16-bit interface's ports", () => {
  const cardBus = configFrom(128, {
    0x0e: "02",
    0x16: "0040",
    0x1c: "00000020 00f0ff21 00000022 00f0ff23",
    0x2c: "01400000 fc400000 00500100 ff500100",
    0x3e: "4301",
    0x44: "0104",
  }).cardBus!;
  assertEquals(cardBus.memoryWindows, [
    { base: 0x20000000n, limit: 0x21ffffffn, addressBits: 32, prefetchable: true },
    { base: 0x22000000n, limit: 0x23ffffffn, addressBits: 32, prefetchable: false },
  ]);
  // The second has 16 bits: its upper halves mean nothing.
  assertEquals(cardBus.ioWindows, [
    { base: 0x4000n, limit: 0x40ffn, addressBits: 32 },
    { base: 0x5000n, limit: 0x50ffn, addressBits: 16 },
  ]);
  assertEquals([cardBus.control.parityErrorResponse, cardBus.control.cardBusReset], [true, true]);
  assertEquals([cardBus.control.serrEnable, cardBus.control.vgaEnable], [true, false]);
  assertEquals([cardBus.secondaryStatus.receivedSystemError, cardBus.legacyBase], [true, 0x401]);
  assertEquals(configFrom(64, { 0x0e: "02" }).cardBus!.legacyBase, undefined);
});

Deno.test("header type 1: type bits of a window that contradict each other are told as they read", () => {
  const { io, memory, prefetchable } = configFrom(64, {
    0x0e: "01",
    0x1c: "e1 f0",
    0x20: "01fd f1fd 0300 f300",
  }).bridge!;
  assertEquals([io.badTypes, memory.badTypes, prefetchable.badTypes], [
    [0xe1, 0xf0],
    [0xfd01, 0xfdf1],
    [3, 0xf3],
  ]);
});

Deno.test("a function that is gone reads as all ones; a VF's own IDs do not mean that it is gone", () => {
  assertEquals(new ConfigSpace(new Uint8Array(64).fill(0xff)).isPresent, false);
  assertEquals(configFrom(64, { 0x00: "ffffffff 0400 1000" }).isPresent, true);
});
