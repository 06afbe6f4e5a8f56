import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import {
  CAPABILITIES,
  type ConfigSpace,
  describeFunction,
  formatFunction,
  parseDump,
  walkCapabilities,
} from "../../../lib/pci/mod.ts";
import { campaign, Random, rounds } from "../../random.ts";
import { addressOf, DUMPS, dumpText } from "./dumps.ts";
import { configFrom, IGB } from "./fixtures.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const ROW = " 00".repeat(16);
/** A function of 64 bytes, and what stands before it. */
const small = (title: string, before = "") =>
  `${before}${title}\n00:${ROW}\n10:${ROW}\n20:${ROW}\n30:${ROW}\n`;

Deno.test("a dump of many functions: each with its address, its line and its bytes, of whatever length", () => {
  const text = DUMPS.map(({ config }, index) => dumpText(config, addressOf(index))).join("\n");
  const functions = parseDump(bytesOf(text));
  assertEquals(functions.length, DUMPS.length);
  const lines = text.split("\n");
  functions.forEach(({ address, line, config }, index) => {
    const { name, config: expected } = DUMPS[index]!;
    assertEquals([`${address}`, config.bytes], [`${addressOf(index)}`, expected.bytes], name);
    assert(lines[line - 1]!.startsWith(`${addressOf(index).toShortString()} `), name);
  });
});

Deno.test("a dump of lspci -vx: what is printed besides the bytes is skipped; domains, capitals, CR LF, no title text", () => {
  const functions = parseDump(bytesOf(
    small("10000:E1:00.0 Class 0604: Device 8086:1234", "pcilib: a warning\r\n\r\n").replace(
      "\n00:",
      "\r\n\tCapabilities: [40] Express\r\n\t\tDevCap: 00\r\n00: F4 1A".replace(" F4 1A", ""),
    ) + "\n" + small("0000:02:1f.7").toUpperCase(),
  ));
  assertEquals(functions.map(({ address, line }) => [`${address}`, line]), [
    ["10000:e1:00.0", 3],
    ["0000:02:1f.7", 11],
  ]);
});

Deno.test("raw bytes of one function have no address", () => {
  for (const sizeBytes of [64, 256, 0x600, 4096]) {
    const { bytes } = configFrom(4096, IGB);
    const [one, ...more] = parseDump(bytes.subarray(0, sizeBytes));
    assertEquals([one!.address, one!.line, one!.config.sizeBytes, more], [undefined, 0, sizeBytes, []]);
    assertEquals(one!.config.deviceId, 0x10c9);
  }
  const gone = parseDump(new Uint8Array(256).fill(0xff));
  assertEquals(gone[0]!.config.isPresent, false, "ones are no text");
});

Deno.test("what is wrong with a dump is told with its line and its function", () => {
  const broken: [string, string][] = [
    ["", "there is no function in this dump"],
    ["hello\n", "there is no function in this dump"],
    [`00:${ROW}\n`, "line 1: bytes before the first function"],
    ["01:00.0 x\n", "line 1: 0000:01:00.0 has no bytes, and a header has 64"],
    [`01:00.0 x\n00:${ROW}\n10: 00\n`, "line 1: 0000:01:00.0 has only 17 bytes"],
    [`01:00.0 x\n00:${ROW}\n20:${ROW}\n`, "line 3: 0000:01:00.0: bytes at 0x20, where 0x10 is next"],
    [`01:00.0 x\n00:${ROW}\n00:${ROW}\n`, "line 3: 0000:01:00.0: bytes at 0x0, where 0x10 is next"],
    ["01:00.0 x\n00: 00 0g\n", 'line 2: 0000:01:00.0: "0g" is not a byte'],
    ["01:00.0 x\n00: 00 123\n", 'line 2: 0000:01:00.0: "123" is not a byte'],
    ["01:00.0 x\n00: 00 -1\n", 'line 2: 0000:01:00.0: "-1" is not a byte'],
    ["01:20.0 x\n", "line 1: 01:20.0 is not a PCI address"],
    [small("01:00.0") + small("01:00.0"), "line 6: 0000:01:00.0 is there twice; it was on line 1"],
    [
      `01:00.0 x\n${
        Array.from({ length: 257 }, (_, row) => `${(row * 16).toString(16).padStart(2, "0")}:${ROW}\n`).join(
          "",
        )
      }`,
      "line 258: 0000:01:00.0: bytes beyond 0x1000",
    ],
  ];
  for (const [text, message] of broken) {
    const { message: said } = assertThrows(() => parseDump(bytesOf(text)), UsageError, undefined, text);
    assert(said.startsWith(message), `${JSON.stringify(text.slice(0, 40))}: ${said}`);
  }
  for (const sizeBytes of [1, 63, 4097]) {
    assertThrows(() => parseDump(new Uint8Array(sizeBytes)), UsageError, `${sizeBytes} bytes`);
  }
  assertThrows(() => parseDump("text" as unknown as Uint8Array), UsageError, "parseDump");
});

Deno.test("the dumps have every capability that is decoded", () => {
  const found = new Set(
    DUMPS.flatMap(({ config }) => walkCapabilities(config).capabilities).map(({ list, id, kind }) =>
      `${list} ${id} ${kind}`
    ),
  );
  const missing = CAPABILITIES.filter(({ list, id, kind }) => !found.has(`${list} ${id} ${kind}`));
  assertEquals(missing.map(({ kind, id }) => [kind, id]), []);
  assert(["cut", "null", "other"].every((kind) => [...found].some((one) => one.endsWith(` ${kind}`))));
});

/** Every way to look at a function. */
function look(config: ConfigSpace): void {
  for (const line of formatFunction(config, { address: addressOf(0) })) {
    assert(!/undefined|NaN|\[object/.test(line), line);
  }
  JSON.stringify(describeFunction(config));
}

Deno.test(campaign("5,000 dumps with changed bytes, cut at any length: no exception", () => {
  const random = new Random(0xd0d0);
  for (let round = 0; round < rounds(5_000); round++) {
    const { name, config } = random.pick(DUMPS), bytes = config.bytes.slice();
    const changes = 1 + random.below(32);
    for (let i = 0; i < changes; i++) {
      // Where the structures are, more often than anywhere.
      const at = random.below(random.pick([64, 256, 0x200, bytes.length])) % bytes.length;
      bytes[at] = random.pick([
        0,
        0xff,
        1 << random.below(8),
        random.below(256),
        bytes[at]! ^ (1 << random.below(8)),
      ]);
    }
    const length = random.below(2) === 0 ? bytes.length : 64 + random.below(bytes.length - 63);
    const text = dumpText({ bytes: bytes.subarray(0, length) }, addressOf(round % 255));
    try {
      const [read, ...more] = parseDump(bytesOf(text));
      assertEquals([read!.config.bytes, more], [bytes.subarray(0, length), []]);
      look(read!.config);
    } catch (error) {
      throw new Error(`round ${round}, ${name}: ${error}`, { cause: error });
    }
  }
}));

Deno.test(campaign("5,000 dumps with changed text: functions, or an error that says what is wrong", () => {
  const random = new Random(0xd1d1);
  const texts = DUMPS.map(({ config }, index) => dumpText(config, addressOf(index))).filter((one) =>
    one.length < 2000
  );
  for (let round = 0; round < rounds(5_000); round++) {
    const text = bytesOf(`${random.pick(texts)}\n${random.pick(texts)}`);
    const changes = 1 + random.below(4);
    for (let i = 0; i < changes; i++) {
      text[random.below(text.length)] = random.pick([0x0a, 0x20, 0x3a, 0x2e, random.below(256)]);
    }
    try {
      for (
        const { config } of parseDump(text.subarray(0, random.pick([text.length, random.below(text.length)])))
      ) {
        look(config);
      }
    } catch (error) {
      assert(error instanceof UsageError, `round ${round}: ${error}`);
    }
  }
}));
