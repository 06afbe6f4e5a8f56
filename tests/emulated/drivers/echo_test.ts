import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { readTopology, TopologyError } from "../../../lib/emulation/mod.ts";
import { VIRTIO_KINDS } from "../../../lib/emulation/virtio/kinds.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { DeviceError, UsageError } from "../../../lib/errors/mod.ts";
import { virtioTypeOf } from "../../../lib/pci/virtio_ids.ts";
import { deviceTypeName, featureBit, inspect } from "../../../lib/virtio/mod.ts";
import { VirtioEcho } from "../../unit/drivers/echo_driver.ts";
import { ECHO_DEVICE, ECHO_KIND } from "./echo_kind.ts";
import { TopologyHost } from "./topology_host.ts";

const ECHO = "0000:03:00.0";
const KINDS = [...VIRTIO_KINDS, ECHO_KIND];
const models = createVirtioModels(KINDS);
const entry = { address: ECHO, kind: "virtio-echo" };
const read = (fields: object) => readTopology({ functions: [{ ...entry, ...fields }] }, KINDS).functions[0]!;

Deno.test("a device type of one record: its own field in topologies, the fields of all, and nobody else's", () => {
  assertEquals(read({ mostBytes: 7 }).mostBytes, 7);
  assertEquals(read({ totalVfs: 2 }).admin, { queues: 1, legacyVfs: false, legacyNotify: "none" });
  for (
    const [fields, message] of [
      [{ mostBytes: 0 }, "functions[0].mostBytes: 0 is not an integer from 1 to 4096"],
      [{ mostBytes: "7" }, 'functions[0].mostBytes: "7" is not an integer from 1 to 4096'],
      [{ mtu: 1500 }, "functions[0].mtu: a virtio-echo function has no such field"],
      [{ queueSize: 0 }, "functions[0].queueSize: 0 is not an integer from 1 to 32768"],
    ] as const
  ) assertThrows(() => read(fields), TopologyError, message);
  const wrong = assertThrows(() => readTopology({ functions: [entry] }, VIRTIO_KINDS), TopologyError);
  assertEquals([wrong.field, wrong.hint.includes("virtio-rng")], ["functions[0].kind", true]);
  assertThrows(
    () => readTopology({ functions: [{ ...entry, kind: "virtio-rng", mostBytes: 1 }] }),
    TopologyError,
  );
});

Deno.test("a device type of one record: named in lists, its features by name, on and off", () => {
  assertEquals(deviceTypeName(60), "echo device");
  assertEquals(featureBit("VIRTIO_ECHO_F_LOUD", 60), 3);
  const make = (more: object) => models.createBehaviour("virtio-echo", { address: ECHO, ...more });
  make({ featuresOff: ["VIRTIO_ECHO_F_LOUD", "VIRTIO_F_EVENT_IDX"] }).close();
  assertThrows(
    () => make({ featuresOff: ["VIRTIO_NET_F_MQ"] }),
    UsageError,
    "has no feature VIRTIO_NET_F_MQ",
  );
  assertThrows(() => make({ mostBytes: 0 }), UsageError, "mostBytes");
  assertThrows(() => make({ lie: "echo-loud" }), UsageError, "not a lie that an echo device can tell");
});

Deno.test("a device type of one record, served: list, show, and a driver of its own", async () => {
  await using served = await TopologyHost.start([{
    ...entry,
    mostBytes: 5,
    featuresOff: ["VIRTIO_F_IN_ORDER"],
  }]);
  const listed = served.host.list().filter((one) => one.bus === "pci").map((
    one,
  ) => [one.address, one.deviceId, virtioTypeOf(one)]);
  assertEquals(listed, [[ECHO, 0x107c, ECHO_DEVICE.id]]);
  {
    served.host.bind(ECHO);
    using device = served.host.open(ECHO);
    const { deviceType, featureNames, queueSizes, configSizeBytes } = inspect(device).virtio!;
    assertEquals([deviceType, queueSizes, configSizeBytes], ["echo device", [64], 4]);
    assertEquals([featureNames[0], featureNames.includes("VIRTIO_F_IN_ORDER")], [
      "VIRTIO_ECHO_F_LOUD",
      false,
    ]);
  }
  {
    using reached = served.reach(ECHO);
    assertEquals(reached.transport.readConfig(0, 4), 5);
    await using echo = await VirtioEcho.open(reached.transport);
    for (let n = 0; n < 10; n++) {
      assertEquals(await echo.echo(Uint8Array.of(n, 2, 3), 5000), Uint8Array.of(n, 2, 3));
    }
    await assertRejects(() => echo.echo(new Uint8Array(6), 5000), DeviceError, "5 bytes");
  }
  assertEquals(await served.stop(), []);
});

for (const [lie, message] of [["echo-short:1", "2 bytes"], ["used-length-over:1", "used.len"]] as const) {
  Deno.test(`a device type of one record tells ${lie}, once, and its driver goes on after a reset`, async () => {
    await using served = await TopologyHost.start([{ ...entry, lie }]);
    using reached = served.reach(ECHO);
    await using echo = await VirtioEcho.open(reached.transport);
    const bytes = Uint8Array.of(1, 2, 3);
    assertEquals(await echo.echo(bytes, 5000), bytes);
    await assertRejects(() => echo.echo(bytes, 5000), DeviceError, message);
    await echo.reset();
    assertEquals(await echo.echo(bytes, 5000), bytes);
  });
}
