/** A management device that lies, over vfio-user: each caller gets a typed error that says where, and nothing hangs. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  ManagementCommandError,
  ManagementTimeoutError,
  VirtioManagement,
  type VirtioManagementOptions,
} from "../../../drivers/management/virtio_management.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { DeviceError, RingsideError, TimeoutError, UnsupportedError } from "../../../lib/errors/mod.ts";
import { DEVICE_ID } from "../../../lib/virtio/spec/device_id.ts";
import { rounds } from "../../random.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { NET, RINGS } from "./management_host.ts";

const RNG = { type: DEVICE_ID.entropy, features: RINGS };
const address = (bus: number) => `0000:${bus.toString(16).padStart(2, "0")}:00.0`;

/** One host with a management function for each lie; `use` gets its driver. @param misled devices that have a reason to complain about their driver */
async function withLies(
  cases: readonly {
    readonly lie: string;
    readonly options?: VirtioManagementOptions;
    readonly use: (management: VirtioManagement, name: string) => Promise<void>;
  }[],
  misled: readonly string[] = [],
): Promise<void> {
  await using served = await TopologyHost.start(
    cases.map(({ lie }, i) => ({ address: address(i + 1), kind: "virtio-management", lie })),
  );
  for (const [i, { options, use }] of cases.entries()) {
    using fn = served.reach(address(i + 1), { profile: "transport-vq" });
    const management = await VirtioManagement.open(fn.transport, { function: fn.device, ...options });
    await use(management, address(i + 1));
    management.close();
    await management.settled;
  }
  assertEquals((await served.stop()).filter((one) => !misled.includes(one.function)), []);
}

Deno.test("tvq-ack: any acknowledgement but OK is a ManagementCommandError that names it; the queue goes on", async () => {
  await withLies([0xff, 1, 77, 254].map((ack) => ({
    lie: `tvq-ack:${ack}@STATUS_GET`,
    use: async (management) => {
      const device = await management.create(RNG);
      const error = await assertRejects(() => device.status(), ManagementCommandError);
      assertEquals([error.ack, error.commandName, error.deviceId], [ack, "STATUS_GET", device.id]);
      assertEquals(error.ackName, ack === 1 ? "COMMAND" : "ERR");
      assertEquals(await device.driverFeatures(), 0n);
    },
  })));
});

Deno.test("A-4.10: an id that is 0, or that another device has, is the device's fault", async () => {
  await withLies([{
    lie: "tvq-data:0@MDEV_CREATE",
    use: async (management) => {
      const error = await assertRejects(() => management.create(RNG), DeviceError, "A-4.10");
      assertEquals(error.location.field, "device_id");
      assertEquals(management.devices, []);
    },
  }, {
    lie: "tvq-data:9@MDEV_CREATE",
    use: async (management) => {
      const { id } = await management.create(RNG);
      assertEquals(id, 0x0909_0909_0909_0909n);
      await assertRejects(() => management.create(RNG), DeviceError, "A-4.10");
      assertEquals(management.devices.length, 1);
    },
  }]);
});

Deno.test("A-4.32, A-4.35: an answer that ends early is no answer, whether its acknowledgement is there or not", async () => {
  await withLies([0, 8, 9, 15].map((bytes) => ({
    lie: `tvq-short:${bytes}@FEAT_DEVICE_GET`,
    use: async (management, name) => {
      const device = await management.create(RNG);
      const error = await assertRejects(() => device.features(), RingsideError);
      assert(error.message.includes(name), error.message);
      assert(error instanceof DeviceError, error.constructor.name);
      assertEquals(await device.status(), 0, "the queue goes on");
    },
  })));
});

Deno.test("a driver of a managed device whose registers are not to be believed fails with a typed error, and in time", async () => {
  type Kind = abstract new (...args: never[]) => Error;
  /** `said` is what the message has behind the name of the device; with `field` also the error says of which device and field it is. */
  const fails = (lie: string, of: "rng" | "net", kind: Kind, field: string | undefined, said = "") => ({
    lie,
    options: { timeoutMs: 500 },
    use: async (management: VirtioManagement) => {
      const request = of === "rng" ? RNG : { type: DEVICE_ID.net, features: NET };
      const device = await management.create(request);
      using transport = management.openTransport(device.id);
      const error = await assertRejects(async () => {
        await using driver = of === "rng"
          ? await VirtioRng.open(transport, { timeoutMs: 500, resetTimeoutMs: 500 })
          : await VirtioNet.open(transport);
        if (driver instanceof VirtioRng) await driver.read(16);
        transport.resetQueue!(0);
      }, RingsideError);
      assert(error instanceof kind, `${lie}: ${error}`);
      if (error instanceof DeviceError) {
        assertEquals(error.location.field, field, lie);
        if (error instanceof ManagementCommandError) assertEquals(error.deviceId, device.id, lie);
        else assertEquals(error.location.function, device.name, lie);
      } else assert(error.message.startsWith(`${device.name}${said}`), `${lie}: ${error.message}`);
    },
  });
  await withLies([
    fails("tvq-data:255@STATUS_GET", "rng", TimeoutError, undefined, ": reset not finished"),
    // It is told that the bits which it set are not there, and so does not set them again with the next.
    fails("tvq-data:0@STATUS_GET", "rng", ManagementCommandError, "status"),
    fails(
      "tvq-data:0@FEAT_DEVICE_GET",
      "rng",
      UnsupportedError,
      undefined,
      " does not offer VIRTIO_F_VERSION_1",
    ),
    fails("tvq-ack:7@FEAT_DRIVER_SET", "rng", ManagementCommandError, "features"),
    fails("tvq-data:0@VQ_SIZE_GET", "rng", UnsupportedError, undefined, " has no queue 0"),
    fails("tvq-ack:9@VQ_SIZE_SET", "rng", ManagementCommandError, "size"),
    fails("tvq-short:9@VQ_SIZE_GET", "rng", DeviceError, "VQ_SIZE_GET"),
    fails("tvq-data:1@VQ_NOTIFY_GET", "rng", DeviceError, "VQ_NOTIFY_GET"),
    fails("tvq-data:2@VQ_NOTIFY_GET", "rng", UnsupportedError, undefined, ", queue 0: notified at 0x2020202"),
    fails("tvq-ack:10@VQ_ENABLE_SET", "rng", ManagementCommandError, "status"),
    fails("tvq-data:1@VQ_ENABLE_GET", "rng", DeviceError, "queue_enable"),
    fails("tvq-short:8@CONFIG_GET", "net", DeviceError, "CONFIG_GET"),
    fails("tvq-ack:8@CONFIG_GET", "net", ManagementCommandError, "size"),
    fails("tvq-drift@GENERATION_GET", "net", DeviceError, "config_generation"),
  ], [`${address(2)}/1`]);
});

Deno.test("tvq-silence: a command that is never answered is a ManagementTimeoutError that names it; the driver can be closed", async () => {
  await withLies([{
    lie: "tvq-silence:2",
    options: { timeoutMs: 200 },
    use: async (management) => {
      const device = await management.create(RNG);
      assertEquals(await device.status(), 0);
      const [slow, other] = await Promise.all([
        assertRejects(() => device.status(), ManagementTimeoutError),
        assertRejects(() => management.resources(), ManagementTimeoutError),
      ]);
      assertEquals([slow.deviceId, other.deviceId, slow.sent], [device.id, 0n, true]);
    },
  }]);
});

Deno.test("tvq-garbage: whatever the answers are, calls end, with typed errors", async () => {
  const seeds = Array.from({ length: rounds(400) }, (_, i) => i + 1);
  const outcomes = new Set<string>();
  for (let from = 0; from < seeds.length; from += 20) {
    await withLies(
      seeds.slice(from, from + 20).map((seed) => ({
        lie: `tvq-garbage:${seed}`,
        options: { timeoutMs: 2000 },
        use: async (management) => {
          for (let i = 0; i < 40; i++) {
            try {
              await (i % 4 === 0
                ? management.create(RNG)
                : i % 4 === 1
                ? management.resources()
                : driven(management));
              outcomes.add("answered");
            } catch (error) {
              if (!(error instanceof RingsideError)) throw error;
              outcomes.add(error.constructor.name);
              if (error.constructor === DeviceError && i % 8 === 7) await management.reset();
            }
          }
        },
      })),
    );
  }
  assert(outcomes.has("ManagementCommandError") && outcomes.has("DeviceError"), [...outcomes].join());
});

/** Whatever there is to ask of a device that the driver thinks it has. */
async function driven(management: VirtioManagement): Promise<void> {
  const [device] = management.devices;
  if (device === undefined) return;
  await device.features();
  await device.readConfig(0, 8);
  await device.queueState(0, "packed", 16);
}
