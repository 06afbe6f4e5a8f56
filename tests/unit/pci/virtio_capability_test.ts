import { assertEquals } from "@std/assert";
import { type Capability, walkCapabilities } from "../../../lib/pci/mod.ts";
import { findCapabilities } from "../../../lib/pci/capabilities.ts";
import { findSharedMemory, findVirtioStructure } from "../../../lib/pci/capability/virtio.ts";
import { configFrom } from "./fixtures.ts";

/** Walks a modern virtio function whose capabilities lie at 0x40 and after. */
function virtio(...caps: string[]): readonly Capability[] {
  const at: Record<number, string> = { 0x00: "f41a 4110 0000 1000", 0x34: caps.length === 0 ? "00" : "40" };
  caps.forEach((hex, i) => {
    const offset = 0x40 + 0x20 * i, next = i + 1 < caps.length ? offset + 0x20 : 0;
    at[offset] = `09 ${next.toString(16).padStart(2, "0")} ${hex}`;
  });
  return walkCapabilities(configFrom(256, at)).capabilities;
}

Deno.test("2.1 virtio_pci_cap: fields at their offsets", () => {
  const [common] = findCapabilities(virtio("10 01 04 07 0000 00100000 38000000"), "virtio");
  assertEquals(
    [
      common!.structure,
      common!.cfgType,
      common!.bar,
      common!.structureId,
      common!.regionOffset,
      common!.regionLength,
    ],
    ["common", 1, 4, 7, 0x1000, 0x38],
  );
  assertEquals([common!.lengthBytes, common!.usable, common!.problems], [16, true, []]);
});

Deno.test("2.1 virtio_pci_notify_cap: multiplier at 16", () => {
  const [notify] = findCapabilities(virtio("14 02 00 00 0000 00300000 00100000 04000000"), "virtio");
  assertEquals([notify!.structure, notify!.notifyOffMultiplier, notify!.usable], ["notify", 4, true]);
});

Deno.test("2.1 virtio_pci_cfg_cap: data at 16; its BAR field is the driver's and never a fault", () => {
  const [window] = findCapabilities(virtio("14 05 ff 00 0000 00000000 04000000 aabbccdd"), "virtio");
  assertEquals([window!.structure, window!.pciCfgData?.toHex(), window!.usable], [
    "pciCfg",
    "aabbccdd",
    true,
  ]);
});

Deno.test("1.7, 2.1 virtio_pci_cap64: upper halves at 16 and 20, region id in cap.id", () => {
  const caps = virtio(
    "18 08 02 01 0000 00100000 00000000 02000000 01000000",
    "18 08 02 00 0000 00000000 00100000 00000000 00000000",
  );
  const regions = findSharedMemory(caps);
  assertEquals(regions.get(1)?.regionOffset, 0x2_0000_1000);
  assertEquals(regions.get(1)?.regionLength, 0x1_0000_0000);
  assertEquals([...regions.keys()], [1, 0]);
});

Deno.test("1.7 of two shared memory regions with one id the first counts", () => {
  const regions = findSharedMemory(virtio(
    "18 08 02 05 0000 00100000 00100000 00000000 00000000",
    "18 08 03 05 0000 00200000 00100000 00000000 00000000",
  ));
  assertEquals([regions.size, regions.get(5)?.bar], [1, 2]);
});

Deno.test("2.1 structures have the names of their cfg_type", () => {
  const names = [1, 2, 3, 4, 8].map((type) =>
    findCapabilities(virtio(`18 0${type} 00 00 0000 00000000 00100000 00000000 00000000`), "virtio")[0]!
      .structure
  );
  assertEquals(names, ["common", "notify", "isr", "device", "sharedMemory"]);
});

Deno.test("2.1 virtio_pci_vndr_data: shorter, with a vendor ID and no region", () => {
  const [vendor] = findCapabilities(virtio("08 09 8680 1234"), "virtio");
  assertEquals([vendor!.structure, vendor!.dataVendorId, vendor!.usable], ["vendor", 0x8086, true]);
});

Deno.test("2.1 a reserved cfg_type and a reserved bar are kept but not usable", () => {
  const caps = virtio(
    "10 07 00 00 0000 00000000 00100000",
    "10 01 06 00 0000 00000000 00100000",
    "10 01 01 00 0000 00000000 00100000",
  );
  const found = findCapabilities(caps, "virtio");
  assertEquals(found.map((cap) => [cap.structure, cap.usable]), [["reserved", false], ["common", false], [
    "common",
    true,
  ]]);
  assertEquals(found[0]!.problems, ["cfg_type 7 is reserved"]);
  assertEquals(found[1]!.problems, ["bar 6 is reserved"]);
  assertEquals(findVirtioStructure(caps, "common")?.bar, 1, "the first usable one is taken");
  assertEquals(findVirtioStructure(caps, "reserved"), undefined);
});

Deno.test("2.1 a longer cap_len is accepted", () => {
  const [common] = findCapabilities(virtio("1c 01 04 00 0000 00100000 40000000 00000000 00000000"), "virtio");
  assertEquals([common!.lengthBytes, common!.usable, common!.regionLength], [28, true, 64]);
});

Deno.test("2.1 a cap_len too short for its type is not usable, and one below 16 is malformed", () => {
  const short = findCapabilities(
    virtio("10 02 00 00 0000 00000000 00100000", "14 08 00 00 0000 00000000 00100000"),
    "virtio",
  );
  assertEquals(short.map((cap) => cap.usable), [false, false]);
  assertEquals(short[0]!.notifyOffMultiplier, undefined);
  assertEquals(virtio("0f 01 00 00").map((cap) => cap.kind), ["malformed"]);
});

Deno.test("2.1 a region beyond 2^53 is not usable", () => {
  const [region] = findCapabilities(virtio("18 08 00 00 0000 00000000 00100000 00000000 ffffffff"), "virtio");
  assertEquals(region!.usable, false);
});

Deno.test("2.1 another vendor's capability is not virtio's", () => {
  const config = configFrom(256, { 0x00: "8680 4110 0000 1000", 0x34: "40", 0x40: "0900 10 01 04 07" });
  assertEquals(walkCapabilities(config).capabilities.map((cap) => cap.kind), ["vendor-specific"]);
});
