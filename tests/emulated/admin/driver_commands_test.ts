import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { AdminCommandError, type VirtioAdminOptions } from "../../../drivers/admin/virtio_admin.ts";
import { UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { ADMIN_GROUP, ADMIN_OPCODE, DEV_PART, DEV_PARTS_CAP } from "../../../lib/virtio/spec/admin.ts";
import { encodePartHeaders, partHeader } from "../../../lib/virtio/spec/device_parts.ts";
import { GroupHost } from "./group_host.ts";

/** Ways in which the queues are fed and waited for. */
const WAYS: readonly (readonly [string, VirtioAdminOptions])[] = [
  ["split, MSI-X", { packed: false, interrupts: "msix", wait: "eventfd" }],
  ["packed, polled", { packed: true, interrupts: "none" }],
  ["without indirect tables or event index, adaptive", { indirect: false, eventIndex: false }],
  ["one shallow queue, pipelined, padded reads", {
    adminQueues: 1,
    depth: 2,
    memberOrder: "pipelined",
    padReads: true,
  }],
];

for (const [way, options] of WAYS) {
  Deno.test(`every command to its device: ${way}`, async () => {
    const group = await GroupHost.start(8, { adminQueues: 3 });
    try {
      const pf = await group.admin(options);
      const known = Object.values(ADMIN_OPCODE);
      for (const opcode of pf.sriov.used!) assert(known.includes(opcode as typeof known[number]));
      assert(pf.sriov.uses(ADMIN_OPCODE.DEV_MODE_SET) && pf.self.uses(ADMIN_OPCODE.DEVICE_CAP_GET));

      // each width is its own access; 16 in each direction for each VF, all at once.
      const values = await Promise.all(Array.from({ length: 8 * 16 }, async (_, at) => {
        const { legacyAsync } = pf.member(at % 8);
        await legacyAsync.writeCommon(14, 2, at >> 3 & 1);
        return await legacyAsync.readCommon(12, 2);
      }));
      assertEquals(values.every((size) => size === 256), true);
      const { legacy } = pf.member(3);
      legacy.writeCommon(14, 2, 1);
      assertEquals(legacy.readCommon(14, 2), 1);
      assertEquals(legacy.readDevice(5, 1), 4, "the last byte of the fourth VF's address");
      assertEquals(legacy.notifyAreas(), await pf.member(3).legacyAsync.notifyAreas());
      assert(legacy.notifyAreas().length > 0);

      // 3.6: capabilities and objects by name and by hand.
      assertEquals(await pf.capabilities.list(), [0]);
      const limits = DEV_PARTS_CAP.decode(await pf.capabilities.get(0));
      assertEquals(await pf.capabilities.partsLimits(), {
        get: limits.get_parts_resource_objects_limit,
        set: limits.set_parts_resource_objects_limit,
      });
      const object = await pf.member(2).createPartsObject("get");
      const headers = await object.list();
      assertEquals(headers.length, await object.count());
      const all = await object.getAll();
      assertEquals(encodePartHeaders(all.map(partHeader)), encodePartHeaders(headers));
      const features = await object.getSelected(headers.filter(({ type }) => type === DEV_PART.DEV_FEATURES));
      assertEquals(features, all.filter(({ type }) => type === DEV_PART.DEV_FEATURES));
      await object.destroy();

      // Stop, save, load the same into another, resume.
      await pf.member(2).setMode(true);
      const parts = await pf.member(2).saveParts();
      await pf.member(5).loadParts(parts);
      await Promise.all([2, 5].map((vf) => pf.member(vf).setMode(false)));
      await pf.member(2).setMode(false);
      assertEquals(await pf.member(5).saveParts().then((saved) => saved.length), parts.length);
    } finally {
      assertEquals(await group.stop(), [], "the device has nothing against the driver");
    }
  });
}

Deno.test("what the device refuses: typed errors that name opcode, member and field", async () => {
  const group = await GroupHost.start(4);
  try {
    const pf = await group.admin();
    const refused = async (
      act: () => Promise<unknown>,
      status: string,
      qualifier: string,
      field: string,
      opcode: number,
      memberId: bigint,
    ) => {
      const error = await assertRejects(act, AdminCommandError);
      assertEquals(
        [error.statusName, error.qualifierName, error.field, error.opcode, error.memberId],
        [status, qualifier, field, opcode, memberId],
      );
    };
    const { sriov, self } = ADMIN_GROUP;
    const one = (offset: number) => Uint8Array.of(offset);
    await refused(() => pf.member(4).setMode(true), "EINVAL", "INVALID_MEMBER", "group_member_id", 0x11, 5n);
    await refused(
      () => pf.admin.execute({ opcode: 0x12, groupType: sriov, memberId: 1n }),
      "EINVAL",
      "INVALID_OPCODE",
      "opcode",
      0x12,
      1n,
    );
    await refused(
      () => pf.admin.execute({ opcode: 3, groupType: 7, memberId: 1n }),
      "EINVAL",
      "INVALID_GROUP",
      "group_type",
      3,
      1n,
    );
    await refused(
      () => pf.member(0).raw({ opcode: 3, data: one(18), resultBytes: 2 }),
      "EINVAL",
      "INVALID_FIELD",
      "offset",
      3,
      1n,
    );
    await refused(
      () => pf.admin.execute({ opcode: 1, groupType: self, data: Uint8Array.of(7) }),
      "EINVAL",
      "INVALID_FIELD",
      "device_admin_cmd_opcodes",
      1,
      0n,
    );
    await refused(() => pf.capabilities.get(0x801), "ENXIO", "INVALID_FIELD", "id", 8, 0n);
    const none = assertThrows(() => pf.member(7).legacy.readCommon(0, 4), AdminCommandError);
    assert(none.hint.includes("NumVFs") && none.message.includes("member 8"));
    await assertRejects(() => pf.sriov.raw({ opcode: 0x12 }), UnsupportedError);
    assertEquals(pf.member(0).legacy.readDevice(5, 1), 1, "and all goes on");
  } finally {
    await group.stop();
  }
});

Deno.test("groups by hand, and a group that does not exist yet (N-3.1)", async () => {
  const group = await GroupHost.start(0);
  try {
    const pf = await group.admin({ lists: "manual" });
    await assertRejects(() => pf.member(0).setMode(true), UsageError, "N-3.1");
    const absent = await assertRejects(() => pf.sriov.listUse(), AdminCommandError, "LIST_QUERY");
    assert(absent.hint.includes("VF Enable"));
    assert((await pf.self.listUse()).size > 2);
    assertEquals(await pf.capabilities.list(), [0]);
  } finally {
    assertEquals(await group.stop(), []);
  }
});
