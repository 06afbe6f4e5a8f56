import { assertEquals, assertThrows } from "@std/assert";
import { InputError, UsageError } from "../../../lib/errors/mod.ts";
import { checkDump, diffDumps, formatDiff, formatDump, Registers } from "../../../lib/registers/mod.ts";
import { NIC } from "./datasheet.ts";
import { memory } from "./memory_space.ts";

function nic() {
  const bytes = memory(0x200);
  return { ...bytes, registers: new Registers(NIC, bytes.space) };
}

Deno.test("a dump reads nothing that reading clears, unless it is asked to", () => {
  const { registers, seen } = nic();
  const dump = registers.dump({ only: "?C*" });
  assertEquals(dump, {
    registers: [
      { name: "ICR", offset: 0xc0, width: 4, value: null, lack: "cleared by reading" },
      { name: "ICS", offset: 0xc8, width: 4, value: null, lack: "write-only" },
    ],
    clearingReads: 0,
  });
  assertEquals([seen, registers.clearingReads], [[], 0]);
  const asked = registers.dump({ only: "icr", readToClear: true });
  assertEquals(asked.registers[0]?.fields, { LSC: false, TXDW: false });
  assertEquals([asked.clearingReads, registers.clearingReads, seen], [1, 1, ["r4@192"]]);
});

Deno.test("a dump as text: by offset, decoded, with what is not as after a reset", () => {
  const { registers, view } = nic();
  view.setUint32(0, 0x8000_0201, true);
  view.setUint32(0x148, 0x80, true);
  view.setBigUint64(0x88, 0xffff_ffff_ffffn, true);
  assertEquals(registers.dump({ only: "[CT]*" }).registers, [], "a bracket is itself");
  assertEquals(
    ["CTRL", "TD", "GORC"].map((only) => formatDump(registers.dump({ only, readToClear: true }))).join(
      "",
    ),
    `0x000  CTRL  0x80000201  PHY 1, DONE 0, RST 0, SPEED 1000, FD 1  (reset 0x80000100)
0x100  TDBAL[0]  0x00000000
0x108  TDLEN[0]  0x00000000
0x140  TDBAL[1]  0x00000000
0x148  TDLEN[1]  0x00000080  (reset 0x00000000)
0x180  TDBAL[2]  0x00000000
0x188  TDLEN[2]  0x00000000
0x1c0  TDBAL[3]  0x00000000
0x1c8  TDLEN[3]  0x00000000
0x088  GORC  0x0000ffffffffffff  octets 68719476735
`,
  );
});

Deno.test("registers beyond what is there are left out", () => {
  const { space } = memory(0x200);
  const short = new Registers(NIC, space, { lengthBytes: 0x144 });
  assertEquals(short.dump({ only: "td*" }).registers.map(({ name }) => name), [
    "TDBAL[0]",
    "TDLEN[0]",
    "TDBAL[1]",
  ]);
});

Deno.test("two dumps, one of them kept as JSON: what differs, by field", () => {
  const { registers, view } = nic();
  const before = checkDump(JSON.parse(JSON.stringify(registers.dump({ only: "C" }))));
  view.setUint32(0, 0x201, true);
  const after = registers.dump({ only: "C", readToClear: true });
  const changes = diffDumps(before, after);
  assertEquals(changes[0], {
    name: "CTRL",
    before: "0x00000000",
    after: "0x00000201",
    fields: { SPEED: { before: "10", after: "1000" }, FD: { before: false, after: true } },
  });
  assertEquals(
    formatDiff(changes),
    `CTRL  0x00000000 -> 0x00000201  SPEED 10 -> 1000, FD 0 -> 1
GPRC  (not read) -> 0x00000000
GORC  (not read) -> 0x0000000000000000
ICR   (not read) -> 0x00000000
`,
  );
  assertEquals(diffDumps(after, after), []);
});

Deno.test("what is no dump is an InputError", () => {
  for (const wrong of [null, 1, [], {}, { registers: [null] }, { registers: [{ name: "a", value: 1 }] }]) {
    assertThrows(() => checkDump(wrong), InputError, "it is no dump of registers");
  }
  const { proxy, revoke } = Proxy.revocable([], {});
  revoke();
  assertThrows(() => checkDump({ registers: proxy }), UsageError, "checkDump");
});
