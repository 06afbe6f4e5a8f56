import { assert, assertEquals, assertRejects } from "@std/assert";
import { VirtioAdmin } from "../../../../drivers/admin/virtio_admin.ts";
import { DeviceError } from "../../../../lib/errors/mod.ts";
import {
  ADMIN_OPCODE,
  ADMIN_QUALIFIER,
  ADMIN_STATUS,
  adminOpcodeName,
} from "../../../../lib/virtio/spec/admin.ts";
import { AdminCommandError } from "../../../../lib/virtio/admin/error.ts";
import { FakeOwner, FIRST, standardAnswer } from "./fake_owner.ts";

/** Statuses and qualifiers with their names, as the standard has them: written out, so that a changed table is seen. */
const STATUSES: [number, string][] = [[6, "ENXIO"], [11, "EAGAIN"], [12, "ENOMEM"], [16, "EBUSY"], [
  17,
  "EEXIST",
], [
  22,
  "EINVAL",
], [28, "ENOSPC"]];
const QUALIFIERS: [number, string][] = [
  [0, "OK"],
  [1, "INVALID_COMMAND"],
  [2, "INVALID_OPCODE"],
  [3, "INVALID_FIELD"],
  [4, "INVALID_GROUP"],
  [5, "INVALID_MEMBER"],
  [6, "NORESOURCE"],
  [7, "TRYAGAIN"],
];
const RESERVED = [1, 5, 7, 10, 13, 23, 99, 0x7fff, 0xffff];

Deno.test("every opcode × status × qualifier reaches the caller as an AdminCommandError that names opcode, member and field", async () => {
  assertEquals(Object.keys(ADMIN_STATUS).length, STATUSES.length + 1);
  assertEquals(Object.keys(ADMIN_QUALIFIER).length, QUALIFIERS.length);
  const device = new FakeOwner();
  await using pf = await VirtioAdmin.open(device.transport, { retries: 0, lists: "manual" });
  let count = 0;
  for (const opcode of [...Object.values(ADMIN_OPCODE), 0x12, 0x7fff]) {
    for (const [status, statusName] of [...STATUSES, ...RESERVED.map((one) => [one, "EINVAL"] as const)]) {
      for (
        const [qualifier, qualifierName] of [
          ...QUALIFIERS,
          ...[8, 9, 0xffff].map((one) => [one, "INVALID_COMMAND"] as const),
        ]
      ) {
        const groupType = count % 3 === 0 ? 0 : 1;
        const memberId = groupType === 0 ? 0n : BigInt(1 + count % 7);
        device.answer = () => ({ status, qualifier });
        const error = await assertRejects(
          () => pf.admin.execute({ opcode, groupType, memberId }),
          AdminCommandError,
        );
        count++;
        assert(error instanceof DeviceError);
        assertEquals(
          [error.opcode, error.groupType, error.memberId, error.status, error.qualifier],
          [opcode, groupType, memberId, status, qualifier],
        );
        assertEquals([error.statusName, error.qualifierName], [statusName, qualifierName]);
        assertEquals(error.groupName, groupType === 0 ? "self" : "sriov");
        assertEquals(error.location.queue, FIRST);
        assertEquals(error.field, error.location.field);
        assert(error.message.includes(adminOpcodeName(opcode)), error.message);
        assert(error.message.includes(groupType === 0 ? "self group" : `member ${memberId}`), error.message);
        assert(error.message.includes(error.field) && error.message.includes("fake 0"), error.message);
        const [known, reserved] = [statusName, `${status} (reserved`];
        assert(error.message.includes(RESERVED.includes(status) ? reserved : known), error.message);
        assert(
          error.message.includes(qualifier > 7 ? `${qualifier} (reserved` : qualifierName),
          error.message,
        );
      }
    }
  }
  assertEquals(count, 20 * 16 * 11);
  pf.close();
  await pf.settled;
  device.transport.close();
});

Deno.test("A-3.8 a bad field is EINVAL with INVALID_FIELD; the field is named by what the command has", () => {
  const field = (opcode: number, status: number, qualifier: number) =>
    new AdminCommandError({ function: "pf", opcode, groupType: 1, memberId: 1n }, status, qualifier).field;
  assertEquals(field(1, 22, 3), "device_admin_cmd_opcodes");
  for (const opcode of [2, 3, 4, 5]) assertEquals(field(opcode, 22, 3), "offset");
  assertEquals(field(0x11, 22, 3), "flags");
  assertEquals(field(0x10, 22, 3), "parts");
  assertEquals(field(0x7000, 22, 3), "command_specific_data");
  assertEquals(field(3, 22, 2), "opcode");
  assertEquals(field(3, 22, 4), "group_type");
  assertEquals(field(3, 22, 5), "group_member_id");
  assertEquals(field(8, 6, 1), "id");
  assertEquals(field(0xa, 17, 1), "id");
  assertEquals(field(0xe, 12, 1), "command_specific_result");
  assertEquals(field(3, 12, 1), "status");
});

Deno.test("hints say what to do", () => {
  const hint = (opcode: number, groupType: number, status: number, qualifier: number) =>
    new AdminCommandError({ function: "pf", opcode, groupType, memberId: 1n }, status, qualifier).hint;
  assert(hint(0, 1, 22, 4).includes("sriov"));
  assert(!hint(0, 0, 22, 4).includes("VF"));
  assert(hint(3, 1, 22, 5).includes("NumVFs"));
  assert(hint(3, 1, 22, 2).includes("LIST_USE"));
  assert(hint(3, 1, 22, 3).includes("one field"));
  assert(hint(0xa, 1, 17, 1).includes("destroy"));
  assert(hint(8, 0, 6, 1).includes("list"));
  assert(hint(0xf, 1, 12, 1).includes("size"));
});

Deno.test("a qualifier beside OK is ignored", async () => {
  const device = new FakeOwner();
  await using pf = await VirtioAdmin.open(device.transport);
  device.answer = () => ({ status: 0, qualifier: 5 });
  await pf.member(0).setMode(true);
  pf.close();
  await pf.settled;
  device.transport.close();
});

Deno.test("INVALID_GROUP at LIST_QUERY: no error at open, but one with a hint at the first command", async () => {
  const device = new FakeOwner((command) =>
    command.groupType === 1 ? { status: 22, qualifier: 4 } : standardAnswer(command)
  );
  await using pf = await VirtioAdmin.open(device.transport);
  assertEquals([pf.sriov.used, pf.self.used?.size], [null, 18]);
  const error = await assertRejects(() => pf.member(0).setMode(true), AdminCommandError, "LIST_QUERY");
  assert(error.hint.includes("VF Enable"));
  // The VFs are there now.
  device.answer = standardAnswer;
  device.seen.length = 0;
  await pf.member(0).setMode(true);
  assertEquals(device.opcodes, [0, 1, 0x11]);
  pf.close();
  await pf.settled;
  device.transport.close();
});
