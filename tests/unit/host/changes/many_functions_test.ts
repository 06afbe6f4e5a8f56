import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { NotFoundError, RefusedError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { BARE, DISK, DRIVERS, type Fixture, fixture, FUNCTIONS, NET, PF, VF0, VF1 } from "../fixture.ts";

/** A second PF, to be changed together with the first. */
const PF2 = "0000:05:00.0";
const TWO_PFS = [
  ...FUNCTIONS,
  { address: PF2, device: 0x10c9, driver: "igb", net: "eth5", sriov: { totalVfs: 4, vfDevice: 0x10ca } },
];

/** All that a call that changes nothing leaves as it was. */
const state = (made: Fixture) => [made.sysfs.snapshot(), made.store.text, made.sysfs.writes.length];

Deno.test("bind: several functions, recorded in one write of the journal, and each is told of", () => {
  using made = fixture();
  const steps: string[] = [];
  using host = made.another({ onStep: (step) => steps.push(step) });
  assertEquals(host.bind([PF, "02:00.0", PF]), [
    { function: PF, before: "igb", driver: "vfio-pci" },
    { function: NET, before: "virtio-pci", driver: "vfio-pci" },
  ]);
  assertEquals([made.sysfs.driverOf(PF), made.sysfs.driverOf(NET)], ["vfio-pci", "vfio-pci"]);
  assertEquals(steps.filter((step) => step === "before journal append").length, 1);
  assertEquals(steps[0], "before journal append");
  assertEquals(host.bind([PF]), [{ function: PF, before: "vfio-pci", driver: "vfio-pci" }]);
  assertEquals(host.restore().failed, []);
  assertEquals([made.sysfs.driverOf(PF), made.sysfs.driverOf(NET)], ["igb", "virtio-pci"]);
});

Deno.test("bind: when one of several cannot be, none is, and nothing is noted", () => {
  using made = fixture({
    drivers: DRIVERS.map((one) => (one.name === "vfio-pci" ? { ...one, takes: (at) => at !== NET } : one)),
    uses: { sda: ["is mounted on /"] },
  });
  const before = state(made).slice(0, 2);
  // The kernel refuses the last one, when the first has changed hands already.
  assertThrows(() => made.host.bind([BARE, PF, NET]), UnsupportedError, `${NET}: vfio-pci did not take`);
  assertEquals(state(made).slice(0, 2), before);
  const writes = made.sysfs.writes.length;
  assertThrows(() => made.host.bind([PF, DISK]), RefusedError, "disk sda");
  assertThrows(() => made.host.bind([PF, "0000:77:00.0"]), NotFoundError);
  assertThrows(() => made.host.bind([PF, "nonsense"]), UsageError, "no interface or disk of this host");
  assertThrows(() => made.host.bind([]), UsageError, "no function is named");
  assertEquals(made.sysfs.writes.length, writes);
  assertEquals(made.host.journal(), []);
});

Deno.test("bind: one that another process holds keeps the others from it", () => {
  using made = fixture();
  made.host.bind(NET);
  using other = made.another({
    opener: ({ onClosed }) => ({ close: onClosed, [Symbol.dispose]: onClosed }) as never,
  });
  const before = state(made);
  {
    using _held = other.open(NET);
    assertThrows(
      () => made.host.bind([PF, NET], { driver: "pci-stub" }),
      RefusedError,
      `${NET} is in use by`,
    );
    assertThrows(
      () => made.host.bind([PF, NET], { driver: "pci-stub", dryRun: true }),
      RefusedError,
      `${NET} is in use by`,
    );
  }
  assertEquals(state(made), before);
});

Deno.test("bind: a VF that goes with its PF cannot be bound in the same call", () => {
  using made = fixture();
  made.host.setVfCount(PF, 2);
  const error = assertThrows(() => made.host.bind([PF, VF1]), UsageError, `${VF1} goes with its PF ${PF}`);
  assertStringIncludes(error.hint, "bind the PF, then ringside sriov");
  assertEquals(made.sysfs.driverOf(PF), "igb");
  // Where the PF keeps its driver, its VFs stay.
  made.host.setVfCount(PF, 0);
  made.host.bind(PF);
  made.host.setVfCount(PF, 2);
  made.host.bind([PF, VF0, VF1]);
});

Deno.test("functions are named by what hangs on them, too, also when it does so no longer", () => {
  using made = fixture();
  assertEquals(made.host.describe("eth1").address, PF);
  assertEquals(made.host.describe("sda").address, DISK);
  made.host.bind(["eth0", "eth1"]);
  // The interface went with its driver; so did the command that comes next, which calls it by the same name.
  assertEquals(made.host.describe("eth1").address, PF);
  assertEquals(made.host.setVfCount("eth1", 1, { dryRun: true }).length, 1);
  assertThrows(
    () => made.host.describe("eth7"),
    UsageError,
    "no interface or disk of this host is called so",
  );
  assertEquals(made.host.journal().find((one) => one.attribute === "driver")?.names, ["eth0"]);
  // A second change does not forget it.
  made.host.bind("eth1", { driver: "pci-stub" });
  assertEquals(made.host.restore("eth1").failed, []);
  assertEquals([made.sysfs.driverOf(PF), made.sysfs.driverOf(NET)], ["igb", "vfio-pci"]);
  assertEquals(made.host.restore("eth0").done[0]?.function, NET);
  assertThrows(() => made.host.restore("eth7"), UsageError, "eth7");
  assertEquals(made.host.restore("eth0"), { done: [], unchanged: [], failed: [] });
});

Deno.test("VF count: of several PFs, or of none", () => {
  using made = fixture({ functions: TWO_PFS });
  const vfs = made.host.setVfCount([PF, "eth5"], 2);
  assertEquals(vfs, [VF0, VF1, "0000:05:10.0", "0000:05:10.1"]);
  assertThrows(() => made.host.setVfCount([PF, PF2], 5), UsageError, `${PF2} cannot have 5 VFs`);
  assertEquals(made.host.describe(PF).sriov?.numVfs, 2);
  made.host.restore();
  using few = fixture({
    functions: TWO_PFS,
    drivers: DRIVERS.map((one) => (one.name === "igb" ? { ...one, maxVfs: 2 } : one)),
  });
  const before = state(few).slice(0, 2);
  few.sysfs.writeText = ((write) => (path: string, text: string) => {
    if (path.includes(PF2) && path.endsWith("numvfs") && text === "2") throw new UnsupportedError("no room");
    write.call(few.sysfs, path, text);
  })(few.sysfs.writeText);
  assertThrows(() => few.host.setVfCount([PF, PF2], 2), UnsupportedError, "no room");
  assertEquals(state(few).slice(0, 2), before);
});

Deno.test("a dry run says what is done, or what keeps it from being done, and changes nothing", () => {
  using made = fixture({ functions: TWO_PFS, uses: { eth0: ["carries the default route"] } });
  const dryRun = true;
  const unchanged = <T>(call: () => T): T => {
    const before = state(made);
    const result = call();
    assertEquals(state(made), before);
    return result;
  };
  const bound = unchanged(() => made.host.bind([PF, PF2], { dryRun }));
  assertEquals(made.host.bind([PF, PF2]), bound);
  const vfs = unchanged(() => made.host.setVfCount([PF, PF2], 3, { dryRun }));
  assertEquals(vfs.length, 6);
  assertEquals(made.host.setVfCount([PF, PF2], 3), vfs);
  assertEquals(unchanged(() => made.host.setVfCount(PF, 0, { dryRun })), []);
  assertThrows(() => unchanged(() => made.host.bind(NET, { dryRun })), RefusedError, "default route");
  assertThrows(() => unchanged(() => made.host.bind(NET, { dryRun, driver: "none-such" })), NotFoundError);
  assertThrows(() => unchanged(() => made.host.setVfCount(PF, 99, { dryRun })), UsageError);
  const told = unchanged(() => made.host.restore(undefined, { dryRun }));
  assertEquals(made.host.restore(), told);
  assert(told.done.length >= 8, `${told.done.length} entries`);
});

Deno.test("a dry run of restore knows what stays in the journal, and why", () => {
  using made = fixture({ uses: { eth1: ["carries the default route"] } });
  made.host.bind([NET, DISK], { driver: "pci-stub" });
  made.sysfs.remove(NET);
  const told = made.host.restore(undefined, { dryRun: true });
  assertEquals(told.failed.map(({ entry, error }) => [entry.function, error.name]), [
    [NET, "NotFoundError"],
    [NET, "NotFoundError"],
  ]);
  const done = made.host.restore();
  assertEquals([done.done, done.unchanged], [told.done, told.unchanged]);
  const said = (one: typeof told) => one.failed.map(({ entry, error }) => [entry, error.message]);
  assertEquals(said(done), said(told));
});

Deno.test("a dry run needs no leave to change the host", () => {
  using made = fixture({
    parts: {
      checkMayChange: () => {
        throw new RefusedError("only root may");
      },
    },
  });
  assertThrows(() => made.host.bind(PF), RefusedError, "only root may");
  assertEquals(made.host.bind(PF, { dryRun: true })[0]?.driver, "vfio-pci");
  assertEquals(made.host.setVfCount(PF, 2, { dryRun: true }), [VF0, VF1]);
});
