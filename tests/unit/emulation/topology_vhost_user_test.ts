/** Devices behind vhost-user sockets in a topology: what is filled in, and what cannot be. */
import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { vhostUserFields } from "../../../cli/vhost_user_option.ts";
import { addVhostUser, readTopology, TopologyError } from "../../../lib/emulation/mod.ts";
import { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { VIRTIO_KINDS } from "../../../lib/emulation/virtio/kinds.ts";
import { UsageError } from "../../../lib/errors/mod.ts";

Deno.test("topology, vhostUser: names, sizes and addresses are filled in; functions may be missing", () => {
  const { functions, vhostUser = [] } = readTopology({
    vhostUser: [
      { socket: "/tmp/n0.sock", kind: "virtio-net", queuePairs: 2 },
      { socket: "/tmp/n1", kind: "virtio-net", name: "second", mac: "52:54:00:00:00:01", queueSize: 256 },
      { socket: "disk.sock", kind: "virtio-blk", sizeBytes: 4096 },
    ],
  });
  assertEquals(functions, []);
  assertEquals(vhostUser.map(({ address, kind, queueSize }) => [address, kind, queueSize]), [
    ["vhost-user:n0", "virtio-net", 1024],
    ["vhost-user:second", "virtio-net", 256],
    ["vhost-user:disk", "virtio-blk", 1024],
  ]);
  assertEquals([vhostUser[0]!.switch, vhostUser[1]!.mac], ["s0", "52:54:00:00:00:01"]);
  assertMatch(String(vhostUser[0]!.mac), /^5a:54:/);
});

Deno.test("topology, vhostUser: what cannot be is named by its field", () => {
  const net = { socket: "/tmp/n.sock", kind: "virtio-net" };
  const wrong: readonly [unknown, string, RegExp][] = [
    [{ kind: "virtio-net" }, "vhostUser[0].socket", /nothing is not the path of a socket/],
    [{ ...net, socket: "" }, "vhostUser[0].socket", /path of a socket/],
    [
      { ...net, socket: `/tmp/${"x".repeat(110)}.sock` },
      "vhostUser[0].socket",
      /longer than the kernel's 107 bytes/,
    ],
    [{ ...net, socket: "/tmp/a b.sock" }, "vhostUser[0].name", /"a b", from its socket, cannot be a name/],
    [{ ...net, name: "a/b" }, "vhostUser[0].name", /is not a name/],
    [{ ...net, kind: "virtio-gpu" }, "vhostUser[0].kind", /is not a kind of device that can be behind/],
    [
      { ...net, kind: "virtio-management" },
      "vhostUser[0].kind",
      /is not a kind of device that can be behind/,
    ],
    [{ ...net, address: "0000:01:00.0" }, "vhostUser[0].address", /has no such field/],
    [{ ...net, queueSize: 0 }, "vhostUser[0].queueSize", /1 to 32768/],
    [{ ...net, mac: "01:00:00:00:00:00" }, "vhostUser[0].mac", /multicast/],
    [{ socket: "/tmp/b.sock", kind: "virtio-blk" }, "vhostUser[0].file", /needs a file/],
    ["net", "vhostUser[0]", /not an object/],
  ];
  for (const [one, field, says] of wrong) {
    const error = assertThrows(() => readTopology({ vhostUser: [one] }), TopologyError);
    assertEquals(error.field, field);
    assertMatch(error.message, says);
  }
  for (const [other, field] of [[net, "name"], [{ ...net, name: "m" }, "socket"]] as const) {
    const error = assertThrows(
      () => readTopology({ vhostUser: [net, other] }),
      TopologyError,
      "another device's already",
    );
    assertEquals(error.field, `vhostUser[1].${field}`);
  }
  assertThrows(() => readTopology({}), TopologyError, "is empty");
  assertThrows(() => readTopology({ vhostUser: {} }), TopologyError, "must be a list of devices");
  const topology = readTopology({ vhostUser: [net] });
  assertThrows(
    () => addVhostUser(topology, [net], VIRTIO_KINDS, "--vhost-user"),
    TopologyError,
    "--vhost-user[0].name",
  );
});

Deno.test("emulate --vhost-user: SOCKET,KIND and fields, as JSON has them or as text", () => {
  assertEquals(vhostUserFields("/tmp/a.sock,net"), { socket: "/tmp/a.sock", kind: "virtio-net" });
  assertEquals(
    vhostUserFields(
      'b,virtio-blk,sizeBytes=4096,readOnly=true,serial="17",file=/tmp/x=y,featuresOff=RING_PACKED+IN_ORDER',
    ),
    {
      socket: "b",
      kind: "virtio-blk",
      sizeBytes: 4096,
      readOnly: true,
      serial: "17",
      file: "/tmp/x=y",
      featuresOff: ["RING_PACKED", "IN_ORDER"],
    },
  );
  assertEquals(vhostUserFields("n,net,mac=52:54:00:12:34:56").mac, "52:54:00:12:34:56");
  for (
    const text of [
      "",
      "a",
      "a,",
      ",net",
      "a,net,",
      "a,net,queuePairs",
      "a,net,=1",
      "a,net,mtu=1,mtu=2",
      "a,net,socket=b",
    ]
  ) {
    assertThrows(() => vhostUserFields(text), UsageError, "--vhost-user");
  }
});

Deno.test("machine, vhostUser: devices with shared memory cannot be behind a socket; the others are ports, and say their queues", () => {
  const models = createVirtioModels();
  assertThrows(
    () =>
      new EmulatedMachine({
        topology: readTopology({ vhostUser: [{ socket: "i.sock", kind: "virtio-ism" }] }),
        models,
      }),
    UsageError,
    "vhost-user:i: a device with shared memory cannot be behind a vhost-user socket",
  );
  using machine = new EmulatedMachine({
    topology: readTopology({
      functions: [{ address: "0000:01:00.0", kind: "virtio-net" }],
      vhostUser: [{ socket: "n.sock", kind: "virtio-net", switch: "s0" }],
    }),
    models: createVirtioModels(),
  });
  // A machine without a directory has no sockets.
  assertEquals(machine.addresses, ["0000:01:00.0"]);
  const ports = machine.kernel.tree.readText("/ringside/switch").trim().split("\n").map((line: string) =>
    JSON.parse(line)
  );
  assertEquals(ports.map(({ function: port }) => port), ["0000:01:00.0", "vhost-user:n"]);
  const queues = JSON.parse(machine.kernel.tree.readText("/ringside/queues/vhost-user:n"));
  assertEquals([queues.function, queues.deviceId], ["vhost-user:n", 1]);
  assertThrows(() => machine.vhostUserDevice("vhost-user:none"), Error, "has no device vhost-user:none");
});
