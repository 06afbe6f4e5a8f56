import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { errnoNumber, processId, SyscallError } from "../../../ffi/mod.ts";
import { RefusedError, RingsideError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import type { OpenRequest } from "../../../lib/host/sysfs_host.ts";
import { fakeDevice } from "./fake_device.ts";
import { fixture, FUNCTIONS, NET, PF, VF0 } from "./fixture.ts";

function opening(made: ReturnType<typeof fixture>, log: string[] = []): ReturnType<typeof fixture>["host"] {
  return made.another({ opener: ({ address, onClosed }) => fakeDevice(address, log, onClosed) });
}

Deno.test("1.8 open: not on a VFIO driver, with the command that binds", () => {
  using made = fixture();
  const before = made.sysfs.snapshot();
  const error = assertThrows(() => made.host.open(NET), UsageError, "is bound to virtio-pci");
  assertEquals(error.hint, `ringside bind ${NET}`);
  made.sysfs.set(NET, { driver: "" });
  assertThrows(() => made.host.open(NET), UsageError, "has no driver");
  made.sysfs.set(NET, { driver: "virtio-pci" });
  assertEquals(made.sysfs.snapshot(), before);
});

Deno.test("open: the opener gets the full address, the facts and the options", () => {
  using made = fixture();
  made.host.bind(NET);
  const seen: OpenRequest[] = [];
  using host = made.another({
    opener: (request) => {
      seen.push(request);
      return fakeDevice(request.address, [], request.onClosed);
    },
  });
  using _device = host.open("02:00.0", { path: "group", vfToken: "t" });
  assertEquals([seen[0]?.address, seen[0]?.info.driver, seen[0]?.options], [NET, "vfio-pci", {
    path: "group",
    vfToken: "t",
  }]);
});

Deno.test("open: what is unbound or unplugged meanwhile is said to be, and what is not keeps the kernel's word", () => {
  type Case = [string, (made: ReturnType<typeof fixture>) => void, string, string];
  const cases: Case[] = [
    [
      "unbound",
      (made) => made.sysfs.set(NET, { driver: "" }),
      "RemovalRequestedError",
      "unbound from vfio-pci",
    ],
    ["rebound", (made) => made.sysfs.set(NET, { driver: "virtio-pci" }), "RemovalRequestedError", "unbound"],
    ["unplugged", (made) => made.sysfs.unplug(NET), "RemovalRequestedError", "removed meanwhile"],
    ["there", () => {}, "SyscallError", "open /dev/vfio/1"],
  ];
  for (const [what, happens, type, message] of cases) {
    using made = fixture();
    made.host.bind(NET);
    using host = made.another({
      opener: () => {
        happens(made);
        throw new SyscallError("open", "/dev/vfio/1", errnoNumber.ENOENT!);
      },
    });
    const error = assertThrows(() => host.open(NET), RingsideError);
    assertEquals(error.name, type, what);
    assertStringIncludes(error.message, message);
    // It is locked by nobody.
    if (what === "there") made.host.bind(NET, { driver: "pci-stub" });
  }
});

Deno.test("open: the lock is held until the device is closed, and names this process", () => {
  using made = fixture();
  made.host.bind(NET);
  using host = opening(made);
  const device = host.open(NET);
  const holder = host.describe(NET).heldBy;
  assert(holder?.startsWith(`pid ${processId()} `), holder);
  using other = made.another();
  for (const call of [() => other.open(NET), () => other.bind(NET, { driver: "pci-stub" })]) {
    const error = assertThrows(call, RefusedError, `${NET} is in use by pid ${processId()}`);
    assert(error.hint.includes("close the opened device"));
  }
  // The lock is not a guard: force does not break it.
  assertThrows(() => other.bind(NET, { driver: "pci-stub", force: true }), RefusedError);
  assertThrows(() => host.bind(NET, { driver: "virtio-pci", force: true }), RefusedError);
  device.close();
  device.close();
  assertEquals(host.describe(NET).heldBy, undefined);
  other.bind(NET, { driver: "pci-stub" });
});

Deno.test("open: a lock is let go of once: closing again does not take it from whoever opened the function next", () => {
  using made = fixture();
  made.host.bind(NET);
  using host = opening(made);
  const device = host.open(NET);
  device.close();
  assertEquals([device.closed, host.describe(NET).heldBy], [true, undefined]);
  using next = host.open(NET);
  device.close();
  device[Symbol.dispose]();
  assert(host.describe(next.name).heldBy !== undefined);
});

Deno.test("open: a failing opener leaves no lock behind", () => {
  using made = fixture();
  made.host.bind(NET);
  assertThrows(() => made.host.open(NET), UnsupportedError);
  assertEquals(made.host.describe(NET).heldBy, undefined);
});

Deno.test("open: a group that serves the host names the sibling, its driver and what is at stake", () => {
  using made = fixture({
    functions: FUNCTIONS.map((one) => ({
      ...one,
      group: one.address === NET || one.address === PF ? 9 : null,
    })),
    uses: { eth1: ["carries the default route"] },
  });
  made.host.bind(NET);
  const error = assertThrows(() => made.host.open(NET), RefusedError, `IOMMU group 9 is not viable`);
  assert(error.message.includes(`${PF} is bound to igb`), error.message);
  assert(error.message.includes("eth1 of 0000:01:00.0 carries the default route"), error.message);
  assertEquals(made.host.describe(NET).heldBy, undefined);
  made.sysfs.set(PF, { driver: "pci-stub" });
  assertThrows(() => made.host.open(NET), UnsupportedError);
});

Deno.test("VF count: the process that has the PF open may set it; VFs that are open are not removed", () => {
  using made = fixture();
  made.host.bind(PF);
  using host = opening(made);
  using pf = host.open(PF);
  host.setVfCount(PF, 2);
  using other = made.another();
  assertThrows(() => other.setVfCount(PF, 1), RefusedError);
  using vf = host.open(VF0);
  const before = made.sysfs.snapshot();
  assertThrows(() => host.setVfCount(PF, 0, { force: true }), RefusedError, `${VF0} is in use`);
  assertEquals(made.sysfs.snapshot(), before);
  vf.close();
  assertEquals(host.setVfCount(PF, 0), []);
  assertEquals(pf.closed, false);
});
