import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { DeviceError } from "../../../lib/errors/mod.ts";
import { ConfigSpace, describeFunction, formatFunction, walkCapabilities } from "../../../lib/pci/mod.ts";
import { configFrom, expressFrom, firstBytes } from "./fixtures.ts";
import { campaign, Random, rounds } from "../../random.ts";

/** Walks leniently and strictly, and gives the findings with the strict error's text. */
function faults(config: ConfigSpace): { problems: [string, number][]; kinds: string[]; strict: string } {
  const list = walkCapabilities(config);
  const strict = assertThrows(() => walkCapabilities(config, { strict: true }), DeviceError);
  return {
    problems: list.findings.map((finding) => [finding.problem, finding.offset]),
    kinds: list.capabilities.map((cap) => cap.kind),
    strict: strict.message,
  };
}

/** An endpoint whose standard list starts at 0x40. */
function endpoint(at: Record<number, string>, sizeBytes: number = 256): ConfigSpace {
  return configFrom(sizeBytes, { 0x00: "8680 3412 0000 1000", 0x34: "40", ...at });
}

Deno.test("a standard list that points to itself ends after one visit", () => {
  const { problems, kinds, strict } = faults(endpoint({ 0x40: "0140 0300" }));
  assertEquals([problems, kinds], [[["cycle", 0x41]], ["power-management"]]);
  assertStringIncludes(strict, "offset 0x41");
});

Deno.test("a standard list of two that point at each other visits both once", () => {
  const { problems, kinds } = faults(endpoint({ 0x40: "0150 0300", 0x50: "0c40" }));
  assertEquals([problems, kinds], [[["cycle", 0x51]], ["power-management", "other"]]);
});

Deno.test("a pointer into the header ends the list", () => {
  const { problems, strict } = faults(endpoint({ 0x40: "0c10" }));
  assertEquals(problems, [["out-of-range", 0x41]]);
  assertStringIncludes(strict, "0x10 is inside the header");
  assertEquals(faults(endpoint({ 0x34: "3c" })).problems, [["out-of-range", 0x34]]);
});

Deno.test("the two low bits of a pointer are noted and ignored", () => {
  const { problems, kinds } = faults(endpoint({ 0x34: "43", 0x40: "0c52", 0x50: "0c00" }));
  assertEquals(problems, [["unaligned", 0x34], ["unaligned", 0x41]]);
  assertEquals(kinds, ["other", "other"]);
});

Deno.test("a pointer of nothing but reserved bits is the end of the list", () => {
  assertEquals(faults(endpoint({ 0x40: "0c03" })).kinds, ["other"]);
});

Deno.test("a capability that does not fit before 0x100 is malformed, and the list goes on", () => {
  const { problems, kinds, strict } = faults(endpoint({ 0x40: "0cfc", 0xfc: "1150 0000", 0x50: "0c00" }));
  assertEquals([problems, kinds], [[["malformed", 0xfc]], ["other", "malformed", "other"]]);
  assertStringIncludes(strict, "MSI-X");
  assertStringIncludes(strict, "4 are left");
});

Deno.test("a standard capability may not run on into extended space", () => {
  assertEquals(faults(endpoint({ 0x40: "0cf8", 0xf8: "1100 0000" }, 4096)).kinds[1], "malformed");
});

Deno.test("a vendor-specific length larger than the remainder is malformed", () => {
  assertEquals(faults(endpoint({ 0x40: "0900 ff" })).problems, [["malformed", 0x40]]);
});

Deno.test("an EA capability that claims more entries than fit is malformed", () => {
  assertEquals(faults(endpoint({ 0x40: "1400 3f00" })).problems, [["malformed", 0x40]]);
});

Deno.test("an EA entry that is too short for its 64-bit fields is malformed", () => {
  assertEquals(faults(endpoint({ 0x40: "1400 0100 02000080 02000000 02000000" })).problems, [[
    "malformed",
    0x40,
  ]]);
});

Deno.test("capabilities that share bytes are noted, and both decoded", () => {
  const { problems, kinds } = faults(endpoint({ 0x40: "0144 0300", 0x44: "0c00" }));
  assertEquals([problems, kinds], [[["overlap", 0x44]], ["power-management", "other"]]);
});

Deno.test("an extended list that loops, points low or is unaligned", () => {
  assertEquals(faults(expressFrom({ 0x100: "0e000110" })).problems, [["cycle", 0x100]]);
  assertEquals(faults(expressFrom({ 0x100: "0e00010c" })).problems, [["out-of-range", 0x100]]);
  const unaligned = faults(expressFrom({ 0x100: "0e001114", 0x140: "03000100" }));
  assertEquals(unaligned.problems, [["unaligned", 0x100]]);
  assertEquals(unaligned.kinds.slice(1), ["alternative-routing-id", "device-serial-number"]);
});

Deno.test("an extended capability at the very end that does not fit is malformed", () => {
  const { problems } = faults(expressFrom({ 0x100: "0e00c1ff", 0xffc: "10000100" }));
  assertEquals(problems, [["malformed", 0xffc]]);
});

Deno.test("VSEC and DVSEC lengths that are too short or too long are malformed", () => {
  for (const hex of ["0b000100 00000000", "0b000100 00007000", "23000100 00009000", "0b000100"]) {
    assertEquals(faults(expressFrom({ 0x100: hex })).problems, [["malformed", 0x100]], hex);
  }
  assertEquals(faults(expressFrom({ 0x100: "0e0001f0", 0xf00: "0b000100 0000f0ff" })).problems, [[
    "malformed",
    0xf00,
  ]]);
});

Deno.test("a Resizable BAR count that cannot be is malformed", () => {
  assertEquals(faults(expressFrom({ 0x100: "15000100 00000000 00000000" })).problems, [[
    "malformed",
    0x100,
  ]]);
  assertEquals(faults(expressFrom({ 0x100: "15000100 00000000 e0000000" })).problems, [[
    "malformed",
    0x100,
  ]]);
});

Deno.test("a snapshot that ends before its list says so, and the strict mode does not mind", () => {
  const config = configFrom(64, { 0x00: "8680 3412 0000 1000", 0x34: "40" });
  const list = walkCapabilities(config, { strict: true });
  assertEquals(list.capabilities, []);
  assertEquals(list.findings.map((finding) => finding.problem), ["unavailable"]);
});

Deno.test("a capability that the snapshot cuts is no fault of the device, one beyond its area is", () => {
  const cut = configFrom(0xa0, {
    0x00: "8680 3412 0000 1000",
    0x34: "98",
    0x98: "1140 0300",
    0x40: "0100 0300",
  });
  const list = walkCapabilities(cut, { strict: true });
  assertEquals(list.capabilities.map((cap) => cap.kind), ["cut", "power-management"], "the list goes on");
  assertEquals(list.findings.map(({ problem, offset }) => [problem, offset]), [["cut", 0x98]]);
  const beyond = configFrom(0xa0, { 0x00: "8680 3412 0000 1000", 0x34: "40", 0x40: "0900 ff" });
  assertEquals(faults(beyond).problems, [["malformed", 0x40]]);
});

Deno.test("an extended list is walked as far as the bytes go", () => {
  const whole = expressFrom({ 0x100: "0e000160", 0x600: "03000100" });
  const short = walkCapabilities(firstBytes(whole, 0x600), { strict: true });
  assertEquals(short.capabilities.map((cap) => cap.kind), ["express", "alternative-routing-id"]);
  assertEquals(short.findings.map(({ problem, offset }) => [problem, offset]), [["unavailable", 0x600]]);
  const cut = walkCapabilities(firstBytes(whole, 0x608), { strict: true });
  assertEquals(cut.capabilities.map((cap) => cap.kind).at(-1), "cut");
  assertEquals(walkCapabilities(firstBytes(whole, 0x60c), { strict: true }).findings, []);
});

Deno.test("a conventional function has no extended list, whatever stands there: its first 256 bytes again, for one", () => {
  const first = configFrom(256, { 0x00: "8680 3412 0000 1000", 0x34: "40", 0x40: "0100 0300" }).bytes;
  const mirrored = new Uint8Array(4096);
  for (let at = 0; at < 4096; at += 256) mirrored.set(first, at);
  const list = walkCapabilities(new ConfigSpace(mirrored), { strict: true });
  assertEquals([list.capabilities.map((cap) => cap.kind), list.findings], [["power-management"], []]);
  const stray = configFrom(4096, { 0x00: "8680 3412 0000 1000", 0x100: "0e000100" });
  assertEquals(walkCapabilities(stray), { capabilities: [], findings: [] });
});

Deno.test("an Express function behind a conventional bridge shows its first 256 bytes again, too", () => {
  const { bytes } = expressFrom({});
  for (let at = 256; at < 4096; at += 256) bytes.copyWithin(at, 0, 256);
  const list = walkCapabilities(new ConfigSpace(bytes), { strict: true });
  assertEquals([list.capabilities.map((cap) => cap.kind), list.findings], [["express"], []]);
});

Deno.test("a PCI-X function has an extended list when it can do 266 or 533 MHz", () => {
  const kinds = (status: string) =>
    walkCapabilities(
      configFrom(4096, {
        0x00: "8680 3412 0000 1000",
        0x34: "40",
        0x40: `0700 0000 ${status}`,
        0x100: "0e000100",
      }),
      { strict: true },
    ).capabilities.map((cap) => cap.kind);
  assertEquals(kinds("00000340"), ["other", "alternative-routing-id"]);
  assertEquals(kinds("00000380"), ["other", "alternative-routing-id"]);
  assertEquals(kinds("00000300"), ["other"]);
});

Deno.test("AER version 2 without End-End TLP prefixes has no prefix log, where the next capability may be", () => {
  const list = walkCapabilities(expressFrom({ 0x100: "01000214", 0x140: "03000100" }), { strict: true });
  assertEquals(list.findings, []);
  assertEquals(list.capabilities.slice(1).map((cap) => [cap.kind, "lengthBytes" in cap && cap.lengthBytes]), [
    ["advanced-error-reporting", 0x38],
    ["device-serial-number", 12],
  ]);
  // With them it is there, and what lies in it overlaps.
  const { problems } = faults(expressFrom({ 0xe8: "00002000", 0x100: "01000214", 0x140: "03000100" }));
  assertEquals(problems, [["overlap", 0x140]]);
});

Deno.test("an extended list that links on to a header of zeros or ones ends there", () => {
  for (const header of ["00000000", "ffffffff"]) {
    const config = expressFrom({ 0x100: "0e000114", 0x140: header });
    const list = walkCapabilities(config, { strict: true });
    assertEquals(list.capabilities.map((cap) => cap.kind), ["express", "alternative-routing-id"], header);
    assertEquals(formatFunction(config).filter((line) => line.includes("[140")), []);
  }
});

Deno.test("without the Capabilities List bit the pointer means nothing", () => {
  assertEquals(walkCapabilities(configFrom(256, { 0x00: "8680", 0x34: "40", 0x40: "0140" })), {
    capabilities: [],
    findings: [],
  });
});

Deno.test("a function that is gone has no capabilities and no findings", () => {
  const gone = new ConfigSpace(new Uint8Array(4096).fill(0xff));
  assertEquals(walkCapabilities(gone, { strict: true }), { capabilities: [], findings: [] });
});

/** Every list header of a space filled at random, made likely to link on so that the walks get long. */
function randomConfig(random: Random, virtio: boolean): ConfigSpace {
  const bytes = new Uint8Array(4096);
  for (let i = 0; i < 4096; i++) bytes[i] = random.below(256);
  const view = new DataView(bytes.buffer);
  if (virtio) view.setUint16(0, 0x1af4, true);
  bytes[6]! |= 0x10;
  bytes[0x0e] = random.below(4);
  // Only an Express function has an extended list.
  bytes[random.below(2) === 0 ? 0x34 : 0x14] = 0x40;
  bytes[0x40] = 0x10;
  for (let at = 0x44; at < 0x100; at += 4) {
    if (random.fraction() < 0.8) bytes[at] = [1, 3, 5, 9, 0x0d, 0x10, 0x11, 0x13, 0x14][random.below(9)]!;
  }
  for (let at = 0x100; at < 0x1000; at += 4) {
    const id = random.below(0x26), next = 0x100 + random.below(0xf00);
    view.setUint32(at, id | (1 << 16) | (next << 20), true);
  }
  return new ConfigSpace(bytes);
}

Deno.test(campaign("20,000 random spaces: a lenient walk ends, stays inside and never throws", () => {
  const random = new Random(0x5eed);
  let capabilities = 0, findings = 0;
  for (let i = 0; i < rounds(20_000); i++) {
    const config = randomConfig(random, i % 2 === 0);
    const list = walkCapabilities(config);
    const offsets = list.capabilities.map((cap) => `${cap.list}${cap.offset}`);
    assertEquals(new Set(offsets).size, offsets.length, `round ${i}: an offset was visited twice`);
    for (const cap of list.capabilities) {
      assert(cap.offset >= (cap.list === "standard" ? 0x40 : 0x100) && cap.offset < 4096, `round ${i}`);
      if ("lengthBytes" in cap) {
        assert(cap.offset + cap.lengthBytes <= 4096, `round ${i}: ${cap.kind} runs past the end`);
      }
    }
    capabilities += list.capabilities.length;
    findings += list.findings.length;
  }
  assert(capabilities > rounds(100_000), `the walks were too short to mean anything: ${capabilities}`);
  assert(findings > rounds(20_000), `too few faults to mean anything: ${findings}`);
}));

Deno.test(campaign("2,000 random spaces: printing and describing never throw either", () => {
  const random = new Random(0xf00d);
  for (let i = 0; i < rounds(2_000); i++) {
    const config = randomConfig(random, i % 2 === 0);
    assert(
      formatFunction(config).every((line) => !line.includes("undefined") && !line.includes("NaN")),
      `round ${i}`,
    );
    JSON.stringify(describeFunction(config));
  }
}));
