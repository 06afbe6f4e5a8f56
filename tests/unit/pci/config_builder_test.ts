import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import type { BarShape } from "../../../lib/pci/bar_builder.ts";
import * as build from "../../../lib/pci/capability_builder.ts";
import { buildConfigSpace, type FunctionDeclaration } from "../../../lib/pci/config_builder.ts";
import type { ConfigSpaceImage } from "../../../lib/pci/config_writer.ts";
import { findSharedMemory, findVirtioStructure } from "../../../lib/pci/capability/virtio.ts";
import { findCapability, walkCapabilities } from "../../../lib/pci/mod.ts";
import { writeValue } from "./fixtures.ts";

const SRIOV = { totalVfs: 8, firstVfOffset: 128, vfStride: 2, vfDeviceId: 0x10ca };
const MSIX = { vectors: 10, table: { bar: 4, offset: 0 }, pendingBits: { bar: 4, offset: 0x2000 } };

function bar(index: number, sizeBytes: number, kind: BarShape["kind"], prefetchable = false): BarShape {
  return { index, sizeBytes, kind, prefetchable };
}

/** A PF with every capability that can be built. */
const PF: FunctionDeclaration = {
  vendorId: 0x8086,
  deviceId: 0x10c9,
  revisionId: 1,
  classCode: 0x020000,
  subsystemVendorId: 0x8086,
  subsystemId: 0xa03c,
  hasIntx: true,
  bars: [bar(0, 0x20000, "mem32"), bar(2, 32, "io"), bar(4, 0x4000, "mem64", true)],
  capabilities: [
    build.powerManagement(),
    build.msix(MSIX),
    build.express(),
    build.vendorCapability({
      kind: "vendor-specific",
      data: Uint8Array.of(0xaa, 0xbb),
      writable: Uint8Array.of(0, 0x0f),
    }),
  ],
  extendedCapabilities: [
    build.advancedErrorReporting(),
    build.alternativeRoutingId(),
    build.sriov({ ...SRIOV, vfBars: [bar(0, 0x4000, "mem64", true), bar(3, 0x4000, "mem64", true)] }),
    build.addressTranslation(),
  ],
};

/** Sizes a BAR as system software does: save, write all ones, read, restore. */
function sizeOf(image: ConfigSpaceImage, offset: number): number {
  const before = image.config.read32(offset);
  writeValue(image, offset, 4, 0xffffffff);
  const mask = image.config.read32(offset);
  writeValue(image, offset, 4, before);
  assertEquals(image.config.read32(offset), before);
  return mask;
}

Deno.test("a built PF walks strictly, with the structure sizes of the standard", () => {
  const image = buildConfigSpace(PF);
  const { capabilities, findings } = walkCapabilities(image.config, { strict: true });
  assertEquals(findings, []);
  assertEquals(
    capabilities.map((cap) => [cap.kind, cap.offset, cap.next, "lengthBytes" in cap ? cap.lengthBytes : 0]),
    [
      ["power-management", 0x40, 0x48, 8],
      ["msi-x", 0x48, 0x54, 12],
      ["express", 0x54, 0x90, 0x3c],
      ["vendor-specific", 0x90, 0, 5],
      ["advanced-error-reporting", 0x100, 0x138, 0x38],
      ["alternative-routing-id", 0x138, 0x140, 8],
      ["sr-iov", 0x140, 0x180, 0x40],
      ["address-translation", 0x180, 0, 8],
    ],
  );
});

Deno.test("the header has its fixed fields, status bit 4 and a read-only interrupt pin", () => {
  const image = buildConfigSpace(PF);
  assertEquals(image.read(0, 16).toHex(), "8680c910000010000100000200000000");
  assertEquals(image.read(0x2c, 4).toHex(), "86803ca0");
  assertEquals([image.config.capabilitiesPointer, image.config.interruptPin], [0x40, "A"]);
  writeValue(image, 0x3c, 2, 0xffff);
  assertEquals(image.read(0x3c, 2).toHex(), "ff01", "line is writable, pin is not");
});

Deno.test("writing all ones everywhere changes exactly the writable bits; reserved bits stay 0", () => {
  const image = buildConfigSpace(PF);
  const before = image.bytes.slice();
  image.write(0, new Uint8Array(4096).fill(0xff));
  const expected = new Map<number, string>([
    [0x00, "8680c910 4705 1000 01 000002 ff 00 00 00"],
    [0x10, "0000feff 00000000 e1ffffff 00000000 0cc0ffff ffffffff"],
    [0x30, "00000000 40000000 00000000 ff010000"],
    [0x40, "0148 0300 0300 0000"],
    [0x48, "1154 09c0 04000000 04200000"],
    // Device Control keeps its FLR bit at 0; Link Control lacks link disable, retrain and clock power management.
    [0x54, "1090 0200 21800010 ff79 0000 13004000 cb00 1310"],
    [0x78, "10000000 1000 0000 0e000000 bfff 0000"],
    [0x90, "0900 05 aa bf"],
    [0x100, "01008213 00000000 30f0ff07 30f0ff07 00000000 c1f10000 00000000"],
    [0x138, "0e000114 0000 0000"],
    [0x140, "10000118 00000000 1900 0000 0800 0800 ffff 0000 8000 0200 0000 ca10 53050000 53050000"],
    [0x164, "0cc0ffff ffffffff 00000000 0cc0ffff ffffffff 00000000 00000000"],
    [0x180, "0f000100 2000 1f80"],
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
  const image = buildConfigSpace(PF);
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
    const image = buildConfigSpace({
      vendorId: 1,
      deviceId: 2,
      classCode: 0,
      bars: [bar(0, sizeBytes!, "mem64")],
    });
    assertEquals([sizeOf(image, 0x10), sizeOf(image, 0x14)], [lower, upper]);
  }
});

Deno.test("a BAR takes an address on a multiple of its size only", () => {
  const image = buildConfigSpace(PF);
  writeValue(image, 0x10, 4, 0xfe013579);
  assertEquals(image.config.bars()[0]!.address, 0xfe000000n);
});

Deno.test("SR-IOV: VF BARs answer the sizing protocol with the size of one VF", () => {
  const image = buildConfigSpace(PF);
  assertEquals([sizeOf(image, 0x164), sizeOf(image, 0x168)], [0xffffc00c, 0xffffffff]);
  assertEquals(sizeOf(image, 0x16c), 0);
});

Deno.test("SR-IOV: NumVFs, page size and ARI hierarchy are locked while VFs are enabled", () => {
  const image = buildConfigSpace(PF);
  const sriov = () => findCapability(walkCapabilities(image.config), "sr-iov")!;
  writeValue(image, 0x150, 2, 4);
  writeValue(image, 0x148, 2, 0x09);
  assertEquals([sriov().numVfs, sriov().control.vfEnable, sriov().control.vfMemorySpaceEnable], [
    4,
    true,
    true,
  ]);
  writeValue(image, 0x150, 2, 7);
  writeValue(image, 0x160, 4, 2);
  writeValue(image, 0x148, 2, 0x19);
  assertEquals([sriov().numVfs, sriov().systemPageSize, sriov().control.ariCapableHierarchy], [4, 1, false]);
  writeValue(image, 0x148, 2, 0x00);
  writeValue(image, 0x150, 2, 7);
  writeValue(image, 0x148, 2, 0x10);
  assertEquals([sriov().numVfs, sriov().control.ariCapableHierarchy], [7, true]);
});

Deno.test("Express: FLR reads 0, and is reported when written", () => {
  const image = buildConfigSpace(PF);
  const before = image.bytes.slice();
  const triggered = writeValue(image, 0x5c, 2, image.config.read16(0x5c) | 0x8000);
  assertEquals([image.bytes, triggered], [before, [{ offset: 0x5d, mask: 0x80 }]]);
});

Deno.test("Express: reset values, payload, link and supported speeds decode as declared", () => {
  const express = findCapability(walkCapabilities(buildConfigSpace(PF).config), "express")!;
  assertEquals(express.deviceControl.raw, 0x2810);
  assertEquals(express.functionLevelReset, true);
  assertEquals([express.maxPayloadSupportedBytes, express.maxPayloadBytes, express.maxReadRequestBytes], [
    256,
    128,
    512,
  ]);
  assertEquals(express.link?.current, { gigatransfers: 8, width: 1 });
  assertEquals([express.link2?.capabilities.supportedSpeeds, express.link2?.control.targetSpeed], [0b111, 3]);
});

Deno.test("Express: the first version is 20 bytes, and has neither second set of registers", () => {
  const image = buildConfigSpace({
    vendorId: 1,
    deviceId: 2,
    classCode: 0,
    capabilities: [build.express(1)],
  });
  const express = findCapability(walkCapabilities(image.config), "express")!;
  assertEquals([express.structureVersion, express.lengthBytes], [1, 0x14]);
  assertEquals([express.functionLevelReset, express.deviceControl.raw], [true, 0x2810]);
  assertEquals([express.device2, express.link2], [undefined, undefined]);
  assertEquals(express.link?.current, { gigatransfers: 2.5, width: 1 });
  image.write(0x54, new Uint8Array(16).fill(0xff));
  assertEquals(image.read(0x54, 16), new Uint8Array(16), "nothing behind it");
  assertEquals(writeValue(image, 0x48, 2, 0xa810), [{ offset: 0x49, mask: 0x80 }]);
});

Deno.test("a reset clears command, BARs, SR-IOV, payload size and errors", () => {
  const image = buildConfigSpace(PF);
  writeValue(image, 0x04, 2, 0x0006);
  writeValue(image, 0x10, 4, 0xfe000000);
  writeValue(image, 0x5c, 2, 0x2830);
  writeValue(image, 0x148, 2, 0x0001);
  image.set(0x104, 4, 0x00100000);
  image.reset();
  assertEquals([image.config.command.raw, image.config.read32(0x10), image.config.read16(0x148)], [0, 0, 0]);
  assertEquals([image.config.read16(0x5c), image.config.read32(0x104)], [0x2810, 0]);
});

Deno.test("PM: D0 and D3hot can be entered, D1 and D2 are discarded", () => {
  const image = buildConfigSpace(PF);
  const state = () => findCapability(walkCapabilities(image.config), "power-management")!.powerState;
  writeValue(image, 0x44, 2, 3);
  assertEquals(state(), 3);
  writeValue(image, 0x44, 2, 1);
  assertEquals(state(), 3);
  writeValue(image, 0x44, 2, 0);
  writeValue(image, 0x44, 2, 2);
  assertEquals(state(), 0);
});

Deno.test("AER: severity resets to the standard's value, status bits clear by writing 1", () => {
  const image = buildConfigSpace(PF);
  assertEquals([image.config.read32(0x10c), image.config.read32(0x114)], [0x00462030, 0x0000e000]);
  image.set(0x104, 4, 0x00104000);
  writeValue(image, 0x104, 4, 0x00100000);
  assertEquals(image.config.read32(0x104), 0x00004000);
});

Deno.test("2.1 virtio structures are built as they decode", () => {
  const image = buildConfigSpace({
    vendorId: 0x1af4,
    deviceId: 0x106c,
    revisionId: 1,
    classCode: 0xff0000,
    bars: [bar(2, 2 ** 33, "mem64", true), bar(4, 0x4000, "mem32")],
    capabilities: ([
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
    ] as const).map(build.vendorCapability),
  });
  const { capabilities } = walkCapabilities(image.config, { strict: true });
  assertEquals(capabilities.map((cap) => [cap.offset, "lengthBytes" in cap && cap.lengthBytes]), [
    [0x40, 16],
    [0x50, 20],
    [0x64, 16],
    [0x74, 16],
    [0x84, 24],
    [0x9c, 20],
  ]);
  assertEquals(image.read(0x50, 20).toHex(), "0964140204000000003000000010000004000000");
  assertEquals(findVirtioStructure(capabilities, "notify")?.notifyOffMultiplier, 4);
  assertEquals(findVirtioStructure(capabilities, "device")?.regionLength, 40);
  const memory = findSharedMemory(capabilities).get(1);
  assertEquals([memory?.regionOffset, memory?.regionLength], [2 ** 32, 2 ** 32]);
});

Deno.test("2.1 the driver can aim the configuration access window, and write nothing else of it", () => {
  const image = buildConfigSpace({
    vendorId: 0x1af4,
    deviceId: 0x1041,
    classCode: 0x020000,
    capabilities: [build.vendorCapability({ kind: "virtio", structure: "pciCfg" })],
  });
  image.write(0x40, new Uint8Array(20).fill(0xff));
  assertEquals(image.read(0x40, 20).toHex(), "09001405ff000000ffffffffffffffffffffffff");
});

Deno.test("command bits follow the BARs: no I/O enable without an I/O BAR", () => {
  const commandAfterOnes = (declaration: Partial<FunctionDeclaration>) => {
    const image = buildConfigSpace({ vendorId: 1, deviceId: 2, classCode: 0, ...declaration });
    writeValue(image, 4, 2, 0xffff);
    return image.config.command.raw;
  };
  assertEquals(commandAfterOnes({}), 0x0544);
  assertEquals(commandAfterOnes({ bars: [bar(0, 4096, "mem32")] }), 0x0546);
  assertEquals(commandAfterOnes({ bars: [bar(0, 32, "io")] }), 0x0545);
});

Deno.test("a VF as its VFIO user sees it: IDs, BARs and memory enable are there, INTx is not", () => {
  const image = buildConfigSpace({
    isVf: true,
    vendorId: 0x8086,
    deviceId: 0x10ca,
    classCode: 0x020000,
    bars: [bar(0, 0x4000, "mem64")],
  });
  assertEquals([image.config.vendorId, image.config.deviceId], [0x8086, 0x10ca]);
  writeValue(image, 4, 2, 0xffff);
  assertEquals([image.config.command.raw, sizeOf(image, 0x10), image.config.interruptPin], [
    0x0006,
    0xffffc004,
    undefined,
  ]);
});

Deno.test("a function without capabilities has neither the status bit nor a pointer", () => {
  const image = buildConfigSpace({ vendorId: 1, deviceId: 2, classCode: 0 });
  assertEquals([image.config.status.raw, image.config.read8(0x34), image.config.read32(0x100)], [0, 0, 0]);
});

Deno.test("declarations that cannot be are refused with the reason", () => {
  const base = { vendorId: 1, deviceId: 2, classCode: 0 };
  const virtio = (wanted: Omit<build.VirtioDeclaration, "kind">) =>
    build.vendorCapability({ kind: "virtio", ...wanted });
  const cases: [Partial<FunctionDeclaration>, string][] = [
    [{ vendorId: 0x10000 }, "vendor ID"],
    [{ classCode: -1 }, "class code"],
    [{ isVf: true, hasIntx: true }, "INTx"],
    [{ bars: [bar(0, 3000, "mem32")] }, "power of two"],
    [{ bars: [bar(0, 0, "mem32")] }, "its size"],
    [{ bars: [bar(0, 8, "mem32")] }, "its size"],
    [{ bars: [bar(0, 2 ** 32, "mem32")] }, "its size"],
    [{ bars: [bar(0, 512, "io")] }, "its size"],
    [{ bars: [bar(0, 16, "io", true)] }, "I/O BAR"],
    [{ bars: [bar(5, 4096, "mem64")] }, "two registers"],
    [{ bars: [bar(6, 4096, "mem32")] }, "0 … 5"],
    [{ bars: [bar(0, 4096, "mem64"), bar(1, 4096, "mem32")] }, "another BAR"],
    [{ capabilities: Array(4).fill(build.express()) }, "outside"],
    [{ extendedCapabilities: Array(69).fill(build.advancedErrorReporting()) }, "outside"],
    [{ capabilities: [build.msix({ ...MSIX, vectors: 0 })] }, "count"],
    [{ capabilities: [build.msix({ ...MSIX, table: { bar: 0, offset: 4 } })] }, "multiple of 8"],
    [{ capabilities: [build.msix({ ...MSIX, table: { bar: 6, offset: 0 } })] }, "BAR"],
    [{ capabilities: [virtio({ structure: "notify", notifyOffMultiplier: 6 })] }, "power of two"],
    [{ capabilities: [virtio({ structure: "common", bar: 6 })] }, "BAR"],
    [
      { extendedCapabilities: [build.sriov({ ...SRIOV, vfBars: [bar(0, 2048, "mem32")] })] },
      "less than a page",
    ],
    [{ extendedCapabilities: [build.sriov({ ...SRIOV, vfBars: [bar(0, 256, "io")] })] }, "no I/O space"],
    [{ extendedCapabilities: [build.sriov({ ...SRIOV, vfStride: -1, vfBars: [] })] }, "VF Stride"],
  ];
  for (const [declaration, reason] of cases) {
    assertThrows(() => buildConfigSpace({ ...base, ...declaration }), UsageError, reason);
  }
  assert(cases.length > 20);
});
