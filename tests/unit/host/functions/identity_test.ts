import { assert, assertEquals, assertThrows } from "@std/assert";
import { NotFoundError, RefusedError, UsageError } from "../../../../lib/errors/mod.ts";
import { FunctionAttributes } from "../../../../lib/host/sysfs/attributes.ts";
import { identityOf, sameIdentity } from "../../../../lib/host/functions/identity.ts";
import { BARE, DRIVERS, type Fixture, fixture, FUNCTIONS, NET, PF } from "../fixture.ts";
import { MemorySysfs } from "../sysfs/memory_sysfs.ts";

/** A config space with a serial number, as root reads it. */
function configWithSerial(low: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0x8086, true);
  view.setUint16(2, 0x10c9, true);
  view.setUint16(6, 0x0010, true);
  // A capability of PCI Express, without which there are no extended ones.
  bytes[0x34] = 0x40;
  bytes[0x40] = 0x10;
  view.setUint16(0x42, 0x0002, true);
  view.setUint32(0x100, 0x0001_0003, true);
  view.setUint32(0x104, low, true);
  view.setUint32(0x108, 0x90e2_baff, true);
  return bytes;
}

/** The same host, and another device at `address`. */
function swap(made: Fixture, address: string, device: number): void {
  made.sysfs.unplug(address);
  made.sysfs.plug({ ...FUNCTIONS.find((one) => one.address === address)!, device });
}

Deno.test("identity: ids, subsystem and class, and the serial number where there is one", () => {
  const sysfs = new MemorySysfs(FUNCTIONS, DRIVERS);
  const attributes = new FunctionAttributes(sysfs);
  const ids = "8086:10c9 subsystem 1af4:1100 class 020000";
  assertEquals(identityOf(attributes, PF), ids);
  assertEquals(identityOf(attributes, "0000:0f:00.0"), undefined);
  const other = new MemorySysfs(FUNCTIONS, DRIVERS);
  other.extra.set(`/sys/devices/pci0000:00/${PF}/config`, configWithSerial(0x0011_2233));
  assertEquals(identityOf(new FunctionAttributes(other), PF), `${ids} serial 90-e2-ba-ff-00-11-22-33`);
});

Deno.test("identity: a serial number tells two cards of one model apart, where both have been read", () => {
  const ids = "8086:10c9 subsystem 8086:a03c class 020000";
  assert(
    sameIdentity(ids, ids) && sameIdentity(`${ids} serial 01`, ids) && sameIdentity(ids, `${ids} serial 01`),
  );
  assert(sameIdentity(`${ids} serial 01`, `${ids} serial 01`));
  assert(!sameIdentity(`${ids} serial 01`, `${ids} serial 02`));
  assert(!sameIdentity(ids, ids.replace("10c9", "1572")));
});

Deno.test("restore leaves another device alone that came to the same address, and says what it found", () => {
  using made = fixture();
  made.host.bind(NET);
  swap(made, NET, 0x9999);
  made.sysfs.set(NET, { driver: "pci-stub" });
  const before = made.sysfs.snapshot();
  const { done, failed } = made.host.restore();
  assertEquals([done, failed.length], [[], 2]);
  for (const { entry, error } of failed) {
    if (!(error instanceof RefusedError)) throw error;
    assertEquals(
      error.message,
      `${NET} is another device now: 1af4:9999 subsystem 1af4:1100 class 020000; ` +
        `the journal is about 1af4:1041 subsystem 1af4:1100 class 020000`,
    );
    assertEquals(error.hint, `drop the entries of the one that is gone: ringside restore --forget ${NET}`);
    assertEquals(entry.identity, "1af4:1041 subsystem 1af4:1100 class 020000");
  }
  assertEquals([made.sysfs.snapshot(), made.host.journal().length], [before, 2], "and all stays noted");
});

Deno.test("a name that is noted does not stand for another device that came to the same address", () => {
  using made = fixture();
  made.host.bind("eth0");
  assertEquals(made.host.describe("eth0").address, NET);
  swap(made, NET, 0x9999);
  assertThrows(
    () => made.host.describe("eth0"),
    UsageError,
    "no interface or disk of this host is called so",
  );
});

Deno.test("restore does nothing to another device, even where its driver happens to be the one before", () => {
  using made = fixture();
  made.host.bind(NET);
  swap(made, NET, 0x9999);
  made.sysfs.set(NET, { driver: "virtio-pci" });
  assertEquals(made.host.restore().failed.length, 2);
});

Deno.test("restore: the same device that comes back is put back", () => {
  using made = fixture();
  made.host.bind(NET);
  swap(made, NET, 0x1041);
  made.sysfs.set(NET, { driver: "vfio-pci", override: "vfio-pci" });
  assertEquals(made.host.restore().failed, []);
  assertEquals(made.sysfs.driverOf(NET), "virtio-pci");
});

Deno.test("the changes of a device that came later are an entry of their own, and what was before it is no part of it", () => {
  using made = fixture();
  made.host.bind(NET);
  swap(made, NET, 0x10c9);
  made.sysfs.set(NET, { driver: "igb" });
  made.host.bind(NET);
  assertEquals(made.host.restore().failed, []);
  assertEquals([made.sysfs.driverOf(NET), made.host.journal()], ["igb", []]);
});

Deno.test("a bind of the later device that fails leaves the entries of the earlier one", () => {
  using made = fixture();
  made.host.bind(NET);
  const noted = made.store.text;
  swap(made, NET, 0x10c9);
  assertThrows(() => made.host.bind(NET, { driver: "refuses" }));
  assertEquals(made.host.journal().map((one) => [one.before, one.after]), [
    ["virtio-pci", "vfio-pci"],
    ["", "vfio-pci"],
  ]);
  assertEquals(made.store.text, noted);
});

Deno.test("restore with forget drops the entries of a function and its VFs, and changes nothing", () => {
  using made = fixture();
  made.host.bind(NET);
  made.host.bind(PF);
  for (const vf of made.host.setVfCount(PF, 2)) made.host.bind(vf);
  made.sysfs.unplug(PF);
  const before = made.sysfs.snapshot();
  const gone = made.host.restore(PF).failed;
  assert(gone.length > 0 && gone.every(({ error }) => error instanceof NotFoundError));
  assertEquals(gone[0]!.error.message, `${PF} is not there any more`);
  const { done, failed } = made.host.restore(PF, { forget: true });
  assertEquals([done.length, failed], [gone.length, []]);
  assertEquals(made.sysfs.snapshot(), before);
  assertEquals(new Set(made.host.journal().map((one) => one.function)), new Set([NET]));
  assertEquals(made.host.restore(NET, { forget: true }).done.length, 2);
  assertEquals([made.host.journal(), made.sysfs.snapshot()], [[], before]);
});

Deno.test("restore with forget needs a function", () => {
  using made = fixture();
  made.host.bind(NET);
  assertThrows(() => made.host.restore(undefined, { forget: true }), UsageError, "forget, and no function");
  assertEquals(made.host.restore(BARE, { forget: true }), { done: [], unchanged: [], failed: [] });
});
