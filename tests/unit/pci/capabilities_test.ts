import { assertAlmostEquals, assertEquals } from "@std/assert";
import {
  CAPABILITIES,
  type Capability,
  type CapabilityDeclaration,
  findCapability,
  PciAddress,
  SRIOV,
  walkCapabilities,
} from "../../../lib/pci/mod.ts";
import { enabledVfAddresses } from "../../../lib/pci/capability/sriov.ts";
import { findCapabilities } from "../../../lib/pci/capabilities.ts";
import { Registers } from "../../../lib/registers/mod.ts";
import { configFrom, expressFrom, IGB } from "./fixtures.ts";

/** Decodes a single standard capability at 0x40 of an otherwise empty endpoint. */
function standard(hex: string, extra: Record<number, string> = {}): Capability {
  const list = walkCapabilities(
    configFrom(256, { 0x00: "8680 3412 0000 1000", 0x34: "40", 0x40: hex, ...extra }),
    {
      strict: true,
    },
  );
  assertEquals(list.capabilities.length, 1);
  return list.capabilities[0]!;
}

/** Decodes a single extended capability at 0x100 of an Express function. */
function extended(hex: string, extra: Record<number, string> = {}): Capability {
  const list = walkCapabilities(expressFrom({ 0x100: hex, ...extra }), { strict: true });
  assertEquals(list.capabilities.length, 2);
  return list.capabilities[1]!;
}

/** Narrows to the expected kind, or fails. */
function as<K extends Capability["kind"]>(cap: Capability, kind: K): Extract<Capability, { kind: K }> {
  assertEquals(cap.kind, kind);
  return cap as Extract<Capability, { kind: K }>;
}

Deno.test("an igb-like PF: both lists in order, with offsets, lengths and no findings", () => {
  const { capabilities, findings } = walkCapabilities(configFrom(4096, IGB), { strict: true });
  assertEquals(findings, []);
  assertEquals(
    capabilities.map((cap) => [cap.kind, cap.offset, "lengthBytes" in cap ? cap.lengthBytes : 0, cap.next]),
    [
      ["power-management", 0x40, 8, 0x50],
      ["msi", 0x50, 24, 0x70],
      ["msi-x", 0x70, 12, 0xa0],
      ["express", 0xa0, 0x3c, 0],
      ["advanced-error-reporting", 0x100, 0x38, 0x140],
      ["device-serial-number", 0x140, 12, 0x150],
      ["alternative-routing-id", 0x150, 8, 0x160],
      ["sr-iov", 0x160, 0x40, 0],
    ],
  );
});

Deno.test("an igb-like PF: SR-IOV fields and the addresses of its enabled VFs", () => {
  const sriov = findCapability(walkCapabilities(configFrom(4096, IGB)), "sr-iov")!;
  assertEquals([sriov.initialVfs, sriov.totalVfs, sriov.numVfs], [8, 8, 2]);
  assertEquals([sriov.firstVfOffset, sriov.vfStride, sriov.vfDeviceId], [128, 2, 0x10ca]);
  assertEquals([sriov.control.vfEnable, sriov.control.vfMemorySpaceEnable], [true, true]);
  assertEquals([sriov.supportedPageSizes, sriov.systemPageSize, sriov.systemPageBytes], [0x553, 1, 4096]);
  assertEquals(
    sriov.vfBars.map((bar) => [bar.index, bar.addressBits, bar.prefetchable, bar.address]),
    [[0, 64, true, 0x2fbc00000n], [3, 64, true, 0x2fbc20000n]],
  );
  const pf = PciAddress.parse("01:00.0");
  assertEquals(enabledVfAddresses(pf, sriov).map(String), ["0000:01:10.0", "0000:01:10.2"]);
  const disabled = { ...sriov, control: { ...sriov.control, vfEnable: false } };
  assertEquals(enabledVfAddresses(pf, disabled), []);
});

Deno.test("an igb-like PF: Express says FLR, payload, read request and link", () => {
  const express = findCapability(walkCapabilities(configFrom(4096, IGB)), "express")!;
  assertEquals([express.deviceType, express.structureVersion, express.functionLevelReset], [
    "endpoint",
    2,
    true,
  ]);
  assertEquals(
    [express.maxPayloadSupportedBytes, express.maxPayloadBytes, express.maxReadRequestBytes],
    [512, 256, 512],
  );
  assertEquals(express.link?.maximum, { gigatransfers: 2.5, width: 4 });
  assertEquals(express.link?.current, { gigatransfers: 2.5, width: 4 });
  assertEquals([express.slot, express.root], [undefined, undefined]);
  assertEquals(express.device2?.capabilities.completionTimeoutRanges, 15);
});

Deno.test("PM: version, PME states, power state", () => {
  const pm = as(standard("0100 c3c9 0b81"), "power-management");
  assertEquals([pm.capabilities.version, pm.powerState, pm.auxiliaryCurrentMilliamperes], [3, 3, 375]);
  assertEquals([pm.control.noSoftReset, pm.control.pmeEnable, pm.control.pmeStatus], [true, true, true]);
  assertEquals([pm.capabilities.pmeFromD0, pm.capabilities.pmeFromD1, pm.capabilities.pmeFromD3Cold], [
    true,
    false,
    true,
  ]);
});

Deno.test("VPD: address and data registers", () => {
  const vpd = as(standard("0300 1080 78563412"), "vital-product-data");
  assertEquals([vpd.address.address, vpd.address.flag, vpd.data], [0x10, true, 0x12345678]);
});

Deno.test("MSI: the four layouts have 10, 14, 20 and 24 bytes, with data and mask where each has them", () => {
  const msi32 = as(standard("0500 2700 1800e0fe 4142"), "msi");
  assertEquals([msi32.lengthBytes, msi32.address, msi32.data, msi32.mask], [
    10,
    0xfee00018n,
    0x4241,
    undefined,
  ]);
  assertEquals([msi32.vectorsCapable, msi32.vectorsEnabled, msi32.control.enable], [8, 4, true]);
  const msi64 = as(standard("0500 8000 1800e0fe 01000000 4142"), "msi");
  assertEquals([msi64.lengthBytes, msi64.address, msi64.data], [14, 0x1fee00018n, 0x4241]);
  const masked32 = as(standard("0500 0001 00000000 4142 0000 03000000 04000000"), "msi");
  assertEquals([masked32.lengthBytes, masked32.data, masked32.mask, masked32.pending], [20, 0x4241, 3, 4]);
  const masked64 = as(standard("0500 8a01 00000000 00000000 4142 0000 05000000 06000000"), "msi");
  assertEquals([masked64.lengthBytes, masked64.mask, masked64.pending, masked64.vectorsCapable], [
    24,
    5,
    6,
    32,
  ]);
});

Deno.test("MSI-X: vector count, table and pending bits", () => {
  const msix = as(standard("1100 ffc7 02100000 04200000"), "msi-x");
  assertEquals([msix.vectorCount, msix.control.enable, msix.control.functionMask], [2048, true, true]);
  assertEquals([msix.table, msix.pendingBits], [{ bar: 2, offset: 0x1000 }, { bar: 4, offset: 0x2000 }]);
});

Deno.test("vendor-specific: length and data; a stated length of 0 means no data", () => {
  const vendor = as(standard("0900 06 aabbcc"), "vendor-specific");
  assertEquals([vendor.lengthBytes, [...vendor.data]], [6, [0xaa, 0xbb, 0xcc]]);
  assertEquals(as(standard("0900 00"), "vendor-specific").data.length, 0);
});

Deno.test("AF, SSVID: flags and IDs", () => {
  const af = as(standard("1300 06 03 00 01"), "advanced-features");
  assertEquals([af.capabilities.functionLevelReset, af.status.transactionsPending, af.lengthBytes], [
    true,
    true,
    6,
  ]);
  const ssvid = as(standard("0d00 0000 f41a 0011"), "subsystem-id");
  assertEquals(ssvid.subsystem, { vendorId: 0x1af4, deviceId: 0x1100 });
});

Deno.test("EA: entries with 32-bit and 64-bit fields", () => {
  const ea = as(
    standard("1400 0200  04 00 ff c0 02000010 feff0f00 12000000 00000000  02 10 ff 80 00000020 fc0f0000"),
    "enhanced-allocation",
  );
  assertEquals(
    ea.entries.map((e) => [e.lengthBytes, e.barEquivalent, e.base, e.maxOffset, e.enabled, e.writable]),
    [
      [20, 0, 0x1210000000n, 0xfffffn, true, true],
      [12, 0, 0x20000000n, 0xfffn, true, false],
    ],
  );
  assertEquals(ea.lengthBytes, 36);
  assertEquals(ea.entries[1]!.primaryProperties, 0x10);
});

Deno.test("Express v1: an endpoint has 0x14 bytes, a root port with slot 0x24, an integrated endpoint 0x0c", () => {
  const v1 = (type: string) => as(standard(`1000 ${type} ${"00".repeat(0x20)}`), "express");
  assertEquals([v1("0100").lengthBytes, v1("0100").link2], [0x14, undefined]);
  const root = v1("4101");
  assertEquals([root.lengthBytes, root.deviceType, root.slot !== undefined, root.root !== undefined], [
    0x24,
    "rootPort",
    true,
    true,
  ]);
  assertEquals([v1("9100").lengthBytes, v1("9100").link], [0x0c, undefined]);
  assertEquals(v1("3100").deviceType, "reserved");
});

Deno.test("Express v2: a structure cut short by the end of its area is decoded as far as it must go", () => {
  const config = configFrom(256, {
    0x00: "8680 3412 0000 1000",
    0x34: "d0",
    0xd0: `1000 9200 00000010 ${"00".repeat(0x24)}`,
  });
  const express = findCapability(walkCapabilities(config, { strict: true }), "express")!;
  assertEquals([express.deviceType, express.lengthBytes, express.functionLevelReset], [
    "rootComplexEndpoint",
    0x2c,
    true,
  ]);
});

Deno.test("AER: status, mask, severity bits by name, and the header log", () => {
  const cap = as(
    extended(
      "01000200 00401000 00000002 10204600 01100000 00e00000 a5010000 01000000 02000000 03000000 04000000" +
        "07000000 7f0000f8 34127856",
      // Device Capabilities 2: End-End TLP Prefix Supported, so that the prefix log is there.
      { 0xe8: "00002000" },
    ),
    "advanced-error-reporting",
  );
  assertEquals([cap.uncorrectableStatus.completionTimeout, cap.uncorrectableStatus.unsupportedRequest], [
    true,
    true,
  ]);
  assertEquals(cap.uncorrectableMask.tlpPrefixBlocked, true);
  assertEquals([cap.uncorrectableSeverity.dataLinkProtocol, cap.uncorrectableSeverity.surpriseDown], [
    true,
    false,
  ]);
  assertEquals([cap.correctableStatus.receiverError, cap.correctableStatus.replayTimerTimeout], [true, true]);
  assertEquals([cap.correctableMask.advisoryNonFatal, cap.correctableMask.headerLogOverflow], [true, true]);
  assertEquals([cap.control.firstErrorPointer, cap.control.ecrcCheckEnable], [5, true]);
  assertEquals([cap.headerLog, cap.lengthBytes], [[1, 2, 3, 4], 0x48]);
  assertEquals([cap.root?.correctableSource, cap.root?.uncorrectableSource], [0x1234, 0x5678]);
  assertEquals([cap.root?.status.interruptMessageNumber, cap.root?.command.raw], [31, 7]);
});

Deno.test("DSN: the number reads from its most significant byte down", () => {
  const dsn = as(extended("03000100 563412ff ff211b00"), "device-serial-number");
  assertEquals([dsn.serialNumber, dsn.text], [0x001b21ffff123456n, "00-1b-21-ff-ff-12-34-56"]);
});

Deno.test("ACS, ARI, ATS, PRI, PASID", () => {
  const acs = as(extended("0d000100 3f40 1500 00000000 00000000"), "access-control");
  assertEquals([acs.capabilities.egressVectorSize, acs.lengthBytes], [64, 16], "a vector of 64 bits follows");
  assertEquals([acs.control.sourceValidation, acs.control.requestRedirect, acs.control.egressControl], [
    true,
    true,
    false,
  ]);
  const ari = as(extended("0e000100 0203 3200"), "alternative-routing-id");
  assertEquals([ari.capabilities.nextFunction, ari.capabilities.acsFunctionGroups], [3, true]);
  assertEquals([ari.control.functionGroup, ari.control.acsFunctionGroups], [3, true]);
  const ats = as(extended("0f000100 2400 0580"), "address-translation");
  assertEquals([ats.capabilities.invalidateQueueDepth, ats.capabilities.pageAlignedRequest], [4, true]);
  assertEquals([ats.control.smallestTranslationUnit, ats.control.enable], [5, true]);
  const pri = as(extended("13000100 0100 0101 00020000 20000000"), "page-request");
  assertEquals([pri.control.enable, pri.status.responseFailure, pri.status.stopped], [true, true, true]);
  assertEquals([pri.capacity, pri.allocation], [0x200, 0x20]);
  const pasid = as(extended("1b000100 0614 0300"), "pasid");
  assertEquals([pasid.capabilities.maxPasidWidth, pasid.control.enable, pasid.control.privilegedMode], [
    20,
    true,
    false,
  ]);
});

Deno.test("LTR, L1SS, PTM, secondary Express", () => {
  const ltr = as(extended("18000100 0310 0108"), "latency-tolerance");
  assertEquals([ltr.maxSnoopLatencyNs, ltr.maxNoSnoopLatencyNs], [3 * 32 ** 4, 32 ** 2]);
  const l1 = as(extended("1e000100 1f1e2900 0f00a040 28000000"), "l1-substates");
  assertEquals([l1.capabilities.commonModeRestoreTimeUs, l1.portPowerOnUs, l1.powerOnUs], [30, 50, 10]);
  assertAlmostEquals(l1.ltrThresholdNs, 0xa0 * 1024);
  const ptm = as(extended("1f000100 05080000 01ff0000"), "precision-time-measurement");
  assertEquals([ptm.capabilities.requester, ptm.capabilities.responder, ptm.capabilities.granularity], [
    true,
    false,
    8,
  ]);
  assertEquals([ptm.control.enable, ptm.control.effectiveGranularity], [true, 255]);
  const secondary = as(extended("19000100 02000000 05000000"), "secondary-express");
  assertEquals([secondary.linkControl3.equalizationRequestInterrupt, secondary.laneErrorStatus], [true, 5]);
});

Deno.test("DPC: trigger and its source", () => {
  const dpc = as(extended("1d000100 e712 0b00 0b00 3412"), "downstream-port-containment");
  assertEquals([dpc.capabilities.interruptMessageNumber, dpc.capabilities.rpPioLogSize], [7, 2]);
  assertEquals([dpc.control.triggerEnable, dpc.control.interruptEnable], [3, true]);
  assertEquals([dpc.status.trigger, dpc.status.triggerReason, dpc.source], [true, 1, 0x1234]);
});

Deno.test("VSEC and DVSEC: id, revision, length, data", () => {
  const vsec = as(extended("0b000100 4000c100 deadbeef"), "extended-vendor-specific");
  assertEquals([vsec.vsecId, vsec.revision, vsec.lengthBytes, vsec.data.toHex()], [0x40, 1, 12, "deadbeef"]);
  const dvsec = as(extended("23000100 981ec100 0700 cafe"), "designated-vendor-specific");
  assertEquals([dvsec.dvsecVendorId, dvsec.dvsecId, dvsec.revision, dvsec.data.toHex()], [
    0x1e98,
    7,
    1,
    "cafe",
  ]);
});

Deno.test("Resizable BAR: current and supported sizes", () => {
  const bar = as(extended("15000100 00f00100 20080000"), "resizable-bar");
  assertEquals(bar.bars, [{
    bar: 0,
    sizeBytes: 2 ** 28,
    supportedBytes: [28, 29, 30, 31, 32].map((n) => 2 ** n),
  }]);
  assertEquals([bar.isForVfs, bar.lengthBytes], [false, 12]);
  assertEquals(as(extended("24000100 10000000 41000000 20000000 02010000"), "resizable-bar").isForVfs, true);
});

Deno.test("TPH and VC: lengths follow from counts", () => {
  const tph = as(extended(`17000100 05020200 00010000 ${"00".repeat(8)}`), "tph-requester");
  assertEquals([tph.steeringTags, tph.lengthBytes, tph.capabilities.deviceSpecificMode], [3, 20, true]);
  const vc = as(
    extended(`02000100 01000000 00000000 0000 0000 ${"00000000 ff000080 0000 0200".repeat(2)}`),
    "virtual-channel",
  );
  assertEquals([vc.channels.length, vc.lengthBytes], [2, 0x28]);
  assertEquals([vc.channels[1]!.control.trafficClassMap, vc.channels[1]!.status.negotiationPending], [
    0xff,
    true,
  ]);
});

Deno.test("PM of a bridge, debug port, SATA: what they say of buses and BARs", () => {
  const { bridge } = as(standard("0100 0300 0000 c0 00"), "power-management");
  assertEquals([bridge.b2, bridge.busPowerControl], [true, true]);
  const { place } = as(standard("0a00 a020"), "debug-port");
  assertEquals([place.bar, place.offset], [1, 0xa0]);
  const inBar = as(standard("1200 1300 48000000"), "sata");
  assertEquals([inBar.revision.major, inBar.revision.minor, inBar.location, inBar.lengthBytes], [1, 3, 4, 8]);
  const inConfig = as(standard("1200 1000 0f000000"), "sata");
  assertEquals([inConfig.location, inConfig.lengthBytes], ["configuration", 16]);
  assertEquals(as(standard("1200 1000 02000000"), "sata").location, undefined);
});

Deno.test("multicast: addresses of 64 bits without what is in their low bits", () => {
  const cast = as(
    extended(
      "12000100 0a14 0580 0c000030 01000000 0f000000 00000080 01000000 00000000 02000000 00000000 14000040 02000000",
    ),
    "multicast",
  );
  assertEquals([cast.capabilities.maxGroup, cast.control.numGroup, cast.control.enable], [10, 5, true]);
  assertEquals([cast.indexPosition, cast.baseAddress], [12, 0x130000000n]);
  assertEquals([cast.receive, cast.overlaySize, cast.overlayAddress], [
    0x800000000000000fn,
    20,
    0x240000000n,
  ]);
});

Deno.test("root complex: links to memory and to functions; what an event collector collects", () => {
  const { links, lengthBytes } = as(
    extended(
      "05000100 00020201 00000000 00000000 01000501 00000000 00a0d1fe 00000000 07000703 00000000 02c01400 00000000",
    ),
    "root-complex-link",
  );
  assertEquals([links.length, lengthBytes, links[0]!.function, links[0]!.address], [
    2,
    0x30,
    undefined,
    0xfed1a000n,
  ]);
  // Two bits of bus number: bits 21:20.
  assertEquals(links[1]!.function, { bus: 1, device: 9, function: 4 });
  const collector = as(extended("07000200 2f010000 00020700"), "event-collector");
  assertEquals([collector.devices, collector.buses], [[0, 1, 2, 3, 5, 8], { first: 2, last: 7 }]);
  const old = as(extended("07000100 00000080"), "event-collector");
  assertEquals([old.devices, old.buses, old.lengthBytes], [[31], undefined, 8]);
});

Deno.test("arbitration tables: a phase has as many bits as the registers say, and there is no table behind the end", () => {
  const vc = (table: number) =>
    as(
      extended(
        `02000100 00080000 0f0000${
          table.toString(16).padStart(2, "0")
        } 0200 0000 02000002 01000280 0000 0000`,
        { 0x110: "", 0x120: "10325476 98badcfe 10325476 98badcfe e4e4e4e4 e4e4e4e4" },
      ),
      "virtual-channel",
    );
  const { vcArbitration, channels } = vc(2);
  assertEquals(vcArbitration!.length, 32);
  assertEquals(vcArbitration!.slice(0, 16), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
  // WRR of 32 phases of 4 bits, from the same place.
  assertEquals(channels[0]!.portArbitration, vcArbitration);
  assertEquals([vc(0xff).vcArbitration, vc(0).vcArbitration], [undefined, undefined]);
});

Deno.test("Device 3, physical layers, IDE: flags, codes, streams and their addresses", () => {
  const dev3 = as(extended("2f000100 fb0f0000 3f010000 1b000000"), "device-3");
  assertEquals([dev3.capabilities.l0p, dev3.capabilities.tag14BitRequester, dev3.control.targetLinkWidth], [
    true,
    false,
    3,
  ]);
  assertEquals([dev3.status.initialLinkWidth, dev3.status.remoteL0p], [3, true]);
  const phy32 = as(extended("2a000100 01040000 02020000 8a020000"), "physical-layer-32");
  assertEquals([phy32.capabilities.equalizationBypass, phy32.capabilities.modifiedTsMode2], [true, true]);
  assertEquals([phy32.control.modifiedTsMode, phy32.status.phase1, phy32.status.phase3], [2, true, true]);
  assertEquals([phy32.status.enhancedLinkBehavior, phy32.status.transmitterPrecodingRequest], [2, true]);
  assertEquals(as(extended("31000100 00000000 00000000 41000000"), "physical-layer-64").status, {
    raw: 0x41,
    complete: true,
    phase1: false,
    phase2: false,
    phase3: false,
    request: false,
    transmitterPrecodingOn: false,
    transmitterPrecodingRequest: true,
    noEqualizationNeededReceived: false,
  });
  const ide = as(
    extended(
      "30000100 03000000 00000000 01000007 02000000" +
        "01000000 01020009 02000080 00ffee00 01aabb02 01345612 07000000 05000000",
    ),
    "integrity-and-data-encryption",
  );
  assertEquals([ide.linkStreams.length, ide.linkStreams[0]!.control.streamId, ide.lengthBytes], [1, 7, 0x34]);
  const [stream] = ide.selectiveStreams;
  assertEquals([stream!.control.configurationRequests, stream!.control.streamId], [true, 9]);
  assertEquals([stream!.status.integrityCheckFailed, stream!.ridBase.base, stream!.ridLimit.limit], [
    true,
    0xbbaa,
    0xeeff,
  ]);
  assertEquals(stream!.addresses, [{ valid: true, base: 0x563400000n, limit: 0x7125fffffn }]);
});

Deno.test("IDs without a decoder are kept by name, unknown ones by number", () => {
  const other = as(standard("0c00"), "other");
  assertEquals([other.name, other.offset], ["Hot-plug capable", 0x40]);
  assertEquals(as(standard("f700"), "other").name, "Capability ID 0xf7");
  assertEquals(as(extended("2e000100"), "other").name, "Data Object Exchange");
});

Deno.test("null capabilities link on: ID 0 as VFIO hides one, and 0xffff as QEMU does", () => {
  for (const head of ["00000014", "ffff0014"]) {
    const list = walkCapabilities(expressFrom({ 0x100: head, 0x140: "0e000100" }), { strict: true });
    assertEquals(list.capabilities.slice(1).map((cap) => cap.kind), ["null", "alternative-routing-id"]);
  }
});

Deno.test("capabilities are found by kind", () => {
  const list = walkCapabilities(configFrom(4096, IGB));
  assertEquals(findCapability(list, "msi-x")?.vectorCount, 10);
  assertEquals(findCapability(list.capabilities, "pasid"), undefined);
  assertEquals(findCapabilities(list, "msi").length, 1);
});

Deno.test("every declaration is found under its ID, and no two of a vendor share one", () => {
  const seen = new Set(
    CAPABILITIES.map(({ list, id, vendorId }: CapabilityDeclaration) => `${list} ${id} ${vendorId}`),
  );
  assertEquals(seen.size, CAPABILITIES.length);
  for (const declaration of CAPABILITIES) {
    const { list, id, kind, title, vendorId = 0x8086 }: CapabilityDeclaration = declaration;
    const at = list === "standard" ? 0x40 : 0x100;
    const config = expressFrom(list === "standard" ? { 0x34: "40", 0xc4: "0000 0000" } : {});
    new DataView(config.bytes.buffer).setUint16(0, vendorId, true);
    // A version, lengths and counts that are neither too short nor too long for any of them.
    const after = list === "extended" ? 0x10000 : id === 9 ? 0x0118_0000 : 0;
    new DataView(config.bytes.buffer).setUint32(at, id | after, true);
    new DataView(config.bytes.buffer).setUint32(at + 4, list === "standard" ? 0 : 0x0180_0000, true);
    config.bytes[at + 8] = 0x20;
    const found = walkCapabilities(config, { strict: true }).capabilities.at(-1);
    assertEquals([found!.kind, found!.name], [kind, title]);
  }
});

Deno.test("a table of registers serves whatever reads and writes: NumVFs of a live PF by name", () => {
  const writes: number[][] = [];
  const config = configFrom(4096, IGB);
  const space = {
    read: (offset: number, width: 1 | 2 | 4) => config.read(offset, width),
    write: (...write: [number, number, number]) => void writes.push(write),
  };
  const { offset } = findCapability(walkCapabilities(config), "sr-iov")!;
  const sriov = new Registers(SRIOV.registers, space, { offset });
  assertEquals([sriov.read("numVfs"), sriov.fields("control").vfEnable], [2, true]);
  sriov.update("control", { vfEnable: false });
  sriov.write("numVfs", 0);
  assertEquals(writes, [[0x168, 2, 0x0008], [0x170, 2, 0]]);
});
