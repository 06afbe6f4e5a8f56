import { assert, assertEquals, assertThrows } from "@std/assert";
import { ClosedError, TimeoutError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { FunctionAttributes } from "../../../../lib/host/sysfs/attributes.ts";
import { checkVfCount, writeVfCount } from "../../../../lib/host/changes/vf_count.ts";
import { BARE, DRIVERS, fixture, FUNCTIONS, NET, PF, VF0, VF1 } from "../fixture.ts";

const SRIOV = { totalVfs: 7, vfDevice: 0x10ca } as const;

Deno.test("VF count: the VFs' addresses, in VF order, once their entries are there", () => {
  using made = fixture();
  assertEquals(made.host.setVfCount("01:00.0", 2), [VF0, VF1]);
  assertEquals(made.sysfs.driverOf(VF0), "igbvf");
  assertEquals(made.host.setVfCount(PF, 2), [VF0, VF1]);
  assertEquals(made.sysfs.writes, [`/sys/bus/pci/devices/${PF}/sriov_numvfs 2`]);
});

Deno.test("VF count: from one count to another goes through 0, as the kernel wants it", () => {
  using made = fixture();
  made.host.setVfCount(PF, 2);
  made.sysfs.writes.length = 0;
  assertEquals(made.host.setVfCount(PF, 3).length, 3);
  assertEquals(made.sysfs.writes, [
    `/sys/bus/pci/devices/${PF}/sriov_numvfs 0`,
    `/sys/bus/pci/devices/${PF}/sriov_numvfs 3`,
  ]);
  assertEquals(made.host.setVfCount(PF, 0), []);
  assertEquals(made.host.describe(PF).sriov?.numVfs, 0);
});

Deno.test("VF count: autoprobe goes off first when the PF is on vfio-pci, and stays as it is otherwise", () => {
  using made = fixture();
  made.host.setVfCount(PF, 1);
  assertEquals(made.host.describe(PF).sriov?.driversAutoprobe, true);
  made.host.bind(PF);
  made.sysfs.writes.length = 0;
  made.host.setVfCount(PF, 1);
  assertEquals(made.sysfs.writes, [
    `/sys/bus/pci/devices/${PF}/sriov_drivers_autoprobe 0`,
    `/sys/bus/pci/devices/${PF}/sriov_numvfs 1`,
  ]);
  // The kernel's vfio-pci captures the VFs of its PFs.
  assertEquals(made.sysfs.driverOf(VF0), "vfio-pci");
});

Deno.test("VF count: autoprobe as asked for, also when the count stays", () => {
  using made = fixture();
  made.host.setVfCount(PF, 1, { driversAutoprobe: false });
  assertEquals(made.sysfs.driverOf(VF0), "");
  assertEquals(made.host.setVfCount(PF, 1, { driversAutoprobe: true }), [VF0]);
  assertEquals(made.host.describe(PF).sriov?.driversAutoprobe, true);
  made.host.bind(PF);
  made.host.setVfCount(PF, 1, { driversAutoprobe: true });
  assertEquals(made.host.describe(PF).sriov?.driversAutoprobe, true);
});

Deno.test("VF count: a host that does not answer is what went wrong, not what cannot be read of it afterwards", () => {
  using made = fixture();
  const { sysfs } = made;
  sysfs.writeText = () => {
    sysfs.readLink = () => {
      throw new ClosedError("connection");
    };
    throw new TimeoutError("no answer");
  };
  assertThrows(() => writeVfCount(new FunctionAttributes(sysfs), PF, 2), TimeoutError, "no answer");
});

Deno.test("1.8 VF count: what cannot be is refused and changes nothing", () => {
  using made = fixture({
    functions: [...FUNCTIONS, { address: "0000:06:00.0", device: 7, sriov: { totalVfs: 4, vfDevice: 8 } }],
  });
  made.host.setVfCount(PF, 2);
  const before = [made.sysfs.snapshot(), made.store.text, made.sysfs.writes.length];
  assertThrows(() => made.host.setVfCount(PF, 8), UsageError, "its TotalVFs is 7");
  for (const count of [-1, 1.5, NaN, Infinity]) {
    assertThrows(() => made.host.setVfCount(PF, count), UsageError);
  }
  assertThrows(() => made.host.setVfCount(NET, 1), UnsupportedError, "not an SR-IOV physical function");
  const vf = assertThrows(
    () => made.host.setVfCount(VF0, 1),
    UnsupportedError,
    "not an SR-IOV physical function",
  );
  assert(vf.hint.includes(`its PF is ${PF}`));
  assertThrows(() => made.host.setVfCount("06:00.0", 1), UnsupportedError, "has no driver");
  assertThrows(() => made.host.setVfCount(BARE, 0), UnsupportedError);
  assertEquals([made.sysfs.snapshot(), made.store.text, made.sysfs.writes.length], before);
});

Deno.test("1.8 VF count: vfio-pci without enable_sriov, with the line that allows it", () => {
  using made = fixture({
    drivers: DRIVERS.map((one) => one.name === "vfio-pci" ? { name: "vfio-pci" } : one),
  });
  made.host.bind(PF);
  const before = [made.sysfs.snapshot(), made.store.text];
  const error = assertThrows(
    () => made.host.setVfCount(PF, 1),
    UnsupportedError,
    "vfio-pci did not make 1 VF (ENOENT): it does so only when it is told to",
  );
  assert(error.hint.includes("/sys/module/vfio_pci/parameters/enable_sriov"));
  assertEquals([made.sysfs.snapshot(), made.store.text], before);
});

Deno.test("VF count: a driver that enables fewer fails, and the former VFs are back with their drivers", () => {
  using made = fixture({
    drivers: DRIVERS.map((one) => one.name === "igb" ? { ...one, maxVfs: 2 } : one),
    functions: FUNCTIONS.map((one) => one.address === PF ? { ...one, sriov: { ...SRIOV, numVfs: 2 } } : one),
  });
  made.sysfs.set(VF0, { driver: "pci-stub", override: "pci-stub" });
  made.sysfs.set(VF1, { driver: "" });
  const before = made.sysfs.snapshot();
  assertThrows(() => made.host.setVfCount(PF, 3), UnsupportedError, "enabled 2 of 3 VFs");
  assertEquals(made.sysfs.snapshot(), before);
  assertEquals(made.host.journal(), []);
});

Deno.test("VF count: VFs that were there before the first change are recorded, those made since are not", () => {
  using made = fixture({
    functions: FUNCTIONS.map((one) => one.address === PF ? { ...one, sriov: { ...SRIOV, numVfs: 1 } } : one),
  });
  made.host.setVfCount(PF, 2);
  const recorded = () =>
    made.store.text.split("\n").filter((line) => line.includes(`"function":"0000:01:10.`));
  assertEquals(recorded().length, 2);
  assert(recorded().every((line) => line.includes(VF0) && line.includes(`"physicalFunction":"${PF}"`)));
  made.host.setVfCount(PF, 3);
  assertEquals(recorded().length, 2);
});

Deno.test("VF count: a kernel that shows no VFs of a function with SR-IOV is asked why, its pages first", () => {
  using made = fixture();
  const config = new Uint8Array(4096);
  // An endpoint of PCI Express, which has extended capabilities.
  config[0x06] = 0x10;
  config[0x34] = 0x40;
  config.set([0x10, 0, 2, 0], 0x40);
  // The first extended capability is SR-IOV, version 1, and the last.
  config.set([0x10, 0, 1, 0], 0x100);
  made.sysfs.extra.set(`/sys/devices/pci0000:00/${BARE}/config`, config);
  const attributes = new FunctionAttributes(made.sysfs);
  const hint = (address: string, pageBytes: number): string =>
    (assertThrows(
      () => checkVfCount(attributes, address, 1, pageBytes),
      UnsupportedError,
      "not an SR-IOV physical function",
    ) as UnsupportedError).hint;
  assert(
    hint(BARE, 65536).includes("pages of 64 KiB makes no VFs whose BARs are smaller"),
    hint(BARE, 65536),
  );
  assert(hint(BARE, 4096).includes("CONFIG_PCI_IOV"), hint(BARE, 4096));
  for (const pageBytes of [4096, 65536]) assert(hint(NET, pageBytes).includes("ringside list"));
});
