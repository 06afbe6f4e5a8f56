import { assert, assertEquals, assertThrows } from "@std/assert";
import { accessible, appendDurably, FileLock, readText, replaceFile } from "../../../../ffi/mod.ts";
import { ProtocolError, RefusedError } from "../../../../lib/errors/mod.ts";
import { type Change, Journal } from "../../../../lib/host/journal/journal.ts";
import { FileJournalStore } from "../../../../lib/host/journal/store.ts";
import { fixture, NET } from "../fixture.ts";
import { MemoryJournalStore } from "./memory_store.ts";
import { TemporaryDirectory } from "../temporary.ts";

const F = "0000:01:00.0";

function change(attribute: Change["attribute"], before: string, after: string): Change {
  return { function: F, attribute, before, after };
}

function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
}

function values(journal: Journal): string[] {
  return journal.entries().map((one) => `${one.function} ${one.attribute} ${one.before}>${one.after}`);
}

Deno.test("journal: the first value before and the last one after count", () => {
  const store = new MemoryJournalStore();
  const journal = new Journal(store);
  journal.record([change("driver", "igb", "vfio-pci")]);
  journal.record([change("driver", "vfio-pci", "pci-stub"), change("sriov_numvfs", "0", "4")]);
  assertEquals(values(new Journal(store)), [`${F} driver igb>pci-stub`, `${F} sriov_numvfs 0>4`]);
});

Deno.test("journal: a line is one JSON object with its process and time", () => {
  const store = new MemoryJournalStore();
  new Journal(store).record([change("driver_override", "", "vfio-pci")]);
  const line = JSON.parse(store.text);
  assertEquals(store.text.endsWith("}\n"), true);
  assertEquals([line.function, line.attribute, line.before, line.after], [
    F,
    "driver_override",
    "",
    "vfio-pci",
  ]);
  assert(Number.isInteger(line.pid) && new Date(line.time).toISOString() === line.time);
});

Deno.test("journal: a line torn at any byte is as if it had not been begun, and the next one is whole", () => {
  const store = new MemoryJournalStore();
  new Journal(store).record([change("driver", "igb", "vfio-pci")]);
  const first = store.text;
  new Journal(store).record([change("sriov_numvfs", "0", "4")]);
  const both = store.text;
  for (let end = first.length; end < both.length; end++) {
    store.text = both.slice(0, end);
    const journal = new Journal(store);
    assertEquals(values(journal), [`${F} driver igb>vfio-pci`]);
    journal.record([change("sriov_drivers_autoprobe", "1", "0")]);
    assertEquals(values(new Journal(store)), [
      `${F} driver igb>vfio-pci`,
      `${F} sriov_drivers_autoprobe 1>0`,
    ]);
  }
  store.text = first.slice(0, 5);
  assertEquals(values(new Journal(store)), []);
});

Deno.test("journal: a damaged line is named, everything is kept, nothing is changed", () => {
  const good = JSON.stringify({ ...change("driver", "igb", "vfio-pci"), pid: 1, time: "t" });
  const bad = [
    "",
    "{",
    "null",
    "[]",
    "\0\0\0\0",
    good.replace(F, "../../etc"),
    good.replace(F, "01:00.0"),
    good.replace('"driver"', '"config"'),
    good.replace('"igb"', '"../igb"'),
    good.replace('"igb"', "7"),
    good.replace('"pid":1', '"pid":"1"'),
    good.replace('"driver"', '"sriov_numvfs"'),
    good.replace("{", '{"physicalFunction":"x",'),
  ];
  for (const line of bad) {
    const store = new MemoryJournalStore();
    store.text = `${good}\n${line}\n${good}\n`;
    const text = store.text;
    const journal = new Journal(store);
    const attempts = [
      () => journal.entries(),
      () => journal.record([change("driver", "a", "b")]),
      () => journal.forget([change("driver", "a", "b")]),
    ];
    for (const attempt of attempts) {
      const error = assertThrows(attempt, ProtocolError, "journal.jsonl: line 2 is not a journal entry");
      assert(error.message.includes("damaged-1") && error.hint.includes("line 2"));
    }
    assertEquals(store.text, text);
    assertEquals(new TextDecoder().decode(store.copies[0]), text);
  }
});

Deno.test("journal: with a damaged one, no call changes the host", () => {
  using made = fixture();
  made.store.text = "nonsense\n";
  const before = made.sysfs.snapshot();
  assertThrows(() => made.host.bind(NET), ProtocolError, "line 1");
  assertThrows(() => made.host.restore(), ProtocolError, "line 1");
  assertThrows(() => made.host.journal(), ProtocolError, "line 1");
  assertEquals([made.sysfs.snapshot(), made.store.text], [before, "nonsense\n"]);
});

Deno.test("journal: what another process adds, rewrites or damages is seen, though only what is new is read", () => {
  const store = new MemoryJournalStore();
  const [mine, other] = [new Journal(store), new Journal(store)];
  for (let i = 0; i < 5; i++) {
    mine.record([{ function: `0000:01:00.${i}`, attribute: "driver", before: "igb", after: "vfio-pci" }]);
    assertEquals(values(other), values(new Journal(store)));
    other.record([{ function: `0000:02:00.${i}`, attribute: "driver", before: "igb", after: "vfio-pci" }]);
    assertEquals(values(mine), values(new Journal(store)));
  }
  const mark = other.record([{
    function: "0000:01:00.0",
    attribute: "driver",
    before: "vfio-pci",
    after: "",
  }]);
  assertEquals(values(mine)[0], "0000:01:00.0 driver igb>");
  other.rollBack(mark);
  assertEquals(values(mine)[0], "0000:01:00.0 driver igb>vfio-pci");
  other.forget([{ function: "0000:01:00.3", attribute: "driver" }]);
  assertEquals(values(mine), values(new Journal(store)));
  assertEquals(mine.entries().length, 9);
  // The same length, and another content: the whole is read again.
  store.text = store.text.replace('"before":"igb"', '"before":"abc"');
  assertEquals(values(mine)[0], "0000:01:00.0 driver abc>vfio-pci");
  const whole = store.text;
  store.text = `${whole}${whole.split("\n")[0]}\nno entry\n`;
  const error = assertThrows(() => mine.entries(), ProtocolError);
  assert(error.message.includes("line 11 "), error.message);
  store.text = whole;
  assertEquals(mine.entries().length, 9);
});

Deno.test("journal: rolling back leaves what was said before", () => {
  const store = new MemoryJournalStore();
  const journal = new Journal(store);
  journal.record([change("driver", "igb", "vfio-pci")]);
  const entries = journal.entries();
  const mark = journal.record([
    change("driver", "vfio-pci", "pci-stub"),
    change("driver_override", "", "pci-stub"),
  ]);
  assertEquals(journal.entries().length, 2);
  journal.rollBack(mark);
  assertEquals(journal.entries(), entries);
});

Deno.test("journal file: made when needed, added to, replaced as a whole", () => {
  using directory = new TemporaryDirectory();
  const path = `${directory.path}/state`;
  const journal = new Journal(new FileJournalStore(path));
  assertEquals(journal.entries(), []);
  journal.forget([]);
  assertEquals(accessible(path), false);
  journal.record([change("driver", "igb", "vfio-pci")]);
  journal.record([change("sriov_numvfs", "0", "4")]);
  assertEquals(readText(`${path}/journal.jsonl`).split("\n").length, 3);
  const second = new Journal(new FileJournalStore(path));
  second.forget([change("driver", "", "")]);
  assertEquals(values(journal), [`${F} sriov_numvfs 0>4`]);
  assertEquals(accessible(`${path}/journal.jsonl.new`), false);
});

Deno.test("journal file: copies of damaged files do not overwrite each other", () => {
  using directory = new TemporaryDirectory();
  const store = new FileJournalStore(directory.path);
  for (const text of ["one\n", "two\n", "one\n"]) {
    replaceFile(store.path, bytes(text));
    assertThrows(() => new Journal(store).entries(), ProtocolError);
  }
  assertEquals(readText(`${store.path}.damaged-1`), "one\n");
  assertEquals(readText(`${store.path}.damaged-2`), "two\n");
  assertEquals(accessible(`${store.path}.damaged-3`), false);
});

Deno.test("journal file: one process writes at a time", () => {
  using directory = new TemporaryDirectory();
  const journal = new Journal(new FileJournalStore(directory.path, 20));
  const held = FileLock.tryAcquire(`${directory.path}/journal.lock`, "pid 1 other");
  if (!(held instanceof FileLock)) throw new Error("the lock is taken");
  {
    using _held = held;
    assertThrows(() => journal.record([change("driver", "igb", "vfio-pci")]), RefusedError, "pid 1 other");
    assertEquals(journal.entries(), []);
  }
  journal.record([change("driver", "igb", "vfio-pci")]);
  assertEquals(journal.entries().length, 1);
});

Deno.test("journal file: a torn last line on disk", () => {
  using directory = new TemporaryDirectory();
  const store = new FileJournalStore(directory.path);
  new Journal(store).record([change("driver", "igb", "vfio-pci")]);
  appendDurably(store.path, bytes('{"function":"0000:0'));
  new Journal(store).record([change("sriov_numvfs", "0", "2")]);
  assertEquals(values(new Journal(store)), [`${F} driver igb>vfio-pci`, `${F} sriov_numvfs 0>2`]);
});
