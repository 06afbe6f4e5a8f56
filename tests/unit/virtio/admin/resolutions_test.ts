/** What contradictory passages of the standard are taken to say (reference 3.8), on the driver's side and in the numbers that both sides share. */
import { assert, assertEquals } from "@std/assert";
import { VirtioAdmin } from "../../../../drivers/admin/virtio_admin.ts";
import { adminFrameSize } from "../../../../lib/virtio/admin/frame.ts";
import { parseNotifyInfo } from "../../../../lib/virtio/admin/notify_info.ts";
import { featureBit, featureNames } from "../../../../lib/virtio/mod.ts";
import {
  ADMIN_OPCODE,
  ADMIN_OPCODE_V7_ALIAS,
  ADMIN_STATUS,
  adminOpcodeName,
  adminStatusName,
  DEV_MODE_STOPPED,
  LEGACY_NOTIFY_ENTRIES,
  LEGACY_NOTIFY_INFO,
  LEGACY_READ_DATA,
  LEGACY_WRITE_DATA,
} from "../../../../lib/virtio/spec/admin.ts";
import { encodeParts } from "../../../../lib/virtio/spec/device_parts.ts";
import { ALL_OPCODES, type FakeAnswer, FakeOwner, type SeenCommand, words } from "./fake_owner.ts";

const OPCODES: readonly (readonly [string, number])[] = Object.entries(ADMIN_OPCODE);

Deno.test("A-3.3 the result of LEGACY_NOTIFY_INFO is four typed entries of 16 bytes, and no opaque region", () => {
  assertEquals([LEGACY_NOTIFY_ENTRIES, LEGACY_NOTIFY_INFO.sizeBytes], [4, 16]);
  const bytes = LEGACY_NOTIFY_INFO.encode({ flags: 2, bar: 4, offset: 0x1122334455667788n });
  assertEquals([...bytes], [2, 4, 0, 0, 0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
  const two = Uint8Array.from([1, 3, 9, 9, 9, 9, 9, 9, 0, 0x20, 0, 0, 0, 0, 0, 0, ...new Array(48).fill(0)]);
  assertEquals(parseNotifyInfo(two), [{ whose: "owner", bar: 3, offset: 0x2000 }], "padding means nothing");
});

Deno.test("A-3.4 the final names; those of version 7 stand for the same opcodes and name none", () => {
  assertEquals([2, 3, 4, 5, 6].map(adminOpcodeName), [
    "LEGACY_COMMON_CFG_WRITE",
    "LEGACY_COMMON_CFG_READ",
    "LEGACY_DEV_CFG_WRITE",
    "LEGACY_DEV_CFG_READ",
    "LEGACY_NOTIFY_INFO",
  ]);
  assertEquals(ADMIN_OPCODE_V7_ALIAS, {
    LEGACY_DEV_REG_WRITE: 4,
    LEGACY_DEV_REG_READ: 5,
    LEGACY_NOTIFY_QUERY: 6,
    LEGACY_DEV_NOTIFY_QUERY: 6,
  });
  for (const alias of Object.keys(ADMIN_OPCODE_V7_ALIAS)) assert(!OPCODES.some(([name]) => name === alias));
});

Deno.test("A-3.5 A-3.6 data of a write begins at 8; the fourth legacy command reads, whatever its title was; no name has its prefix twice", () => {
  assertEquals([LEGACY_WRITE_DATA.sizeBytes, LEGACY_READ_DATA.sizeBytes], [8, 1]);
  assertEquals(ADMIN_OPCODE.LEGACY_DEV_CFG_READ, 5);
  for (const { name } of [LEGACY_NOTIFY_INFO, LEGACY_WRITE_DATA, LEGACY_READ_DATA]) {
    assertEquals(name.lastIndexOf("virtio_"), 0, name);
  }
  for (const [name] of OPCODES) assert(!name.includes("VIRTIO"), name);
});

Deno.test("A-3.8 there is no status INVALID_FIELD: it is a qualifier", () => {
  assert(!("INVALID_FIELD" in ADMIN_STATUS));
  assertEquals([adminStatusName(22), adminStatusName(3)], ["EINVAL", undefined]);
});

Deno.test("A-3.9 MODIFY is 0x000b and QUERY 0x000c, in one table; saving and loading parts sends neither", async () => {
  assertEquals([adminOpcodeName(0xb), adminOpcodeName(0xc)], ["RESOURCE_OBJ_MODIFY", "RESOURCE_OBJ_QUERY"]);
  const part = { type: 0x101, flags: 0, selector: 0n, value: words(1n) };
  const first = { type: 0x100, flags: 1, selector: 0n, value: words(1n) };
  const bytes = encodeParts([first, part]);
  const answer = ({ opcode, data }: SeenCommand): FakeAnswer => {
    switch (opcode) {
      case 0:
        return { result: ALL_OPCODES };
      case 7:
        return { result: words(1n) };
      case 8:
        return { result: Uint8Array.of(1, 1, 0, 0, 0, 0, 0, 0) };
      case 0xe:
        return { result: words(data[8] === 0 ? BigInt(bytes.length) : 2n) };
      case 0xf:
        return { result: Uint8Array.from([...bytes, ...new Array(-bytes.length & 7).fill(0)]) };
      default:
        return {};
    }
  };
  const device = new FakeOwner(answer);
  await using pf = await VirtioAdmin.open(device.transport);
  const parts = await pf.member(0).saveParts();
  assertEquals(parts.map(({ type }) => type), [0x100, 0x101]);
  await pf.member(1).loadParts(parts);
  await pf.member(1).setMode(false);
  assert(device.opcodes.includes(0xa) && device.opcodes.includes(0xd) && device.opcodes.includes(0x10));
  assert(!device.opcodes.includes(0xb) && !device.opcodes.includes(0xc), device.opcodes.join());
});

Deno.test("A-3.10 it is the driver that makes both parts larger than zero, of every command, with nothing to say or to be told", () => {
  for (let opcode = 0; opcode < 0x40; opcode++) {
    const { readable, writable } = adminFrameSize({ opcode, groupType: 0 });
    assertEquals([readable, writable], [24, 8]);
  }
});

Deno.test("A-3.11 EEXIST is 17; STOPPED is bit 0; there is no command to get what the driver set", () => {
  assertEquals([ADMIN_STATUS.EEXIST, adminStatusName(17)], [17, "EEXIST"]);
  assertEquals(DEV_MODE_STOPPED, 1 << 0);
  assertEquals(OPCODES.filter(([name]) => name.includes("CAP")), [
    ["CAP_ID_LIST_QUERY", 7],
    ["DEVICE_CAP_GET", 8],
    ["DRIVER_CAP_SET", 9],
  ]);
});

Deno.test("A-3.12 bit 41 is ADMIN_VQ for every device type, a network device included", () => {
  for (const deviceId of [1, 2, 4, 44]) {
    assertEquals(featureNames(1n << 41n, deviceId), ["VIRTIO_F_ADMIN_VQ"]);
  }
  assertEquals(featureBit("VIRTIO_F_ADMIN_VQ", 1), 41);
  assertEquals(featureBit("VIRTIO_NET_F_GUEST_RSC4", 1), undefined);
});
