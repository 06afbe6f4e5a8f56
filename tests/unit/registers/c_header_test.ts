import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import { cHeader, registerTable } from "../../../lib/registers/mod.ts";
import { NIC } from "./datasheet.ts";

Deno.test("a header of C: offsets, masks for FIELD_PREP, values", () => {
  const lines = cHeader(NIC, "nic").split("\n");
  assertEquals(lines.slice(0, 5), [
    "#ifndef _NIC_REGS_H_",
    "#define _NIC_REGS_H_",
    "",
    "#include <linux/bits.h>",
    "",
  ]);
  assertEquals(lines.slice(5).map((line) => line.replace(/ +/g, " ")), [
    "#define NIC_CTRL 0x0000 /* 32 bits, RW */",
    "#define NIC_CTRL_RESET 0x80000100",
    "#define NIC_CTRL_FD BIT(0) /* RW */",
    "#define NIC_CTRL_SPEED GENMASK(9, 8) /* RW */",
    "#define NIC_CTRL_SPEED_SHIFT 8",
    "#define NIC_CTRL_SPEED_10 0",
    "#define NIC_CTRL_SPEED_100 1",
    "#define NIC_CTRL_SPEED_1000 2",
    "#define NIC_CTRL_RST BIT(26) /* SC */",
    "#define NIC_CTRL_DONE BIT(30) /* RW1C */",
    "#define NIC_CTRL_PHY BIT(31) /* RW */",
    "#define NIC_GPRC 0x0074 /* 32 bits, RC */",
    "#define NIC_GORC 0x0088 /* 64 bits, RC */",
    "#define NIC_GORC_OCTETS GENMASK_ULL(35, 0) /* RC */",
    "#define NIC_GORC_OCTETS_SHIFT 0",
    "#define NIC_STAMP 0x0098 /* 64 bits, R */",
    "#define NIC_STAMP_VALID BIT_ULL(63) /* RO */",
    "#define NIC_ICR 0x00c0 /* 32 bits, RC/W1C */",
    "#define NIC_ICR_TXDW BIT(0) /* RC/W1C */",
    "#define NIC_ICR_LSC BIT(2) /* RC/W1C */",
    "#define NIC_ICS 0x00c8 /* 32 bits, W */",
    "#define NIC_TDBAL(n) (0x0100 + 0x40 * (n)) /* 32 bits, RW */",
    "#define NIC_TDBAL_COUNT 4",
    "#define NIC_TDLEN(n) (0x0108 + 0x40 * (n)) /* 32 bits, RW */",
    "#define NIC_TDLEN_COUNT 4",
    "#define NIC_TDLEN_RESET 0x0",
    "",
    "#endif",
    "",
  ]);
});

Deno.test("names are C's; two of one name are refused", () => {
  const table = registerTable({ queueSize: { offset: 0, width: 2 }, queue_size: { offset: 2, width: 2 } });
  assertThrows(
    () => cHeader(table, "DEV"),
    UsageError,
    "two things of the table would both be DEV_QUEUE_SIZE",
  );
  assertThrows(() => cHeader(NIC, "1-nic"), UsageError, "cannot begin a name of C");
});
