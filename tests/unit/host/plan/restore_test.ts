import { assert, assertEquals } from "@std/assert";
import { NotFoundError, RefusedError } from "../../../../lib/errors/mod.ts";
import { fakeDevice } from "../fake_device.ts";
import { DRIVERS, fixture, FUNCTIONS, NET, PF, VF0, VF1 } from "../fixture.ts";

const TWO_VFS = FUNCTIONS.map((one) =>
  one.address === PF ? { ...one, sriov: { totalVfs: 7, vfDevice: 0x10ca, numVfs: 2 } } : one
);

Deno.test("restore: everything, then nothing", () => {
  using made = fixture();
  const before = made.sysfs.snapshot();
  made.host.bind(PF);
  for (const vf of made.host.setVfCount(PF, 2)) made.host.bind(vf);
  made.host.bind(NET);
  const journal = made.host.journal();
  const report = made.host.restore();
  assertEquals(report.failed, []);
  const told = [...report.done, ...report.unchanged].map((one) => `${one.function} ${one.attribute}`);
  assertEquals(told.sort(), journal.map((one) => `${one.function} ${one.attribute}`).sort());
  assertEquals(made.sysfs.snapshot(), before);
  assertEquals([made.host.journal(), made.host.restore()], [[], { done: [], unchanged: [], failed: [] }]);
});

Deno.test("restore: from another process, one function at a time", () => {
  using made = fixture();
  const before = made.sysfs.snapshot();
  made.host.bind(PF);
  made.host.bind(NET);
  using second = made.another();
  second.restore("02:00.0");
  assertEquals([made.sysfs.driverOf(NET), made.sysfs.driverOf(PF)], ["virtio-pci", "vfio-pci"]);
  second.restore(PF);
  assertEquals(made.sysfs.snapshot(), before);
});

Deno.test("restore: a function that had no driver has none again, also by a probe that would find one", () => {
  using made = fixture();
  made.sysfs.set(NET, { driver: "", override: "pci-stub" });
  const before = made.sysfs.snapshot();
  made.host.bind(NET);
  made.host.restore();
  assertEquals(made.sysfs.snapshot(), before);
  assertEquals(made.sysfs.driverOf(NET), "");
});

Deno.test("restore: VFs that were there come back with what they had, and no other driver gets at them between", () => {
  using made = fixture({ functions: TWO_VFS });
  made.sysfs.set(VF0, { driver: "pci-stub", override: "pci-stub" });
  made.sysfs.set(VF1, { driver: "" });
  const before = made.sysfs.snapshot();
  made.host.setVfCount(PF, 4);
  made.host.bind(PF);
  made.sysfs.writes.length = 0;
  assertEquals(made.host.restore().failed, []);
  assertEquals(made.sysfs.snapshot(), before);
  const writes = made.sysfs.writes;
  const off = writes.indexOf(`/sys/bus/pci/devices/${PF}/sriov_drivers_autoprobe 0`);
  const made2 = writes.indexOf(`/sys/bus/pci/devices/${PF}/sriov_numvfs 2`);
  const on = writes.indexOf(`/sys/bus/pci/devices/${PF}/sriov_drivers_autoprobe 1`);
  assert(off >= 0 && off < made2 && made2 < on, writes.join("\n"));
  assert(!writes.some((write) => write.includes("drivers/igbvf/unbind")), writes.join("\n"));
});

Deno.test("restore: VFs are removed before the PF changes driver", () => {
  using made = fixture();
  made.host.bind(PF);
  made.host.setVfCount(PF, 2);
  made.sysfs.writes.length = 0;
  made.host.restore(PF);
  assertEquals(made.sysfs.writes.slice(0, 2), [
    `/sys/bus/pci/devices/${PF}/sriov_numvfs 0`,
    `/sys/bus/pci/drivers/vfio-pci/unbind ${PF}`,
  ]);
  assertEquals(made.sysfs.violations, []);
});

Deno.test("restore: reports no change that it did not make", () => {
  using made = fixture();
  made.host.bind(NET);
  // Somebody has put it back by hand, all but the override.
  made.sysfs.set(NET, { driver: "virtio-pci" });
  const report = made.host.restore();
  assertEquals(report.unchanged.map((one) => `${one.function} ${one.attribute}`), [`${NET} driver`]);
  assertEquals(report.done.map((one) => `${one.function} ${one.attribute}`), [`${NET} driver_override`]);
  assertEquals([made.host.journal(), made.sysfs.driverOf(NET)], [[], "virtio-pci"]);
});

Deno.test("restore: what fails stays, with its error; the rest is done", () => {
  using made = fixture();
  made.host.bind(NET);
  made.host.bind(PF);
  made.sysfs.unload("virtio-pci");
  const report = made.host.restore();
  assertEquals(report.failed.map(({ entry }) => [entry.function, entry.attribute]), [
    [NET, "driver"],
    [NET, "driver_override"],
  ]);
  assert(report.failed[0]!.error instanceof NotFoundError);
  assertEquals(made.sysfs.driverOf(PF), "igb");
  assertEquals(made.host.journal().map((one) => one.function), [NET, NET]);
  // A driver that cannot come back leaves the function where it is.
  assertEquals(made.sysfs.driverOf(NET), "vfio-pci");
  made.sysfs.load(DRIVERS.find((one) => one.name === "virtio-pci")!);
  assertEquals(made.host.restore().failed, []);
  assertEquals(made.sysfs.driverOf(NET), "virtio-pci");
});

Deno.test("restore: entries of VFs that go with the count are done, those of a function that is gone are kept", () => {
  using made = fixture();
  for (const vf of made.host.setVfCount(PF, 2)) made.host.bind(vf);
  made.host.bind(NET);
  made.sysfs.unplug(NET);
  const report = made.host.restore();
  assertEquals(report.failed.map(({ entry }) => entry.function), [NET, NET]);
  assert(report.failed.every(({ error }) => error instanceof NotFoundError));
  assertEquals([...new Set(report.unchanged.map((one) => one.function))], [VF0, VF1]);
  assertEquals([...new Set(report.done.map((one) => one.function))], [PF]);
  assertEquals(made.host.restore().failed.length, 2);
});

Deno.test("restore: a VF that vanished without our doing is kept as failed", () => {
  using made = fixture({ functions: TWO_VFS });
  made.host.bind(VF0);
  made.sysfs.unplug(VF0);
  const report = made.host.restore(VF0);
  assertEquals([report.done, report.failed.length], [[], 2]);
});

Deno.test("restore: a function that another process drives is left alone and kept", () => {
  using made = fixture();
  made.host.bind(NET);
  made.host.bind(PF);
  using device = openable(made).open(NET);
  const before = made.sysfs.driverOf(NET);
  const report = made.host.restore();
  assertEquals(report.failed.map(({ entry }) => entry.function), [NET, NET]);
  assert(report.failed[0]!.error instanceof RefusedError);
  assertEquals([before, made.sysfs.driverOf(NET), made.sysfs.driverOf(PF)], ["vfio-pci", "vfio-pci", "igb"]);
  device.close();
  assertEquals(made.host.restore().failed, []);
});

Deno.test("restore: does not take a VF from the host that has begun to use it, unless forced", () => {
  using made = fixture({ uses: { eth1v0: ["has the address 192.0.2.1"] } });
  const before = made.sysfs.snapshot();
  made.host.setVfCount(PF, 1);
  const report = made.host.restore();
  assertEquals(report.done, []);
  assert(report.failed[0]!.error.message.includes("eth1v0 of 0000:01:10.0 has the address 192.0.2.1"));
  assertEquals(made.sysfs.addresses.includes(VF0), true);
  assertEquals(made.host.restore(undefined, { force: true }).failed, []);
  assertEquals(made.sysfs.snapshot(), before);
});

Deno.test("restore: a VF put back alone becomes it again when its PF is put back later", () => {
  using made = fixture({ functions: TWO_VFS });
  made.sysfs.set(VF0, { driver: "pci-stub", override: "pci-stub" });
  const before = made.sysfs.snapshot();
  made.host.setVfCount(PF, 4);
  made.host.restore(VF0);
  assertEquals(made.sysfs.driverOf(VF0), "pci-stub");
  made.host.restore(PF);
  assertEquals(made.sysfs.snapshot(), before);
});

Deno.test("journal: what is back in place by other means is not listed", () => {
  using made = fixture();
  made.host.setVfCount(PF, 2);
  made.host.bind(VF0);
  assertEquals(made.host.journal().length, 3);
  made.host.setVfCount(PF, 0);
  assertEquals(made.host.journal(), []);
  assertEquals(made.host.restore().failed, []);
  assertEquals(made.store.text, "");
});

function openable(made: ReturnType<typeof fixture>): ReturnType<typeof fixture>["host"] {
  return made.another({ opener: ({ address, onClosed }) => fakeDevice(address, [], onClosed) });
}
