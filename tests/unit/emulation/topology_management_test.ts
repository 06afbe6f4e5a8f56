import { assertEquals, assertThrows } from "@std/assert";
import { readTopology, TopologyError } from "../../../lib/emulation/mod.ts";
import { BUILTIN_NAMES } from "../../../lib/pci/builtin_names.ts";
import { lookup } from "../../../lib/pci/ids.ts";
import { deviceTypeName } from "../../../lib/virtio/mod.ts";
import { ManagementRig } from "./virtio/management/rig.ts";

const read = (fields: object) =>
  readTopology({ functions: [{ address: "0000:01:00.0", kind: "virtio-management", ...fields }] })
    .functions[0]!;

Deno.test("fields of a management function", () => {
  const own = {
    virtqueues: 100,
    minQueues: 2,
    maxQueues: 8,
    devices: 20,
    vectors: 64,
    switch: "blue",
    layout: "packed",
    header: "tight",
    transportBit: 50,
    managedBit: 51,
  };
  const { kind, driver, totalVfs, ...rest } = read(own);
  assertEquals([kind, driver, totalVfs], ["virtio-management", "virtio-pci", 0]);
  for (const [name, value] of Object.entries(own)) assertEquals(rest[name], value, name);
});

Deno.test("what a management function cannot be is said by field", () => {
  const wrong: readonly (readonly [object, string])[] = [
    [{ virtqueues: 0 }, "virtqueues"],
    [{ virtqueues: 65536 }, "virtqueues"],
    [{ minQueues: 9, maxQueues: 8 }, "minQueues"],
    [{ virtqueues: 4, maxQueues: 5 }, "maxQueues"],
    [{ virtqueues: 4, minQueues: 5 }, "maxQueues"],
    [{ vectors: 2047 }, "vectors"],
    [{ layout: "loose" }, "layout"],
    [{ header: "none" }, "header"],
    [{ transportBit: 40 }, "transportBit"],
    [{ managedBit: 41 }, "managedBit"],
    [{ transportBit: 45 }, "managedBit"],
    [{ totalVfs: 2 }, "totalVfs"],
    [{ adminQueues: 1 }, "adminQueues"],
    [{ profile: "loose" }, "profile"],
  ];
  for (const [fields, field] of wrong) {
    const error = assertThrows(() => read(fields), TopologyError);
    assertEquals(error.field, `functions[0].${field}`);
  }
});

Deno.test("defaults: as many devices as there are virtqueues for, and a vector for each and for each queue", () => {
  const of = (fields: object) => {
    using rig = new ManagementRig(fields);
    return [...rig.resources, rig.fn.behaviour.msix!.vectors];
  };
  assertEquals(of({}), [64, 1, 16, 64, 2 + 128]);
  assertEquals(of({ virtqueues: 10, minQueues: 4 }), [10, 4, 10, 2, 2 + 12]);
  assertEquals(of({ virtqueues: 40, minQueues: 20 }), [40, 20, 20, 2, 2 + 42]);
  assertEquals(of({ virtqueues: 65535, maxQueues: 65535, devices: 65535, vectors: 7 }), [
    65535,
    1,
    65535,
    65535,
    9,
  ]);
  assertEquals(of({ virtqueues: 5000 })[4], 2048);
});

Deno.test("a management function has a name, though no standard gives it one", () => {
  assertEquals(deviceTypeName(63), "management device");
  assertEquals(
    lookup(BUILTIN_NAMES, 0x1af4, 0x1040 + 63).device,
    "Virtio 1.0 management device (provisional)",
  );
});
