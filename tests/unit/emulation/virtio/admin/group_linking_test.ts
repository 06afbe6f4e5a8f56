import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import type { BehaviourOptions, PciFunctionBehaviour } from "../../../../../lib/emulation/pci_function.ts";
import { readTopology } from "../../../../../lib/emulation/mod.ts";
import { EmulatedMachine } from "../../../../../lib/emulation/machine.ts";
import { REGION } from "../../../../../lib/vfio/device.ts";
import { FakeFunction, FakePort } from "../fake_machine.ts";
import { mac } from "../fake_nic.ts";
import { encodeFrame, FEATURES, INVALID_GROUP, INVALID_MEMBER, OK } from "./rig.ts";

const PF = "0000:01:00.0";

/** A command on the PF's last queue. @returns status and qualifier, then the result */
function command(pf: FakeFunction, queue: number, frame: Parameters<typeof encodeFrame>[0]): number[] {
  const { client } = pf;
  const bytes = encodeFrame(frame);
  const at = client.allocate(bytes.length), answer = client.allocate(8 + (frame.room ?? 0));
  client.bytes.set(bytes, at);
  const ring = pf.rings.get(queue)!;
  ring.add([
    { iova: client.at(at), length: bytes.length },
    { iova: client.at(answer), length: 8 + (frame.room ?? 0), write: true },
  ]);
  ring.publish();
  pf.run();
  const [used] = ring.takeUsed();
  const { view } = client;
  return [
    view.getUint16(answer, true),
    view.getUint16(answer + 2, true),
    ...client.bytes.subarray(answer + 8, answer + used!.length),
  ];
}

for (const lie of [undefined, "generation-never-settles"]) {
  Deno.test(`VFs made with their PF's behaviour are members while they are connected${lie === undefined ? "" : ", behind lying registers too"}`, () => {
    const models = createVirtioModels();
    const admin = { queues: 1, legacyVfs: true, legacyNotify: "owner" } as const;
    const options = (more: Partial<BehaviourOptions>): BehaviourOptions => ({
      address: PF,
      mac: mac(1),
      admin,
      ...(lie === undefined ? {} : { lie }),
      ...more,
    });
    const behaviour = models.createBehaviour("virtio-net", options({ totalVfs: 2 }));
    using pf = new FakeFunction(behaviour, PF, 4 << 20);
    const queue = pf.read(18, 2);
    assertEquals([pf.read(60, 2), pf.read(62, 2)], [queue, 1]);
    pf.bringUp(FEATURES, [queue], 128);
    const vfs: PciFunctionBehaviour[] = [0, 1].map((vfIndex) =>
      models.createBehaviour(
        "virtio-net",
        options({
          address: `0000:01:00.${vfIndex + 1}`,
          vfIndex,
          totalVfs: 0,
          physicalFunction: behaviour,
        }),
      )
    );
    behaviour.vfsEnabled!(2);
    assertEquals(command(pf, queue, { opcode: 1, member: 0n, data: [0x7f, 0xfc, 3] }), OK);
    const first = (member: bigint) => command(pf, queue, { opcode: 5, member, data: [0], room: 6 });
    assertEquals(first(1n), INVALID_MEMBER, "made, and not connected");
    vfs.forEach((vf, i) => vf.connect(new FakePort(`0000:01:00.${i + 1}`, null)));
    assertEquals([first(1n), first(2n)], [
      [...OK, 0x52, 0x54, 0, 0, 0, 2],
      [...OK, 0x52, 0x54, 0, 0, 0, 3],
    ], "each its own MAC address, by its legacy registers");
    const info = command(pf, queue, { opcode: 6, member: 2n, room: 64 });
    assertEquals(info.slice(0, 12), [...OK, 1, 4, 0, 0, 0, 0, 0, 0, 2, 0x40]);
    vfs[1]!.close();
    vfs[1]!.close();
    assertEquals([first(1n).slice(0, 2), first(2n)], [OK, INVALID_MEMBER]);
    vfs[0]!.close();
    behaviour.vfsEnabled!(0);
    assertEquals(first(1n), INVALID_GROUP);
  });
}

Deno.test("VFs have no administration queues, and neither has a function that was not given any", () => {
  const models = createVirtioModels();
  const admin = { queues: 2, legacyVfs: true, legacyNotify: "member" } as const;
  const vectors = (options: Partial<BehaviourOptions>) =>
    models.createBehaviour("virtio-net", { address: PF, mac: mac(1), ...options }).msix!.vectors;
  const plain = vectors({});
  assertEquals(vectors({ totalVfs: 2 }), plain);
  assertEquals(vectors({ totalVfs: 2, admin }), plain + 2);
  assertEquals(vectors({ vfIndex: 0, admin }), plain);
  assertEquals(vectors({ totalVfs: 2, admin, featuresOff: ["VIRTIO_F_ADMIN_VQ"] }), plain);
});

Deno.test("lies of administration queues need some; VFs do not tell them", () => {
  const models = createVirtioModels();
  const admin = { queues: 1, legacyVfs: false, legacyNotify: "none" } as const;
  const make = (options: Partial<BehaviourOptions>) =>
    models.createBehaviour("virtio-rng", { address: PF, lie: "admin-status:95", ...options });
  assertThrows(() => make({}), UsageError, "admin-status is a lie of administration queues");
  assertThrows(() => make({ lie: "admin-nonsense", admin }), UsageError, "admin-nonsense");
  make({ vfIndex: 0, admin }).close();
  using pf = new FakeFunction(make({ totalVfs: 1, admin }), PF);
  pf.bringUp(FEATURES, [1], 128);
  assertEquals(command(pf, 1, { opcode: 0, group: 0, member: 0n, room: 8 }), [95, 0]);
});

Deno.test("N-3.15 in a machine: VF BAR 0 is hard-wired to zero, and PFs of every kind have an administration queue", () => {
  const kinds = [
    { address: "01:00.0", kind: "virtio-net", totalVfs: 2 },
    { address: "02:00.0", kind: "virtio-blk", sizeBytes: 4096, totalVfs: 2 },
    { address: "03:00.0", kind: "virtio-rng", totalVfs: 2 },
    { address: "04:00.0", kind: "virtio-console", totalVfs: 2 },
  ];
  using machine = new EmulatedMachine({
    topology: readTopology({ functions: kinds }),
    models: createVirtioModels(),
  });
  for (const { address } of kinds) {
    const pf = machine.device(`0000:${address}`);
    const config = new Uint8Array(4096);
    pf.readRegion(REGION.config, 0, config);
    const view = new DataView(config.buffer);
    let at = 0x100;
    while (view.getUint16(at, true) !== 0x10) at = view.getUint16(at + 2, true) >> 4;
    pf.writeRegion(REGION.config, at + 0x24, Uint8Array.of(0xff, 0xff, 0xff, 0xff));
    pf.readRegion(REGION.config, 0, config);
    assertEquals(view.getUint32(at + 0x24, true), 0, "VF BAR 0 of the SR-IOV capability");
    assert(view.getUint32(at + 0x28, true) !== 0xffff_ffff);
    const count = new Uint8Array(2);
    pf.readRegion(REGION.bar0 + 4, 62, count);
    assertEquals([...count], [1, 0], "one administration queue");
    pf.writeRegion(REGION.config, at + 0x10, Uint8Array.of(2, 0));
    pf.writeRegion(REGION.config, at + 8, Uint8Array.of(9, 0));
    pf.writeRegion(REGION.config, at + 8, Uint8Array.of(0, 0));
  }
  assertEquals(machine.violations.list, []);
});

Deno.test("device parts of a VF by commands of its PF: DEV_FEATURES first, and the same parts set again once it is stopped", () => {
  const models = createVirtioModels();
  const admin = { queues: 1, legacyVfs: true, legacyNotify: "member" } as const;
  const behaviour = models.createBehaviour("virtio-net", { address: PF, mac: mac(1), admin, totalVfs: 1 });
  using pf = new FakeFunction(behaviour, PF, 4 << 20);
  const queue = pf.read(18, 2);
  pf.bringUp(FEATURES, [queue], 128);
  using _vf = new FakeFunction(
    models.createBehaviour("virtio-net", {
      address: "0000:01:00.1",
      mac: mac(1),
      admin,
      vfIndex: 0,
      physicalFunction: behaviour,
    }),
    "0000:01:00.1",
  );
  behaviour.vfsEnabled!(1);
  const self = { group: 0, member: 0n };
  assertEquals(command(pf, queue, { opcode: 1, ...self, data: [0x83, 3] }), OK);
  assertEquals(command(pf, queue, { opcode: 9, ...self, data: [0, 0, 0, 0, 0, 0, 0, 0, 1, 1] }), OK);
  assertEquals(command(pf, queue, { opcode: 1, member: 0n, data: [0x7f, 0xfc, 3] }), OK);
  const object = (id: number) => [0, 0, 0, 0, id, 0, 0, 0];
  for (const kind of [0, 1]) {
    assertEquals(
      command(pf, queue, { opcode: 10, data: [...object(kind), 0, 0, 0, 0, 0, 0, 0, 0, kind] }),
      OK,
    );
  }
  const size = command(pf, queue, { opcode: 14, data: object(0), room: 8 });
  const bytes = size[2]! | size[3]! << 8;
  const parts = command(pf, queue, { opcode: 15, data: [...object(0), 1], room: bytes });
  // No driver has set anything of the device type: there is less than there could be.
  assertEquals([parts[0], parts.length - 2 < bytes, parts[2]! | parts[3]! << 8], [0, true, 0x100]);
  const set = { opcode: 16, data: [...object(1), ...parts.slice(2)] };
  assertEquals(command(pf, queue, set), [16, 1], "it runs");
  assertEquals(command(pf, queue, { opcode: 17, data: [1] }), OK);
  assertEquals(command(pf, queue, set), OK);
  assertEquals(command(pf, queue, { opcode: 17, data: [0] }), OK);
});
