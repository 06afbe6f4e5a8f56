import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import { buildConfigSpace, type FunctionDeclaration, placedOffset } from "../../../lib/pci/config_builder.ts";
import type { ConfigSpaceImage } from "../../../lib/pci/config_writer.ts";
import { findSharedMemory, findVirtioStructure } from "../../../lib/pci/capability/virtio.ts";
import { findCapability, walkCapabilities } from "../../../lib/pci/mod.ts";

/** A PF with every capability that can be built. */
const PF: FunctionDeclaration = {
  vendorId: 0x8086,
  deviceId: 0x10c9,
  revisionId: 1,
  classCode: 0x020000,
  subsystemVendorId: 0x8086,
  subsystemId: 0xa03c,
  multiFunction: true,
  interruptPin: "A",
  bars: [
    { index: 0, sizeBytes: 0x20000 },
    { index: 2, sizeBytes: 32, space: "io" },
    { index: 4, sizeBytes: 0x4000, addressBits: 64, prefetchable: true },
  ],
  capabilities: [
    { kind: "power-management", offset: 0x40 },
    { kind: "msi", offset: 0x50, vectors: 4, perVectorMasking: true },
    {
      kind: "msi-x",
      offset: 0x70,
      vectors: 10,
      table: { bar: 4, offset: 0 },
      pendingBits: { bar: 4, offset: 0x2000 },
    },
    { kind: "express", offset: 0xa0, gigatransfers: 5, width: 4, maxPayloadBytes: 512 },
    { kind: "vendor-specific", data: Uint8Array.of(0xaa, 0xbb), writable: Uint8Array.of(0, 0x0f) },
  ],
  extendedCapabilities: [
    { kind: "advanced-error-reporting" },
    { kind: "device-serial-number", serialNumber: 0x001b21ffff123456n },
    { kind: "alternative-routing-id", offset: 0x158, nextFunction: 1 },
    {
      kind: "sr-iov",
      offset: 0x160,
      totalVfs: 8,
      firstVfOffset: 128,
      vfStride: 2,
      vfDeviceId: 0x10ca,
      vfBars: [
        { index: 0, sizeBytes: 0x4000, addressBits: 64, prefetchable: true },
        { index: 3, sizeBytes: 0x4000, addressBits: 64, prefetchable: true },
      ],
    },
    { kind: "address-translation", invalidateQueueDepth: 16 },
  ],
};

/** Sizes a BAR as system software does: save, write all ones, read, restore. */
function sizeOf(image: ConfigSpaceImage, offset: number): number {
  const before = image.config.read32(offset);
  image.writeValue(offset, 4, 0xffffffff);
  const mask = image.config.read32(offset);
  image.writeValue(offset, 4, before);
  assertEquals(image.config.read32(offset), before);
  return mask;
}

Deno.test("a built PF walks strictly, with the structure sizes of the standard", () => {
  const { image, placed } = buildConfigSpace(PF);
  const { capabilities, findings } = walkCapabilities(image.config, { strict: true });
  assertEquals(findings, []);
  assertEquals(
    capabilities.map((cap) => [cap.kind, cap.offset, cap.next, "lengthBytes" in cap ? cap.lengthBytes : 0]),
    [
      ["power-management", 0x40, 0x50, 8],
      ["msi", 0x50, 0x70, 24],
      ["msi-x", 0x70, 0xa0, 12],
      ["express", 0xa0, 0x48, 0x3c],
      ["vendor-specific", 0x48, 0, 5],
      ["advanced-error-reporting", 0x100, 0x148, 0x48],
      ["device-serial-number", 0x148, 0x158, 12],
      ["alternative-routing-id", 0x158, 0x160, 8],
      ["sr-iov", 0x160, 0x1a0, 0x40],
      ["address-translation", 0x1a0, 0, 8],
    ],
  );
  assertEquals(placed.map((cap) => [cap.offset, cap.lengthBytes]), [
    [0x40, 8],
    [0x50, 24],
    [0x70, 12],
    [0xa0, 0x3c],
    [0x48, 5],
    [0x100, 0x48],
    [0x148, 12],
    [0x158, 8],
    [0x160, 0x40],
    [0x1a0, 8],
  ]);
});

Deno.test("the header has its fixed fields, status bit 4 and a read-only interrupt pin", () => {
  const { image } = buildConfigSpace(PF);
  assertEquals(image.read(0, 16).toHex(), "8680c910000010000100000200008000");
  assertEquals(image.read(0x2c, 4).toHex(), "86803ca0");
  assertEquals([image.config.capabilitiesPointer, image.config.interruptPin], [0x40, "A"]);
  image.writeValue(0x3c, 2, 0xffff);
  assertEquals(image.read(0x3c, 2).toHex(), "ff01", "line is writable, pin is not");
});

Deno.test("writing all ones everywhere changes exactly the writable bits; reserved bits stay 0", () => {
  const { image } = buildConfigSpace(PF);
  const before = image.bytes.slice();
  image.write(0, new Uint8Array(4096).fill(0xff));
  const expected = new Map<number, string>([
    [0x00, "8680c910 4705 1000 01 000002 ff 00 80 00"],
    [0x10, "0000feff 00000000 e1ffffff 00000000 0cc0ffff ffffffff"],
    [0x30, "00000000 40000000 00000000 ff010000"],
    [0x40, "0150 0300 0b00 0000 0900 05 aa bf"],
    [0x50, "0570 f501 fcffffff ffffffff ffff0000 0f000000 00000000"],
    [0x70, "11a0 09c0 04000000 04200000"],
    // Device Control keeps its FLR bit at 0; Link Control lacks link disable, retrain and clock power management.
    [0xa0, "1048 0200 22800010 ff79 0000 42004000 cb00 4210"],
    [0xc4, "10000000 1000 0000 06000000 bfff 0000"],
    [0x100, "01008214 00000000 30f0ff07 30f0ff07 00000000 c1f10000 00000000"],
    [0x158, "0e000116 0001 0000"],
    [0x160, "1000011a 00000000 1900 0000 0800 0800 ffff 0000 8000 0200 0000 ca10 53050000 53050000"],
    [0x184, "0cc0ffff ffffffff 00000000 0cc0ffff ffffffff 00000000 00000000"],
    [0x1a0, "0f000100 3000 1f80"],
  ]);
  for (const [offset, text] of expected) {
    const hex = text.replaceAll(" ", "");
    assertEquals(image.read(offset, hex.length / 2).toHex(), hex, `at 0x${offset.toString(16)}`);
  }
  for (let at = 0; at < 4096; at++) {
    assertEquals(image.bytes[at]! & ~image.writeMask[at]!, before[at]! & ~image.writeMask[at]!, `byte ${at}`);
  }
});

Deno.test("BAR sizing: 32-bit memory, I/O, 64-bit memory, and registers without a BAR", () => {
  const { image } = buildConfigSpace(PF);
  assertEquals(sizeOf(image, 0x10), 0xfffe0000);
  assertEquals(sizeOf(image, 0x14), 0);
  assertEquals(sizeOf(image, 0x18), 0xffffffe1);
  assertEquals([sizeOf(image, 0x20), sizeOf(image, 0x24)], [0xffffc00c, 0xffffffff]);
  assertEquals(sizeOf(image, 0x30), 0, "no expansion ROM");
});

Deno.test("BAR sizing: a 64-bit BAR of 4 GiB and more has no writable bit in its lower half", () => {
  for (
    const [sizeBytes, lower, upper] of [[2 ** 31, 0x80000004, 0xffffffff], [2 ** 32, 4, 0xffffffff], [
      2 ** 40,
      4,
      0xffffff00,
    ]]
  ) {
    const { image } = buildConfigSpace({
      vendorId: 1,
      deviceId: 2,
      classCode: 0,
      bars: [{ index: 0, sizeBytes: sizeBytes!, addressBits: 64 }],
    });
    assertEquals([sizeOf(image, 0x10), sizeOf(image, 0x14)], [lower, upper]);
  }
});

Deno.test("a BAR takes an address on a multiple of its size only", () => {
  const { image } = buildConfigSpace(PF);
  image.writeValue(0x10, 4, 0xfe013579);
  assertEquals(image.config.bars()[0]!.address, 0xfe000000n);
});

Deno.test("SR-IOV: VF BARs answer the sizing protocol with the size of one VF", () => {
  const { image } = buildConfigSpace(PF);
  assertEquals([sizeOf(image, 0x184), sizeOf(image, 0x188)], [0xffffc00c, 0xffffffff]);
  assertEquals(sizeOf(image, 0x18c), 0);
});

Deno.test("SR-IOV: NumVFs, page size and ARI hierarchy are locked while VFs are enabled", () => {
  const { image } = buildConfigSpace(PF);
  const sriov = () => findCapability(walkCapabilities(image.config), "sr-iov")!;
  image.writeValue(0x170, 2, 4);
  image.writeValue(0x168, 2, 0x09);
  assertEquals([sriov().numVfs, sriov().control.vfEnable, sriov().control.vfMemorySpaceEnable], [
    4,
    true,
    true,
  ]);
  image.writeValue(0x170, 2, 7);
  image.writeValue(0x180, 4, 2);
  image.writeValue(0x168, 2, 0x19);
  assertEquals([sriov().numVfs, sriov().systemPageSize, sriov().control.ariCapableHierarchy], [4, 1, false]);
  image.writeValue(0x168, 2, 0x00);
  image.writeValue(0x170, 2, 7);
  image.writeValue(0x168, 2, 0x10);
  assertEquals([sriov().numVfs, sriov().control.ariCapableHierarchy], [7, true]);
});

Deno.test("SR-IOV: only the lowest PF can set ARI Capable Hierarchy", () => {
  const { image } = buildConfigSpace({
    vendorId: 1,
    deviceId: 2,
    classCode: 0,
    extendedCapabilities: [
      { kind: "sr-iov", totalVfs: 1, firstVfOffset: 1, vfStride: 1, vfDeviceId: 3, isLowestPf: false },
    ],
  });
  image.writeValue(0x108, 2, 0xffff);
  assertEquals(image.config.read16(0x108), 0x0009);
});

Deno.test("Express: FLR reads 0, is reported when written, and absent when not offered", () => {
  const { image } = buildConfigSpace(PF);
  const outcome = image.writeValue(0xa8, 2, image.config.read16(0xa8) | 0x8000);
  assertEquals(outcome, { changed: [], triggered: [{ offset: 0xa9, mask: 0x80 }] });
  const without = buildConfigSpace({
    vendorId: 1,
    deviceId: 2,
    classCode: 0,
    capabilities: [{ kind: "express", functionLevelReset: false }],
  }).image;
  assertEquals(without.writeValue(0x48, 2, 0x8000).triggered, []);
  assertEquals(findCapability(walkCapabilities(without.config), "express")?.functionLevelReset, false);
});

Deno.test("Express: reset values, payload, link and supported speeds decode as declared", () => {
  const express = findCapability(walkCapabilities(buildConfigSpace(PF).image.config), "express")!;
  assertEquals(express.deviceControl.raw, 0x2810);
  assertEquals([express.maxPayloadSupportedBytes, express.maxPayloadBytes, express.maxReadRequestBytes], [
    512,
    128,
    512,
  ]);
  assertEquals(express.link?.current, { gigatransfers: 5, width: 4 });
  assertEquals([express.link2?.capabilities.supportedSpeeds, express.link2?.control.targetSpeed], [0b11, 2]);
});

Deno.test("Express: an integrated endpoint has no link registers", () => {
  const { image } = buildConfigSpace({
    vendorId: 1,
    deviceId: 2,
    classCode: 0,
    capabilities: [{ kind: "express", deviceType: "rootComplexEndpoint" }],
  });
  image.write(0x4c, new Uint8Array(8).fill(0xff));
  assertEquals(image.read(0x4c, 8), new Uint8Array(8));
  assertEquals(findCapability(walkCapabilities(image.config), "express")?.link, undefined);
});

Deno.test("Express: the first version is 20 bytes with a link and 12 without, and has neither second set of registers", () => {
  for (const [deviceType, lengthBytes] of [["endpoint", 0x14], ["rootComplexEndpoint", 0x0c]] as const) {
    const { image, placed } = buildConfigSpace({
      vendorId: 1,
      deviceId: 2,
      classCode: 0,
      capabilities: [{ kind: "express", structureVersion: 1, deviceType }],
    });
    assertEquals(placed[0]!.lengthBytes, lengthBytes);
    const express = findCapability(walkCapabilities(image.config), "express")!;
    assertEquals([express.structureVersion, express.lengthBytes], [1, lengthBytes]);
    assertEquals([express.functionLevelReset, express.deviceControl.raw], [true, 0x2810]);
    assertEquals([express.device2, express.link2], [undefined, undefined]);
    assertEquals(express.link?.current, lengthBytes === 0x14 ? { gigatransfers: 2.5, width: 1 } : undefined);
    image.write(0x40 + lengthBytes, new Uint8Array(16).fill(0xff));
    assertEquals(image.read(0x40 + lengthBytes, 16), new Uint8Array(16), "nothing behind it");
    assertEquals(image.writeValue(0x48, 2, 0xa810).triggered, [{ offset: 0x49, mask: 0x80 }]);
  }
});

Deno.test("a function level reset clears command, BARs, SR-IOV; keeps payload size and sticky AER bits", () => {
  const { image } = buildConfigSpace(PF);
  image.writeValue(0x04, 2, 0x0006);
  image.writeValue(0x10, 4, 0xfe000000);
  image.writeValue(0xa8, 2, 0x2830);
  image.writeValue(0x168, 2, 0x0001);
  image.set(0x104, 4, 0x00100000);
  image.reset("function-level");
  assertEquals([image.config.command.raw, image.config.read32(0x10), image.config.read16(0x168)], [0, 0, 0]);
  assertEquals(image.config.read16(0xa8), 0x2830);
  assertEquals(image.config.read32(0x104), 0x00100000);
  image.reset("conventional");
  assertEquals([image.config.read16(0xa8), image.config.read32(0x104)], [0x2810, 0]);
});

Deno.test("PM: D0 and D3hot can be entered, D1 and D2 are discarded", () => {
  const { image } = buildConfigSpace(PF);
  const state = () => findCapability(walkCapabilities(image.config), "power-management")!.powerState;
  image.writeValue(0x44, 2, 3);
  assertEquals(state(), 3);
  image.writeValue(0x44, 2, 1);
  assertEquals(state(), 3);
  image.writeValue(0x44, 2, 0);
  image.writeValue(0x44, 2, 2);
  assertEquals(state(), 0);
});

Deno.test("AER: severity resets to the standard's value, status bits clear by writing 1", () => {
  const { image } = buildConfigSpace(PF);
  assertEquals([image.config.read32(0x10c), image.config.read32(0x114)], [0x00462030, 0x0000e000]);
  image.set(0x104, 4, 0x00104000);
  image.writeValue(0x104, 4, 0x00100000);
  assertEquals(image.config.read32(0x104), 0x00004000);
});

Deno.test("MSI: 32 vectors have 32 mask bits, one vector has one, and no mask register without masking", () => {
  const mask = (vectors: number, perVectorMasking: boolean) => {
    const { image } = buildConfigSpace({
      vendorId: 1,
      deviceId: 2,
      classCode: 0,
      capabilities: [{ kind: "msi", vectors, perVectorMasking }],
    });
    image.writeValue(0x50, 4, 0xffffffff);
    return image.config.read32(0x50);
  };
  assertEquals([mask(32, true), mask(1, true), mask(1, false)], [0xffffffff, 1, 0]);
});

Deno.test("2.1 virtio structures are built as they decode", () => {
  const { image, placed } = buildConfigSpace({
    vendorId: 0x1af4,
    deviceId: 0x106c,
    revisionId: 1,
    classCode: 0xff0000,
    bars: [{ index: 2, sizeBytes: 2 ** 33, addressBits: 64, prefetchable: true }, {
      index: 4,
      sizeBytes: 0x4000,
    }],
    capabilities: [
      { kind: "virtio", structure: "common", bar: 4, regionOffset: 0, regionLength: 0x40 },
      {
        kind: "virtio",
        structure: "notify",
        bar: 4,
        regionOffset: 0x3000,
        regionLength: 0x1000,
        notifyOffMultiplier: 4,
      },
      { kind: "virtio", structure: "isr", bar: 4, regionOffset: 0x1000, regionLength: 4 },
      { kind: "virtio", structure: "device", bar: 4, regionOffset: 0x2000, regionLength: 40 },
      {
        kind: "virtio",
        structure: "sharedMemory",
        bar: 2,
        structureId: 1,
        regionOffset: 2 ** 32,
        regionLength: 2 ** 32,
      },
      { kind: "virtio", structure: "pciCfg" },
    ],
  });
  assertEquals(placed.map((cap) => [cap.offset, cap.lengthBytes]), [
    [0x40, 16],
    [0x50, 20],
    [0x64, 16],
    [0x74, 16],
    [0x84, 24],
    [0x9c, 20],
  ]);
  assertEquals(image.read(0x50, 20).toHex(), "0964140204000000003000000010000004000000");
  const { capabilities } = walkCapabilities(image.config, { strict: true });
  assertEquals(findVirtioStructure(capabilities, "notify")?.notifyOffMultiplier, 4);
  assertEquals(findVirtioStructure(capabilities, "device")?.regionLength, 40);
  const memory = findSharedMemory(capabilities).get(1);
  assertEquals([memory?.regionOffset, memory?.regionLength], [2 ** 32, 2 ** 32]);
});

Deno.test("2.1 the driver can aim the configuration access window, and write nothing else of it", () => {
  const { image } = buildConfigSpace({
    vendorId: 0x1af4,
    deviceId: 0x1041,
    classCode: 0x020000,
    capabilities: [{ kind: "virtio", structure: "pciCfg" }],
  });
  image.write(0x40, new Uint8Array(20).fill(0xff));
  assertEquals(image.read(0x40, 20).toHex(), "09001405ff000000ffffffffffffffffffffffff");
});

Deno.test("command bits follow the BARs: no I/O enable without an I/O BAR", () => {
  const commandAfterOnes = (declaration: Partial<FunctionDeclaration>) => {
    const { image } = buildConfigSpace({ vendorId: 1, deviceId: 2, classCode: 0, ...declaration });
    image.writeValue(4, 2, 0xffff);
    return image.config.command.raw;
  };
  assertEquals(commandAfterOnes({}), 0x0544);
  assertEquals(commandAfterOnes({ bars: [{ index: 0, sizeBytes: 4096 }] }), 0x0546);
  assertEquals(commandAfterOnes({ bars: [{ index: 0, sizeBytes: 32, space: "io" }] }), 0x0545);
});

Deno.test("a VF as hardware has it: IDs read ffff, BARs and memory enable are hardwired to 0", () => {
  const { image } = buildConfigSpace({
    shape: "vf",
    vendorId: 0x8086,
    deviceId: 0x10ca,
    classCode: 0x020000,
    bars: [{ index: 0, sizeBytes: 0x4000, addressBits: 64 }],
    capabilities: [{ kind: "express" }],
  });
  assertEquals([image.config.vendorId, image.config.deviceId], [0xffff, 0xffff]);
  assertEquals([image.config.subsystem?.vendorId, image.config.isPresent], [0x8086, true]);
  image.write(4, new Uint8Array(0x3c).fill(0xff));
  assertEquals([image.config.command.raw, sizeOf(image, 0x10), image.config.interruptLine], [0x0004, 0, 0]);
  assertEquals(walkCapabilities(image.config).capabilities.length, 1);
});

Deno.test("a VF as its VFIO user sees it: IDs, BARs and memory enable are there, INTx is not", () => {
  const { image } = buildConfigSpace({
    shape: "vf-for-user",
    vendorId: 0x8086,
    deviceId: 0x10ca,
    classCode: 0x020000,
    bars: [{ index: 0, sizeBytes: 0x4000, addressBits: 64 }],
  });
  assertEquals([image.config.vendorId, image.config.deviceId], [0x8086, 0x10ca]);
  image.writeValue(4, 2, 0xffff);
  assertEquals([image.config.command.raw, sizeOf(image, 0x10), image.config.interruptPin], [
    0x0006,
    0xffffc004,
    undefined,
  ]);
});

Deno.test("a function without capabilities has neither the status bit nor a pointer", () => {
  const { image } = buildConfigSpace({ vendorId: 1, deviceId: 2, classCode: 0 });
  assertEquals([image.config.status.raw, image.config.read8(0x34), image.config.read32(0x100)], [0, 0, 0]);
});

Deno.test("placedOffset gives the first capability of a kind", () => {
  const built = buildConfigSpace(PF);
  assertEquals([placedOffset(built, "sr-iov"), placedOffset(built, "virtio")], [0x160, undefined]);
});

Deno.test("declarations that cannot be are refused with the reason", () => {
  const base = { vendorId: 1, deviceId: 2, classCode: 0 };
  const cases: [Partial<FunctionDeclaration>, string][] = [
    [{ vendorId: 0x10000 }, "vendor ID"],
    [{ classCode: -1 }, "class code"],
    [{ shape: "vf", interruptPin: "A" }, "INTx"],
    [{ bars: [{ index: 0, sizeBytes: 3000 }] }, "power of two"],
    [{ bars: [{ index: 0, sizeBytes: 0 }] }, "its size"],
    [{ bars: [{ index: 0, sizeBytes: 8 }] }, "its size"],
    [{ bars: [{ index: 0, sizeBytes: 2 ** 32 }] }, "its size"],
    [{ bars: [{ index: 0, sizeBytes: 512, space: "io" }] }, "its size"],
    [{ bars: [{ index: 0, sizeBytes: 16, space: "io", prefetchable: true }] }, "I/O BAR"],
    [{ bars: [{ index: 5, sizeBytes: 4096, addressBits: 64 }] }, "two registers"],
    [{ bars: [{ index: 6, sizeBytes: 4096 }] }, "0 … 5"],
    [
      { bars: [{ index: 0, sizeBytes: 4096, addressBits: 64 }, { index: 1, sizeBytes: 4096 }] },
      "another BAR",
    ],
    [{ capabilities: [{ kind: "express", offset: 0x42 }] }, "multiple of 4"],
    [{ capabilities: [{ kind: "express", offset: 0x30 }] }, "outside"],
    [{ capabilities: [{ kind: "express", offset: 0xd0 }] }, "outside"],
    [
      { capabilities: [{ kind: "express", offset: 0x40 }, { kind: "power-management", offset: 0x78 }] },
      "overlaps express",
    ],
    [{ capabilities: Array(4).fill({ kind: "express" }) }, "outside"],
    [{ capabilities: [{ kind: "msi", vectors: 3 }] }, "3 vectors"],
    [{
      capabilities: [{
        kind: "msi-x",
        vectors: 0,
        table: { bar: 0, offset: 0 },
        pendingBits: { bar: 0, offset: 8 },
      }],
    }, "count"],
    [{
      capabilities: [{
        kind: "msi-x",
        vectors: 1,
        table: { bar: 0, offset: 4 },
        pendingBits: { bar: 0, offset: 8 },
      }],
    }, "multiple of 8"],
    [{ capabilities: [{ kind: "virtio", structure: "notify", notifyOffMultiplier: 6 }] }, "power of two"],
    [{ capabilities: [{ kind: "virtio", structure: "common", bar: 6 }] }, "BAR"],
    [{ capabilities: [{ kind: "express", gigatransfers: 3 }] }, "link speed"],
    [{ extendedCapabilities: [{ kind: "advanced-error-reporting", offset: 0x140 }] }, "0x100"],
    [{
      extendedCapabilities: [{
        kind: "sr-iov",
        totalVfs: 1,
        firstVfOffset: 1,
        vfStride: 1,
        vfDeviceId: 1,
        vfBars: [{ index: 0, sizeBytes: 2048 }],
      }],
    }, "less than a page"],
  ];
  for (const [declaration, reason] of cases) {
    assertThrows(() => buildConfigSpace({ ...base, ...declaration }), UsageError, reason);
  }
  assert(cases.length > 20);
});
