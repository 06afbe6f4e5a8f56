/** A device of the platform bus: an address like any other where the host changes it, locks it and puts it back; what only PCI has is refused. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  NotFoundError,
  ProtocolError,
  RefusedError,
  UnsupportedError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { fakeDevice } from "./fake_device.ts";
import { FunctionLocks } from "../../../lib/host/functions/lock.ts";
import { DRIVERS, fixture, type FixtureOptions, FUNCTIONS, LOCKS, NET } from "./fixture.ts";
import { Crash } from "./sysfs/memory_sysfs.ts";

const MMIO = "a003e00.virtio_mmio";

const HOST: FixtureOptions = {
  functions: [
    ...FUNCTIONS,
    { address: MMIO, bus: "platform", device: 1, driver: "virtio-mmio", net: "eth7", group: 40 },
  ],
  drivers: [
    ...DRIVERS,
    { name: "virtio-mmio", bus: "platform", isHostDriver: true },
    { name: "vfio-platform", bus: "platform" },
  ],
};

Deno.test("platform: bind gives it to vfio-platform, and restore back to its driver; PCI's files are not touched", () => {
  using made = fixture(HOST);
  const before = made.sysfs.snapshot();
  made.host.bind(MMIO);
  assertEquals(made.sysfs.driverOf(MMIO), "vfio-platform");
  assertEquals(made.sysfs.writes, [
    `/sys/bus/platform/drivers/virtio-mmio/unbind ${MMIO}`,
    `/sys/bus/platform/devices/${MMIO}/driver_override vfio-platform`,
    `/sys/bus/platform/drivers_probe ${MMIO}`,
  ]);
  assertEquals(made.host.journal().map((one) => [one.function, one.attribute, one.before, one.after]), [
    [MMIO, "driver", "virtio-mmio", "vfio-platform"],
    [MMIO, "driver_override", "", "vfio-platform"],
  ]);
  using another = made.another();
  assertEquals(another.restore(MMIO).done.length, 2);
  assertEquals([made.sysfs.snapshot(), another.journal(), made.store.text], [before, [], ""]);
});

Deno.test("platform: a process that dies at any write leaves a journal from which another puts the device back", () => {
  for (let step = 0;; step++) {
    using made = fixture(HOST);
    const before = made.sysfs.snapshot();
    made.host.bind(NET);
    let left = step;
    using dying = made.another({
      onStep: () => {
        if (left-- > 0) return;
        made.sysfs.frozen = made.store.frozen = true;
        throw new Crash();
      },
    });
    let died = false;
    try {
      dying.bind(MMIO);
    } catch {
      died = true;
    }
    made.sysfs.frozen = made.store.frozen = false;
    assertEquals(made.another().restore().failed, []);
    assertEquals(made.sysfs.snapshot(), before, `died at step ${step}`);
    if (!died) return;
  }
});

Deno.test("platform: a lock and a guard, as for any function", () => {
  using made = fixture({ ...HOST, uses: { eth7: ["carries the default route"] } });
  assertThrows(
    () => made.host.bind(MMIO),
    RefusedError,
    `will not bind ${MMIO} to vfio-platform: network interface eth7 of ${MMIO} carries the default route`,
  );
  {
    using _held = new FunctionLocks(LOCKS).acquireAll([MMIO]);
    assertThrows(() => made.host.bind(MMIO, { force: true }), RefusedError, `${MMIO} is in use by pid`);
  }
  made.host.bind(MMIO, { force: true });
  assertEquals(made.sysfs.driverOf(MMIO), "vfio-platform");
});

Deno.test("platform: a device that shares its IOMMU group with the host keeps a function of another bus from being opened", () => {
  const functions = [...HOST.functions!, {
    address: "0000:05:00.0",
    device: 2,
    driver: "vfio-pci",
    group: 40,
  }];
  using made = fixture({ ...HOST, functions });
  assertThrows(
    () => made.host.open("0000:05:00.0"),
    RefusedError,
    `IOMMU group 40 is not viable: ${MMIO} is bound to virtio-mmio`,
  );
});

Deno.test("platform: what only PCI has is an UnsupportedError that says so", () => {
  using made = fixture(HOST);
  const kind = `${MMIO} is a platform device, which has no`;
  for (
    const [call, what] of [
      [() => made.host.setVfCount(MMIO, 1), "VFs"],
      [() => made.host.readConfig(MMIO), "configuration space"],
      [() => made.host.barSizes(MMIO), "base address registers"],
    ] as const
  ) assertThrows(call, UnsupportedError, `${kind} ${what}`);
});

Deno.test("platform: a device is listed beside the PCI functions, and opened once it is on vfio-platform", () => {
  const opened: string[] = [];
  using made = fixture({
    ...HOST,
    parts: {
      opener: ({ address, info, onClosed }) => {
        opened.push(`${address} on ${info.bus}`);
        return fakeDevice(address, [], onClosed);
      },
    },
  });
  const found = made.host.list().find(({ address }) => address === MMIO);
  assertEquals([found?.bus, found?.driver, found?.iommuGroup, found?.netInterfaces], [
    "platform",
    "virtio-mmio",
    40,
    ["eth7"],
  ]);
  assertEquals(found, made.host.describe(MMIO));
  assertThrows(
    () => made.host.open(MMIO),
    UsageError,
    `${MMIO} is bound to virtio-mmio; only a function that is bound to vfio-platform can be opened`,
  );
  made.host.bind(MMIO);
  {
    using _device = made.host.open(MMIO);
    assertEquals(opened, [`${MMIO} on platform`]);
    assert(made.host.describe(MMIO).heldBy?.startsWith("pid "));
    assertThrows(() => made.host.open(MMIO), RefusedError, `${MMIO} is in use`);
  }
  assertEquals(made.host.describe(MMIO).heldBy, undefined);
});

Deno.test("platform: devices and drivers that are not there are named with their bus", () => {
  using made = fixture(HOST);
  assertThrows(() => made.host.bind("b000000.serial"), NotFoundError, "no platform device b000000.serial");
  assertThrows(
    () => made.host.bind(MMIO, { driver: "vfio-pci" }),
    NotFoundError,
    "no platform driver vfio-pci",
  );
  assertThrows(
    () => made.host.bind(NET, { driver: "vfio-platform" }),
    NotFoundError,
    "no PCI driver vfio-platform",
  );
  for (const text of ["../a003e00.virtio_mmio", "a003e00.virtio/mmio", "a003e00.", "virtio_mmio", ""]) {
    assertThrows(() => made.host.bind(text), UsageError, "is not a PCI address");
  }
});

Deno.test("platform: a journal line about a name that no bus has is damage", () => {
  using made = fixture(HOST);
  made.host.bind(MMIO);
  const good = made.store.text;
  made.store.text = good.replaceAll(MMIO, "a003e00.virtio/mmio");
  assertThrows(() => made.another().journal(), ProtocolError, "line 1 is not a journal entry");
  made.store.text = good;
  assert(made.another().journal().length === 2);
});

Deno.test("platform: a device that vfio-platform does not take keeps its driver, and the usual reason is said", () => {
  const drivers = HOST.drivers!.map((one) =>
    one.name === "vfio-platform" ? { ...one, takes: () => false } : one
  );
  using made = fixture({ ...HOST, drivers });
  const before = made.sysfs.snapshot();
  const error = assertThrows(
    () => made.host.bind(MMIO),
    UnsupportedError,
    `${MMIO}: vfio-platform did not take the function`,
  ) as UnsupportedError;
  assert(error.hint.includes("modprobe vfio-platform reset_required=0"), error.hint);
  assertEquals([made.sysfs.snapshot(), made.store.text], [before, ""]);
});

Deno.test("platform: without an IOMMU a device is given away in no-IOMMU mode only, whose limit is said first", () => {
  const functions = HOST.functions!.map((one) => one.address === MMIO ? { ...one, group: null } : one);
  using made = fixture({ ...HOST, functions });
  const error = assertThrows(
    () => made.host.bind(MMIO),
    UnsupportedError,
    `${MMIO} has no IOMMU group, so vfio-platform cannot take it`,
  ) as UnsupportedError;
  assert(error.hint.includes("without DMA: echo Y > ") && !error.hint.includes("intel"), error.hint);
  using willing = fixture({ ...HOST, functions });
  willing.sysfs.extra.set("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
  willing.host.bind(MMIO);
  assertEquals(willing.sysfs.driverOf(MMIO), "vfio-platform");
});
