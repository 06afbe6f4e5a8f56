import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import { PciAddress } from "../../../lib/pci/mod.ts";

Deno.test("an address is read with and without its domain", () => {
  const full = PciAddress.parse("0000:01:1f.7");
  assertEquals([full.domain, full.bus, full.device, full.function], [0, 0x01, 0x1f, 7]);
  assertEquals(PciAddress.parse("01:1f.7").toString(), "0000:01:1f.7");
  assertEquals(PciAddress.parse("ABCD:EF:0A.3").toString(), "abcd:ef:0a.3");
});

Deno.test("a domain has up to 32 bits, as behind VMD", () => {
  assertEquals(PciAddress.parse("10000:01:00.0").domain, 0x10000);
  assertEquals(PciAddress.parse("ffffffff:00:00.0").toString(), "ffffffff:00:00.0");
});

Deno.test("text that is no address is refused with the text and the accepted forms", () => {
  for (
    const text of [
      "",
      "1:0.0",
      "01:00",
      "01:00.8",
      "01:20.0",
      "g1:00.0",
      "0000:01:00.0 ",
      "123456789:01:00.0",
      "0000:001:00.0",
      "0000:01:00.00",
      ":01:00.0",
    ]
  ) {
    assertEquals(PciAddress.tryParse(text), undefined, text);
    const error = assertThrows(() => PciAddress.parse(text), UsageError);
    assertStringIncludes(error.message, JSON.stringify(text));
    assertStringIncludes(error.hint, "DDDD:BB:DD.F");
    assertStringIncludes(error.hint, "BB:DD.F");
  }
});

Deno.test("numbers out of range are refused", () => {
  for (
    const parts of [
      { bus: 256, device: 0, function: 0 },
      { bus: -1, device: 0, function: 0 },
      { bus: 0, device: 32, function: 0 },
      { bus: 0, device: 0, function: 8 },
      { bus: 0, device: 0, function: 0.5 },
      { domain: 2 ** 32, bus: 0, device: 0, function: 0 },
    ]
  ) assertThrows(() => new PciAddress(parts), UsageError, "out of range");
});

Deno.test("a routing ID is bus, device and function in 16 bits", () => {
  const address = PciAddress.parse("02:1f.5");
  assertEquals(address.routingId, 0x02fd);
  assertEquals(address.devfn, 0xfd);
  assertEquals(PciAddress.fromRoutingId(0x02fd, 3).toString(), "0003:02:1f.5");
  assertThrows(() => PciAddress.fromRoutingId(0x10000), UsageError);
});

Deno.test("VF addresses step by stride from First VF Offset, as igb places them", () => {
  const pf = PciAddress.parse("01:00.0");
  const placement = { firstVfOffset: 128, vfStride: 2 };
  assertEquals(pf.vf(0, placement).toString(), "0000:01:10.0");
  assertEquals(pf.vf(1, placement).toString(), "0000:01:10.2");
  assertEquals(pf.vf(7, placement).toString(), "0000:01:11.6");
  assertEquals(PciAddress.parse("01:00.1").vf(0, placement).toString(), "0000:01:10.1");
});

Deno.test("VF addresses carry into the bus number and keep the domain", () => {
  const pf = PciAddress.parse("0002:01:00.0");
  assertEquals(pf.vf(127, { firstVfOffset: 128, vfStride: 2 }).toString(), "0002:02:0f.6");
  assertEquals(pf.vf(0, { firstVfOffset: 0x100, vfStride: 1 }).toString(), "0002:02:00.0");
});

Deno.test("a VF past the last bus is refused, not wrapped around", () => {
  const pf = PciAddress.parse("ff:1f.0");
  assertEquals(pf.vf(0, { firstVfOffset: 7, vfStride: 1 }).toString(), "0000:ff:1f.7");
  assertThrows(() => pf.vf(1, { firstVfOffset: 7, vfStride: 1 }), UsageError, "past the last bus");
  assertThrows(() => pf.vf(-1, { firstVfOffset: 7, vfStride: 1 }), UsageError);
});

Deno.test("addresses sort by domain, bus, device, function", () => {
  const sorted = [
    "0000:00:1f.2",
    "0000:01:00.0",
    "0000:01:00.1",
    "0000:01:01.0",
    "0001:00:00.0",
    "10000:00:00.0",
  ];
  const shuffled = [4, 1, 5, 0, 3, 2].map((i) => PciAddress.parse(sorted[i]!));
  assertEquals(shuffled.sort(PciAddress.compare).map(String), sorted);
});

Deno.test("addresses compare by value and go to JSON as text", () => {
  const a = PciAddress.parse("01:00.0");
  assertEquals(a.equals(PciAddress.parse("0000:01:00.0")), true);
  assertEquals(a.equals(PciAddress.parse("0001:01:00.0")), false);
  assertEquals(a.equals(PciAddress.parse("01:00.1")), false);
  assertEquals(JSON.stringify({ a }), '{"a":"0000:01:00.0"}');
});
