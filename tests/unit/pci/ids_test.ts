import { assert, assertEquals } from "@std/assert";
import { BUILTIN_NAMES } from "../../../lib/pci/builtin_names.ts";
import { lookup, lookupClass, lookupSubsystem, parsePciIds } from "../../../lib/pci/ids.ts";

const SAMPLE = `# comment
1af4  Red Hat, Inc.
\t1000  Virtio network device
\t\t01de fffb  Propolis Virtio network device
\t1041  Virtio 1.0 network device
8086  Intel Corporation
\t10c9  82576 Gigabit Network Connection
\t\t103c 31ef  NC362i Integrated Dual Port Gigabit Server Adapter
\t\t8086 a03c  Gigabit ET Dual Port Server Adapter

C 01  Mass storage controller
\t08  Non-Volatile memory controller
\t\t02  NVM Express
C ff  Unassigned class
ZZ 12  a list of the future
\t34  which nobody knows
`;

function classCode(base: number, sub: number, programmingInterface: number) {
  return { base, sub, programmingInterface, value: (base << 16) | (sub << 8) | programmingInterface };
}

Deno.test("pci.ids: vendors and devices", () => {
  const names = parsePciIds(SAMPLE);
  assertEquals(lookup(names, 0x1af4, 0x1041), {
    vendor: "Red Hat, Inc.",
    device: "Virtio 1.0 network device",
  });
  assertEquals(lookup(names, 0x1af4, 0x9999), { vendor: "Red Hat, Inc.", device: undefined });
  assertEquals(lookup(names, 0x9999, 0x1041), { vendor: undefined, device: undefined });
});

Deno.test("pci.ids: subsystems belong to their device, and a board with the chip's own IDs has its name", () => {
  const names = parsePciIds(SAMPLE);
  assertEquals(lookupSubsystem(names, 0x8086, 0x10c9, { vendorId: 0x8086, deviceId: 0xa03c }), {
    vendor: "Intel Corporation",
    device: "Gigabit ET Dual Port Server Adapter",
  });
  assertEquals(lookupSubsystem(names, 0x8086, 0x10c9, { vendorId: 0x103c, deviceId: 0x31ef }), {
    vendor: undefined,
    device: "NC362i Integrated Dual Port Gigabit Server Adapter",
  });
  assertEquals(lookupSubsystem(names, 0x1af4, 0x1041, { vendorId: 0x8086, deviceId: 0xa03c }), {
    vendor: "Intel Corporation",
    device: undefined,
  });
  assertEquals(
    lookupSubsystem(names, 0x1af4, 0x1041, { vendorId: 0x1af4, deviceId: 0x1041 }).device,
    "Virtio 1.0 network device",
  );
});

Deno.test("pci.ids: classes, subclasses and programming interfaces", () => {
  const names = parsePciIds(SAMPLE);
  assertEquals(lookupClass(names, classCode(1, 8, 2)), {
    name: "Non-Volatile memory controller",
    isBaseOnly: false,
    programmingInterface: "NVM Express",
  });
  assertEquals(lookupClass(names, classCode(1, 0x77, 0)), {
    name: "Mass storage controller",
    isBaseOnly: true,
    programmingInterface: undefined,
  });
  assertEquals(lookupClass(names, classCode(0x55, 0, 0)), {
    name: undefined,
    isBaseOnly: true,
    programmingInterface: undefined,
  });
});

Deno.test("pci.ids: an unknown list does not spill into the one before it", () => {
  const names = parsePciIds(SAMPLE);
  assertEquals(lookupClass(names, classCode(0xff, 0x34, 0)), {
    name: "Unassigned class",
    isBaseOnly: true,
    programmingInterface: undefined,
  });
});

Deno.test("pci.ids: carriage returns and hostile text do no harm", () => {
  assertEquals(lookup(parsePciIds("1af4  Red Hat, Inc.\r\n\t1041  Net\r\n"), 0x1af4, 0x1041).device, "Net");
  const none = parsePciIds(
    "\t1000  no vendor\n\t\t00 00  no device\nC\n\0\n1af4\n1af5 \n\t1041  Net\nC 02\n",
  );
  for (const id of [0, 0x1000, 0x1af4, 0x1af5]) assertEquals(none.vendor(id), undefined);
  for (const base of [0, 2, 0x10]) assertEquals(none.baseClass(base), undefined);
});

Deno.test("built-in names cover what this project meets", () => {
  for (
    const [vendor, device, name] of [
      [0x1af4, 0x1000, "Virtio network device"],
      [0x1af4, 0x1009, "Virtio 9P transport"],
      [0x1af4, 0x1041, "Virtio 1.0 network device"],
      [0x1af4, 0x106c, "Virtio 1.0 internal shared memory (ISM) device"],
      [0x8086, 0x10c9, "82576 Gigabit Network Connection"],
      [0x8086, 0x10ca, "82576 Virtual Function"],
      [0x8086, 0x10d3, "82574L Gigabit Network Connection"],
      [0x1b36, 0x0010, "QEMU NVM Express Controller"],
    ] as const
  ) assertEquals(lookup(BUILTIN_NAMES, vendor, device).device, name);
  assertEquals(lookupClass(BUILTIN_NAMES, classCode(2, 0, 0)).name, "Ethernet controller");
  for (let base = 0; base <= 0x13; base++) {
    assert(lookupClass(BUILTIN_NAMES, classCode(base, 0xee, 0)).name !== undefined, `base class ${base}`);
  }
});
