/** Configuration spaces of every kind, written by hand: every capability that is decoded, several lengths, mirrored and broken lists. */

import { ConfigSpace, PciAddress } from "../../../lib/pci/mod.ts";
import { hex } from "../../../lib/pci/hex.ts";
import { configFrom, expressFrom, firstBytes, IGB } from "./fixtures.ts";

/** A dump of one function. */
export interface Dump {
  readonly name: string;
  readonly config: ConfigSpace;
}

/** Header of an Ethernet controller with a capabilities list at 0x40, its INTx wire used and bus mastering on. */
const NIC = {
  0x00: "8680 3412 4705 10a8 03 00 00 02 10 40 00 00",
  0x10: "0000f0fe 01e00000 0c0000f0 01000000",
  0x2c: "f41a 0011 0100e0fe 40",
  0x3c: "0b 01 04 08",
};

/** A function with one standard capability at 0x40, or several that are linked by hand. */
function standard(name: string, at: Readonly<Record<number, string>>, sizeBytes = 256): Dump {
  return { name, config: configFrom(sizeBytes, { ...NIC, ...at }) };
}

/** A function with one extended capability at 0x100, or several that are linked by hand. */
function extended(name: string, at: Readonly<Record<number, string>>): Dump {
  return { name, config: expressFrom({ 0x10: "0000f0fe", ...at }) };
}

/** A PCIe port: header of type 1, and an Express capability of this type at 0x40. */
function port(name: string, type: string, at: Readonly<Record<number, string>> = {}): Dump {
  return {
    name,
    config: configFrom(4096, {
      0x00: "8680 3412 0705 1000 02 00 04 06 10 00 81 00",
      0x18: "00 02 05 00 31 41 0020 00f0 10f1 01f2 11f3 01000000 01000000 0100 0100 40",
      0x38: "0100e0fe 0b 02 1b00",
      0x40: `1080 ${type} 21800100 ff5f 3f00 13fc7b05 cb08 13f1 ffff7f00 7f1d 7f01`,
      0x5c: "1f00 0100 34120300 ffffffff ffff 0000 fe018181 5fff 3f53",
      0x80: "0d00 0000 8680 0100",
      ...at,
    }),
  };
}

const ALL_ONES = new Uint8Array(4096).fill(0xff);

/** The dumps. */
export const DUMPS: readonly Dump[] = [
  { name: "a PF with SR-IOV", config: configFrom(4096, IGB) },
  { name: "its first 64 bytes", config: firstBytes(configFrom(4096, IGB), 64) },
  { name: "its first 256 bytes", config: firstBytes(configFrom(4096, IGB), 256) },
  { name: "0x600 bytes, the whole list within", config: firstBytes(configFrom(4096, IGB), 0x600) },
  {
    name: "0x600 bytes, the list goes on behind",
    config: firstBytes(expressFrom({ 0x100: "0e000160", 0x600: "03000100" }), 0x600),
  },
  {
    name: "0xa0 bytes",
    config: firstBytes(standard("", { 0x40: "0150 c3ff 0b81", 0x50: "1100 0980 03" }).config, 0xa0),
  },
  {
    name: "0xa0 bytes, and a capability that they cut",
    config: firstBytes(standard("", { 0x40: "0198 0300", 0x98: "1100 0980" }).config, 0xa0),
  },
  {
    name: "a CardBus bridge of 128 bytes",
    config: configFrom(128, {
      0x00: "4c10 31ac 0300 1002 00 00 07 06 00 00 02 00",
      0x10: "00f0e0fe 50 00 0040 00 05 08 b0",
      0x1c: "00000020 00f0ff21 00000022 00f0ff23",
      0x2c: "01400000 fc400000 00500000 fc500000 0b 01 4301",
      0x40: "cf10 1614 0104",
      0x50: "0100 22fe 0000 c000",
    }),
  },
  {
    name: "a CardBus bridge whose windows are closed, 16-bit ones among them",
    config: configFrom(256, {
      0x00: "4c10 31ac 0000 0002 00 00 07 06 00 00 02 00",
      0x1c: "00000030 00000020 00000000 00000000",
      0x2c: "00500100 fc400000 fdff0000 00000000 00 01 c007",
    }),
  },
  standard("power management of every kind", { 0x40: "0150 ffff 0bff", 0x50: "0100 2a4a 0120" }),
  port("power management of a bridge, bus power control", "4201", {
    0x34: "40",
    0x80: "0188 0300 0000 80 00",
    0x88: "0100 0300 0000 40 00",
  }),
  standard("MSI, its four layouts", {
    0x40: "0550 2700 1800e0fe 4142",
    0x50: "0560 8100 1800e0fe 01000000 4142",
    0x60: "0578 0001 00000000 4142 0000 03000000 04000000",
    0x78: "0500 fa01 00000000 00000000 4142 0000 05000000 06000000",
  }),
  standard("MSI-X, masked, 2048 vectors", { 0x40: "1100 ffc7 02100000 04200000" }),
  standard("vendor-specific, VPD, AF, slot and hot-plug", {
    0x40: "0948 0600 aabbcc00",
    0x48: "1350 0603 0101",
    0x50: "0c58 0000",
    0x58: "0b60 0000",
    0x60: "0664 0000",
    0x64: "0f68 0000",
    0x68: "0300 1080 78563412",
  }),
  standard("debug port, SATA in a BAR and in configuration space", {
    0x40: "0a44 a020",
    0x44: "1250 1000 48000000",
    0x50: "1260 1300 0f000000",
    0x60: "1200 1000 02000000",
  }),
  standard("a subsystem in a capability, and IDs that nobody knows", {
    0x40: "0d48 0000 f41a 0011",
    0x48: "f700 cdab",
  }),
  standard("enhanced allocation", {
    0x40:
      "1400 0300 0400ffc0 02000010 feff0f00 12000000 00000000 02fd0080 00000020 fc0f0000 72 05 ff 40 00000030 fcff0000",
  }),
  standard("enhanced allocation, reserved properties", { 0x40: "1400 0100 8201 7080 00000020 fc0f0000" }),
  {
    name: "enhanced allocation of a bridge",
    config: configFrom(256, {
      0x00: "8680 3412 0700 1000 00 00 04 06 00 00 01 00",
      0x18: "00 01 01 00 f1 01 0000 f0ff 0000 f1ff 0100",
      0x34: "40",
      0x40: "1400 0100 0105 0000 6206 fe80 00000020 fc0f0000",
    }),
  },
  {
    name: "virtio structures",
    config: configFrom(256, {
      ...NIC,
      0x00: "f41a 4110 0605 1000 01 00 00 02",
      0x40: "0950 1001 04000000 00000000 38000000",
      0x50: "0964 1402 04000000 00300000 00100000 04000000",
      0x64: "0974 1003 04000000 00100000 01000000",
      0x74: "0900 1004 04000000 00200000 3c000000",
    }),
  },
  {
    name: "Express v1, a legacy endpoint",
    config: configFrom(256, {
      ...NIC,
      0x40: "1000 1100 c28fec10 5f39 3f00 123c0400 4301 2110",
    }),
  },
  {
    name: "Express v2, an endpoint whose link is slower than it could be",
    config: configFrom(256, {
      ...NIC,
      0x40: "1000 0200 c58cd813 3759 2000 445c4700 4000 4210",
      0x64: "1ff87303 1664 0000 1e008001 4304 7f00",
    }),
  },
  {
    name: "Express v2, an integrated endpoint",
    config: configFrom(256, { ...NIC, 0x40: "1000 9200 22800010 3028", 0x64: "1f000000 0f00" }),
  },
  port("a root port with a slot", "4301"),
  port("an upstream port, its link of 64 GT/s", "5200", { 0x6c: "7e0000a1" }),
  port("a downstream port, its slot empty", "6201", { 0x6c: "3e0100a1", 0x72: "00c3" }),
  port("a bridge to conventional PCI", "7200"),
  port("a bridge from conventional PCI", "8201"),
  {
    name: "an event collector, and what it is associated with",
    config: configFrom(4096, {
      0x00: "8680 3412 0000 1000 00 00 07 08",
      0x34: "40",
      0x40: "1000 a200 00800000",
      0x100: "07000200 2f010000 00020700",
      0x5c: "0700 0100",
    }),
  },
  {
    name: "associations of version 1, and none",
    config: expressFrom({
      0x100: "07000111 00000000",
      0x110: "07000212 00000000 00ff0000",
      0x120: "07000100 04000080",
    }),
  },
  extended("advanced errors, version 1", {
    0x100:
      "01000100 3ff0ffff 00001000 3020 46ff c1310000 00e00000 bf0f0000 01000000 02000000 03000000 04000000",
  }),
  extended("advanced errors, version 2 without a prefix log, a serial number where that would be", {
    0x100: "01000214 00000000 00000000 30204600",
    0x140: "03000100 77665544 33221100",
  }),
  port("advanced errors of a root port", "4201", {
    0x100: "01000100 00000000 00000000 30204600 00000000 00200000 a0000000",
    0x12c: "07000000 7f000018 3412 7856",
  }),
  extended("virtual channels with arbitration tables", {
    0x100: `02000100 12040000 0f000004 0200 0100 3f820706 ff000081 0000 0200 ${
      "3f800f00 02000a02 0000 0100".repeat(1)
    } 00000000 04000003 0000 0000`,
    0x140: "21436587 a9cbed0f 00112233 44556677",
    0x160: "55aa55aa",
  }),
  extended("a virtual channel beside a multi-function one", {
    0x100: "08000112 00000000",
    0x120: "09000100 00030000 00000000 0000 0000 00800000 01000080 0000 0000",
  }),
  extended("serial number, power budgeting, ARI, ATS", {
    0x100: "03000111 563412ff ff211b00",
    0x110: "04000112",
    0x120: "0e000113 0203 3200",
    0x130: "0f000100 6400 0580",
  }),
  extended("SR-IOV, 64-bit and 32-bit VF BARs", {
    0x100: "10000100 0500e0ff 3f00 0100 0800 0800 0200 0100 8000 0200 0000 ca10 53050000 01000000",
    0x124: "0c00c0fb 02000000 0000d0fb 00000000 0800e0fb 00000000 13100000",
  }),
  extended("vendor-specific, designated vendor-specific", {
    0x100: "0b000112 4000c101 deadbeef",
    0x120: "23000100 8680c100 0700 cafe",
  }),
  extended("access control with an egress vector, page requests, PASID", {
    0x100: "0d000112 7f40 5500 00000000 00000000",
    0x120: "13000113 0300 0301 00020000 20000000",
    0x130: "1b000100 0614 0700",
  }),
  extended("resizable BARs, and those of VFs", {
    0x100: "15000112 00f00100 48080000 f0ffffff 0209ff0f",
    0x120: "24000100 10000000 20000000",
  }),
  extended("processing hints, three places of the table", {
    0x100: "17000112 06050200 00010000",
    0x120: "17000114 02040000 00010000",
    0x140: "17000100 01000000 00000000",
  }),
  extended("latency tolerance, L1 substates, precision time", {
    0x100: "18000111 0310 0108",
    0x110: "1e000113 1f1e2900 0f00a040 28000000",
    0x130: "1e000114 0a000000 0a000000 00000000",
    0x140: "1e000115 1f140300 0f0a03c0 03000000",
    0x150: "1f000116 05080000 01ff0000",
    0x160: "1f000100 02000000 00000000",
  }),
  extended("secondary Express, downstream port containment", {
    0x100: "19000111 03000000 05800000",
    0x110: "1d000100 f714 ff00 7f05 3412",
  }),
  extended("multicast of an integrated endpoint", {
    0x100: "12000100 0a14 0580 0c000030 01000000 0f000000 00000080 01000000 00000000 02000000 00000000",
  }),
  port("multicast of a downstream port", "6200", {
    0x100:
      "12000114 3f80 3f80 0c000030 01000000 0f000000 00000080 01000000 00000000 02000000 00000000 14000040 02000000",
    0x140: "12000100 0000 0000",
  }),
  extended("a root complex's links", {
    0x100: "05000100 01030201 00000000 00000000",
    0x110:
      "01000501 00000000 00a0d1fe 00000000 06000602 00000000 10800100 00000000 03000703 00000000 23c01400 78563412",
  }),
  extended("what later versions of the standard added", {
    0x100: "2f000112 fb0f0000 3f010000 1b000000",
    0x120: "2a000114 03070000 03010000 ff070000",
    0x140: "31000116 00000000 00000000 ff000000",
    0x160: "30000100 ff200001 04000000 ff050000 02000000 fd05f801 00000080 02000000 fd06c805 02000080",
    0x184: "00ffff00 01010001 01002310 01000000 02000000",
  }),
  extended("what is known by name alone, or not at all", {
    0x100: "06000111",
    0x110: "08000112",
    0x120: "0a000113",
    0x130: "25000114",
    0x140: "26000115",
    0x150: "77000100",
  }),
  extended("null capabilities", { 0x100: "00000014", 0x140: "0e000100 0002" }),
  extended("a list that ends at a header of zeros", { 0x100: "0e000114" }),
  extended("a list that comes back", { 0x100: "0e000114", 0x140: "03000110" }),
  standard("a standard list that comes back", { 0x40: "0150 0300", 0x50: "0c40" }),
  standard("a standard list that leads to nothing", { 0x40: "01f0 0300", 0xf0: "ffffffff" }),
  {
    name: "a conventional function that repeats its first 256 bytes",
    config: repeated(standard("", { 0x40: "0100 0300" }).config),
  },
  { name: "an Express function that does", config: repeated(firstBytes(expressFrom({}), 256)) },
  { name: "a header type that is reserved", config: configFrom(64, { 0: "8680 3412", 0x0e: "05" }) },
  {
    name: "a class that contradicts the header type",
    config: configFrom(64, { 0: "8680 3412", 0x0e: "01", 0x18: "000101" }),
  },
  {
    name: "windows whose types contradict each other",
    config: configFrom(64, {
      0: "8680 3412",
      8: "00000406",
      0x0e: "01",
      0x1c: "e1 f0",
      0x20: "01fd f1fd 0300 f300",
    }),
  },
  { name: "a function that is gone", config: new ConfigSpace(ALL_ONES) },
];

function repeated({ bytes }: ConfigSpace): ConfigSpace {
  const all = new Uint8Array(4096);
  for (let at = 0; at < all.length; at += bytes.length) all.set(bytes, at);
  return new ConfigSpace(all);
}

/** Address of a dump: the first function of a bus of its own. */
export function addressOf(index: number): PciAddress {
  return new PciAddress({ bus: index + 1, device: 0, function: 0 });
}

/** A function as `lspci -xxxx` prints it. */
export function dumpText({ bytes }: Pick<ConfigSpace, "bytes">, address: PciAddress): string {
  const lines = [`${address.toShortString()} Function`];
  for (let at = 0; at < bytes.length; at += 16) {
    lines.push(`${hex(at, 2)}: ${[...bytes.subarray(at, at + 16)].map((byte) => hex(byte, 2)).join(" ")}`);
  }
  return `${lines.join("\n")}\n`;
}
