/** What a topology may say of a platform device, and what a machine makes of it. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import { readTopology, TopologyError } from "../../../lib/emulation/mod.ts";
import { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { ScratchModels } from "./machine_scratch.ts";

const NAME = "a003e00.virtio_mmio";

function one(fields: object): ReturnType<typeof readTopology>["functions"][number] {
  return readTopology({ functions: [{ address: NAME, kind: "virtio-rng", ...fields }] }).functions[0]!;
}

Deno.test("a platform name makes a platform device, of form modern and with virtio-mmio, unless told otherwise", () => {
  const { address, driver, mmio, totalVfs } = one({});
  assertEquals([address, driver, mmio, totalVfs], [NAME, "virtio-mmio", { form: "modern" }, 0]);
  assertEquals(one({ driver: null }).driver, null);
  assertEquals(one({ driver: "vfio-platform", mmio: {} }).mmio, { form: "modern" });
  const all = {
    form: "msi-v2",
    vectors: 3,
    notify: { base: 0x200, multiplier: 4 },
    sharing: true,
    stateBits: "linux",
  };
  assertEquals(one({ mmio: all }).mmio as unknown, all);
  assertEquals(one({ mmio: { form: "v3", notify: { base: 0x200 } } }).mmio?.notify, {
    base: 0x200,
    multiplier: 0,
  });
  assertEquals(one({ address: "LNRO0005:00" }).address, "LNRO0005:00");
});

Deno.test("wrong fields of a platform device: each by its path, with what would be right", () => {
  const cases: [object, string, string][] = [
    [{ totalVfs: 2 }, "functions[0].totalVfs", "a virtio-rng platform device has no such field"],
    [{ profile: "spec" }, "functions[0].profile", "no such field"],
    [{ adminQueues: 1 }, "functions[0].adminQueues", "no such field"],
    [{ driver: "virtio-pci" }, "functions[0].driver", "one of virtio-mmio, vfio-platform, null"],
    [{ mmio: { form: "v4" } }, "functions[0].mmio.form", "one of modern, legacy, v3, msi-v2"],
    [
      { mmio: { form: "modern", vectors: 2 } },
      "functions[0].mmio.vectors",
      "a device of form modern has none",
    ],
    [{ mmio: { form: "v3", sharing: true } }, "functions[0].mmio.sharing", "only msi-v2 have"],
    [
      { mmio: { form: "legacy", notify: { base: 0 } } },
      "functions[0].mmio.notify",
      "only v3 and msi-v2 have",
    ],
    [{ mmio: { form: "v3", notify: { base: 0x10000 } } }, "functions[0].mmio.notify.base", "0 to 65535"],
    [{ mmio: { form: "v3", notify: {} } }, "functions[0].mmio.notify.base", "nothing is not an integer"],
    [{ mmio: { size: 1 } }, "functions[0].mmio.size", "there are form, vectors, notify, sharing, stateBits"],
    [{ mmio: 3 }, "functions[0].mmio", "3 is not an object"],
    [
      { kind: "virtio-management" },
      "functions[0].address",
      "a virtio-management cannot be a platform device: its managed",
    ],
    [{ address: "a003e00" }, "functions[0].address", "or a platform device as"],
    [{ address: "0000:01:00.0", mmio: {} }, "functions[0].mmio", "is a PCI function"],
    [{ queueSize: 0 }, "functions[0].queueSize", "1 to 32768"],
  ];
  for (const [fields, field, says] of cases) {
    const error = assertThrows(() => one(fields), TopologyError);
    assertEquals(error.field, field, error.message);
    assert(`${error.message} ${error.hint}`.includes(says), `${error.message} ${error.hint}`);
  }
  assertThrows(
    () => readTopology({ functions: [one({}), one({})].map(({ address, kind }) => ({ address, kind })) }),
    TopologyError,
    `${NAME} is functions[0] already`,
  );
});

Deno.test("platform devices come after PCI functions, in order of their names; a network device has a MAC address of its own", () => {
  const { functions } = readTopology({
    functions: [
      { address: "b000.virtio_mmio", kind: "virtio-net" },
      { address: "a000.virtio_mmio", kind: "virtio-net" },
      { address: "0000:02:00.0", kind: "virtio-net" },
    ],
  });
  assertEquals(functions.map(({ address }) => address), [
    "0000:02:00.0",
    "a000.virtio_mmio",
    "b000.virtio_mmio",
  ]);
  assertEquals(new Set(functions.map(({ mac }) => mac)).size, 3);
  for (const { mac } of functions) {
    assertEquals(parseInt(String(mac).slice(0, 2), 16) & 3, 2, "local, not multicast");
  }
});

Deno.test("every kind but management is served in every form that it has; what cannot be made says which device", () => {
  const own: Record<string, object> = { "virtio-blk": { sizeBytes: 4096 } };
  for (const kind of ["virtio-net", "virtio-rng", "virtio-blk", "virtio-console", "virtio-ism"]) {
    for (const form of ["modern", "legacy", "v3", "msi-v2"] as const) {
      const topology = readTopology({ functions: [{ address: NAME, kind, mmio: { form }, ...own[kind] }] });
      const make = () => new EmulatedMachine({ topology, models: createVirtioModels() });
      if (kind === "virtio-ism" && form === "legacy") {
        assertThrows(make, UsageError, `${NAME}: virtio device type 44 has no legacy interface`);
        continue;
      }
      using machine = make();
      const device = machine.platformDevice(NAME);
      const word = new Uint8Array(4);
      device.readRegion(0, 8, word);
      assertEquals(word[0], device.behaviour.deviceId, `${kind} ${form}`);
      assertEquals(
        machine.kernel.tree.readText(`/ringside/queues/${NAME}`).includes(`"function":"${NAME}"`),
        true,
      );
    }
  }
  const topology = readTopology({
    functions: [{ address: NAME, kind: "virtio-rng", mmio: { form: "v3", notify: { base: 0x70 } } }],
  });
  assertThrows(
    () => new EmulatedMachine({ topology, models: createVirtioModels() }),
    UsageError,
    `${NAME}: mmio.notify: the doorbell of queue 0 would be at 0x70, where Status is`,
  );
  assertThrows(
    () => new EmulatedMachine({ topology, models: new ScratchModels() }),
    UsageError,
    `${NAME}: the models of this machine make no platform devices`,
  );
});

Deno.test("registers end at 2^64 at the latest: addresses of shared memory are 64 bits", () => {
  const make = (address: string, kind: string) => {
    const topology = readTopology({ functions: [{ address, kind }] });
    return new EmulatedMachine({ topology, models: createVirtioModels() });
  };
  for (
    const [address, kind] of [
      ["ffffffffffffffff.virtio_mmio", "virtio-rng"],
      ["fffffffffffffe01.virtio_mmio", "virtio-rng"],
      ["fffffffff0000000.virtio_mmio", "virtio-ism"],
    ] as const
  ) {
    assertThrows(() => make(address, kind), UsageError, `${address}: its`);
  }
  using last = make("fffffffffffffe00.virtio_mmio", "virtio-rng");
  assertEquals(last.platformDevice("fffffffffffffe00.virtio_mmio").windowAddress, 0xffff_ffff_ffff_fe00n);
});
