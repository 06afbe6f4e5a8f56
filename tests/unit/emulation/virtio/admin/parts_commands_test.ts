import { assertEquals } from "@std/assert";
import { AdminRig, type Answer, INVALID_FIELD, MOST_BYTES, OK, outcome, part } from "./rig.ts";

const SELF = 0;
const CAP_LIST = 7, CAP_GET = 8, CAP_SET = 9, CREATE = 0xa, MODIFY = 0xb, QUERY = 0xc, DESTROY = 0xd;
const METADATA = 0xe, GET = 0xf, SET = 0x10, MODE = 0x11;
const ENXIO = 6, ENOMEM = 12, EBUSY = 16, EEXIST = 17, ENOSPC = 28;
const LIMIT = 16;

const le = (value: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) & 0xff);
/** `virtio_admin_cmd_resource_obj_cmd_hdr` */
const object = (id: number, type = 0) => [...le(type, 2), 0, 0, ...le(id, 4)];
const created = (
  id: number,
  kind: number,
  type = 0,
) => [...object(id, type), ...le(0, 8), kind, 0, 0, 0, 0, 0, 0, 0];
const wanting = (id: number, what: number) => [...object(id), what, 0, 0, 0, 0, 0, 0, 0];
const encode = ({ type, flags, selector, value }: ReturnType<typeof part>): number[] => [
  ...le(type, 2),
  flags,
  0,
  ...le(Number(selector), 8),
  ...le(value.length, 4),
  ...value,
];

function partsRig(): AdminRig {
  return new AdminRig().start().enableVfs(3).useParts();
}

const status = ({ status }: Answer): number => status;

Deno.test("CAP_ID_LIST_QUERY names DEV_PARTS, DEVICE_CAP_GET says its limits, other ids are ENXIO", () => {
  using rig = new AdminRig().start().enableVfs(1).useAll(SELF);
  const list = rig.command({ opcode: CAP_LIST, group: SELF, member: 0n, room: 8 });
  assertEquals([...list.result], [1, 0, 0, 0, 0, 0, 0, 0]);
  const get = (id: number) =>
    rig.command({
      opcode: CAP_GET,
      group: SELF,
      member: 0n,
      data: [...le(id, 2), 0, 0, 0, 0, 0, 0],
      room: 8,
    });
  assertEquals([...get(0).result], [LIMIT, LIMIT, 0, 0, 0, 0, 0, 0]);
  for (const id of [1, 0x7ff, 0x800, 0xffff]) {
    const answer = get(id);
    assertEquals([answer.status, answer.used], [ENXIO, 8]);
    const set = rig.command({
      opcode: CAP_SET,
      group: SELF,
      member: 0n,
      data: [...le(id, 2), 0, 0, 0, 0, 0, 0, 1, 1],
    });
    assertEquals(set.status, ENXIO);
  }
});

Deno.test("the driver's limits are zero until it sets them, and at most the device's", () => {
  using rig = new AdminRig().start().enableVfs(1).useAll().useAll(SELF);
  const limits = (get: number, set: number) =>
    outcome(
      rig.command({ opcode: CAP_SET, group: SELF, member: 0n, data: [0, 0, 0, 0, 0, 0, 0, 0, get, set] }),
    );
  const create = (id: number, kind: number) =>
    status(rig.command({ opcode: CREATE, data: created(id, kind) }));
  assertEquals(create(0, 0), ENOSPC);
  assertEquals(limits(LIMIT + 1, 0), INVALID_FIELD);
  assertEquals(limits(0, 255), INVALID_FIELD);
  assertEquals(create(0, 0), ENOSPC, "EINVAL has no side effects (N-3.10)");
  assertEquals(limits(2, 1), OK);
  assertEquals([create(0, 0), create(1, 0), create(2, 0), create(2, 1), create(3, 1)], [
    0,
    0,
    ENOSPC,
    0,
    ENOSPC,
  ]);
});

Deno.test("3.6 an object may have any id that is free, whatever the limits", () => {
  using rig = new AdminRig().start().enableVfs(1).useAll().useAll(SELF);
  const limits = (get: number, set: number) =>
    status(
      rig.command({ opcode: CAP_SET, group: SELF, member: 0n, data: [0, 0, 0, 0, 0, 0, 0, 0, get, set] }),
    );
  const create = (id: number, kind: number) =>
    status(rig.command({ opcode: CREATE, data: created(id, kind) }));
  assertEquals(limits(2, 1), 0);
  assertEquals([create(3, 0), create(0x8000_0000, 0), create(0xffff_ffff, 1)], [0, 0, 0]);
  assertEquals(create(0xffff_ffff, 1), EEXIST);
  assertEquals([create(1, 0), create(1, 1)], [ENOSPC, ENOSPC], "their number is what is limited");
  assertEquals(limits(2, 1), 0, "nor are ids in the way of limits");
  assertEquals(status(rig.command({ opcode: QUERY, data: object(0xffff_ffff), room: 8 })), 0);
  assertEquals(status(rig.command({ opcode: DESTROY, data: object(0x8000_0000) })), 0);
  assertEquals(create(0x8000_0001, 0), 0);
});

Deno.test("DRIVER_CAP_SET that objects are in the way of is EBUSY, and changes nothing", () => {
  using rig = partsRig();
  const limits = (...bytes: number[]) =>
    status(
      rig.command({ opcode: CAP_SET, group: SELF, member: 0n, data: [0, 0, 0, 0, 0, 0, 0, 0, ...bytes] }),
    );
  assertEquals(status(rig.command({ opcode: CREATE, member: 2n, data: created(5, 1) })), 0);
  assertEquals(
    [limits(), limits(16, 0)],
    [EBUSY, EBUSY],
    "none at all, none of this kind",
  );
  assertEquals(
    status(rig.command({ opcode: CREATE, member: 1n, data: created(31, 1) })),
    0,
    "the old limits are in force",
  );
  assertEquals(limits(16, 16), 0);
  assertEquals(status(rig.command({ opcode: DESTROY, member: 1n, data: object(31) })), 0);
  assertEquals(limits(5, 1), 0);
});

Deno.test("objects: create, query, modify and destroy by id; EEXIST, ENXIO, ENOSPC; ids can be used again", () => {
  using rig = partsRig();
  const run = (opcode: number, data: number[], member = 1n) => {
    const { status, result } = rig.command({ opcode, member, data, room: 8 });
    return [status, result[0] ?? 0];
  };
  assertEquals(run(CREATE, created(7, 0)), [0, 0]);
  assertEquals(run(CREATE, created(7, 1)), [EEXIST, 0]);
  assertEquals(run(CREATE, created(7, 1), 2n), [0, 0], "every member has ids of its own");
  assertEquals([run(QUERY, object(7)), run(QUERY, object(7), 2n)], [[0, 0], [0, 1]]);
  assertEquals(run(MODIFY, created(7, 1)), [0, 0]);
  assertEquals(run(QUERY, object(7)), [0, 1], "as CREATE or MODIFY said last");
  assertEquals(run(MODIFY, created(7, 2))[0], 22);
  assertEquals(run(QUERY, object(7)), [0, 1]);
  for (const opcode of [QUERY, DESTROY, MODIFY]) {
    assertEquals(run(opcode, created(8, 0))[0], ENXIO);
    assertEquals(run(opcode, created(7, 0, 1))[0], ENXIO, "another type of object");
    assertEquals(run(opcode, created(7, 0), 3n)[0], ENXIO, "another member");
  }
  assertEquals(run(CREATE, created(9, 0, 1))[0], 22, "there is no such type");
  assertEquals(run(CREATE, created(9, 2))[0], 22, "nor such a kind");
  assertEquals(run(DESTROY, object(7)), [0, 0]);
  assertEquals(run(DESTROY, object(7))[0], ENXIO);
  assertEquals(run(CREATE, created(7, 0)), [0, 0]);
});

Deno.test("as many objects of each kind as the limits say, for every member", () => {
  using rig = partsRig();
  for (const member of [1n, 3n]) {
    for (let id = 0; id < 2 * LIMIT; id++) {
      assertEquals(status(rig.command({ opcode: CREATE, member, data: created(id, id % 2) })), 0);
    }
    assertEquals(status(rig.command({ opcode: CREATE, member, data: created(32, 0) })), ENOSPC);
    assertEquals(status(rig.command({ opcode: MODIFY, member, data: created(0, 1) })), ENOSPC);
  }
});

Deno.test("A-3.9 RESOURCE_OBJ_MODIFY is 0x000b and RESOURCE_OBJ_QUERY 0x000c, as the sections say", () => {
  using rig = partsRig();
  rig.command({ opcode: CREATE, data: created(0, 0) });
  assertEquals(rig.command({ opcode: 0x000b, data: created(0, 1), room: 8 }).used, 8);
  const query = rig.command({ opcode: 0x000c, data: object(0), room: 8 });
  assertEquals([query.used, ...query.result], [16, 1, 0, 0, 0, 0, 0, 0, 0]);
});

Deno.test("device reset of the owner destroys all objects and limits; a member that goes takes its own along", () => {
  using rig = partsRig();
  rig.command({ opcode: CREATE, data: created(0, 0) });
  rig.start().useAll().useAll(SELF);
  assertEquals(status(rig.command({ opcode: QUERY, data: object(0), room: 8 })), ENXIO);
  assertEquals(
    status(rig.command({ opcode: CREATE, data: created(0, 0) })),
    ENOSPC,
    "the capability must be set again",
  );
  rig.useParts();
  rig.command({ opcode: CREATE, data: created(0, 0) });
  rig.disableVfs();
  rig.enableVfs(3);
  assertEquals(status(rig.command({ opcode: QUERY, data: object(0), room: 8 })), ENXIO);
});

Deno.test("3.6 METADATA_GET: the most that parts can take, count and headers; a result that does not fit is ENOMEM", () => {
  using rig = partsRig();
  rig.command({ opcode: CREATE, data: created(4, 0) });
  const of = (what: number, room: number) => rig.command({ opcode: METADATA, data: wanting(4, what), room });
  const parts = rig.members[0]!.current;
  assertEquals([...of(0, 8).result], [...le(MOST_BYTES, 4), 0, 0, 0, 0]);
  assertEquals([...of(1, 8).result], [...le(parts.length, 4), 0, 0, 0, 0]);
  const list = of(2, 512);
  assertEquals(list.used, 8 + 8 + 16 * parts.length);
  assertEquals([...list.result], [
    ...le(parts.length, 4),
    0,
    0,
    0,
    0,
    ...parts.flatMap((one) => encode(one).slice(0, 16)),
  ]);
  const exact = 8 + 16 * parts.length;
  assertEquals([of(2, exact).status, of(2, exact - 1).status, of(2, 0).status], [0, ENOMEM, ENOMEM]);
  assertEquals([of(0, 7).status, of(1, 0).status], [ENOMEM, ENOMEM]);
  assertEquals(of(2, 8).used, 8, "an error has no result");
  assertEquals(outcome(of(3, 8)), INVALID_FIELD);
});

Deno.test("DEV_PARTS_GET: all, or the selected ones in the standard's order; what is not there is skipped, what does not fit is cut off", () => {
  using rig = partsRig();
  rig.command({ opcode: CREATE, data: created(0, 0) });
  const parts = rig.members[0]!.current;
  const of = (what: number, headers: number[], room = 512) =>
    rig.command({ opcode: GET, data: [...wanting(0, what), ...headers], room });
  const padded = (bytes: number[]) => [...bytes, ...new Array((8 - bytes.length % 8) % 8).fill(0)];
  const all = padded(parts.flatMap(encode));
  assertEquals([...of(1, []).result], all);
  assertEquals([...of(1, []).result], all, "as often as one likes");
  const header = (type: number, selector = 0) => encode(part(type, BigInt(selector), [])).slice(0, 16);
  const backwards = [
    ...header(0x104, 1),
    ...header(0x777),
    ...header(0x102, 20),
    ...header(0x101),
    ...header(0x102, 16),
  ];
  assertEquals([...of(0, backwards).result], padded([parts[1]!, parts[2]!, parts[5]!].flatMap(encode)));
  assertEquals([...of(0, [...header(0x101), ...le(0, 8)]).result], padded(encode(parts[1]!)), "padded to 8");
  assertEquals(of(0, []).used, 8);
  assertEquals([...of(0, header(0x101, 9)).result], padded(encode(parts[1]!)), "its selector is reserved");
  assertEquals([...of(1, [], 30).result], all.slice(0, 30));
  assertEquals(outcome(of(2, [])), INVALID_FIELD);
});

Deno.test("DEV_PARTS_SET: of a stopped member only, all or nothing", () => {
  using rig = partsRig();
  const [member] = rig.members;
  rig.command({ opcode: CREATE, data: created(1, 1) });
  const given = [part(0x101, 0n, [1, 1, 1, 1, 0, 0, 0, 0]), part(0x103, 0n, [7])];
  const set = (data: number[]) => outcome(rig.command({ opcode: SET, data: [...object(1), ...data] }));
  const before = member!.current;
  assertEquals(set(given.flatMap(encode))[0], EBUSY);
  assertEquals(outcome(rig.command({ opcode: MODE, data: [1] })), OK);
  assertEquals(set([...given.flatMap(encode), ...encode(part(0x500, 0n, []))]), INVALID_FIELD);
  assertEquals(set(given.flatMap(encode).slice(0, -1)), INVALID_FIELD, "a value that is cut off");
  assertEquals(set(given.flatMap(encode).slice(0, 20)), INVALID_FIELD);
  assertEquals(member!.current, before, "N-3.10");
  assertEquals(set([...given.flatMap(encode), 0, 0, 0, 0, 0, 0, 0]), OK, "padded to 8");
  assertEquals(member!.current, given);
  assertEquals(set([]), OK);
});

Deno.test("an object is for reading or for writing; without one there is nothing", () => {
  using rig = partsRig();
  rig.command({ opcode: MODE, data: [1] });
  rig.command({ opcode: CREATE, data: created(0, 0) });
  rig.command({ opcode: CREATE, data: created(1, 1) });
  const of = (opcode: number, id: number) =>
    status(rig.command({ opcode, data: opcode === SET ? object(id) : wanting(id, 1), room: 512 }));
  assertEquals([of(METADATA, 0), of(GET, 0), of(SET, 0)], [0, 0, 22]);
  assertEquals([of(METADATA, 1), of(GET, 1), of(SET, 1)], [22, 22, 0]);
  assertEquals([of(METADATA, 2), of(GET, 2), of(SET, 2)], [ENXIO, ENXIO, ENXIO]);
});

Deno.test("DEV_MODE_SET: bit 0 stops, 0 resumes, both as often as one likes; other bits are not understood", () => {
  using rig = partsRig();
  const mode = (...data: number[]) => outcome(rig.command({ opcode: MODE, member: 2n, data }));
  const { members } = rig;
  assertEquals([mode(1), mode(1), members[1]!.stopped, members[0]!.stopped], [OK, OK, true, false]);
  assertEquals([mode(2), mode(3), mode(0x80), members[1]!.stopped], [
    INVALID_FIELD,
    INVALID_FIELD,
    INVALID_FIELD,
    true,
  ]);
  assertEquals([mode(0), mode(), members[1]!.stopped], [OK, OK, false]);
});

Deno.test("more than a megabyte of parts is more than the device holds: ENOMEM", () => {
  using rig = partsRig();
  rig.command({ opcode: CREATE, data: created(1, 1) });
  const { client, rings } = rig.fn;
  const at = client.allocate(0x10_0000 + 64);
  client.bytes.set([SET, 0, 1, 0, ...new Array(12).fill(0), 1], at);
  const answer = client.allocate(8);
  const ring = rings.get(1)!;
  ring.add([{ iova: client.at(at), length: 0x10_0000 + 64 }, {
    iova: client.at(answer),
    length: 8,
    write: true,
  }]);
  ring.publish();
  rig.fn.run();
  assertEquals([...client.bytes.subarray(answer, answer + 4)], [ENOMEM, 0, 6, 0]);
});
