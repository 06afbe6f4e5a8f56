import { assertEquals, assertThrows } from "@std/assert";
import { InputError, UsageError } from "../../../lib/errors/mod.ts";
import { formatRegisters, parseRegisters } from "../../../lib/registers/mod.ts";
import { NIC } from "./datasheet.ts";

Deno.test("a table as text, and back", () => {
  const text = formatRegisters(NIC);
  assertEquals(
    text,
    `CTRL      0x0000                32     RW      0x80000100
  FD      0                            RW
  SPEED   9:8                          RW      10=0 100=1 1000=2
  RST     26                           SC
  DONE    30                           RW1C
  PHY     31                           RW
ICR       0x00c0                32     RC/W1C
  TXDW    0                            RC/W1C
  LSC     2                            RC/W1C
ICS       0x00c8                32     W
GPRC      0x0074                32     RC
GORC      0x0088                64     RC
  octets  35:0                         RC
STAMP     0x0098                64/64  R
  valid   63                           RO
TDBAL     0x0100 + 0x40 * 0..3  32     RW
TDLEN     0x0108 + 0x40 * 0..3  32     RW      0x0
`,
  );
  assertEquals<unknown>(parseRegisters(text), NIC);
});

Deno.test("as datasheets write it: remarks, ×, R/W, a bigint as the reset of 64 bits", () => {
  assertEquals(
    parseRegisters(`# registers
TDBAL 0xE000+0x40×0..15  32  R/W  # one a queue

ICR   192  32  rc/w1c
  LSC 2 rc/w1c   off=0 on=0x1
BASE  0x10 64  RW  0x1_0000`.replace("_", "")),
    {
      TDBAL: { offset: 0xe000, width: 4, access: "RW", strideBytes: 0x40, count: 16 },
      ICR: {
        offset: 192,
        width: 4,
        access: "RC/W1C",
        fields: { LSC: { bits: 2, access: "RC/W1C", values: { off: 0, on: 1 } } },
      },
      BASE: { offset: 0x10, width: 8, access: "RW", reset: 0x10000n },
    },
  );
});

Deno.test("a wrong line is an InputError that has it, a wrong table refused as any other", () => {
  const wrong = (text: string, why: string) => assertThrows(() => parseRegisters(text), InputError, why);
  wrong("A 0 32", 'line 1 of the table: it is no register: "A 0 32"');
  wrong("\n  F 0 RW", 'line 2 of the table: a field without a register above it: "F 0 RW"');
  wrong("A 0 24 RW", "the width is none of 8, 16, 32, 64 and 64/64 bits");
  wrong("A 0 32 RX", "the access is none of R, W, RW");
  wrong("A 0 32 RW\nA 4 32 RW", "line 2 of the table: there are two registers of the name A");
  wrong("A 0 32 RW\n F 0 RW\n F 1 RW", "line 3 of the table: the register has two fields of the name F");
  wrong("A 0 32 RW\n F 0-3 RW", "bits are a number, or HIGH:LOW");
  wrong("A 0 32 RW\n F 0 RW on", "what a value means is said as NAME=NUMBER");
  wrong("A 0 32 RW\n F 0 RW on=1 on=0", "two values of the name on");
  wrong("1A 0 32 RW", "a name has letters, digits, _, - and .");
  const refused = (text: string, why: string) => assertThrows(() => parseRegisters(text), UsageError, why);
  refused("A 0 32 RW\nB 3 8 RW", "registers A and B overlap");
  refused("A 0 8 RW\n F 8 RW", "field F is outside of it");
  assertThrows(
    () => formatRegisters({ bars: { offset: 16, width: 4, strideBytes: 4 } }),
    UsageError,
    "bars is an array",
  );
});
