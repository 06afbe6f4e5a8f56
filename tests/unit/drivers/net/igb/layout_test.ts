import { assertEquals, assertThrows } from "@std/assert";
import { writeReceive, writeTransmit } from "../../../../../drivers/net/igb/descriptors.ts";
import {
  CLEAR_TO_SEND,
  DONE,
  firstWord,
  isUnicast,
  macOf,
  macWords,
  madeUpMac,
  MESSAGE,
  messageInfo,
  messageType,
  multicastHash,
  multicastHashes,
  multicastMessage,
  says,
} from "../../../../../drivers/net/igb/mailbox.ts";
import { IGB_REGISTERS } from "../../../../../drivers/net/igb/registers.ts";
import { IGBVF_REGISTERS } from "../../../../../drivers/net/igb/vf_registers.ts";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { Registers } from "../../../../../lib/registers/registers.ts";

Deno.test("igb: descriptors are where and as the datasheet has them, and touch no others", () => {
  const words = new Uint32Array(12).fill(0xffff_ffff);
  writeReceive(words, 1, 0x1234_5000, 7);
  assertEquals([...words.slice(3, 9)], [0xffff_ffff, 0x1234_5000, 7, 0, 0, 0xffff_ffff]);
  writeTransmit(words, 2, 0x8000_0040, 1, 1514, true);
  // DEXT, RS, IFCS, EOP and DTYP 3 before the length; PAYLEN from bit 14 on.
  assertEquals([...words.slice(8)], [0x8000_0040, 1, 0x2b30_05ea, 1514 * 2 ** 14]);
  writeTransmit(words, 2, 0, 0, 60, false);
  assertEquals([...words.slice(8)], [0, 0, 0x2330_003c, 60 * 2 ** 14]);
});

Deno.test("igb: mailbox messages, word by word", () => {
  const mac = Uint8Array.of(0x52, 0x54, 0, 0xfe, 0x80, 0xff);
  assertEquals(macWords(mac), [0xfe00_5452, 0xff80]);
  assertEquals(macOf(...macWords(mac)), mac);
  const word = firstWord(MESSAGE.setVlan, 1, DONE | CLEAR_TO_SEND);
  assertEquals(word, 0xa001_0004);
  assertEquals([messageType(word), messageInfo(word)], [MESSAGE.setVlan, 1]);
  assertEquals([says(word, DONE), says(word, CLEAR_TO_SEND), says(word, 0x4000_0000)], [true, true, false]);
  const groups = [0x5a, 0x01, 0xff].map((last) => Uint8Array.of(1, 0, 0x5e, 0, 0x9c, last));
  assertEquals(multicastHash(groups[0]!), 0x5a9);
  const message = multicastMessage(groups);
  assertEquals(message, [0x0003_0003, 0x0019_05a9, 0xff9]);
  assertEquals(multicastHashes([...message, 0]), [0x5a9, 0x019, 0xff9]);
  // A VF that says there are more than fit has said nothing of those beyond.
  assertEquals(multicastHashes([firstWord(MESSAGE.setMulticast, 255), ...Array(15).fill(0)]).length, 30);
  assertEquals([isUnicast(mac), isUnicast(groups[0]!), isUnicast(new Uint8Array(6))], [true, false, false]);
  for (let n = 0; n < 50; n++) assertEquals(madeUpMac()[0]! & 3, 2);
});

Deno.test("igb: both tables are sound, and what a queue has is at the datasheet's places", () => {
  const at = (table: typeof IGB_REGISTERS | typeof IGBVF_REGISTERS) => {
    const seen: number[] = [];
    const space = { read: () => 0, write: (offset: number) => void seen.push(offset) };
    const registers = new Registers(table as typeof IGBVF_REGISTERS, space);
    for (const name of ["RDT", "TDT", "RXDCTL", "TXDCTL"] as const) registers.write(name, 0, 1);
    assertThrows(() => registers.write("RDT", 0, 16), UsageError, "RDT");
    return seen;
  };
  assertEquals(at(IGB_REGISTERS), [0xc058, 0xe058, 0xc068, 0xe068]);
  assertEquals(at(IGBVF_REGISTERS), [0x2918, 0x3918, 0x2928, 0x3928]);
});
