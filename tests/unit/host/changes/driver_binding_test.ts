import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { errnoNumber, SyscallError } from "../../../../ffi/mod.ts";
import {
  NotFoundError,
  RefusedError,
  RingsideError,
  UnsupportedError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import { BARE, BRIDGE, DRIVERS, type Fixture, fixture, FUNCTIONS, NET, PF, VF0 } from "../fixture.ts";

/** Runs what is to be refused and checks that it changed nothing. */
function refused<E extends RingsideError>(
  made: Fixture,
  work: () => unknown,
  // deno-lint-ignore no-explicit-any -- the shape that assertThrows takes
  kind: new (...args: any[]) => E,
  text: string,
): E {
  const before = made.sysfs.snapshot();
  const writes = made.sysfs.writes.length;
  const journal = made.store.text;
  const error = assertThrows(work, kind, text);
  assertEquals(made.sysfs.snapshot(), before);
  assertEquals(made.sysfs.writes.length, writes);
  assertEquals(made.store.text, journal);
  return error;
}

Deno.test("bind: unbind, override, probe, in this order, and recorded before the first", () => {
  using made = fixture();
  made.host.bind(NET);
  assertEquals(made.sysfs.driverOf(NET), "vfio-pci");
  assertEquals(made.sysfs.writes, [
    `/sys/bus/pci/drivers/virtio-pci/unbind ${NET}`,
    `/sys/bus/pci/devices/${NET}/driver_override vfio-pci`,
    `/sys/bus/pci/drivers_probe ${NET}`,
  ]);
  const values = made.host.journal().map((one) => [one.function, one.attribute, one.before, one.after]);
  assertEquals(values, [[NET, "driver", "virtio-pci", "vfio-pci"], [NET, "driver_override", "", "vfio-pci"]]);
});

Deno.test("bind: each step is announced before and after, the journal first", () => {
  using made = fixture();
  const steps: string[] = [];
  using host = made.another({ onStep: (step) => steps.push(step) });
  host.bind(NET);
  assertEquals(steps, [
    "before journal append",
    "after journal append",
    `before unbind ${NET} from virtio-pci`,
    `after unbind ${NET} from virtio-pci`,
    `before driver_override ${NET} vfio-pci`,
    `after driver_override ${NET} vfio-pci`,
    `before probe ${NET}`,
    `after probe ${NET}`,
  ]);
});

Deno.test("bind: to what it is bound to already changes nothing", () => {
  using made = fixture();
  made.host.bind(NET, { driver: "virtio-pci" });
  assertEquals([made.sysfs.writes, made.host.journal()], [[], []]);
});

Deno.test("bind: a function without a driver, and to another driver than vfio-pci", () => {
  using made = fixture();
  made.host.bind(BARE, { driver: "pci-stub" });
  assertEquals(made.sysfs.driverOf(BARE), "pci-stub");
  made.host.bind(BARE);
  assertEquals(made.sysfs.driverOf(BARE), "vfio-pci");
  const [driver] = made.host.journal();
  assertEquals([driver?.before, driver?.after], ["", "vfio-pci"]);
});

Deno.test("bind: a PF loses its VFs before its driver", () => {
  using made = fixture();
  made.host.setVfCount(PF, 3);
  made.sysfs.writes.length = 0;
  made.host.bind(PF);
  assertEquals(made.sysfs.writes.slice(0, 2), [
    `/sys/bus/pci/devices/${PF}/sriov_numvfs 0`,
    `/sys/bus/pci/drivers/igb/unbind ${PF}`,
  ]);
  assertEquals(made.sysfs.violations, []);
});

Deno.test("bind: a VF is bound although its PF has autoprobe off", () => {
  using made = fixture();
  made.host.setVfCount(PF, 1, { driversAutoprobe: false });
  assertEquals(made.sysfs.driverOf(VF0), "");
  made.host.bind(VF0);
  assertEquals(made.sysfs.driverOf(VF0), "vfio-pci");
});

Deno.test("1.8 bind: a driver that is not loaded, with the command that loads it", () => {
  using made = fixture({ drivers: DRIVERS.filter((one) => one.name !== "vfio-pci") });
  const error = refused(made, () => made.host.bind(NET), NotFoundError, "no PCI driver vfio-pci");
  assert(error.hint.includes("modprobe vfio-pci"));
});

Deno.test("1.8 bind: hyphens for underscores are pointed out", () => {
  using made = fixture();
  const bind = () => made.host.bind(NET, { driver: "virtio-vfio-pci" });
  const error = refused(made, bind, NotFoundError, "no PCI driver virtio-vfio-pci");
  assert(error.hint.includes("name is virtio_vfio_pci"));
});

Deno.test("1.8 bind: a name that would leave the tree is none", () => {
  using made = fixture();
  for (const driver of ["", "../devices", "a b", "a\n"]) {
    refused(made, () => made.host.bind(NET, { driver }), UsageError, "is not the name of a driver");
  }
});

Deno.test("1.8 bind: a bridge, and a function without an IOMMU group", () => {
  using made = fixture({ functions: [...FUNCTIONS, { address: "0000:05:00.0", device: 1, group: null }] });
  refused(made, () => made.host.bind(BRIDGE), UnsupportedError, "is a bridge");
  const error = refused(made, () => made.host.bind("05:00.0"), UnsupportedError, "has no IOMMU group");
  assert(error.hint.includes("intel_iommu=on"));
});

Deno.test("1.8 bind: a function whose IOMMU group is made by the first probe is taken, and put back", () => {
  const late = { address: "0000:05:00.0", device: 1, lateGroup: true };
  const functions = [...FUNCTIONS, late, { ...late, address: "0000:06:00.0", group: null }];
  using without = fixture({ functions });
  refused(without, () => without.host.bind(late.address), UnsupportedError, "has no IOMMU group");
  using made = fixture({ functions });
  made.sysfs.extra.set("/sys/class/iommu/smmu3.0x0000000009050000/x", "");
  made.host.bind(late.address);
  assertEquals(made.sysfs.driverOf(late.address), "vfio-pci");
  assertEquals(made.host.describe(late.address).iommuGroup, 0x500);
  made.host.restore();
  assertEquals(made.sysfs.driverOf(late.address), "");
  // One that no unit is in front of: the probe says so, and nothing stays changed.
  const before = made.sysfs.snapshot();
  assertThrows(() => made.host.bind("06:00.0"), UnsupportedError, "vfio-pci did not take the function");
  assertEquals([made.sysfs.snapshot(), made.host.journal()], [before, []]);
});

Deno.test("1.8 bind: a function that reads as all ones is gone, and no bridge; the error names its driver", () => {
  const gone = { device: 0x9999, isGone: true };
  using made = fixture({
    functions: [
      ...FUNCTIONS,
      { address: "0000:05:00.0", driver: "igb", ...gone },
      { address: "0000:06:00.0", ...gone },
      { address: "0000:07:00.0", device: 1, headerType: 0x7e },
      { address: "0000:08:00.0", device: 1, headerType: 2 },
    ],
  });
  const error = refused(made, () => made.host.bind("05:00.0"), NotFoundError, "is gone");
  assertMatch(error.message, /reads as all ones; igb still has it/);
  assertMatch(error.hint, /echo 1 > .*0000:05:00\.0\/remove; echo 1 > \/sys\/bus\/pci\/rescan/);
  assertMatch(
    refused(made, () => made.host.bind("06:00.0"), NotFoundError, "is gone").message,
    /no driver has it/,
  );
  refused(made, () => made.host.bind("07:00.0"), UnsupportedError, "has the reserved header type 126");
  refused(made, () => made.host.bind("08:00.0"), UnsupportedError, "is a bridge");
});

Deno.test("1.8 bind: a driver that does not take the function; the former one has it again", () => {
  using made = fixture();
  const before = made.sysfs.snapshot();
  const error = assertThrows(
    () => made.host.bind(NET, { driver: "refuses" }),
    UnsupportedError,
    "refuses did not take the function, which is left without a driver",
  );
  assert(error.hint.includes("dmesg"));
  assertEquals(made.sysfs.snapshot(), before);
  assertEquals([made.host.journal(), made.store.text], [[], ""]);
});

Deno.test("bind: when taking back fails too, the error says so and the journal keeps the entries", () => {
  using made = fixture({
    drivers: DRIVERS.map((one) => one.name === "virtio-pci" ? { ...one, takes: () => false } : one),
  });
  const error = assertThrows(() => made.host.bind(NET, { driver: "refuses" }), RingsideError);
  assert(
    error.message.includes("refuses did not take") && error.message.includes("could not all be put back"),
  );
  assert(error.hint.includes("ringside restore"));
  assertEquals(made.host.journal().map((one) => [one.attribute, one.before]), [
    ["driver", "virtio-pci"],
    ["driver_override", ""],
  ]);
});

Deno.test("bind: a write that the kernel refuses is taken back", () => {
  using made = fixture();
  const before = made.sysfs.snapshot();
  let once = true;
  using host = made.another({
    onStep: (step) => {
      if (!once || !step.startsWith("before probe")) return;
      once = false;
      throw new SyscallError("write", "/sys/bus/pci/drivers_probe", errnoNumber.EAGAIN!);
    },
  });
  assertThrows(() => host.bind(NET), SyscallError, "EAGAIN");
  assertEquals(made.sysfs.snapshot(), before);
  assertEquals(host.journal(), []);
});

Deno.test("1.8 bind: who is not root changes nothing", () => {
  using made = fixture({
    parts: {
      checkMayChange: () => {
        throw new RefusedError("only root may");
      },
    },
  });
  refused(made, () => made.host.bind(NET), RefusedError, "only root may");
  refused(made, () => made.host.setVfCount(PF, 1), RefusedError, "only root may");
});
