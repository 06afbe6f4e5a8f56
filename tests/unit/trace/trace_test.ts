import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { InputError, UsageError } from "../../../lib/errors/mod.ts";
import {
  compareTraces,
  type NumberedRecord,
  parseTrace,
  readTrace,
  Replay,
  TraceDecoder,
  traceHeader,
  traceLine,
  type TraceRecord,
} from "../../../lib/trace/mod.ts";
import { parseRegisters } from "../../../lib/registers/mod.ts";

const OPEN = {
  us: 0,
  device: 0,
  kind: "open",
  name: "0000:01:00.0",
  path: "group",
  flags: 2,
  regions: [{ flags: 3, sizeBytes: 4096 }],
  irqs: [],
  config: "",
} as const;

/** A trace of one function: what is given is `[kind, offset, value]`, of 32 bits, or a mapping's IOVA. */
function traceOf(...told: (readonly ["read" | "write", number, number] | bigint)[]): NumberedRecord[] {
  const records: TraceRecord[] = told.map((one, at) => {
    const moment = { us: at, device: 0 };
    if (typeof one === "bigint") {
      return {
        ...moment,
        kind: "map",
        iova: `0x${one.toString(16)}`,
        sizeBytes: 4096,
        label: "rings",
        space: 0,
      };
    }
    const [kind, offset, value] = one;
    return {
      ...moment,
      kind,
      region: 0,
      offset,
      width: 4,
      value: `0x${value.toString(16).padStart(8, "0")}`,
    };
  });
  return parseTrace([traceHeader(), ...[OPEN, ...records].map(traceLine)].join(""));
}

Deno.test("a trace file: what is written is read; a last line that is cut is left out; what is wrong names its line", () => {
  const text = traceHeader() + traceLine(OPEN) + traceLine({ us: 1, device: 0, kind: "reset" });
  assertEquals(parseTrace(text), [{ ...OPEN, line: 2 }, { us: 1, device: 0, kind: "reset", line: 3 }]);
  assertEquals(parseTrace(text.slice(0, -4)).length, 1);
  assertThrows(() => readTrace("# no trace\n"), InputError, "it is no trace");
  assertThrows(() => readTrace('{"ringsideTrace":2}\n'), InputError, "version 2");
  const wrong: readonly (readonly [string, string])[] = [
    ["no JSON\n", "line 3 of the trace is no object"],
    ['{"us":1,"device":0,"kind":"jump"}\n', "no known kind"],
    ['{"us":1,"device":1,"kind":"reset"}\n', "about function 1"],
    [
      '{"us":1,"device":0,"kind":"read","region":0,"offset":0,"width":4,"value":"0x1"}\n',
      "a value of 4 bytes",
    ],
    ['{"us":1,"device":0,"kind":"map","iova":"4096","sizeBytes":1,"label":"","space":0}\n', "has iova"],
    ['{"us":-1,"device":0,"kind":"reset"}\n', "has us: -1"],
  ];
  for (const [line, why] of wrong) {
    assertThrows(() => parseTrace(traceHeader() + traceLine(OPEN) + line), InputError, why);
  }
});

Deno.test("two traces: addresses of DMA memory may differ, polls may be longer; all else is a difference", () => {
  const one = traceOf(0x1000n, ["write", 0, 1], ["read", 4, 0], ["read", 4, 0], ["write", 8, 0x1040], [
    "write",
    12,
    0,
  ]);
  const moved = traceOf(0x9000n, ["write", 0, 1], ["read", 4, 0], ["write", 8, 0x9040], ["write", 12, 0]);
  assertEquals(compareTraces(one, one).difference, undefined);
  const { difference, same } = compareTraces(one, moved);
  assertEquals([difference, same], [undefined, 4]);
  const far = traceOf(0x5_0000_9000n, ["write", 0, 1], ["read", 4, 0], ["write", 8, 0x9040], [
    "write",
    12,
    5,
  ]);
  assertEquals(compareTraces(one, far).difference, undefined);
  const other = (...told: Parameters<typeof traceOf>) => {
    const { same, difference } = compareTraces(one, traceOf(...told));
    return [same, difference?.one?.line, difference?.other?.line];
  };
  // Elsewhere in the memory; another value; another register; the end.
  assertEquals(other(0x9000n, ["write", 0, 1], ["read", 4, 0], ["write", 8, 0x9080]), [2, 7, 6]);
  assertEquals(other(0x9000n, ["write", 0, 2]), [0, 4, 4]);
  assertEquals(other(0x9000n, ["write", 0, 1], ["write", 4, 0]), [1, 5, 5]);
  assertEquals(other(0x9000n, ["write", 0, 1]), [1, 5, undefined]);
});

Deno.test("memory stands for one other memory only: an address of the wrong one is a difference", () => {
  const one = traceOf(0x1000n, 0x2000n, ["write", 0, 0x1000], ["write", 8, 0x2000], ["write", 16, 0x1000]);
  const swapped = traceOf(0x7000n, 0x8000n, ["write", 0, 0x7000], ["write", 8, 0x8000], [
    "write",
    16,
    0x8000,
  ]);
  assertEquals(compareTraces(one, swapped).same, 2);
});

const MMIO = `VERSION 20070824
PCIDEV 0008 80861237 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
PCIDEV 0018 12345678 b fe000000 d001 0 0 0 0 0 1000 20 0 0 0 0 0 edu
MAP 10.000001 1 0xfe000000 0xffffc90000000000 0x1000 0x0 0
MARK 10.000050 insmod
R 4 10.000100 1 0xfe000000 0x10000ed 0x0 0
W 4 10.000200 1 0xfe000004 0x12 0x0 0
R 1 10.000300 1 0xfe000021 0x80 0x0 0
R 4 10.000400 2 0xfd000000 0x1 0x0 0
UNMAP 10.000500 1 0x0 0
`;

Deno.test("mmiotrace is read as a trace: accesses by BAR, marks, times from the first on", () => {
  const records = readTrace(MMIO);
  assertEquals(records.map(({ kind, line, us }) => [kind, line, us]), [
    ["open", 3, 0],
    ["mark", 5, 0],
    ["read", 6, 50],
    ["write", 7, 150],
    ["read", 8, 250],
  ]);
  const table = parseRegisters("ID  0x00  32  R\nLIVE  0x04  32  RW\n");
  const decoder = new TraceDecoder(() => [{ name: "edu", region: 0, offset: 0, lengthBytes: 4096, table }]);
  assertEquals(records.map((one) => decoder.decode(one)).map(({ where, what }) => `${where} ${what}`), [
    "0000:00:03.0 by mmiotrace",
    " insmod",
    "edu:ID 0x010000ed",
    "edu:LIVE 0x00000012",
    "0:0x21.8 0x80",
  ]);
  assertThrows(() => readTrace(`${MMIO}R 4 11.0 1 0xzz 0x1 0 0\n`), InputError, "line 11 of the mmiotrace");
  assertThrows(() => new Replay(records, 0, () => ""), UsageError, "cannot be replayed");
});

Deno.test("beside mmiotrace only BARs are compared", () => {
  const ours = traceOf(["read", 0, 0x10000ed], 0x1000n, ["write", 4, 0x13]);
  const { same, difference } = compareTraces(readTrace(MMIO), ours);
  assertEquals([same, difference?.one?.line, difference?.other?.line], [1, 7, 5]);
});

Deno.test("a replay answers as recorded, and refuses from the first access on that is another", () => {
  const replay = new Replay(
    traceOf(["read", 0, 7], ["write", 4, 1], ["read", 0, 8]),
    0,
    (step) => "offset" in step ? `${step.kind} at ${step.offset}` : step.kind,
  );
  const read = (offset: number) => {
    const into = new Uint8Array(4);
    replay.readRegion(0, offset, into);
    return into[0];
  };
  assertEquals([read(0), read(0)], [7, 7]);
  replay.writeRegion(0, 4, Uint8Array.of(1, 0, 0, 0));
  assertEquals(read(0), 8);
  assertMatch(
    assertThrows(() => replay.writeRegion(0, 4, Uint8Array.of(1, 0, 0, 0)), Error).message,
    /the trace is at its end; the driver did write at 4/,
  );
  assertThrows(() => read(0), Error, "the trace is at its end");
  assertEquals([replay.report.done, replay.report.steps, replay.report.lastLine], [3, 3, 5]);
});
