import { assertEquals, assertNotEquals } from "@std/assert";
import { NetModel } from "../../../../../lib/emulation/virtio/net/model.ts";
import { NetSwitch } from "../../../../../lib/emulation/virtio/net/switch.ts";
import { mac } from "../fake_nic.ts";
import { FakeLegacy } from "../fake_legacy.ts";
import { AdminRig, encodeFrame, type Frame, INVALID_OPCODE, OK, outcome } from "./rig.ts";

const SELF = 0;
const COMMON_WRITE = 2, DEVICE_WRITE = 4, CAP_SET = 9;
const CREATE = 0xa,
  MODIFY = 0xb,
  QUERY = 0xc,
  DESTROY = 0xd,
  METADATA = 0xe,
  GET = 0xf,
  SET = 0x10,
  MODE = 0x11;
/** Objects of the member: for reading parts, and for writing them. */
const READS = 3, WRITES = 5;

const le = (value: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) & 0xff);
const zeros = (count: number): number[] => new Array(count).fill(0);
const write = (offset: number, ...bytes: number[]) => [offset, ...zeros(7), ...bytes];
const object = (id: number, type = 0) => [...le(type, 2), 0, 0, ...le(id, 4)];
const created = (id: number, kind: number, type = 0) => [
  ...object(id, type),
  ...zeros(8),
  kind,
  ...zeros(7),
];
const part = (type: number, selector: number, ...value: number[]) => [
  ...le(type, 2),
  ...[0, 0],
  ...le(selector, 8),
  ...le(value.length, 4),
  ...value,
];
const limits = (get: number, set: number) => [...zeros(8), get, set];

/** A PF of whose two members one is a network function, which a legacy driver uses or a modern one has just begun to; the other is two register files. */
class Group implements Disposable {
  readonly rig: AdminRig;
  readonly vf: FakeLegacy;
  readonly #lies: boolean;

  constructor(driver: "legacy" | "none", lie?: string) {
    this.rig = new AdminRig(lie === undefined ? {} : { lie }).start().enableVfs(2).useParts();
    this.#lies = lie !== undefined;
    const model = new NetModel(new NetSwitch("s0"), { mac: mac(9), queueSize: 64, queuePairs: 2 });
    this.vf = new FakeLegacy(model);
    this.rig.controller.place(0).join(this.vf.front.groupMember);
    if (driver === "legacy") this.vf.bringUp(1 << 28, [0, 1]);
    for (const [id, kind] of [[READS, 0], [WRITES, 1]] as const) {
      assertEquals(outcome(this.rig.command({ opcode: CREATE, data: created(id, kind) })), OK);
    }
    assertEquals(this.vf.take(), []);
    this.rig.rules();
  }

  /** Everything of the device that commands can change, but for what no command of the group can show. */
  state(): unknown {
    const { rig, vf } = this;
    const common = [4, 8, 12, 14, 16, 18].map((at) => vf.read(at, at === 18 ? 1 : at < 12 ? 4 : 2));
    const config = Array.from({ length: 12 }, (_, at) => vf.readDevice(at, 1));
    const parts = vf.front.core.parts.get().map((
      one,
    ) => [one.type, one.flags, `${one.selector}`, ...one.value]);
    const objects = Array.from({ length: 33 }, (_, id) => {
      const { status, result } = rig.command({ opcode: QUERY, data: object(id), room: 8 });
      return status === 0 ? result[0] : status;
    });
    const lists = [0, 1].map((group) =>
      Array.from({ length: 0x14 }, (_, opcode) => {
        // A member that there is not: no command is carried out. LIST_USE would be, which does not look at the member.
        if (opcode === 1 || this.#lies) return true;
        return rig.command({ opcode, group, member: 77n }).qualifier !== INVALID_OPCODE[1];
      })
    );
    const pf = [rig.fn.status, rig.fn.read(28, 2)];
    const other = [...rig.members[1]!.common, ...rig.members[1]!.device, rig.members[1]!.stopped];
    rig.rules();
    const stopped = vf.front.core.parts.stopped;
    return {
      common,
      config,
      parts,
      objects,
      lists,
      pf,
      other,
      stopped,
      used: vf.front.core.legacy,
      live: vf.front.core.live,
    };
  }

  [Symbol.dispose](): void {
    this.vf[Symbol.dispose]();
    this.rig[Symbol.dispose]();
  }
}

const ALIEN_LIST = [3, ...zeros(6), 0x80];
/** What no state of the device makes legal: status and qualifier, and the command. */
const REFUSED: readonly (readonly [string, number, number, Frame])[] = [
  ["a group that there is not", 22, 4, { opcode: COMMON_WRITE, group: 2, data: write(18, 0) }],
  ["an opcode without a name", 22, 2, { opcode: 0x12, data: write(18, 0) }],
  ["an opcode of the other group", 22, 2, {
    opcode: COMMON_WRITE,
    group: SELF,
    member: 0n,
    data: write(18, 0),
  }],
  ["member 0", 22, 5, { opcode: COMMON_WRITE, member: 0n, data: write(18, 0) }],
  ["a member beyond NumVFs", 22, 5, { opcode: MODE, member: 3n, data: [1] }],
  ["member 0 of the self group only", 22, 5, {
    opcode: CAP_SET,
    group: SELF,
    member: 1n,
    data: limits(1, 1),
  }],
  ["LIST_USE of what there is not", 22, 3, { opcode: 1, member: 0n, data: ALIEN_LIST }],
  ["LIST_USE of the other group's", 22, 3, {
    opcode: 1,
    group: SELF,
    member: 0n,
    data: [0x7f, 0, 0, 0, 0, 0, 0, 0],
  }],
  ["two registers", 22, 3, { opcode: COMMON_WRITE, data: write(14, 1, 0, 1, 0) }],
  ["across registers", 22, 3, { opcode: COMMON_WRITE, data: write(17, 0, 0) }],
  ["wider than its register", 22, 3, { opcode: COMMON_WRITE, data: write(18, 0, 0) }],
  ["vectors without MSI-X", 22, 3, { opcode: COMMON_WRITE, data: write(20, 0, 0) }],
  ["behind the registers", 22, 3, { opcode: COMMON_WRITE, data: write(24, 0) }],
  ["no byte", 22, 3, { opcode: COMMON_WRITE, data: write(18) }],
  ["the layout of v7", 22, 3, { opcode: COMMON_WRITE, data: [18, 0] }],
  ["two fields of the configuration", 22, 3, { opcode: DEVICE_WRITE, data: write(4, 1, 2, 3, 4) }],
  ["behind the configuration", 22, 3, { opcode: DEVICE_WRITE, data: write(12, 1) }],
  ["limits above the device's", 22, 3, { opcode: CAP_SET, group: SELF, member: 0n, data: limits(17, 16) }],
  ["limits below what there is", 16, 1, { opcode: CAP_SET, group: SELF, member: 0n, data: limits(0, 16) }],
  ["a capability that there is not", 6, 3, {
    opcode: CAP_SET,
    group: SELF,
    member: 0n,
    data: [9, ...limits(1, 1).slice(1)],
  }],
  ["an object of another type", 22, 3, { opcode: CREATE, data: created(7, 0, 1) }],
  ["an object for nothing", 22, 3, { opcode: CREATE, data: created(7, 2) }],
  ["an id that is taken", 17, 3, { opcode: CREATE, data: created(READS, 1) }],
  ["an object turned into nothing", 22, 3, { opcode: MODIFY, data: created(READS, 9) }],
  ["an object that is not there", 6, 3, { opcode: DESTROY, data: object(9) }],
  ["of another type", 6, 3, { opcode: DESTROY, data: object(READS, 1) }],
  ["bits of the mode that mean nothing", 22, 3, { opcode: MODE, data: [3] }],
  ["parts into an object for reading", 22, 3, {
    opcode: SET,
    data: [...object(READS), ...part(0x103, 0, 0)],
  }],
  ["parts out of one for writing", 22, 3, {
    opcode: GET,
    data: [...object(WRITES), 1, ...zeros(7)],
    room: 64,
  }],
  ["neither size, count nor list", 22, 3, {
    opcode: METADATA,
    data: [...object(READS), 3, ...zeros(7)],
    room: 64,
  }],
  ["a list without room", 12, 6, { opcode: METADATA, data: [...object(READS), 2, ...zeros(7)], room: 24 }],
];

for (const driver of ["legacy", "none"] as const) {
  Deno.test(
    `N-3.10 what is refused leaves no side effect, whatever it is refused for; the VF has ${
      driver === "none" ? "no driver" : "a legacy driver"
    }`,
    () => {
      using group = new Group(driver);
      const before = group.state();
      const refuse = (what: string, status: number, qualifier: number, frame: Frame) => {
        const answer = group.rig.command(frame);
        assertEquals([what, ...outcome(answer), answer.used], [what, status, qualifier, 8]);
        assertEquals(group.state(), before, what);
      };
      for (const one of REFUSED) refuse(...one);
      refuse("parts while it is not stopped", 16, 1, {
        opcode: SET,
        data: [...object(WRITES), ...part(0x102, 16, 1, 0)],
      });
      assertEquals(group.vf.take(), [], "the VF has nothing to say of what did not reach it");
    },
  );
}

Deno.test("N-3.10 parts of which one is wrong leave no side effect, and the device stopped", () => {
  using group = new Group("none");
  const { rig } = group;
  assertEquals(outcome(rig.command({ opcode: MODE, data: [1] })), OK);
  const before = group.state();
  const features = part(0x101, 0, 0, 0, 0, 0, 3, 0, 0, 0), vector = part(0x102, 16, 1, 0);
  for (
    const [what, ...parts] of [
      ["an alien part behind", features, vector, part(0x1ff, 0, 1)],
      ["one that is cut off", features, vector.slice(0, -1)],
      ["features that are not offered", part(0x101, 0, 0, 0, 0, 0, 3, 0, 0, 0x80), vector],
      ["a vector that there is not", features, part(0x102, 16, 99, 0)],
      ["a status that cannot be", features, vector, part(0x103, 0, 4)],
      ["another order", vector, features],
    ] as [string, ...number[][]][]
  ) {
    const answer = rig.command({ opcode: SET, data: [...object(WRITES), ...parts.flat()] });
    assertEquals([what, ...outcome(answer)], [what, 22, 3]);
    assertEquals(group.state(), before, what);
  }
  assertEquals(outcome(rig.command({ opcode: SET, data: [...object(WRITES), ...features, ...vector] })), OK);
  assertNotEquals(group.state(), before, "the same without the fault");
});

Deno.test("N-3.10 more parts than the device holds are ENOMEM without side effect", () => {
  using group = new Group("none");
  const { rig } = group;
  assertEquals(outcome(rig.command({ opcode: MODE, data: [1] })), OK);
  const before = group.state();
  // A part that could be set comes first.
  const first = encodeFrame({ opcode: SET, data: [...object(WRITES), ...part(0x102, 16, 1, 0)] });
  const { client, rings } = rig.fn;
  const length = 0x10_0000 + 64;
  const at = client.allocate(length), answer = client.allocate(8);
  client.bytes.set(first, at);
  const ring = rings.get(1)!;
  ring.add([{ iova: client.at(at), length }, { iova: client.at(answer), length: 8, write: true }]);
  ring.publish();
  rig.fn.run();
  assertEquals(ring.takeUsed().length, 1);
  assertEquals([...client.bytes.subarray(answer, answer + 4)], [12, 0, 6, 0]);
  assertEquals(group.state(), before);
});

for (
  const [name, frame] of [
    ["LEGACY_COMMON_CFG_WRITE", { opcode: COMMON_WRITE, data: write(18, 0) }],
    ["LEGACY_DEV_CFG_WRITE", { opcode: DEVICE_WRITE, data: write(5, 0x77) }],
    ["RESOURCE_OBJ_MODIFY", { opcode: MODIFY, data: created(READS, 1) }],
    ["RESOURCE_OBJ_DESTROY", { opcode: DESTROY, data: object(WRITES) }],
    ["DEV_MODE_SET", { opcode: MODE, data: [1] }],
  ] as [string, Frame][]
) {
  Deno.test(`N-3.10 EAGAIN leaves no side effect, so that a driver may repeat ${name}`, () => {
    using group = new Group("legacy", `admin-eagain:2@${name}`);
    const before = group.state();
    for (let i = 0; i < 2; i++) {
      assertEquals(outcome(group.rig.command(frame)), [11, 7]);
      assertEquals(group.state(), before);
    }
    assertEquals(outcome(group.rig.command(frame)), OK);
    assertNotEquals(group.state(), before);
  });
}

Deno.test("N-3.10 EAGAIN of LIST_USE: nothing is in use by it", () => {
  using rig = new AdminRig({ lie: "admin-eagain:1@LIST_USE" });
  rig.start().enableVfs(1);
  const use = () => outcome(rig.command({ opcode: 1, member: 0n, data: [0x7f] }));
  const info = () => outcome(rig.command({ opcode: 6, room: 64 }));
  assertEquals([use(), info(), use(), info()], [[11, 7], [22, 2], OK, OK]);
});
